//! `.ubdtrace`, our own trace format: fixed-size records in independent zstd
//! frames with an index at the end. A trace larger than memory streams through it,
//! and can be entered in the middle, by record number or by time.
//!
//! All numbers are little endian. `crc` is CRC-32C. The same, with a picture, is in
//! `traces/FORMAT.md`.
//!
//! ```text
//! file    = header frame* index trailer
//!
//! header    0  [u8; 8]  magic "UBDTRACE"
//!           8  u16      version, 1 or 2
//!          10  u16      size of a record, 32
//!          12  u32      length of the description, D, at most 4096
//!          16  u64      size of the device in sectors, 0 if unknown
//!          24  u32      0
//!          28  u32      crc of bytes 0..28 and of the description
//!          32  [u8; D]  description, UTF-8
//!
//! frame     0  [u8; 4]  magic "UBDF"
//!           4  u32      number of records, N, 1 to 65536
//!           8  u64      number of its first record, counted from 0
//!          16  u64      time of its first record, ns
//!          24  u64      latest time of any of its records, ns
//!          32  u32      length of the payload, P, at most 2162688
//!          36  u32      crc of the payload
//!          40  u32      0
//!          44  u32      crc of bytes 0..44
//!          48  [u8; P]  payload: a zstd frame of N * 32 bytes, the records with
//!                       their bytes in planes: byte 0 of each record, then byte 1
//!                       of each, and so on to byte 31
//!
//! record    0  u64      time since the start of the trace, ns
//!           8  u64      first sector
//!          16  u64      number of sectors
//!          24  u8       operation: 0 read, 1 write, 2 flush, 3 discard, 4 write-zeroes
//!          25  u8       flags: 1 preflush, 2 FUA
//!          26  u8       of version 2, status: 0 ok, 1 not supported, 2 no space,
//!                       3 I/O error, 4 invalid
//!          27  u8       0
//!          28  u32      of version 2, number of the client, 0 if unknown
//!
//! index     0  [u8; 4]  magic "UBDI"
//!           4  u32      0
//!           8  entry*   one for each frame, in order
//!
//! entry     0  u64      offset of the frame in the file
//!           8  u64      number of its first record
//!          16  u64      time of its first record, ns
//!          24  u64      latest time of any of its records, ns
//!
//! trailer   0  u64      offset of the index in the file
//!           8  u64      number of frames
//!          16  u64      number of records
//!          24  u32      crc of the index, its magic included
//!          28  u32      of version 2, requests that the recorder lost, at most 2^32 - 1
//!          32  u32      crc of bytes 0..32
//!          36  [u8; 4]  magic "UBDE"
//! ```
//!
//! Version 1 has zeros where only version 2 has something. Conversions write it unless what they
//! convert is of version 2.
//!
//! A record keeps the rules of [`Record::check`](super::Record::check). Fields
//! given as 0 are written as 0 and refused otherwise, so that a later version can
//! use them. Times may step back; that is why a frame tells its latest.

pub(super) mod frame;
mod header;
mod index;
mod reader;
mod writer;

pub use header::{FILE_MAGIC, MAX_DESCRIPTION_LEN, TraceHeader};
pub use reader::CompactReader;
pub use writer::TraceWriter;

use super::input::field;

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(field(bytes, offset))
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(field(bytes, offset))
}

/// What is wrong in a structure: how far into it, what was found, what was expected.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    at: u64,
    found: String,
    expected: String,
}

impl Fault {
    fn new(at: u64, found: impl Into<String>, expected: impl Into<String>) -> Fault {
        Fault {
            at,
            found: found.into(),
            expected: expected.into(),
        }
    }

    /// The fault that the checksum stored at `at` of `what` is not that of the content.
    fn checksum(at: u64, what: &str, stored: u32, computed: u32) -> Fault {
        Fault::new(
            at,
            format!("checksum {stored:#010x} of {what}"),
            format!("{computed:#010x}, its content's"),
        )
    }
}
