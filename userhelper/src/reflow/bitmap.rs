//! The bitmap of the new layout, once all data is at its new place.

use driver::host::{FileRole, HostFile};
use driver::ordered::{Desk, Placement};
use driver::resize::ResizeError;
use driver::units::{FileRange, Sector};

use super::Reflow;
use crate::new_bitmap::next_piece;

impl Reflow {
    /// Clears its place, and lets publications write into it from now on.
    pub(super) async fn clear_bitmap<F: HostFile>(
        &mut self,
        desk: &Desk<F>,
    ) -> Result<(), ResizeError> {
        let bitmap = self.new.bitmap_offset..self.new.data_offset;
        desk.clear(FileRange::between(bitmap)).await?;
        // From here on publications write whole words of both bitmaps: they have to carry the new
        // sectors' bits, which mean nothing past the old bitmap's end.
        let (sectors, bitmap) = (self.new.capacity(), self.new.bitmap());
        let mut placement = Placement::moving(&self.old, &self.new, Sector(0));
        desk.look(move |here| {
            here.grow_map(sectors)?;
            placement.add_bitmap(bitmap);
            here.set_placement(placement);
            Ok(())
        })
        .await?
    }

    /// Writes the bits of all sectors.
    pub(super) async fn write_bitmap<F: HostFile>(
        &mut self,
        desk: &Desk<F>,
    ) -> Result<(), ResizeError> {
        let doing = "writing the new bitmap of the COW file";
        let mut page = 0;
        loop {
            // Within one turn, so that no bit that is published meanwhile is written over.
            desk.turn().await?;
            let (new, mut buffer) = (self.new, std::mem::take(&mut self.buffer));
            let pages = self.at_once.pages();
            let piece = desk.look(move |here| {
                let piece = next_piece(here.device().map(), &new, (page, pages), &mut buffer);
                (piece, buffer)
            });
            let (Some(piece), bits) = piece.await? else {
                return Ok(());
            };
            self.buffer = desk.write(FileRole::Cow, doing, piece.at, bits).await?;
            page = piece.next_page;
        }
    }
}
