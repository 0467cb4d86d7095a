//! Making the COW file of a device that has none.

use std::path::Path;

use crate::cow::{Geometry, Header};
use crate::host::{Access, HostFile, HostNames};
use crate::open;
use crate::units::{Bytes, FileOffset};

use super::error::{LinuxOpenError, host};
use super::{Defect, Defects};

/// The alignment with which kernels have created COW files since 2003.
const ALIGNMENT: u32 = 4096;

/// Creates a V3 COW file at `path`, where nothing is, over `backing`, which its header names
/// as given here.
///
/// As Linux does it ([`Defect::CreateNotAtomic`]): in place, the header first, then the last
/// byte of the data area, and nothing is synced. Otherwise as [`open::create`].
///
/// # Errors
/// If `path` exists, or `backing` cannot be opened or is smaller than a sector.
pub fn create<N: HostNames>(
    names: &N,
    path: &Path,
    backing: &Path,
    defects: Defects,
) -> Result<(), LinuxOpenError> {
    if defects.contains(Defect::CreateNotAtomic) {
        return create_in_place(names, path, backing).map(drop);
    }
    let created = open::create(names, path, backing, Some(ALIGNMENT));
    created.map(drop).map_err(|error| LinuxOpenError::Create {
        path: path.to_owned(),
        problem: error.to_string(),
    })
}

/// Creates it as Linux does; its header, which Linux does not read again.
pub(super) fn create_in_place<N: HostNames>(
    names: &N,
    path: &Path,
    backing: &Path,
) -> Result<Header, LinuxOpenError> {
    let metadata = names
        .open(backing, Access::ReadOnly)
        .and_then(|file| names.metadata(&file))
        .map_err(host("opening the backing file"))?;
    // As 32 bits hold it: that is the format.
    let mtime = metadata.modified_seconds as u32;
    let header =
        Header::v3(backing, mtime, metadata.len, ALIGNMENT).map_err(LinuxOpenError::Header)?;
    let geometry = Geometry::of(&header).map_err(LinuxOpenError::Layout)?;
    let last = FileOffset(geometry.data_end().0 - 1);
    let file = names
        .create_new(path)
        .map_err(host("creating the COW file"))?;
    file.write_all_at(&header.encode(), FileOffset(0))
        .and_then(|()| file.write_all_at(&[0], last))
        .and_then(|()| names.give_mode(path, &file, &[]))
        .map_err(host("writing the new COW file"))?;
    assert!(last + Bytes(1) == geometry.data_end());
    Ok(header)
}
