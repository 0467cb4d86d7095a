//! The bytes of a file, wherever they are, and the bytes that a device showed.

use std::ops::Range;

use super::SECTOR;

/// A file's bytes.
pub trait Source {
    /// How many there are.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `into` with the bytes from `at` on. Those past the end are zeros.
    fn read(&self, at: u64, into: &mut [u8]);

    /// Whether the bytes from `at` on are `expected`. To be replaced where that can be said
    /// without a copy.
    fn holds(&self, at: u64, expected: &[u8]) -> bool {
        let mut found = vec![0; expected.len()];
        self.read(at, &mut found);
        found == expected
    }
}

/// What a device showed of its disk, to be compared with what files of type `F` have.
pub trait Shown<F: ?Sized> {
    /// Bytes of it.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether `file` has, from byte `at` on, what was shown of these sectors.
    fn is_in(&self, file: &F, at: u64, sectors: Range<u64>) -> bool;
}

impl<F: Source + ?Sized> Shown<F> for [u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn is_in(&self, file: &F, at: u64, sectors: Range<u64>) -> bool {
        let bytes = (sectors.start * SECTOR) as usize..(sectors.end * SECTOR) as usize;
        file.holds(at, &self[bytes])
    }
}

impl Source for [u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn read(&self, at: u64, into: &mut [u8]) {
        let from = usize::try_from(at).unwrap_or(usize::MAX);
        let there = self.get(from..).unwrap_or_default();
        let count = there.len().min(into.len());
        into[..count].copy_from_slice(&there[..count]);
        into[count..].fill(0);
    }
}

impl<S: Source + ?Sized> Source for &S {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read(&self, at: u64, into: &mut [u8]) {
        (**self).read(at, into);
    }

    fn holds(&self, at: u64, expected: &[u8]) -> bool {
        (**self).holds(at, expected)
    }
}
