//! Bringing a device up from its specification, with the checks that UML makes and those
//! that it leaves out: the header is decoded before anything is believed, the size and time
//! of the backing file have to be what the header (or the extension block) says, or the file has
//! to be known by what the block notes of a change under way, the COW file has to hold its
//! bitmap, and nothing without a header is taken for a raw disk unless the flag `d` says so.
//!
//! Opening writes nothing, with three exceptions that are asked for: a missing COW file is
//! created ([`create()`]), the backing file is switched, and a header is finished that an
//! interrupted switch or rebase has left half changed ([`OpenOptions::switch_backing`]). It syncs
//! the COW file and its name, though, before it believes what is read.

mod backing;
mod create;
mod error;
mod expected;
mod held;
mod image_format;
mod interrupted;
mod named;
mod reading;

use std::path::Path;

use crate::cow::{
    ExtensionState, FileTooLarge, Geometry, Header, HeaderError, JournalRecord, PagesAtOnce,
    SectorMap,
};
use crate::device_spec::DeviceSpec;
use crate::host::{
    Access, FailedOperation, HostError, HostFile, HostNames, LockKind, OperationKind,
};
use crate::name_backing::finish;
use crate::ordered::{CowImage, DeviceParts, Ordered, Placement};
use crate::units::FileOffset;

pub use backing::{examine_backing, reopen_backing};
pub use create::{
    ChosenBacking, NewBacking, Unnamed, create, create_temporary, create_whole, is_temporary_name,
    open_backing, remove_left_over, remove_temporary, temporary_name, write_start,
};
pub use error::{NotInChange, OpenError, ways_out};
pub use expected::{Comparison, Difference, ExpectedBacking, FoundBacking};
pub use held::{Held, Role};
pub use image_format::ImageFormat;
pub use named::{NamedBacking, Trust, Unfollowed, backing_path};
pub use reading::{read_extension, read_header};

use interrupted::{check_move, interrupted_move};
use reading::{check_data, read_map};

/// How a device is brought up, beside its specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// Create a missing COW file over the backing file that the specification names.
    pub create: bool,
    /// If the specification names another backing file than the header, write its name
    /// and time into the header; it must have the same size. A switch (or a rebase) that was
    /// interrupted in the middle of the header is finished first.
    pub switch_backing: bool,
    /// How far a backing path is followed if only the header names it.
    pub trust: Trust,
    /// Do without the backing file: for working on the COW file alone. Clean sectors
    /// cannot be read then.
    pub without_backing: bool,
    /// Open the backing file for writing too, and lock it exclusively: for a tool that changes
    /// it. The device itself never does.
    pub writable_backing: bool,
    /// Take the backing file that the specification names in the place of the header's, whose
    /// path stays. It must have the same size.
    pub instead: Option<Instead>,
    /// How much of the bitmap is read in one go.
    pub pages_at_once: PagesAtOnce,
    /// The backing file that the specification names is said to be a raw disk. If not, one that
    /// the header does not name already is refused where it begins like an image.
    pub backing_is_raw: bool,
}

/// Whether a backing file that takes the place of the header's has to have the time that the
/// header has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instead {
    /// It has: it should be the same file by another path.
    SameTime,
    /// It need not: it may have been copied. Nobody looks whether its content is the same.
    AnyTime,
}

impl Default for OpenOptions {
    /// What UML does: create, never switch, follow the header.
    fn default() -> OpenOptions {
        OpenOptions {
            create: true,
            switch_backing: false,
            trust: Trust::Follow,
            without_backing: false,
            writable_backing: false,
            instead: None,
            pages_at_once: PagesAtOnce::USUAL,
            backing_is_raw: false,
        }
    }
}

/// A device that has come up.
#[derive(Debug)]
pub struct Opened<F> {
    /// The device.
    pub device: Ordered<F>,
    /// The reflow that was interrupted, if one was: the device works, and has its old size
    /// until the reflow is finished.
    pub interrupted: Option<JournalRecord>,
    /// Whether the header was half changed to another backing file, and now names that one.
    pub finished_switch: bool,
}

/// Brings up the device that `spec` describes.
///
/// # Errors
/// See [`OpenError`]; every file is as it was, byte for byte.
pub fn open<N: HostNames>(
    names: &N,
    spec: &DeviceSpec,
    options: OpenOptions,
) -> Result<Opened<N::File>, OpenError> {
    if spec.data
        && let Some(backing) = &spec.backing
    {
        return Err(OpenError::RawWithBacking {
            path: spec.file.clone(),
            backing: backing.clone(),
        });
    }
    let cow = open_cow(names, spec, options)?;
    if !spec.read_only {
        make_durable(names, cow.file(), &spec.file)?;
    }
    if spec.data {
        return open_raw(spec, cow);
    }
    let path = &spec.file;
    let (mut header, finished_switch) = header_to_open(cow.file(), spec, options)?;
    let extension = match read_extension(cow.file(), &header, path)? {
        ExtensionState::Valid(extension) => Some(extension),
        // With the backing file at hand its size tells whether the block is needed.
        ExtensionState::Damaged if options.without_backing => {
            return Err(OpenError::ExtensionDamaged { path: path.clone() });
        }
        ExtensionState::Absent | ExtensionState::Damaged => None,
    };
    let geometry = Geometry::of(&header).map_err(no_layout(path, &header))?;
    let bitmap_end = geometry.bitmap().end();
    if cow.len() < bitmap_end - FileOffset(0) {
        return Err(OpenError::BitmapCutShort {
            path: path.clone(),
            found: cow.len(),
            expected: bitmap_end,
        });
    }
    let (placement, interrupted) = match header.relocating {
        false => (Placement::settled(&geometry), None),
        true => {
            let extended = extension.is_some();
            let (record, new) = interrupted_move(&cow, path, &header, extended)?;
            check_move(path, &geometry, &new, cow.len())?;
            let placement = Placement::moving(&geometry, &new, record.frontier);
            (placement, Some(record))
        }
    };
    let map = read_map(cow.file(), path, &geometry, options.pages_at_once)?;
    if interrupted.is_none() {
        check_data(path, &geometry, &map, cow.len())?;
    }
    let backing = match options.without_backing {
        true => None,
        false => Some(backing::open(
            names,
            spec,
            options,
            cow.file(),
            &mut header,
            extension,
        )?),
    };
    let capacity = geometry.capacity();
    let image = CowImage {
        header,
        extension,
        geometry,
    };
    let device = Ordered::new(DeviceParts {
        cow: cow.into_file(),
        backing: backing.map(Held::into_file),
        image: Some(image),
        map,
        placement,
        capacity,
        read_only: spec.read_only,
        synchronous: spec.synchronous,
    });
    Ok(Opened {
        device,
        interrupted,
        finished_switch,
    })
}

/// The header of the COW file, and whether its change to another backing file was finished: what
/// was interrupted at that can be finished only on the way to one.
fn header_to_open<F: HostFile>(
    cow: &F,
    spec: &DeviceSpec,
    options: OpenOptions,
) -> Result<(Header, bool), OpenError> {
    let path = &spec.file;
    match read_header(cow, path) {
        Err(OpenError::Header {
            error: HeaderError::HalfChanged { .. },
            ..
        }) if options.switch_backing && !spec.read_only => {
            finish(cow).map_err(|error| backing::not_named(path, error))?;
            Ok((read_header(cow, path)?, true))
        }
        header => Ok((header?, false)),
    }
}

/// For `map_err`: no file can have the layout that a header asks for.
fn no_layout(path: &Path, header: &Header) -> impl FnOnce(FileTooLarge) -> OpenError {
    let (path, at) = (path.to_owned(), header.version.size_offset());
    move |error| OpenError::Layout { path, at, error }
}

/// For `map_err`: an operation of this kind failed, `doing` on `path`.
fn host<'a>(
    path: &'a Path,
    kind: OperationKind,
    doing: &'static str,
) -> impl Fn(HostError) -> OpenError + 'a {
    move |error| match error {
        HostError::Locked => OpenError::Locked {
            path: path.to_owned(),
        },
        error => OpenError::Host {
            path: path.to_owned(),
            kind,
            doing,
            error,
        },
    }
}

/// For `map_err`: an operation failed, `doing` on `path`.
fn failed<'a>(path: &'a Path, doing: &'static str) -> impl Fn(FailedOperation) -> OpenError + 'a {
    move |failed| host(path, failed.kind, doing)(failed.error)
}

/// A process that was killed leaves in the host's memory what it had not synced. That will be
/// read as if it were on the disk, so it has to be: the first flush must cover it, and a
/// reflow goes on from the journal's latest record. Likewise the file's name, which a rebuild
/// may have given it a moment before.
fn make_durable<N: HostNames>(names: &N, cow: &N::File, path: &Path) -> Result<(), OpenError> {
    cow.sync_data().map_err(host(
        path,
        OperationKind::SyncData,
        "syncing what an earlier run may have left",
    ))?;
    match names.sync_directory_of(path) {
        // Whoever may not read the directory has not renamed the file either: a rebuild
        // opens the directory before it is done.
        Err(HostError::PermissionDenied | HostError::ReadOnlyFileSystem) => Ok(()),
        synced => synced.map_err(host(
            path,
            OperationKind::SyncDirectory,
            "syncing the directory",
        )),
    }
}

/// Opens and locks the COW file or raw disk, creating a COW file if there is none.
fn open_cow<N: HostNames>(
    names: &N,
    spec: &DeviceSpec,
    options: OpenOptions,
) -> Result<Held<N::File>, OpenError> {
    let path = &spec.file;
    let (access, lock) = match spec.read_only {
        true => (Access::ReadOnly, LockKind::Shared),
        false => (Access::ReadWrite, LockKind::Exclusive),
    };
    let file = match names.open(path, access) {
        Err(HostError::NotFound) if options.create && !spec.read_only && !spec.data => {
            let Some(backing) = &spec.backing else {
                let path = path.clone();
                return Err(OpenError::NothingToCreateFrom { path });
            };
            // Locked since before it had its name; taking the lock once more changes nothing.
            let raw = options.backing_is_raw;
            create(names, path, ChosenBacking { path: backing, raw }, None)?
        }
        opened => opened.map_err(host(path, OperationKind::Open, "opening"))?,
    };
    Held::take(
        names,
        path,
        file,
        (!spec.shared).then_some(lock),
        Role::Image,
    )
}

fn open_raw<F: HostFile>(spec: &DeviceSpec, disk: Held<F>) -> Result<Opened<F>, OpenError> {
    let path = &spec.file;
    let capacity = disk.len().whole_sectors();
    let map = SectorMap::all_dirty(capacity).map_err(|error| OpenError::TooLarge {
        path: path.clone(),
        error,
    })?;
    let device = Ordered::new(DeviceParts {
        cow: disk.into_file(),
        backing: None,
        image: None,
        map,
        placement: Placement::raw(),
        capacity,
        read_only: spec.read_only,
        synchronous: spec.synchronous,
    });
    Ok(Opened {
        device,
        interrupted: None,
        finished_switch: false,
    })
}
