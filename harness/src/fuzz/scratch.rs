//! Buffers for looking at images.

use crate::stamp::Content;

/// Buffers that are used again for every image: a fuzzer that allocated them anew would do so a
/// hundred thousand times a second.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) content: Vec<u8>,
    pub(super) found: Vec<Content>,
    pub(super) again: Vec<u8>,
    /// Interrupted reflows that image tools have read.
    pub(super) read_by_tools: u64,
}
