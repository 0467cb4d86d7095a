//! One recorded request, whatever format it was read from.

use std::fmt;

use driver::units::{SECTOR_SIZE, Sector, SectorCount};
use serde::Serialize;

/// The end of the largest device that a trace may speak of: its length in bytes
/// fits a signed 64-bit number, as a file's must, so no arithmetic overflows.
pub const MAX_END_SECTOR: Sector = Sector((1 << 63) / SECTOR_SIZE);

/// A time since the start of the trace, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Nanoseconds(pub u64);

/// Seconds with all nine digits, so that no two times look alike.
impl fmt::Display for Nanoseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, fraction) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        write!(f, "{seconds}.{fraction:09} s")
    }
}

/// What a recorded request asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TraceOperation {
    /// Read sectors.
    Read,
    /// Write sectors.
    Write,
    /// Make every completed write durable; has no sectors.
    Flush,
    /// The sectors' content is not needed any more.
    Discard,
    /// Make the sectors read as zeros, without sending the zeros.
    WriteZeroes,
}

impl fmt::Display for TraceOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TraceOperation::Read => "read",
            TraceOperation::Write => "write",
            TraceOperation::Flush => "flush",
            TraceOperation::Discard => "discard",
            TraceOperation::WriteZeroes => "write-zeroes",
        })
    }
}

/// A recorded request. A flush that carries data stays a write, with `preflush`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// When, since the first record of the trace. Times may step back a little:
    /// recorders on several CPUs do not agree on them to the microsecond.
    pub time: Nanoseconds,
    /// What was asked for.
    pub operation: TraceOperation,
    /// What was completed before is made durable before this write. Only on writes.
    pub preflush: bool,
    /// Forced unit access: durable when completed. Only on writes.
    pub fua: bool,
    /// The first sector; 0 for a flush.
    pub start: Sector,
    /// How many sectors; 0 for a flush, and only for a flush.
    pub count: SectorCount,
}

/// What is wrong with a record: what it says, and what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordFault {
    /// What was found.
    pub found: String,
    /// What would have been right.
    pub expected: String,
}

impl Record {
    /// A flush at `time`.
    pub fn flush(time: Nanoseconds) -> Record {
        Record {
            time,
            operation: TraceOperation::Flush,
            preflush: false,
            fua: false,
            start: Sector(0),
            count: SectorCount(0),
        }
    }

    /// The first sector past the request; only for a record that `check` accepts.
    pub fn end(&self) -> Sector {
        self.start + self.count
    }

    /// Whether the record keeps the rules that its fields' documentation gives.
    /// Every reader and the writer ask this, so that a replay need not.
    pub fn check(&self) -> Result<(), RecordFault> {
        let fault = |found: String, expected: &str| {
            Err(RecordFault {
                found,
                expected: expected.to_owned(),
            })
        };
        let Record { operation, .. } = self;
        if *operation != TraceOperation::Write && (self.preflush || self.fua) {
            return fault(
                format!("a {operation} with preflush or FUA"),
                "those flags on writes only",
            );
        }
        if *operation == TraceOperation::Flush {
            if (self.start, self.count) != (Sector(0), SectorCount(0)) {
                let found = format!("a flush at {}+{}", self.start, self.count);
                return fault(found, "a flush without sectors");
            }
            return Ok(());
        }
        if self.count == SectorCount(0) {
            let found = format!("a {operation} of 0 sectors");
            return fault(found, "at least one sector");
        }
        match self.start.0.checked_add(self.count.0) {
            Some(end) if end <= MAX_END_SECTOR.0 => Ok(()),
            _ => fault(
                format!("a {operation} at {}+{}", self.start, self.count),
                &format!("an end at or below sector {MAX_END_SECTOR}, which is 2^63 bytes"),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_of_a_record() {
        let write = Record {
            time: Nanoseconds(1),
            operation: TraceOperation::Write,
            preflush: true,
            fua: true,
            start: Sector(8),
            count: SectorCount(8),
        };
        assert_eq!(write.check(), Ok(()));
        assert_eq!(Record::flush(Nanoseconds(0)).check(), Ok(()));
        for bad in [
            Record {
                count: SectorCount(0),
                ..write
            },
            Record {
                count: SectorCount(u64::MAX),
                ..write
            },
            Record {
                start: MAX_END_SECTOR,
                ..write
            },
            Record {
                operation: TraceOperation::Read,
                ..write
            },
            Record {
                count: SectorCount(1),
                ..Record::flush(Nanoseconds(0))
            },
            Record {
                fua: true,
                ..Record::flush(Nanoseconds(0))
            },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
