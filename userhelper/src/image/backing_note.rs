//! What is worth a note about a backing file that is the right one: a disk that begins like an
//! image is read as it is, header and all, and that may not be what its owner meant.

use std::path::Path;

use driver::host::{FailedOperation, HostFile};
use driver::open::ImageFormat;
use driver::shown;

use super::open::{CowImageFile, Image};

/// The note about the open backing file at `path`, if it begins like an image.
///
/// # Errors
/// The host's.
pub fn backing_note<F: HostFile>(path: &Path, file: &F) -> Result<Option<String>, FailedOperation> {
    Ok(ImageFormat::of(file)?.map(|format| {
        format!(
            "the backing file {} {}, and is read as a raw disk, by stock UML too",
            shown(path),
            format.looks()
        )
    }))
}

impl<F: HostFile> CowImageFile<F> {
    /// What is worth a note about its backing file. A file that cannot be read is told of by what
    /// reads more of it.
    pub fn backing_note(&self) -> Option<String> {
        let backing = self.device.backing()?;
        backing_note(&self.backing_path, backing).ok().flatten()
    }
}

impl<F: HostFile> Image<F> {
    /// What is worth a note about the backing file of a COW file.
    pub fn backing_note(&self) -> Option<String> {
        match self {
            Image::Cow(cow) => cow.backing_note(),
            Image::Raw { .. } => None,
        }
    }
}
