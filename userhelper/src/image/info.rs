//! What a COW file says about itself, and whether its backing file still is the one that it was
//! made for. The backing file is looked at, not opened: its path is what somebody wrote.

use std::path::{Path, PathBuf};

use driver::cow::{BackingChange, Extension, ExtensionState, Geometry, Header, OtherBacking};
use driver::host::{FileIdentity, FileKind, HostError, Metadata};
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
    /// The COW file itself.
    Itself,
    /// Its size; this is what was found.
    Size(Bytes),
    /// Its time of last modification; this is what was found.
    Modified(u32),
}

impl BackingDifference {
    /// That it is no file that can be a disk.
    pub(super) const KIND: &str = "is no regular file or block device";

    /// That it is the COW file.
    pub(super) const ITSELF: &str = "is the COW file itself";

    /// In words, of a backing file that should have this size and this time.
    pub fn text(&self, size: Bytes, modified: u32) -> String {
        match self {
            BackingDifference::Kind => Self::KIND.into(),
            BackingDifference::Itself => Self::ITSELF.into(),
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
        matches!(self.extension, ExtensionState::Valid(extension) if extension.change.is_some())
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
    let examining = ImageError::host(path, "examining", driver::units::FileOffset(0));
    let cow = host.metadata(device.cow()).map_err(examining)?;
    let expected = Expected {
        cow: cow.identity,
        header,
        backing_size,
        change: image.extension.and_then(|it| it.change),
    };
    let backing = expected.look(host, &named);
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

/// What is known of the backing file that an image should have, without its content.
pub(super) struct Expected<'a> {
    /// Which file the COW file is.
    pub(super) cow: FileIdentity,
    pub(super) header: &'a Header,
    pub(super) backing_size: Bytes,
    pub(super) change: Option<BackingChange>,
}

impl Expected<'_> {
    /// How the file that the header names compares with that.
    pub(super) fn look<H: ImageHost>(&self, host: &H, named: &NamedBacking) -> BackingState {
        match named.reach(|place| host.look(place)) {
            Ok(Ok(found)) => self.compare(found),
            Ok(Err(error)) => BackingState::Missing(error),
            Err(why) => BackingState::NotFollowed(why),
        }
    }

    fn compare(&self, found: Metadata) -> BackingState {
        if found.identity == self.cow {
            return BackingState::Differs(BackingDifference::Itself);
        }
        let modified = found.modified_seconds as u32;
        let is_block_device = match found.kind {
            FileKind::Regular => false,
            FileKind::BlockDevice => true,
            FileKind::Directory | FileKind::Other => {
                return BackingState::Differs(BackingDifference::Kind);
            }
        };
        let change = self.change.unwrap_or_default();
        let other = OtherBacking {
            len: found.len,
            mtime: modified,
        };
        if change.other == Some(other) {
            return BackingState::Matches;
        }
        // Two sizes are right, as when a device is opened: in the middle of a reflow the header's is
        // none of them.
        let header = (!self.header.relocating).then_some(self.header.size);
        let second = change.in_place.map(|it| it.len).or(header);
        let is_right = found.len == self.backing_size || Some(found.len) == second;
        if !is_block_device && !is_right {
            return BackingState::Differs(BackingDifference::Size(found.len));
        }
        if change.in_place.is_some() {
            return BackingState::Unknown(
                "it is being changed, and its content has to tell whether it is the one: \
                 `ubdlab image check` reads it",
            );
        }
        if modified != self.header.backing_mtime {
            return BackingState::Differs(BackingDifference::Modified(modified));
        }
        match is_block_device {
            true => BackingState::Unknown("a block device tells its size only when opened"),
            false => BackingState::Matches,
        }
    }
}
