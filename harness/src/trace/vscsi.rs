//! VMware's vscsi traces, as CloudPhysics published them: fixed records, little
//! endian, without a header. The version is in the high byte of a field of each
//! record, and that is also what tells the format.
//!
//! ```text
//! version 1, 32 bytes                          version 2, 40 bytes
//!  0  u32  serial number                        0  u16  SCSI command
//!  4  u32  length in bytes                      2  u16  version: high byte 2
//!  8  u32  scatter-gather entries               4  u32  serial number
//! 12  u16  SCSI command                         8  u32  length in bytes
//! 14  u16  version: high byte 1                12  u32  scatter-gather entries
//! 16  u64  first block, of 512 bytes           16  u64  first block, of 512 bytes
//! 24  u64  time in microseconds                24  u64  time in microseconds
//!                                              32  u64  response time
//! ```
//!
//! Times count from some moment of the recorder's; they are turned into times since
//! the first record. The trace tells neither the device's size nor FUA.

use driver::exact_count;
use driver::units::{Bytes, FileOffset, Sector, SectorCount};

use super::entry::{Decoded, Decoder, Entry, Extent};
use super::input::{Input, field};
use super::{Nanoseconds, Place, Stream, TraceError, TraceOperation};

/// The version of a vscsi trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// Records of 32 bytes.
    V1,
    /// Records of 40 bytes, with the response time.
    V2,
}

impl Version {
    const fn record_len(self) -> usize {
        match self {
            Version::V1 => 32,
            Version::V2 => 40,
        }
    }

    const fn number(self) -> u8 {
        match self {
            Version::V1 => 1,
            Version::V2 => 2,
        }
    }
}

/// A record's fields, before they are judged.
struct RawRecord {
    command: u16,
    version: u16,
    length: Bytes,
    start: Sector,
    microseconds: u64,
}

impl RawRecord {
    /// `bytes` is one record of the version's length.
    fn decode(version: Version, bytes: &[u8]) -> RawRecord {
        let (command, length) = match version {
            Version::V1 => (12, 4),
            Version::V2 => (0, 8),
        };
        RawRecord {
            command: u16::from_le_bytes(field(bytes, command)),
            version: u16::from_le_bytes(field(bytes, command + 2)),
            length: Bytes(u64::from(u32::from_le_bytes(field(bytes, length)))),
            start: Sector(u64::from_le_bytes(field(bytes, 16))),
            microseconds: u64::from_le_bytes(field(bytes, 24)),
        }
    }

    /// READ, WRITE and SYNCHRONIZE CACHE in their several lengths.
    fn operation(&self) -> Option<TraceOperation> {
        match self.command {
            0x08 | 0x28 | 0x88 | 0xa8 => Some(TraceOperation::Read),
            0x0a | 0x2a | 0x8a | 0xaa => Some(TraceOperation::Write),
            0x35 | 0x91 => Some(TraceOperation::Flush),
            _ => None,
        }
    }
}

/// The version of the vscsi trace that begins with `prefix`, if it is one. Several
/// records are looked at, because either version's field could by chance be right
/// in a record of the other.
pub(super) fn detect(prefix: &[u8]) -> Option<Version> {
    let fitting = |version: Version| {
        let records = prefix.chunks_exact(version.record_len()).take(8);
        let raw = records.map(|bytes| RawRecord::decode(version, bytes));
        raw.take_while(|raw| {
            raw.version >> 8 == u16::from(version.number()) && raw.operation().is_some()
        })
        .count()
    };
    let (first, second) = (fitting(Version::V1), fitting(Version::V2));
    match (first, second) {
        (0, 0) => None,
        _ if first >= second => Some(Version::V1),
        _ => Some(Version::V2),
    }
}

/// Decodes a vscsi trace.
pub(super) struct Vscsi {
    input: Input<Stream>,
    version: Version,
    start: FileOffset,
}

impl Vscsi {
    /// Of `input`, which is at the first record.
    pub(super) fn new(input: Input<Stream>, version: Version) -> Vscsi {
        Vscsi {
            input,
            version,
            start: FileOffset(0),
        }
    }

    fn entry(&self, raw: &RawRecord) -> Result<Entry, TraceError> {
        let bad = |found: String, expected: &str| Err(self.input.bad(self.start, found, expected));
        if raw.version >> 8 != u16::from(self.version.number()) {
            let expected = format!("high byte {}", self.version.number());
            return bad(
                format!("a record with version field {:#06x}", raw.version),
                &expected,
            );
        }
        let Some(operation) = raw.operation() else {
            return bad(
                format!("SCSI command {:#04x}", raw.command),
                "read (08, 28, 88, a8), write (0a, 2a, 8a, aa) or synchronize cache (35, 91)",
            );
        };
        let Some(time) = raw.microseconds.checked_mul(1000).map(Nanoseconds) else {
            return bad(
                format!("a time of {} microseconds", raw.microseconds),
                "one below 2^64 nanoseconds",
            );
        };
        let count = raw.length.whole_sectors();
        if operation != TraceOperation::Flush && raw.length != count.bytes() {
            return bad(
                format!("a {operation} of {}", raw.length),
                "a multiple of 512 bytes",
            );
        }
        let extent = Extent::Sectors(raw.start, SectorCount(count.0));
        Ok(Entry::new(time, operation, extent))
    }
}

impl Decoder for Vscsi {
    fn decode(&mut self) -> Result<Decoded, TraceError> {
        self.start = self.input.offset();
        let mut buffer = [0; 40];
        let bytes = &mut buffer[..self.version.record_len()];
        match self.input.read_up_to(bytes)? {
            0 => Ok(Decoded::End),
            filled if filled < bytes.len() => Err(TraceError::Cut {
                place: self.place(),
                found: format!(
                    "{} before the end of the file",
                    exact_count(filled as u64, "byte")
                ),
                expected: format!("a record of {} bytes", bytes.len()),
            }),
            _ => {
                let raw = RawRecord::decode(self.version, bytes);
                self.entry(&raw).map(Decoded::Entry)
            }
        }
    }

    fn place(&self) -> Place {
        self.input.place(self.start)
    }
}
