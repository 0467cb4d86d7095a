//! Where bitmap and data lie in a COW file: a pure function of version, size and
//! alignment, with the rounding that each version's writers used. Old files must be
//! read with the formula they were written with, also where it is wrong.

use crate::units::{Bytes, FileOffset, FileRange, SECTOR_SIZE, Sector, SectorCount};

use super::{Header, Version};

/// Linux keeps the offsets of bitmap and data in a C `int` (up to 6.12 at least): past
/// this it cannot use the file.
pub const LARGEST_STOCK_OFFSET: FileOffset = FileOffset(i32::MAX as u64);

/// The layout of a COW file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// The size of the device in bytes.
    pub size: Bytes,
    /// Bitmap and data start at multiples of this many bytes.
    pub alignment: u32,
    /// Where the bitmap starts.
    pub bitmap_offset: FileOffset,
    /// The length of the bitmap.
    pub bitmap_len: Bytes,
    /// Where sector 0 of the device is kept.
    pub data_offset: FileOffset,
}

/// A geometry that no file can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a device of {size} aligned to {alignment} bytes needs a COW file of more than {} bytes",
    i64::MAX
)]
pub struct FileTooLarge {
    /// The size of the device.
    pub size: Bytes,
    /// The alignment.
    pub alignment: u32,
}

impl Geometry {
    /// The layout of a file of this version, for a device of `size` bytes. `alignment` is a
    /// positive multiple of 512, as a decoded header's is.
    ///
    /// # Errors
    /// If the file's end would lie past the largest offset a host has.
    pub fn new(version: Version, size: Bytes, alignment: u32) -> Result<Geometry, FileTooLarge> {
        let too_large = FileTooLarge { size, alignment };
        // Before anything is added to the size.
        let most_offset = (i64::MAX as u64).checked_sub(size.0).ok_or(too_large)?;
        let align = u64::from(alignment);
        let header_len = version.header_len().0;
        let (bitmap_offset, bitmap_len) = match version {
            // Rounds down: a sector count that is no multiple of 8 gets a byte too few.
            Version::V1 | Version::V2 => {
                let bytes = (size.0 + SECTOR_SIZE - 1) / (8 * SECTOR_SIZE);
                (header_len, bytes)
            }
            Version::V3 | Version::V3Wide => (
                header_len.next_multiple_of(align),
                size.sectors_touched().0.div_ceil(8),
            ),
        };
        let data_offset = (bitmap_offset + bitmap_len).next_multiple_of(align);
        if data_offset > most_offset {
            return Err(too_large);
        }
        Ok(Geometry {
            size,
            alignment,
            bitmap_offset: FileOffset(bitmap_offset),
            bitmap_len: Bytes(bitmap_len),
            data_offset: FileOffset(data_offset),
        })
    }

    /// The layout that a header describes.
    ///
    /// # Errors
    /// As [`Geometry::new`].
    pub fn of(header: &Header) -> Result<Geometry, FileTooLarge> {
        Geometry::new(header.version, header.size, header.alignment)
    }

    /// An alignment for a device of `size` bytes that leaves room to grow to eight times
    /// that without its data moving: at least 1 MiB (room up to 4 GiB), and at most 512 MiB,
    /// the largest power of two with which data stays where stock Linux can reach it (room
    /// up to 2 TiB). It is less for a larger device, whose bitmap leaves less room before that
    /// limit, as long as there is any. The room is a hole and costs nothing.
    pub fn roomy_alignment(size: Bytes) -> u32 {
        let bitmap_len = size.sectors_touched().0.div_ceil(8);
        let wanted = bitmap_len.saturating_mul(8).clamp(1 << 20, 512 << 20);
        let wanted = wanted.next_power_of_two() as u32;
        let is_in_reach = |&alignment: &u32| {
            Geometry::new(Version::V3, size, alignment).is_ok_and(|it| it.fits_stock_linux())
        };
        let halves = std::iter::successors(Some(wanted), |alignment| Some(alignment / 2));
        let mut halves = halves.take_while(|&alignment| alignment >= 4096);
        halves.find(is_in_reach).unwrap_or(wanted)
    }

    /// The sectors that the device offers: a partial last one cannot be reached.
    pub fn capacity(&self) -> SectorCount {
        self.size.whole_sectors()
    }

    /// The sectors that have a bit, at most [`Geometry::capacity`]. There are fewer in V1 and V2
    /// when the sector count is no multiple of 8. The sectors past them can be read from the
    /// backing file. They can never be written, because nothing could remember that they were.
    pub fn mapped(&self) -> SectorCount {
        self.capacity().min(SectorCount(self.bitmap_len.0 * 8))
    }

    /// Where the bitmap lies.
    pub fn bitmap(&self) -> FileRange {
        FileRange::new(self.bitmap_offset, self.bitmap_len)
    }

    /// The part of the bitmap with the bits of sectors that can be reached, and so what a
    /// [`super::SectorMap`] has pages for. It leaves out the room for a bit of a partial last
    /// sector where that is a byte of its own, which may be in a page of its own.
    pub fn mapped_bitmap(&self) -> FileRange {
        FileRange::new(self.bitmap_offset, Bytes(self.mapped().0.div_ceil(8)))
    }

    /// Where the data of `sector` lies.
    pub fn place_of(&self, sector: Sector) -> FileOffset {
        self.data_offset + sector.bytes()
    }

    /// The end of the data area, and so the length of a whole file.
    pub fn data_end(&self) -> FileOffset {
        self.data_offset + self.size
    }

    /// Whether data can be moved from the layout `old` to this one, last bytes first: this bitmap
    /// lies past the old one, and this data starts later.
    pub fn lies_after(&self, old: &Geometry) -> bool {
        self.bitmap_offset >= old.bitmap().end() && self.data_offset > old.data_offset
    }

    /// Whether Linux can use a file laid out like this.
    pub fn fits_stock_linux(&self) -> bool {
        self.data_offset <= LARGEST_STOCK_OFFSET
    }

    /// The size up to which a V3 device can grow without its data moving.
    pub fn headroom(&self) -> Bytes {
        let bits = (self.data_offset - self.bitmap_offset).0.saturating_mul(8);
        let most = i64::MAX as u64 - self.data_offset.0;
        Bytes(
            bits.saturating_mul(SECTOR_SIZE)
                .min(most - most % SECTOR_SIZE),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(version: Version, size: u64, alignment: u32) -> Geometry {
        Geometry::new(version, Bytes(size), alignment).unwrap()
    }

    #[test]
    fn the_disk_of_2003_as_each_version_lays_it_out() {
        // 210,819,584 bytes are 411,757 sectors: 51,469 bytes of bitmap and 5 bits more.
        let v1 = geometry(Version::V1, 210_819_584, 512);
        assert_eq!((v1.bitmap_offset.0, v1.bitmap_len.0), (280, 51_469));
        assert_eq!(v1.data_offset.0, 102 * 512);
        assert_eq!(v1.mapped(), SectorCount(51_469 * 8));
        assert_eq!(v1.capacity(), SectorCount(411_757));

        let v2 = geometry(Version::V2, 210_819_584, 512);
        assert_eq!((v2.bitmap_offset.0, v2.bitmap_len.0), (4120, 51_469));
        assert_eq!(v2.data_offset.0, 109 * 512);

        let v3 = geometry(Version::V3, 210_819_584, 4096);
        assert_eq!((v3.bitmap_offset.0, v3.bitmap_len.0), (8192, 51_470));
        assert_eq!(v3.data_offset.0, 15 * 4096);
        assert_eq!(v3.mapped(), v3.capacity());

        let wide = geometry(Version::V3Wide, 210_819_584, 512);
        assert_eq!(wide.bitmap_offset.0, 4608);
    }

    #[test]
    fn with_alignment_a_and_a_bitmap_no_longer_the_data_is_at_twice_a() {
        for (alignment, headroom) in [
            (1 << 20, 4 << 30),
            (64 << 20, 256 << 30),
            (512 << 20, 2 << 40),
        ] {
            let geometry = geometry(Version::V3, 16 << 20, alignment);
            assert_eq!(geometry.bitmap_offset.0, u64::from(alignment));
            assert_eq!(geometry.data_offset.0, 2 * u64::from(alignment));
            assert_eq!(geometry.headroom(), Bytes(headroom));
            assert!(geometry.fits_stock_linux());
            let grown = self::geometry(Version::V3, headroom, alignment);
            assert_eq!(grown.data_offset, geometry.data_offset);
            let past = self::geometry(Version::V3, headroom + 512, alignment);
            assert!(past.data_offset > geometry.data_offset);
        }
    }

    #[test]
    fn the_room_for_a_bit_of_a_partial_last_sector_can_be_a_byte_of_its_own() {
        for (size, whole, mapped) in [
            (4096 * 512, 512, 512),
            (4096 * 512 + 1, 513, 512),
            (4095 * 512 + 1, 512, 512),
            ((16 << 20) + 100, 4097, 4096),
        ] {
            let v3 = geometry(Version::V3, size, 4096);
            let found = (v3.bitmap_len, v3.mapped_bitmap().len);
            assert_eq!(found, (Bytes(whole), Bytes(mapped)), "{size}");
        }
    }

    #[test]
    fn a_roomy_layout_is_within_reach_of_stock_linux_where_any_is() {
        for (gib, alignment) in [
            (1, 2 << 20),
            (2048, 512 << 20),
            (5 << 10, 256 << 20),
            (7 << 10, 128 << 20),
            ((8 << 10) - 1, 128 << 10),
            (9 << 10, 512 << 20),
        ] {
            let size = Bytes(gib << 30);
            assert_eq!(Geometry::roomy_alignment(size), alignment, "{size}");
            let layout = geometry(Version::V3, size.0, alignment);
            assert_eq!(layout.fits_stock_linux(), gib < 8 << 10, "{size}");
        }
    }

    #[test]
    fn a_layout_lies_after_another_if_its_bitmap_does_and_its_data_starts_later() {
        let small = geometry(Version::V3, 1 << 30, 4096);
        let roomy = geometry(Version::V3, 1 << 30, 1 << 20);
        assert!(roomy.lies_after(&small));
        assert!(!small.lies_after(&roomy) && !small.lies_after(&small));
        // The data starts later, and the bitmaps overlap.
        let longer = geometry(Version::V3, 2 << 30, 4096);
        assert!(longer.data_offset > small.data_offset && !longer.lies_after(&small));
    }

    #[test]
    fn stock_linux_ends_near_8_tib() {
        assert!(geometry(Version::V3, (8 << 40) - (1 << 30), 4096).fits_stock_linux());
        assert!(!geometry(Version::V3, 8 << 40, 4096).fits_stock_linux());
    }

    #[test]
    fn a_file_longer_than_any_host_has_is_refused() {
        let too_large = Geometry::new(Version::V3, Bytes(i64::MAX as u64), 4096);
        assert!(too_large.is_err());
        assert!(Geometry::new(Version::V3, Bytes(i64::MAX as u64), u32::MAX - 511).is_err());
        for version in [Version::V1, Version::V2, Version::V3, Version::V3Wide] {
            for size in [1 << 63, u64::MAX - 511, u64::MAX] {
                assert!(Geometry::new(version, Bytes(size), 4096).is_err());
            }
        }
    }
}
