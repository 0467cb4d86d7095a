//! How much the rows with several requests in flight read and write, so that a test can have all of
//! them in small.

use driver::units::Bytes;

/// Sizes and numbers of requests.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    /// The size of the backing file that the cold and the direct rows read all over.
    pub(super) cold: Bytes,
    /// The part of it that the warm rows read.
    pub(super) warm: Bytes,
    /// Reads of one run.
    pub(super) reads: u64,
    /// The size of the device whose clients flush.
    pub(super) flushed: Bytes,
    /// Writes of one run there, each with a flush after it, of all clients together.
    pub(super) flushes: usize,
    /// Runs of each, in turns; the median counts.
    pub(super) runs: usize,
}

impl Scale {
    /// As rows are measured.
    pub(super) const FULL: Scale = Scale {
        cold: Bytes(2 << 30),
        warm: Bytes(256 << 20),
        reads: 16_384,
        flushed: super::device::SIZE,
        flushes: 800,
        runs: 5,
    };
}
