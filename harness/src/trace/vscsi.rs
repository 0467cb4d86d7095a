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

use std::io::BufRead;
use std::path::Path;

use driver::units::{Bytes, FileOffset, Sector, SectorCount};

use super::error::TraceError;
use super::input::Input;
use super::{Description, Format, Nanoseconds, Record, TraceOperation, TraceSource};

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

fn field<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[offset..offset + N]);
    field
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

/// Reads a vscsi trace.
#[derive(Debug)]
pub struct VscsiReader<R> {
    input: Input<R>,
    version: Version,
    description: Description,
    first_microseconds: Option<u64>,
    ended: bool,
}

impl<R: BufRead + Send> VscsiReader<R> {
    /// A reader of `reader`, which is at the first record.
    pub fn new(name: &Path, reader: R, version: Version) -> VscsiReader<R> {
        VscsiReader {
            input: Input::new(name, reader),
            version,
            description: Description {
                format: Format::Vscsi(version).name(),
                device_size: None,
                text: String::new(),
            },
            first_microseconds: None,
            ended: false,
        }
    }

    fn read(&mut self) -> Result<Option<Record>, TraceError> {
        let start = self.input.offset();
        let mut buffer = [0; 40];
        let bytes = &mut buffer[..self.version.record_len()];
        match self.input.read_up_to(bytes)? {
            0 => Ok(None),
            filled if filled < bytes.len() => Err(TraceError::Cut {
                place: self.input.place(start),
                found: format!("{filled} bytes before the end of the file"),
                expected: format!("a record of {} bytes", bytes.len()),
            }),
            _ => self
                .record(start, &RawRecord::decode(self.version, bytes))
                .map(Some),
        }
    }

    fn record(&mut self, place: FileOffset, raw: &RawRecord) -> Result<Record, TraceError> {
        let bad = |found: String, expected: &str| Err(self.input.bad(place, found, expected));
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
        let first = *self.first_microseconds.get_or_insert(raw.microseconds);
        // A record that was written late may be earlier than the first.
        let microseconds = raw.microseconds.saturating_sub(first);
        let Some(time) = microseconds.checked_mul(1000).map(Nanoseconds) else {
            return bad(
                format!("a time of {microseconds} microseconds"),
                "one below 2^64 nanoseconds",
            );
        };
        if operation == TraceOperation::Flush {
            return Ok(Record::flush(time));
        }
        if raw.length != raw.length.whole_sectors().bytes() {
            return bad(
                format!("a {operation} of {}", raw.length),
                "a multiple of 512 bytes",
            );
        }
        let record = Record {
            time,
            operation,
            preflush: false,
            fua: false,
            start: raw.start,
            count: SectorCount(raw.length.whole_sectors().0),
        };
        match record.check() {
            Ok(()) => Ok(record),
            Err(fault) => bad(fault.found, &fault.expected),
        }
    }
}

impl<R: BufRead + Send> Iterator for VscsiReader<R> {
    type Item = Result<Record, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.read().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

impl<R: BufRead + Send> TraceSource for VscsiReader<R> {
    fn description(&self) -> &Description {
        &self.description
    }
}
