//! What a COW file says about itself, and whether its backing file still is the one that it was
//! made for. The backing file is looked at; its path is what somebody wrote, and it is opened only
//! where it matches and the user has said that this is a COW file.

use std::path::{Path, PathBuf};

use driver::cow::{Extension, ExtensionState, Geometry, Header};
use driver::host::{Access, FileIdentity, FileKind, HostError, HostResult, Metadata};
use driver::open::{
    Comparison, Difference, ExpectedBacking, FoundBacking, NamedBacking, NotInChange, Unfollowed,
    ways_out,
};
use driver::units::{Bytes, SectorCount};
use driver::{exact_count, since_1970};

use crate::image_host::ImageHost;

use super::ImageError;
use super::backing_note::backing_note;
use super::map::dirty_data;
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
    /// How much of that is data. The rest are holes of the COW file, and reads as zeros.
    pub dirty_data: Bytes,
    /// The length of the COW file.
    pub file_len: Bytes,
    /// The space that it takes on disk, where the host says so.
    pub allocated: Option<Bytes>,
    /// Where the backing file should be.
    pub backing_path: PathBuf,
    /// The length that the backing file should have.
    pub backing_size: Bytes,
    /// What the backing file is found to be.
    pub backing: BackingState,
    /// When it was modified last, in seconds since 1970, where it could be looked at.
    pub backing_modified: Option<i64>,
    /// What is worth a note about a backing file that matches.
    pub backing_note: Option<String>,
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
    /// Its time of last modification; this is what was found, in seconds since 1970.
    Modified(i64),
    /// A change of it was interrupted, and this is none of the files that it was about.
    NotInChange(NotInChange),
}

impl From<Difference> for BackingDifference {
    fn from(difference: Difference) -> BackingDifference {
        match difference {
            Difference::Kind(_) => BackingDifference::Kind,
            Difference::Size { found, .. } => BackingDifference::Size(found),
            Difference::Modified { found, .. } => BackingDifference::Modified(found),
            Difference::NotInChange(problem) => BackingDifference::NotInChange(problem),
        }
    }
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
                format!("has {}, expected {}", exact_count(found.0, "byte"), size.0)
            }
            BackingDifference::Modified(found) => {
                let dates = since_1970(&[*found, modified.into()]);
                format!("was modified at {found}, expected {modified} {dates}")
            }
            BackingDifference::NotInChange(problem) => {
                format!("is not the one that an interrupted change was about: {problem}")
            }
        }
    }

    /// What to do about it, where that can be said, of the backing file `path` of the COW file
    /// `cow`. Not to be shown of a file that nobody has said is a COW file: a guest may have
    /// written path and time.
    pub fn ways_out(&self, (path, cow): (&Path, &Path), modified: u32) -> Option<String> {
        match self {
            BackingDifference::Modified(_) => Some(ways_out(path, cow, modified)),
            _ => None,
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
    let examining = ImageError::host(path, "examining", driver::units::FileOffset(0));
    let file_len = driver::host::HostFile::len(device.cow()).map_err(&examining)?;
    let allocated = host.allocated(device.cow()).map_err(&examining)?;
    let dirty_data = dirty_data(device).map_err(examining)?;
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
        backing: ExpectedBacking::of(header, image.extension.as_ref(), false),
    };
    let found = named.reach(|place| host.look(place));
    let backing_modified = found.clone().ok().and_then(Result::ok);
    let backing_modified = backing_modified.map(|metadata| metadata.modified_seconds);
    let backing = expected.state(found);
    // What nobody has said is a COW file has nothing opened that it names.
    let note = match (&backing, trust) {
        (BackingState::Matches, Trust::Follow | Trust::Confine) => {
            let opened = named.open(host, Access::ReadOnly).ok();
            opened.and_then(|file| backing_note(named.path(), &file).ok().flatten())
        }
        _ => None,
    };
    Ok(Info {
        header: header.clone(),
        extension,
        geometry: image.geometry,
        dirty: device.map().dirty_count(),
        dirty_data,
        file_len,
        allocated,
        backing_path: named.path().to_owned(),
        backing_size,
        backing,
        backing_modified,
        backing_note: note,
        resize_in_progress: opened.interrupted.map(|record| record.new_size),
    })
}

/// What is known of the backing file that an image should have, without its content.
pub(super) struct Expected {
    /// Which file the COW file is.
    pub(super) cow: FileIdentity,
    /// What the COW file says.
    pub(super) backing: ExpectedBacking,
}

impl Expected {
    /// How the file that the header names compares with that.
    pub(super) fn look<H: ImageHost>(&self, host: &H, named: &NamedBacking) -> BackingState {
        self.state(named.reach(|place| host.look(place)))
    }

    pub(super) fn state(&self, found: Result<HostResult<Metadata>, Unfollowed>) -> BackingState {
        match found {
            Ok(Ok(found)) => self.compare(found),
            Ok(Err(error)) => BackingState::Missing(error),
            Err(why) => BackingState::NotFollowed(why),
        }
    }

    fn compare(&self, found: Metadata) -> BackingState {
        if found.identity == self.cow {
            return BackingState::Differs(BackingDifference::Itself);
        }
        let is_block_device = found.kind == FileKind::BlockDevice;
        let compared = self.backing.compare(FoundBacking {
            kind: found.kind,
            len: (!is_block_device).then_some(found.len),
            modified_seconds: found.modified_seconds,
        });
        match compared {
            Comparison::Matches if is_block_device => {
                BackingState::Unknown("a block device tells its size only when opened")
            }
            Comparison::Matches => BackingState::Matches,
            Comparison::ContentDecides(_) => BackingState::Unknown(
                "it is being changed, and its content has to tell whether it is the one: \
                 `ubdlab image check` reads it",
            ),
            Comparison::Differs(difference) => BackingState::Differs(difference.into()),
        }
    }
}
