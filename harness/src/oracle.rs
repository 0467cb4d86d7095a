//! The independent model of the device: for each sector, what it may show. It knows nothing
//! of bitmaps, files or resizes, only of acknowledged requests and of the device's size.

use std::fmt;

use driver::units::{SECTOR_SIZE, Sector, SectorCount, SectorRange};

use crate::intervals::IntervalSet;
use crate::sparse::Sparse;
use crate::stamp::{Content, Coverage, Stamp};

/// Sectors in a page of the model: only what was written takes memory.
const PAGE: u64 = 256;

/// What a sector shows before anything was written to it.
pub trait Initial {
    /// Whether `content` is what `sector` held at the start.
    fn is_in(&mut self, sector: Sector, content: &[u8]) -> bool;

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

/// A sector that shows what it should not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Which.
    pub sector: Sector,
    /// What it should show.
    pub expected: String,
    /// What it shows.
    pub found: Content,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mismatch {
            sector,
            expected,
            found,
        } = self;
        write!(f, "sector {sector}: found {found}, expected {expected}")
    }
}

/// What a write puts into its sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written<'a> {
    /// This stamp, everywhere.
    Stamp(Stamp),
    /// Data of the trace's own, of which this is each sector's CRC-32C.
    Data(&'a [u32]),
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
    /// A device of so many sectors, which show what `initial` says.
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

    /// The same, where stamps take no more of a sector than this. What is no stamp, zeros and
    /// a trace's own data, is compared whole all the same.
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

    /// A write was acknowledged.
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
        }
    }

    /// A write of zeros was acknowledged.
    pub fn zeroed(&mut self, range: SectorRange) {
        let sectors = range.start.0..range.end().0;
        self.discarded.remove(sectors.clone());
        // What was written there before does not count any more.
        let pages = sectors.start.div_ceil(PAGE)..sectors.end / PAGE;
        self.pages.remove(pages);
        self.zeros.insert(sectors);
    }

    /// A discard was acknowledged: the old content or zeros, from now on.
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

    /// Compares what was read, whole sectors from `first` on, with what they should show.
    /// `early` says whether a sector may show some other content, because a write that is not
    /// acknowledged yet put it there. Returns how many sectors are wrong, and the first of them.
    pub fn check(
        &mut self,
        first: Sector,
        content: &[u8],
        early: impl Fn(Sector, &[u8]) -> bool,
    ) -> (u64, Option<Mismatch>) {
        let (mut wrong, mut first_wrong) = (0, None);
        let mut contents = content.chunks_exact(SECTOR_SIZE as usize);
        let (mut at, end) = (first.0, first.0 + contents.len() as u64);
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
                if !shown.is(*state, &mut self.initial) && !early(Sector(at), content) {
                    wrong += 1;
                    first_wrong.get_or_insert((Sector(at), *state, is_discarded, content));
                }
                at += 1;
            }
        }
        let example = first_wrong.map(|(sector, state, is_discarded, content)| {
            let expected = self.describe(sector, state);
            Mismatch {
                sector,
                expected: match is_discarded {
                    true => format!("zeros (it was discarded) or {expected}"),
                    false => expected,
                },
                found: self.coverage.look(content),
            }
        });
        (wrong, example)
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

/// Whether all bytes are zero.
pub fn is_zero(content: &[u8]) -> bool {
    let (words, rest) = content.as_chunks::<16>();
    let all = words
        .iter()
        .fold(0, |all, word| all | u128::from_le_bytes(*word));
    all == 0 && rest.iter().all(|&byte| byte == 0)
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
        oracle.check(Sector(at), content, nothing).0 == 0
    }

    #[test]
    fn a_sector_shows_its_last_acknowledged_write() {
        let mut oracle = Oracle::new(SectorCount(1000), Backing);
        assert!(right(&mut oracle, 5, &sector(Stamp::BACKING, 5)));
        oracle.wrote(range(5, 1), Written::Stamp(Stamp(1)));
        oracle.wrote(range(5, 1), Written::Stamp(Stamp(2)));
        assert!(right(&mut oracle, 5, &sector(Stamp(2), 5)));
        let (wrong, example) = oracle.check(Sector(5), &sector(Stamp(1), 5), nothing);
        assert_eq!(wrong, 1);
        assert_eq!(
            example.unwrap().to_string(),
            "sector 5: found what request 1 wrote to sector 5, \
             expected what request 2 wrote to sector 5"
        );
    }

    #[test]
    fn a_write_in_flight_may_show() {
        let mut oracle = Oracle::new(SectorCount(1000), Backing);
        let content = sector(Stamp(9), 5);
        let early = |at: Sector, found: &[u8]| at == Sector(5) && found == content;
        assert_eq!(oracle.check(Sector(5), &content, early).0, 0);
        assert_eq!(oracle.check(Sector(6), &content, early).0, 1);
    }

    #[test]
    fn data_of_the_trace_is_known_by_its_checksums() {
        let mut oracle = Oracle::new(SectorCount(1000), Backing);
        let data: Vec<u8> = (0..1024_u32).map(|n| (n * n / 512) as u8).collect();
        let sums = checksums(&data);
        let written = Written::Data(&sums);
        let early = |at, found: &[u8]| written.is_in(range(4, 2), at, found, Coverage::Whole);
        assert_eq!(oracle.check(Sector(4), &data, early).0, 0);
        assert_eq!(oracle.check(Sector(4), &data, nothing).0, 2);
        oracle.wrote(range(4, 2), Written::Data(&sums));
        assert!(right(&mut oracle, 4, &data));
        let (wrong, example) = oracle.check(Sector(5), &data[..512], nothing);
        assert_eq!(wrong, 1);
        let expected = format!(
            "expected what the trace wrote there (CRC-32C {:08x})",
            sums[1]
        );
        assert!(example.unwrap().to_string().ends_with(&expected));
    }

    #[test]
    fn a_discarded_sector_shows_the_old_content_or_zeros() {
        let mut oracle = Oracle::new(SectorCount(1000), Backing);
        oracle.wrote(range(5, 1), Written::Stamp(Stamp(1)));
        oracle.discarded(range(5, 1));
        assert!(right(&mut oracle, 5, &sector(Stamp(1), 5)));
        assert!(right(&mut oracle, 5, &[0; 512]));
        assert!(!right(&mut oracle, 5, &sector(Stamp::BACKING, 5)));
    }

    #[test]
    fn zeros_and_discards_last_until_the_next_write() {
        let mut oracle = Oracle::new(SectorCount(4000), Backing);
        oracle.wrote(range(300, 1000), Written::Stamp(Stamp(1)));
        oracle.zeroed(range(400, 800));
        oracle.discarded(range(1199, 2));
        oracle.wrote(range(600, 1), Written::Stamp(Stamp(2)));
        for at in [400, 511, 512, 599, 601, 1023, 1199, 1200] {
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
        let (wrong, example) = oracle.check(Sector(1200), &sector(Stamp(3), 1200), nothing);
        assert_eq!(wrong, 1);
        assert_eq!(
            example.unwrap().expected,
            "zeros (it was discarded) or what request 1 wrote to sector 1200"
        );
        // A page that is zeros whole, written in part, is zeros in the rest of it.
        oracle.zeroed(range(512, 256));
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
            oracle.zeroed(range(0, sectors));
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
