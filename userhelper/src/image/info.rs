//! What a COW file says about itself, and whether its backing file still is the one that it was
//! made for. The backing file is looked at, not opened: its path is what somebody wrote.

use std::path::{Path, PathBuf};

use driver::cow::{Extension, ExtensionState, Geometry, Header};
use driver::host::{FileKind, HostError, Metadata};
use driver::open::{NamedBacking, Unfollowed};
use driver::units::{Bytes, SectorCount};

use crate::image_host::ImageHost;

use super::ImageError;
use super::open::{Format, Trust, open_unlocked};

/// What a COW file says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// The header.
    pub header: Header,
    /// The extension block, or what is in its place.
    pub extension: ExtensionState,
    /// The layout in force.
    pub geometry: Geometry,
    /// How many sectors are dirty.
    pub dirty: SectorCount,
    /// The length of the COW file.
    pub file_len: Bytes,
    /// Where the backing file should be.
    pub backing_path: PathBuf,
    /// The length that the backing file should have.
    pub backing_size: Bytes,
    /// What the backing file is found to be.
    pub backing: BackingState,
    /// The size that an interrupted resize leads to.
    pub resize_in_progress: Option<Bytes>,
}

/// How a backing file compares with what its COW file expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackingState {
    /// It has the size and the time that it should have.
    Matches,
    /// It is there and is another.
    Differs(BackingDifference),
    /// It was not to be looked at.
    NotFollowed(Unfollowed),
    /// Nobody knows: the host does not tell without opening it.
    Unknown(&'static str),
    /// It is not there, or may not be looked at.
    Missing(HostError),
}

/// In what a backing file differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackingDifference {
    /// No regular file or block device.
    Kind,
    /// Its size; this is what was found.
    Size(Bytes),
    /// Its time of last modification; this is what was found.
    Modified(u32),
}

impl BackingDifference {
    /// In words, of a backing file that should have this size and this time.
    pub fn text(&self, size: Bytes, modified: u32) -> String {
        match self {
            BackingDifference::Kind => "is no regular file or block device".into(),
            BackingDifference::Size(found) => {
                format!("has {} bytes, expected {}", found.0, size.0)
            }
            BackingDifference::Modified(found) => {
                format!("was modified at {found}, expected {modified} (seconds since 1970)")
            }
        }
    }
}

impl Info {
    /// The size up to which the device grows without its data moving: its own size where it
    /// cannot grow like that at all.
    pub fn headroom(&self) -> Bytes {
        let v3 = self.header.version == driver::cow::Version::V3;
        match v3 && Extension::fits(&self.geometry) && self.resize_in_progress.is_none() {
            true => self.geometry.headroom().max(self.geometry.size),
            false => self.geometry.size,
        }
    }

    /// Whether a change of the backing file was interrupted.
    pub fn is_changing_backing(&self) -> bool {
        matches!(self.extension, ExtensionState::Valid(extension) if extension.changing_backing)
    }
}

/// Looks at the COW file at `path`. It takes no lock, so that it works beside a running UML.
///
/// # Errors
/// See [`driver::open::OpenError`].
pub fn info<H: ImageHost>(host: &H, path: &Path, trust: Trust) -> Result<Info, ImageError> {
    let opened = open_unlocked(host, path, Format::Cow)?;
    let device = &opened.device;
    let Some(image) = device.image() else {
        return Err(ImageError::NotCow {
            path: path.to_owned(),
        });
    };
    let file_len = driver::host::HostFile::len(device.cow()).map_err(ImageError::host(
        path,
        "examining",
        driver::units::FileOffset(0),
    ))?;
    let extension = match image.extension {
        Some(extension) => ExtensionState::Valid(extension),
        None => ExtensionState::Absent,
    };
    let header = &image.header;
    let backing_size = image.extension.map_or(header.size, |it| it.backing_size);
    let named = NamedBacking::of(path, header, trust);
    let backing = look_at_backing(host, &named, header, backing_size);
    Ok(Info {
        header: header.clone(),
        extension,
        geometry: image.geometry,
        dirty: device.map().dirty_count(),
        file_len,
        backing_path: named.path().to_owned(),
        backing_size,
        backing,
        resize_in_progress: opened.interrupted.map(|record| record.new_size),
    })
}

/// How the backing file compares with what the header and the extension block expect.
pub(super) fn look_at_backing<H: ImageHost>(
    host: &H,
    named: &NamedBacking,
    header: &Header,
    backing_size: Bytes,
) -> BackingState {
    match named.reach(|place| host.look(place)) {
        Ok(Ok(found)) => compare(found, header, backing_size),
        Ok(Err(error)) => BackingState::Missing(error),
        Err(why) => BackingState::NotFollowed(why),
    }
}

fn compare(found: Metadata, header: &Header, backing_size: Bytes) -> BackingState {
    // Two sizes are right, as when a device is opened.
    let sizes = [backing_size, header.size];
    let modified = found.modified_seconds as u32;
    match found.kind {
        FileKind::Directory | FileKind::Other => BackingState::Differs(BackingDifference::Kind),
        FileKind::Regular if !sizes.contains(&found.len) => {
            BackingState::Differs(BackingDifference::Size(found.len))
        }
        _ if modified != header.backing_mtime => {
            BackingState::Differs(BackingDifference::Modified(modified))
        }
        FileKind::BlockDevice => {
            BackingState::Unknown("a block device tells its size only when opened")
        }
        FileKind::Regular => BackingState::Matches,
    }
}
