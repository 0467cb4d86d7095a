//! Changing the map: sectors becoming dirty or clean, and the map longer or shorter.

use super::changed::WordSet;
use super::page::SECTORS_PER_WORD;
use super::page_table::PageRef;
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
        if start / SECTORS_PER_WORD == last / SECTORS_PER_WORD {
            self.mark_in_word(start, last, state);
        } else {
            self.set(start, last + 1, state, Record::Changes);
        }
    }

    /// Most requests lie in one word, and most of those in a page that is mixed already.
    #[inline]
    fn mark_in_word(&mut self, start: u64, last: u64, state: SectorState) {
        let page = page_of(start);
        let existing = self.sectors_in(page);
        let Some(mut words) = self.pages.get_mixed(page) else {
            if self.pages.is_uniform(page, state) {
                return;
            }
            return self.set(start, last + 1, state, Record::Changes);
        };
        let flipped = words.set_in_word(offset_of(start), offset_of(last), state);
        if flipped == 0 {
            return;
        }
        if words.agrees(existing) {
            self.pages.collapse(page, existing);
        }
        self.count(flipped, state);
        self.changed
            .insert_word(page, offset_of(start) / SECTORS_PER_WORD as u32);
    }

    fn count(&mut self, flipped: u32, state: SectorState) {
        match state {
            SectorState::Clean => self.dirty -= u64::from(flipped),
            SectorState::Dirty => self.dirty += u64::from(flipped),
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
        let before = self.dirty_in(page);
        let whole = from == 0 && until == existing;
        let changed = match self.pages.get(page) {
            PageRef::Uniform(found) if found == state => return,
            PageRef::Uniform(_) if whole => {
                WordSet::first(existing.div_ceil(SECTORS_PER_WORD as u32))
            }
            PageRef::Mixed(words) if whole => words.words_not_wholly(state, existing),
            _ => self.pages.split(page, existing).set(from, until, state),
        };
        if whole {
            self.pages.set_uniform(page, state);
        } else {
            self.pages.collapse(page, existing);
        }
        self.dirty = self.dirty - u64::from(before) + u64::from(self.dirty_in(page));
        if record == Record::Changes {
            self.changed.insert(page, &changed);
        }
    }

    /// Makes the map longer. The new sectors are dirty, for the backing file has
    /// nothing for them. They are not recorded as changed: whoever grows the device
    /// writes the longer bitmap himself, as a part of the commit.
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
        if let Some(last) = old_pages.checked_sub(1) {
            let end = new.min(page_start(old_pages));
            if let PageRef::Uniform(SectorState::Dirty) = self.pages.get(last) {
                // The entry says "all that exist": it holds for the new ones by itself.
                self.dirty += end - old;
            } else {
                self.set(old, end, SectorState::Dirty, Record::Nothing);
            }
        }
        self.pages.resize(pages_of(sectors), SectorState::Dirty);
        self.dirty += new.saturating_sub(page_start(old_pages));
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
            self.pages.collapse(last, self.sectors_in(last));
        }
        self.changed.truncate(new.div_ceil(SECTORS_PER_WORD));
    }

    #[inline]
    fn check_range(&self, range: SectorRange) {
        // Subtracted, not added: a wild range must not wrap around into the map.
        let fits = range.start.0 <= self.sectors && range.count.0 <= self.sectors - range.start.0;
        assert!(
            fits,
            "sectors {range} do not lie in a map of {} sectors",
            self.sectors
        );
    }
}
