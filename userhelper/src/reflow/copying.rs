//! Copying a window to its new place: dirty runs, holes as holes.

use driver::host::{FileRole, HostFile};
use driver::ordered::Desk;
use driver::resize::ResizeError;
use driver::units::{Bytes, FileOffset, FileRange, SectorRange};

use super::Reflow;
use crate::zeros::is_zero;

pub(super) const READING: &str = "reading the data to be moved in the COW file";

const MOVING: &str = "moving data in the COW file";

impl Reflow {
    /// Copies the window's dirty runs, holes as holes. Requests go on meanwhile, and publications:
    /// neither touches the window, nor the place where it goes.
    pub(super) async fn copy<F: HostFile>(
        &mut self,
        desk: &Desk<F>,
        window: SectorRange,
    ) -> Result<(), ResizeError> {
        let mut at = window.start;
        self.found = None;
        loop {
            let next = desk.look(move |here| here.device().map().next_dirty(at, window.end()));
            let Some(run) = next.await? else {
                return Ok(());
            };
            let source = self.source_of(run);
            let copied =
                match source.len <= self.at_once.short() && self.copy_short(desk, source).await? {
                    true => source.len,
                    false => self.copy_front(desk, source).await?,
                };
            at = run.start + copied.sectors_touched();
            self.progress.set_passed(self.moved);
            desk.pass().await?;
        }
    }

    /// Copies the hole at the front of a dirty run, and some of the data after it; how much of the
    /// run that was.
    async fn copy_front<F: HostFile>(
        &mut self,
        desk: &Desk<F>,
        source: FileRange,
    ) -> Result<Bytes, ResizeError> {
        let data = self.data_of_window(desk, source).await?;
        let data = data.unwrap_or(FileRange::new(source.end(), Bytes(0)));
        // A hole is moved whole.
        self.clear_gap(desk, source.start..data.start).await?;
        let len = data.len.min(self.at_once.bytes()).min(self.most_copied);
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(len.0 as usize, 0);
        let buffer = desk
            .read(FileRole::Cow, READING, data.start, buffer)
            .await?;
        let to = data.start + self.distance().bytes();
        self.buffer = desk.write(FileRole::Cow, MOVING, to, buffer).await?;
        self.moved += len;
        Ok(data.start + len - source.start)
    }

    /// The first data in a part of the window that is copied, cut to it.
    ///
    /// Where data ends is remembered: a host may have to go through all of it to tell. Nobody
    /// writes, or frees, what is in the window meanwhile.
    async fn data_of_window<F: HostFile>(
        &mut self,
        desk: &Desk<F>,
        source: FileRange,
    ) -> Result<Option<FileRange>, ResizeError> {
        let known = self.found.and_then(|found| found.common(source));
        if let Some(known) = known.filter(|known| known.start == source.start) {
            return Ok(Some(known));
        }
        self.found = desk.next_data(FileRole::Cow, READING, source).await?;
        Ok(self.found)
    }

    /// Copies a short dirty run, if it is not a hole for all that can be seen. Whether it did.
    async fn copy_short<F: HostFile>(
        &mut self,
        desk: &Desk<F>,
        source: FileRange,
    ) -> Result<bool, ResizeError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(source.len.0 as usize, 0);
        let buffer = desk
            .read(FileRole::Cow, READING, source.start, buffer)
            .await?;
        if is_zero(&buffer) {
            self.buffer = buffer;
            return Ok(false);
        }
        let to = source.start + self.distance().bytes();
        self.buffer = desk.write(FileRole::Cow, MOVING, to, buffer).await?;
        self.moved += source.len;
        Ok(true)
    }

    /// Where a dirty run has a hole, its copy has to have one too.
    async fn clear_gap<F: HostFile>(
        &self,
        desk: &Desk<F>,
        gap: std::ops::Range<FileOffset>,
    ) -> Result<(), ResizeError> {
        if gap.start >= gap.end {
            return Ok(());
        }
        let distance = self.distance().bytes();
        desk.clear(FileRange::between(gap.start + distance..gap.end + distance))
            .await
    }
}
