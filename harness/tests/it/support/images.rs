//! COW files of every version, and the slowest reader of them that there is: it knows where each
//! version has its fields, and takes one sector after the other from the file that has it.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use driver::cow::{ByteOrder, Geometry, Header, Version};
use driver::units::Bytes;
use userhelper::image::backing_change::{self, Writes};
use userhelper::image::merge::open_both;
use userhelper::image::open::Trust;
use userhelper::real_files::RealHost;

use crate::support::cli::{ALIGNMENT, SIZE, Sandbox};

pub(crate) const VERSIONS: [Version; 4] = [Version::V1, Version::V2, Version::V3, Version::V3Wide];

/// Some sectors of the small device: runs, single ones, the first and the last.
pub(crate) const SOME: [u64; 9] = [0, 8, 9, 10, 11, 700, 1024, 1025, 2047];

/// Every sector of the blocks of 4 KiB that these sectors, which are in order, lie in.
pub(crate) fn blocks_of(sectors: &[u64]) -> Vec<u64> {
    let mut blocks: Vec<u64> = sectors.iter().map(|sector| sector / 8).collect();
    blocks.dedup();
    blocks
        .into_iter()
        .flat_map(|block| block * 8..block * 8 + 8)
        .collect()
}

/// The usual name of an image of this version.
pub(crate) fn name_of(version: Version) -> &'static str {
    match version {
        Version::V1 => "v1",
        Version::V2 => "v2",
        Version::V3 => "v3",
        Version::V3Wide => "wide",
    }
}

/// What is written into a sector: another content for each number and each place in it.
pub(crate) fn written(sector: u64) -> [u8; 512] {
    std::array::from_fn(|n| (sector * 7 + n as u64 * 13 + 1) as u8 | 0x80)
}

/// The header of a device of this size over `backing` as it is now.
pub(crate) fn header(version: Version, backing: &Path, size: u64) -> Header {
    let metadata = std::fs::metadata(backing);
    let mtime = metadata.map_or(0, |metadata| metadata.mtime() as u32);
    let v3 = Header::v3(backing, mtime, Bytes(size), ALIGNMENT).unwrap();
    match version {
        Version::V3 | Version::V3Wide => Header { version, ..v3 },
        // As an x86 host wrote it.
        Version::V1 => Header {
            version,
            byte_order: ByteOrder::Little,
            alignment: 512,
            ..v3
        },
        Version::V2 => Header {
            version,
            alignment: 512,
            ..v3
        },
    }
}

impl Sandbox {
    /// One with `backing` and over it an image of each version, named [`name_of`] it, in which
    /// [`SOME`] sectors are dirty.
    pub(crate) fn with_images() -> Sandbox {
        let sandbox = Sandbox::new();
        sandbox.write_backing("backing", SIZE);
        for version in VERSIONS {
            sandbox.write_image(name_of(version), version, "backing", &SOME);
        }
        sandbox
    }

    /// Writes an image of the backing file's size with these sectors dirty, and holes elsewhere.
    pub(crate) fn write_image(&self, name: &str, version: Version, backing: &str, dirty: &[u64]) {
        let backing = self.path(backing);
        let size = std::fs::metadata(&backing).unwrap().len();
        self.write_image_under(name, &header(version, &backing, size), dirty);
    }

    /// Writes an image with this header, these sectors dirty, and holes elsewhere.
    pub(crate) fn write_image_under(&self, name: &str, header: &Header, dirty: &[u64]) {
        let geometry = Geometry::of(header).unwrap();
        let mut new = File::options();
        new.read(true).write(true).create(true).truncate(true);
        let file = new.open(self.path(name)).unwrap();
        file.set_len(geometry.data_end().0).unwrap();
        file.write_all_at(&header.encode(), 0).unwrap();
        for &sector in dirty {
            let bits = geometry.bitmap_offset.0 + sector / 8;
            let mut byte = [0];
            file.read_exact_at(&mut byte, bits).unwrap();
            byte[0] |= 1 << (sector % 8);
            file.write_all_at(&byte, bits).unwrap();
            let place = geometry.data_offset.0 + sector * 512;
            file.write_all_at(&written(sector), place).unwrap();
        }
    }

    /// Begins to merge the COW file `cow` into its backing file, and is interrupted before any
    /// of its data is written there.
    pub(crate) fn begin_merge(&self, cow: &str) {
        let mut cow = open_both(&RealHost, &self.path(cow), Trust::Follow).unwrap();
        backing_change::begin(&RealHost, &mut cow.device, Writes::Dirty).unwrap();
    }

    /// Runs the program with `--json`, which has to succeed; what it reports, with the paths as
    /// they are.
    pub(crate) fn json(&self, args: &[&str]) -> serde_json::Value {
        let output = self.run(&[args, &["--json"]].concat());
        assert_eq!((output.status.code(), output.stderr), (Some(0), vec![]));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What the disk of the COW file `cow` over `backing` holds.
    pub(crate) fn disk(&self, cow: &str, backing: &str) -> Vec<u8> {
        Reader::of(&self.read(cow)).disk(&self.read(backing))
    }
}

/// What [`Sandbox::disk`] has to be of the images of [`Sandbox::with_images`].
pub(crate) fn expected_disk(backing: &[u8], dirty: &[u64]) -> Vec<u8> {
    let mut disk = backing.to_vec();
    for &sector in dirty {
        let at = sector as usize * 512;
        disk[at..at + 512].copy_from_slice(&written(sector));
    }
    disk
}

/// A COW file's header, taken apart.
pub(crate) struct Reader<'a> {
    cow: &'a [u8],
    pub(crate) version: u32,
    pub(crate) wide: bool,
    pub(crate) backing: Vec<u8>,
    pub(crate) mtime: u32,
    pub(crate) size: u64,
    pub(crate) alignment: u64,
    pub(crate) bitmap: u64,
    pub(crate) data: u64,
}

impl<'a> Reader<'a> {
    pub(crate) fn of(cow: &'a [u8]) -> Reader<'a> {
        let little = &cow[..4] == b"MOOO";
        let u32_at = |at: usize| {
            let bytes = cow[at..at + 4].try_into().unwrap();
            match little {
                true => u32::from_le_bytes(bytes),
                false => u32::from_be_bytes(bytes),
            }
        };
        let u64_at = |at: usize| {
            let bytes = cow[at..at + 8].try_into().unwrap();
            match little {
                true => u64::from_le_bytes(bytes),
                false => u64::from_be_bytes(bytes),
            }
        };
        assert!(little || &cow[..4] == b"OOOM");
        let version = u32_at(4);
        let wide = version == 3 && cow[32..36] == [0; 4];
        let (path, path_len, mtime, size, header) = match (version, wide) {
            (1, _) => (8, 256, 264, 268, 280),
            (2, _) => (8, 4096, 4104, 4108, 4120),
            (3, false) => (32, 4096, 8, 12, 4128),
            (3, true) => (36, 4096, 8, 16, 4136),
            other => panic!("version {other:?}"),
        };
        let alignment = match (version, wide) {
            (3, false) => u64::from(u32_at(24)),
            (3, true) => u64::from(u32_at(28)),
            _ => 512,
        };
        let size = u64_at(size);
        let (bitmap, bitmap_len) = match version {
            3 => (
                u64::next_multiple_of(header, alignment),
                size.div_ceil(512).div_ceil(8),
            ),
            _ => (header, (size + 511) / (8 * 512)),
        };
        let path = &cow[path..path + path_len];
        Reader {
            cow,
            version,
            wide,
            backing: path.split(|&byte| byte == 0).next().unwrap().to_vec(),
            mtime: u32_at(mtime),
            size,
            alignment,
            bitmap,
            data: (bitmap + bitmap_len).next_multiple_of(alignment),
        }
    }

    pub(crate) fn is_dirty(&self, sector: u64) -> bool {
        // In the old versions the last few sectors may have no bit.
        let at = self.bitmap + sector / 8;
        at < self.data && self.cow[at as usize] & (1 << (sector % 8)) != 0
    }

    pub(crate) fn dirty(&self) -> Vec<u64> {
        let sectors = 0..self.size / 512;
        sectors.filter(|&sector| self.is_dirty(sector)).collect()
    }

    /// The disk, of which nothing lies behind the backing file's end but what is dirty.
    pub(crate) fn disk(&self, backing: &[u8]) -> Vec<u8> {
        let mut disk = backing.to_vec();
        disk.resize(self.size as usize, 0);
        for sector in self.dirty() {
            let (from, to) = ((self.data + sector * 512) as usize, sector as usize * 512);
            disk[to..to + 512].copy_from_slice(&self.cow[from..from + 512]);
        }
        disk
    }
}
