//! blktrace's binary records, as the kernel writes them into one file for each CPU.
//!
//! ```text
//! version 7, 48 bytes                  version 8, 64 bytes
//!  0  u32  0x65617400 | version         0  u32  0x65617400 | version
//!  4  u32  sequence number              4  u32  sequence number
//!  8  u64  time in nanoseconds          8  u64  time in nanoseconds
//! 16  u64  first sector, of 512 bytes  16  u64  first sector, of 512 bytes
//! 24  u32  length in bytes             24  u32  length in bytes
//! 28  u32  action                      28  u32  process
//! 32  u32  process                     32  u64  action
//! 36  u32  device                      40  u32  device
//! 40  u32  CPU                         44  u32  CPU
//! 44  u16  error                       48  u16  error
//! 46  u16  length of what follows      50  u16  length of what follows
//!                                      52  12 bytes of padding
//! ```
//!
//! The magic tells the byte order. An action is what happened in its lower 16 bits and what
//! kind of request it happened to above. Only queued, issued and completed requests are read.
//! Version 7 has no word for write-zeroes: they look like writes there.
//!
//! A device has 12 bits of major number above 20 of minor. Files of several CPUs are merged by
//! time, see `merge`.

pub(super) mod files;
pub(super) mod merge;

use driver::exact_count;
use driver::units::{Bytes, FileOffset, Sector};

use super::device::{Device, DeviceNumber};
use super::entry::{Decoded, Decoder, Entry, Extent};
use super::error::excerpt;
use super::input::{Input, field};
use super::record::RecordFault;
use super::{Event, Nanoseconds, Place, Stream, TraceError, TraceOperation};

const MAGIC: u32 = 0x6561_7400;

/// The longest record.
const MAX_RECORD_LEN: usize = 64;

// The kinds of requests, as bits of an action above the lowest 16.
const WRITE: u64 = 1 << 1;
const FLUSH: u64 = 1 << 2;
const PC: u64 = 1 << 9;
const NOTIFY: u64 = 1 << 10;
const DISCARD: u64 = 1 << 13;
const FUA: u64 = 1 << 15;
const ZONES: u64 = 0x3f << 16;
const WRITE_ZEROES: u64 = 1 << 22;

/// Set in an action's lower half when a control group's number follows the record.
const CGROUP: u64 = 1 << 8;

/// Version and byte order of a blktrace file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Layout {
    /// Version 8, of Linux 6.19 and later; else 7.
    pub is_v8: bool,
    /// The recorder's byte order.
    pub is_big_endian: bool,
}

impl Layout {
    fn detect(bytes: &[u8]) -> Option<Layout> {
        let magic: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
        let both = [
            (u32::from_le_bytes(magic), false),
            (u32::from_be_bytes(magic), true),
        ];
        both.into_iter().find_map(|(magic, is_big_endian)| {
            let is_v8 = match magic ^ MAGIC {
                7 => false,
                8 => true,
                _ => return None,
            };
            Some(Layout {
                is_v8,
                is_big_endian,
            })
        })
    }

    const fn record_len(self) -> usize {
        if self.is_v8 { 64 } else { 48 }
    }

    fn u16_at(self, bytes: &[u8], offset: usize) -> u16 {
        let field = field(bytes, offset);
        match self.is_big_endian {
            true => u16::from_be_bytes(field),
            false => u16::from_le_bytes(field),
        }
    }

    fn u32_at(self, bytes: &[u8], offset: usize) -> u32 {
        let field = field(bytes, offset);
        match self.is_big_endian {
            true => u32::from_be_bytes(field),
            false => u32::from_le_bytes(field),
        }
    }

    fn u64_at(self, bytes: &[u8], offset: usize) -> u64 {
        let field = field(bytes, offset);
        match self.is_big_endian {
            true => u64::from_be_bytes(field),
            false => u64::from_le_bytes(field),
        }
    }
}

/// Version and byte order, if `prefix` begins such a file.
pub(super) fn detect(prefix: &[u8]) -> Option<Layout> {
    Layout::detect(prefix)
}

/// A record's fields.
struct RawRecord {
    time: Nanoseconds,
    start: Sector,
    length: Bytes,
    action: u64,
    device: DeviceNumber,
    behind: u64,
}

impl RawRecord {
    fn decode(layout: Layout, bytes: &[u8]) -> RawRecord {
        let (action, device, behind) = match layout.is_v8 {
            true => (layout.u64_at(bytes, 32), 40, 50),
            false => (u64::from(layout.u32_at(bytes, 28)), 36, 46),
        };
        RawRecord {
            time: Nanoseconds(layout.u64_at(bytes, 8)),
            start: Sector(layout.u64_at(bytes, 16)),
            length: Bytes(u64::from(layout.u32_at(bytes, 24))),
            action,
            device: DeviceNumber::unpack(layout.u32_at(bytes, device)),
            behind: u64::from(layout.u16_at(bytes, behind)),
        }
    }

    fn entry(&self) -> Option<Entry> {
        let kind = self.action >> 16;
        let event = match (self.action & 0xffff & !CGROUP, kind & (NOTIFY | PC)) {
            (1, 0) => Event::Queue,
            (7, 0) => Event::Issue,
            (8, 0) => Event::Complete,
            _ => return None,
        };
        let is_flush = kind & FLUSH != 0;
        let operation = if self.length == Bytes(0) && kind & DISCARD == 0 {
            match is_flush {
                true => TraceOperation::Flush,
                // A command without data.
                false => return None,
            }
        } else if kind & DISCARD != 0 {
            TraceOperation::Discard
        } else if kind & WRITE_ZEROES != 0 {
            TraceOperation::WriteZeroes
        } else if kind & WRITE != 0 {
            TraceOperation::Write
        } else {
            TraceOperation::Read
        };
        let is_write = operation == TraceOperation::Write;
        let extent = match self.start.0.checked_mul(512) {
            Some(offset) => Extent::Bytes(Bytes(offset), self.length),
            None => Extent::Sectors(self.start, self.length.whole_sectors()),
        };
        let fault = (kind & ZONES != 0).then(|| RecordFault {
            found: format!("a zone operation, action {:#x}", self.action),
            expected: "a read, write, flush, discard or write-zeroes".to_owned(),
        });
        Some(Entry {
            device: Some(Device::Number(self.device)),
            event: Some(event),
            preflush: is_write && is_flush,
            fua: is_write && kind & FUA != 0,
            fault,
            ..Entry::new(self.time, operation, extent)
        })
    }
}

/// Decodes one file.
pub(super) struct Blktrace {
    input: Input<Stream>,
    layout: Layout,
    start: FileOffset,
    buffer: [u8; MAX_RECORD_LEN],
    /// Bytes of the next record that are in the buffer already.
    filled: usize,
    /// The last record was none; the next magic has to be looked for.
    is_lost: bool,
}

impl Blktrace {
    /// Of `input`, which is at the first record.
    pub(super) fn new(input: Input<Stream>, layout: Layout) -> Blktrace {
        Blktrace {
            input,
            layout,
            start: FileOffset(0),
            buffer: [0; MAX_RECORD_LEN],
            filled: 0,
            is_lost: false,
        }
    }

    /// Moves on byte by byte until the buffer begins with a magic, or the file ends.
    fn find_next(&mut self) -> Result<(), TraceError> {
        let buffer = &mut self.buffer[..self.layout.record_len()];
        let last = buffer.len() - 1;
        self.filled = buffer.len();
        self.is_lost = false;
        loop {
            buffer.copy_within(1.., 0);
            if self.input.read_up_to(&mut buffer[last..])? == 0 {
                self.filled = 0;
                return Ok(());
            }
            if Layout::detect(buffer) == Some(self.layout) {
                return Ok(());
            }
        }
    }

    fn skip(&mut self, mut length: u64) -> Result<(), TraceError> {
        let mut buffer = [0; 4096];
        while length > 0 {
            let piece = length.min(buffer.len() as u64);
            self.input
                .read_whole(&mut buffer[..piece as usize], "what follows a record")?;
            length -= piece;
        }
        Ok(())
    }
}

impl Decoder for Blktrace {
    fn decode(&mut self) -> Result<Decoded, TraceError> {
        if self.is_lost {
            self.find_next()?;
        }
        let length = self.layout.record_len();
        self.start = FileOffset(self.input.offset().0 - self.filled as u64);
        self.filled += self
            .input
            .read_up_to(&mut self.buffer[self.filled..length])?;
        let filled = std::mem::take(&mut self.filled);
        if filled == 0 {
            return Ok(Decoded::End);
        }
        if filled < length {
            return Err(TraceError::Cut {
                place: self.place(),
                found: format!(
                    "{} before the end of the file",
                    exact_count(filled as u64, "byte")
                ),
                expected: format!("a record of {}", exact_count(length as u64, "byte")),
            });
        }
        let bytes = &self.buffer[..length];
        if Layout::detect(bytes) != Some(self.layout) {
            self.is_lost = true;
            let found = format!("a record that begins with {}", excerpt(&bytes[..4]));
            let expected = "blktrace's magic, in the version and byte order of the first record";
            return Err(self.input.bad(self.start, found, expected));
        }
        let raw = RawRecord::decode(self.layout, bytes);
        self.skip(raw.behind)?;
        Ok(raw.entry().map_or(Decoded::Nothing, Decoded::Entry))
    }

    fn place(&self) -> Place {
        self.input.place(self.start)
    }
}
