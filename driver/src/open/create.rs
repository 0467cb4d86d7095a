//! Making a COW file that was not there: under a temporary name, complete and synced, before
//! it gets its own. Linux (up to 6.12 at least) writes in place and syncs nothing.
//!
//! | power goes after | a reader finds |
//! |---|---|
//! | anything before the rename | no COW file; a temporary one that the next creation removes |
//! | the rename | no COW file, or a whole one |
//! | the sync of the directory | a whole one |

use std::path::{Path, PathBuf};

use crate::cow::{Extension, Geometry, Header, MAX_SECTORS, MapTooLarge, Version};
use crate::host::{Access, HostError, HostFile, HostNames, LockKind, Replace};
use crate::units::FileOffset;

use super::{OpenError, backing, check_name, host};

/// The name under which a replacement for `path` is made, beside it.
pub fn temporary_name(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or(path.as_os_str()));
    name.push(".ubdlab-new");
    path.with_file_name(name)
}

/// Creates a V3 COW file at `path` over `backing`. The header names an absolute path as given
/// here, a relative one from the COW file's directory on; `alignment` is chosen with room for growth when not given. The file is returned
/// open and locked exclusively.
///
/// # Errors
/// If `path` exists, or the backing file is not one; nothing is left behind then.
pub fn create<N: HostNames>(
    names: &N,
    path: &Path,
    backing: &Path,
    alignment: Option<u32>,
) -> Result<N::File, OpenError> {
    let (backing_file, metadata) = backing::open_file(names, backing)?;
    // What would keep the device from coming up must not leave a COW file behind.
    names
        .lock(&backing_file, LockKind::Shared)
        .map_err(host(backing, "locking the backing file"))?;
    let sectors = metadata.len.whole_sectors();
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
            found: metadata.len,
        });
    }
    let named = backing::name_for_header(names, path, backing, metadata)?;
    let alignment = alignment.unwrap_or_else(|| Geometry::roomy_alignment(metadata.len));
    // As 32 bits hold it: that is the format, and it ends in 2106.
    let mtime = metadata.modified_seconds as u32;
    let header =
        Header::v3(&named, mtime, metadata.len, alignment).map_err(|error| OpenError::Header {
            path: path.to_owned(),
            error,
        })?;
    let geometry =
        Geometry::new(Version::V3, metadata.len, alignment).map_err(|error| OpenError::Layout {
            path: path.to_owned(),
            at: header.version.size_offset(),
            error,
        })?;
    let temporary = temporary_name(path);
    let file = create_temporary(names, &temporary)?;
    let fill = |file: &N::File| {
        file.write_all_at(&header.encode(), FileOffset(0))?;
        let extension = Extension {
            backing_size: metadata.len,
        };
        file.write_all_at(&extension.encode(), Extension::OFFSET)?;
        file.set_len(geometry.data_end() - FileOffset(0))?;
        file.sync_data()?;
        names.rename(&temporary, path, Replace::Nothing)
    };
    if let Err(error) = fill(&file) {
        // The first error is the one to report.
        let _ = names.remove(&temporary);
        return Err(host(path, "creating")(error));
    }
    names
        .sync_directory_of(path)
        .map_err(host(path, "syncing the directory"))?;
    Ok(file)
}

/// Creates a file of that temporary name and locks it exclusively, removing one that a crash
/// has left behind. One that somebody is writing right now is locked, and stays.
///
/// Two processes may do this at once. Only who holds the lock on the file that has the name,
/// and has looked that it does, removes or renames it; and from then on it is locked.
///
/// # Errors
/// The host's, [`OpenError::Locked`] among them.
pub fn create_temporary<N: HostNames>(names: &N, temporary: &Path) -> Result<N::File, OpenError> {
    let creating = || host(temporary, "creating");
    let lock = |file: &N::File| {
        names
            .lock(file, LockKind::Exclusive)
            .map_err(host(temporary, "locking"))?;
        check_name(names, temporary, file)
    };
    let file = match names.create_new(temporary) {
        Err(HostError::AlreadyExists) => {
            let left = names
                .open(temporary, Access::ReadWrite)
                .map_err(host(temporary, "opening"))?;
            lock(&left)?;
            names
                .remove(temporary)
                .map_err(host(temporary, "removing"))?;
            names.create_new(temporary).map_err(creating())?
        }
        created => created.map_err(creating())?,
    };
    if let Err(error) = lock(&file) {
        // Who locked it first is about to remove it. Otherwise it is ours to remove, if it
        // still has the name.
        let locked = matches!(error, OpenError::Locked { .. });
        if !locked && check_name(names, temporary, &file).is_ok() {
            let _ = names.remove(temporary);
        }
        return Err(error);
    }
    Ok(file)
}
