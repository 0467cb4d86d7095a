//! Where data is, and where holes are: `SEEK_DATA` and `SEEK_HOLE`.

use driver::units::{SECTOR_SIZE, Sector, SectorRange};

use super::super::export::Export;
use super::super::extents::Extent;
use crate::device::DeviceError;

/// The extents that are looked at before others get a turn at the device.
const A_LOOK: usize = 512;

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sought {
    /// A byte of data.
    Data,
    /// A byte of a hole; the end of the device counts as one.
    Hole,
}

/// The first byte from `offset` on that is what is sought, if there is one before the device ends
/// or, for a hole, where it ends. `None` if `offset` is not in the device, or there is no data.
///
/// # Errors
/// If the device does not go on.
pub(super) fn seek(
    export: &Export,
    offset: u64,
    sought: Sought,
) -> Result<Option<u64>, DeviceError> {
    let size = export.capacity();
    if offset >= size.bytes().0 {
        return Ok(None);
    }
    let mut rest = SectorRange::between(Sector(offset / SECTOR_SIZE)..Sector(size.0));
    while !rest.is_empty() {
        let extents = export.extents(rest, A_LOOK)?;
        let Some(last) = extents.last() else {
            // It has become smaller meanwhile.
            break;
        };
        if let Some(start) = first(&extents, sought) {
            return Ok(Some(offset.max(start.0 * SECTOR_SIZE)));
        }
        rest = SectorRange::between(last.sectors.end()..rest.end());
    }
    Ok((sought == Sought::Hole).then_some(size.bytes().0))
}

fn first(extents: &[Extent], sought: Sought) -> Option<Sector> {
    let is_sought = |extent: &&Extent| extent.hole == (sought == Sought::Hole);
    extents
        .iter()
        .find(is_sought)
        .map(|extent| extent.sectors.start)
}
