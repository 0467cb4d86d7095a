//! A request on its way to a driver, and its completion on the way back.
//!
//! A request owns its buffers and the completion returns it whole, so that data
//! crosses to the I/O thread and back without a copy and a submitter can use the
//! same allocation again.

use std::fmt;

use crate::host::{FileRole, HostError, OperationKind};
use crate::units::{Bytes, FileOffset, SECTOR_SIZE, Sector, SectorCount, SectorRange};

use super::Status;

/// The submitter's name for a request; comes back in its completion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u64);

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Fill the segments' buffers.
    Read,
    /// Write the segments' buffers.
    Write {
        /// Forced unit access: durable when completed, and all before it with it.
        fua: bool,
    },
    /// Make every completed write durable. Has no segments.
    Flush,
    /// The content is not needed any more: it reads as what it was or as zeros.
    Discard,
    /// Make the sectors read as zeros.
    WriteZeroes,
}

impl Operation {
    /// Whether it changes what its sectors hold, or may.
    #[inline]
    pub fn is_change(self) -> bool {
        match self {
            Operation::Write { .. } | Operation::Discard | Operation::WriteZeroes => true,
            Operation::Read | Operation::Flush => false,
        }
    }
}

/// As in a message: `write`, `write with FUA`, `write of zeros`.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Read => "read",
            Operation::Write { fua: false } => "write",
            Operation::Write { fua: true } => "write with FUA",
            Operation::Flush => "flush",
            Operation::Discard => "discard",
            Operation::WriteZeroes => "write of zeros",
        })
    }
}

/// A part of a request that is contiguous in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Its length on the device.
    pub sectors: SectorCount,
    /// Its content: `sectors` times 512 bytes for reads and writes, empty otherwise.
    pub data: Vec<u8>,
}

impl Segment {
    /// A segment around a buffer whose length is a multiple of 512 bytes.
    pub fn with_data(data: Vec<u8>) -> Segment {
        Segment {
            sectors: SectorCount(data.len() as u64 / SECTOR_SIZE),
            data,
        }
    }

    /// A segment without a buffer, for discards and write-zeroes.
    pub fn without_data(sectors: SectorCount) -> Segment {
        Segment {
            sectors,
            data: Vec::new(),
        }
    }

    /// Whether the buffer is as long as the segment is said to be.
    #[inline]
    pub fn is_whole(&self) -> bool {
        let len = Bytes(self.data.len() as u64);
        len.whole_sectors() == self.sectors && len.0.is_multiple_of(SECTOR_SIZE)
    }
}

/// A request to the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The submitter's name for it.
    pub tag: Tag,
    /// What it asks for.
    pub operation: Operation,
    /// Its first sector; meaningless for a flush.
    pub start: Sector,
    /// Its parts, in the order of the device, without gaps.
    pub segments: Vec<Segment>,
}

impl Request {
    /// A read of `count` sectors into one new buffer.
    pub fn read(tag: Tag, start: Sector, count: SectorCount) -> Request {
        let buffer = vec![0; count.bytes().0 as usize];
        Request::of(tag, Operation::Read, start, Segment::with_data(buffer))
    }

    /// A write of `data`, whose length is a multiple of 512 bytes.
    pub fn write(tag: Tag, start: Sector, data: Vec<u8>) -> Request {
        let operation = Operation::Write { fua: false };
        Request::of(tag, operation, start, Segment::with_data(data))
    }

    /// A write of `data` that is durable when completed.
    pub fn write_fua(tag: Tag, start: Sector, data: Vec<u8>) -> Request {
        let operation = Operation::Write { fua: true };
        Request::of(tag, operation, start, Segment::with_data(data))
    }

    /// A flush.
    pub fn flush(tag: Tag) -> Request {
        Request {
            tag,
            operation: Operation::Flush,
            start: Sector(0),
            segments: Vec::new(),
        }
    }

    /// A discard of `count` sectors.
    pub fn discard(tag: Tag, start: Sector, count: SectorCount) -> Request {
        let segment = Segment::without_data(count);
        Request::of(tag, Operation::Discard, start, segment)
    }

    /// Zeros over `count` sectors.
    pub fn write_zeroes(tag: Tag, start: Sector, count: SectorCount) -> Request {
        let segment = Segment::without_data(count);
        Request::of(tag, Operation::WriteZeroes, start, segment)
    }

    fn of(tag: Tag, operation: Operation, start: Sector, segment: Segment) -> Request {
        Request {
            tag,
            operation,
            start,
            segments: vec![segment],
        }
    }

    /// The sectors that the request is about; empty for a flush.
    #[inline]
    pub fn range(&self) -> SectorRange {
        let count = self.segments.iter().map(|s| s.sectors.0);
        // Saturating, because the sum is checked against the device only later.
        let count = count.fold(0, u64::saturating_add);
        SectorRange::new(self.start, SectorCount(count))
    }
}

/// The host operation that made a request fail.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct HostFailure {
    /// What was asked for.
    pub kind: OperationKind,
    /// On which file.
    pub role: FileRole,
    /// Where in it.
    pub at: FileOffset,
    /// What the host said.
    pub error: HostError,
}

/// As in a message: `write of the COW file at byte 4096: no space left on the host`.
impl fmt::Display for HostFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HostFailure {
            kind,
            role,
            at,
            error,
        } = self;
        let asked = match kind {
            OperationKind::Read => "read of",
            OperationKind::Write => "write of",
            OperationKind::SyncData => "sync of",
            OperationKind::Len => "look at the length of",
            OperationKind::SetLen => "change of the length of",
            OperationKind::PunchHole => "punching of a hole into",
            OperationKind::ZeroRange => "zeroing of",
            OperationKind::CloneRange => "sharing of a range with",
            OperationKind::NextData => "search for data in",
            OperationKind::Open => "opening of",
            OperationKind::CreateNew => "creation of",
            OperationKind::GiveMode => "change of the mode of",
            OperationKind::Metadata => "look at",
            OperationKind::CopyAttributes => "copy of owner and mode to",
            OperationKind::SetModified => "change of the time of",
            OperationKind::Lock => "lock of",
            OperationKind::Rename => "renaming of",
            OperationKind::Remove => "removal of",
            OperationKind::SyncDirectory => "sync of the directory of",
            OperationKind::Allocate => "allocation of",
            OperationKind::CopyRange => "copy of a range to",
            OperationKind::MakeDirectory => "making of the directory of",
            OperationKind::Link => "another name of",
            OperationKind::SetAttributes => "change of owner, mode or times of",
        };
        write!(f, "{asked} the {role}")?;
        match kind {
            OperationKind::Read
            | OperationKind::Write
            | OperationKind::PunchHole
            | OperationKind::ZeroRange
            | OperationKind::CloneRange
            | OperationKind::Allocate
            | OperationKind::CopyRange
            | OperationKind::NextData => write!(f, " at byte {at}")?,
            OperationKind::SetLen => write!(f, " to {at} bytes")?,
            // The others are about the file as a whole.
            _ => {}
        }
        write!(f, ": {error}")
    }
}

/// A finished request.
#[derive(Clone, Debug)]
pub struct Completion {
    /// The request as it was submitted; the buffers of a successful read are filled.
    pub request: Request,
    /// How it ended.
    pub status: Status,
    /// For an error that the host caused, what it was.
    pub failure: Option<Box<HostFailure>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_was_asked_of_which_file_and_where_if_it_had_a_place() {
        let told = OperationKind::ALL.map(|kind| {
            let failure = HostFailure {
                kind,
                role: FileRole::Cow,
                at: FileOffset(4096),
                error: HostError::NoSpace,
            };
            failure.to_string()
        });
        let expected = [
            "read of the COW file at byte 4096",
            "write of the COW file at byte 4096",
            "sync of the COW file",
            "look at the length of the COW file",
            "change of the length of the COW file to 4096 bytes",
            "punching of a hole into the COW file at byte 4096",
            "zeroing of the COW file at byte 4096",
            "sharing of a range with the COW file at byte 4096",
            "search for data in the COW file at byte 4096",
            "opening of the COW file",
            "creation of the COW file",
            "change of the mode of the COW file",
            "look at the COW file",
            "copy of owner and mode to the COW file",
            "change of the time of the COW file",
            "lock of the COW file",
            "renaming of the COW file",
            "removal of the COW file",
            "sync of the directory of the COW file",
            "allocation of the COW file at byte 4096",
            "copy of a range to the COW file at byte 4096",
            "making of the directory of the COW file",
            "another name of the COW file",
            "change of owner, mode or times of the COW file",
        ];
        assert_eq!(
            told,
            expected.map(|asked| format!("{asked}: no space left on the host"))
        );
    }
}
