//! What a request is answered by: simple replies, and chunks of structured ones.

use super::Error;

const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
const CHUNK_MAGIC: u32 = 0x668e_33ef;

/// Prints a reply that is not structured; the data of a read comes after it.
pub fn simple_reply(out: &mut Vec<u8>, cookie: u64, error: Option<Error>) {
    out.extend(SIMPLE_REPLY_MAGIC.to_be_bytes());
    out.extend(error.map_or(0, Error::number).to_be_bytes());
    out.extend(cookie.to_be_bytes());
}

const CHUNK_DONE: u16 = 1;
const CHUNK_NONE: u16 = 0;
const CHUNK_OFFSET_DATA: u16 = 1;
const CHUNK_BLOCK_STATUS: u16 = 5;
const CHUNK_ERROR: u16 = 1 << 15 | 1;

fn chunk(out: &mut Vec<u8>, flags: u16, kind: u16, cookie: u64, length: u32) {
    out.extend(CHUNK_MAGIC.to_be_bytes());
    out.extend(flags.to_be_bytes());
    out.extend(kind.to_be_bytes());
    out.extend(cookie.to_be_bytes());
    out.extend(length.to_be_bytes());
}

/// Prints the front of the only chunk that answers a read; `length` bytes of data come after it.
pub fn data_chunk(out: &mut Vec<u8>, cookie: u64, offset: u64, length: u32) {
    chunk(out, CHUNK_DONE, CHUNK_OFFSET_DATA, cookie, length + 8);
    out.extend(offset.to_be_bytes());
}

/// Prints the only chunk that answers a read of nothing.
pub fn empty_chunk(out: &mut Vec<u8>, cookie: u64) {
    chunk(out, CHUNK_DONE, CHUNK_NONE, cookie, 0);
}

/// Prints the only chunk that answers a request that has failed.
pub fn error_chunk(out: &mut Vec<u8>, cookie: u64, error: Error) {
    chunk(out, CHUNK_DONE, CHUNK_ERROR, cookie, 6);
    out.extend(error.number().to_be_bytes());
    out.extend(0u16.to_be_bytes());
}

/// Prints a chunk about the extents in one meta context: the length of each, and its flags.
pub fn block_status_chunk(
    out: &mut Vec<u8>,
    cookie: u64,
    context: u32,
    extents: &[(u32, u32)],
    is_last: bool,
) {
    let flags = if is_last { CHUNK_DONE } else { 0 };
    let length = 4 + 8 * extents.len() as u32;
    chunk(out, flags, CHUNK_BLOCK_STATUS, cookie, length);
    out.extend(context.to_be_bytes());
    for (length, flags) in extents {
        out.extend(length.to_be_bytes());
        out.extend(flags.to_be_bytes());
    }
}
