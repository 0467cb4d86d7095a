//! The header of a COW file, in all four layouts that were ever written: V1, V2, V3
//! and the V3 that 64-bit hosts wrote before December 2005. `docs/format.md` has the
//! table of fields. Decoding checks every field before anything is computed from it,
//! and works by offsets, never by laying a struct over the bytes: that wide V3 exists
//! only because somebody did.

use std::path::Path;

use crate::exact_count;
use crate::path_bytes::{bytes_of, path_of};
use crate::units::{Bytes, SECTOR_SIZE};

use super::fields::{HeaderFields, MAGIC, VERSION_AT, Version};
use super::geometry::{FileTooLarge, Geometry};
use super::header_record::{HeaderRecord, Naming, RECORD_END};

/// Set in the size field while a reflow is under way. No stock reader accepts the size
/// that results: it compares the field with the size of the backing file.
const RELOCATING: u64 = 1 << 63;

impl Version {
    /// The version of the header at the start of a file, and the byte order of its magic number.
    pub(super) fn of(start: &[u8]) -> Result<(Version, ByteOrder), HeaderError> {
        // Eight bytes tell the magic and the version, and so how long the rest is.
        let magic: [u8; 4] = field(start, 0).ok_or_else(|| too_short(start, 8))?;
        let version: [u8; 4] = field(start, VERSION_AT).ok_or_else(|| too_short(start, 8))?;
        let byte_order = match u32::from_be_bytes(magic) {
            MAGIC => ByteOrder::Big,
            swapped if swapped.swap_bytes() == MAGIC => ByteOrder::Little,
            found => return Err(HeaderError::BadMagic { found }),
        };
        let version = match byte_order.u32(version) {
            1 => Version::V1,
            2 => Version::V2,
            3 if is_wide(start) => Version::V3Wide,
            3 => Version::V3,
            found => return Err(HeaderError::UnknownVersion { found }),
        };
        Ok((version, byte_order))
    }

    /// The record of the interrupted change to another backing file, if the header that `start`
    /// begins with is half changed.
    pub(super) fn half_done(self, start: &[u8]) -> Option<HeaderRecord<'_>> {
        let places = self.fields();
        if places.len < RECORD_END {
            return None;
        }
        let record = HeaderRecord::decode(start, places.path)?;
        let field = start.get(places.path..places.path + places.path_len)?;
        let now = Naming {
            path: field.split(|&byte| byte == 0).next()?,
            mtime: u32::from_be_bytes(self::field(start, places.mtime)?),
        };
        record.is_half_done(now).then_some(record)
    }

    /// Puts path and time of a backing file into the bytes of a header of that layout. The path
    /// has to fit.
    pub(super) fn put_naming(self, header: &mut [u8], naming: Naming<'_>) {
        let places = self.fields();
        let path = &mut header[places.path..places.path + places.path_len];
        path.fill(0);
        path[..naming.path.len()].copy_from_slice(naming.path);
        header[places.mtime..places.mtime + 4].copy_from_slice(&naming.mtime.to_be_bytes());
    }
}

/// The byte order of the magic number and the version, and in V1 of every field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteOrder {
    /// As an x86 host writes V1.
    Little,
    /// As V2 and V3 are written by every host.
    Big,
}

impl ByteOrder {
    fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            ByteOrder::Little => u32::from_le_bytes(bytes),
            ByteOrder::Big => u32::from_be_bytes(bytes),
        }
    }

    fn u64(self, bytes: [u8; 8]) -> u64 {
        match self {
            ByteOrder::Little => u64::from_le_bytes(bytes),
            ByteOrder::Big => u64::from_be_bytes(bytes),
        }
    }

    fn bytes_of_u32(self, value: u32) -> [u8; 4] {
        match self {
            ByteOrder::Little => value.to_le_bytes(),
            ByteOrder::Big => value.to_be_bytes(),
        }
    }

    fn bytes_of_u64(self, value: u64) -> [u8; 8] {
        match self {
            ByteOrder::Little => value.to_le_bytes(),
            ByteOrder::Big => value.to_be_bytes(),
        }
    }
}

/// A decoded header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The layout.
    pub version: Version,
    /// The byte order of the magic number (and of all of V1).
    pub byte_order: ByteOrder,
    /// The path of the backing file as it stands there: at least one byte, no NUL.
    pub backing_path: Vec<u8>,
    /// When the backing file was modified last, in seconds since 1970, as 32 bits hold it.
    pub backing_mtime: u32,
    /// The size of the device in bytes: at least a sector, at most 2^63 - 1. While a
    /// reflow is under way, the size before it.
    pub size: Bytes,
    /// Whether a reflow is under way (V3 only): where the data is, the journal says.
    pub relocating: bool,
    /// Bitmap and data start at multiples of this. A multiple of 512; 512 in V1 and V2.
    pub alignment: u32,
}

/// Why bytes are not a header. The offset of the field comes first in the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The file is shorter than its header.
    #[error("byte {found}: the file ends here, its header needs {expected} bytes")]
    TooShort {
        /// The length of the file.
        found: u64,
        /// The length of the header.
        expected: u64,
    },
    /// Not a COW file.
    #[error("byte 0: found magic {found:#010x}, expected 0x4f4f4f4d: not a COW file")]
    BadMagic {
        /// The first four bytes, read big endian.
        found: u32,
    },
    /// A version that nobody ever wrote.
    #[error("byte 4: found version {found}, expected 1, 2 or 3")]
    UnknownVersion {
        /// The version field.
        found: u32,
    },
    /// Sectors that are not 512 bytes: no kernel ever made them.
    #[error("byte {offset}: found sector size {found}, expected 512")]
    BadSectorSize {
        /// Where the field is.
        offset: u64,
        /// What it holds.
        found: u32,
    },
    /// An alignment of 0, or not of whole sectors.
    #[error("byte {offset}: found alignment {found}, expected a positive multiple of 512")]
    BadAlignment {
        /// Where the field is.
        offset: u64,
        /// What it holds.
        found: u32,
    },
    /// A map that is not a bitmap.
    #[error("byte {offset}: found COW format {found}, expected 0 (bitmap)")]
    UnknownFormat {
        /// Where the field is.
        offset: u64,
        /// What it holds.
        found: u32,
    },
    /// A path that fills its field, or an empty one.
    #[error("byte {offset}: {problem}")]
    BadPath {
        /// Where the field is.
        offset: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A size that no file can have, or of less than a sector.
    #[error(
        "byte {offset}: found device size {}, expected from 512 to {}",
        exact_count(*.found, "byte"),
        i64::MAX
    )]
    BadSize {
        /// Where the field is.
        offset: u64,
        /// What it holds.
        found: u64,
    },
    /// A size that no file can have together with the alignment.
    #[error("byte {offset}: {error}")]
    Layout {
        /// Where the size is.
        offset: u64,
        /// What is wrong with it.
        error: FileTooLarge,
    },
    /// A change of the backing file's path and time was interrupted between two sectors: see
    /// [`super::HeaderChange`].
    #[error("byte {offset}: the header is half changed to another backing file")]
    HalfChanged {
        /// Where the record is of what it is to become.
        offset: u64,
    },
    /// Both paths and the record of the change do not fit into the path's field together.
    #[error(
        "byte {offset}: the old backing file's path has {}, the new one's {new}: with both \
         the header could not be changed such that an interruption can be recovered from: name the \
         new one by a shorter path, of a symbolic link for one",
        exact_count(*.old as u64, "byte")
    )]
    NoRoomForChange {
        /// Where the path is.
        offset: u64,
        /// The length of the old path in bytes.
        old: usize,
        /// The length of the new path in bytes.
        new: usize,
    },
}

impl Header {
    /// A V3 header.
    ///
    /// # Errors
    /// [`HeaderError::BadPath`] if the path is empty, has a NUL in it, or is longer than
    /// 4095 bytes; [`HeaderError::BadSize`] and [`HeaderError::BadAlignment`] likewise.
    pub fn v3(
        backing_path: &Path,
        backing_mtime: u32,
        size: Bytes,
        alignment: u32,
    ) -> Result<Header, HeaderError> {
        let places = Version::V3.fields();
        let path = check_path(backing_path, &places)?;
        check_size(size.0, places.size)?;
        check_alignment(alignment, places.alignment.unwrap_or(0))?;
        Ok(Header {
            version: Version::V3,
            byte_order: ByteOrder::Big,
            backing_path: path.to_vec(),
            backing_mtime,
            size,
            relocating: false,
            alignment,
        })
    }

    /// This header over another backing file.
    ///
    /// # Errors
    /// [`HeaderError::BadPath`] if the layout's field cannot hold the path.
    pub fn with_backing(&self, path: &Path, mtime: u32) -> Result<Header, HeaderError> {
        let path = check_path(path, &self.version.fields())?.to_vec();
        Ok(Header {
            backing_path: path,
            backing_mtime: mtime,
            ..self.clone()
        })
    }

    /// Whether a file that starts like this means to be a COW file, whatever its header is worth.
    pub fn has_magic(start: &[u8]) -> bool {
        let magic = field(start, 0).map(u32::from_be_bytes);
        magic.is_some_and(|magic| magic == MAGIC || magic.swap_bytes() == MAGIC)
    }

    /// Decodes the header at the start of a file; `start` holds the first
    /// [`LONGEST_HEADER`](super::LONGEST_HEADER) bytes of it, or all of a shorter file.
    ///
    /// # Errors
    /// The first field that cannot be: see [`HeaderError`].
    pub fn decode(start: &[u8]) -> Result<Header, HeaderError> {
        let (version, byte_order) = Version::of(start)?;
        let places = version.fields();
        if start.len() < places.len {
            return Err(too_short(start, places.len));
        }
        let fields = match version {
            Version::V1 => byte_order,
            _ => ByteOrder::Big,
        };
        let u32_at = |offset: usize| fields.u32(field(start, offset).unwrap_or_default());
        let u64_at = |offset: usize| fields.u64(field(start, offset).unwrap_or_default());

        let sector_size = u32_at(places.sector_size);
        if u64::from(sector_size) != SECTOR_SIZE {
            return Err(HeaderError::BadSectorSize {
                offset: places.sector_size as u64,
                found: sector_size,
            });
        }
        let alignment = match places.alignment {
            Some(offset) => check_alignment(u32_at(offset), offset)?,
            None => SECTOR_SIZE as u32,
        };
        if let Some(offset) = places.format
            && u32_at(offset) != 0
        {
            return Err(HeaderError::UnknownFormat {
                offset: offset as u64,
                found: u32_at(offset),
            });
        }
        let found = u64_at(places.size);
        let relocating = version == Version::V3 && found & RELOCATING != 0;
        let size = if relocating {
            found & !RELOCATING
        } else {
            found
        };
        let offset = places.size as u64;
        // What is reported is what stands there, with the mark.
        check_size(size, places.size).map_err(|_| HeaderError::BadSize { offset, found })?;
        Geometry::new(version, Bytes(size), alignment)
            .map_err(|error| HeaderError::Layout { offset, error })?;

        if let Some(record) = version.half_done(start) {
            let offset = record.begin as u64;
            return Err(HeaderError::HalfChanged { offset });
        }
        let path = &start[places.path..places.path + places.path_len];
        let path_problem = |problem| HeaderError::BadPath {
            offset: places.path as u64,
            problem,
        };
        let path_len = path
            .iter()
            .position(|&byte| byte == 0)
            .ok_or_else(|| path_problem("the path of the backing file has no NUL at its end"))?;
        if path_len == 0 {
            return Err(path_problem("the path of the backing file is empty"));
        }
        Ok(Header {
            version,
            byte_order,
            backing_path: path[..path_len].to_vec(),
            backing_mtime: u32_at(places.mtime),
            size: Bytes(size),
            relocating,
            alignment,
        })
    }

    /// The header's bytes, as many as [`Version::header_len`] says.
    pub fn encode(&self) -> Vec<u8> {
        let places = self.version.fields();
        let fields = match self.version {
            Version::V1 => self.byte_order,
            _ => ByteOrder::Big,
        };
        let mut bytes = vec![0; places.len];
        let mut put = |offset: usize, value: &[u8]| {
            bytes[offset..offset + value.len()].copy_from_slice(value);
        };
        let size = self.size.0 | if self.relocating { RELOCATING } else { 0 };
        put(0, &self.byte_order.bytes_of_u32(MAGIC));
        put(
            VERSION_AT,
            &self.byte_order.bytes_of_u32(self.version.number()),
        );
        put(places.mtime, &fields.bytes_of_u32(self.backing_mtime));
        put(places.size, &fields.bytes_of_u64(size));
        put(places.sector_size, &fields.bytes_of_u32(SECTOR_SIZE as u32));
        if let Some(offset) = places.alignment {
            put(offset, &fields.bytes_of_u32(self.alignment));
        }
        put(places.path, &self.backing_path);
        bytes
    }

    /// What the header has of the first sector: in V3 every field but the end of the path,
    /// so that writing it alone commits a new geometry. In V1 it ends within the sector, and
    /// the bitmap begins there.
    pub fn first_sector(&self) -> Vec<u8> {
        let mut bytes = self.encode();
        bytes.truncate(SECTOR_SIZE as usize);
        bytes
    }

    /// The path of the backing file, as a path. Not to be trusted: it is what somebody
    /// wrote into the file.
    pub fn backing_path(&self) -> &Path {
        path_of(&self.backing_path)
    }
}

fn too_short(start: &[u8], expected: usize) -> HeaderError {
    HeaderError::TooShort {
        found: start.len() as u64,
        expected: expected as u64,
    }
}

fn field<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset + N)?.try_into().ok()
}

/// Whether a version 3 is the wide one, which has four NULs where a path begins otherwise. A V3
/// with an empty path has them too; the other fields tell the two apart.
fn is_wide(start: &[u8]) -> bool {
    let sector_size = |offset| field(start, offset) == Some((SECTOR_SIZE as u32).to_be_bytes());
    let narrow = Version::V3.fields().sector_size;
    let wide = Version::V3Wide.fields().sector_size;
    field(start, Version::V3.fields().path) == Some([0; 4])
        && (sector_size(wide) || !sector_size(narrow))
}

/// The bytes of a path that the layout's field can hold, with a NUL after them.
fn check_path<'a>(path: &'a Path, places: &HeaderFields) -> Result<&'a [u8], HeaderError> {
    let path = bytes_of(path);
    let problem = if path.is_empty() {
        "the path of the backing file is empty"
    } else if path.contains(&0) {
        "the path of the backing file has a NUL in it"
    } else if path.len() >= places.path_len {
        "the path of the backing file is longer than its field"
    } else {
        return Ok(path);
    };
    let offset = places.path as u64;
    Err(HeaderError::BadPath { offset, problem })
}

pub(super) fn check_size(size: u64, offset: usize) -> Result<(), HeaderError> {
    if (SECTOR_SIZE..=i64::MAX as u64).contains(&size) {
        return Ok(());
    }
    Err(HeaderError::BadSize {
        offset: offset as u64,
        found: size,
    })
}

pub(super) fn check_alignment(alignment: u32, offset: usize) -> Result<u32, HeaderError> {
    if alignment != 0 && u64::from(alignment).is_multiple_of(SECTOR_SIZE) {
        return Ok(alignment);
    }
    Err(HeaderError::BadAlignment {
        offset: offset as u64,
        found: alignment,
    })
}
