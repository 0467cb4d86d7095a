//! The independent model of the device: for each sector, what it may show. It knows nothing
//! of bitmaps, files or resizes, only of acknowledged requests and of the device's size.
//!
//! What a sector shows comes from `initial`, what was there at the start, until a write
//! ([`Written`]) gives it another `state`. [`Oracle::check`] compares a read with that.

mod compared;
mod initial;
mod state;
mod written;

#[cfg(test)]
mod tests;

use std::ops::Range;

use driver::units::{SECTOR_SIZE, Sector, SectorCount, SectorRange};

pub use compared::{Compared, Mismatch};
pub use initial::{Initial, NotRead};
pub use written::{Written, checksums};

use state::{SectorContent, State};

use crate::intervals::IntervalSet;
use crate::sparse::Sparse;
use crate::stamp::Coverage;

/// Sectors in a page of the model: only what was written takes memory.
const PAGE: u64 = 256;

/// The states of sectors of one kind.
type Page = [State; PAGE as usize];

/// A page of which nothing was touched.
static UNTOUCHED: Page = [State::UNTOUCHED; PAGE as usize];

/// A page of zeros.
static ZEROED: Page = [State::ZEROS; PAGE as usize];

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
            Written::Stamp(stamp) => self.set(range, |_| State::stamped(stamp)),
            Written::Data(checksums) => {
                let first = range.start.0;
                self.set(range, |sector| {
                    let checksum = checksums.get((sector - first) as usize);
                    State::data(checksum.copied().unwrap_or_default())
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
            State::checksum(checksums[(sector - first.0) as usize])
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
            let state = State::checksum(checksum);
            self.set(SectorRange::new(sector, SectorCount(1)), |_| state);
        }
    }

    /// Whether zeros are known to be right from `from` on, and up to where, `end` at most, the same
    /// is true at least. Fewer than `least` sectors before one that was written are not worth a
    /// look at what was there at the start. What this costs follows what was touched.
    pub(crate) fn zeros_at(
        &mut self,
        from: Sector,
        end: Sector,
        least: SectorCount,
    ) -> (bool, Sector) {
        let at = from.0;
        let (is_zeroed, stop) = self.zeros.run_at(at, end.0);
        let (is_discarded, stop) = match is_zeroed {
            true => (false, stop),
            false => self.discarded.run_at(at, stop),
        };
        if is_zeroed || is_discarded {
            return (true, Sector(stop));
        }
        let (is_untouched, touched_end) = self.untouched_at(at);
        let stop = Sector(stop.min(touched_end));
        match from >= self.initial_end {
            _ if !is_untouched => (false, stop),
            true => (true, stop),
            false if stop.0 == touched_end && stop - from < least => (false, stop),
            false => {
                let range = SectorRange::between(from..stop.min(self.initial_end));
                self.initial.hole_at(range)
            }
        }
    }

    /// Whether nothing but zeros and discards has gone to a sector, and up to which one the same is
    /// true at least.
    fn untouched_at(&self, at: u64) -> (bool, u64) {
        let is_touched = |state: &State| *state != State::UNTOUCHED;
        let mut from = at;
        while let Some((page, states)) = self.pages.next(from / PAGE) {
            from = from.max(page * PAGE);
            let states = &states[(from % PAGE) as usize..];
            if from == at && is_touched(&states[0]) {
                let touched = states.iter().take_while(|state| is_touched(state));
                return (false, at + touched.count() as u64);
            }
            match states.iter().position(is_touched) {
                Some(place) => return (true, from + place as u64),
                None => from = (page + 1) * PAGE,
            }
        }
        (true, u64::MAX)
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
                let shown = SectorContent {
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
            let expected = state.describe(sector, self.initial_end, &self.initial);
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
