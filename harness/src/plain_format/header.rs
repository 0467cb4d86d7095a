//! The header, read and written field by field.

use super::SECTOR;
use super::layout::{Layout, Version};
use super::source::Source;
use super::wrong::Wrong;

/// "OOOM" in big endian.
const MAGIC: u32 = 0x4f4f_4f4d;

/// The bit of a V3 header's size that says that a reflow is under way.
const MARK: u64 = 1 << 63;

/// The order of the bytes of the magic, the version and, in V1, of all fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteOrder {
    /// The lowest first.
    Little,
    /// The highest first.
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

    /// The bytes of a u32.
    pub fn bytes(self, number: u32) -> [u8; 4] {
        match self {
            ByteOrder::Little => number.to_le_bytes(),
            ByteOrder::Big => number.to_be_bytes(),
        }
    }

    fn bytes_of_u64(self, number: u64) -> [u8; 8] {
        match self {
            ByteOrder::Little => number.to_le_bytes(),
            ByteOrder::Big => number.to_be_bytes(),
        }
    }
}

/// A header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which.
    pub version: Version,
    /// Of V1. The others are big endian.
    pub order: ByteOrder,
    /// The path of the backing file, without the NULs.
    pub path: Vec<u8>,
    /// The time of the backing file's last modification, in seconds since 1970, modulo 2^32.
    pub time: u32,
    /// The size of the device in bytes.
    pub size: u64,
    /// Whether a reflow is under way.
    pub marked: bool,
    /// The alignment in bytes. V1 and V2 have none, and are read as if theirs was 512.
    pub alignment: u32,
}

impl Header {
    /// Which version a header says that it is, and the order of the bytes that say so, whatever is
    /// wrong with the rest.
    ///
    /// # Errors
    /// If it says none.
    pub fn version_of(file: &(impl Source + ?Sized)) -> Result<(Version, ByteOrder), Wrong> {
        let order = match array(file, 0) {
            magic if u32::from_be_bytes(magic) == MAGIC => ByteOrder::Big,
            magic if u32::from_le_bytes(magic) == MAGIC => ByteOrder::Little,
            magic => return Err(Wrong::new(0, "magic", format_args!("found {magic:02x?}"))),
        };
        let version = match order.u32(array(file, 4)) {
            1 => Version::V1,
            2 => Version::V2,
            3 if array(file, 32) == [0; 4] => Version::V3Wide,
            3 => Version::V3,
            found => return Err(Wrong::new(4, "version", format_args!("found {found}"))),
        };
        Ok((version, order))
    }

    /// Reads the header of a file.
    ///
    /// # Errors
    /// What is wrong with it first.
    pub fn read(file: &(impl Source + ?Sized)) -> Result<Header, Wrong> {
        let (version, order) = Header::version_of(file)?;
        let fields = version.fields();
        if file.len() < fields.header_len {
            let end = fields.header_len;
            let found = format_args!("the file ends here, its header at byte {end}");
            return Err(Wrong::new(file.len(), "header", found));
        }
        let order = match version {
            Version::V1 => order,
            _ => ByteOrder::Big,
        };
        let u32_at = |at| order.u32(array(file, at));
        expect(
            fields.sector_size,
            "sector size",
            u32_at(fields.sector_size),
            512,
        )?;
        let alignment = match fields.alignment_and_format {
            None => 512,
            Some((alignment, format)) => {
                expect(format, "format", u32_at(format), 0)?;
                u32_at(alignment)
            }
        };
        let size = order.u64(array(file, fields.size));
        let may_be_marked = version == Version::V3;
        let marked = may_be_marked && size & MARK != 0;
        let header = Header {
            version,
            order,
            path: path(file, fields.path, fields.path_len)?,
            time: u32_at(fields.time),
            size: if marked { size - MARK } else { size },
            marked,
            alignment,
        };
        header.layout()?;
        Ok(header)
    }

    /// Where the file has what.
    ///
    /// # Errors
    /// As [`Layout::of`].
    pub fn layout(&self) -> Result<Layout, Wrong> {
        Layout::of(self.version, self.size, self.alignment)
    }

    /// The bytes of it. A path that is too long for its field is cut.
    pub fn bytes(&self) -> Vec<u8> {
        let fields = self.version.fields();
        let order = match self.version {
            Version::V1 => self.order,
            _ => ByteOrder::Big,
        };
        let mut bytes = vec![0; fields.header_len as usize];
        let mut put = |at: u64, what: &[u8]| {
            bytes[at as usize..at as usize + what.len()].copy_from_slice(what);
        };
        put(0, &order.bytes(MAGIC));
        put(4, &order.bytes(self.version.number()));
        let room = fields.path_len as usize - 1;
        put(fields.path, &self.path[..self.path.len().min(room)]);
        put(fields.time, &order.bytes(self.time));
        let mark = if self.marked { MARK } else { 0 };
        put(fields.size, &order.bytes_of_u64(self.size | mark));
        put(fields.sector_size, &order.bytes(SECTOR as u32));
        if let Some((alignment, _)) = fields.alignment_and_format {
            put(alignment, &order.bytes(self.alignment));
        }
        bytes
    }
}

fn array<const N: usize>(file: &(impl Source + ?Sized), at: u64) -> [u8; N] {
    let mut bytes = [0; N];
    file.read(at, &mut bytes);
    bytes
}

fn expect(at: u64, what: &'static str, found: u32, expected: u32) -> Result<(), Wrong> {
    match found == expected {
        true => Ok(()),
        false => Err(Wrong::new(
            at,
            what,
            format_args!("found {found}, expected {expected}"),
        )),
    }
}

/// The path in a field, which has at least one byte and then a NUL.
fn path(file: &(impl Source + ?Sized), at: u64, len: u64) -> Result<Vec<u8>, Wrong> {
    /// What is read at once: few paths are longer.
    const PIECE: u64 = 128;
    let mut path = Vec::new();
    while (path.len() as u64) < len {
        let done = path.len();
        path.resize(done + (len - done as u64).min(PIECE) as usize, 0);
        file.read(at + done as u64, &mut path[done..]);
        if let Some(end) = path[done..].iter().position(|&byte| byte == 0) {
            path.truncate(done + end);
            return match path.is_empty() {
                true => Err(Wrong::new(at, "path", "found none")),
                false => Ok(path),
            };
        }
    }
    Err(Wrong::new(at, "path", "found no NUL after it"))
}
