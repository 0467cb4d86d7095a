//! What is compared: everything that can say which sectors are dirty, each by the means
//! that its own interface offers.

use driver::cow::{PAGE_BYTES, SectorMap, SectorState};
use driver::units::{Sector, SectorCount, SectorRange};
use fixedbitset::FixedBitSet;
use hi_sparse_bitset::iter::IndexCursor;
use hi_sparse_bitset::{BitSet, config::_128bit};
use roaring::RoaringBitmap;

/// How many runs there are, and sectors in them: what a scan of a map comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Runs of consecutive sectors.
    pub runs: u64,
    /// Sectors in all of them.
    pub sectors: u64,
}

/// A set of dirty sectors.
pub trait Candidate: Clone + Sized {
    /// Its name in a row.
    const NAME: &'static str;

    /// Whether it is somebody else's work that we compare with, in contrast to what we
    /// have moved on from.
    const IS_PEER: bool;

    /// The set that a bitmap describes; `None` if it cannot hold that many.
    fn build(bitmap: &[u64]) -> Option<Self>;

    /// An empty set for `sectors` sectors, made as its own interface has it.
    fn empty(sectors: u64) -> Option<Self>;

    /// Whether a sector is dirty.
    fn state(&self, sector: u64) -> bool;

    /// Whether a sector is dirty, and how many sectors from there up to `limit` share the state.
    fn run(&self, sector: u64, limit: u64) -> (bool, u64);

    /// Goes through all runs of dirty sectors.
    fn scan_dirty(&self, sectors: u64) -> Scanned;

    /// Goes through all runs of clean sectors.
    fn scan_clean(&self, sectors: u64) -> Scanned;

    /// Makes eight sectors dirty: a request of 4 KiB.
    fn mark(&mut self, sector: u64);

    /// Makes eight sectors dirty, and notes in `changed`, a set of this kind, which word of 64
    /// sectors this changes: what a driver has to know that writes its bitmap back.
    fn mark_and_note(&mut self, changed: &mut Self, sector: u64);
}

/// The sectors of a request of 4 KiB.
pub const REQUEST: u64 = 8;

impl Candidate for SectorMap {
    const NAME: &'static str = "ubdlab";
    const IS_PEER: bool = false;

    fn build(bitmap: &[u64]) -> Option<Self> {
        let mut map = SectorMap::new(SectorCount(bitmap.len() as u64 * 64)).ok()?;
        let mut bytes = Vec::with_capacity(PAGE_BYTES);
        for (page, words) in bitmap.chunks(PAGE_BYTES / 8).enumerate() {
            bytes.clear();
            bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            map.load_page(page, &bytes);
        }
        Some(map)
    }

    fn empty(sectors: u64) -> Option<Self> {
        SectorMap::new(SectorCount(sectors)).ok()
    }

    #[inline]
    fn state(&self, sector: u64) -> bool {
        self.is_dirty(Sector(sector))
    }

    #[inline]
    fn run(&self, sector: u64, limit: u64) -> (bool, u64) {
        let run = self.run_within(Sector(sector), Sector(limit));
        (run.state == SectorState::Dirty, run.range.count.0)
    }

    fn scan_dirty(&self, sectors: u64) -> Scanned {
        let whole = SectorRange::new(Sector(0), SectorCount(sectors));
        counted(self.dirty_runs(whole))
    }

    fn scan_clean(&self, sectors: u64) -> Scanned {
        let whole = SectorRange::new(Sector(0), SectorCount(sectors));
        counted(self.clean_runs(whole))
    }

    #[inline]
    fn mark(&mut self, sector: u64) {
        self.mark_dirty(SectorRange::new(Sector(sector), SectorCount(REQUEST)));
    }

    /// It always notes.
    #[inline]
    fn mark_and_note(&mut self, _: &mut Self, sector: u64) {
        self.mark(sector);
    }
}

fn counted(runs: impl Iterator<Item = SectorRange>) -> Scanned {
    let mut scanned = Scanned::default();
    runs.for_each(|run| {
        scanned.runs += 1;
        scanned.sectors += run.count.0;
    });
    scanned
}

/// The original driver's way: one flat bitmap in memory, asked bit by bit.
#[derive(Clone, Debug)]
pub struct BitByBit(Vec<u64>);

impl BitByBit {
    fn scan(&self, sectors: u64, wanted: bool) -> Scanned {
        let mut scanned = Scanned::default();
        let mut sector = 0;
        while sector < sectors {
            let (state, count) = self.run(sector, sectors);
            if state == wanted {
                scanned.runs += 1;
                scanned.sectors += count;
            }
            sector += count;
        }
        scanned
    }
}

impl Candidate for BitByBit {
    const NAME: &'static str = "bit by bit";
    const IS_PEER: bool = false;

    fn build(bitmap: &[u64]) -> Option<Self> {
        Some(BitByBit(bitmap.to_vec()))
    }

    fn empty(sectors: u64) -> Option<Self> {
        Some(BitByBit(vec![0; sectors.div_ceil(64) as usize]))
    }

    #[inline]
    fn state(&self, sector: u64) -> bool {
        self.0[(sector / 64) as usize] >> (sector % 64) & 1 != 0
    }

    #[inline]
    fn run(&self, sector: u64, limit: u64) -> (bool, u64) {
        let state = self.state(sector);
        let mut end = sector + 1;
        while end < limit && self.state(end) == state {
            end += 1;
        }
        (state, end - sector)
    }

    fn scan_dirty(&self, sectors: u64) -> Scanned {
        self.scan(sectors, true)
    }

    fn scan_clean(&self, sectors: u64) -> Scanned {
        self.scan(sectors, false)
    }

    #[inline]
    fn mark(&mut self, sector: u64) {
        for sector in sector..sector + REQUEST {
            self.0[(sector / 64) as usize] |= 1 << (sector % 64);
        }
    }

    #[inline]
    fn mark_and_note(&mut self, changed: &mut Self, sector: u64) {
        let word = sector / 64;
        let before = self.0[word as usize];
        self.mark(sector);
        if self.0[word as usize] != before {
            changed.0[(word / 64) as usize] |= 1 << (word % 64);
        }
    }
}

/// It has no question for a run, so a run is asked bit by bit; whole scans use its
/// iterators.
impl Candidate for FixedBitSet {
    const NAME: &'static str = "fixedbitset";
    const IS_PEER: bool = true;

    fn build(bitmap: &[u64]) -> Option<Self> {
        let blocks = bitmap.iter().map(|&word| word as usize);
        Some(FixedBitSet::with_capacity_and_blocks(
            bitmap.len() * 64,
            blocks,
        ))
    }

    #[inline]
    fn state(&self, sector: u64) -> bool {
        self.contains(sector as usize)
    }

    #[inline]
    fn run(&self, sector: u64, limit: u64) -> (bool, u64) {
        let state = self.state(sector);
        let mut end = sector + 1;
        while end < limit && self.state(end) == state {
            end += 1;
        }
        (state, end - sector)
    }

    fn scan_dirty(&self, _: u64) -> Scanned {
        joined(self.ones())
    }

    fn scan_clean(&self, _: u64) -> Scanned {
        joined(self.zeroes())
    }

    fn empty(sectors: u64) -> Option<Self> {
        Some(FixedBitSet::with_capacity(sectors as usize))
    }

    #[inline]
    fn mark(&mut self, sector: u64) {
        self.insert_range(sector as usize..(sector + REQUEST) as usize);
    }

    #[inline]
    fn mark_and_note(&mut self, changed: &mut Self, sector: u64) {
        let request = sector as usize..(sector + REQUEST) as usize;
        if !self.contains_all_in_range(request.clone()) {
            self.insert_range(request);
            changed.insert((sector / 64) as usize);
        }
    }
}

/// The runs that ascending numbers form.
fn joined(numbers: impl Iterator<Item = usize>) -> Scanned {
    let mut scanned = Scanned::default();
    let mut next = usize::MAX;
    for number in numbers {
        scanned.runs += u64::from(number != next);
        scanned.sectors += 1;
        next = number + 1;
    }
    scanned
}

/// The runs between those of an iterator, up to `sectors`.
fn between(runs: impl Iterator<Item = (u64, u64)>, sectors: u64) -> Scanned {
    let mut scanned = Scanned::default();
    let mut at = 0;
    for (start, end) in runs.chain([(sectors, sectors)]) {
        scanned.runs += u64::from(start > at);
        scanned.sectors += start - at;
        at = end;
    }
    scanned
}

fn roaring_runs(set: &RoaringBitmap) -> impl Iterator<Item = (u64, u64)> + '_ {
    let mut iter = set.iter();
    // It ends a run where one of its containers does.
    let mut next = iter.next_range();
    std::iter::from_fn(move || {
        let (start, mut end) = next.take()?.into_inner();
        next = iter.next_range();
        while let Some(more) = next.take_if(|more| end.checked_add(1) == Some(*more.start())) {
            end = *more.end();
            next = iter.next_range();
        }
        Some((u64::from(start), u64::from(end) + 1))
    })
}

impl Candidate for RoaringBitmap {
    const NAME: &'static str = "roaring";
    const IS_PEER: bool = true;

    fn build(bitmap: &[u64]) -> Option<Self> {
        let mut set = RoaringBitmap::new();
        // It takes fewer than 2^32 bits at a time.
        const PIECE: usize = 1 << 20;
        for (piece, words) in bitmap.chunks(PIECE).enumerate() {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let offset = u32::try_from(piece * PIECE * 64).ok()?;
            set |= RoaringBitmap::from_lsb0_bytes(offset, &bytes);
        }
        set.optimize();
        Some(set)
    }

    #[inline]
    fn state(&self, sector: u64) -> bool {
        self.contains(sector as u32)
    }

    #[inline]
    fn run(&self, sector: u64, limit: u64) -> (bool, u64) {
        let from = sector as u32;
        let mut iter = self.range(from..);
        match iter.next_range().map(std::ops::RangeInclusive::into_inner) {
            Some((start, mut end)) if start == from => {
                while let Some(more) = iter
                    .next_range()
                    .filter(|more| end.checked_add(1) == Some(*more.start()))
                {
                    end = *more.end();
                }
                (true, (u64::from(end) + 1).min(limit) - sector)
            }
            Some((start, _)) => (false, u64::from(start).min(limit) - sector),
            None => (false, limit - sector),
        }
    }

    fn scan_dirty(&self, _: u64) -> Scanned {
        let mut scanned = Scanned::default();
        for (start, end) in roaring_runs(self) {
            scanned.runs += 1;
            scanned.sectors += end - start;
        }
        scanned
    }

    fn scan_clean(&self, sectors: u64) -> Scanned {
        between(roaring_runs(self), sectors)
    }

    fn empty(_: u64) -> Option<Self> {
        Some(RoaringBitmap::new())
    }

    #[inline]
    fn mark(&mut self, sector: u64) {
        self.insert_range(sector as u32..=(sector + REQUEST - 1) as u32);
    }

    #[inline]
    fn mark_and_note(&mut self, changed: &mut Self, sector: u64) {
        if self.insert_range(sector as u32..=(sector + REQUEST - 1) as u32) > 0 {
            changed.insert((sector / 64) as u32);
        }
    }
}

/// The hierarchical set of 128-bit blocks: as many sectors as 1 GiB has, exactly.
#[derive(Clone)]
pub struct HiSparse(BitSet<_128bit>);

impl HiSparse {
    fn next(&self, sector: u64) -> Option<u64> {
        let cursor = IndexCursor::from(sector as usize);
        // The cursor's block may have nothing from there on; the iterator then goes on.
        let mut iter = self.0.iter().move_to(cursor);
        iter.next().map(|found| found as u64)
    }
}

impl Candidate for HiSparse {
    const NAME: &'static str = "hi_sparse_bitset";
    const IS_PEER: bool = true;

    fn build(bitmap: &[u64]) -> Option<Self> {
        if bitmap.len() * 64 > BitSet::<_128bit>::max_capacity() {
            return None;
        }
        let mut set = BitSet::new();
        for (index, &word) in bitmap.iter().enumerate() {
            let mut rest = word;
            while rest != 0 {
                set.insert(index * 64 + rest.trailing_zeros() as usize);
                rest &= rest - 1;
            }
        }
        Some(HiSparse(set))
    }

    fn empty(sectors: u64) -> Option<Self> {
        let most = BitSet::<_128bit>::max_capacity() as u64;
        (sectors <= most).then(|| HiSparse(BitSet::new()))
    }

    #[inline]
    fn state(&self, sector: u64) -> bool {
        self.0.contains(sector as usize)
    }

    #[inline]
    fn run(&self, sector: u64, limit: u64) -> (bool, u64) {
        if !self.state(sector) {
            let next = self.next(sector).unwrap_or(limit);
            return (false, next.min(limit) - sector);
        }
        let mut end = sector + 1;
        while end < limit && self.state(end) {
            end += 1;
        }
        (true, end - sector)
    }

    fn scan_dirty(&self, _: u64) -> Scanned {
        joined(self.0.iter())
    }

    fn scan_clean(&self, sectors: u64) -> Scanned {
        let runs = self.0.iter().map(|at| (at as u64, at as u64 + 1));
        between(runs, sectors)
    }

    #[inline]
    fn mark(&mut self, sector: u64) {
        for sector in sector..sector + REQUEST {
            self.0.insert(sector as usize);
        }
    }

    #[inline]
    fn mark_and_note(&mut self, changed: &mut Self, sector: u64) {
        let known = (sector..sector + REQUEST).all(|sector| self.state(sector));
        if !known {
            self.mark(sector);
            changed.0.insert((sector / 64) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::lookup::content::Content;
    use crate::random::SplitMix64;

    /// Each answers as the slow and obvious one does.
    fn agrees_with_bit_by_bit<C: Candidate>() {
        for content in Content::ALL {
            let bitmap = content.bitmap(SectorCount(1 << 18));
            let sectors = bitmap.len() as u64 * 64;
            let (mut ours, mut slow) = (
                C::build(&bitmap).expect("it is small"),
                BitByBit::build(&bitmap).expect("it takes all"),
            );
            let mut changed = C::empty(sectors).expect("it is small");
            let mut slow_changed = BitByBit::empty(sectors).expect("it takes all");
            let mut random = SplitMix64(3);
            for _ in 0..200 {
                let sector = random.below(sectors);
                assert_eq!(ours.state(sector), slow.state(sector));
                let limit = (sector + 1 + random.below(1000)).min(sectors);
                assert_eq!(ours.run(sector, limit), slow.run(sector, limit));
                assert_eq!(ours.run(sector, sectors), slow.run(sector, sectors));
                let sector = sector / REQUEST * REQUEST;
                let (noted, slow_noted) = (&mut changed, &mut slow_changed);
                ours.mark_and_note(noted, sector);
                slow.mark_and_note(slow_noted, sector);
                let sector = random.below(sectors) / REQUEST * REQUEST;
                ours.mark(sector);
                slow.mark(sector);
            }
            if C::IS_PEER {
                let (words, slow_words) = (
                    changed.scan_dirty(sectors),
                    slow_changed.scan_dirty(sectors),
                );
                assert_eq!(words, slow_words);
            }
            assert_eq!(ours.scan_dirty(sectors), slow.scan_dirty(sectors));
            assert_eq!(ours.scan_clean(sectors), slow.scan_clean(sectors));
        }
    }

    #[test]
    fn ours_agrees() {
        agrees_with_bit_by_bit::<SectorMap>();
    }

    #[test]
    fn fixedbitset_agrees() {
        agrees_with_bit_by_bit::<FixedBitSet>();
    }

    #[test]
    fn roaring_agrees() {
        agrees_with_bit_by_bit::<RoaringBitmap>();
    }

    #[test]
    fn hi_sparse_bitset_agrees() {
        agrees_with_bit_by_bit::<HiSparse>();
    }
}
