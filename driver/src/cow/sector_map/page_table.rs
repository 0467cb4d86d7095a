//! All pages of the map: a table with one number for each, and the words of those that are
//! mixed in one piece of memory.

use std::mem::size_of;

use super::SectorState;
use super::changed::WordSet;
use super::page::{PageWords, full_word};

const CLEAN: u32 = 0;
const DIRTY: u32 = 1;
const FIRST_MIXED: u32 = 2;

/// All pages. A table entry is a place in `words`. The first two places belong to no page:
/// [`CLEAN`] and [`DIRTY`] are the words that all uniform pages share, so that a lookup need not
/// know which kind it has met. The places after them have no gaps: where a page leaves, the last
/// one takes its place, and memory falls again when pages become uniform. As long as no page ever
/// was mixed there are no words at all.
///
/// The words lie side by side instead of each page's on the heap. A lookup is then two loads, the
/// entry and the word, and needs no third for a pointer.
#[derive(Clone, Default)]
pub(super) struct PageTable {
    entries: Vec<u32>,
    words: Vec<PageWords>,
    /// What else is known of the page at each place of `words`.
    kept: Vec<Kept>,
    /// How many pages are clean, and how many dirty.
    uniform: [usize; 2],
}

#[derive(Clone, Copy, Default)]
struct Kept {
    /// How many of its words have nothing but dirty sectors, of those that exist.
    full: u32,
    /// Whose page it is: the entry to correct when it takes another's place.
    page: u32,
}

/// A page as it is found in the table.
pub(super) enum PageRef<'a> {
    /// All sectors of the page that exist have this state.
    Uniform(SectorState),
    /// The sectors differ.
    Mixed(&'a PageWords),
}

/// A mixed page that is about to change.
pub(super) struct MixedPage<'a> {
    words: &'a mut PageWords,
    full: &'a mut u32,
}

impl PageTable {
    pub(super) fn new(pages: usize, state: SectorState) -> Self {
        let mut uniform = [0; 2];
        uniform[entry_of(state) as usize] = pages;
        Self {
            entries: vec![entry_of(state); pages],
            words: Vec::new(),
            kept: Vec::new(),
            uniform,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn mixed_len(&self) -> usize {
        self.words.len().saturating_sub(FIRST_MIXED as usize)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<u32>()
            + self.words.capacity() * size_of::<PageWords>()
            + self.kept.capacity() * size_of::<Kept>()
    }

    #[inline]
    pub(super) fn get(&self, page: usize) -> PageRef<'_> {
        match self.entries[page] {
            CLEAN => PageRef::Uniform(SectorState::Clean),
            DIRTY => PageRef::Uniform(SectorState::Dirty),
            mixed => PageRef::Mixed(&self.words[mixed as usize]),
        }
    }

    /// The word of a page that has the sector at `offset`. Past the end of the map it says
    /// whatever the rest of the page says.
    #[inline]
    pub(super) fn word_of(&self, page: usize, offset: u32) -> u64 {
        let entry = self.entries[page];
        match self.words.get(entry as usize) {
            Some(words) => words.word_of(offset),
            None if entry == CLEAN => SectorState::Clean.word(),
            None => SectorState::Dirty.word(),
        }
    }

    /// Whether all sectors of the page have this state.
    #[inline]
    pub(super) fn is_uniform(&self, page: usize, state: SectorState) -> bool {
        self.entries[page] == entry_of(state)
    }

    /// The state that all sectors of all pages have, if they have one.
    #[inline]
    pub(super) fn common_state(&self) -> Option<SectorState> {
        match self.uniform {
            [clean, _] if clean == self.entries.len() => Some(SectorState::Clean),
            [_, dirty] if dirty == self.entries.len() => Some(SectorState::Dirty),
            _ => None,
        }
    }

    /// The words of the page, if it is mixed, to be changed: what is kept of them beside them
    /// has to follow.
    #[inline]
    pub(super) fn mixed_words(&mut self, page: usize) -> Option<&mut PageWords> {
        let place = self.entries[page] as usize;
        if place < FIRST_MIXED as usize {
            return None;
        }
        self.words.get_mut(place)
    }

    /// Counts a word of a mixed page in which the last clean sector has become dirty; whether
    /// it was the last such word of the page.
    pub(super) fn count_filled_word(&mut self, page: usize, existing: u32) -> bool {
        let full = &mut self.kept[self.entries[page] as usize].full;
        *full += 1;
        *full == existing.div_ceil(64)
    }

    /// The page, if it is mixed.
    pub(super) fn get_mixed(&mut self, page: usize) -> Option<MixedPage<'_>> {
        let place = self.entries[page] as usize;
        if place < FIRST_MIXED as usize {
            return None;
        }
        Some(MixedPage {
            words: &mut self.words[place],
            full: &mut self.kept[place].full,
        })
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
        self.uniform[entry_of(state) as usize] += 1;
        if let Some(uniform) = self.uniform.get_mut(old as usize) {
            *uniform -= 1;
            return;
        }
        let place = old as usize;
        self.words.swap_remove(place);
        self.kept.swap_remove(place);
        if let Some(moved) = self.kept.get(place) {
            self.entries[moved.page as usize] = old;
        }
        self.give_back();
    }

    /// Gives memory back when most of it is unused. It gives back at least half at once, so that
    /// this happens seldom.
    fn give_back(&mut self) {
        let used = self.words.len();
        if used < self.words.capacity() / 4 {
            self.words.shrink_to(used * 2);
            self.kept.shrink_to(used * 2);
        }
    }

    /// The words of the page; a uniform one gets words that say the same. `existing`
    /// is the number of its sectors that exist.
    pub(super) fn split(&mut self, page: usize, existing: u32) -> MixedPage<'_> {
        if self.entries[page] < FIRST_MIXED {
            self.add_words(page, existing);
        }
        let place = self.entries[page] as usize;
        MixedPage {
            words: &mut self.words[place],
            full: &mut self.kept[place].full,
        }
    }

    /// Gives a uniform page words of its own.
    fn add_words(&mut self, page: usize, existing: u32) {
        if self.words.is_empty() {
            // In one allocation: grown one by one, the first pages would be copied twice.
            self.words.reserve_exact(FIRST_MIXED as usize + 1);
            self.words.push(PageWords::uniform(SectorState::Clean));
            self.words.push(PageWords::uniform(SectorState::Dirty));
            self.kept.resize(FIRST_MIXED as usize, Kept::default());
        }
        let uniform = self.entries[page] as usize;
        let place = self.words.len();
        // Copied straight to where they belong.
        self.words.extend_from_within(uniform..=uniform);
        let full = match self.entries[page] {
            CLEAN => 0,
            _ => {
                self.words[place].cut(existing);
                existing.div_ceil(64)
            }
        };
        self.kept.push(Kept {
            full,
            page: page as u32,
        });
        self.uniform[uniform] -= 1;
        self.entries[page] = place as u32;
    }

    /// Replaces the page by one with words of a bitmap; bits past `existing` are ignored.
    pub(super) fn load(&mut self, page: usize, bytes: &[u8], existing: u32) {
        let mixed = self.split(page, existing);
        mixed.words.load(bytes, existing);
        self.recount(page, existing);
    }

    /// Counts again what is known of a page's words, and makes it uniform if its sectors
    /// agree.
    pub(super) fn recount(&mut self, page: usize, existing: u32) {
        if let Some(mixed) = self.get_mixed(page) {
            *mixed.full = mixed.words.count_full(existing);
            if let Some(state) = mixed.common_state(existing) {
                self.set_uniform(page, state);
            }
        }
    }

    /// Appends uniform pages, or drops the last ones.
    pub(super) fn resize(&mut self, pages: usize, state: SectorState) {
        let old = self.entries.len();
        for page in pages..old {
            self.set_uniform(page, SectorState::Clean);
        }
        self.uniform[CLEAN as usize] -= old.saturating_sub(pages);
        self.uniform[entry_of(state) as usize] += pages.saturating_sub(old);
        self.entries.resize(pages, entry_of(state));
    }
}

impl MixedPage<'_> {
    /// The state that all sectors have come to have, if they have.
    pub(super) fn common_state(&self, existing: u32) -> Option<SectorState> {
        if *self.full == existing.div_ceil(64) {
            Some(SectorState::Dirty)
        } else if *self.full == 0 && self.words.is_clean() {
            Some(SectorState::Clean)
        } else {
            None
        }
    }

    /// Sets the sectors `from..until`; calls `changed` with each word whose value changed.
    pub(super) fn set(
        &mut self,
        (from, until): (u32, u32),
        state: SectorState,
        existing: u32,
        mut changed: impl FnMut(u32),
    ) {
        let mut first = from;
        while first < until {
            let last = (first | 63).min(until - 1);
            let [before, after] = self.words.set_in_word(first, last, state);
            if before != after {
                let full = full_word(SectorState::Dirty, (first / 64) as usize, existing);
                *self.full += u32::from(after == full);
                *self.full -= u32::from(before == full);
                changed(first / 64);
            }
            first = last + 1;
        }
    }

    /// The words in which not all sectors that exist have this state.
    pub(super) fn words_not_wholly(&self, state: SectorState, existing: u32) -> WordSet {
        self.words.words_not_wholly(state, existing)
    }
}

fn entry_of(state: SectorState) -> u32 {
    match state {
        SectorState::Clean => CLEAN,
        SectorState::Dirty => DIRTY,
    }
}
