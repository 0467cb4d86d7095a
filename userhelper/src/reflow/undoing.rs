//! Ending a reflow that has moved nothing, so that the file is as it was before.

use driver::cow::SectorMap;
use driver::host::HostFile;
use driver::ordered::{Before, CowImage, Desk, Hold, Placement};
use driver::resize::ResizeError;
use driver::units::{FileOffset, FileRange, Sector, SectorRange};

use super::Reflow;
use crate::space::BLOCK;

/// What has to be put back if the move ends before anything was moved.
pub(super) struct Undo {
    /// `None` also when nobody knows whether the header is marked.
    pub(super) before: Option<Before>,
    /// The window whose copy may have begun.
    pub(super) copied: Option<SectorRange>,
}

impl Reflow {
    /// Ends the reflow before anything was moved, leaving the file as it was. `copied` is the
    /// window whose copy may have begun.
    pub(super) async fn undo<F: HostFile>(
        &self,
        desk: &Desk<F>,
        before: Before,
        copied: Option<SectorRange>,
    ) -> Result<(), ResizeError> {
        // A publication that is half done knows where the data was when it began. What is kept out
        // of the window stays so.
        desk.turn().await?;
        let image = desk.look(|here| here.device().image().cloned()).await?;
        if let Some(CowImage { mut header, .. }) = image
            && header.relocating
        {
            header.relocating = false;
            // Without that, either header may be there, and recovery rolls forward from a
            // frontier that nobody here knows: a write could go over the copy that it takes
            // for the data.
            if let Err(error) = desk.put_header(&header).await {
                desk.look(|here| here.refuse_writes()).await?;
                return Err(error);
            }
        }
        let placement = Placement::settled(&self.old);
        desk.look(move |here| here.set_placement(placement)).await?;
        let mut cleared = Ok(());
        if let Some(window) = copied.filter(|window| !window.is_empty()) {
            // The copy may lie where clean sectors have their place. They are above the window,
            // and the guest is kept out of them as out of the window.
            let copy = self.new.place_of(window.start);
            let end = self.old.place_of(self.record.frontier);
            if copy < end {
                let from = self.block_of_copy(desk, window, copy).await?;
                cleared = desk.clear(FileRange::between(from..end)).await;
            }
        }
        // A copy that cannot be cleared lies under clean sectors, and the rest is put back.
        desk.look(|here| here.set_hold(Hold::Nothing)).await?;
        let put_back = before.put_back(desk).await;
        cleared.and(put_back)
    }

    /// Where the copy of `window`, which begins at `copy`, is cleared from: the start of the block
    /// that it begins within, if that holds nothing else and the guest is kept out of it. Otherwise
    /// the block would keep its space.
    async fn block_of_copy<F: HostFile>(
        &self,
        desk: &Desk<F>,
        window: SectorRange,
        copy: FileOffset,
    ) -> Result<FileOffset, ResizeError> {
        let old = self.old;
        let block = copy.round_down(BLOCK).max(old.data_offset);
        let at = |place: FileOffset| Sector(0) + (place - old.data_offset).whole_sectors();
        let below = SectorRange::between(at(block)..at(copy));
        let is_free = move |map: &SectorMap| map.dirty_runs(below).next().is_none();
        let is_free = desk.look(move |here| is_free(here.device().map())).await?;
        Ok(match is_free && below.start >= window.start {
            true => block,
            false => copy,
        })
    }
}
