//! Fields of the blocks that the format adds to a header: big endian, each at its place.

use std::ops::Range;

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
