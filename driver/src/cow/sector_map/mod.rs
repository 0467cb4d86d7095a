//! The map of dirty sectors: which sectors live in the COW file and which in the
//! backing file, and which words of the bitmap on disk no longer say so.
//!
//! One page stands for 4 KiB of bitmap, that is 32768 sectors or 16 MiB of device.
//! A page whose sectors are all clean or all dirty is one number in the page table;
//! only a mixed page has words on the heap. Opening a device of 2 TiB therefore costs
//! half a megabyte and as many page loads as its COW file has bitmap, and a run that
//! crosses untouched pages is found by comparing page-table entries.
//!
//! Every lookup answers with the length of the run as well as with its state: a
//! request is then split at changes, where the original driver asked bit by bit.

mod bitmap;
mod changed;
mod marking;
mod page;
mod page_table;
mod runs;

use std::fmt;
use std::mem::size_of;

use self::changed::ChangedWords;
use self::page::SECTORS_PER_WORD;
use self::page_table::{PageRef, PageTable};
use crate::units::{Bytes, Sector, SectorCount, SectorRange};

pub use self::changed::PageSnapshot;
pub use self::runs::Runs;

/// Bytes of bitmap in a page of the map.
pub const PAGE_BYTES: usize = 4096;

/// Words in a page.
const WORDS_PER_PAGE: usize = PAGE_BYTES / 8;

/// Sectors that a page of the map stands for.
pub const SECTORS_PER_PAGE: SectorCount = SectorCount(PAGE_SECTORS);

/// The largest device that a map is made for: 256 TiB. The size comes from a header
/// that anyone may have written; this keeps the page table within 64 MiB.
pub const MAX_SECTORS: SectorCount = SectorCount(1 << 39);

const PAGE_SECTORS: u64 = PAGE_BYTES as u64 * 8;

/// Where a sector's content lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SectorState {
    /// In the backing file.
    Clean,
    /// In the COW file.
    Dirty,
}

/// A run of sectors that all have one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Run {
    /// The state of every sector of the run.
    pub state: SectorState,
    /// The sectors; never empty.
    pub range: SectorRange,
}

/// What the sectors of a page have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageState {
    /// All are clean.
    Clean,
    /// All are dirty; of a partial last page, all that exist.
    Dirty,
    /// Some are clean and some are dirty.
    Mixed,
}

/// A device too large for a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a device of {found} sectors is larger than the {maximum} sectors supported")]
pub struct MapTooLarge {
    /// The sectors that were asked for.
    pub found: SectorCount,
    /// [`MAX_SECTORS`].
    pub maximum: SectorCount,
}

/// The map of dirty sectors of one device.
///
/// Sectors past the end are never dirty, and asking about them or marking them is a
/// broken invariant of the caller: a panic. Scans ([`next_dirty`](Self::next_dirty)
/// and its kin) stop at the end by themselves.
#[derive(Clone)]
pub struct SectorMap {
    sectors: u64,
    pages: PageTable,
    changed: ChangedWords,
}

impl SectorMap {
    /// A map with every sector clean.
    pub fn new(sectors: SectorCount) -> Result<Self, MapTooLarge> {
        Self::uniform(sectors, SectorState::Clean)
    }

    /// A map with every sector dirty: that of a disk without a backing file.
    pub fn all_dirty(sectors: SectorCount) -> Result<Self, MapTooLarge> {
        Self::uniform(sectors, SectorState::Dirty)
    }

    fn uniform(sectors: SectorCount, state: SectorState) -> Result<Self, MapTooLarge> {
        check_size(sectors)?;
        Ok(Self {
            sectors: sectors.0,
            pages: PageTable::new(pages_of(sectors), state),
            changed: ChangedWords::default(),
        })
    }

    /// The sectors of the device.
    pub fn sectors(&self) -> SectorCount {
        SectorCount(self.sectors)
    }

    /// How many sectors are dirty. Counted now, which takes the time to read the words of
    /// every mixed page.
    pub fn dirty_count(&self) -> SectorCount {
        let dirty_in = |page| match self.pages.get(page) {
            PageRef::Uniform(SectorState::Clean) => 0,
            PageRef::Uniform(SectorState::Dirty) => u64::from(self.sectors_in(page)),
            PageRef::Mixed(words) => u64::from(words.count_dirty()),
        };
        SectorCount((0..self.pages.len()).map(dirty_in).sum())
    }

    /// Roughly the memory that the map occupies.
    pub fn memory_bytes(&self) -> Bytes {
        let bytes = size_of::<Self>() + self.pages.memory_bytes() + self.changed.memory_bytes();
        Bytes(bytes as u64)
    }

    /// Whether the content of `sector` lives in the COW file.
    ///
    /// # Panics
    ///
    /// If `sector` lies past the end of the map.
    #[inline]
    pub fn is_dirty(&self, sector: Sector) -> bool {
        if sector.0 >= self.sectors {
            self.no_such_run(sector, Sector(self.sectors));
        }
        let word = self.pages.word_of(page_of(sector.0), offset_of(sector.0));
        word >> (sector.0 % SECTORS_PER_WORD) & 1 != 0
    }

    /// The state of `sector`, and the run of sectors from there that share it: to the
    /// next change or to the end of the map, however far. A request asks
    /// [`run_within`](Self::run_within) its own end instead.
    #[inline]
    pub fn run_at(&self, sector: Sector) -> Run {
        self.run_within(sector, Sector(self.sectors))
    }

    /// The state of `sector`, and the run of sectors from there up to, but not
    /// including, `limit` that share it. Nothing at or past `limit` is looked at.
    ///
    /// # Panics
    ///
    /// If `sector` lies past the end of the map, or not before `limit`.
    #[inline]
    pub fn run_within(&self, sector: Sector, limit: Sector) -> Run {
        let (start, end) = (sector.0, limit.0.min(self.sectors));
        if start >= end {
            self.no_such_run(sector, limit);
        }
        let word = self.pages.word_of(page_of(start), offset_of(start));
        // Sectors that differ from the next one; the last has none in this word.
        let differ = (word ^ word >> 1) & (u64::MAX >> 1);
        let within = start % SECTORS_PER_WORD;
        let state = match word >> within & 1 {
            0 => SectorState::Clean,
            _ => SectorState::Dirty,
        };
        let left = differ >> within;
        if left != 0 {
            // A run inside the word: the path that nearly every lookup takes.
            let count = u64::from(left.trailing_zeros()) + 1;
            return run(state, start, start + count.min(end - start));
        }
        // What is left of the word shares the state.
        let next = (start | (SECTORS_PER_WORD - 1)) + 1;
        let stop = if next < end {
            self.end_of_run(state, next, end)
        } else {
            end
        };
        run(state, start, stop)
    }

    /// The first run of dirty sectors that starts at or after `from`, cut to end before `until`
    /// or the end of the map.
    #[inline]
    pub fn next_dirty(&self, from: Sector, until: Sector) -> Option<SectorRange> {
        self.next_run(SectorState::Dirty, from, until)
    }

    /// The first run of clean sectors that starts at or after `from`, cut to end before `until`
    /// or the end of the map.
    #[inline]
    pub fn next_clean(&self, from: Sector, until: Sector) -> Option<SectorRange> {
        self.next_run(SectorState::Clean, from, until)
    }

    /// Iterates over the runs of dirty sectors in `range`, each cut to it.
    pub fn dirty_runs(&self, range: SectorRange) -> Runs<'_> {
        Runs::new(self, SectorState::Dirty, range)
    }

    /// Iterates over the runs of clean sectors in `range`, each cut to it.
    pub fn clean_runs(&self, range: SectorRange) -> Runs<'_> {
        Runs::new(self, SectorState::Clean, range)
    }

    #[inline]
    fn next_run(&self, state: SectorState, from: Sector, until: Sector) -> Option<SectorRange> {
        let end = Sector(until.0.min(self.sectors));
        if from >= end {
            return None;
        }
        let page = page_of(from.0);
        if let PageRef::Mixed(words) = self.pages.get(page)
            && let Some(found) = words.next_in_word(state, offset_of(from.0))
        {
            let start = Sector(page_start(page) + u64::from(found.start));
            let stop = Sector(page_start(page) + u64::from(found.end)).min(end);
            return (start < end).then(|| SectorRange::between(start..stop));
        }
        let first = self.run_within(from, end);
        if first.state == state {
            return Some(first.range);
        }
        let start = first.range.end();
        (start < end).then(|| self.run_within(start, end).range)
    }

    /// The first sector from `at` on that is not in `state`, or `end`.
    fn end_of_run(&self, state: SectorState, mut at: u64, end: u64) -> u64 {
        if self.pages.common_state() == Some(state) {
            return end;
        }
        while at < end {
            let page = page_of(at);
            match self.pages.get(page) {
                PageRef::Uniform(found) if found != state => return at,
                PageRef::Uniform(_) => {
                    let last = page_of(end - 1);
                    at = page_start(self.pages.end_of_uniform(state, page + 1, last + 1));
                }
                PageRef::Mixed(words) => {
                    let stop = (end - page_start(page)).min(PAGE_SECTORS);
                    match words.first_not(state, offset_of(at), stop as u32) {
                        Some(offset) => return (page_start(page) + u64::from(offset)).min(end),
                        None => at = page_start(page + 1),
                    }
                }
            }
        }
        end
    }

    /// The number of pages of the map, that is of bitmap pages that the device has.
    pub fn pages(&self) -> usize {
        self.pages.len()
    }

    /// What the sectors of a page have in common. A page past the last one is clean, as the
    /// sectors past the end are: a bitmap can be longer than its map.
    pub fn page_state(&self, page: usize) -> PageState {
        if page >= self.pages.len() {
            return PageState::Clean;
        }
        match self.pages.get(page) {
            PageRef::Uniform(SectorState::Clean) => PageState::Clean,
            PageRef::Uniform(SectorState::Dirty) => PageState::Dirty,
            PageRef::Mixed(_) => PageState::Mixed,
        }
    }

    /// The sectors of a page that exist: fewer than 32768 only in the last.
    #[inline]
    fn sectors_in(&self, page: usize) -> u32 {
        (self.sectors - page_start(page)).min(PAGE_SECTORS) as u32
    }

    #[cold]
    #[inline(never)]
    fn no_such_run(&self, sector: Sector, limit: Sector) -> ! {
        panic!(
            "no run from sector {sector} up to {limit} in a map of {} sectors",
            self.sectors
        );
    }
}

/// A summary: a map of a large device has more pages than anyone reads.
impl fmt::Debug for SectorMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SectorMap")
            .field("sectors", &self.sectors)
            .field("pages", &self.pages.len())
            .field("mixed_pages", &self.pages.mixed_len())
            .field("changed_words", &self.changed.count())
            .finish()
    }
}

fn check_size(sectors: SectorCount) -> Result<(), MapTooLarge> {
    if sectors > MAX_SECTORS {
        return Err(MapTooLarge {
            found: sectors,
            maximum: MAX_SECTORS,
        });
    }
    Ok(())
}

fn pages_of(sectors: SectorCount) -> usize {
    sectors.0.div_ceil(PAGE_SECTORS) as usize
}

#[inline]
fn page_of(sector: u64) -> usize {
    (sector / PAGE_SECTORS) as usize
}

#[inline]
fn offset_of(sector: u64) -> u32 {
    (sector % PAGE_SECTORS) as u32
}

#[inline]
fn page_start(page: usize) -> u64 {
    page as u64 * PAGE_SECTORS
}

#[inline]
fn run(state: SectorState, start: u64, end: u64) -> Run {
    Run {
        state,
        range: SectorRange::new(Sector(start), SectorCount(end - start)),
    }
}
