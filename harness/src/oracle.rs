//! The independent model of the device: for each sector, what it may show. It knows nothing
//! of bitmaps, files or resizes, only of acknowledged requests and of the device's size.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use driver::host::HostError;
use driver::units::{FileOffset, SECTOR_SIZE, Sector, SectorCount, SectorRange};
use driver::{exact_count, shown};

use crate::intervals::IntervalSet;
use crate::sparse::Sparse;
use crate::stamp::{self, Content, Coverage, Stamp};

/// Sectors in a page of the model: only what was written takes memory.
const PAGE: u64 = 256;

/// What was there at the start cannot be read: nothing is known of what it should be compared with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("reading {} at byte {at}: {error}", shown(.path))]
pub struct NotRead {
    /// The file.
    pub path: PathBuf,
    /// Where in it.
    pub at: FileOffset,
    /// What the host said.
    pub error: HostError,
}

/// What a sector shows before anything was written to it.
pub trait Initial {
    /// Whether `content` is what `sector` held at the start. Means nothing where
    /// [`Initial::failure`] then tells one.
    fn is_in(&mut self, sector: Sector, content: &[u8]) -> bool;

    /// Why some sector could not be looked at, if that has ever been so.
    fn failure(&self) -> Option<&NotRead> {
        None
    }

    /// Sectors of `range` are asked for next, and no others until this is called again.
    fn looks_at(&mut self, _range: SectorRange) {}

    /// Whether `content`, which some sector held at the start, is zeros.
    fn is_zeros(&self, content: &[u8]) -> bool {
        is_zero(content)
    }

    /// Whether it is known without a look at the device that the sectors from the start of
    /// `range` on held zeros, and up to which sector the same is true. What cannot be looked at
    /// is not known to hold any.
    fn hole_at(&mut self, range: SectorRange) -> (bool, Sector) {
        (false, range.end())
    }

    /// What that was, for a message.
    fn describe(&self, sector: Sector) -> String;
}

/// What a sector should show. Packed into 64 bits, because there is one a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State(u64);

/// The state's lower half is a stamp.
const STAMPED: u64 = 1 << 32;
/// The state's lower half is a checksum of content that was there at the start.
const CHECKSUM: u64 = 2 << 32;
/// The state's lower half is a checksum of data that came with the trace.
const DATA: u64 = 4 << 32;
/// Zeros.
const ZEROS: u64 = 3 << 32;

impl State {
    const UNTOUCHED: State = State(0);
}

/// The states of sectors of one kind.
type Page = [State; PAGE as usize];

/// A page of which nothing was touched.
static UNTOUCHED: Page = [State::UNTOUCHED; PAGE as usize];

/// A page of zeros.
static ZEROED: Page = [State(ZEROS); PAGE as usize];

/// What is wrong with a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// A sector shows what it should not.
    Sector {
        /// Which.
        sector: Sector,
        /// What it should show.
        expected: String,
        /// What it shows.
        found: Content,
    },
    /// The read brought fewer or more bytes than it was asked for.
    Length {
        /// The sectors asked for.
        range: SectorRange,
        /// The bytes that came.
        found: u64,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::Sector {
                sector,
                expected,
                found,
            } => write!(f, "sector {sector}: found {found}, expected {expected}"),
            Mismatch::Length { range, found } => {
                let expected = range.count.bytes().0;
                write!(
                    f,
                    "sectors {range}: found {}, expected {expected}",
                    exact_count(*found, "byte")
                )
            }
        }
    }
}

/// What comparing a read with the model came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Sectors whose content was looked at.
    pub sectors: u64,
    /// Those of them that showed zeros, and rightly. A read from a wrong place can show zeros
    /// too, where any other content tells which sector it belongs to.
    pub zeros: u64,
    /// Sectors that showed what they should not, or that the read did not bring.
    pub wrong: u64,
    /// The first of these.
    pub first_wrong: Option<Mismatch>,
}

/// What a write puts into its sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written<'a> {
    /// This stamp, everywhere.
    Stamp(Stamp),
    /// Data of the trace's own, of which this is each sector's CRC-32C.
    Data(&'a [u32]),
    /// Zeros.
    Zeros,
}

impl Written<'_> {
    /// Whether `content` is what a write of `range` put into `sector`, which is in it.
    pub fn is_in(
        self,
        range: SectorRange,
        sector: Sector,
        content: &[u8],
        coverage: Coverage,
    ) -> bool {
        match self {
            Written::Stamp(stamp) => coverage.shows(stamp, sector, content),
            Written::Data(checksums) => {
                let at = (sector - range.start).0 as usize;
                checksums.get(at) == Some(&crc32c::crc32c(content))
            }
            Written::Zeros => is_zero(content),
        }
    }
}

/// The CRC-32C of each sector of `data`.
pub fn checksums(data: &[u8]) -> Vec<u32> {
    let sectors = data.chunks_exact(SECTOR_SIZE as usize);
    sectors.map(crc32c::crc32c).collect()
}

/// The model. Its memory follows what was written; a discard or a write of zeros costs the same
/// however long it is.
#[derive(Debug)]
pub struct Oracle<I> {
    /// What was written, but where zeros were written since.
    pages: Sparse<Box<Page>>,
    /// Sectors that zeros were written to last.
    zeros: IntervalSet,
    /// Sectors that were discarded since they were written last: beside what they held before,
    /// zeros are right.
    discarded: IntervalSet,
    capacity: SectorCount,
    initial: I,
    coverage: Coverage,
    /// From here on an untouched sector shows zeros.
    initial_end: Sector,
    /// The sector that the device ends within, and the CRC-32C of what it shows once a grow has
    /// made it a whole one.
    partial: Option<(Sector, u32)>,
}

impl<I: Initial> Oracle<I> {
    /// A device of `capacity` sectors, which show what `initial` says.
    pub fn new(capacity: SectorCount, initial: I) -> Oracle<I> {
        Oracle {
            pages: Sparse::default(),
            zeros: IntervalSet::default(),
            discarded: IntervalSet::default(),
            capacity,
            initial,
            coverage: Coverage::Whole,
            initial_end: Sector(0) + capacity,
            partial: None,
        }
    }

    /// The oracle where stamps take no more of a sector than this. What is no stamp, zeros and a
    /// trace's own data, is compared whole all the same.
    #[must_use]
    pub fn with_coverage(mut self, coverage: Coverage) -> Oracle<I> {
        self.coverage = coverage;
        self
    }

    /// How much of a sector a stamp takes.
    pub fn coverage(&self) -> Coverage {
        self.coverage
    }

    /// The device's size.
    pub fn capacity(&self) -> SectorCount {
        self.capacity
    }

    /// A write was acknowledged, or what it writes was seen to be there.
    pub fn wrote(&mut self, range: SectorRange, written: Written<'_>) {
        match written {
            Written::Stamp(stamp) => self.set(range, |_| State(STAMPED | u64::from(stamp.0))),
            Written::Data(checksums) => {
                let first = range.start.0;
                self.set(range, |sector| {
                    let checksum = checksums.get((sector - first) as usize);
                    State(DATA | u64::from(checksum.copied().unwrap_or_default()))
                });
            }
            Written::Zeros => self.zero(range),
        }
    }

    fn zero(&mut self, range: SectorRange) {
        let sectors = range.start.0..range.end().0;
        self.discarded.remove(sectors.clone());
        // What was written there before does not count any more.
        let pages = sectors.start.div_ceil(PAGE)..sectors.end / PAGE;
        self.pages.remove(pages);
        self.zeros.insert(sectors);
    }

    /// A discard was acknowledged: the old content or zeros, whichever a read shows first.
    pub fn discarded(&mut self, range: SectorRange) {
        self.discarded.insert(range.start.0..range.end().0);
    }

    /// What `content`, whole sectors from `first` on, shows now is what was there at the
    /// start; for sectors that [`Initial`] does not know.
    pub fn found_at_start(&mut self, first: Sector, content: &[u8]) {
        let checksums = checksums(content);
        let range = SectorRange::new(first, SectorCount(checksums.len() as u64));
        self.set(range, |sector| {
            State(CHECKSUM | u64::from(checksums[(sector - first.0) as usize]))
        });
    }

    /// The device ends within the sector after its last one, with these bytes. A grow makes a
    /// whole sector of it, which keeps them.
    pub fn ends_with(&mut self, bytes: &[u8]) {
        let mut sector = [0; SECTOR_SIZE as usize];
        sector[..bytes.len()].copy_from_slice(bytes);
        self.partial = Some((Sector(0) + self.capacity, crc32c::crc32c(&sector)));
    }

    /// The device has another size, in whole sectors. New sectors show zeros, also where the
    /// device had sectors once before.
    pub fn resized(&mut self, capacity: SectorCount) {
        if capacity < self.capacity {
            let end = Sector(0) + capacity;
            self.initial_end = self.initial_end.min(end);
            self.zeros.remove(end.0..u64::MAX);
            self.discarded.remove(end.0..u64::MAX);
            self.pages.remove(end.0.div_ceil(PAGE)..u64::MAX);
            // The last page keeps states past the end: forget those too.
            if let Some(page) = self.pages.get_mut(end.0 / PAGE) {
                page[(end.0 % PAGE) as usize..].fill(State::UNTOUCHED);
            }
        }
        self.capacity = capacity;
        if let Some((sector, checksum)) = self.partial.take()
            && sector < Sector(0) + capacity
        {
            let state = State(CHECKSUM | u64::from(checksum));
            self.set(SectorRange::new(sector, SectorCount(1)), |_| state);
        }
    }

    /// Whether zeros are right from `from` on, and up to where, `end` at most, the same is true.
    /// A page that has something else is one in which they are not. What that costs follows what
    /// was touched.
    pub(crate) fn zeros_at(&mut self, from: Sector, end: Sector) -> (bool, Sector) {
        let at = from.0;
        let (is_zeroed, stop) = self.zeros.run_at(at, end.0);
        let (is_discarded, stop) = match is_zeroed {
            true => (false, stop),
            false => self.discarded.run_at(at, stop),
        };
        if is_zeroed || is_discarded {
            return (true, Sector(stop));
        }
        let touched = self.pages.next(at / PAGE).map(|(page, _)| page * PAGE);
        if touched.is_some_and(|page| page <= at) {
            return (false, Sector(stop.min((at / PAGE + 1) * PAGE)));
        }
        let stop = Sector(stop.min(touched.unwrap_or(u64::MAX)));
        match from >= self.initial_end {
            true => (true, stop),
            false => {
                let range = SectorRange::between(from..stop.min(self.initial_end));
                self.initial.hole_at(range)
            }
        }
    }

    /// Gives each sector of a range the state that `state` says.
    fn set(&mut self, range: SectorRange, state: impl Fn(u64) -> State) {
        let (mut at, end) = (range.start.0, range.end().0);
        self.zeros.remove(at..end);
        self.discarded.remove(at..end);
        while at < end {
            let page = self
                .pages
                .get_or_insert_with(at / PAGE, || Box::new(UNTOUCHED));
            let stop = ((at / PAGE + 1) * PAGE).min(end);
            for (sector, place) in (at..stop).zip(&mut page[(at % PAGE) as usize..]) {
                *place = state(sector);
            }
            at = stop;
        }
    }

    /// Compares what a read of `range` brought with what the sectors should show. `early` says
    /// whether a sector may show some other content, because a write that is not acknowledged
    /// yet put it there. What a discarded sector shows, it has to show from then on.
    ///
    /// # Errors
    /// If what was there at the start cannot be read.
    pub fn check(
        &mut self,
        range: SectorRange,
        content: &[u8],
        mut early: impl FnMut(Sector, &[u8]) -> bool,
    ) -> Result<Compared, NotRead> {
        let found = content.len() as u64;
        if found != range.count.bytes().0 {
            return Ok(Compared {
                wrong: range.count.0,
                first_wrong: Some(Mismatch::Length { range, found }),
                ..Compared::default()
            });
        }
        self.initial.looks_at(range);
        let (mut zeros, mut wrong, mut first_wrong) = (0, 0, None);
        let mut decided = Decided::default();
        let mut contents = content.chunks_exact(SECTOR_SIZE as usize);
        let (mut at, end) = (range.start.0, range.end().0);
        while at < end {
            let page_end = ((at / PAGE + 1) * PAGE).min(end);
            let (is_zeroed, stop) = self.zeros.run_at(at, page_end);
            let (is_discarded, stop) = self.discarded.run_at(at, stop);
            let page = match is_zeroed {
                true => &ZEROED,
                false => self.pages.get(at / PAGE).map_or(&UNTOUCHED, Box::as_ref),
            };
            let states = &page[(at % PAGE) as usize..][..(stop - at) as usize];
            // The states come first: they may end here, and no content is to be lost then.
            for (state, content) in states.iter().zip(&mut contents) {
                let shown = Shown {
                    sector: Sector(at),
                    content,
                    coverage: self.coverage,
                    initial_end: self.initial_end,
                    is_discarded,
                };
                if shown.is(*state, &mut self.initial) {
                    let is_zeros = shown.is_zeros(*state, &self.initial);
                    zeros += u64::from(is_zeros);
                    if is_discarded {
                        decided.add(at, is_zeros);
                    }
                } else if !early(Sector(at), content) {
                    wrong += 1;
                    first_wrong.get_or_insert((Sector(at), *state, is_discarded, content));
                }
                at += 1;
            }
        }
        if let Some(failure) = self.initial.failure() {
            return Err(failure.clone());
        }
        let first_wrong = first_wrong.map(|(sector, state, is_discarded, content)| {
            let expected = self.describe(sector, state);
            Mismatch::Sector {
                sector,
                expected: match is_discarded {
                    true => format!("zeros (it was discarded) or {expected}"),
                    false => expected,
                },
                found: self.coverage.look(content),
            }
        });
        for (sectors, is_zeros) in decided.0 {
            match is_zeros {
                true => self.zero(SectorRange::between(
                    Sector(sectors.start)..Sector(sectors.end),
                )),
                false => drop(self.discarded.remove(sectors)),
            }
        }
        Ok(Compared {
            sectors: range.count.0,
            zeros,
            wrong,
            first_wrong,
        })
    }

    fn describe(&self, sector: Sector, state: State) -> String {
        let low = state.0 as u32;
        match state.0 & !u64::from(u32::MAX) {
            STAMPED => Content::Stamped(Stamp(low), sector).to_string(),
            CHECKSUM => format!("what was there at the start (CRC-32C {low:08x})"),
            DATA => format!("what the trace wrote there (CRC-32C {low:08x})"),
            ZEROS => "zeros".into(),
            _ if sector >= self.initial_end => "zeros: the device has grown here".into(),
            _ => self.initial.describe(sector),
        }
    }
}

/// Runs of discarded sectors that a read has shown, and whether as zeros.
#[derive(Default)]
struct Decided(Vec<(Range<u64>, bool)>);

impl Decided {
    fn add(&mut self, sector: u64, is_zeros: bool) {
        match self.0.last_mut() {
            Some((run, zeros)) if run.end == sector && *zeros == is_zeros => run.end += 1,
            _ => self.0.push((sector..sector + 1, is_zeros)),
        }
    }
}

/// The content of a sector, to be compared with what it should be.
struct Shown<'a> {
    sector: Sector,
    content: &'a [u8],
    coverage: Coverage,
    initial_end: Sector,
    is_discarded: bool,
}

impl Shown<'_> {
    #[inline]
    fn is(&self, state: State, initial: &mut impl Initial) -> bool {
        let (sector, content) = (self.sector, self.content);
        if self.is_discarded && is_zero(content) {
            return true;
        }
        let low = state.0 as u32;
        match state.0 & !u64::from(u32::MAX) {
            STAMPED => self.coverage.shows(Stamp(low), sector, content),
            CHECKSUM | DATA => crc32c::crc32c(content) == low,
            ZEROS => is_zero(content),
            _ if sector >= self.initial_end => is_zero(content),
            _ => initial.is_in(sector, content),
        }
    }
}

impl Shown<'_> {
    /// Whether the content, which is right, is zeros.
    #[inline]
    fn is_zeros(&self, state: State, initial: &impl Initial) -> bool {
        let Some([0, 0, 0, 0, 0, 0, 0, 0]) = self.content.first_chunk() else {
            return false;
        };
        match state.0 & !u64::from(u32::MAX) {
            CHECKSUM | DATA => is_zero(self.content),
            // A stamp begins with other bytes.
            STAMPED | ZEROS => true,
            _ if self.sector >= self.initial_end => true,
            _ => initial.is_zeros(self.content),
        }
    }
}

/// Whether all bytes are zero.
pub fn is_zero(content: &[u8]) -> bool {
    let (lines, rest) = content.as_chunks();
    stamp::all_are(&[0; stamp::LINE / 8], lines) && rest.iter().all(|&byte| byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Backing;

    impl Initial for Backing {
        fn is_in(&mut self, sector: Sector, content: &[u8]) -> bool {
            Stamp::BACKING.is_in(sector, content)
        }
        fn describe(&self, sector: Sector) -> String {
            Content::Stamped(Stamp::BACKING, sector).to_string()
        }
    }

    fn range(start: u64, count: u64) -> SectorRange {
        SectorRange::new(Sector(start), SectorCount(count))
    }

    fn sector(stamp: Stamp, sector: u64) -> Vec<u8> {
        let mut content = vec![0; 512];
        stamp.fill(Sector(sector), &mut content);
        content
    }

    /// No write is in flight.
    fn nothing(_: Sector, _: &[u8]) -> bool {
        false
    }

    fn right(oracle: &mut Oracle<Backing>, at: u64, content: &[u8]) -> bool {
        oracle.check(range(at, 1), content, nothing).unwrap().wrong == 0
    }

    #[test]
    fn a_sector_shows_its_last_acknowledged_write() {
        let mut oracle = Oracle::new(SectorCount(1000), Backing);
        assert!(right(&mut oracle, 5, &sector(Stamp::BACKING, 5)));
        oracle.wrote(range(5, 1), Written::Stamp(Stamp(1)));
        oracle.wrote(range(5, 1), Written::Stamp(Stamp(2)));
        assert!(right(&mut oracle, 5, &sector(Stamp(2), 5)));
        let compared = oracle
            .check(range(5, 1), &sector(Stamp(1), 5), nothing)
            .unwrap();
        assert_eq!((compared.sectors, compared.wrong), (1, 1));
        assert_eq!(
            compared.first_wrong.unwrap().to_string(),
            "sector 5: found what request 1 wrote to sector 5, \
             expected what request 2 wrote to sector 5"
        );
    }

    #[test]
    fn a_write_in_flight_may_show() {
        let mut oracle = Oracle::new(SectorCount(1000), Backing);
        let content = sector(Stamp(9), 5);
        let early = |at: Sector, found: &[u8]| at == Sector(5) && found == content;
        assert_eq!(oracle.check(range(5, 1), &content, early).unwrap().wrong, 0);
        assert_eq!(oracle.check(range(6, 1), &content, early).unwrap().wrong, 1);
    }

    #[test]
    fn data_of_the_trace_is_known_by_its_checksums() {
        let mut oracle = Oracle::new(SectorCount(1000), Backing);
        let data: Vec<u8> = (0..1024_u32).map(|n| (n * n / 512) as u8).collect();
        let sums = checksums(&data);
        let written = Written::Data(&sums);
        let early = |at, found: &[u8]| written.is_in(range(4, 2), at, found, Coverage::Whole);
        assert_eq!(oracle.check(range(4, 2), &data, early).unwrap().wrong, 0);
        assert_eq!(oracle.check(range(4, 2), &data, nothing).unwrap().wrong, 2);
        oracle.wrote(range(4, 2), Written::Data(&sums));
        assert_eq!(oracle.check(range(4, 2), &data, nothing).unwrap().wrong, 0);
        let compared = oracle.check(range(5, 1), &data[..512], nothing).unwrap();
        assert_eq!(compared.wrong, 1);
        let expected = format!(
            "expected what the trace wrote there (CRC-32C {:08x})",
            sums[1]
        );
        let told = compared.first_wrong.unwrap().to_string();
        assert!(told.ends_with(&expected));
    }

    #[test]
    fn a_discarded_sector_shows_the_old_content_or_zeros_and_then_the_same() {
        for (first, second) in [
            (sector(Stamp(1), 5), vec![0; 512]),
            (vec![0; 512], sector(Stamp(1), 5)),
        ] {
            let mut oracle = Oracle::new(SectorCount(1000), Backing);
            oracle.wrote(range(5, 1), Written::Stamp(Stamp(1)));
            oracle.discarded(range(5, 1));
            assert!(!right(&mut oracle, 5, &sector(Stamp::BACKING, 5)));
            assert!(right(&mut oracle, 5, &first));
            assert!(right(&mut oracle, 5, &first));
            assert!(!right(&mut oracle, 5, &second));
        }
    }

    #[test]
    fn a_read_that_brings_another_length_is_wrong_whatever_it_brings() {
        let mut oracle = Oracle::new(SectorCount(1000), Backing);
        let content = [sector(Stamp::BACKING, 5), sector(Stamp::BACKING, 6)].concat();
        for len in [0, 512, 1023] {
            let compared = oracle.check(range(5, 2), &content[..len], nothing).unwrap();
            assert_eq!((compared.sectors, compared.wrong), (0, 2), "{len} bytes");
            let told = compared.first_wrong.unwrap().to_string();
            assert_eq!(
                told,
                format!("sectors 5+2: found {len} bytes, expected 1024")
            );
        }
        assert_eq!(
            oracle.check(range(5, 1), &content, nothing).unwrap().wrong,
            1
        );
        assert_eq!(
            oracle.check(range(5, 2), &content, nothing).unwrap().wrong,
            0
        );
    }

    #[test]
    fn zeros_are_counted_because_they_tell_less() {
        let mut oracle = Oracle::new(SectorCount(1000), Backing);
        oracle.wrote(range(5, 1), Written::Zeros);
        let content = [sector(Stamp::BACKING, 4), vec![0; 512]].concat();
        let compared = oracle.check(range(4, 2), &content, nothing).unwrap();
        assert_eq!(
            (compared.sectors, compared.zeros, compared.wrong),
            (2, 1, 0)
        );
    }

    #[test]
    fn zeros_and_discards_last_until_the_next_write() {
        let mut oracle = Oracle::new(SectorCount(4000), Backing);
        oracle.wrote(range(300, 1000), Written::Stamp(Stamp(1)));
        oracle.wrote(range(400, 800), Written::Zeros);
        oracle.discarded(range(1199, 2));
        oracle.wrote(range(600, 1), Written::Stamp(Stamp(2)));
        let compared = oracle
            .check(range(1200, 1), &sector(Stamp(3), 1200), nothing)
            .unwrap();
        assert_eq!(
            compared.first_wrong.unwrap().to_string(),
            "sector 1200: found what request 3 wrote to sector 1200, \
             expected zeros (it was discarded) or what request 1 wrote to sector 1200"
        );
        for at in [400, 511, 512, 599, 601, 1023, 1199] {
            assert!(right(&mut oracle, at, &[0; 512]), "sector {at}");
        }
        for (at, stamp) in [(399, 1), (600, 2), (1200, 1), (1201, 1)] {
            assert!(right(&mut oracle, at, &sector(Stamp(stamp), at)), "{at}");
        }
        for at in [399, 600, 1201, 2000] {
            assert!(!right(&mut oracle, at, &[0; 512]), "sector {at}");
        }
        for at in [400, 512, 601, 1199] {
            assert!(!right(&mut oracle, at, &sector(Stamp(1), at)), "{at}");
        }
        // A page that is zeros whole, written in part, is zeros in the rest of it.
        oracle.wrote(range(512, 256), Written::Zeros);
        oracle.wrote(range(513, 1), Written::Stamp(Stamp(4)));
        assert!(right(&mut oracle, 512, &[0; 512]) && right(&mut oracle, 514, &[0; 512]));
        assert!(right(&mut oracle, 513, &sector(Stamp(4), 513)));
    }

    /// A model of all that can be claimed: it aborts where memory follows the claim.
    #[test]
    fn the_largest_device_takes_the_memory_of_what_is_written() {
        let sectors = crate::trace::record::MAX_END_SECTOR.0;
        let mut oracle = Oracle::new(SectorCount(sectors), Backing);
        for _ in 0..10_000 {
            oracle.wrote(range(0, sectors), Written::Zeros);
            oracle.discarded(range(1, sectors - 1));
        }
        let last = sectors - 1;
        oracle.wrote(range(last, 1), Written::Stamp(Stamp(1)));
        assert!(right(&mut oracle, last, &sector(Stamp(1), last)));
        assert!(right(&mut oracle, last - 1, &[0; 512]));
        oracle.resized(SectorCount(10));
        oracle.resized(SectorCount(sectors));
        assert!(right(&mut oracle, last, &[0; 512]));
    }

    #[test]
    fn what_comes_after_a_shrink_is_zeros() {
        let mut oracle = Oracle::new(SectorCount(1000), Backing);
        oracle.wrote(range(500, 100), Written::Stamp(Stamp(1)));
        oracle.resized(SectorCount(510));
        oracle.resized(SectorCount(2000));
        assert!(right(&mut oracle, 509, &sector(Stamp(1), 509)));
        for at in [510, 511, 512, 599, 900, 1999] {
            assert!(right(&mut oracle, at, &[0; 512]), "sector {at}");
            assert!(!right(&mut oracle, at, &sector(Stamp::BACKING, at)));
        }
    }
}
