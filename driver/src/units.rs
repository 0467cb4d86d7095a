//! Units as types. A sector number, a count of sectors, a length in bytes and a
//! position in a host file are four things that a disk driver confuses at the
//! price of the data; here the compiler keeps them apart. The rules are those of
//! points and distances: a position minus a position is a length, a position plus
//! a length is a position, and two positions cannot be added.

use std::fmt;
use std::ops::{Add, AddAssign, Range, Sub, SubAssign};

/// Bytes in a sector: the block layer's unit and the granularity of the bitmap.
pub const SECTOR_SIZE: u64 = 512;

/// The number of a sector of the device, counted from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sector(pub u64);

/// A number of sectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SectorCount(pub u64);

/// A length in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// A position in a host file, in bytes from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileOffset(pub u64);

macro_rules! point_and_distance {
    ($point:ident, $distance:ident) => {
        impl Add<$distance> for $point {
            type Output = $point;
            fn add(self, distance: $distance) -> $point {
                $point(self.0 + distance.0)
            }
        }
        impl AddAssign<$distance> for $point {
            fn add_assign(&mut self, distance: $distance) {
                self.0 += distance.0;
            }
        }
        impl Sub<$distance> for $point {
            type Output = $point;
            fn sub(self, distance: $distance) -> $point {
                $point(self.0 - distance.0)
            }
        }
        impl Sub for $point {
            type Output = $distance;
            fn sub(self, earlier: $point) -> $distance {
                $distance(self.0 - earlier.0)
            }
        }
        impl Add for $distance {
            type Output = $distance;
            fn add(self, other: $distance) -> $distance {
                $distance(self.0 + other.0)
            }
        }
        impl AddAssign for $distance {
            fn add_assign(&mut self, other: $distance) {
                self.0 += other.0;
            }
        }
        impl Sub for $distance {
            type Output = $distance;
            fn sub(self, other: $distance) -> $distance {
                $distance(self.0 - other.0)
            }
        }
        impl SubAssign for $distance {
            fn sub_assign(&mut self, other: $distance) {
                self.0 -= other.0;
            }
        }
        impl fmt::Display for $point {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

point_and_distance!(Sector, SectorCount);
point_and_distance!(FileOffset, Bytes);

impl SectorCount {
    /// The length of this many sectors in bytes.
    pub const fn bytes(self) -> Bytes {
        Bytes(self.0 * SECTOR_SIZE)
    }
}

impl Sector {
    /// Where the sector starts on the device, in bytes.
    pub const fn bytes(self) -> Bytes {
        Bytes(self.0 * SECTOR_SIZE)
    }
}

impl Bytes {
    /// Whole sectors in this length; a partial last one does not count.
    pub const fn whole_sectors(self) -> SectorCount {
        SectorCount(self.0 / SECTOR_SIZE)
    }

    /// Sectors that this length touches; a partial last one counts.
    pub const fn sectors_touched(self) -> SectorCount {
        SectorCount(self.0.div_ceil(SECTOR_SIZE))
    }
}

impl fmt::Display for SectorCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Exact: `4 MiB`, `210819584 bytes`. A length is rounded nowhere, because the
/// reader of an error message will compare it with another.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
        let (mut value, mut unit) = (self.0, 0);
        while value != 0 && value.is_multiple_of(1024) && unit + 1 < UNITS.len() {
            value /= 1024;
            unit += 1;
        }
        match (value, unit) {
            (1, 0) => f.write_str("1 byte"),
            _ => write!(f, "{value} {}", UNITS[unit]),
        }
    }
}

impl FileOffset {
    /// The last multiple of `step` that is not past this.
    #[must_use]
    pub const fn round_down(self, step: u64) -> FileOffset {
        FileOffset(self.0 / step * step)
    }

    /// The first multiple of `step` that is not before this.
    #[must_use]
    pub const fn round_up(self, step: u64) -> FileOffset {
        FileOffset(self.0.next_multiple_of(step))
    }
}

/// A run of consecutive sectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SectorRange {
    /// The first sector.
    pub start: Sector,
    /// How many there are.
    pub count: SectorCount,
}

impl SectorRange {
    /// The run of `count` sectors from `start`.
    pub const fn new(start: Sector, count: SectorCount) -> Self {
        Self { start, count }
    }

    /// The sectors from `range.start` up to, but not including, `range.end`.
    pub fn between(range: Range<Sector>) -> Self {
        Self::new(range.start, range.end - range.start)
    }

    /// The first sector past the run.
    pub fn end(self) -> Sector {
        self.start + self.count
    }

    /// Whether the two runs have a sector in common.
    pub fn overlaps(self, other: SectorRange) -> bool {
        self.start < other.end() && other.start < self.end()
    }

    /// Whether the run has no sectors.
    pub fn is_empty(self) -> bool {
        self.count == SectorCount(0)
    }
}

/// `sectors 8..16 (8 sectors)` would say it twice; `8+8` is the block layer's way.
impl fmt::Display for SectorRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.start, self.count)
    }
}

/// A run of bytes in a host file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FileRange {
    /// The first byte.
    pub start: FileOffset,
    /// The length.
    pub len: Bytes,
}

impl FileRange {
    /// The run of `len` bytes from `start`.
    pub const fn new(start: FileOffset, len: Bytes) -> Self {
        Self { start, len }
    }

    /// The bytes from `range.start` up to, but not including, `range.end`.
    pub fn between(range: Range<FileOffset>) -> Self {
        Self::new(range.start, range.end - range.start)
    }

    /// The first position past the run.
    pub fn end(self) -> FileOffset {
        self.start + self.len
    }

    /// Whether the two runs have a byte in common.
    pub fn overlaps(self, other: FileRange) -> bool {
        self.start < other.end() && other.start < self.end()
    }

    /// The blocks of `block` bytes that lie wholly in the run, if there are any.
    pub fn whole_blocks(self, block: u64) -> Option<FileRange> {
        let (start, end) = (self.start.round_up(block), self.end().round_down(block));
        (start < end).then(|| FileRange::between(start..end))
    }

    /// The bytes that the two runs have in common, if they have any.
    pub fn common(self, other: FileRange) -> Option<FileRange> {
        let (start, end) = (self.start.max(other.start), self.end().min(other.end()));
        (start < end).then(|| FileRange::between(start..end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_printed_in_the_largest_unit_that_keeps_it_exact() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (512, "512 bytes"),
            (1024, "1 KiB"),
            (210_819_584, "210819584 bytes"),
            (314_572_800, "300 MiB"),
            (1 << 41, "2 TiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn what_two_ranges_have_in_common_is_in_both() {
        let range = |start, end| FileRange::between(FileOffset(start)..FileOffset(end));
        for (one, other, expected) in [
            (range(0, 10), range(4, 20), Some(range(4, 10))),
            (range(4, 20), range(0, 10), Some(range(4, 10))),
            (range(0, 10), range(2, 3), Some(range(2, 3))),
            (range(0, 10), range(10, 20), None),
            (range(0, 10), range(5, 5), None),
        ] {
            assert_eq!(one.common(other), expected);
        }
    }

    #[test]
    fn only_blocks_that_lie_wholly_in_a_range_are_whole() {
        let range = |start, end| FileRange::between(FileOffset(start)..FileOffset(end));
        for (run, expected) in [
            (range(0, 4096), Some(range(0, 4096))),
            (range(1, 12287), Some(range(4096, 8192))),
            (range(4095, 8193), Some(range(4096, 8192))),
            (range(1, 8191), None),
            (range(4096, 4096), None),
            (range(5000, 6000), None),
        ] {
            assert_eq!(run.whole_blocks(4096), expected, "{run:?}");
        }
    }

    #[test]
    fn ranges_that_only_touch_do_not_overlap() {
        let run = |start, count| SectorRange::new(Sector(start), SectorCount(count));
        assert!(!run(0, 8).overlaps(run(8, 8)));
        assert!(run(0, 9).overlaps(run(8, 8)));
        assert!(!run(4, 0).overlaps(run(0, 8)) || run(4, 0).is_empty());
    }
}
