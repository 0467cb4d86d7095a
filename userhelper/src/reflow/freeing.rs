//! Giving back the space where data was, as far as the new layout leaves it unused.

use driver::cow::SectorMap;
use driver::host::HostFile;
use driver::ordered::Ordered;
use driver::units::{Bytes, FileOffset, FileRange, Sector};

use super::Reflow;
use crate::space::BLOCK;

impl Reflow {
    /// Frees a step's worth of what is left of a window's source, except where later windows will
    /// be copied to. Returns what is left then.
    pub(super) fn free_some<F: HostFile>(
        &mut self,
        device: &mut Ordered<F>,
        source: FileRange,
    ) -> Option<FileRange> {
        let (mut at, mut freed) = (source.start, 0);
        while freed < self.freeing.amount() {
            // What the host cannot tell, or free, does no harm where it is.
            let data = device.cow().next_data(at).ok().flatten()?;
            if data.start >= source.end() {
                return None;
            }
            let start = FileOffset(data.start.0 / BLOCK * BLOCK).max(at);
            let data = FileRange::between(start..up_to_blocks(data.end()).min(source.end()));
            at = data.end();
            if let Some(unused) = self.next_unused(device.map(), data) {
                free(device, unused);
                freed += 1;
                at = unused.end();
            }
        }
        self.freeing.begin(freed);
        Some(FileRange::between(at..source.end()))
    }

    /// The first whole blocks of a range of the file in which no dirty sector will have its
    /// place.
    fn next_unused(&self, map: &SectorMap, range: FileRange) -> Option<FileRange> {
        let data = self.new.data_offset;
        let blocks = |range: std::ops::Range<FileOffset>| {
            let end = FileOffset(range.end.0 / BLOCK * BLOCK);
            let start = up_to_blocks(range.start);
            (start < end).then(|| FileRange::between(start..end))
        };
        if range.start < data {
            let before = blocks(range.start..range.end().min(data));
            if before.is_some() {
                return before;
            }
        }
        let place = |at: FileOffset| Bytes(at.0.saturating_sub(data.0));
        let mut from = Sector(0) + place(range.start).whole_sectors();
        let until = Sector(0) + place(range.end()).sectors_touched().min(map.sectors());
        while let Some(clean) = map.next_clean(from, until) {
            let start = self.new.place_of(clean.start).max(range.start);
            let end = self.new.place_of(clean.end()).min(range.end());
            let unused = blocks(start..end);
            if unused.is_some() {
                return unused;
            }
            from = clean.end();
        }
        None
    }
}

/// The border of a block at or after this.
pub(super) fn up_to_blocks(at: FileOffset) -> FileOffset {
    FileOffset(at.0.next_multiple_of(BLOCK))
}

/// Gives space back where the host can; where it cannot, what lies there does no harm, and is
/// no reason to stop.
pub(super) fn free<F: HostFile>(device: &mut Ordered<F>, range: FileRange) {
    if range.len > Bytes(0) {
        let _ = device.free_for_relocation(range);
    }
}
