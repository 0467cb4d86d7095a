//! Which words of the bitmap differ from the disk, and the pieces in which they are
//! written there.

use std::mem::size_of;
use std::ops::RangeInclusive;

use super::{PAGE_BYTES, WORDS_PER_PAGE};
use crate::units::Bytes;

/// A set of words of one page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WordSet([u64; WORDS_PER_PAGE / 64]);

impl WordSet {
    /// The first `count` words.
    pub(super) fn first(count: u32) -> Self {
        let mut set = Self::default();
        for (part, from) in set.0.iter_mut().zip((0..).step_by(64)) {
            *part = match count.saturating_sub(from) {
                left @ 0..64 => !(u64::MAX << left),
                _ => u64::MAX,
            };
        }
        set
    }

    #[inline]
    pub(super) fn insert(&mut self, word: u32) {
        self.0[(word / 64) as usize % (WORDS_PER_PAGE / 64)] |= 1 << (word % 64);
    }

    fn contains(&self, word: u32) -> bool {
        self.0[(word / 64) as usize % (WORDS_PER_PAGE / 64)] >> (word % 64) & 1 != 0
    }

    pub(super) fn intersect(&mut self, other: &Self) {
        for (part, other) in self.0.iter_mut().zip(other.0) {
            *part &= other;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|part| u64::from(part.count_ones())).sum()
    }

    /// Adds the words of `other`; how many of them are new.
    fn unite(&mut self, other: &Self) -> u64 {
        let mut new = 0;
        for (part, other) in self.0.iter_mut().zip(other.0) {
            let added = other & !*part;
            if added != 0 {
                new += u64::from(added.count_ones());
                *part |= added;
            }
        }
        new
    }

    /// From the first word of the set to its last.
    ///
    /// # Panics
    ///
    /// If the set is empty.
    pub(super) fn span(&self) -> RangeInclusive<usize> {
        let first = self.0.iter().position(|&part| part != 0);
        let last = self.0.iter().rposition(|&part| part != 0);
        let (first, last) = first.zip(last).expect("only pages with changes are kept");
        first * 64 + self.0[first].trailing_zeros() as usize
            ..=last * 64 + self.0[last].ilog2() as usize
    }
}

/// The most notes that are kept before they are sorted in: 256 KiB of them.
const MOST_NOTES: usize = 1 << 16;

/// The changed words of all pages. Only pages that have some are kept, so that publishing
/// costs what changed and not what exists.
///
/// A word that changes is at first only noted, because every first write does this. Appending a
/// number touches no memory but the end of a list, while the set that the word belongs to is
/// hardly ever in the cache of a large device. Notes are sorted in when somebody wants to know,
/// or when there are [`MOST_NOTES`].
#[derive(Clone, Default)]
pub(super) struct ChangedWords {
    /// Words that changed, counted from the start of the bitmap; some more than once, and some
    /// that are in `pages` already. The entries from `noted` on are only room for more.
    notes: Vec<u32>,
    noted: usize,
    pages: Vec<(u32, WordSet)>,
    /// For each page, up to the last one that ever had changes, its place in `pages` plus 1,
    /// or 0.
    places: Vec<u32>,
    /// How many words are in `pages`.
    count: u64,
}

impl ChangedWords {
    /// How many words changed. Takes the time to look at the notes.
    pub(super) fn count(&self) -> u64 {
        if self.noted == 0 {
            return self.count;
        }
        let mut settled = self.clone();
        settled.settle();
        settled.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0 && self.noted == 0
    }

    /// Whether more than `limit` words changed. Takes no time worth mentioning while they
    /// are far fewer.
    #[inline]
    pub(super) fn exceed(&mut self, limit: u64) -> bool {
        self.count + self.noted as u64 > limit && {
            self.settle();
            self.count > limit
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.notes.capacity() * size_of::<u32>()
            + self.pages.capacity() * size_of::<(u32, WordSet)>()
            + self.places.capacity() * size_of::<u32>()
    }

    /// Notes a word, counted from the start of the bitmap, if it has changed. There is no branch
    /// on that: whether a write is the first one is as good as random.
    #[inline]
    pub(super) fn note(&mut self, word: u64, changed: bool) {
        match (self.notes.get_mut(self.noted), u32::try_from(word)) {
            (Some(note), Ok(word)) => {
                *note = word;
                self.noted += usize::from(changed);
            }
            _ => self.note_without_room(word, changed),
        }
    }

    #[cold]
    #[inline(never)]
    fn note_without_room(&mut self, word: u64, changed: bool) {
        let Ok(note) = u32::try_from(word) else {
            // Past 128 TiB.
            if changed {
                self.sort_in(word);
            }
            return;
        };
        if self.noted >= MOST_NOTES {
            self.settle();
        } else {
            let more = self.noted.clamp(64, MOST_NOTES);
            self.notes.reserve_exact(more);
            self.notes.resize(self.noted + more, 0);
        }
        self.notes[self.noted] = note;
        self.noted += usize::from(changed);
    }

    /// Sorts the notes in.
    fn settle(&mut self) {
        let notes = std::mem::take(&mut self.notes);
        for &word in &notes[..self.noted] {
            self.sort_in(u64::from(word));
        }
        self.notes = notes;
        self.noted = 0;
    }

    fn sort_in(&mut self, word: u64) {
        let page = (word / WORDS_PER_PAGE as u64) as usize;
        let word = (word % WORDS_PER_PAGE as u64) as u32;
        let words = self.of_page(page);
        let new = !words.contains(word);
        words.insert(word);
        self.count += u64::from(new);
    }

    pub(super) fn insert(&mut self, page: usize, words: &WordSet) {
        if !words.is_empty() {
            let new = self.of_page(page).unite(words);
            self.count += new;
        }
    }

    fn of_page(&mut self, page: usize) -> &mut WordSet {
        let place = match self.places.get(page) {
            Some(&place) if place != 0 => place as usize - 1,
            _ => self.add_page(page),
        };
        &mut self.pages[place].1
    }

    #[cold]
    fn add_page(&mut self, page: usize) -> usize {
        if page >= self.places.len() {
            self.places.resize(page + 1, 0);
        }
        self.pages.push((page as u32, WordSet::default()));
        self.places[page] = self.pages.len() as u32;
        self.pages.len() - 1
    }

    /// The pages with changes, in order; afterwards there are none.
    pub(super) fn take(&mut self) -> Vec<(usize, WordSet)> {
        self.settle();
        let mut taken: Vec<_> = self
            .pages
            .drain(..)
            .map(|(page, words)| (page as usize, words))
            .collect();
        for (page, _) in &taken {
            self.places[*page] = 0;
        }
        self.count = 0;
        taken.sort_unstable_by_key(|&(page, _)| page);
        taken
    }

    /// Forgets all words from this one on, counted from the start of the bitmap.
    pub(super) fn truncate(&mut self, words: u64) {
        let last = (words / WORDS_PER_PAGE as u64) as usize;
        let kept = WordSet::first((words % WORDS_PER_PAGE as u64) as u32);
        for (page, mut words) in self.take() {
            if page == last {
                words.intersect(&kept);
            }
            if page <= last {
                self.insert(page, &words);
            }
        }
        self.places.truncate(last + 1);
    }
}

/// A piece of the bitmap as it was when it was taken: all words of one page from the
/// first changed one to the last changed one. See
/// [`SectorMap::take_changes`](super::SectorMap::take_changes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageSnapshot {
    page: usize,
    changed: WordSet,
    offset: u64,
    bytes: Vec<u8>,
}

impl PageSnapshot {
    /// `content` are the words of `changed.span()`. `None` if the bitmap on disk ends
    /// before all of them.
    pub(super) fn new(
        page: usize,
        changed: &WordSet,
        content: &[u64],
        bitmap_len: Bytes,
    ) -> Option<Self> {
        let offset = page as u64 * PAGE_BYTES as u64 + *changed.span().start() as u64 * 8;
        let room = bitmap_len.0.checked_sub(offset).filter(|&room| room > 0)?;
        let mut bytes = vec![0; size_of_val(content)];
        let (places, _) = bytes.as_chunks_mut();
        for (place, word) in places.iter_mut().zip(content) {
            *place = word.to_le_bytes();
        }
        bytes.truncate(room.min(bytes.len() as u64) as usize);
        Some(Self {
            page,
            changed: *changed,
            offset,
            bytes,
        })
    }

    /// The page of the map that it belongs to.
    pub fn page(&self) -> usize {
        self.page
    }

    /// Where in the bitmap the bytes belong, counted from the bitmap's start.
    pub fn offset(&self) -> Bytes {
        Bytes(self.offset)
    }

    /// What belongs there; never empty.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many words of the piece changed.
    pub fn changed_words(&self) -> u64 {
        self.changed.count()
    }

    pub(super) fn changed(&self) -> &WordSet {
        &self.changed
    }
}
