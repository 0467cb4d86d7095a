//! Making a COW file that was not there: under a temporary name, complete and synced, before
//! it gets its own. Linux (up to 6.12 at least) writes in place and syncs nothing.
//!
//! A new file is its owner's alone until it is complete, because what is copied into it may be
//! private. Then it gets the mode of any new file, without what the files that it was made
//! from keep from others.
//!
//! | power goes after | a reader finds |
//! |---|---|
//! | the temporary file was created, or filled in part or whole | no file; a temporary one that only its owner can open, and that the next creation removes |
//! | the mode was given | the same, with either mode; the temporary file is complete |
//! | the sync | the same; complete for certain |
//! | the rename | no file, or a whole one |
//! | the sync of the directory | a whole one; on a file system whose fdatasync leaves the mode out, it may still be its owner's alone |

use std::borrow::Borrow;
use std::path::{Path, PathBuf};

use crate::cow::{Extension, Geometry, Header, MAX_SECTORS, MapTooLarge};
use crate::host::{Access, HostError, HostFile, HostNames, LockKind, OperationKind, Replace};
use crate::units::FileOffset;

use super::held::check_name;
use super::{Held, OpenError, Role, backing, failed, host};

/// How a temporary name ends.
const TEMPORARY_END: &str = ".ubdlab-new";

/// The name under which a replacement for `path` is made, beside it.
pub fn temporary_name(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or(path.as_os_str()));
    name.push(TEMPORARY_END);
    path.with_file_name(name)
}

/// Whether [`temporary_name`] makes such names.
pub fn is_temporary_name(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.starts_with(b".") && name.ends_with(TEMPORARY_END.as_bytes())
}

/// Creates a V3 COW file at `path` over `backing`. The header names an absolute path as given
/// here, a relative one from the COW file's directory on; `alignment` is chosen with room for
/// growth when not given. The file is returned open and locked exclusively.
///
/// # Errors
/// If `path` exists, or the backing file is not one; as of [`create_whole`].
pub fn create<'a, N: HostNames>(
    names: &N,
    path: &Path,
    backing: impl Into<ChosenBacking<'a>>,
    alignment: Option<u32>,
) -> Result<N::File, OpenError> {
    let backing = open_backing(names, path, backing)?;
    let size = backing.held.len();
    let alignment = alignment.unwrap_or_else(|| Geometry::roomy_alignment(size));
    let header = Header::v3(&backing.name, backing.held.mtime(), size, alignment);
    let header = header.map_err(|error| OpenError::Header {
        path: path.to_owned(),
        error,
    })?;
    create_whole(names, path, &[], |file| {
        write_start(file, path, &header, Some(Extension::new(size))).map(|_| ())
    })
}

/// A backing file that a COW file is to be made over.
#[derive(Debug)]
pub struct NewBacking<F> {
    /// The open file, locked against writers, with the length and the time that the COW file is
    /// to record.
    pub held: Held<F>,
    /// How the COW file's header has to name it.
    pub name: PathBuf,
}

/// A backing file that the user chooses for a COW file.
#[derive(Clone, Copy, Debug)]
pub struct ChosenBacking<'a> {
    /// Its path.
    pub path: &'a Path,
    /// Whether it is said to be a raw disk. If not, one that begins like an image is refused: its
    /// header and tables would be taken for the disk's first sectors.
    pub raw: bool,
}

impl<'a, P: AsRef<Path> + ?Sized> From<&'a P> for ChosenBacking<'a> {
    fn from(path: &'a P) -> ChosenBacking<'a> {
        ChosenBacking {
            path: path.as_ref(),
            raw: false,
        }
    }
}

/// Opens and locks `backing`, over which a COW file at `path` is to be made.
///
/// # Errors
/// If it is no regular file or block device, has less than a sector or more than a device can
/// have, or is locked; if it begins like an image and nobody says that it is raw; or if the
/// header could not name it. What would keep the device from coming up must not leave a COW file
/// behind.
pub fn open_backing<'a, N: HostNames>(
    names: &N,
    path: &Path,
    backing: impl Into<ChosenBacking<'a>>,
) -> Result<NewBacking<N::File>, OpenError> {
    let ChosenBacking { path: backing, raw } = backing.into();
    let file = backing::open_path(names, backing, Access::ReadOnly)?;
    let held = Held::take(names, backing, file, Some(LockKind::Shared), Role::Backing)?;
    let sectors = held.len().whole_sectors();
    if sectors > MAX_SECTORS {
        return Err(OpenError::TooLarge {
            path: backing.to_owned(),
            error: MapTooLarge {
                found: sectors,
                maximum: MAX_SECTORS,
            },
        });
    }
    if sectors.0 == 0 {
        return Err(OpenError::BackingTooSmall {
            path: backing.to_owned(),
            found: held.len(),
        });
    }
    if !raw {
        backing::refuse_image(backing, held.file())?;
    }
    Ok(NewBacking {
        name: backing::name_for_header(names, path, backing, held.file())?,
        held,
    })
}

/// Writes header and extension block of a new COW file and gives it its length; the bitmap
/// is a hole, so every sector is clean. Where things are in the file.
///
/// # Errors
/// A layout that no file can have, or the host's.
pub fn write_start<F: HostFile>(
    file: &F,
    path: &Path,
    header: &Header,
    extension: Option<Extension>,
) -> Result<Geometry, OpenError> {
    let geometry = Geometry::of(header).map_err(|error| OpenError::Layout {
        path: path.to_owned(),
        at: header.version.size_offset(),
        error,
    })?;
    let write = || {
        let put = |bytes: &[u8], at| {
            let written = file.write_all_at(bytes, at);
            written.map_err(OperationKind::Write.failed())
        };
        put(&header.encode(), FileOffset(0))?;
        if let Some(extension) = extension {
            put(&extension.encode(), Extension::OFFSET)?;
        }
        let lengthened = file.set_len(geometry.data_end() - FileOffset(0));
        lengthened.map_err(OperationKind::SetLen.failed())
    };
    write().map_err(failed(path, "creating"))?;
    Ok(geometry)
}

/// Creates the file `path`, whole or not at all: `fill` gets a temporary one beside it, which
/// is then given its mode, synced and given the name, durably. `sources` are the files that
/// the content comes from: what they keep from others the new one does too. The file is returned
/// open and locked exclusively.
///
/// # Errors
/// If `path` exists, or what `fill` says; nothing is left behind then. If syncing the directory
/// fails, the file is there, whole, and a power cut may take its name. If the host can no longer
/// be asked whether a rename that failed was done, it is there, whole, or not at all.
pub fn create_whole<N: HostNames, E: From<OpenError>>(
    names: &N,
    path: &Path,
    sources: &[&N::File],
    fill: impl FnOnce(&N::File) -> Result<(), E>,
) -> Result<N::File, E> {
    let temporary = temporary_name(path);
    let file = create_temporary(names, &temporary)?;
    // Dropped before the file, and so under its lock.
    let unnamed = Unnamed::new(names, &temporary, &file);
    fill(&file)?;
    let creating = |kind| host(path, kind, "creating");
    names
        .give_mode(path, &file, sources)
        .map_err(creating(OperationKind::GiveMode))?;
    file.sync_data()
        .map_err(creating(OperationKind::SyncData))?;
    match names.rename(&temporary, path, Replace::Nothing) {
        Ok(()) => unnamed.has_its_name(),
        // A server that has renamed it may not get the answer through. The name tells. The
        // temporary one may still be there too.
        Err(error) => match names.is_name_of(path, &file) {
            Ok(true) => drop(unnamed),
            Ok(false) | Err(_) => return Err(creating(OperationKind::Rename)(error).into()),
        },
    }
    names.sync_directory_of(path).map_err(host(
        path,
        OperationKind::SyncDirectory,
        "syncing the directory",
    ))?;
    Ok(file)
}

/// The temporary name of a new file that has not got its own yet; the file is held as `F`. The name
/// goes when this is dropped: neither an error nor a panic leaves it behind. What a kill leaves,
/// the next creation or rebuild removes, or a recovery.
#[derive(Debug)]
pub struct Unnamed<'a, N: HostNames, F: Borrow<N::File>> {
    names: &'a N,
    temporary: PathBuf,
    file: F,
    has_its_name: bool,
}

impl<'a, N: HostNames, F: Borrow<N::File>> Unnamed<'a, N, F> {
    /// That of a file that [`create_temporary`] has made under the name `temporary`.
    pub fn new(names: &'a N, temporary: &Path, file: F) -> Unnamed<'a, N, F> {
        Unnamed {
            names,
            temporary: temporary.to_owned(),
            file,
            has_its_name: false,
        }
    }

    /// The file.
    pub fn file(&self) -> &N::File {
        self.file.borrow()
    }

    /// The file was renamed: there is nothing to remove.
    pub fn has_its_name(mut self) {
        self.has_its_name = true;
    }
}

impl<N: HostNames, F: Borrow<N::File>> Drop for Unnamed<'_, N, F> {
    fn drop(&mut self) {
        if !self.has_its_name {
            // There is an error to report already, and a name that stays does no harm. The file is
            // closed after this: the name goes under the lock on it.
            let _ = remove_temporary(self.names, &self.temporary, self.file.borrow());
        }
    }
}

/// Creates a file of that temporary name, which only its owner may open, and locks it
/// exclusively, removing one that a crash has left behind. One that somebody is writing right
/// now is locked, and stays.
///
/// Two processes may do this at once. A temporary file is renamed by its creator, and removed by
/// [`remove_temporary`] alone; so a file that is locked under its name keeps that name.
///
/// # Errors
/// The host's, [`OpenError::Locked`] among them.
pub fn create_temporary<N: HostNames>(names: &N, temporary: &Path) -> Result<N::File, OpenError> {
    let creating = || host(temporary, OperationKind::CreateNew, "creating");
    let file = match names.create_new(temporary) {
        Err(HostError::AlreadyExists) => {
            if let Some(left) = open_left_over(names, temporary)? {
                remove_temporary(names, temporary, &left)?;
            }
            names.create_new(temporary).map_err(creating())?
        }
        created => created.map_err(creating())?,
    };
    if let Err(error) = lock_under_name(names, temporary, &file) {
        // A process that locked it first is about to remove it. Otherwise it is ours to remove,
        // if it still has the name.
        let locked = matches!(error, OpenError::Locked { .. });
        if !locked && check_name(names, temporary, &file).is_ok() {
            let _ = names.remove(temporary);
        }
        return Err(error);
    }
    Ok(file)
}

/// Removes the name `temporary` of the open `file`, which nobody else has locked: what another
/// process has made under that name since `file` was opened stays.
///
/// # Errors
/// [`OpenError::Locked`] if somebody is writing the file, [`OpenError::Replaced`] if the name is
/// another file's; the host's. The name stays then.
pub fn remove_temporary<N: HostNames>(
    names: &N,
    temporary: &Path,
    file: &N::File,
) -> Result<(), OpenError> {
    lock_under_name(names, temporary, file)?;
    names
        .remove(temporary)
        .map_err(host(temporary, OperationKind::Remove, "removing"))
}

/// Removes what an interrupted rebuild or creation of `path` has left beside it, durably.
/// Whether there was something. A rebuild or creation that is running keeps its file.
///
/// `cow` is the open file that has the name `path`. Every rebuild of it runs under the
/// exclusive lock on it, which is taken here and held until `cow` is closed, so that none can
/// begin meanwhile. `None` says that there is no such file. A creation of `path` that begins at
/// this very moment then fails, before it has written anything.
///
/// # Errors
/// [`OpenError::Replaced`] if `path` is the name of another file than said, [`OpenError::Locked`]
/// if `cow` is; the host's.
pub fn remove_left_over<N: HostNames>(
    names: &N,
    path: &Path,
    cow: Option<&N::File>,
) -> Result<bool, OpenError> {
    let temporary = temporary_name(path);
    match cow {
        Some(cow) => lock_under_name(names, path, cow)?,
        None if open_if_there(names, path)?.is_some() => {
            return Err(OpenError::Replaced {
                path: path.to_owned(),
            });
        }
        None => {}
    }
    let left = match open_left_over(names, &temporary) {
        Ok(Some(left)) => left,
        // Or it is being written.
        Ok(None) | Err(OpenError::Locked { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    let is_cow = cow.map_or(Ok(false), |cow| names.is_same_file(cow, &left));
    let removed = match is_cow.map_err(host(path, OperationKind::Metadata, "examining"))? {
        // A host that gives a new name first and takes the old one away after that.
        true => {
            names
                .remove(&temporary)
                .map_err(host(&temporary, OperationKind::Remove, "removing"))
        }
        false => remove_temporary(names, &temporary, &left),
    };
    match removed {
        // It is being written, or was until a moment ago.
        Err(OpenError::Locked { .. } | OpenError::Replaced { .. }) => return Ok(false),
        removed => removed?,
    }
    names.sync_directory_of(&temporary).map_err(host(
        &temporary,
        OperationKind::SyncDirectory,
        "syncing the directory",
    ))?;
    Ok(true)
}

fn open_left_over<N: HostNames>(names: &N, temporary: &Path) -> Result<Option<N::File>, OpenError> {
    match names.open_left_over(temporary) {
        Err(HostError::NotFound) => Ok(None),
        Err(HostError::Locked) => Err(OpenError::Locked {
            path: temporary.to_owned(),
        }),
        opened => opened
            .map(Some)
            .map_err(host(temporary, OperationKind::Open, "opening")),
    }
}

fn open_if_there<N: HostNames>(names: &N, path: &Path) -> Result<Option<N::File>, OpenError> {
    match names.open(path, Access::ReadWrite) {
        Err(HostError::NotFound) => Ok(None),
        opened => opened
            .map(Some)
            .map_err(host(path, OperationKind::Open, "opening")),
    }
}

/// Locks `file`, and then looks whether `path` is its name: whoever had the lock before may have
/// taken the name away.
fn lock_under_name<N: HostNames>(names: &N, path: &Path, file: &N::File) -> Result<(), OpenError> {
    names
        .lock(file, LockKind::Exclusive)
        .map_err(host(path, OperationKind::Lock, "locking"))?;
    check_name(names, path, file)
}
