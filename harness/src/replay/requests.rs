//! From a record of a trace to requests that the device takes: preflush in front, what lies
//! past the end treated as asked, long transfers cut to the limits.

use driver::blk::Limits;
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
    /// Every request starts at the same share of the device as it did of the recorded one.
    Scale,
}

/// How a trace is laid onto a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placing {
    /// What becomes of what lies past the end.
    pub past_end: PastEnd,
    /// The size of the recorded device, or where the trace's last request ends; only scaling
    /// wants it.
    pub recorded: SectorCount,
}

impl Placing {
    /// How reads are laid onto a backing file, to know which parts of it they see. What may be
    /// refused or left out later has no part in it past its end.
    pub(super) fn for_stamping(self) -> Placing {
        let past_end = match self.past_end {
            PastEnd::Refuse | PastEnd::Clip => PastEnd::Clip,
            other => other,
        };
        Placing { past_end, ..self }
    }
}

/// Alignments up to this one survive scaling: a page.
const KEPT_ALIGNMENT: u64 = 8;

/// A request that a device of this size cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it ends at sector {end}, the device at sector {capacity}")]
pub struct IsPastEnd {
    /// Where the request ends.
    pub end: Sector,
    /// Where the device ends.
    pub capacity: SectorCount,
}

/// Where on a device a record goes: two ranges, because one that wraps around begins again. Either
/// may be empty.
pub(super) type Placed = [SectorRange; 2];

/// The pieces that a record comes to, one after the other. However many there are, they cost no
/// memory.
#[derive(Debug)]
pub(super) struct Pieces {
    left: Placed,
    longest: SectorCount,
}

impl Iterator for Pieces {
    type Item = SectorRange;

    fn next(&mut self) -> Option<SectorRange> {
        let range = self.left.iter_mut().find(|range| !range.is_empty())?;
        let piece = SectorRange::new(range.start, range.count.min(self.longest));
        *range = SectorRange::between(piece.end()..range.end());
        Some(piece)
    }
}

/// The pieces of the device that a record is about, in order, none longer than the limits
/// allow. A flush has none.
///
/// # Errors
/// If a part lies past the end, and that is to be refused.
pub(super) fn pieces(
    record: &Record,
    capacity: SectorCount,
    placing: Placing,
    limits: Limits,
) -> Result<Pieces, IsPastEnd> {
    let longest = match record.operation {
        TraceOperation::Flush | TraceOperation::Read | TraceOperation::Write => limits.max_transfer,
        TraceOperation::Discard | TraceOperation::WriteZeroes => limits.max_discard,
    };
    let left = placed(record, capacity, placing)?;
    Ok(Pieces { left, longest })
}

/// The parts of the device that a record is about, in order.
///
/// # Errors
/// If a part lies past the end, and that is to be refused.
pub(super) fn placed(
    record: &Record,
    capacity: SectorCount,
    placing: Placing,
) -> Result<Placed, IsPastEnd> {
    let none = SectorRange::default();
    if record.operation == TraceOperation::Flush {
        return Ok([none, none]);
    }
    let mut range = SectorRange::new(record.start, record.count);
    if placing.past_end == PastEnd::Scale && placing.recorded > capacity {
        range = scaled(range, placing.recorded, capacity);
    }
    let device_end = Sector(0) + capacity;
    if range.end() <= device_end {
        return Ok([range, none]);
    }
    match placing.past_end {
        PastEnd::Refuse => {
            let end = range.end();
            Err(IsPastEnd { end, capacity })
        }
        PastEnd::Clip if range.start >= device_end => Ok([none, none]),
        // What was scaled ends past the end only if the trace said less than it should.
        PastEnd::Scale if range.start >= device_end => Ok([none, none]),
        PastEnd::Clip | PastEnd::Scale => Ok([SectorRange::between(range.start..device_end), none]),
        PastEnd::Wrap => {
            // More than once around would only write the same sectors again.
            let count = range.count.min(capacity);
            let start = Sector(range.start.0 % capacity.0);
            let before_end = SectorRange::new(start, count.min(device_end - start));
            let rest = SectorRange::new(Sector(0), count - before_end.count);
            Ok([before_end, rest])
        }
    }
}

/// A range of a device of `from` sectors, moved to the same share of one of `to`, which has
/// fewer. Its length stays, as far as there is room, and so does the alignment of its start,
/// up to a page.
fn scaled(range: SectorRange, from: SectorCount, to: SectorCount) -> SectorRange {
    let start = u128::from(range.start.0) * u128::from(to.0) / u128::from(from.0);
    let alignment = KEPT_ALIGNMENT.min(1 << range.start.0.trailing_zeros().min(3));
    let start = start as u64 / alignment * alignment;
    let count = range.count.min(to);
    let start = start.min((to - count).0);
    SectorRange::new(Sector(start), count)
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
        let placing = Placing {
            past_end,
            recorded: SectorCount(1000),
        };
        let pieces = pieces(&record, SectorCount(100), placing, Limits::LINUX_6_12)?;
        let pairs = pieces.map(|p| (p.start.0, p.count.0));
        Ok(pairs.collect())
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
    fn a_larger_device_is_scaled_down_and_keeps_alignment() {
        assert_eq!(of(500, 8, PastEnd::Scale).unwrap(), [(48, 8)]);
        assert_eq!(of(800, 8, PastEnd::Scale).unwrap(), [(80, 8)]);
        assert_eq!(of(501, 8, PastEnd::Scale).unwrap(), [(50, 8)]);
        // The last ones still fit.
        assert_eq!(of(992, 8, PastEnd::Scale).unwrap(), [(92, 8)]);
        assert_eq!(of(0, 1000, PastEnd::Scale).unwrap(), [(0, 64), (64, 36)]);
        // Past the end that was told there is nothing to scale to.
        assert_eq!(of(2000, 8, PastEnd::Scale).unwrap(), [(92, 8)]);
    }

    #[test]
    fn a_long_transfer_is_cut_to_the_limit() {
        assert_eq!(of(0, 100, PastEnd::Refuse).unwrap(), [(0, 64), (64, 36)]);
    }
}
