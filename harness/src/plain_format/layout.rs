//! Where a file has what: the two tables of the page, "Headers" and "Sizes".

use super::SECTOR;
use super::wrong::Wrong;

/// Bits in a byte of the bitmap.
pub(super) const BITS: u64 = 8;

/// No file has more bytes.
const LONGEST_FILE: u64 = (1 << 63) - 1;

/// A version of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// In the writer's byte order, with a short path.
    V1,
    /// Big endian, with a long path.
    V2,
    /// Big endian, with an alignment.
    V3,
    /// V3 as 64-bit hosts wrote it before December 2005.
    V3Wide,
}

/// Where a header has its fields, in bytes from the start of the file, and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// The path of the backing file.
    pub path: u64,
    /// Bytes of the path's field.
    pub path_len: u64,
    /// The time of the backing file, u32.
    pub time: u64,
    /// The size of the device, u64.
    pub size: u64,
    /// The size of a sector, u32.
    pub sector_size: u64,
    /// The alignment, u32, and the format, u32; V1 and V2 have neither.
    pub alignment_and_format: Option<(u64, u64)>,
    /// Bytes of the header.
    pub header_len: u64,
}

impl Version {
    /// Oldest first.
    pub const ALL: [Version; 4] = [Version::V1, Version::V2, Version::V3, Version::V3Wide];

    /// The number in the header: the wide header says 3 too.
    pub fn number(self) -> u32 {
        match self {
            Version::V1 => 1,
            Version::V2 => 2,
            Version::V3 | Version::V3Wide => 3,
        }
    }

    /// The table "Headers".
    pub fn fields(self) -> Fields {
        match self {
            Version::V1 => Fields {
                path: 8,
                path_len: 256,
                time: 264,
                size: 268,
                sector_size: 276,
                alignment_and_format: None,
                header_len: 280,
            },
            Version::V2 => Fields {
                path: 8,
                path_len: 4096,
                time: 4104,
                size: 4108,
                sector_size: 4116,
                alignment_and_format: None,
                header_len: 4120,
            },
            Version::V3 => Fields {
                path: 32,
                path_len: 4096,
                time: 8,
                size: 12,
                sector_size: 20,
                alignment_and_format: Some((24, 28)),
                header_len: 4128,
            },
            Version::V3Wide => Fields {
                path: 36,
                path_len: 4096,
                time: 8,
                size: 16,
                sector_size: 24,
                alignment_and_format: Some((28, 32)),
                header_len: 4136,
            },
        }
    }
}

/// Where bitmap and data are, in bytes from the start of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Where the bitmap begins.
    pub bitmap: u64,
    /// Bytes of the bitmap.
    pub bitmap_len: u64,
    /// Where the data begins.
    pub data: u64,
    /// Whole sectors of the device.
    pub sectors: u64,
    /// Those from the first one on that have a bit.
    pub with_bit: u64,
    /// Bytes of a file that is as long as it should be.
    pub end: u64,
}

impl Layout {
    /// The table "Sizes", for a device of `size` bytes.
    ///
    /// # Errors
    /// A size or an alignment that a reader refuses, or a layout that no file can have.
    pub fn of(version: Version, size: u64, alignment: u32) -> Result<Layout, Wrong> {
        let fields = version.fields();
        let refuse = |at, what, found: String| Err(Wrong::new(at, what, found));
        if !(SECTOR..=LONGEST_FILE).contains(&size) {
            let found = format!("found {size}, expected from {SECTOR} to {LONGEST_FILE} bytes");
            return refuse(fields.size, "size", found);
        }
        let unit = match fields.alignment_and_format {
            None => SECTOR,
            Some((at, _)) if alignment == 0 || u64::from(alignment) % SECTOR != 0 => {
                let found = format!("found {alignment}, expected a positive multiple of {SECTOR}");
                return refuse(at, "alignment", found);
            }
            Some(_) => u64::from(alignment),
        };
        let (bitmap, bitmap_len) = match version {
            // Rounded down, though it should be up: that is how they were written.
            Version::V1 | Version::V2 => (fields.header_len, (size + SECTOR - 1) / (BITS * SECTOR)),
            Version::V3 | Version::V3Wide => (
                round_up(fields.header_len, unit),
                divide_up(divide_up(size, SECTOR), BITS),
            ),
        };
        // At most 4096 + 2^32 + 2^51 + 2^32.
        let data = round_up(bitmap + bitmap_len, unit);
        let Some(end) = data.checked_add(size).filter(|&end| end <= LONGEST_FILE) else {
            let found = format!("{size} bytes of data from byte {data} on end past 2^63 - 1");
            return refuse(fields.size, "layout", found);
        };
        let sectors = size / SECTOR;
        Ok(Layout {
            bitmap,
            bitmap_len,
            data,
            sectors,
            with_bit: sectors.min(bitmap_len * BITS),
            end,
        })
    }

    /// The end of the bytes in which sectors have their bits. It is past the bitmap's end where
    /// that of V1 and V2 lacks a byte for the last sectors, which Linux has there.
    pub fn bits_end(&self) -> u64 {
        self.bitmap + self.bitmap_len.max(divide_up(self.sectors, BITS))
    }

    /// Where the data of a sector is.
    pub fn place(&self, sector: u64) -> u64 {
        self.data + sector * SECTOR
    }

    /// The byte of the bitmap, from its start, and the mask of the bit that a sector has in it.
    pub fn bit(&self, sector: u64) -> (u64, u8) {
        (sector / BITS, 1 << (sector % BITS))
    }
}

fn divide_up(number: u64, by: u64) -> u64 {
    number / by + u64::from(!number.is_multiple_of(by))
}

fn round_up(number: u64, to: u64) -> u64 {
    divide_up(number, to) * to
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed by hand.
    #[test]
    fn the_examples_of_the_page_come_out() {
        let of = |version, sectors: u64, alignment| {
            let layout = Layout::of(version, sectors * SECTOR, alignment).unwrap();
            (
                layout.bitmap,
                layout.bitmap_len,
                layout.data,
                layout.with_bit,
            )
        };
        assert_eq!(of(Version::V1, 64, 0), (280, 8, 512, 64));
        assert_eq!(of(Version::V2, 64, 0), (4120, 8, 4608, 64));
        // (100 * 512 + 511) / 4096 is 12: four sectors without a bit.
        assert_eq!(of(Version::V2, 100, 0), (4120, 12, 4608, 96));
        assert_eq!(of(Version::V1, 1856, 0), (280, 232, 512, 1856));
        assert_eq!(of(Version::V1, 1864, 0), (280, 233, 1024, 1864));
        assert_eq!(of(Version::V3, 100, 4096), (8192, 13, 12288, 100));
        assert_eq!(of(Version::V3, 100, 512), (4608, 13, 5120, 100));
        assert_eq!(
            of(Version::V3Wide, 32_768, 4096),
            (8192, 4096, 12_288, 32_768)
        );
        assert_eq!(of(Version::V3, 32_769, 4096), (8192, 4097, 16_384, 32_769));
        let mib = 1 << 20;
        assert_eq!(
            of(Version::V3, 32_769, mib),
            (1 << 20, 4097, 2 << 20, 32_769)
        );
    }

    #[test]
    fn a_partial_last_sector_has_a_bit_in_v3_and_is_none() {
        let layout = Layout::of(Version::V3, 64 * SECTOR + 1, 4096).unwrap();
        assert_eq!(
            (layout.bitmap_len, layout.sectors, layout.with_bit),
            (9, 64, 64)
        );
        assert_eq!(layout.end, 12_288 + 64 * SECTOR + 1);
    }

    #[test]
    fn what_no_file_can_have_is_refused() {
        for (size, alignment) in [
            (511, 4096),
            (1 << 63, 4096),
            ((1 << 63) - 1, 4096),
            (512, 0),
            (512, 384),
        ] {
            let layout = Layout::of(Version::V3, size, alignment);
            assert!(layout.is_err(), "{size} bytes at {alignment}: {layout:?}");
        }
    }
}
