//! Iterating over the runs of one state: for whoever goes through a map, or a part of it.
//!
//! A lookup begins at a sector and knows nothing else. An iterator looks for changes: bits
//! that differ from the one before, which the words of a bitmap yield 64 at a time. It keeps
//! the changes left in a word, and which words of a group have any, so that a run costs two
//! of them however long it is, and a word without any next to nothing.

use super::page::{PageWords, SECTORS_PER_WORD, WORDS_PER_GROUP};
use super::page_table::PageRef;
use super::{SectorMap, SectorState, offset_of, page_of, page_start};
use crate::units::{Sector, SectorRange};

const GROUP_SECTORS: u64 = WORDS_PER_GROUP as u64 * SECTORS_PER_WORD;

/// Iterator over the runs of sectors in one state; see [`SectorMap::dirty_runs`] and
/// [`SectorMap::clean_runs`].
#[derive(Clone)]
pub struct Runs<'a> {
    map: &'a SectorMap,
    /// The sectors from here on have not been looked at.
    next: u64,
    end: u64,
    /// The state of the sector before `next`. Before the first one it is not the wanted one,
    /// so that changes begin and end the wanted runs in turns.
    before: SectorState,
    /// The group of words last begun, of a mixed page, and the number of its first sector.
    group: Option<&'a [u64; WORDS_PER_GROUP]>,
    start: u64,
    /// The state of the sector before the group.
    before_group: SectorState,
    /// Words of the group that have changes and were not begun yet, as bits.
    words: u64,
    /// The first sector of the word begun last, and the changes left in it, as bits.
    base: u64,
    changes: u64,
}

impl<'a> Runs<'a> {
    pub(super) fn new(map: &'a SectorMap, state: SectorState, range: SectorRange) -> Runs<'a> {
        let before = state.other();
        Runs {
            map,
            next: range.start.0,
            end: range.start.0.saturating_add(range.count.0).min(map.sectors),
            before,
            group: None,
            start: 0,
            before_group: before,
            words: 0,
            base: 0,
            changes: 0,
        }
    }

    /// The next sector whose state is not that of the one before it. The last one may lie
    /// behind the end.
    #[inline]
    fn next_change(&mut self) -> Option<u64> {
        while self.changes == 0 {
            if self.words != 0 {
                self.next_word();
            } else if !self.advance() {
                return None;
            }
        }
        let sector = self.base + u64::from(self.changes.trailing_zeros());
        self.changes &= self.changes - 1;
        Some(sector)
    }

    /// Begins the next word of the group that has changes. There has to be one.
    #[inline]
    fn next_word(&mut self) {
        let index = self.words.trailing_zeros() as usize % WORDS_PER_GROUP;
        self.words &= self.words - 1;
        self.base = self.start + index as u64 * SECTORS_PER_WORD;
        if let Some(group) = self.group {
            let before = match index.checked_sub(1) {
                Some(index) => group[index],
                None => self.before_group.word(),
            };
            self.changes = changes(group[index], before);
        }
    }

    /// Goes on to the next group or page with a change; `false` if there is none.
    #[inline(never)]
    fn advance(&mut self) -> bool {
        while self.next < self.end {
            let page = page_of(self.next);
            match self.map.pages.get(page) {
                PageRef::Uniform(state) if state != self.before => {
                    (self.base, self.changes) = (self.next, 1);
                    self.before = state;
                    self.next = page_start(page + 1);
                    return true;
                }
                PageRef::Uniform(state) => {
                    self.next = self.map.end_of_run(state, self.next, self.end);
                }
                PageRef::Mixed(words) => {
                    if self.advance_in_page(words, self.end.min(page_start(page + 1))) {
                        return true;
                    }
                }
            }
        }
        false
    }

    fn advance_in_page(&mut self, page: &'a PageWords, end: u64) -> bool {
        let first = page_start(page_of(self.next));
        let until = (end - first) as u32;
        let before = self.before;
        let Some(offset) = page.first_not(before, offset_of(self.next), until) else {
            self.next = end;
            return false;
        };
        let from = first + u64::from(offset);
        self.start = from / GROUP_SECTORS * GROUP_SECTORS;
        self.next = self.start + GROUP_SECTORS;
        let group = page.group(offset_of(self.start));
        (self.group, self.before_group) = (Some(group), before);
        self.before = state_of_last(group[WORDS_PER_GROUP - 1]);
        self.words = words_with_changes(group, before.word());
        self.begin_at(group, from, before);
        true
    }

    /// Begins the group at the sector `from` of it, which follows one in the state `before`.
    fn begin_at(&mut self, group: &[u64; WORDS_PER_GROUP], from: u64, before: SectorState) {
        let index = (from - self.start) / SECTORS_PER_WORD;
        // The words behind that one.
        self.words &= u64::MAX << (index + 1);
        self.base = self.start + index * SECTORS_PER_WORD;
        let passed = !(u64::MAX << (from % SECTORS_PER_WORD));
        let word = group[index as usize] & !passed | before.word() & passed;
        self.changes = changes(word, before.word());
    }
}

impl Iterator for Runs<'_> {
    type Item = SectorRange;

    #[inline]
    fn next(&mut self) -> Option<SectorRange> {
        match run_in_word(self.base, &mut self.changes, self.end) {
            Some(run) => Some(run),
            None => self.next_across_words(),
        }
    }

    /// What `for_each`, `sum` and their kin come down to: within a word everything stays in
    /// registers, which a call for each run does not allow.
    #[inline]
    fn fold<B, F: FnMut(B, SectorRange) -> B>(mut self, init: B, mut f: F) -> B {
        let mut result = init;
        loop {
            let (base, end, mut changes) = (self.base, self.end, self.changes);
            while let Some(run) = run_in_word(base, &mut changes, end) {
                result = f(result, run);
            }
            self.changes = changes;
            match self.next_across_words() {
                Some(run) => result = f(result, run),
                None => return result,
            }
        }
    }
}

impl Runs<'_> {
    #[inline(never)]
    fn next_across_words(&mut self) -> Option<SectorRange> {
        let start = self.next_change().filter(|&start| start < self.end)?;
        let end = self.next_change().unwrap_or(self.end).min(self.end);
        Some(SectorRange::between(Sector(start)..Sector(end)))
    }
}

/// Takes the first two of the changes in a word, if there are two and the second one lies
/// before the end: they are a run, as most runs of a fragmented map.
#[inline]
fn run_in_word(base: u64, changes: &mut u64, end: u64) -> Option<SectorRange> {
    let behind = *changes & changes.wrapping_sub(1);
    let start = base + u64::from(changes.trailing_zeros());
    let stop = base + u64::from(behind.trailing_zeros());
    if behind == 0 || stop > end {
        return None;
    }
    *changes = behind & (behind - 1);
    Some(SectorRange::between(Sector(start)..Sector(stop)))
}

impl std::fmt::Debug for Runs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runs")
            .field("map", self.map)
            .field("next", &self.next)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

/// The bits of `word` that differ from the bit before; that of the first is the last one of
/// `before`.
#[inline]
fn changes(word: u64, before: u64) -> u64 {
    word ^ (word << 1 | before >> 63)
}

/// Which words of the group have changes, as bits, the first word's the lowest.
fn words_with_changes(group: &[u64; WORDS_PER_GROUP], mut before: u64) -> u64 {
    let mut found = 0;
    for (index, &word) in group.iter().enumerate() {
        found |= u64::from(changes(word, before) != 0) << index;
        before = word;
    }
    found
}

fn state_of_last(word: u64) -> SectorState {
    match word >> 63 {
        0 => SectorState::Clean,
        _ => SectorState::Dirty,
    }
}
