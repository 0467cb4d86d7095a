//! The kernel half: what a request means for the two host files, given the map and the
//! placement at this moment. Linux plans when a request is submitted; `ordered` plans when
//! it is carried out, because a plan that waits in a queue goes stale, and half of ubd's
//! defects are stale plans.

use crate::blk::{FileRole, Limits, Operation, Request, Status};
use crate::cow::SectorMap;
use crate::cow::SectorState;
use crate::units::{FileOffset, Sector, SectorCount, SectorRange};

use super::placement::Placement;

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

/// Which requests a device takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admission {
    pub(super) limits: Limits,
    /// The end of the device.
    pub(super) end: Sector,
    /// The end of the sectors that have a bit, and so can be written.
    pub(super) mapped_end: Sector,
    pub(super) read_only: bool,
}

impl Admission {
    /// The sectors that `request` is about, if the device takes it; if not, the status that
    /// it ends with.
    #[inline]
    pub(super) fn check(&self, request: &Request) -> Result<SectorRange, Status> {
        let operation = request.operation;
        if operation == Operation::Flush {
            return match request.segments[..] {
                [] => Ok(SectorRange::new(request.start, SectorCount(0))),
                _ => Err(Status::Invalid),
            };
        }
        let reads = operation == Operation::Read;
        let has_data = reads || matches!(operation, Operation::Write { .. });
        let longest = match has_data {
            true => self.limits.max_transfer,
            false => self.limits.max_discard,
        };
        let mut count: u64 = 0;
        for segment in &request.segments {
            if has_data && !segment.is_whole() {
                return Err(Status::Invalid);
            }
            // Saturating, because the sum is checked only below.
            count = count.saturating_add(segment.sectors.0);
        }
        if count == 0 || count > longest.0 || request.segments.len() > self.limits.max_segments {
            return Err(Status::Invalid);
        }
        let limit = match reads {
            true => self.end,
            false if self.read_only => return Err(Status::IoError),
            false => self.mapped_end,
        };
        match request.start.0.checked_add(count) {
            Some(end) if end <= limit.0 => Ok(SectorRange::new(request.start, SectorCount(count))),
            _ => Err(Status::IoError),
        }
    }
}

/// The first of the runs that a read of `range`, which is not empty, is made of.
#[inline]
pub(super) fn read_run(map: &SectorMap, placement: &Placement, range: SectorRange) -> Run {
    // A sector without a bit was never written: the backing file has it.
    let known = map.run_within(range.start, range.end());
    match known.state {
        SectorState::Dirty => write_run(placement, known.range),
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

/// The part of `range` after its first run.
#[inline]
pub(super) fn rest_after(run: Run, range: SectorRange) -> SectorRange {
    SectorRange::new(run.range.end(), range.count - run.range.count)
}
