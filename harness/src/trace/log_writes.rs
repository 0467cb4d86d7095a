//! What the device-mapper target `log-writes` records: every write, in the order of completion,
//! with its data. It is the only format that carries payload.
//!
//! ```text
//! super, one block        0  u64  magic 0x6a736677736872
//!                         8  u64  version, 1
//!                        16  u64  number of entries
//!                        24  u32  block size in bytes
//!
//! entry, one block        0  u64  first block
//!                         8  u64  number of blocks
//!                        16  u64  flags: 1 flush, 2 FUA, 4 discard, 8 mark, 16 metadata
//!                        24  u64  length of a mark's text, which follows in the same block
//! data                    for writes only: that number of blocks
//! ```
//!
//! All little endian. A block is what the device calls a sector: 512 bytes, or 4096. There are
//! no times and no reads. A mark is a note that the user left, and skipped.

use driver::exact_count;
use driver::units::{Bytes, FileOffset};

use super::entry::{Decoded, Decoder, Entry, Extent};
use super::input::{Input, field};
use super::{Nanoseconds, Place, Stream, TraceError, TraceOperation};

/// The first bytes of a log.
const MAGIC: u64 = 0x6a_7366_7773_6872;
const VERSION: u64 = 1;

const SUPER_LEN: usize = 28;
const ENTRY_LEN: usize = 32;

/// The most data that one entry may have: it is held in memory.
pub const MAX_DATA: Bytes = Bytes(64 << 20);

const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;
const METADATA: u64 = 16;

/// Whether `prefix` begins such a log.
pub(super) fn detect(prefix: &[u8]) -> bool {
    prefix.starts_with(&MAGIC.to_le_bytes())
}

/// Decodes a log.
pub(super) struct LogWrites {
    input: Input<Stream>,
    block: Bytes,
    entries_left: u64,
    start: FileOffset,
    data: Vec<u8>,
    has_data: bool,
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(field(bytes, offset))
}

impl LogWrites {
    /// Reads the super block from `input`, which is at its start.
    pub(super) fn new(mut input: Input<Stream>) -> Result<LogWrites, TraceError> {
        let mut bytes = [0; SUPER_LEN];
        input.read_whole(&mut bytes, "the super block")?;
        let version = u64_at(&bytes, 8);
        if version != VERSION {
            let found = format!("log version {version}");
            return Err(input.bad(FileOffset(8), found, format!("version {VERSION}")));
        }
        let block = u32::from_le_bytes(field(&bytes, 24));
        if !block.is_power_of_two() || !(512..=65_536).contains(&block) {
            let found = format!("blocks of {}", exact_count(block.into(), "byte"));
            return Err(input.bad(FileOffset(24), found, "a power of two from 512 to 65536"));
        }
        let mut log = LogWrites {
            input,
            block: Bytes(u64::from(block)),
            entries_left: u64_at(&bytes, 16),
            start: FileOffset(0),
            data: Vec::new(),
            has_data: false,
        };
        log.skip(
            log.block.0 - SUPER_LEN as u64,
            "the rest of the super block",
        )?;
        Ok(log)
    }

    fn skip(&mut self, mut length: u64, what: &str) -> Result<(), TraceError> {
        let mut buffer = [0; 4096];
        while length > 0 {
            let piece = length.min(buffer.len() as u64);
            self.input.read_whole(&mut buffer[..piece as usize], what)?;
            length -= piece;
        }
        Ok(())
    }

    /// Reads the data of a write. Memory is taken as data comes, not as the entry promises.
    fn read_data(&mut self, length: u64) -> Result<(), TraceError> {
        const PIECE: u64 = 1 << 20;
        self.data.clear();
        while (self.data.len() as u64) < length {
            let filled = self.data.len();
            let piece = (length - filled as u64).min(PIECE);
            self.data.resize(filled + piece as usize, 0);
            self.input
                .read_whole(&mut self.data[filled..], "the data of a write")?;
        }
        self.has_data = true;
        Ok(())
    }

    fn entry(&mut self) -> Result<Decoded, TraceError> {
        let mut bytes = [0; ENTRY_LEN];
        self.input.read_whole(&mut bytes, "an entry")?;
        self.skip(
            self.block.0 - ENTRY_LEN as u64,
            "the rest of an entry's block",
        )?;
        let [first, blocks, flags, mark_len] = [0, 8, 16, 24].map(|at| u64_at(&bytes, at));
        let unknown = flags & !(FLUSH | FUA | DISCARD | MARK | METADATA);
        if unknown != 0 {
            let found = format!("flags {flags:#x}");
            // Nothing tells whether data follows: the entries after this one are lost too.
            self.entries_left = 0;
            return Err(self
                .input
                .bad(self.start, found, "1, 2, 4, 8, 16 or their sums"));
        }
        if flags & MARK != 0 {
            let room = self.block.0 - ENTRY_LEN as u64;
            return match mark_len <= room {
                true => Ok(Decoded::Nothing),
                false => {
                    let found = format!("a mark of {mark_len} bytes");
                    Err(self.input.bad(self.start, found, format!("at most {room}")))
                }
            };
        }
        let length = blocks.checked_mul(self.block.0);
        let extent = first.checked_mul(self.block.0).zip(length);
        let Some((offset, length)) = extent else {
            self.entries_left = 0;
            let found = format!("block {first} and {}", exact_count(blocks, "block"));
            return Err(self.input.bad(self.start, found, "an end below 2^64 bytes"));
        };
        let operation = if flags & DISCARD != 0 {
            TraceOperation::Discard
        } else if length > MAX_DATA.0 {
            self.entries_left = 0;
            let found = format!("a write of {length} bytes");
            let expected = format!("at most {}", MAX_DATA.0);
            return Err(self.input.bad(self.start, found, expected));
        } else if length == 0 && flags & (FLUSH | FUA) != 0 {
            TraceOperation::Flush
        } else {
            self.read_data(length)?;
            TraceOperation::Write
        };
        let is_write = operation == TraceOperation::Write;
        let extent = Extent::Bytes(Bytes(offset), Bytes(length));
        Ok(Decoded::Entry(Entry {
            preflush: is_write && flags & FLUSH != 0,
            fua: is_write && flags & FUA != 0,
            ..Entry::new(Nanoseconds(0), operation, extent)
        }))
    }
}

impl Decoder for LogWrites {
    fn decode(&mut self) -> Result<Decoded, TraceError> {
        self.has_data = false;
        if self.entries_left == 0 {
            return Ok(Decoded::End);
        }
        self.start = self.input.offset();
        self.entries_left -= 1;
        let decoded = self.entry();
        if matches!(decoded, Err(TraceError::Cut { .. })) {
            self.entries_left = 0;
        }
        decoded
    }

    fn place(&self) -> Place {
        self.input.place(self.start)
    }

    fn payload(&self) -> Option<&[u8]> {
        self.has_data.then_some(&self.data)
    }
}
