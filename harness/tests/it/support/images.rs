//! COW files of every version. They are laid out, and read back, as the format's page says, with
//! nothing of the driver's code.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use driver::cow::{ByteOrder, Header, Version};
use driver::units::Bytes;
use harness::plain_format::{self, CowFile};
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
        let bytes = header.encode();
        let layout = plain_format::Header::read(&bytes[..])
            .unwrap()
            .layout()
            .unwrap();
        let mut new = File::options();
        new.read(true).write(true).create(true).truncate(true);
        let file = new.open(self.path(name)).unwrap();
        file.set_len(layout.end).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        for &sector in dirty {
            let (bits, mask) = layout.bit(sector);
            let mut byte = [0];
            file.read_exact_at(&mut byte, layout.bitmap + bits).unwrap();
            byte[0] |= mask;
            file.write_all_at(&byte, layout.bitmap + bits).unwrap();
            file.write_all_at(&written(sector), layout.place(sector))
                .unwrap();
        }
    }

    /// Begins to merge the COW file `cow` into its backing file, and is interrupted before any
    /// of its data is written there.
    pub(crate) fn begin_merge(&self, cow: &str) {
        let mut cow = open_both(&RealHost, &self.path(cow), Trust::Follow).unwrap();
        let mut goes_on = |_: Bytes, _: Bytes| std::ops::ControlFlow::Continue(());
        let device = &mut cow.device;
        backing_change::begin(&RealHost, device, Writes::Dirty, &mut goes_on).unwrap();
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
        read(&self.read(cow)).disk(&self.read(backing)[..])
    }
}

/// The COW file in these bytes, which a reader has to accept.
pub(crate) fn read(bytes: &[u8]) -> CowFile<&[u8]> {
    CowFile::open(bytes).unwrap()
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
