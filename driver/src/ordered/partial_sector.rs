//! The partial last sector of a device whose size is no multiple of 512 bytes. No request reaches
//! it, and no bit says anything about it, though a bitmap may have room for one: its bytes are
//! the backing file's. A grow makes a whole sector of it, which is dirty like every sector that a
//! grow brings. So its bytes have to be in the COW file by then, at its place in the new layout,
//! or they would turn into zeros.
//!
//! Every way to grow writes them into what nobody reads yet, and syncs them before the header
//! commits the new size. If the power goes before that, they are where they were.

use crate::cow::Geometry;
use crate::exact_count;
use crate::host::{FileRole, HostFile};
use crate::resize::ResizeError;
use crate::units::{FileOffset, Sector};

use super::Desk;

/// What a grow has to write into the COW file for the partial last sector of the old size. The
/// rest of that sector reads as zeros, as everything that a grow brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartialSector {
    /// Where in the COW file of the new layout.
    pub at: FileOffset,
    /// The bytes that the sector has: fewer than 512, and not all zeros.
    pub content: Vec<u8>,
}

impl PartialSector {
    /// What there is to do when the device gets the layout `new`: nothing if it has no partial last
    /// sector, if that holds zeros, or if the new size has no whole sector there.
    ///
    /// # Errors
    /// If the backing file cannot be read, or is not open.
    pub async fn to_carry<F: HostFile>(
        desk: &Desk<F>,
        new: &Geometry,
    ) -> Result<Option<PartialSector>, ResizeError> {
        let seen = desk.look(|here| (here.device().geometry(), here.device().backing().is_some()));
        let (Some(old), has_backing) = seen.await? else {
            // A raw disk has it where it stays.
            return Ok(None);
        };
        let sector = Sector(0) + old.capacity();
        let mut content = vec![0; (old.size - sector.bytes()).0 as usize];
        if content.is_empty() || new.capacity() <= old.capacity() {
            return Ok(None);
        }
        if !has_backing {
            return Err(ResizeError::Refused(format!(
                "the backing file has the last {} of the device, and is not open",
                exact_count(content.len() as u64, "byte")
            )));
        }
        let doing = "reading the partial last sector in the backing file";
        // What is past the end of the backing file reads as zeros.
        let from = FileOffset(sector.bytes().0);
        let len = desk.len(FileRole::Backing, doing).await?;
        content.truncate(len.0.saturating_sub(from.0) as usize);
        let content = desk.read(FileRole::Backing, doing, from, content).await?;
        Ok(content
            .iter()
            .any(|&byte| byte != 0)
            .then(|| PartialSector {
                at: new.place_of(sector),
                content,
            }))
    }

    /// Writes the bytes into a file of the device, which is the COW file or becomes it.
    ///
    /// # Errors
    /// The host's.
    pub async fn write<F: HostFile>(
        self,
        desk: &Desk<F>,
        file: FileRole,
    ) -> Result<(), ResizeError> {
        let doing = "writing the partial last sector into the COW file";
        desk.write(file, doing, self.at, self.content)
            .await
            .map(drop)
    }
}
