//! What a client asks for, and how that is cut to what the driver takes.

use driver::blk::{Limits, Operation, Request, Segment, Status, Tag};
use driver::units::{Bytes, SECTOR_SIZE, Sector, SectorCount, SectorRange};

use super::budget::Permit;

/// What a client asks for. Ranges are of whole sectors and lie within the device.
#[derive(Debug)]
pub enum Job {
    /// Read these sectors.
    Read(SectorRange),
    /// Write this data, a multiple of 512 bytes, from this sector on.
    Write {
        /// The first sector.
        start: Sector,
        /// The data.
        data: Vec<u8>,
        /// Durable when done, and with it all that was done before.
        fua: bool,
    },
    /// Make all that was done before durable.
    Flush,
    /// The content is not needed any more.
    Discard {
        /// Of which sectors.
        range: SectorRange,
        /// Durable when done.
        fua: bool,
    },
    /// Make the sectors read as zeros.
    WriteZeroes {
        /// Which.
        range: SectorRange,
        /// Durable when done.
        fua: bool,
    },
    /// Write zeros to the sectors as data, so that they have their space.
    WriteOutZeroes {
        /// Which.
        range: SectorRange,
        /// Durable when done.
        fua: bool,
    },
}

/// A job that has ended.
#[derive(Debug)]
pub struct Done<C> {
    /// What the client gave with it.
    pub context: C,
    /// How it ended: the first failure of its parts.
    pub status: Status,
    /// It has failed because the server is ending, and it was too long to be finished.
    pub is_given_up: bool,
    /// What a read has read, in order, if it ended well.
    pub data: Vec<Vec<u8>>,
    /// Its part of the memory, kept until the answer is out.
    pub permit: Option<Permit>,
}

impl Job {
    /// The sectors that it is about; empty for a flush.
    pub fn range(&self) -> SectorRange {
        match self {
            Job::Read(range)
            | Job::Discard { range, .. }
            | Job::WriteZeroes { range, .. }
            | Job::WriteOutZeroes { range, .. } => *range,
            Job::Write { start, data, .. } => {
                SectorRange::new(*start, Bytes(data.len() as u64).whole_sectors())
            }
            Job::Flush => SectorRange::default(),
        }
    }

    /// Whether it changes sectors, and carries no data for them: it may be of any length, and is
    /// served a few parts at a time.
    pub(super) fn comes_in_parts(&self) -> bool {
        matches!(
            self,
            Job::Discard { .. } | Job::WriteZeroes { .. } | Job::WriteOutZeroes { .. }
        )
    }

    /// Whether a flush comes after it. The driver takes FUA with writes only, and with each of them
    /// it would sync.
    pub(super) fn then_flush(&self) -> bool {
        match self {
            Job::Discard { range, fua }
            | Job::WriteZeroes { range, fua }
            | Job::WriteOutZeroes { range, fua } => *fua && !range.is_empty(),
            Job::Read(_) | Job::Write { .. } | Job::Flush => false,
        }
    }

    pub(super) fn operation(&self) -> Operation {
        match self {
            Job::Read(_) => Operation::Read,
            Job::Write { fua, .. } => Operation::Write { fua: *fua },
            Job::Flush => Operation::Flush,
            Job::Discard { .. } => Operation::Discard,
            Job::WriteZeroes { .. } => Operation::WriteZeroes,
            Job::WriteOutZeroes { .. } => Operation::Write { fua: false },
        }
    }
}

pub(super) fn request(
    tag: Tag,
    operation: Operation,
    start: Sector,
    segments: Vec<Segment>,
) -> Request {
    Request {
        tag,
        operation,
        start,
        segments,
    }
}

/// The longest transfer that the limits allow in whatever memory.
pub(super) fn longest_transfer(limits: Limits) -> SectorCount {
    let in_segments = match limits.segment_boundary {
        None => limits.max_transfer,
        Some(boundary) => SectorCount(
            boundary
                .whole_sectors()
                .0
                .saturating_mul(limits.max_segments as u64),
        ),
    };
    limits.max_transfer.min(in_segments).max(SectorCount(1))
}

/// Data in pieces of at most `longest` bytes, each in memory of its own length.
pub(super) fn pieces(data: Vec<u8>, longest: usize) -> Vec<Vec<u8>> {
    match data.len() <= longest {
        true => vec![data],
        false => data.chunks(longest).map(<[u8]>::to_vec).collect(),
    }
}

/// The data of a transfer, cut where the limits want it.
pub(super) fn segments(data: Vec<u8>, limits: Limits) -> Vec<Segment> {
    match limits.segment_boundary {
        Some(boundary) if data.len() as u64 > boundary.0 => {
            let longest = boundary.0.max(SECTOR_SIZE) as usize;
            let pieces = data.chunks(longest);
            pieces
                .map(|piece| Segment::with_data(piece.to_vec()))
                .collect()
        }
        _ => vec![Segment::with_data(data)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_take_no_more_memory_than_they_hold() {
        let mut data = Vec::with_capacity(1 << 20);
        data.resize(10_000, 7);
        let cut = pieces(data, 512);
        assert_eq!(cut.len(), 20);
        let capacities = cut.iter().map(Vec::capacity).sum::<usize>();
        assert!(capacities <= 2 * 10_000, "{capacities}");
        assert_eq!(cut.concat(), vec![7; 10_000]);
    }
}
