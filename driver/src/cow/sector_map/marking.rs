//! Changing the map: sectors becoming dirty or clean, and the map longer or shorter.

use super::changed::WordSet;
use super::page::{SECTORS_PER_WORD, full_word};
use super::{
    MapTooLarge, SectorMap, SectorState, check_size, offset_of, page_of, page_start, pages_of,
};
use crate::units::{SectorCount, SectorRange};

/// Whether a change has to reach the bitmap on disk by way of
/// [`SectorMap::take_changes`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum Record {
    Changes,
    Nothing,
}

impl SectorMap {
    /// Marks the sectors dirty, and the words of the bitmap that this changes as
    /// changed. Costs little more than a lookup if they are dirty already.
    ///
    /// # Panics
    ///
    /// If the range ends past the end of the map.
    #[inline]
    pub fn mark_dirty(&mut self, range: SectorRange) {
        self.mark(range, SectorState::Dirty);
    }

    /// Marks the sectors clean, and the words of the bitmap that this changes as
    /// changed.
    ///
    /// # Panics
    ///
    /// If the range ends past the end of the map.
    pub fn mark_clean(&mut self, range: SectorRange) {
        self.mark(range, SectorState::Clean);
    }

    #[inline]
    fn mark(&mut self, range: SectorRange, state: SectorState) {
        self.check_range(range);
        if range.is_empty() {
            return;
        }
        let (start, last) = (range.start.0, range.end().0 - 1);
        let in_one_word = start / SECTORS_PER_WORD == last / SECTORS_PER_WORD;
        if in_one_word && state == SectorState::Dirty {
            self.mark_dirty_in_word(start, last);
        } else {
            self.set(start, last + 1, state, Record::Changes);
        }
    }

    /// Most requests lie in one word, and most of those in a page that is mixed already.
    #[inline]
    fn mark_dirty_in_word(&mut self, start: u64, last: u64) {
        let page = page_of(start);
        let Some(words) = self.pages.mixed_words(page) else {
            if self.pages.is_uniform(page, SectorState::Dirty) {
                return;
            }
            return self.set(start, last + 1, SectorState::Dirty, Record::Changes);
        };
        let state = SectorState::Dirty;
        let [before, after] = words.set_in_word(offset_of(start), offset_of(last), state);
        self.changed.note(start / SECTORS_PER_WORD, before != after);
        // Whether this is a first write is as good as random, and so nothing to branch on;
        // whether it fills the word is not. The last word of the map may have fewer sectors.
        let fills = (after == u64::MAX) & (before != u64::MAX);
        let is_last = last | (SECTORS_PER_WORD - 1) >= self.sectors;
        if fills | is_last {
            self.look_whether_filled(page, offset_of(start), [before, after]);
        }
    }

    #[inline(never)]
    fn look_whether_filled(&mut self, page: usize, offset: u32, [before, after]: [u64; 2]) {
        let existing = self.sectors_in(page);
        let full = full_word(SectorState::Dirty, (offset / 64) as usize, existing);
        if before != after && after == full && self.pages.count_filled_word(page, existing) {
            self.pages.set_uniform(page, SectorState::Dirty);
        }
    }

    fn set(&mut self, mut at: u64, end: u64, state: SectorState, record: Record) {
        while at < end {
            let page = page_of(at);
            let stop = end.min(page_start(page + 1));
            let last = (stop - page_start(page)) as u32;
            self.set_in_page(page, offset_of(at), last, state, record);
            at = stop;
        }
    }

    /// Sets the sectors `from..until` of one page.
    fn set_in_page(
        &mut self,
        page: usize,
        from: u32,
        until: u32,
        state: SectorState,
        record: Record,
    ) {
        let existing = self.sectors_in(page);
        let whole = from == 0 && until == existing;
        if self.pages.is_uniform(page, state) {
            return;
        }
        if whole {
            if record == Record::Changes {
                let changed = match self.pages.get_mixed(page) {
                    Some(mixed) => mixed.words_not_wholly(state, existing),
                    None => WordSet::first(existing.div_ceil(SECTORS_PER_WORD as u32)),
                };
                self.changed.insert(page, &changed);
            }
            return self.pages.set_uniform(page, state);
        }
        let first_word = page_start(page) / SECTORS_PER_WORD;
        let mut mixed = self.pages.split(page, existing);
        mixed.set((from, until), state, existing, |word| {
            if record == Record::Changes {
                self.changed.note(first_word + u64::from(word), true);
            }
        });
        if let Some(state) = mixed.common_state(existing) {
            self.pages.set_uniform(page, state);
        }
    }

    /// Makes the map longer. The new sectors are dirty, for the backing file has nothing for
    /// them. They are not recorded as changed: whoever grows the device writes the longer bitmap
    /// as a part of the commit.
    ///
    /// # Panics
    ///
    /// If `sectors` is less than the map has.
    pub fn grow(&mut self, sectors: SectorCount) -> Result<(), MapTooLarge> {
        check_size(sectors)?;
        let (old, new) = (self.sectors, sectors.0);
        assert!(old <= new, "a map of {old} sectors cannot grow to {new}");
        let old_pages = self.pages.len();
        self.sectors = new;
        // Of a last page that is dirty the entry says "all that exist": it holds for the new
        // sectors by itself.
        if let Some(last) = old_pages.checked_sub(1)
            && !self.pages.is_uniform(last, SectorState::Dirty)
        {
            let end = new.min(page_start(old_pages));
            self.pages.recount(last, self.sectors_in(last));
            self.set(old, end, SectorState::Dirty, Record::Nothing);
        }
        self.pages.resize(pages_of(sectors), SectorState::Dirty);
        Ok(())
    }

    /// Makes the map shorter. What was changed past the new end is forgotten; the cut
    /// itself is not recorded as a change.
    ///
    /// # Panics
    ///
    /// If `sectors` is more than the map has.
    pub fn shrink(&mut self, sectors: SectorCount) {
        let (old, new) = (self.sectors, sectors.0);
        assert!(new <= old, "a map of {old} sectors cannot shrink to {new}");
        self.set(new, old, SectorState::Clean, Record::Nothing);
        self.sectors = new;
        self.pages.resize(pages_of(sectors), SectorState::Clean);
        if let Some(last) = self.pages.len().checked_sub(1) {
            // Without the sectors cut off, all the rest may be dirty.
            self.pages.recount(last, self.sectors_in(last));
        }
        self.changed.truncate(new.div_ceil(SECTORS_PER_WORD));
    }

    #[inline]
    fn check_range(&self, range: SectorRange) {
        // Subtracted, not added: a wild range must not wrap around into the map.
        if range.start.0 > self.sectors || range.count.0 > self.sectors - range.start.0 {
            self.no_such_range(range);
        }
    }

    #[cold]
    #[inline(never)]
    fn no_such_range(&self, range: SectorRange) -> ! {
        let sectors = self.sectors;
        panic!("sectors {range} do not lie in a map of {sectors} sectors");
    }
}
