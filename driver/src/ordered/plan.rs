//! The kernel half: what a request means for the two host files, given the map and the
//! placement at this moment. Linux plans when a request is submitted; `ordered` plans when
//! it is carried out, because a plan that waits in a queue goes stale, and half of ubd's
//! defects are stale plans.

use crate::blk::{FileRole, Limits, Operation, Request, Status};
use crate::cow::SectorMap;
use crate::cow::SectorState;
use crate::units::{FileOffset, SECTOR_SIZE, Sector, SectorRange};

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
    /// Whether the device takes `request`; if not, the status that it ends with.
    #[inline]
    pub(super) fn check(&self, request: &Request) -> Result<(), Status> {
        let range = request.range();
        let longest = match request.operation {
            Operation::Flush if request.segments.is_empty() => return Ok(()),
            Operation::Flush => return Err(Status::Invalid),
            Operation::Read | Operation::Write { .. } => {
                let whole = |data: &[u8], sectors: u64| {
                    sectors.checked_mul(SECTOR_SIZE) == Some(data.len() as u64)
                };
                if !request.segments.iter().all(|s| whole(&s.data, s.sectors.0)) {
                    return Err(Status::Invalid);
                }
                self.limits.max_transfer
            }
            Operation::Discard | Operation::WriteZeroes => self.limits.max_discard,
        };
        if range.is_empty()
            || range.count > longest
            || request.segments.len() > self.limits.max_segments
        {
            return Err(Status::Invalid);
        }
        let end = range.start.0.checked_add(range.count.0);
        let limit = match request.operation {
            Operation::Read => self.end,
            _ if self.read_only => return Err(Status::IoError),
            _ => self.mapped_end,
        };
        match end {
            Some(end) if end <= limit.0 => Ok(()),
            _ => Err(Status::IoError),
        }
    }
}

/// The runs that a read of `range` is made of, in order.
#[inline]
pub(super) fn read_runs<'a>(
    map: &'a SectorMap,
    placement: &'a Placement,
    range: SectorRange,
) -> impl Iterator<Item = Run> + 'a {
    let mut rest = range;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        // A sector without a bit was never written: the backing file has it.
        let known = map.run_within(rest.start, rest.end());
        let run = match known.state {
            SectorState::Dirty => {
                let (at, range) = placement.place(known.range);
                let role = FileRole::Cow;
                Run { role, at, range }
            }
            SectorState::Clean => Run {
                role: FileRole::Backing,
                at: FileOffset(known.range.start.bytes().0),
                range: known.range,
            },
        };
        rest = SectorRange::between(run.range.end()..rest.end());
        Some(run)
    })
}

/// The runs that a write of `range` is made of: the COW file's, whatever the map says.
#[inline]
pub(super) fn write_runs(
    placement: &Placement,
    range: SectorRange,
) -> impl Iterator<Item = Run> + '_ {
    let mut rest = range;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (at, range) = placement.place(rest);
        rest = SectorRange::between(range.end()..rest.end());
        let role = FileRole::Cow;
        Some(Run { role, at, range })
    })
}
