//! What is known of a device before it is opened: how large it would be, and how much space its
//! files may come to take.

use std::path::Path;

use driver::device_spec::DeviceSpec;
use driver::host::{Access, FileKind, HostError, HostNames};
use driver::units::{Bytes, SectorCount};
use userhelper::image_host::{FreeSpace, ImageHost};
use userhelper::real_files::RealHost;

use super::backing::STAMP_ALL;

/// The size of the device that opening would create, if it would, as it is without a lock.
pub(super) fn size_if_created(host: &RealHost, spec: &DeviceSpec) -> Option<SectorCount> {
    match host.open(&spec.file, Access::ReadOnly) {
        Err(HostError::NotFound) => {}
        _ => return None,
    }
    // What else may be wrong with the backing file, opening says.
    let backing = host.open(spec.backing.as_ref()?, Access::ReadOnly).ok()?;
    let metadata = host.metadata(&backing).ok()?;
    let is_disk = matches!(metadata.kind, FileKind::Regular | FileKind::BlockDevice);
    let size = metadata.len.whole_sectors();
    (is_disk && size > SectorCount(0)).then_some(size)
}

/// The space that a device's file may come to take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) space: FreeSpace,
    /// It is a COW file: it takes more than its data.
    pub(super) is_cow: bool,
}

/// The space that a COW file may come to take, which is to be made beside its stamped backing file
/// or is there, or a raw disk: what it takes already, and what is free. A block device takes none.
pub(super) fn room_for(cow: &Path, capacity: SectorCount, is_raw: bool) -> Option<Room> {
    let room = RealHost.free_space_beside(cow).ok().flatten()?;
    let free = match std::fs::metadata(cow) {
        Ok(found) if found.is_file() => {
            let file = RealHost.open(cow, Access::ReadOnly).ok()?;
            let taken = RealHost.allocated(&file).ok().flatten()?;
            room.free.0.saturating_add(taken.0)
        }
        Ok(_) => return None,
        Err(_) if capacity.bytes() <= STAMP_ALL => room.free.0.saturating_sub(capacity.bytes().0),
        Err(_) => room.free.0,
    };
    Some(Room {
        space: FreeSpace {
            free: Bytes(free),
            ..room
        },
        is_cow: !is_raw,
    })
}
