//! The pages of the map: a table with one number for each, and the words of those
//! that are mixed.

use std::mem::size_of;
use std::ops::Range;

use super::changed::WordSet;
use super::{PAGE_BYTES, SectorState};

/// Sectors in a word of the map.
pub(super) const SECTORS_PER_WORD: u64 = 64;

/// Words in a page.
pub(super) const WORDS_PER_PAGE: usize = PAGE_BYTES / 8;

const CLEAN: u32 = 0;
const DIRTY: u32 = 1;
const FIRST_MIXED: u32 = 2;

/// All pages. A table entry is [`CLEAN`], [`DIRTY`], or [`FIRST_MIXED`] plus the place
/// in `mixed`. `mixed` has no gaps: where a page leaves it, the last one takes its
/// place, and memory falls again when pages become uniform.
#[derive(Clone, Default)]
pub(super) struct PageTable {
    entries: Vec<u32>,
    mixed: Vec<Box<MixedPage>>,
}

/// A page with clean and dirty sectors. Bits of sectors past the end are 0.
#[derive(Clone)]
pub(super) struct MixedPage {
    words: [u64; WORDS_PER_PAGE],
    dirty: u32,
    /// Whose page it is: the entry to correct when it takes another's place.
    page: u32,
}

/// A page as it is found in the table.
pub(super) enum PageRef<'a> {
    /// All sectors of the page that exist have this state.
    Uniform(SectorState),
    /// The sectors differ.
    Mixed(&'a MixedPage),
}

impl PageTable {
    pub(super) fn new(pages: usize, state: SectorState) -> Self {
        Self {
            entries: vec![entry_of(state); pages],
            mixed: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn mixed_len(&self) -> usize {
        self.mixed.len()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<u32>()
            + self.mixed.capacity() * size_of::<Box<MixedPage>>()
            + self.mixed.len() * size_of::<MixedPage>()
    }

    #[inline]
    pub(super) fn get(&self, page: usize) -> PageRef<'_> {
        let entry = self.entries[page];
        // CLEAN and DIRTY wrap to places that no vector has, so the one bounds check
        // of `get` also tells a mixed page from a uniform one.
        match self.mixed.get(entry.wrapping_sub(FIRST_MIXED) as usize) {
            Some(words) => PageRef::Mixed(words),
            None if entry == CLEAN => PageRef::Uniform(SectorState::Clean),
            None => PageRef::Uniform(SectorState::Dirty),
        }
    }

    /// The words of the page, if it is mixed.
    #[inline]
    pub(super) fn get_mixed(&mut self, page: usize) -> Option<&mut MixedPage> {
        let place = self.entries[page].wrapping_sub(FIRST_MIXED) as usize;
        self.mixed.get_mut(place).map(|words| &mut **words)
    }

    /// The first page of `from..until` that is not uniformly in `state`, or `until`.
    pub(super) fn end_of_uniform(&self, state: SectorState, from: usize, until: usize) -> usize {
        let wanted = entry_of(state);
        let entries = &self.entries[from..until];
        match entries.first() {
            None => return until,
            Some(&entry) if entry != wanted => return from,
            Some(_) => {}
        }
        // A block at a time without an early exit, which the compiler makes vectors of.
        const BLOCK: usize = 32;
        let same = entries
            .chunks_exact(BLOCK)
            .take_while(|block| block.iter().fold(0, |differ, &e| differ | (e ^ wanted)) == 0)
            .count();
        let from = from + same * BLOCK;
        let rest = self.entries[from..until].iter();
        from + rest.take_while(|&&entry| entry == wanted).count()
    }

    /// Makes the page uniform, whatever it was.
    pub(super) fn set_uniform(&mut self, page: usize, state: SectorState) {
        let old = std::mem::replace(&mut self.entries[page], entry_of(state));
        let place = old.wrapping_sub(FIRST_MIXED) as usize;
        if place < self.mixed.len() {
            self.mixed.swap_remove(place);
            if let Some(moved) = self.mixed.get(place) {
                self.entries[moved.page as usize] = old;
            }
        }
    }

    /// The words of the page; a uniform one gets words that say the same. `existing`
    /// is the number of its sectors that exist.
    pub(super) fn split(&mut self, page: usize, existing: u32) -> &mut MixedPage {
        let entry = self.entries[page];
        let mut place = entry.wrapping_sub(FIRST_MIXED) as usize;
        if place >= self.mixed.len() {
            let mut words = Box::new(MixedPage {
                words: [0; WORDS_PER_PAGE],
                dirty: 0,
                page: page as u32,
            });
            if entry == DIRTY {
                words.set(0, existing, SectorState::Dirty);
            }
            place = self.mixed.len();
            self.mixed.push(words);
            self.entries[page] = place as u32 + FIRST_MIXED;
        }
        &mut self.mixed[place]
    }

    /// Makes a mixed page uniform if its sectors have come to agree.
    pub(super) fn collapse(&mut self, page: usize, existing: u32) {
        if let PageRef::Mixed(words) = self.get(page) {
            match words.dirty {
                _ if !words.agrees(existing) => {}
                0 => self.set_uniform(page, SectorState::Clean),
                _ => self.set_uniform(page, SectorState::Dirty),
            }
        }
    }

    /// Appends uniform pages, or drops the last ones.
    pub(super) fn resize(&mut self, pages: usize, state: SectorState) {
        for page in pages..self.entries.len() {
            self.set_uniform(page, SectorState::Clean);
        }
        self.entries.resize(pages, entry_of(state));
    }
}

impl MixedPage {
    pub(super) fn dirty(&self) -> u32 {
        self.dirty
    }

    pub(super) fn word(&self, word: usize) -> u64 {
        self.words[word]
    }

    /// The state of the sector at `offset`, and how many share it from there on; `None`
    /// if all that follow in the word do, for then the run may go on behind it.
    #[inline]
    pub(super) fn run_in_word(&self, offset: u32) -> (SectorState, Option<u32>) {
        let word = self.words[(offset / 64) as usize % WORDS_PER_PAGE] >> (offset % 64);
        let dirty = word & 1;
        // The bits that differ from the first; none of those shifted in behind the
        // word may count, hence the mask.
        let differ = (word ^ dirty.wrapping_neg()) & (u64::MAX >> (offset % 64));
        let state = if dirty == 0 {
            SectorState::Clean
        } else {
            SectorState::Dirty
        };
        (state, (differ != 0).then(|| differ.trailing_zeros()))
    }

    /// The first run in `state` from the sector at `offset` on, provided that it starts
    /// and ends within the word.
    #[inline]
    pub(super) fn next_in_word(&self, state: SectorState, offset: u32) -> Option<Range<u32>> {
        let word = self.words[(offset / 64) as usize % WORDS_PER_PAGE];
        let wanted = match state {
            SectorState::Clean => !word,
            SectorState::Dirty => word,
        } & (u64::MAX << (offset % 64));
        let start = wanted.trailing_zeros();
        let behind = !wanted & u64::MAX.checked_shl(start)?;
        let base = offset & !63;
        (behind != 0).then(|| base + start..base + behind.trailing_zeros())
    }

    /// The first sector of `from..until` that is not in `state`. May also answer with a
    /// later one of the last word, never with one past the page.
    pub(super) fn first_not(&self, state: SectorState, from: u32, until: u32) -> Option<u32> {
        let same = match state {
            SectorState::Clean => 0,
            SectorState::Dirty => u64::MAX,
        };
        let first = (from / 64) as usize;
        let words = &self.words[first..until.div_ceil(64) as usize];
        let (&word, rest) = words.split_first()?;
        let differ = (word ^ same) & (u64::MAX << (from % 64));
        if differ != 0 {
            return Some(first as u32 * 64 + differ.trailing_zeros());
        }
        let more = rest.iter().position(|&word| word != same)?;
        let differ = rest[more] ^ same;
        Some((first + 1 + more) as u32 * 64 + differ.trailing_zeros())
    }

    /// Whether all sectors have come to have one state.
    #[inline]
    pub(super) fn agrees(&self, existing: u32) -> bool {
        self.dirty == 0 || self.dirty == existing
    }

    /// Sets the sectors `first..=last`, all of one word; how many this changed.
    #[inline]
    pub(super) fn set_in_word(&mut self, first: u32, last: u32, state: SectorState) -> u32 {
        let word = &mut self.words[(first / 64) as usize % WORDS_PER_PAGE];
        let mask = (u64::MAX << (first % 64)) & (u64::MAX >> (63 - last % 64));
        match state {
            SectorState::Clean => {
                let flipped = (*word & mask).count_ones();
                *word &= !mask;
                self.dirty -= flipped;
                flipped
            }
            SectorState::Dirty => {
                let flipped = (!*word & mask).count_ones();
                *word |= mask;
                self.dirty += flipped;
                flipped
            }
        }
    }

    /// Sets the sectors `from..until`; the words whose value this changed.
    pub(super) fn set(&mut self, from: u32, until: u32, state: SectorState) -> WordSet {
        let mut changed = WordSet::default();
        let mut first = from;
        while first < until {
            let last = (first | 63).min(until - 1);
            if self.set_in_word(first, last, state) != 0 {
                changed.insert(first / 64);
            }
            first = last + 1;
        }
        changed
    }

    /// Replaces the words by those of a bitmap; bits past `existing` are ignored.
    pub(super) fn load(&mut self, bytes: &[u8], existing: u32) {
        self.words = [0; WORDS_PER_PAGE];
        for (word, bytes) in self.words.iter_mut().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_le_bytes(whole);
        }
        for (index, word) in self
            .words
            .iter_mut()
            .enumerate()
            .skip((existing / 64) as usize)
        {
            *word &= full_word(SectorState::Dirty, index, existing);
        }
        self.dirty = self.words.iter().map(|word| word.count_ones()).sum();
    }

    /// The words in which not all sectors that exist have this state.
    pub(super) fn words_not_wholly(&self, state: SectorState, existing: u32) -> WordSet {
        let mut found = WordSet::default();
        for index in 0..existing.div_ceil(64) {
            if self.words[index as usize] != full_word(state, index as usize, existing) {
                found.insert(index);
            }
        }
        found
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

fn entry_of(state: SectorState) -> u32 {
    match state {
        SectorState::Clean => CLEAN,
        SectorState::Dirty => DIRTY,
    }
}
