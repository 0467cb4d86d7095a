//! Finding, checking and switching the backing file. Its path may come out of the header,
//! and so from anybody: it is followed as far as the user's rights go, and only to a regular
//! file or a block device that is not the COW file itself.

use std::path::{Component, Path, PathBuf};

use crate::cow::{Extension, Header};
use crate::device_spec::DeviceSpec;
use crate::host::{Access, FileIdentity, HostFile, HostNames, LockKind, Metadata};
use crate::name_backing::{NotNamed, name_backing};
use crate::units::Bytes;

use super::{OpenError, OpenOptions, check_kind, host};

const HALF_SWITCHED: &str =
    "switching the backing file, which `ubdlab image recover` has to finish now";

/// Opens the backing file of a COW file, checks it, and switches to another if asked.
pub(super) fn open<N: HostNames>(
    names: &N,
    spec: &DeviceSpec,
    options: OpenOptions,
    cow: &N::File,
    cow_identity: FileIdentity,
    header: &mut Header,
    extension: Option<Extension>,
) -> Result<N::File, OpenError> {
    let from_header = backing_path(&spec.file, header);
    let outside = options.confine_backing && leaves_directory(&spec.file, header.backing_path());
    let path = match &spec.backing {
        Some(asked) => asked.clone(),
        None if outside => {
            return Err(OpenError::BackingOutside {
                path: spec.file.clone(),
                at: header.version.path_offset(),
                backing: header.backing_path().to_owned(),
            });
        }
        None => from_header.clone(),
    };
    let (access, lock) = match options.writable_backing {
        true => (Access::ReadWrite, LockKind::Exclusive),
        false => (Access::ReadOnly, LockKind::Shared),
    };
    let (file, metadata) = open_file(names, &path, access)?;
    // Before the lock, which the COW file's own would refuse.
    if metadata.identity == cow_identity {
        return Err(OpenError::BacksItself {
            path: spec.file.clone(),
            backing: path,
        });
    }
    if !spec.shared {
        names
            .lock(&file, lock)
            .map_err(host(&path, "locking the backing file"))?;
    }
    let same = || !outside && same_file(names, &from_header, metadata);
    let switched = path != from_header && !same();
    if switched && !options.switch_backing {
        return Err(OpenError::OtherBacking {
            path: spec.file.clone(),
            found: header.backing_path().to_owned(),
            asked: path,
        });
    }
    let changing = extension.is_some_and(|extension| extension.changing_backing);
    if !changing {
        check_size(spec, &path, metadata.len, header, extension)?;
    }
    let mtime = metadata.modified_seconds as u32;
    if switched {
        let named = name_for_header(names, &spec.file, &path, metadata)?;
        switch(cow, spec, header, &named, mtime)?;
    } else if mtime != header.backing_mtime && !changing {
        return Err(OpenError::BackingModified {
            path,
            cow: spec.file.clone(),
            found: mtime,
            expected: header.backing_mtime,
        });
    }
    Ok(file)
}

pub(super) fn open_file<N: HostNames>(
    names: &N,
    path: &Path,
    access: Access,
) -> Result<(N::File, Metadata), OpenError> {
    let file = names
        .open(path, access)
        .map_err(host(path, "opening the backing file"))?;
    let metadata = names
        .metadata(&file)
        .map_err(host(path, "examining the backing file"))?;
    check_kind(path, metadata)?;
    Ok((file, metadata))
}

/// Where the backing file is that the header of the COW file at `cow` names.
pub fn backing_path(cow: &Path, header: &Header) -> PathBuf {
    resolve(cow, header.backing_path())
}

/// A header's relative path starts at the COW file's directory, wherever the process is.
fn resolve(cow: &Path, backing: &Path) -> PathBuf {
    match cow.parent() {
        Some(directory) => directory.join(backing),
        None => backing.to_owned(),
    }
}

/// What to write into the header so that [`resolve`] finds `backing`, a path as the process
/// has it: absolute as it is, relative from the COW file's directory. Checked by looking.
///
/// # Errors
/// If there is no such path without asking the host where the process is.
pub(super) fn name_for_header<N: HostNames>(
    names: &N,
    cow: &Path,
    backing: &Path,
    metadata: Metadata,
) -> Result<PathBuf, OpenError> {
    let directory = cow.parent().unwrap_or(Path::new(""));
    let name = match backing.strip_prefix(directory) {
        _ if backing.is_absolute() => backing.to_owned(),
        Ok(below) => below.to_owned(),
        Err(_) => {
            let up = directory.components().map(|_| "..");
            up.collect::<PathBuf>().join(backing)
        }
    };
    if same_file(names, &resolve(cow, &name), metadata) {
        return Ok(name);
    }
    Err(OpenError::NotFromThere {
        path: cow.to_owned(),
        backing: backing.to_owned(),
    })
}

/// Whether a header's path leads out of the directory of the COW file at `cow`. A symbolic
/// link inside it is the user's own doing.
pub fn leaves_directory(cow: &Path, backing: &Path) -> bool {
    let directory = cow.parent().unwrap_or(Path::new(""));
    let below = match backing.strip_prefix(directory) {
        Ok(below) if backing.is_absolute() => below,
        _ => backing,
    };
    !below
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

fn same_file<N: HostNames>(names: &N, path: &Path, metadata: Metadata) -> bool {
    let identity = names
        .open(path, Access::ReadOnly)
        .and_then(|file| names.metadata(&file))
        .map(|other| other.identity);
    identity == Ok(metadata.identity)
}

/// UML compares with the header's size; after a resize by ubdlab, the extension block has
/// the size that counts. A backing file that was extended with its device has both.
fn check_size(
    spec: &DeviceSpec,
    path: &Path,
    found: Bytes,
    header: &Header,
    extension: Option<Extension>,
) -> Result<(), OpenError> {
    let recorded = extension.map_or(header.size, |extension| extension.backing_size);
    let stock = !header.relocating && found == header.size;
    if found == recorded || stock {
        return Ok(());
    }
    Err(OpenError::BackingSize {
        path: path.to_owned(),
        cow: spec.file.clone(),
        found,
        expected: recorded,
    })
}

/// Writes another backing file's name and time into the header. If the power goes in the middle,
/// asking for a switch again completes it, and so does a recovery.
fn switch<F: HostFile>(
    cow: &F,
    spec: &DeviceSpec,
    header: &mut Header,
    path: &Path,
    mtime: u32,
) -> Result<(), OpenError> {
    let named = header.with_backing(path, mtime);
    *header = named.map_err(|error| not_named(&spec.file, NotNamed::Header(error)))?;
    name_backing(cow, path, mtime).map_err(|error| not_named(&spec.file, error))
}

/// What to say of the COW file at `cow` whose header was not changed.
pub(super) fn not_named(cow: &Path, not_named: NotNamed) -> OpenError {
    match not_named {
        NotNamed::Header(error) => OpenError::Header {
            path: cow.to_owned(),
            error,
        },
        NotNamed::Host { error, .. } => host(cow, "switching the backing file")(error),
        NotNamed::HalfDone { error, .. } => host(cow, HALF_SWITCHED)(error),
    }
}
