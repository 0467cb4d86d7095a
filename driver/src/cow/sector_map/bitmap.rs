//! Between the map and the bitmap on disk: loading pages, and taking what has to be
//! written.

use super::changed::{ChangedWords, PageSnapshot, WordSet};
use super::page::{PageWords, SECTORS_PER_WORD, full_word};
use super::page_table::PageRef;
use super::{PAGE_BYTES, SectorMap, SectorState};
use crate::units::Bytes;

impl SectorMap {
    /// Replaces a page by what the bitmap on disk says: sector `n` of the page is bit
    /// `n % 8` of byte `n / 8`, least significant first. Sectors that `bytes` does not
    /// reach are clean, bits past the end of the device are ignored, and so are pages past the
    /// last one. Nothing becomes changed, for this is what the disk says already.
    ///
    /// # Panics
    ///
    /// If `bytes` is longer than a page.
    pub fn load_page(&mut self, page: usize, bytes: &[u8]) {
        assert!(
            bytes.len() <= PAGE_BYTES,
            "{} bytes of bitmap are more than a page",
            bytes.len()
        );
        if page >= self.pages.len() {
            return;
        }
        let existing = self.sectors_in(page);
        match self.uniform_content(bytes, existing) {
            Some(state) => self.pages.set_uniform(page, state),
            None => self.pages.load(page, bytes, existing),
        }
    }

    /// The state that all sectors have, where whole bytes tell; saves a long run of
    /// zeros or ones the allocation of a page.
    fn uniform_content(&self, bytes: &[u8], existing: u32) -> Option<SectorState> {
        let whole = (existing / 8) as usize;
        if is_all(bytes, 0) {
            return Some(SectorState::Clean);
        }
        let full = existing.is_multiple_of(8) && is_all(bytes.get(..whole)?, 0xff);
        full.then_some(SectorState::Dirty)
    }

    /// Writes the page as it belongs on disk, from its first byte on, into all of
    /// `buffer`. Bits past the end of the device are 0, and so is a page past the last one.
    ///
    /// # Panics
    ///
    /// If `buffer` is longer than a page.
    pub fn page_bytes(&self, page: usize, buffer: &mut [u8]) {
        assert!(
            buffer.len() <= PAGE_BYTES,
            "{} bytes of bitmap are more than a page",
            buffer.len()
        );
        if page >= self.pages.len() {
            return buffer.fill(0);
        }
        match self.pages.get(page) {
            PageRef::Mixed(words) => words.store(buffer),
            PageRef::Uniform(state) => {
                let mut words = PageWords::uniform(state);
                words.cut(self.sectors_in(page));
                words.store(buffer);
            }
        }
    }

    /// Fills `buffer` with the bitmap from byte `from` on, as it belongs on disk. Bytes past the
    /// end of the map become zeros.
    pub fn copy_bitmap(&self, from: Bytes, buffer: &mut [u8]) {
        let mut page_content = [0; PAGE_BYTES];
        let mut done = 0;
        while done < buffer.len() {
            let at = from.0 + done as u64;
            let (page, within) = (at / PAGE_BYTES as u64, (at % PAGE_BYTES as u64) as usize);
            let len = (PAGE_BYTES - within).min(buffer.len() - done);
            self.page_bytes(page as usize, &mut page_content[..within + len]);
            buffer[done..done + len].copy_from_slice(&page_content[within..within + len]);
            done += len;
        }
    }

    /// Takes the map as published: everything in it has been written.
    pub fn forget_changes(&mut self) {
        self.changed = ChangedWords::default();
    }

    /// How many words of the bitmap (8 bytes each) changed since the last
    /// [`take_changes`](Self::take_changes). Counted now.
    pub fn changed_words(&self) -> u64 {
        self.changed.count()
    }

    /// Whether more than `limit` words changed since then. Costs next to nothing.
    #[inline]
    pub fn has_more_changes_than(&mut self, limit: u64) -> bool {
        self.changed.exceed(limit)
    }

    /// Whether any word of the bitmap changed since then.
    pub fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// What has to be written for the bitmap on disk to equal the map: one piece for
    /// each page with changes, in their order, and nothing is changed afterwards.
    ///
    /// The bytes are those of this moment. Bits that are set later are not in them,
    /// wherever they lie, so the pieces may be written after the sync that makes the
    /// data of this moment durable.
    ///
    /// `bitmap_len` is the length of the bitmap on disk. Bits past it have no place there and are
    /// left out. (V1 and V2 can lack the last byte.)
    #[must_use = "the changes taken are lost to the bitmap on disk unless written or restored"]
    pub fn take_changes(&mut self, bitmap_len: Bytes) -> Vec<PageSnapshot> {
        let changed = self.changed.take();
        changed
            .iter()
            .filter_map(|(page, words)| {
                let filled: Vec<u64>;
                let content = match self.pages.get(*page) {
                    PageRef::Mixed(content) => &content.0[words.span()],
                    PageRef::Uniform(_) => {
                        filled = words.span().map(|word| self.word(*page, word)).collect();
                        &filled
                    }
                };
                PageSnapshot::new(*page, words, content, bitmap_len)
            })
            .collect()
    }

    /// Marks the words of a snapshot as changed again, because writing it failed.
    pub fn restore_changes(&mut self, snapshot: &PageSnapshot) {
        if snapshot.page() >= self.pages.len() {
            return; // The device has been shrunk since.
        }
        let words = self
            .sectors_in(snapshot.page())
            .div_ceil(SECTORS_PER_WORD as u32);
        let mut changed = *snapshot.changed();
        changed.intersect(&WordSet::first(words));
        self.changed.insert(snapshot.page(), &changed);
    }

    fn word(&self, page: usize, word: usize) -> u64 {
        match self.pages.get(page) {
            PageRef::Uniform(state) => full_word(state, word, self.sectors_in(page)),
            PageRef::Mixed(words) => words.0[word],
        }
    }
}

/// Whether all bytes are `value`; a block at a time, which the compiler makes vectors of.
fn is_all(bytes: &[u8], value: u8) -> bool {
    let (blocks, rest) = bytes.as_chunks::<64>();
    let differ = |differ, byte: &u8| differ | (byte ^ value);
    blocks.iter().all(|block| block.iter().fold(0, differ) == 0) && rest.iter().fold(0, differ) == 0
}
