//! What a format's decoder makes of a line or record, before it is decided whether it is
//! wanted, and before its units are converted.

use driver::units::{Bytes, SECTOR_SIZE, Sector, SectorCount};

use super::device::Device;
use super::record::RecordFault;
use super::{Event, Nanoseconds, Place, TraceError, TraceOperation};

/// A request as the trace has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// By the recorder's clock, which starts anywhere.
    pub(super) time: Nanoseconds,
    /// To which device, if the format tells several apart.
    pub(super) device: Option<Device>,
    /// Which moment of the request's life this is, if the format has several.
    pub(super) event: Option<Event>,
    /// What was asked for.
    pub(super) operation: TraceOperation,
    /// Only on writes.
    pub(super) preflush: bool,
    /// Only on writes.
    pub(super) fua: bool,
    /// Of what; ignored for a flush.
    pub(super) extent: Extent,
    /// What is wrong with it, which matters only if it is wanted.
    pub(super) fault: Option<RecordFault>,
}

impl Entry {
    /// A request of which nothing more is known.
    pub(super) fn new(time: Nanoseconds, operation: TraceOperation, extent: Extent) -> Entry {
        Entry {
            time,
            device: None,
            event: None,
            operation,
            preflush: false,
            fua: false,
            extent,
            fault: None,
        }
    }

    /// Whether it transfers nothing, and is no flush either.
    pub(super) fn is_empty(&self) -> bool {
        let is_empty = matches!(
            self.extent,
            Extent::Sectors(_, SectorCount(0)) | Extent::Bytes(_, Bytes(0))
        );
        is_empty && self.operation != TraceOperation::Flush && self.fault.is_none()
    }
}

/// Where on the device, in the format's own unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// Of a flush.
    Nothing,
    /// In sectors of 512 bytes.
    Sectors(Sector, SectorCount),
    /// In bytes: offset and length.
    Bytes(Bytes, Bytes),
}

impl Extent {
    /// In sectors, rounded outward; and whether there was anything to round.
    pub(super) fn sectors(self) -> Result<(Sector, SectorCount, bool), RecordFault> {
        match self {
            Extent::Nothing => Ok((Sector(0), SectorCount(0), false)),
            Extent::Sectors(start, count) => Ok((start, count, false)),
            Extent::Bytes(offset, length) => {
                let Some(end) = offset.0.checked_add(length.0) else {
                    return Err(RecordFault {
                        found: format!("offset {} and length {}", offset.0, length.0),
                        expected: "an end below 2^64 bytes".to_owned(),
                    });
                };
                let (start, end_sector) = (offset.0 / SECTOR_SIZE, end.div_ceil(SECTOR_SIZE));
                // No bytes are no sectors, wherever they are.
                let count = if length.0 == 0 { 0 } else { end_sector - start };
                let rounded =
                    !offset.0.is_multiple_of(SECTOR_SIZE) || !end.is_multiple_of(SECTOR_SIZE);
                Ok((Sector(start), SectorCount(count), rounded))
            }
        }
    }
}

/// What there was next in a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    /// A request.
    Entry(Entry),
    /// Something that is no request: a comment, or an event of another kind.
    Nothing,
    /// The recorder says, in these words, that it lost events here.
    Lost(String),
    /// Nothing any more.
    End,
}

/// What a format knows: how to make entries from bytes. Everything else is done once for all
/// of them, in [`Reader`](super::reader::Reader).
pub(super) trait Decoder: Send {
    /// What comes next. After an error the bad line or record is passed, and what follows can be
    /// asked for. Each call reads something or returns [`Decoded::End`].
    fn decode(&mut self) -> Result<Decoded, TraceError>;

    /// Where the last line or record began.
    fn place(&self) -> Place;

    /// The data of the last entry, if the format carries it.
    fn payload(&self) -> Option<&[u8]> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_rounded_outward() {
        let sectors = |offset, length| Extent::Bytes(Bytes(offset), Bytes(length)).sectors();
        let some = |start, count, rounded| Ok((Sector(start), SectorCount(count), rounded));
        assert_eq!(sectors(512, 1024), some(1, 2, false));
        assert_eq!(sectors(513, 1023), some(1, 2, true));
        assert_eq!(sectors(511, 2), some(0, 2, true));
        assert_eq!(sectors(0, 1), some(0, 1, true));
        assert_eq!(sectors(512, 0), some(1, 0, false));
        assert_eq!(sectors(700, 0), some(1, 0, true));
        assert!(sectors(u64::MAX, 1).is_err());
    }
}
