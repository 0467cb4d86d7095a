//! The words of a page with clean and dirty sectors.

use std::ops::Range;

use super::changed::WordSet;
use super::{PAGE_BYTES, SectorState};

/// Sectors in a word of the map.
pub(super) const SECTORS_PER_WORD: u64 = 64;

/// Words in a page.
pub(super) const WORDS_PER_PAGE: usize = PAGE_BYTES / 8;

/// Words that a scan looks at together.
pub(super) const WORDS_PER_GROUP: usize = 8;

const GROUPS_PER_PAGE: usize = WORDS_PER_PAGE / WORDS_PER_GROUP;

/// A bit for each sector of a page. Those of sectors past the end are 0.
#[derive(Clone)]
pub(super) struct PageWords(pub(super) [u64; WORDS_PER_PAGE]);

impl PageWords {
    /// All clean.
    pub(super) const EMPTY: PageWords = PageWords([0; WORDS_PER_PAGE]);

    /// All sectors that exist dirty.
    pub(super) fn full(existing: u32) -> PageWords {
        PageWords(std::array::from_fn(|word| {
            full_word(SectorState::Dirty, word, existing)
        }))
    }

    /// The word that has the sector at `offset`.
    #[inline]
    pub(super) fn word_of(&self, offset: u32) -> u64 {
        self.0[(offset / 64) as usize % WORDS_PER_PAGE]
    }

    /// The state of the sector at `offset`, and how many share it from there on; `None`
    /// if all that follow in the word do, for then the run may go on behind it.
    #[inline]
    pub(super) fn run_in_word(&self, offset: u32) -> (SectorState, Option<u32>) {
        let word = self.word_of(offset);
        // Sectors that differ from the next one; the last has none in this word.
        let differ = (word ^ word >> 1) & (u64::MAX >> 1);
        let left = differ >> (offset % 64);
        let state = match word >> (offset % 64) & 1 {
            0 => SectorState::Clean,
            _ => SectorState::Dirty,
        };
        (state, (left != 0).then(|| left.trailing_zeros() + 1))
    }

    /// The first run in `state` from the sector at `offset` on, provided that it starts
    /// and ends within the word.
    #[inline]
    pub(super) fn next_in_word(&self, state: SectorState, offset: u32) -> Option<Range<u32>> {
        let wanted = (self.word_of(offset) ^ !state.word()) & (u64::MAX << (offset % 64));
        let start = wanted.trailing_zeros();
        let behind = !wanted & u64::MAX.checked_shl(start)?;
        let base = offset & !63;
        (behind != 0).then(|| base + start..base + behind.trailing_zeros())
    }

    /// The first sector of `from..until` that is not in `state`. May also answer with a
    /// later one of the last word, never with one past the page.
    pub(super) fn first_not(&self, state: SectorState, from: u32, until: u32) -> Option<u32> {
        let same = state.word();
        let first = (from / 64) as usize;
        let words = &self.0[first..until.div_ceil(64) as usize];
        let (&word, rest) = words.split_first()?;
        let differ = (word ^ same) & (u64::MAX << (from % 64));
        if differ != 0 {
            return Some(first as u32 * 64 + differ.trailing_zeros());
        }
        // Some words at a time without an early exit, which the compiler makes vectors of.
        const BLOCK: usize = 4;
        let differs = |found, &word: &u64| found | (word ^ same);
        let passed = BLOCK
            * rest
                .chunks_exact(BLOCK)
                .take_while(|block| block.iter().fold(0, differs) == 0)
                .count();
        // Where in the block is as good as random: it is counted, not branched on.
        let block = &rest[passed..rest.len().min(passed + BLOCK)];
        let which = block
            .iter()
            .rev()
            .fold(0_u32, |which, &word| which << 1 | u32::from(word != same));
        let more = passed + which.trailing_zeros() as usize;
        let differ = rest.get(more)? ^ same;
        Some((first + 1 + more) as u32 * 64 + differ.trailing_zeros())
    }

    /// The group of words that begins with the sector at `offset`, a multiple of its size.
    #[inline]
    pub(super) fn group(&self, offset: u32) -> &[u64; WORDS_PER_GROUP] {
        let (groups, _) = self.0.as_chunks();
        &groups[offset as usize / 64 / WORDS_PER_GROUP % GROUPS_PER_PAGE]
    }

    /// Sets the sectors `first..=last`, all of one word; how many this changed.
    #[inline]
    pub(super) fn set_in_word(&mut self, first: u32, last: u32, state: SectorState) -> u32 {
        let word = &mut self.0[(first / 64) as usize % WORDS_PER_PAGE];
        let mask = (u64::MAX << (first % 64)) & (u64::MAX >> (63 - last % 64));
        let before = *word;
        match state {
            SectorState::Clean => *word &= !mask,
            SectorState::Dirty => *word |= mask,
        }
        let flipped = before ^ *word;
        // Counting takes longer than seeing that there is nothing to count.
        if flipped == 0 {
            0
        } else {
            flipped.count_ones()
        }
    }

    /// Replaces the words by those of a bitmap; bits past `existing` are ignored.
    pub(super) fn load(&mut self, bytes: &[u8], existing: u32) {
        self.0 = [0; WORDS_PER_PAGE];
        for (word, bytes) in self.0.iter_mut().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_le_bytes(whole);
        }
        let words = self.0.iter_mut().enumerate();
        for (index, word) in words.skip((existing / 64) as usize) {
            *word &= full_word(SectorState::Dirty, index, existing);
        }
    }

    /// How many sectors are dirty.
    pub(super) fn count_dirty(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// The words in which not all sectors that exist have this state.
    pub(super) fn words_not_wholly(&self, state: SectorState, existing: u32) -> WordSet {
        let mut found = WordSet::default();
        for index in 0..existing.div_ceil(64) {
            if self.0[index as usize] != full_word(state, index as usize, existing) {
                found.insert(index);
            }
        }
        found
    }
}

impl SectorState {
    /// The other state.
    pub(super) fn other(self) -> SectorState {
        match self {
            SectorState::Clean => SectorState::Dirty,
            SectorState::Dirty => SectorState::Clean,
        }
    }

    /// A word whose sectors are all in this state.
    #[inline]
    pub(super) fn word(self) -> u64 {
        match self {
            SectorState::Clean => 0,
            SectorState::Dirty => u64::MAX,
        }
    }
}

/// The value of a word of a page with `existing` sectors, all in `state`.
pub(super) fn full_word(state: SectorState, word: usize, existing: u32) -> u64 {
    let sectors = existing.saturating_sub(word as u32 * 64);
    match (state, sectors) {
        (SectorState::Clean, _) | (_, 0) => 0,
        (SectorState::Dirty, 1..64) => !(u64::MAX << sectors),
        (SectorState::Dirty, _) => u64::MAX,
    }
}
