//! From a record of a trace to requests that the device takes: preflush in front, what lies
//! past the end treated as asked, long transfers cut to the limits.

use driver::blk::{Limits, split};
use driver::units::{Sector, SectorCount, SectorRange};

use crate::trace::{Record, TraceOperation};

/// What becomes of a request, or of a part of one, that lies past the end of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PastEnd {
    /// The replay ends with an error.
    Refuse,
    /// It starts again from the first sector.
    Wrap,
    /// It is left out.
    Clip,
}

/// A request that a device of this size cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it ends at sector {end}, the device at sector {capacity}")]
pub struct IsPastEnd {
    /// Where the request ends.
    pub end: Sector,
    /// Where the device ends.
    pub capacity: SectorCount,
}

/// The pieces of the device that a record is about, in order, none longer than the limits
/// allow. A flush has none.
///
/// # Errors
/// If a part lies past the end, and that is to be refused.
pub(super) fn pieces(
    record: &Record,
    capacity: SectorCount,
    past_end: PastEnd,
    limits: Limits,
) -> Result<Vec<SectorRange>, IsPastEnd> {
    let longest = match record.operation {
        TraceOperation::Flush => return Ok(Vec::new()),
        TraceOperation::Read | TraceOperation::Write => limits.max_transfer,
        TraceOperation::Discard | TraceOperation::WriteZeroes => limits.max_discard,
    };
    let range = SectorRange::new(record.start, record.count);
    let device_end = Sector(0) + capacity;
    if range.end() <= device_end {
        return Ok(split(range, longest).collect());
    }
    let mut pieces = Vec::new();
    match past_end {
        PastEnd::Refuse => {
            let end = range.end();
            return Err(IsPastEnd { end, capacity });
        }
        PastEnd::Clip if range.start >= device_end => {}
        PastEnd::Clip => {
            let inside = SectorRange::between(range.start..device_end);
            pieces.extend(split(inside, longest));
        }
        PastEnd::Wrap => {
            // More than once around would only write the same sectors again.
            let mut left = range.count.min(capacity);
            let mut at = Sector(range.start.0 % capacity.0);
            while left > SectorCount(0) {
                let inside = SectorRange::new(at, left.min(device_end - at));
                pieces.extend(split(inside, longest));
                left -= inside.count;
                at = Sector(0);
            }
        }
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Nanoseconds;

    fn of(start: u64, count: u64, past_end: PastEnd) -> Result<Vec<(u64, u64)>, IsPastEnd> {
        let record = Record {
            time: Nanoseconds(0),
            operation: TraceOperation::Write,
            preflush: false,
            fua: false,
            start: Sector(start),
            count: SectorCount(count),
        };
        let pieces = pieces(&record, SectorCount(100), past_end, Limits::LINUX_6_12)?;
        Ok(pieces.iter().map(|p| (p.start.0, p.count.0)).collect())
    }

    #[test]
    fn what_lies_past_the_end_is_refused_wrapped_or_clipped() {
        assert_eq!(of(90, 10, PastEnd::Refuse).unwrap(), [(90, 10)]);
        let error = of(90, 20, PastEnd::Refuse).unwrap_err().to_string();
        assert_eq!(error, "it ends at sector 110, the device at sector 100");
        assert_eq!(of(90, 20, PastEnd::Clip).unwrap(), [(90, 10)]);
        assert_eq!(of(190, 20, PastEnd::Clip).unwrap(), []);
        assert_eq!(of(190, 20, PastEnd::Wrap).unwrap(), [(90, 10), (0, 10)]);
        let around = of(250, 1000, PastEnd::Wrap).unwrap();
        assert_eq!(around, [(50, 50), (0, 50)]);
    }

    #[test]
    fn a_long_transfer_is_cut_to_the_limit() {
        assert_eq!(of(0, 100, PastEnd::Refuse).unwrap(), [(0, 64), (64, 36)]);
    }
}
