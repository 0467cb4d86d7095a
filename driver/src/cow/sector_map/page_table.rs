//! All pages of the map: a table with one number for each, and the words of those that are
//! mixed in one piece of memory.

use std::mem::size_of;

use super::SectorState;
use super::changed::WordSet;
use super::page::PageWords;

const CLEAN: u32 = 0;
const DIRTY: u32 = 1;
const FIRST_MIXED: u32 = 2;

/// All pages. A table entry is [`CLEAN`], [`DIRTY`], or [`FIRST_MIXED`] plus the place
/// in `words`. `words` has no gaps: where a page leaves it, the last one takes its place,
/// and memory falls again when pages become uniform.
///
/// The words lie side by side and not behind a pointer each, because a lookup is the two
/// loads that it cannot do without then: the entry, and the word.
#[derive(Clone, Default)]
pub(super) struct PageTable {
    entries: Vec<u32>,
    words: Vec<PageWords>,
    /// What else is known of the page at each place of `words`.
    kept: Vec<Kept>,
}

#[derive(Clone, Copy)]
struct Kept {
    dirty: u32,
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
    dirty: &'a mut u32,
}

impl PageTable {
    pub(super) fn new(pages: usize, state: SectorState) -> Self {
        Self {
            entries: vec![entry_of(state); pages],
            words: Vec::new(),
            kept: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn mixed_len(&self) -> usize {
        self.words.len()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<u32>()
            + self.words.capacity() * size_of::<PageWords>()
            + self.kept.capacity() * size_of::<Kept>()
    }

    #[inline]
    pub(super) fn get(&self, page: usize) -> PageRef<'_> {
        let entry = self.entries[page];
        // CLEAN and DIRTY wrap to places that no vector has, so the one bounds check
        // of `get` also tells a mixed page from a uniform one.
        match self.words.get(entry.wrapping_sub(FIRST_MIXED) as usize) {
            Some(words) => PageRef::Mixed(words),
            None if entry == CLEAN => PageRef::Uniform(SectorState::Clean),
            None => PageRef::Uniform(SectorState::Dirty),
        }
    }

    /// Whether all sectors of the page have this state.
    #[inline]
    pub(super) fn is_uniform(&self, page: usize, state: SectorState) -> bool {
        self.entries[page] == entry_of(state)
    }

    /// The page, if it is mixed.
    #[inline]
    pub(super) fn get_mixed(&mut self, page: usize) -> Option<MixedPage<'_>> {
        let place = self.entries[page].wrapping_sub(FIRST_MIXED) as usize;
        Some(MixedPage {
            words: self.words.get_mut(place)?,
            dirty: &mut self.kept.get_mut(place)?.dirty,
        })
    }

    /// How many of the `existing` sectors of a page are dirty.
    pub(super) fn dirty_in(&self, page: usize, existing: u32) -> u32 {
        match self.entries[page] {
            CLEAN => 0,
            DIRTY => existing,
            mixed => self.kept[(mixed - FIRST_MIXED) as usize].dirty,
        }
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
        if place < self.words.len() {
            self.words.swap_remove(place);
            self.kept.swap_remove(place);
            if let Some(moved) = self.kept.get(place) {
                self.entries[moved.page as usize] = old;
            }
            self.give_back();
        }
    }

    /// Gives memory back when most of it is unused, and so much at once that it is done
    /// seldom.
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
        let entry = self.entries[page];
        let mut place = entry.wrapping_sub(FIRST_MIXED) as usize;
        if place >= self.words.len() {
            let (words, dirty) = match entry {
                DIRTY => (PageWords::full(existing), existing),
                _ => (PageWords::EMPTY, 0),
            };
            place = self.words.len();
            self.words.push(words);
            self.kept.push(Kept {
                dirty,
                page: page as u32,
            });
            self.entries[page] = place as u32 + FIRST_MIXED;
        }
        MixedPage {
            words: &mut self.words[place],
            dirty: &mut self.kept[place].dirty,
        }
    }

    /// Replaces the page by one with words of a bitmap; bits past `existing` are ignored.
    pub(super) fn load(&mut self, page: usize, bytes: &[u8], existing: u32) {
        let page = self.split(page, existing);
        page.words.load(bytes, existing);
        *page.dirty = page.words.count_dirty();
    }

    /// Makes a mixed page uniform if its sectors have come to agree.
    pub(super) fn collapse(&mut self, page: usize, existing: u32) {
        if let Some(mixed) = self.get_mixed(page) {
            match *mixed.dirty {
                0 => self.set_uniform(page, SectorState::Clean),
                dirty if dirty == existing => self.set_uniform(page, SectorState::Dirty),
                _ => {}
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

impl MixedPage<'_> {
    /// Whether all sectors have come to have one state.
    #[inline]
    pub(super) fn agrees(&self, existing: u32) -> bool {
        *self.dirty == 0 || *self.dirty == existing
    }

    /// Sets the sectors `first..=last`, all of one word; how many this changed.
    #[inline]
    pub(super) fn set_in_word(&mut self, first: u32, last: u32, state: SectorState) -> u32 {
        let flipped = self.words.set_in_word(first, last, state);
        match state {
            SectorState::Clean => *self.dirty -= flipped,
            SectorState::Dirty => *self.dirty += flipped,
        }
        flipped
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
}

fn entry_of(state: SectorState) -> u32 {
    match state {
        SectorState::Clean => CLEAN,
        SectorState::Dirty => DIRTY,
    }
}
