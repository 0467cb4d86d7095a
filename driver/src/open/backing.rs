//! Finding, checking and switching the backing file. Its path may come out of the header,
//! and so from anybody: it is followed as far as the user's rights go, and only to a regular
//! file or a block device that is not the COW file itself.

use std::path::{Component, Path, PathBuf};

use crate::cow::{Extension, Header, Version};
use crate::device_spec::DeviceSpec;
use crate::host::{Access, FileIdentity, HostFile, HostNames, LockKind, Metadata};
use crate::units::{Bytes, FileOffset};

use super::{OpenError, OpenOptions, check_kind, host};

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
    let path = match &spec.backing {
        Some(asked) => asked.clone(),
        None if options.confine_backing && leaves_directory(&spec.file, header.backing_path()) => {
            return Err(OpenError::BackingOutside {
                path: spec.file.clone(),
                at: FileOffset(if header.version == Version::V3 { 32 } else { 8 }),
                backing: header.backing_path().to_owned(),
            });
        }
        None => from_header.clone(),
    };
    let (file, metadata) = open_and_examine(names, &path)?;
    // Before the lock, which the COW file's own would refuse.
    if metadata.identity == cow_identity {
        return Err(OpenError::BacksItself {
            path: spec.file.clone(),
        });
    }
    if !spec.shared {
        names
            .lock(&file, LockKind::Shared)
            .map_err(host(&path, "locking the backing file"))?;
    }
    let switched = path != from_header && !same_file(names, &from_header, metadata);
    if switched && !options.switch_backing {
        return Err(OpenError::OtherBacking {
            path: spec.file.clone(),
            found: header.backing_path().to_owned(),
            asked: path,
        });
    }
    check_size(spec, &path, metadata.len, header, extension)?;
    let mtime = metadata.modified_seconds as u32;
    if switched {
        switch(cow, spec, header, &path, mtime)?;
    } else if mtime != header.backing_mtime {
        return Err(OpenError::BackingModified {
            path,
            cow: spec.file.clone(),
            found: mtime,
            expected: header.backing_mtime,
        });
    }
    Ok(file)
}

fn open_and_examine<N: HostNames>(
    names: &N,
    path: &Path,
) -> Result<(N::File, Metadata), OpenError> {
    let file = names
        .open(path, Access::ReadOnly)
        .map_err(host(path, "opening the backing file"))?;
    let metadata = names
        .metadata(&file)
        .map_err(host(path, "examining the backing file"))?;
    check_kind(path, metadata)?;
    Ok((file, metadata))
}

/// Where the backing file is that the header of the COW file at `cow` names: a relative path
/// starts at the COW file's directory, wherever the process is.
pub fn backing_path(cow: &Path, header: &Header) -> PathBuf {
    match cow.parent() {
        Some(directory) => directory.join(header.backing_path()),
        None => header.backing_path().to_owned(),
    }
}

fn leaves_directory(cow: &Path, backing: &Path) -> bool {
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

/// Writes another backing file's name and time into the header. If the power goes in the
/// middle, what is left decodes (every sector of the path field ends in NULs or goes on in
/// the next) and does not match its backing file: asking for the switch again completes it.
fn switch<F: HostFile>(
    cow: &F,
    spec: &DeviceSpec,
    header: &mut Header,
    path: &Path,
    mtime: u32,
) -> Result<(), OpenError> {
    let bad_path = |error| OpenError::Header {
        path: spec.file.clone(),
        error,
    };
    *header = header.with_backing(path, mtime).map_err(bad_path)?;
    cow.write_all_at(&header.encode(), FileOffset(0))
        .and_then(|()| cow.sync_data())
        .map_err(host(&spec.file, "switching the backing file"))
}
