//! What a replayed device holds before the replay: a backing file that was stamped for it, or
//! whatever a given device holds.

use std::ops::Range;
use std::path::PathBuf;

use driver::host::{HostFile, HostResult};
use driver::units::{Bytes, FileOffset, SECTOR_SIZE, Sector, SectorCount, SectorRange};

use crate::intervals::IntervalSet;
use crate::oracle::{Initial, NotRead};
use crate::stamp::{Content, Coverage, Stamp, is_zero};

use super::holes::hole_at;

/// A device of at most this size gets a backing file stamped all over; of a larger one, what
/// the trace reads is, what borders on what it writes, and some of everything between.
pub(super) const STAMP_ALL: Bytes = Bytes(1 << 30);

/// Sectors that are stamped together.
const CHUNK: u64 = 8;

/// Chunks of stamps that are written in one piece.
const CHUNKS_A_WRITE: u64 = 256;

/// Chunks of a large file that are stamped whatever the trace does: one in each of as many
/// equal parts, so that reads from wrong places meet one soon. 2 MiB; in memory up to 16.
const SPREAD: u64 = 512;

/// Chunks that are stamped because they border on what the trace writes, at most: 4 MiB; in
/// memory up to 32.
const BORDERS: u64 = 1024;

/// Which parts of a backing file are stamped; the rest is a hole, so that a large device
/// costs no more than what a trace reads of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StampedParts {
    chunks: IntervalSet,
    sectors: SectorCount,
    coverage: Coverage,
    /// Chunks added because they are borders.
    borders: u64,
}

impl StampedParts {
    /// No part yet, of a file of `sectors` sectors.
    pub fn none(sectors: SectorCount) -> StampedParts {
        StampedParts {
            chunks: IntervalSet::default(),
            sectors,
            coverage: Coverage::Whole,
            borders: 0,
        }
    }

    /// All of it.
    pub fn all(sectors: SectorCount) -> StampedParts {
        let mut parts = StampedParts::none(sectors);
        parts.add(SectorRange::new(Sector(0), sectors));
        parts
    }

    /// The parts with stamps that take no more of a sector than this.
    #[must_use]
    pub fn with_coverage(mut self, coverage: Coverage) -> StampedParts {
        self.coverage = coverage;
        self
    }

    /// Adds the chunks that hold `range`.
    pub fn add(&mut self, range: SectorRange) {
        let end = range.end().0.min(self.sectors.0);
        let chunks = range.start.0 / CHUNK..end.div_ceil(CHUNK);
        self.chunks.insert(chunks);
    }

    /// Adds the chunks in which the sectors before and after `range` lie: what a write must
    /// leave alone. Of a trace with very many writes, those of the first ones. Returns what was
    /// added.
    pub fn add_borders(&mut self, range: SectorRange) -> Vec<SectorRange> {
        if range.is_empty() || self.borders == BORDERS {
            return Vec::new();
        }
        let before = range.start.0.checked_sub(1);
        let after = Some(range.end().0).filter(|end| *end < self.sectors.0);
        let borders = [before, after].into_iter().flatten().map(Sector);
        let mut added = Vec::new();
        for sector in borders {
            if self.borders < BORDERS && !self.around(sector).0 {
                self.borders += 1;
                let one = SectorRange::new(sector, SectorCount(1));
                self.add(one);
                added.push(one);
            }
        }
        added
    }

    /// Adds some of everything: the first chunk, the last, and one in each of many equal parts,
    /// now nearer to its beginning and now to its end.
    pub fn spread(&mut self) {
        let chunks = self.sectors.0.div_ceil(CHUNK);
        let part = chunks.div_ceil(SPREAD).max(1);
        // Odd, and far from a power of two: no regular error steps over all of them.
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let within = |number: u64| number.wrapping_mul(STEP) % part;
        let spread = (0..chunks.div_ceil(part)).map(|number| number * part + within(number));
        for chunk in spread.chain([0, chunks.saturating_sub(1)]) {
            let chunk = SectorRange::new(Sector(chunk * CHUNK), SectorCount(CHUNK));
            if chunk.start < Sector(0) + self.sectors {
                self.add(chunk);
            }
        }
    }

    /// Whether `sector` is stamped, and all the sectors around it of which the same is true.
    fn around(&self, sector: Sector) -> (bool, Range<u64>) {
        let (is_stamped, chunks) = self.chunks.run_around(sector.0 / CHUNK);
        let end = chunks.end.saturating_mul(CHUNK);
        (is_stamped, chunks.start * CHUNK..end)
    }

    /// The runs of stamped sectors, in pieces to be written at once.
    pub(super) fn runs(&self) -> impl Iterator<Item = SectorRange> + '_ {
        self.chunks.iter().flat_map(|chunks| {
            let end = (chunks.end * CHUNK).min(self.sectors.0);
            let range = SectorRange::between(Sector(chunks.start * CHUNK)..Sector(end));
            driver::blk::split(range, SectorCount(CHUNKS_A_WRITE * CHUNK))
        })
    }

    /// Makes `file` a backing file of this size with these parts stamped.
    ///
    /// # Errors
    /// The host's.
    pub fn write<F: HostFile>(&self, file: &F) -> HostResult<()> {
        file.set_len(self.sectors.bytes())?;
        let mut buffer = Vec::new();
        for run in self.runs() {
            buffer.resize(run.count.bytes().0 as usize, 0);
            self.coverage.stamp(Stamp::BACKING, run.start, &mut buffer);
            file.write_all_at(&buffer, FileOffset(run.start.bytes().0))?;
        }
        Ok(())
    }

    /// Counts the sectors of `file` that are not as [`StampedParts::write`] left them. The
    /// parts that never were written are looked at as far as the host has data there.
    ///
    /// # Errors
    /// The host's.
    pub fn count_changed<F: HostFile>(&self, file: &F) -> HostResult<u64> {
        if file.len()? != self.sectors.bytes() {
            return Ok(self.sectors.0);
        }
        let mut initial = Stamped::new(self.clone());
        let mut changed = 0;
        let stamped = self.runs().map(|run| Ok((run, true)));
        let others = data_sectors(file, self.sectors).map(|run| Ok((run?, false)));
        for run in stamped.chain(others) {
            let (run, is_stamped): (SectorRange, bool) = run?;
            let mut content = vec![0; run.count.bytes().0 as usize];
            file.read_exact_at(&mut content, FileOffset(run.start.bytes().0))?;
            let sectors = content.chunks_exact(SECTOR_SIZE as usize);
            changed += (run.start.0..)
                .zip(sectors)
                .map(|(sector, content)| (Sector(sector), content))
                .filter(|(sector, content)| {
                    initial.has(*sector) == is_stamped && !initial.is_in(*sector, content)
                })
                .count() as u64;
        }
        Ok(changed)
    }
}

/// The parts of a file that the host keeps data for, as sectors, in pieces of 1 MiB.
fn data_sectors<F: HostFile>(
    file: &F,
    sectors: SectorCount,
) -> impl Iterator<Item = HostResult<SectorRange>> + '_ {
    let whole = driver::units::FileRange::new(FileOffset(0), sectors.bytes());
    file.data_runs(whole).flat_map(|run| {
        let (range, error) = match run {
            Ok(run) => {
                let end = run.end().0.div_ceil(SECTOR_SIZE);
                let start = run.start.0 / SECTOR_SIZE;
                (SectorRange::between(Sector(start)..Sector(end)), None)
            }
            Err(error) => (SectorRange::default(), Some(error)),
        };
        let pieces = driver::blk::split(range, SectorCount(2048)).map(Ok);
        pieces.chain(error.map(Err))
    })
}

/// A device whose backing file was stamped for the replay.
#[derive(Clone, Debug)]
pub struct Stamped {
    parts: StampedParts,
    /// What was asked for last, which what is asked for next is most likely beside.
    last: (bool, Range<u64>),
}

impl Stamped {
    /// With these parts stamped.
    pub fn new(parts: StampedParts) -> Stamped {
        let last = parts.around(Sector(0));
        Stamped { parts, last }
    }

    fn has(&mut self, sector: Sector) -> bool {
        if !self.last.1.contains(&sector.0) {
            self.last = self.parts.around(sector);
        }
        self.last.0
    }
}

impl Initial for Stamped {
    fn is_in(&mut self, sector: Sector, content: &[u8]) -> bool {
        match self.has(sector) {
            true => self.parts.coverage.shows(Stamp::BACKING, sector, content),
            false => is_zero(content),
        }
    }

    /// Stamps and zeros differ in their first bytes.
    fn is_zeros(&self, content: &[u8]) -> bool {
        content.starts_with(&[0; 8])
    }

    fn hole_at(&mut self, range: SectorRange) -> (bool, Sector) {
        let (is_stamped, around) = self.parts.around(range.start);
        (!is_stamped, Sector(around.end).min(range.end()))
    }

    fn describe(&self, sector: Sector) -> String {
        match self.parts.around(sector).0 {
            true => Content::Stamped(Stamp::BACKING, sector).to_string(),
            false => "zeros: the backing file has nothing there".into(),
        }
    }
}

/// A device that was given: what is clean shows what its backing file holds, which is read
/// here once more, by another way than the driver's. No more of it is read than is compared: the
/// driver has just had it, so that it is in the page cache, and what lies beside it is not.
#[derive(Debug)]
pub struct Given<F> {
    backing: Option<F>,
    /// What is compared now.
    looked_at: SectorRange,
    /// What was read last, and where.
    window: Vec<u8>,
    window_range: SectorRange,
    /// Where the backing file is, for the error.
    path: PathBuf,
    /// What could not be read.
    failure: Option<NotRead>,
}

/// The most sectors that are read from the backing file at once.
const WINDOW: SectorCount = SectorCount(2048);

impl<F: HostFile> Given<F> {
    /// With its own handle on the backing file, which is at `path`; without one nothing is clean.
    pub fn new(path: PathBuf, backing: Option<F>) -> Given<F> {
        Given {
            backing,
            looked_at: SectorRange::default(),
            window: Vec::new(),
            window_range: SectorRange::default(),
            path,
            failure: None,
        }
    }

    fn original(&mut self, sector: Sector) -> Option<&[u8]> {
        if self.failure.is_some() {
            return None;
        }
        let one = SectorRange::new(sector, SectorCount(1));
        if !self.window_range.overlaps(one) {
            let end = match self.looked_at.overlaps(one) {
                true => self.looked_at.end().min(sector + WINDOW),
                false => one.end(),
            };
            let range = SectorRange::between(sector..end);
            self.window.resize(range.count.bytes().0 as usize, 0);
            let at = FileOffset(sector.bytes().0);
            self.window_range = SectorRange::default();
            let backing = self.backing.as_ref()?;
            // The range may reach past the end of the backing file; no sector that it has does.
            if let Err(error) = backing.read_zero_filled_at(&mut self.window, at) {
                let path = self.path.clone();
                self.failure = Some(NotRead { path, at, error });
                return None;
            }
            self.window_range = range;
        }
        let at = (sector - self.window_range.start).bytes().0 as usize;
        self.window.get(at..at + SECTOR_SIZE as usize)
    }
}

impl<F: HostFile> Initial for Given<F> {
    fn looks_at(&mut self, range: SectorRange) {
        self.looked_at = range;
    }

    fn is_in(&mut self, sector: Sector, content: &[u8]) -> bool {
        self.original(sector) == Some(content)
    }

    fn failure(&self) -> Option<&NotRead> {
        self.failure.as_ref()
    }

    fn hole_at(&mut self, range: SectorRange) -> (bool, Sector) {
        match &self.backing {
            Some(backing) => hole_at(backing, FileOffset(range.start.bytes().0), range),
            None => (false, range.end()),
        }
    }

    fn describe(&self, _: Sector) -> String {
        "what the backing file has there".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    use driver::host::{Access, HostNames, OperationKind};
    use driver::memory::MemoryHost;

    use crate::oracle::Oracle;
    use crate::sim::{Assumptions, Fault, FaultRule, SimHost};

    fn range(start: u64, count: u64) -> SectorRange {
        SectorRange::new(Sector(start), SectorCount(count))
    }

    #[test]
    fn a_large_file_has_a_stamp_in_every_part_and_at_both_ends() {
        // 4 GiB and a partial chunk, and then fewer chunks than there would be parts.
        for sectors in [(1 << 23) + 3, 100] {
            let mut parts = StampedParts::none(SectorCount(sectors));
            parts.spread();
            assert!(parts.around(Sector(0)).0 && parts.around(Sector(sectors - 1)).0);
            let part = sectors.div_ceil(CHUNK).div_ceil(SPREAD).max(1) * CHUNK;
            for start in (0..sectors / part).map(|number| number * part) {
                let mut chunks = (start..start + part).step_by(CHUNK as usize);
                assert!(
                    chunks.any(|sector| parts.around(Sector(sector)).0),
                    "{start}"
                );
            }
            let stamped: u64 = parts.runs().map(|run| run.count.0).sum();
            assert!(stamped <= (SPREAD + 2) * CHUNK);
        }
    }

    #[test]
    fn what_borders_on_a_write_is_stamped_and_its_middle_is_not() {
        let mut parts = StampedParts::none(SectorCount(10_000));
        parts.add_borders(range(1000, 64));
        assert!(parts.around(Sector(999)).0 && parts.around(Sector(1064)).0);
        assert!(!parts.around(Sector(1000)).0 && !parts.around(Sector(1063)).0);
        // The ends of the device have one border.
        parts.add_borders(range(0, 8));
        parts.add_borders(range(9_992, 8));
        assert!(parts.around(Sector(8)).0 && parts.around(Sector(9_991)).0);
        assert!(!parts.around(Sector(0)).0 && !parts.around(Sector(9_992)).0);
    }

    /// What could not be read is neither in the file nor not in it.
    #[test]
    fn a_backing_file_that_cannot_be_read_is_no_mismatch() {
        let host = SimHost::new(Assumptions::default());
        let names: [&Path; 2] = ["/backing".as_ref(), "/other".as_ref()];
        let file = host.create_new(names[0]).unwrap();
        file.write_all_at(&[7; 4096], FileOffset(0)).unwrap();
        let given = |path: &Path| {
            let file = host.open(names[0], Access::ReadOnly).unwrap();
            Oracle::new(SectorCount(8), Given::new(path.to_owned(), Some(file)))
        };
        let mut oracle = given(names[0]);
        let right = oracle.check(range(2, 3), &[7; 1536], |_, _| false);
        assert_eq!(right.unwrap().wrong, 0);
        host.add_faults(&[FaultRule::nth(
            "/backing",
            OperationKind::Read,
            0,
            Fault::Io,
        )]);
        let mut oracle = given(names[1]);
        for _ in 0..2 {
            let failed = oracle.check(range(2, 3), &[7; 1536], |_, _| false);
            assert_eq!(
                failed.unwrap_err().to_string(),
                "reading /other at byte 1024: input/output error"
            );
        }
    }

    #[test]
    fn what_is_written_is_found_unchanged_and_a_changed_byte_is_not() {
        let host = MemoryHost::new();
        let file = host.create_new("backing".as_ref()).unwrap();
        let mut parts = StampedParts::none(SectorCount(100_000));
        parts.spread();
        parts.add(range(500, 3));
        parts.write(&file).unwrap();
        assert_eq!(parts.count_changed(&file).unwrap(), 0);
        for sector in [502, 50_000] {
            file.write_all_at(&[9], FileOffset(sector * SECTOR_SIZE + 100))
                .unwrap();
        }
        assert_eq!(parts.count_changed(&file).unwrap(), 2);
    }
}
