//! Opening an image for a tool: a COW file or a raw disk, as the user has named it, or, where that
//! is not said, as it begins. A guess is never followed far: a guest can write to its raw disk
//! what a COW file begins with.

use std::path::{Path, PathBuf};

use driver::device_spec::DeviceSpec;
use driver::host::{Access, FileIdentity, FileRole, HostError, HostFile, LockKind, OperationKind};
use driver::open::{
    ChosenBacking, Held, ImageFormat, OpenError, OpenOptions, Opened, Role, backing_path, open,
};
use driver::ordered::Ordered;
use driver::units::{Bytes, FileOffset};

use crate::at_once::AtOnce;
use crate::image_host::ImageHost;

use super::ImageError;

pub use driver::open::{Instead, Trust};

/// What the user says that an image is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Nothing: what begins with the magic number of a COW file is taken for one, and what begins
    /// like an image of another format is refused.
    #[default]
    Guess,
    /// A raw disk, whatever it begins with.
    Raw,
    /// A COW file.
    Cow,
}

impl Format {
    /// How far the backing path of a COW file is followed when the user says this of the file.
    /// `asked` is for one that the user has named as a COW file.
    pub fn trust(self, asked: Trust) -> Trust {
        match self {
            Format::Guess => Trust::Guessed,
            Format::Raw | Format::Cow => asked,
        }
    }
}

/// How the backing file of a COW file is reached.
#[derive(Clone, Copy, Debug)]
pub struct Reach<'a> {
    /// How far the header's path is followed.
    pub trust: Trust,
    /// The file that the user names to take its place, for reading: the header stays as it is.
    pub instead: Option<(ChosenBacking<'a>, Instead)>,
}

impl From<Trust> for Reach<'_> {
    fn from(trust: Trust) -> Self {
        Reach {
            trust,
            instead: None,
        }
    }
}

impl Reach<'_> {
    pub(super) fn specification(&self, path: &Path, read_only: bool) -> DeviceSpec {
        DeviceSpec {
            backing: self.instead.map(|(backing, _)| backing.path.to_owned()),
            ..specification(path, read_only)
        }
    }

    pub(super) fn options(&self) -> OpenOptions {
        OpenOptions {
            instead: self.instead.map(|(_, instead)| instead),
            backing_is_raw: self.instead.is_some_and(|(backing, _)| backing.raw),
            ..options(self.trust)
        }
    }

    /// The device with the paths of its files.
    pub(super) fn image_file<F: HostFile>(
        &self,
        path: &Path,
        opened: Opened<F>,
    ) -> CowImageFile<F> {
        let mut cow = cow_image_file(path, opened);
        if let Some((backing, _)) = self.instead {
            cow.backing_path = backing.path.to_owned();
        }
        cow
    }
}

/// The specification of the COW file at `path`.
pub(super) fn specification(path: &Path, read_only: bool) -> DeviceSpec {
    DeviceSpec {
        read_only,
        ..DeviceSpec::of(path)
    }
}

/// The options for a tool: nothing is created, and a backing path is followed like this.
pub(super) fn options(trust: Trust) -> OpenOptions {
    OpenOptions {
        create: false,
        trust,
        ..OpenOptions::default()
    }
}

/// An image that is open for reading, its files locked against writers.
#[derive(Debug)]
pub enum Image<F> {
    /// A COW file over its backing file.
    Cow(Box<CowImageFile<F>>),
    /// A raw disk.
    Raw {
        /// Its path.
        path: PathBuf,
        /// The file, locked against writers.
        file: Held<F>,
        /// The size of the disk.
        size: Bytes,
    },
}

/// An open COW file.
#[derive(Debug)]
pub struct CowImageFile<F> {
    /// Its path.
    pub path: PathBuf,
    /// The path of its backing file.
    pub backing_path: PathBuf,
    /// The device that the two make.
    pub device: Ordered<F>,
    /// How much of it is read, written or shared in one go.
    pub at_once: AtOnce,
}

impl<F: HostFile> Image<F> {
    /// The path that it was opened by.
    pub fn path(&self) -> &Path {
        match self {
            Image::Cow(cow) => &cow.path,
            Image::Raw { path, .. } => path,
        }
    }

    /// The size of the disk.
    pub fn size(&self) -> Bytes {
        match self {
            Image::Cow(cow) => device_size(&cow.device),
            Image::Raw { size, .. } => *size,
        }
    }

    /// How much of it is read in one go.
    pub(super) fn at_once(&self) -> AtOnce {
        match self {
            Image::Cow(cow) => cow.at_once,
            Image::Raw { .. } => AtOnce::default(),
        }
    }

    /// The files that it is read from, and what each is.
    pub(super) fn sources(&self) -> Vec<(FileRole, &Path, &F)> {
        match self {
            Image::Raw { path, file, .. } => vec![(FileRole::RawDisk, path, file.file())],
            Image::Cow(cow) => {
                let mut sources = vec![(FileRole::Cow, &*cow.path, cow.device.cow())];
                if let Some(backing) = cow.device.backing() {
                    sources.push((FileRole::Backing, &*cow.backing_path, backing));
                }
                sources
            }
        }
    }
}

/// Whether an error is about the content of the file at `image`, or about the backing file that it
/// names: it may be no COW file after all. What a guest can write there gives no advice.
fn is_of_content(error: &OpenError, image: &Path) -> bool {
    let is_backing = matches!(
        error,
        OpenError::Host { path, error: HostError::NotFound | HostError::PermissionDenied, .. }
        | OpenError::NotADisk { path, .. } if path != image
    );
    // These two say what to do about the backing file that is there or was asked for.
    let says_what_to_do = matches!(
        error,
        OpenError::OtherBacking { .. } | OpenError::NotInChange { .. }
    );
    is_backing || error.is_about_content() && !says_what_to_do
}

/// Opens an image for reading. A COW file has to be whole; the device of an interrupted reflow can
/// be read too. What begins or ends like an image of another format is a raw disk only where it is
/// named as one. `reach` is for the backing path of a file that was named as a COW file; of one
/// that only begins like it, see [`Trust::Guessed`].
///
/// # Errors
/// See [`OpenError`]; [`ImageError::OtherFormat`].
pub fn open_image<'a, H: ImageHost>(
    host: &H,
    path: &Path,
    format: Format,
    reach: impl Into<Reach<'a>>,
) -> Result<Image<H::File>, ImageError> {
    let reach = reach.into();
    let trust = format.trust(reach.trust);
    let cow = || {
        let cow = open_cow(host, path, Reach { trust, ..reach })?;
        Ok(Image::Cow(Box::new(cow)))
    };
    if format == Format::Cow {
        return cow();
    }
    let file = open_raw(host, path)?;
    let looks_like = match format {
        Format::Guess => {
            let at = FileOffset(0);
            let found = ImageFormat::of(file.file());
            found.map_err(|failed| ImageError::host(path, "reading", at)(failed.error))?
        }
        Format::Raw | Format::Cow => None,
    };
    if looks_like == Some(ImageFormat::Cow) {
        // Opened anew, as a device is: its lock is taken before the header is read.
        drop(file);
        return cow().map_err(|error| match error {
            ImageError::Open(error) if is_of_content(&error, path) => {
                ImageError::GuessedCow { error }
            }
            error => error,
        });
    }
    if let Some(format) = looks_like {
        return Err(ImageError::OtherFormat {
            path: path.to_owned(),
            format,
        });
    }
    if reach.instead.is_some() {
        return Err(ImageError::has_no_backing(path));
    }
    Ok(Image::Raw {
        path: path.to_owned(),
        size: file.len(),
        file,
    })
}

/// Opens a COW file, and no raw disk, for reading.
///
/// # Errors
/// See [`OpenError`].
pub fn open_cow<'a, H: ImageHost>(
    host: &H,
    path: &Path,
    reach: impl Into<Reach<'a>>,
) -> Result<CowImageFile<H::File>, ImageError> {
    let reach = reach.into();
    let opened = open(host, &reach.specification(path, true), reach.options())?;
    Ok(reach.image_file(path, opened))
}

/// Opens a COW file alone, or a raw disk if it is named as one, for reading and without a lock, so
/// that it works beside a running UML: what is read may be changing. A guess does no harm here,
/// because no backing file is opened.
///
/// # Errors
/// See [`OpenError`].
pub fn open_unlocked<H: ImageHost>(
    host: &H,
    path: &Path,
    format: Format,
) -> Result<Opened<H::File>, ImageError> {
    let alone = OpenOptions {
        without_backing: true,
        ..options(Trust::Follow)
    };
    let specification = DeviceSpec {
        shared: true,
        data: format == Format::Raw,
        ..specification(path, true)
    };
    Ok(open(host, &specification, alone)?)
}

/// Opens a COW file over a backing file that the user names to take the place of the header's, for
/// reading and without a lock; otherwise as [`open_unlocked`].
///
/// # Errors
/// See [`OpenError`].
pub fn open_unlocked_over<H: ImageHost>(
    host: &H,
    path: &Path,
    instead: (ChosenBacking<'_>, Instead),
) -> Result<CowImageFile<H::File>, ImageError> {
    let reach = Reach {
        trust: Trust::Follow,
        instead: Some(instead),
    };
    let specification = DeviceSpec {
        shared: true,
        ..reach.specification(path, true)
    };
    let opened = open(host, &specification, reach.options())?;
    Ok(reach.image_file(path, opened))
}

/// Opens a COW file to change it, with an exclusive lock. What an earlier change left half
/// done has to be finished first.
///
/// # Errors
/// See [`OpenError`]; [`ImageError::Unfinished`].
pub fn open_for_change<H: ImageHost>(
    host: &H,
    path: &Path,
    trust: Trust,
) -> Result<CowImageFile<H::File>, ImageError> {
    open_finished(host, path, trust, Access::ReadWrite, false)
}

/// Opens a COW file in which nothing was left half done: to change it, or to look at how that would
/// be; its backing file likewise.
pub(super) fn open_finished<'a, H: ImageHost>(
    host: &H,
    path: &Path,
    reach: impl Into<Reach<'a>>,
    access: Access,
    writable_backing: bool,
) -> Result<CowImageFile<H::File>, ImageError> {
    let reach = reach.into();
    let options = OpenOptions {
        writable_backing,
        ..reach.options()
    };
    let read_only = access == Access::ReadOnly;
    let opened = open(host, &reach.specification(path, read_only), options)?;
    refuse_unfinished(path, &opened)?;
    Ok(reach.image_file(path, opened))
}

/// What an earlier change left half done has to be finished before another one.
fn refuse_unfinished<F: HostFile>(path: &Path, opened: &Opened<F>) -> Result<(), ImageError> {
    let what = match opened.interrupted {
        Some(_) => "resize",
        None if is_changing_backing(&opened.device) => "change of the backing file",
        None => return Ok(()),
    };
    Err(ImageError::Unfinished {
        path: path.to_owned(),
        what,
    })
}

/// The device with the paths of its files.
pub fn cow_image_file<F: HostFile>(path: &Path, opened: Opened<F>) -> CowImageFile<F> {
    let device = opened.device;
    let backing_path = device
        .image()
        .map(|image| backing_path(path, &image.header))
        .unwrap_or_default();
    CowImageFile {
        path: path.to_owned(),
        backing_path,
        device,
        at_once: AtOnce::default(),
    }
}

/// Whether a tool was interrupted that changes the backing file.
pub fn is_changing_backing<F: HostFile>(device: &Ordered<F>) -> bool {
    device
        .image()
        .and_then(|image| image.extension)
        .is_some_and(|extension| extension.change.is_some())
}

/// The size of the device of a COW file, with a partial last sector if it has one.
pub(super) fn device_size<F: HostFile>(device: &Ordered<F>) -> Bytes {
    device
        .geometry()
        .map_or(device.capacity().bytes(), |geometry| geometry.size)
}

/// Closes the device of a COW file, making everything durable.
///
/// # Errors
/// The host's.
pub fn close<F: HostFile>(device: Ordered<F>, path: &Path) -> Result<(), ImageError> {
    let closed = device.close();
    closed.map(drop).map_err(|error| ImageError::Close {
        path: path.to_owned(),
        error,
    })
}

/// The file, which is one that can be a disk, locked against writers.
pub(super) fn open_raw<H: ImageHost>(host: &H, path: &Path) -> Result<Held<H::File>, ImageError> {
    let file = host
        .open(path, Access::ReadOnly)
        .map_err(|error| OpenError::Host {
            path: path.to_owned(),
            kind: OperationKind::Open,
            doing: "opening",
            error,
        })?;
    let lock = Some(LockKind::Shared);
    Ok(Held::take(host, path, file, lock, Role::Image)?)
}

/// Whether the file begins with the magic number of a COW file.
pub(super) fn begins_like_cow<F: HostFile>(file: &F, path: &Path) -> Result<bool, ImageError> {
    let at = FileOffset(0);
    let mut magic = [0; 4];
    file.read_zero_filled_at(&mut magic, at)
        .map_err(ImageError::host(path, "reading", at))?;
    Ok(driver::cow::Header::has_magic(&magic))
}

/// Makes a backing file durable that an image is about to name: content, time and name. Whoever
/// has just copied it has not synced it, and the image's disk is what it says.
pub(super) fn make_durable<H: ImageHost>(
    host: &H,
    path: &Path,
    file: &H::File,
) -> Result<(), ImageError> {
    let synced = host.sync_all(file);
    match synced.and_then(|()| host.sync_directory_of(path)) {
        // A file system that nothing can be written to, or a directory of somebody else's.
        Err(
            HostError::Unsupported | HostError::PermissionDenied | HostError::ReadOnlyFileSystem,
        ) => Ok(()),
        synced => synced.map_err(ImageError::host(path, "syncing", FileOffset(0))),
    }
}

/// Refuses an output that exists, and says so if it is one of the files that are read.
pub(super) fn check_output<H: ImageHost>(
    host: &H,
    output: &Path,
    sources: &[(FileRole, &Path, &H::File)],
) -> Result<(), ImageError> {
    let at = FileOffset(0);
    let examining = |path| ImageError::host(path, "examining", at);
    let existing = match host.open(output, Access::ReadOnly) {
        Err(HostError::NotFound) => return Ok(()),
        // It is there, whatever it is.
        Err(_) => None,
        Ok(file) => Some(host.metadata(&file).map_err(examining(output))?.identity),
    };
    let is = |identity: FileIdentity| Some(identity) == existing;
    for (role, path, file) in sources {
        if is(host.metadata(file).map_err(examining(path))?.identity) {
            return Err(ImageError::OntoSource {
                path: output.to_owned(),
                role: *role,
                source_path: path.to_path_buf(),
            });
        }
    }
    Err(ImageError::Exists {
        path: output.to_owned(),
    })
}
