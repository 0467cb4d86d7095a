//! The bits, in the bitmap on the disk, of the sectors that come or go.

use crate::cow::{Geometry, PAGE_BYTES};
use crate::host::{FileRole, HostFile};
use crate::ordered::Desk;
use crate::ordered::zero_block::block_of;
use crate::resize::ResizeError;
use crate::units::{Bytes, FileRange};

use super::Headroom;

const BITS: &str = "writing the bitmap of the COW file";

impl Headroom {
    /// Writes the bits of a turn from this byte of the bitmap on; the first byte after them.
    pub(super) async fn write_bits<F: HostFile>(
        &self,
        desk: &Desk<F>,
        new: &Geometry,
        from: u64,
    ) -> Result<u64, ResizeError> {
        let pages = self.pages_at_once.bytes().0 - PAGE_BYTES as u64;
        let last = from.saturating_add(pages).min(new.bitmap_len.0);
        let to = page_end(last).min(new.bitmap_len.0);
        let bits = desk.look(move |here| {
            let mut bits = vec![0; (to - from) as usize];
            here.device().map().copy_bitmap(Bytes(from), &mut bits);
            bits
        });
        let mut bits = bits.await?;
        if from == self.first_changed_byte() {
            let old_bits = self.kept_bits(desk, new).await?;
            bits[0] = bits[0] & !self.kept_mask() | old_bits;
        }
        let at = new.bitmap_offset + Bytes(from);
        desk.write(FileRole::Cow, BITS, at, bits).await?;
        Ok(to)
    }

    /// The byte of the bitmap with the bit of the first sector that comes or goes.
    pub(super) fn first_changed_byte(&self) -> u64 {
        self.old_sectors.min(self.new_sectors).0 / 8
    }

    /// The bits in that byte of the sectors that stay.
    fn kept_mask(&self) -> u8 {
        (1 << (self.old_sectors.min(self.new_sectors).0 % 8)) - 1
    }

    /// What the bitmap on the disk has there for the sectors that stay.
    async fn kept_bits<F: HostFile>(
        &self,
        desk: &Desk<F>,
        geometry: &Geometry,
    ) -> Result<u8, ResizeError> {
        if self.kept_mask() == 0 {
            return Ok(0);
        }
        let doing = "reading the bitmap of the COW file";
        let at = geometry.bitmap_offset + Bytes(self.first_changed_byte());
        let byte = desk.read(FileRole::Cow, doing, at, vec![0]).await?;
        Ok(byte[0] & self.kept_mask())
    }

    /// Clears the bits of the sectors that went, or that did not come after all.
    pub(super) async fn clear_bits<F: HostFile>(
        &self,
        desk: &Desk<F>,
        geometry: &Geometry,
    ) -> Result<(), ResizeError> {
        let first = self.first_changed_byte();
        let mut from = first;
        if self.kept_mask() != 0 {
            let kept = self.kept_bits(desk, geometry).await?;
            let at = geometry.bitmap_offset + Bytes(from);
            desk.write(FileRole::Cow, BITS, at, vec![kept]).await?;
            from += 1;
        }
        // There is room for a bit of a partial last sector too, perhaps in a byte of its own.
        let larger = self.old_size.max(self.new_size);
        let end = larger.sectors_touched().0.div_ceil(8);
        if from < end {
            let start = geometry.bitmap_offset + Bytes(from);
            let cleared = FileRange::new(start, Bytes(end - from));
            desk.clear(cleared).await?;
        }
        let first = block_of(geometry.bitmap_offset + Bytes(first));
        let last = block_of(geometry.bitmap_offset + Bytes(end.max(from) - 1));
        // Clearing a part of a block does not free it.
        desk.free_if_zero(geometry, first).await?;
        match first == last {
            true => Ok(()),
            false => desk.free_if_zero(geometry, last).await,
        }
    }
}

fn page_end(byte: u64) -> u64 {
    (byte / PAGE_BYTES as u64 + 1) * PAGE_BYTES as u64
}
