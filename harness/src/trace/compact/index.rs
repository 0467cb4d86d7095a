//! The index after the frames, and the trailer that ends the file.

use driver::units::{Bytes, FileOffset};

use super::super::Nanoseconds;
use super::super::error::excerpt;
use super::header::Version;
use super::{Fault, u32_at, u64_at};

/// The first bytes of the index.
pub(super) const INDEX_MAGIC: [u8; 4] = *b"UBDI";
/// The length of what is before the entries.
pub(super) const INDEX_HEAD: [u8; 8] = [b'U', b'B', b'D', b'I', 0, 0, 0, 0];
/// The length of an entry.
pub(super) const ENTRY_LEN: usize = 32;
/// The length of the trailer.
pub(super) const TRAILER_LEN: usize = 40;

const TRAILER_MAGIC: [u8; 4] = *b"UBDE";

/// Where a frame is, and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexEntry {
    pub(super) offset: FileOffset,
    pub(super) first_record: u64,
    pub(super) first_time: Nanoseconds,
    pub(super) latest_time: Nanoseconds,
}

impl IndexEntry {
    pub(super) fn encode(&self) -> [u8; ENTRY_LEN] {
        let mut bytes = [0; ENTRY_LEN];
        bytes[..8].copy_from_slice(&self.offset.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.first_record.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first_time.0.to_le_bytes());
        bytes[24..].copy_from_slice(&self.latest_time.0.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; ENTRY_LEN]) -> IndexEntry {
        IndexEntry {
            offset: FileOffset(u64_at(bytes, 0)),
            first_record: u64_at(bytes, 8),
            first_time: Nanoseconds(u64_at(bytes, 16)),
            latest_time: Nanoseconds(u64_at(bytes, 24)),
        }
    }
}

/// The last bytes of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trailer {
    pub(super) index: FileOffset,
    pub(super) frames: u64,
    pub(super) records: u64,
    pub(super) index_crc: u32,
    /// Requests that are not in the trace, because the recorder lost them; of version 2.
    pub(super) lost: u32,
}

impl Trailer {
    pub(super) fn encode(&self) -> [u8; TRAILER_LEN] {
        let mut bytes = [0; TRAILER_LEN];
        bytes[..8].copy_from_slice(&self.index.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.frames.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.records.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.index_crc.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.lost.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..32]);
        bytes[32..36].copy_from_slice(&crc.to_le_bytes());
        bytes[36..].copy_from_slice(&TRAILER_MAGIC);
        bytes
    }

    /// Whether `bytes` end as a trailer does: nothing is cut off.
    pub(super) fn is_complete(bytes: &[u8]) -> bool {
        bytes.ends_with(&TRAILER_MAGIC)
    }

    pub(super) fn decode(bytes: &[u8; TRAILER_LEN], version: Version) -> Result<Trailer, Fault> {
        if !Trailer::is_complete(bytes) {
            return Err(Fault::new(
                36,
                excerpt(&bytes[36..]),
                "the trailer's \"UBDE\"",
            ));
        }
        let (stored, computed) = (u32_at(bytes, 32), crc32c::crc32c(&bytes[..32]));
        if stored != computed {
            return Err(Fault::checksum(32, "the trailer", stored, computed));
        }
        let lost = u32_at(bytes, 28);
        if version == Version::One && lost != 0 {
            return Err(Fault::new(28, lost.to_string(), "0"));
        }
        Ok(Trailer {
            index: FileOffset(u64_at(bytes, 0)),
            frames: u64_at(bytes, 8),
            records: u64_at(bytes, 16),
            index_crc: u32_at(bytes, 24),
            lost,
        })
    }

    /// Where the file must end for the trailer to be true; `None` beyond 2^64.
    pub(super) fn end_of_file(&self) -> Option<FileOffset> {
        let entries = self.frames.checked_mul(ENTRY_LEN as u64)?;
        let fixed = (INDEX_HEAD.len() + TRAILER_LEN) as u64;
        let length = self.index.0.checked_add(entries)?.checked_add(fixed)?;
        Some(FileOffset(0) + Bytes(length))
    }
}
