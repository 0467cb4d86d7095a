//! The words of a page with clean and dirty sectors.

use std::ops::Range;

use super::changed::WordSet;
use super::{SectorState, WORDS_PER_PAGE};

/// Sectors in a word of the map.
pub(super) const SECTORS_PER_WORD: u64 = 64;

/// Words that a scan looks at together: as many as a word has bits.
pub(super) const WORDS_PER_BLOCK: usize = 64;

/// Blocks in a page.
pub(super) const BLOCKS_PER_PAGE: usize = WORDS_PER_PAGE / WORDS_PER_BLOCK;

/// Words that a scan looks at together.
pub(super) type Block = [u64; WORDS_PER_BLOCK];

/// A bit for each sector of a page. Those of sectors past the end are 0.
#[derive(Clone)]
pub(super) struct PageWords(pub(super) [u64; WORDS_PER_PAGE]);

impl PageWords {
    /// All sectors in one state, also those past the end.
    pub(super) fn uniform(state: SectorState) -> PageWords {
        PageWords([state.word(); WORDS_PER_PAGE])
    }

    /// Makes the sectors from `existing` on clean: those past the end.
    pub(super) fn cut(&mut self, existing: u32) {
        let first = (existing / 64) as usize;
        if let Some((word, behind)) = self.0.get_mut(first..).and_then(<[u64]>::split_first_mut) {
            *word &= full_word(SectorState::Dirty, first, existing);
            behind.fill(0);
        }
    }

    /// The word that has the sector at `offset`.
    #[inline]
    pub(super) fn word_of(&self, offset: u32) -> u64 {
        self.0[(offset / 64) as usize % WORDS_PER_PAGE]
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

    /// The words in blocks.
    #[inline]
    pub(super) fn blocks(&self) -> &[Block; BLOCKS_PER_PAGE] {
        let (blocks, _) = self.0.as_chunks();
        blocks.try_into().expect("a page is BLOCKS_PER_PAGE blocks")
    }

    /// Sets the sectors `first..=last`, all of one word; the word as it was and as it is.
    #[inline]
    pub(super) fn set_in_word(&mut self, first: u32, last: u32, state: SectorState) -> [u64; 2] {
        let word = &mut self.0[(first / 64) as usize % WORDS_PER_PAGE];
        let mask = (u64::MAX << (first % 64)) & (u64::MAX >> (63 - last % 64));
        let before = *word;
        match state {
            SectorState::Clean => *word &= !mask,
            SectorState::Dirty => *word |= mask,
        }
        [before, *word]
    }

    /// Replaces the words by those of a bitmap; bits past `existing` are ignored.
    pub(super) fn load(&mut self, bytes: &[u8], existing: u32) {
        let (whole, rest) = bytes.as_chunks();
        for (word, bytes) in self.0.iter_mut().zip(whole) {
            *word = u64::from_le_bytes(*bytes);
        }
        let behind = &mut self.0[whole.len().min(WORDS_PER_PAGE)..];
        behind.fill(0);
        if let Some(word) = behind.first_mut() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            *word = u64::from_le_bytes(last);
        }
        self.cut(existing);
    }

    /// Writes the words as they belong on disk, as many bytes of them as there is room for.
    pub(super) fn store(&self, buffer: &mut [u8]) {
        let (whole, rest) = buffer.as_chunks_mut();
        for (word, bytes) in self.0.iter().zip(&mut *whole) {
            *bytes = word.to_le_bytes();
        }
        if let Some(word) = self.0.get(whole.len()) {
            rest.copy_from_slice(&word.to_le_bytes()[..rest.len()]);
        }
    }

    /// How many sectors are dirty.
    pub(super) fn count_dirty(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// How many words have nothing but dirty sectors, of those that exist.
    pub(super) fn count_full(&self, existing: u32) -> u32 {
        let (whole, rest) = (existing / 64, existing % 64);
        let full = |word: &&u64| **word == u64::MAX;
        let count = self.0[..whole as usize].iter().filter(full).count() as u32;
        let last = whole as usize % WORDS_PER_PAGE;
        let last_full = full_word(SectorState::Dirty, last, existing);
        count + u32::from(rest != 0 && self.0[last] == last_full)
    }

    /// Whether all sectors are clean.
    pub(super) fn is_clean(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
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
