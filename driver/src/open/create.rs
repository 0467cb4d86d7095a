//! Making a COW file that was not there: under a temporary name, complete and synced, before
//! it gets its own. Linux (up to 6.12 at least) writes in place and syncs nothing.
//!
//! | power goes after | a reader finds |
//! |---|---|
//! | anything before the rename | no COW file; a temporary one that the next creation removes |
//! | the rename | no COW file, or a whole one |
//! | the sync of the directory | a whole one |

use std::path::{Path, PathBuf};

use crate::cow::{Extension, Geometry, Header, Version};
use crate::host::{Access, HostError, HostFile, HostNames, LockKind, Replace};
use crate::units::FileOffset;

use super::{OpenError, check_kind, host};

/// The name under which a replacement for `path` is made, beside it.
pub fn temporary_name(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or(path.as_os_str()));
    name.push(".ubdlab-new");
    path.with_file_name(name)
}

/// Creates a V3 COW file at `path` over `backing`, which the header will name as given
/// here; `alignment` is chosen with room for growth when not given. The file is returned
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
    let backing_file = names
        .open(backing, Access::ReadOnly)
        .map_err(host(backing, "opening"))?;
    let metadata = names
        .metadata(&backing_file)
        .map_err(host(backing, "examining"))?;
    check_kind(backing, metadata)?;
    if metadata.len.whole_sectors().0 == 0 {
        return Err(OpenError::BackingTooSmall {
            path: backing.to_owned(),
            found: metadata.len,
        });
    }
    let alignment = alignment.unwrap_or_else(|| Geometry::roomy_alignment(metadata.len));
    // As 32 bits hold it: that is the format, and it ends in 2106.
    let mtime = metadata.modified_seconds as u32;
    let header =
        Header::v3(backing, mtime, metadata.len, alignment).map_err(|error| OpenError::Header {
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
        names.lock(file, LockKind::Exclusive)?;
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

/// Creates a file of that temporary name, removing one that a crash has left behind. One that
/// somebody is writing right now is locked, and stays.
///
/// # Errors
/// The host's, [`OpenError::Locked`] among them.
pub fn create_temporary<N: HostNames>(names: &N, temporary: &Path) -> Result<N::File, OpenError> {
    let creating = || host(temporary, "creating");
    match names.create_new(temporary) {
        Err(HostError::AlreadyExists) => {
            let left = names
                .open(temporary, Access::ReadWrite)
                .map_err(host(temporary, "opening"))?;
            names
                .lock(&left, LockKind::Exclusive)
                .map_err(host(temporary, "locking"))?;
            names
                .remove(temporary)
                .map_err(host(temporary, "removing"))?;
            names.create_new(temporary).map_err(creating())
        }
        created => created.map_err(creating()),
    }
}
