//! The header: marked before anything is moved, and given the new layout at the end.

use driver::cow::Header;
use driver::host::HostFile;
use driver::ordered::{CowImage, Desk, NotCommitted, Placement};
use driver::resize::ResizeError;

use super::Reflow;
use super::undoing::Undo;

impl Reflow {
    /// Marks the header: from now on the journal counts.
    pub(super) async fn mark<F: HostFile>(
        &mut self,
        desk: &Desk<F>,
        undo: &mut Undo,
    ) -> Result<(), ResizeError> {
        let marked = write_header(desk, |header| header.relocating = true);
        if let Err(not_committed) = marked.await {
            if !not_committed.undone {
                // The journal has to stay: the header may need it.
                undo.before = None;
            }
            return Err(not_committed.error);
        }
        let placement = Placement::moving(&self.old, &self.new, self.record.frontier);
        desk.follow(move |here| here.set_placement(placement)).await
    }

    /// Gives header and device the new layout: the old bitmap does not count any more.
    pub(super) async fn commit<F: HostFile>(&mut self, desk: &Desk<F>) -> Result<(), ResizeError> {
        let new = self.new;
        let header = write_header(desk, move |header| {
            header.relocating = false;
            header.size = new.size;
            header.alignment = new.alignment;
        });
        let header = header.await?;
        desk.follow(move |here| {
            let image = CowImage {
                header,
                extension: here.device().image().and_then(|image| image.extension),
                geometry: new,
            };
            here.commit(image, Placement::settled(&new));
        })
        .await
    }
}

/// Changes the header's first sector, on disk and then in memory, and syncs.
async fn write_header<F: HostFile>(
    desk: &Desk<F>,
    change: impl FnOnce(&mut Header),
) -> Result<Header, NotCommitted> {
    let Some(image) = desk.look(|here| here.device().image().cloned()).await? else {
        return Err(ResizeError::Refused("a raw disk has no header".into()).into());
    };
    let mut header = image.header;
    change(&mut header);
    desk.commit_header(&header).await?;
    Ok(header)
}
