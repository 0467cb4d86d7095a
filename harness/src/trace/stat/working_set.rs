//! What of a device was read and written at all, in a sparse bitmap of blocks.
//!
//! A page of the bitmap covers 4096 blocks: 16 MiB of the device at first. There are at most
//! 65,536 pages of 1 KiB. When there would be more, blocks double in size and the pages are
//! folded, so memory stays below 70 MiB and the result says how large its blocks are.

use std::collections::BTreeMap;

use driver::units::SECTOR_SIZE;

use super::super::Record;
use super::WorkingSetSizes;

/// The size of a block at first: a page of memory.
const FIRST_SECTORS: u64 = 4096 / SECTOR_SIZE;

/// Words of a page's bitmap.
const WORDS: usize = 64;

/// Blocks that a page covers.
const BLOCKS: u64 = WORDS as u64 * 64;

/// The most pages.
const MAX_PAGES: u64 = 65_536;

/// The blocks of a page, a bit each.
#[derive(Clone, Debug)]
struct Page {
    read: [u64; WORDS],
    written: [u64; WORDS],
}

impl Default for Page {
    fn default() -> Page {
        Page {
            read: [0; WORDS],
            written: [0; WORDS],
        }
    }
}

/// Counts what was touched.
#[derive(Debug)]
pub(super) struct WorkingSet {
    block_sectors: u64,
    pages: BTreeMap<u64, Box<Page>>,
    sectors_overwritten: u64,
}

impl Default for WorkingSet {
    fn default() -> WorkingSet {
        WorkingSet {
            block_sectors: FIRST_SECTORS,
            pages: BTreeMap::new(),
            sectors_overwritten: 0,
        }
    }
}

/// The bits `first..end` of a word; `end` is at most 64.
fn mask(first: u64, end: u64) -> u64 {
    let below = |bit: u64| if bit == 64 { u64::MAX } else { (1 << bit) - 1 };
    below(end) & !below(first)
}

impl WorkingSet {
    /// The blocks of a record, first and end. Blocks become as large as it takes for all of
    /// their pages to have room.
    fn blocks(&mut self, record: &Record) -> (u64, u64) {
        loop {
            let first = record.start.0 / self.block_sectors;
            let end = record.end().0.div_ceil(self.block_sectors);
            let pages = end.div_ceil(BLOCKS) - first / BLOCKS;
            if pages <= MAX_PAGES {
                return (first, end);
            }
            self.coarsen();
        }
    }

    /// Sets the bits of a record and returns how many sectors the blocks have that had theirs
    /// before. `words` says which of a page's bitmaps.
    fn set(&mut self, record: &Record, words: impl Fn(&mut Page) -> &mut [u64; WORDS]) -> u64 {
        let (first, end) = self.blocks(record);
        let (mut at, mut had) = (first, 0);
        while at < end {
            let page = self.pages.entry(at / BLOCKS).or_default();
            let page_end = (at / BLOCKS + 1) * BLOCKS;
            let words = words(page);
            while at < end.min(page_end) {
                let word_end = (at / 64 + 1) * 64;
                let bits = mask(at % 64, (end.min(word_end) - 1) % 64 + 1);
                let word = &mut words[(at / 64 % WORDS as u64) as usize];
                had += u64::from((*word & bits).count_ones());
                *word |= bits;
                at = word_end;
            }
        }
        let had = had.saturating_mul(self.block_sectors);
        while self.pages.len() as u64 > MAX_PAGES {
            self.coarsen();
        }
        had
    }

    pub(super) fn read(&mut self, record: &Record) {
        self.set(record, |page| &mut page.read);
    }

    pub(super) fn written(&mut self, record: &Record) {
        let had = self.set(record, |page| &mut page.written);
        // A record that is shorter than its blocks has overwritten no more than itself.
        let sectors = had.min(record.count.0);
        self.sectors_overwritten = self.sectors_overwritten.saturating_add(sectors);
    }

    /// Makes blocks twice as large.
    fn coarsen(&mut self) {
        self.block_sectors *= 2;
        let mut folded = BTreeMap::<u64, Box<Page>>::new();
        for (number, page) in std::mem::take(&mut self.pages) {
            let half = (number % 2) as usize * WORDS / 2;
            let target = folded.entry(number / 2).or_default();
            let fold = |from: &[u64; WORDS], to: &mut [u64; WORDS]| {
                for (word, pair) in from.chunks_exact(2).enumerate() {
                    to[half + word] |= halve(pair[0]) | halve(pair[1]) << 32;
                }
            };
            fold(&page.read, &mut target.read);
            fold(&page.written, &mut target.written);
        }
        self.pages = folded;
    }

    pub(super) fn sectors_overwritten(&self) -> u64 {
        self.sectors_overwritten
    }

    pub(super) fn sizes(&self) -> WorkingSetSizes {
        let block_bytes = self.block_sectors.saturating_mul(SECTOR_SIZE);
        let count = |bits: fn(&Page, usize) -> u64| {
            let words = |page: &Page| -> u64 {
                let ones = |word| u64::from(bits(page, word).count_ones());
                (0..WORDS).map(ones).sum()
            };
            let blocks: u64 = self.pages.values().map(|page| words(page)).sum();
            blocks.saturating_mul(block_bytes)
        };
        WorkingSetSizes {
            block_bytes,
            touched_bytes: count(|page, word| page.read[word] | page.written[word]),
            read_bytes: count(|page, word| page.read[word]),
            written_bytes: count(|page, word| page.written[word]),
        }
    }
}

/// Of each two neighbouring bits, whether one is set: 32 bits.
fn halve(word: u64) -> u64 {
    let mut bits = (word | word >> 1) & 0x5555_5555_5555_5555;
    for (shift, kept) in [
        (1, 0x3333_3333_3333_3333),
        (2, 0x0f0f_0f0f_0f0f_0f0f),
        (4, 0x00ff_00ff_00ff_00ff),
        (8, 0x0000_ffff_0000_ffff),
        (16, 0x0000_0000_ffff_ffff),
    ] {
        bits = (bits | bits >> shift) & kept;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Nanoseconds, TraceOperation};
    use driver::units::{Sector, SectorCount};

    fn record(start: u64, count: u64) -> Record {
        Record {
            time: Nanoseconds(0),
            operation: TraceOperation::Write,
            preflush: false,
            fua: false,
            start: Sector(start),
            count: SectorCount(count),
        }
    }

    #[test]
    fn bits_are_halved_pairwise() {
        assert_eq!(halve(0), 0);
        assert_eq!(halve(u64::MAX), u64::from(u32::MAX));
        for bit in 0..64 {
            assert_eq!(halve(1 << bit), 1 << (bit / 2), "bit {bit}");
        }
        assert_eq!(mask(0, 64), u64::MAX);
        assert_eq!(mask(3, 5), 0b11000);
    }

    #[test]
    fn blocks_are_counted_once_and_overwrites_each_time() {
        let mut set = WorkingSet::default();
        set.written(&record(0, 8));
        set.written(&record(4, 8));
        set.read(&record(8 * 63, 16));
        set.read(&record(8 * 4095, 16));
        let sizes = set.sizes();
        assert_eq!(sizes.block_bytes, 4096);
        assert_eq!((sizes.written_bytes, sizes.read_bytes), (8192, 16384));
        assert_eq!(sizes.touched_bytes, 24576);
        // The second write shares one block with the first.
        assert_eq!(set.sectors_overwritten(), 8);
    }

    #[test]
    fn blocks_grow_when_there_are_too_many_and_nothing_is_forgotten() {
        let mut set = WorkingSet::default();
        let apart = BLOCKS * FIRST_SECTORS;
        for page in 0..MAX_PAGES + 10 {
            set.read(&record(page * apart, 8));
        }
        assert_eq!(set.sizes().block_bytes, 8192);
        assert_eq!(set.sizes().read_bytes, (MAX_PAGES + 10) * 8192);
        assert!(set.pages.len() as u64 <= MAX_PAGES);
    }

    #[test]
    fn the_largest_request_takes_no_more_than_the_bound() {
        let mut set = WorkingSet::default();
        set.written(&record(0, 1 << 54));
        assert!(set.pages.len() as u64 <= MAX_PAGES);
        assert_eq!(set.sizes().written_bytes, 1 << 63);
        set.written(&record(0, 1 << 54));
        assert_eq!(set.sectors_overwritten(), 1 << 54);
    }
}
