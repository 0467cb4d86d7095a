//! Which requests a device takes.

use crate::blk::{Limits, Operation, Request, Status};
use crate::units::{Sector, SectorCount, SectorRange};

/// Which requests a device takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admission {
    pub(crate) limits: Limits,
    /// The end of the device.
    pub(crate) end: Sector,
    /// The end of the sectors that have a bit, and so can be written.
    pub(crate) mapped_end: Sector,
    pub(crate) read_only: bool,
}

impl Admission {
    /// The sectors that `request` is about, if the device takes it; if not, the status that
    /// it ends with.
    #[inline]
    pub(crate) fn check(&self, request: &Request) -> Result<SectorRange, Status> {
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
