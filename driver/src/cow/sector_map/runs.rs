//! Iterating over the runs of one state: for whoever goes through a map, or a part of it.
//!
//! A lookup begins at a sector and knows nothing else. An iterator looks for the two kinds of
//! change in a bitmap, a run that begins and a run that ends, and a word yields all of its
//! own at once, as bits. Beginnings and ends are taken from two words, one after the other,
//! so that a run costs the same few instructions however long it is. Words without a change
//! are told from the others a block at a time.

use std::iter::FusedIterator;

use multiversion::multiversion;

use super::page::{BLOCKS_PER_PAGE, Block, SECTORS_PER_WORD, WORDS_PER_BLOCK};
use super::page_table::PageRef;
use super::{PAGE_SECTORS, SectorMap, SectorState, offset_of, page_of, page_start};
use crate::units::{Sector, SectorRange};

const BLOCK_SECTORS: u64 = WORDS_PER_BLOCK as u64 * SECTORS_PER_WORD;

/// Iterator over the runs of sectors in one state; see [`SectorMap::dirty_runs`] and
/// [`SectorMap::clean_runs`].
#[derive(Clone)]
pub struct Runs<'a> {
    map: &'a SectorMap,
    /// The state of the runs: in words of it, turned by this, its sectors are the ones.
    wanted: SectorState,
    /// The blocks from here on have not been looked at.
    next: u64,
    end: u64,
    /// Whether the sector before `next` is in the wanted state.
    inside: bool,
    block: Option<BlockUnderWay<'a>>,
    word: WordUnderWay,
    /// Where the run begins that has not ended yet.
    open: Option<u64>,
}

/// A block of a mixed page, and which of its words are still to be looked at.
#[derive(Clone)]
struct BlockUnderWay<'a> {
    words: &'a Block,
    /// Its first sector.
    start: u64,
    /// The word before it, turned: all its bits are the last one's.
    before: u64,
    /// Words that have changes and were not begun yet, as bits.
    changed: u64,
}

/// The changes of a word that are still to be told, as bits.
#[derive(Clone, Default)]
struct WordUnderWay {
    /// Its first sector.
    base: u64,
    /// Sectors with which a run begins, but for that of the open one.
    begins: u64,
    /// Sectors before which a run ends.
    ends: u64,
}

impl<'a> Runs<'a> {
    pub(super) fn new(map: &'a SectorMap, wanted: SectorState, range: SectorRange) -> Runs<'a> {
        let start = range.start.0;
        let end = start.saturating_add(range.count.0).min(map.sectors);
        let mut runs = Runs {
            map,
            wanted,
            next: start,
            end,
            inside: false,
            block: None,
            word: WordUnderWay::default(),
            open: None,
        };
        // A map known whole has one run or none.
        if let Some(state) = map.pages.common_state() {
            runs.open = (state == wanted).then_some(start);
            runs.next = end.max(start);
        }
        runs
    }

    /// Goes on to the next word with a change; `false` if there is none.
    #[inline(always)]
    fn next_word(&mut self) -> bool {
        loop {
            if let Some(block) = &mut self.block
                && block.changed != 0
            {
                let index = block.changed.trailing_zeros() as usize % WORDS_PER_BLOCK;
                block.changed &= block.changed - 1;
                let before = match index.checked_sub(1) {
                    Some(index) => block.words[index] ^ turn(self.wanted),
                    None => block.before,
                };
                let word = block.words[index] ^ turn(self.wanted);
                let base = block.start + index as u64 * SECTORS_PER_WORD;
                self.begin(word, before, base);
                return true;
            }
            if self.next >= self.end {
                return false;
            }
            if self.next_block() {
                return true;
            }
        }
    }

    /// Takes the changes of a word, given the one before it, and opens the first run that
    /// begins in it unless one is open.
    #[inline(always)]
    fn begin(&mut self, word: u64, before: u64, base: u64) {
        let shifted = word << 1 | before >> 63;
        self.word = WordUnderWay {
            base,
            begins: word & !shifted,
            ends: !word & shifted,
        };
        if self.open.is_none() {
            self.open = self.word.take_begin();
        }
    }

    /// Goes on to the next block or uniform page; `true` if that is a change by itself.
    #[inline(always)]
    fn next_block(&mut self) -> bool {
        let at = self.next;
        let page = page_of(at);
        match self.map.pages.get(page) {
            PageRef::Uniform(state) => {
                let inside = state == self.wanted;
                let last = page_of(self.end - 1);
                let other = self.map.pages.end_of_uniform(state, page, last + 1);
                self.next = page_start(other).min(self.end);
                let changes = inside != self.inside;
                if changes {
                    self.begin(all(inside), all(self.inside), at);
                }
                self.inside = inside;
                changes
            }
            PageRef::Mixed(words) => {
                let start = at / BLOCK_SECTORS * BLOCK_SECTORS;
                let index = (offset_of(start) / BLOCK_SECTORS as u32) as usize % BLOCKS_PER_PAGE;
                let words = &words.blocks()[index];
                let before = all(self.inside);
                self.next = start + BLOCK_SECTORS;
                let mut changed = words_with_changes(words, self.wanted, before);
                self.inside = (words[WORDS_PER_BLOCK - 1] ^ turn(self.wanted)) >> 63 != 0;
                if self.next > self.end {
                    // Words from the end on.
                    let count = (self.end - start).div_ceil(SECTORS_PER_WORD);
                    changed &= !u64::MAX.checked_shl(count as u32).unwrap_or(0);
                }
                let first = at - start;
                if first == 0 {
                    self.block = Some(BlockUnderWay {
                        words,
                        start,
                        before,
                        changed,
                    });
                    return false;
                }
                // The range begins within the block: what comes before it does not count.
                let index = (first / SECTORS_PER_WORD) as usize;
                self.block = Some(BlockUnderWay {
                    words,
                    start,
                    before,
                    changed: changed & (u64::MAX << index << 1),
                });
                let word =
                    (words[index] ^ turn(self.wanted)) & (u64::MAX << (first % SECTORS_PER_WORD));
                self.begin(word, 0, start + index as u64 * SECTORS_PER_WORD);
                true
            }
        }
    }

    /// The run that goes on to the end of the range, if there is one.
    fn remainder(&mut self) -> Option<SectorRange> {
        let start = self.open.take().filter(|&start| start < self.end)?;
        Some(SectorRange::between(Sector(start)..Sector(self.end)))
    }
}

impl WordUnderWay {
    #[inline]
    fn take_begin(&mut self) -> Option<u64> {
        let begin = self.base + u64::from(self.begins.trailing_zeros());
        let any = self.begins != 0;
        self.begins &= self.begins.wrapping_sub(1);
        any.then_some(begin)
    }

    #[inline]
    fn take_end(&mut self) -> Option<u64> {
        let end = self.base + u64::from(self.ends.trailing_zeros());
        let any = self.ends != 0;
        self.ends &= self.ends.wrapping_sub(1);
        any.then_some(end)
    }
}

impl Iterator for Runs<'_> {
    type Item = SectorRange;

    #[inline]
    fn next(&mut self) -> Option<SectorRange> {
        loop {
            if let Some(start) = self.open
                && let Some(stop) = self.word.take_end()
            {
                self.open = self.word.take_begin();
                if stop >= self.end {
                    self.open = Some(start);
                    self.word.ends = 0;
                    self.next = self.end;
                    self.block = None;
                    return self.remainder();
                }
                return Some(SectorRange::between(Sector(start)..Sector(stop)));
            }
            if !self.next_word() {
                return self.remainder();
            }
        }
    }

    /// What `for_each`, `sum` and their kin come down to: within a word everything stays in
    /// registers, which a call for each run does not allow.
    #[inline]
    fn fold<B, F: FnMut(B, SectorRange) -> B>(mut self, init: B, mut f: F) -> B {
        if self.next >= self.end && self.block.is_none() && self.word.ends == 0 {
            return match self.remainder() {
                Some(run) => f(init, run),
                None => init,
            };
        }
        fold(self, init, f)
    }
}

/// All runs, one after the other; compiled once more for processors of the last ten years,
/// which compare four words at a time.
#[multiversion(targets("x86_64+avx2+bmi1+bmi2+lzcnt+popcnt"))]
fn fold<B, F: FnMut(B, SectorRange) -> B>(mut runs: Runs<'_>, init: B, mut f: F) -> B {
    let mut result = init;
    loop {
        let WordUnderWay {
            base,
            mut begins,
            mut ends,
        } = runs.word;
        if let Some(open) = runs.open {
            let mut start = open;
            let mut is_open = true;
            while ends != 0 {
                let stop = base + u64::from(ends.trailing_zeros());
                if stop >= runs.end {
                    runs.open = Some(start);
                    return match runs.remainder() {
                        Some(run) => f(result, run),
                        None => result,
                    };
                }
                result = f(result, SectorRange::between(Sector(start)..Sector(stop)));
                ends &= ends - 1;
                is_open = begins != 0;
                start = base + u64::from(begins.trailing_zeros());
                begins &= begins.wrapping_sub(1);
            }
            runs.open = is_open.then_some(start);
        }
        if !runs.next_word() {
            return match runs.remainder() {
                Some(run) => f(result, run),
                None => result,
            };
        }
    }
}

impl FusedIterator for Runs<'_> {}

impl std::fmt::Debug for Runs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runs")
            .field("map", self.map)
            .field("wanted", &self.wanted)
            .field("next", &self.next)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

/// A word that is as `inside` says throughout.
#[inline]
fn all(inside: bool) -> u64 {
    if inside { u64::MAX } else { 0 }
}

/// What turns a word so that its ones are the sectors in `wanted`.
#[inline]
fn turn(wanted: SectorState) -> u64 {
    !wanted.word()
}

/// Which words of the block have a change, as bits, the first word's the lowest. `before` is
/// all ones if the sector before the block is in the wanted state.
#[inline(always)]
fn words_with_changes(block: &Block, wanted: SectorState, before: u64) -> u64 {
    let mut found = 0;
    // A word has none if it is what the last bit of the one before it says throughout.
    let mut expected = before ^ turn(wanted);
    for (index, &word) in block.iter().enumerate() {
        found |= u64::from(word != expected) << index;
        expected = ((word as i64) >> 63) as u64;
    }
    found
}

const _: () = assert!(PAGE_SECTORS.is_multiple_of(BLOCK_SECTORS));
