//! Writing the header and the extension block of an open device.

use crate::cow::{Extension, Header};
use crate::host::FileRole;
use crate::resize::ResizeError;
use crate::units::FileOffset;

use super::{CowImage, Desk};

/// A header that was not committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotCommitted {
    /// Why.
    pub error: ResizeError,
    /// Whether the former header is on the disk for certain. Otherwise either may be.
    pub undone: bool,
}

/// What fails before a header is written leaves the former one.
impl From<ResizeError> for NotCommitted {
    fn from(error: ResizeError) -> NotCommitted {
        NotCommitted {
            error,
            undone: true,
        }
    }
}

impl From<NotCommitted> for ResizeError {
    fn from(not_committed: NotCommitted) -> ResizeError {
        not_committed.error
    }
}

impl<F: crate::host::HostFile> Desk<F> {
    /// Writes the header's first sector, which holds every field but the end of the path, and
    /// syncs. Both layouts are whole on either side of that write, and it is one sector, so
    /// that it commits. The device in memory follows only where the header is about whether a
    /// reflow is under way; [`super::Relocation::commit`] does the rest.
    ///
    /// # Errors
    /// The host's. The former header is put back then, and if that fails too the device is
    /// not trusted until it is opened again: nobody knows which of the two is on the disk.
    pub async fn commit_header(&self, header: &Header) -> Result<(), NotCommitted> {
        self.check_syncs().await?;
        let former = self.look(|here| here.device().image().cloned()).await?;
        let Some(former) = former.map(|image| image.header) else {
            return Err(ResizeError::Refused("a raw disk has no header".into()).into());
        };
        let Err(error) = self.put_header(header).await else {
            return Ok(());
        };
        self.decided().await;
        let undone = self.put_header(&former).await.is_ok();
        if !undone {
            self.follow(|here| here.distrust()).await?;
        }
        Err(NotCommitted { error, undone })
    }

    /// Writes the header's first sector and syncs it, also after a sync has failed: what was
    /// unsynced then may be lost, but not what is written now.
    ///
    /// # Errors
    /// The host's. Nobody knows then which header is on the disk.
    pub async fn put_header(&self, header: &Header) -> Result<(), ResizeError> {
        let doing = "writing the header of the COW file";
        let sector = header.first_sector();
        self.write(FileRole::Cow, doing, FileOffset(0), sector)
            .await?;
        self.sync_to_undo().await?;
        let relocating = header.relocating;
        self.follow(move |here| here.set_relocating(relocating))
            .await
    }

    /// Writes the extension block of the COW file, durably, and remembers it.
    ///
    /// # Errors
    /// The host's, or [`ResizeError::SyncFailed`] if a sync has failed before.
    pub async fn commit_extension(&self, extension: Extension) -> Result<(), ResizeError> {
        self.write_extension(extension).await?;
        self.sync().await
    }

    /// Writes the extension block of the COW file, and remembers it.
    ///
    /// # Errors
    /// The host's.
    async fn write_extension(&self, extension: Extension) -> Result<(), ResizeError> {
        let doing = "writing the extension block of the COW file";
        self.put_extension(FileRole::Cow, doing, extension).await?;
        self.follow(move |here| here.set_extension(Some(extension)))
            .await
    }

    /// Writes the extension block into a file of the device; `doing` says what it is for.
    ///
    /// # Errors
    /// The host's.
    pub async fn put_extension(
        &self,
        file: FileRole,
        doing: &'static str,
        extension: Extension,
    ) -> Result<(), ResizeError> {
        let block = extension.encode().to_vec();
        self.write(file, doing, Extension::OFFSET, block)
            .await
            .map(drop)
    }

    /// Writes the extension block of the device, which says this of itself, if there is none yet:
    /// once the header's size has changed, only the block knows the size of the backing file.
    /// Whether it wrote.
    ///
    /// # Errors
    /// The host's, or [`ResizeError::Refused`] if there is no room for the block.
    pub async fn need_extension(&self, image: &CowImage) -> Result<bool, ResizeError> {
        if image.extension.is_some() {
            return Ok(false);
        }
        check_extension(image)?;
        self.write_extension(Extension::new(image.header.size))
            .await?;
        Ok(true)
    }
}

/// Whether there is an extension block, or room for one.
pub(super) fn check_extension(image: &CowImage) -> Result<(), ResizeError> {
    match image.extension.is_some() || Extension::fits(&image.geometry) {
        true => Ok(()),
        false => Err(ResizeError::Refused(
            "there is no room for the extension block before the bitmap".into(),
        )),
    }
}
