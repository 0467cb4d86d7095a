//! What of a device was read and written at all, in blocks.
//!
//! A page covers 4096 blocks: 16 MiB of the device at first. Pages of which every block was touched
//! are kept as intervals, so that a request costs the same however long it is; the others have
//! a bit for each block. Of either kind of request there are at most 65,536 pages of 512 bytes and
//! intervals. When there would be more, blocks double in size and pages are folded, so memory stays
//! below 80 MiB and the result says how large its blocks are.

use std::collections::BTreeMap;

use driver::units::SECTOR_SIZE;

use super::super::Record;
use super::WorkingSetSizes;
use crate::intervals::IntervalSet;

/// The size of a block at first: a page of memory.
const FIRST_SECTORS: u64 = 4096 / SECTOR_SIZE;

/// Words of a page's bitmap.
const WORDS: usize = 64;

/// Blocks that a page covers.
const BLOCKS: u64 = WORDS as u64 * 64;

/// The most pages and intervals of one kind of request.
const MAX_ENTRIES: usize = 65_536;

/// The blocks of a page, a bit each.
type Page = [u64; WORDS];

fn ones(page: &Page) -> u64 {
    page.iter().map(|word| u64::from(word.count_ones())).sum()
}

/// The bits `first..end` of a word; `end` is at most 64.
fn mask(first: u64, end: u64) -> u64 {
    let below = |bit: u64| if bit == 64 { u64::MAX } else { (1 << bit) - 1 };
    below(end) & !below(first)
}

/// A set of blocks.
#[derive(Debug, Default)]
struct Blocks {
    /// Pages with all of their blocks.
    full: IntervalSet,
    /// Pages with some of them.
    partial: BTreeMap<u64, Box<Page>>,
}

impl Blocks {
    fn entries(&self) -> usize {
        self.full.intervals() + self.partial.len()
    }

    fn count(&self) -> u64 {
        let partial: u64 = self.partial.values().map(|page| ones(page)).sum();
        self.full.count() * BLOCKS + partial
    }

    /// Adds the blocks from `first` to before `end`. Returns how many of them there were already.
    fn add(&mut self, first: u64, end: u64) -> u64 {
        let (first_whole, end_whole) = (first.div_ceil(BLOCKS), end / BLOCKS);
        if first_whole > end_whole {
            return self.add_to_page(end_whole, first, end);
        }
        let mut had = self.full.insert(first_whole..end_whole) * BLOCKS;
        while let Some((&number, page)) = self.partial.range(first_whole..end_whole).next() {
            had += ones(page);
            self.partial.remove(&number);
        }
        if first < first_whole * BLOCKS {
            had += self.add_to_page(first_whole - 1, first, first_whole * BLOCKS);
        }
        if end_whole * BLOCKS < end {
            had += self.add_to_page(end_whole, end_whole * BLOCKS, end);
        }
        had
    }

    /// Adds blocks that are all of this page.
    fn add_to_page(&mut self, number: u64, first: u64, end: u64) -> u64 {
        if self.full.run_at(number, number + 1).0 {
            return end - first;
        }
        let page = self.partial.entry(number).or_insert_with(new_page);
        let (mut at, mut had) = (first, 0);
        while at < end {
            let word_end = (at / 64 + 1) * 64;
            let bits = mask(at % 64, (end.min(word_end) - 1) % 64 + 1);
            let word = &mut page[(at / 64 % WORDS as u64) as usize];
            had += u64::from((*word & bits).count_ones());
            *word |= bits;
            at = word_end;
        }
        if page.iter().all(|word| *word == u64::MAX) {
            self.partial.remove(&number);
            self.full.insert(number..number + 1);
        }
        had
    }

    /// How many blocks are in both sets.
    fn count_common(&self, other: &Blocks) -> u64 {
        let in_full = self
            .full
            .iter()
            .map(|pages| other.count_in(pages.start, pages.end));
        let in_partial = self.partial.iter().map(|(&number, page)| {
            if other.full.run_at(number, number + 1).0 {
                return ones(page);
            }
            let theirs = other.partial.get(&number);
            theirs.map_or(0, |theirs| {
                let common = std::array::from_fn(|word| page[word] & theirs[word]);
                ones(&common)
            })
        });
        in_full.chain(in_partial).sum()
    }

    /// How many blocks the pages from `first` to before `end` have.
    fn count_in(&self, first: u64, end: u64) -> u64 {
        let (mut at, mut count) = (first, 0);
        while at < end {
            let (is_full, stop) = self.full.run_at(at, end);
            count += u64::from(is_full) * (stop - at) * BLOCKS;
            at = stop;
        }
        let partial = self.partial.range(first..end);
        count + partial.map(|(_, page)| ones(page)).sum::<u64>()
    }

    /// Makes blocks twice as large, so that two pages become one.
    fn coarsen(&mut self) {
        let old = std::mem::take(self);
        let all = [u64::MAX; WORDS];
        for pages in old.full.iter() {
            // What is full by pairs stays so. A page without its neighbour is half of one.
            let pairs = pages.start.div_ceil(2)..pages.end / 2;
            self.full.insert(pairs);
            if !pages.start.is_multiple_of(2) {
                self.fold(pages.start, &all);
            }
            if !pages.end.is_multiple_of(2) {
                self.fold(pages.end - 1, &all);
            }
        }
        for (number, page) in old.partial {
            self.fold(number, &page);
        }
    }

    /// Adds a page of blocks half as large.
    fn fold(&mut self, number: u64, page: &Page) {
        let half = (number % 2) as usize * WORDS / 2;
        let target = self.partial.entry(number / 2).or_insert_with(new_page);
        for (word, pair) in page.chunks_exact(2).enumerate() {
            target[half + word] |= halve(pair[0]) | halve(pair[1]) << 32;
        }
        if target.iter().all(|word| *word == u64::MAX) {
            self.partial.remove(&(number / 2));
            self.full.insert(number / 2..number / 2 + 1);
        }
    }
}

fn new_page() -> Box<Page> {
    Box::new([0; WORDS])
}

/// Counts what was touched.
#[derive(Debug)]
pub(super) struct WorkingSet {
    block_sectors: u64,
    read: Blocks,
    written: Blocks,
    sectors_overwritten: u64,
}

impl Default for WorkingSet {
    fn default() -> WorkingSet {
        WorkingSet {
            block_sectors: FIRST_SECTORS,
            read: Blocks::default(),
            written: Blocks::default(),
            sectors_overwritten: 0,
        }
    }
}

impl WorkingSet {
    /// The blocks of a record, first and end.
    fn blocks(&self, record: &Record) -> (u64, u64) {
        let first = record.start.0 / self.block_sectors;
        (first, record.end().0.div_ceil(self.block_sectors))
    }

    pub(super) fn read(&mut self, record: &Record) {
        let (first, end) = self.blocks(record);
        self.read.add(first, end);
        self.keep_bound();
    }

    pub(super) fn written(&mut self, record: &Record) {
        let (first, end) = self.blocks(record);
        let had = self.written.add(first, end);
        // A record that is shorter than its blocks has overwritten no more than itself.
        let sectors = had.saturating_mul(self.block_sectors).min(record.count.0);
        self.sectors_overwritten = self.sectors_overwritten.saturating_add(sectors);
        self.keep_bound();
    }

    /// Makes blocks larger as long as there are too many.
    fn keep_bound(&mut self) {
        while self.read.entries().max(self.written.entries()) > MAX_ENTRIES {
            self.block_sectors *= 2;
            self.read.coarsen();
            self.written.coarsen();
        }
    }

    pub(super) fn sectors_overwritten(&self) -> u64 {
        self.sectors_overwritten
    }

    pub(super) fn sizes(&self) -> WorkingSetSizes {
        let block_bytes = self.block_sectors.saturating_mul(SECTOR_SIZE);
        let (read, written) = (self.read.count(), self.written.count());
        let touched = read + written - self.read.count_common(&self.written);
        let bytes = |blocks: u64| blocks.saturating_mul(block_bytes);
        WorkingSetSizes {
            block_bytes,
            touched_bytes: bytes(touched),
            read_bytes: bytes(read),
            written_bytes: bytes(written),
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
        let pages = MAX_ENTRIES as u64 + 10;
        for page in 0..pages {
            set.read(&record(page * apart, 8));
        }
        assert_eq!(set.sizes().block_bytes, 8192);
        assert_eq!(set.sizes().read_bytes, pages * 8192);
        assert!(set.read.entries() <= MAX_ENTRIES);
    }

    #[test]
    fn the_largest_request_costs_no_more_than_the_smallest() {
        let mut set = WorkingSet::default();
        set.written(&record(0, 1 << 54));
        assert_eq!(set.written.entries(), 1);
        let sizes = set.sizes();
        assert_eq!((sizes.block_bytes, sizes.written_bytes), (4096, 1 << 63));
        set.written(&record(0, 1 << 54));
        assert_eq!(set.sectors_overwritten(), 1 << 54);
        // A thousand times that, in no time, and again with a bit missing at either end.
        for n in 0..1000_u64 {
            set.read(&record(8 * n, (1 << 54) - 16 * n));
            set.written(&record(8 * n, (1 << 54) - 16 * n));
        }
        assert_eq!(set.sizes().read_bytes, 1 << 63);
    }

    /// Against a bit for each sector, as it is done by hand: blocks of any size, however they came
    /// to be so large.
    #[test]
    fn a_working_set_is_what_each_block_says_by_itself() {
        // A device of a few pages, and lengths from one block to all of it.
        const SECTORS: u64 = 5 * BLOCKS * FIRST_SECTORS;
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        for _ in 0..20 {
            let mut set = WorkingSet::default();
            let blocks = (SECTORS / FIRST_SECTORS) as usize;
            let mut by_hand = [vec![false; blocks], vec![false; blocks]];
            let (mut overwritten, mut sectors) = (0, FIRST_SECTORS);
            for step in 0..60 {
                let start = random(SECTORS);
                let most = SECTORS - start;
                let magnitude = random(4) as usize;
                let longest = 1 + random([9, 600, 40_000, SECTORS][magnitude]);
                let record = record(start, longest.min(most));
                let kind = random(2) as usize;
                let (first, end) = (start / sectors, record.end().0.div_ceil(sectors));
                let part = &mut by_hand[kind][first as usize..end as usize];
                let had = part.iter().filter(|is_in| **is_in).count() as u64 * sectors;
                part.fill(true);
                match kind {
                    0 => set.read(&record),
                    _ => {
                        set.written(&record);
                        overwritten += had.min(record.count.0);
                    }
                }
                if step % 20 == 19 {
                    sectors *= 2;
                    set.block_sectors *= 2;
                    for (kind, blocks) in [&mut set.read, &mut set.written].into_iter().enumerate()
                    {
                        blocks.coarsen();
                        let pairs = by_hand[kind].chunks(2);
                        let halved = pairs.map(|pair| pair.contains(&true)).collect();
                        by_hand[kind] = halved;
                    }
                }
                let count = |kind: &Vec<bool>| {
                    kind.iter().filter(|is_in| **is_in).count() as u64 * sectors * 512
                };
                let [read, written] = &by_hand;
                let both: Vec<bool> = read.iter().zip(written).map(|(a, b)| *a || *b).collect();
                let sizes = set.sizes();
                let found = (sizes.read_bytes, sizes.written_bytes, sizes.touched_bytes);
                assert_eq!(found, (count(read), count(written), count(&both)));
                assert_eq!(set.sectors_overwritten(), overwritten);
            }
        }
    }
}
