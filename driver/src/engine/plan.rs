//! The kernel half: what a request means for the two host files, given the map and the
//! placement at this moment. Linux plans when a request is submitted; the engine plans when an
//! operation is given, because a plan that waits in a queue goes stale, and half of ubd's
//! defects are stale plans.

use crate::cow::{SectorMap, SectorState};
use crate::host::FileRole;
use crate::units::{FileOffset, SectorRange};

use super::placement::Placement;

/// Where the data of a sector is.
#[derive(Clone, Copy)]
pub(super) struct Where<'a> {
    pub(super) map: &'a SectorMap,
    pub(super) placement: &'a Placement,
}

/// A part of a request that is one operation on one host file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The file.
    pub(super) role: FileRole,
    /// Where in it.
    pub(super) at: FileOffset,
    /// The sectors.
    pub(super) range: SectorRange,
}

/// The first of the runs that a read of `range`, which is not empty, is made of.
#[inline]
pub(super) fn read_run(place: Where<'_>, range: SectorRange) -> Run {
    // A sector without a bit was never written: the backing file has it.
    let known = place.map.run_within(range.start, range.end());
    match known.state {
        SectorState::Dirty => write_run(place.placement, known.range),
        SectorState::Clean => Run {
            role: FileRole::Backing,
            at: FileOffset(known.range.start.bytes().0),
            range: known.range,
        },
    }
}

/// The first of the runs that a write of `range`, which is not empty, is made of: in the COW
/// file, whatever the map says.
#[inline]
pub(super) fn write_run(placement: &Placement, range: SectorRange) -> Run {
    let (at, range) = placement.place(range);
    let role = FileRole::Cow;
    Run { role, at, range }
}
