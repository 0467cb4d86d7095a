//! How much a resize, or an image tool, does in one go. What it copies, shares, looks at and frees
//! is cut into pieces, so that memory is bounded and requests are served in between. All bounds
//! follow from one length, the bytes that are read and written at once: whoever makes that small
//! meets every cut on a small device.

use driver::cow::{PAGE_BYTES, PagesAtOnce};
use driver::units::{Bytes, SECTOR_SIZE};

/// How much a resize, or an image tool, does in one go; by default it reads and writes 1 MiB at
/// once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtOnce(Bytes);

impl Default for AtOnce {
    fn default() -> AtOnce {
        AtOnce(Bytes(1 << 20))
    }
}

impl AtOnce {
    /// Reads and writes at most `len` bytes at once, in whole sectors and at least one.
    pub fn of(len: Bytes) -> AtOnce {
        AtOnce(Bytes(len.0.max(SECTOR_SIZE) / SECTOR_SIZE * SECTOR_SIZE))
    }

    /// Bytes that are read and written at once, or of which the map is looked at.
    pub fn bytes(self) -> Bytes {
        self.0
    }

    /// A dirty run up to this long is read without asking first whether it is a hole: that takes
    /// two system calls, and it hardly ever is one.
    pub(crate) fn short(self) -> Bytes {
        Bytes(self.0.0 / 16)
    }

    /// The most bytes that one step copies into another file.
    pub(crate) fn copied_a_step(self) -> Bytes {
        Bytes(self.0.0.saturating_mul(4))
    }

    /// The most bytes whose extents one step shares with another file.
    pub(crate) fn shared_a_step(self) -> Bytes {
        Bytes(self.0.0.saturating_mul(1024))
    }

    /// The most of a bitmap that is written at once.
    pub fn pages(self) -> PagesAtOnce {
        PagesAtOnce::of(self.0.0 / PAGE_BYTES as u64)
    }

    /// Extents that are freed in a step, where nobody waits for one.
    pub(crate) fn freed_a_step(self) -> u64 {
        (self.0.0 / 256).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_length_is_a_number_of_whole_sectors() {
        for (len, sectors) in [(0, 1), (1, 1), (511, 1), (1500, 2), (1 << 20, 2048)] {
            assert_eq!(AtOnce::of(Bytes(len)).bytes(), Bytes(512 * sectors));
        }
        assert_eq!(AtOnce::of(Bytes(1 << 20)), AtOnce::default());
    }
}
