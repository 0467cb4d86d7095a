//! Choosing the places by which a backing file is known while it is changed.
//!
//! Two disks that are mixed up are seldom alike at their front: file systems keep there when they
//! were mounted last and how much was written (ext4 at 1 KiB, XFS at 0, btrfs at 64 KiB). So the
//! front is among the places, and the rest are spread over the data of the whole file. Where
//! there is a choice, zeros are passed over: they say little.

use driver::cow::{LONGEST_PLACE, Place, Sample};
use driver::host::{HostFile, HostResult};
use driver::ordered::Ordered;
use driver::resize::ResizeError;
use driver::units::{FileOffset, SECTOR_SIZE, Sector, SectorCount, SectorRange};

/// The front of the file, 128 KiB.
const FRONT: SectorCount = SectorCount(256);

/// The most places of each kind; together they are [`driver::cow::MOST_PLACES`].
const FRONT_PLACES: usize = 6;
const FRONT_WRITTEN: usize = 3;
const SPREAD_PLACES: usize = 8;
const SPREAD_WRITTEN: usize = 3;

/// The most times that one place is looked for: each asks the host for data and reads some.
const TRIES: usize = 8;

/// The places of a file of `sectors` whole sectors. What a merge of `merged` writes is among them
/// with both its contents; without one the change writes nothing. The places are drawn from
/// `seed`: the same for the same file.
pub(super) fn choose<F: HostFile>(
    file: &F,
    sectors: SectorCount,
    merged: Option<&Ordered<F>>,
    seed: u64,
) -> Result<Sample, ResizeError> {
    let mut sampling = Sampling {
        file,
        end: Sector(0) + sectors,
        merged,
        state: seed,
        sample: Sample::new(),
        buffer: vec![0; LONGEST_PLACE.bytes().0 as usize],
    };
    let at = FileOffset(0);
    sampling.choose().map_err(ResizeError::host(
        "reading what the backing file is known by",
        at,
    ))?;
    match sampling.sample.places() {
        [] => Err(ResizeError::Refused(
            "the backing file has less than a sector, nothing to know it by".into(),
        )),
        _ => Ok(sampling.sample),
    }
}

struct Sampling<'a, F> {
    file: &'a F,
    /// Past the last whole sector.
    end: Sector,
    /// The device whose dirty sectors are written into the file.
    merged: Option<&'a Ordered<F>>,
    /// Of the generator.
    state: u64,
    sample: Sample,
    buffer: Vec<u8>,
}

impl<F: HostFile> Sampling<'_, F> {
    fn choose(&mut self) -> HostResult<()> {
        let front = self.end.min(Sector(0) + FRONT);
        let mut from = Sector(0);
        for _ in 0..FRONT_PLACES {
            let Some(run) = self.next_kept(from, front) else {
                break;
            };
            self.add_kept(run)?;
            from = run.end();
        }
        self.add_front_written(front)?;
        for _ in 0..SPREAD_PLACES {
            let from = self.draw();
            self.add_data_from(from)?;
        }
        for _ in 0..SPREAD_WRITTEN {
            let from = self.draw();
            let run = self.next_written(from, self.end);
            if let Some(run) = run.or_else(|| self.next_written(Sector(0), self.end)) {
                self.add_written(run.start)?;
            }
        }
        Ok(())
    }

    /// The first written sectors of the front that are not zeros, or the very first.
    fn add_front_written(&mut self, front: Sector) -> HostResult<()> {
        let mut added = 0;
        let mut from = Sector(0);
        while let Some(run) = self.next_written(from, front) {
            from = run.start + SectorCount(1);
            if !self.is_zero(SectorRange::new(run.start, SectorCount(1)))? {
                self.add_written(run.start)?;
                added += 1;
            }
            if added == FRONT_WRITTEN {
                return Ok(());
            }
        }
        match self.next_written(Sector(0), front) {
            Some(run) if added == 0 => self.add_written(run.start),
            _ => Ok(()),
        }
    }

    /// A place with data that the change leaves alone, at `from` or later, or from the start on;
    /// where none is found soon, whatever is at `from`.
    fn add_data_from(&mut self, from: Sector) -> HostResult<()> {
        let mut at = from;
        for _ in 0..TRIES {
            let data = match at < self.end {
                true => self.file.next_data(FileOffset(at.bytes().0))?,
                false => None,
            };
            let Some(data) = data else {
                at = Sector(0);
                continue;
            };
            let start = Sector(data.start.0.div_ceil(SECTOR_SIZE)).max(at);
            let end = Sector(data.end().0 / SECTOR_SIZE).min(self.end);
            let Some(run) = self.next_kept(start, end) else {
                at = end.max(start + SectorCount(1));
                continue;
            };
            if let Some(taken) = self.taken(run) {
                at = taken.end();
            } else if self.is_zero(run)? {
                at = self.draw();
            } else {
                return self.add_kept(run);
            }
        }
        match self.next_kept(from, self.end) {
            Some(run) if self.taken(run).is_none() => self.add_kept(run),
            _ => Ok(()),
        }
    }

    /// The next sectors in `from..end` that the change leaves alone, as long as a place may be.
    fn next_kept(&self, from: Sector, end: Sector) -> Option<SectorRange> {
        if from >= end {
            return None;
        }
        let past = |start: Sector| (start < end).then(|| SectorRange::between(start..end));
        let run = match self.merged {
            None => past(from),
            Some(device) => {
                let mapped = Sector(0) + device.capacity();
                let clean = match from < mapped {
                    true => device.map().next_clean(from, end.min(mapped)),
                    false => None,
                };
                clean.or_else(|| past(from.max(mapped)))
            }
        }?;
        Some(SectorRange::new(run.start, run.count.min(LONGEST_PLACE)))
    }

    /// The next sectors in `from..end` that the change writes.
    fn next_written(&self, from: Sector, end: Sector) -> Option<SectorRange> {
        let device = self.merged?;
        let end = end.min(Sector(0) + device.capacity());
        match from < end {
            true => device.map().next_dirty(from, end),
            false => None,
        }
    }

    /// The place that overlaps `range`, if one does.
    fn taken(&self, range: SectorRange) -> Option<SectorRange> {
        let places = self.sample.places().iter().map(|place| place.range);
        places.into_iter().find(|place| place.overlaps(range))
    }

    fn read(&mut self, range: SectorRange) -> HostResult<&[u8]> {
        let content = &mut self.buffer[..range.count.bytes().0 as usize];
        self.file
            .read_exact_at(content, FileOffset(range.start.bytes().0))?;
        Ok(content)
    }

    fn is_zero(&mut self, range: SectorRange) -> HostResult<bool> {
        Ok(self.read(range)?.iter().all(|&byte| byte == 0))
    }

    fn add_kept(&mut self, range: SectorRange) -> HostResult<()> {
        let digest = Place::digest(self.read(range)?);
        self.sample.push(Place {
            range,
            before: digest,
            after: digest,
        });
        Ok(())
    }

    /// A sector that the change writes may have its old content or its new one.
    fn add_written(&mut self, sector: Sector) -> HostResult<()> {
        let range = SectorRange::new(sector, SectorCount(1));
        let Some(device) = self.merged.filter(|_| self.taken(range).is_none()) else {
            return Ok(());
        };
        let before = Place::digest(self.read(range)?);
        let mut new = [0; SECTOR_SIZE as usize];
        let (place, _) = device.placement().place(range);
        device.cow().read_exact_at(&mut new, place)?;
        self.sample.push(Place {
            range,
            before,
            after: Place::digest(&new),
        });
        Ok(())
    }

    /// A sector of the file, from a generator that gives the same for the same seed (SplitMix64).
    fn draw(&mut self) -> Sector {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut drawn = self.state;
        drawn = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        drawn = (drawn ^ (drawn >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Sector((drawn ^ (drawn >> 31)) % self.end.0.max(1))
    }
}

const _: () = assert!(
    FRONT_PLACES + FRONT_WRITTEN + SPREAD_PLACES + SPREAD_WRITTEN == driver::cow::MOST_PLACES
);
