//! Giving back a block of the COW file that holds nothing: clearing a part of a block, or cutting
//! the file within it, does not free it.

use crate::cow::Geometry;
use crate::host::{BLOCK, FileRole, HostFile};
use crate::resize::ResizeError;
use crate::units::{Bytes, FileOffset, FileRange, Sector, SectorCount, SectorRange};

use super::{Desk, Hold};

impl<F: HostFile> Desk<F> {
    /// Frees a block of the COW file that reads as zeros. Requests are kept out of the sectors that
    /// have their place in it meanwhile, and of nothing afterwards.
    ///
    /// # Errors
    /// [`ResizeError::Abandoned`] alone: what cannot be read keeps its space, and does no harm.
    pub(super) async fn free_if_zero(
        &self,
        geometry: &Geometry,
        block: FileRange,
    ) -> Result<(), ResizeError> {
        // Data can begin within it.
        let place = |at: FileOffset| Bytes(at.0.saturating_sub(geometry.data_offset.0));
        let first = Sector(0) + place(block.start).whole_sectors();
        let end = Sector(0) + place(block.end()).whole_sectors();
        let of_data = SectorRange::between(first..end);
        if of_data.count > SectorCount(0) {
            self.look(move |here| here.set_hold(Hold::Window(of_data)))
                .await?;
        }
        self.turn().await?;
        match self.is_zero(block).await {
            Ok(true) => self.free(block).await?,
            Ok(false) | Err(ResizeError::Host { .. }) => {}
            Err(given_up) => return Err(given_up),
        }
        if of_data.count > SectorCount(0) {
            self.look(|here| here.set_hold(Hold::Nothing)).await?;
        }
        Ok(())
    }

    /// Whether a block reads as zeros, as far as the file goes.
    async fn is_zero(&self, block: FileRange) -> Result<bool, ResizeError> {
        let doing = "reading a block of the COW file that may hold nothing";
        let len = FileOffset(0) + self.len(FileRole::Cow, doing).await?;
        let there = block.end().min(len).0.saturating_sub(block.start.0);
        let bytes = vec![0; there as usize];
        let bytes = self.read(FileRole::Cow, doing, block.start, bytes).await?;
        Ok(bytes.iter().all(|&byte| byte == 0))
    }
}

/// The block of the file that an offset is in.
pub(super) fn block_of(at: FileOffset) -> FileRange {
    FileRange::new(at.round_down(BLOCK), Bytes(BLOCK))
}
