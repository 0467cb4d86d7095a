//! Where the fields of headers are, and how fields are read: big endian, each at its place.
//! `docs/format.md` has the tables.

use std::ops::Range;

use crate::units::{Bytes, FileOffset};

/// The magic number at the start of a header, `OOOM` when written big endian.
pub(crate) const MAGIC: u32 = 0x4f4f_4f4d;

/// Where every header has its version.
pub(crate) const VERSION_AT: usize = 4;

/// The layout of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// In the byte order of the machine that made it; the path has 256 bytes.
    V1,
    /// Big endian from here on; the path has 4096 bytes.
    V2,
    /// With an alignment: what every kernel since 2003 creates.
    V3,
    /// V3 as 64-bit hosts wrote it before December 2005: fields padded by the compiler.
    V3Wide,
}

/// Where the fields of one layout are, in bytes from the start of the file.
pub(crate) struct HeaderFields {
    pub(crate) path: usize,
    pub(crate) path_len: usize,
    pub(crate) mtime: usize,
    pub(crate) size: usize,
    pub(crate) sector_size: usize,
    pub(crate) alignment: Option<usize>,
    pub(crate) format: Option<usize>,
    /// The length of the header.
    pub(crate) len: usize,
}

impl Version {
    /// Where the fields are.
    pub(crate) const fn fields(self) -> HeaderFields {
        let (path, path_len, mtime, size, sector_size, alignment, format, len) = match self {
            Version::V1 => (8, 256, 264, 268, 276, None, None, 280),
            Version::V2 => (8, 4096, 4104, 4108, 4116, None, None, 4120),
            Version::V3 => (32, 4096, 8, 12, 20, Some(24), Some(28), 4128),
            Version::V3Wide => (36, 4096, 8, 16, 24, Some(28), Some(32), 4136),
        };
        HeaderFields {
            path,
            path_len,
            mtime,
            size,
            sector_size,
            alignment,
            format,
            len,
        }
    }

    /// The length of the header in bytes.
    pub const fn header_len(self) -> Bytes {
        Bytes(self.fields().len as u64)
    }

    /// Where the layout has the path of the backing file.
    pub const fn path_offset(self) -> FileOffset {
        FileOffset(self.fields().path as u64)
    }

    /// Where the size of the device is.
    pub const fn size_offset(self) -> FileOffset {
        FileOffset(self.fields().size as u64)
    }

    /// The number in the version field.
    pub const fn number(self) -> u32 {
        match self {
            Version::V1 => 1,
            Version::V2 => 2,
            Version::V3 | Version::V3Wide => 3,
        }
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Version::V1 => "V1",
            Version::V2 => "V2",
            Version::V3 => "V3",
            Version::V3Wide => "V3 (64-bit)",
        })
    }
}

/// The longest header, and so what a reader has to read before it knows the version.
pub const LONGEST_HEADER: Bytes = Version::V3Wide.header_len();

/// The field of four bytes at this place.
///
/// # Panics
/// If the block ends before the field does.
pub(super) fn u32_at(block: &[u8], field: Range<usize>) -> u32 {
    u32::from_be_bytes(bytes_at(block, field))
}

/// The field of eight bytes at this place.
///
/// # Panics
/// If the block ends before the field does.
pub(super) fn u64_at(block: &[u8], field: Range<usize>) -> u64 {
    u64::from_be_bytes(bytes_at(block, field))
}

fn bytes_at<const N: usize>(block: &[u8], field: Range<usize>) -> [u8; N] {
    block[field].try_into().unwrap_or([0; N])
}
