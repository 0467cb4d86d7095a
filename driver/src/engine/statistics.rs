//! What a device has done so far, counted.

/// Counters since the device was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Requests completed, with whatever status.
    pub requests: u64,
    /// Syncs of the COW file.
    pub syncs: u64,
    /// Writes into the bitmap.
    pub bitmap_writes: u64,
}
