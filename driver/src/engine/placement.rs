//! Where in the COW file a sector's data is, at this moment. Usually one offset says it
//! all; while a reflow is under way, sectors below the frontier are at the old place and
//! those from it on at the new one.

use crate::cow::Geometry;
use crate::units::{FileOffset, FileRange, Sector, SectorCount, SectorRange};

/// The current places of data and bitmap in the COW file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    data_offset: FileOffset,
    moved: Option<Moved>,
    bitmaps: Vec<FileRange>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moved {
    frontier: Sector,
    data_offset: FileOffset,
}

impl Placement {
    /// All data and the one bitmap where `geometry` has them.
    pub fn settled(geometry: &Geometry) -> Placement {
        Placement {
            data_offset: geometry.data_offset,
            moved: None,
            bitmaps: vec![geometry.bitmap()],
        }
    }

    /// A raw disk: sector 0 at the start of the file, and no bitmap.
    pub fn raw() -> Placement {
        Placement {
            data_offset: FileOffset(0),
            moved: None,
            bitmaps: Vec::new(),
        }
    }

    /// Whether it is that of a raw disk: every COW file has a bitmap.
    pub fn is_raw(&self) -> bool {
        self.bitmaps.is_empty()
    }

    /// Sectors from `frontier` on are where `new` has them, the rest and the bitmap where
    /// `old` has them.
    pub fn moving(old: &Geometry, new: &Geometry, frontier: Sector) -> Placement {
        let moved = Moved {
            frontier,
            data_offset: new.data_offset,
        };
        Placement {
            moved: Some(moved),
            ..Placement::settled(old)
        }
    }

    /// While data is being moved: sectors from this one on are at their new place.
    pub fn frontier(&self) -> Option<Sector> {
        self.moved.map(|moved| moved.frontier)
    }

    /// The one bitmap is longer or shorter now.
    pub fn set_bitmap(&mut self, bitmap: FileRange) {
        self.bitmaps = vec![bitmap];
    }

    /// From now on bits are published to this bitmap too.
    pub fn add_bitmap(&mut self, bitmap: FileRange) {
        self.bitmaps.push(bitmap);
    }

    /// The bitmaps that a publication writes.
    pub fn bitmaps(&self) -> &[FileRange] {
        &self.bitmaps
    }

    /// The place of one sector.
    pub fn place_of(&self, sector: Sector) -> FileOffset {
        self.place(SectorRange::new(sector, SectorCount(1))).0
    }

    /// The place of the front part of `range` that lies in one piece, and that part.
    #[inline]
    pub fn place(&self, range: SectorRange) -> (FileOffset, SectorRange) {
        match self.moved {
            None => (self.data_offset + range.start.bytes(), range),
            Some(moved) if range.start >= moved.frontier => {
                (moved.data_offset + range.start.bytes(), range)
            }
            Some(moved) => {
                let end = range.end().min(moved.frontier);
                let front = SectorRange::between(range.start..end);
                (self.data_offset + range.start.bytes(), front)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cow::Version;
    use crate::units::Bytes;

    #[test]
    fn a_range_across_the_frontier_is_split_there() {
        let old = Geometry::new(Version::V3, Bytes(1 << 20), 4096).unwrap();
        let new = Geometry::new(Version::V3, Bytes(1 << 21), 1 << 20).unwrap();
        let placement = Placement::moving(&old, &new, Sector(100));
        let range = SectorRange::new(Sector(96), SectorCount(8));
        let (at, front) = placement.place(range);
        assert_eq!(
            (at, front.count),
            (old.place_of(Sector(96)), SectorCount(4))
        );
        let rest = SectorRange::between(front.end()..range.end());
        let (at, back) = placement.place(rest);
        assert_eq!((at, back), (new.place_of(Sector(100)), rest));
    }
}
