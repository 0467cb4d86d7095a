//! Images made byte by byte, and what their disks hold, computed from the same lists by plain
//! copying: no driver and no tool has a part in either.

use std::path::Path;

use driver::cow::{ByteOrder, Extension, ExtensionState, Geometry, Header, Version};
use driver::device_spec::DeviceSpec;
use driver::open::{OpenError, OpenOptions, open};
use driver::units::{Bytes, FileOffset, Sector};
use harness::sim::{Assumptions, FileContent, SimHost};
use harness::stamp::Stamp;

use crate::world::model::read_all;

pub(crate) const COW: &str = "cow";
pub(crate) const BACKING: &str = "disk";
pub(crate) const OTHER: &str = "other";
pub(crate) const SIBLING: &str = "sibling";

/// When the backing file was modified last.
pub(crate) const TIME: i64 = 1_060_000_000;

/// A run of dirty sectors: the first, how many, and whose stamp they have; without one they are
/// a hole.
pub(crate) type Run = (u64, u64, Option<u32>);

/// A COW file to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout<'a> {
    pub(crate) version: Version,
    pub(crate) alignment: u32,
    /// Whether it has an extension block.
    pub(crate) ours: bool,
    /// The size of the device in bytes.
    pub(crate) size: u64,
    pub(crate) dirty: &'a [Run],
}

/// An empty host with a clock.
pub(crate) fn host() -> SimHost {
    SimHost::new(Assumptions {
        steady_times: false,
        ..Assumptions::default()
    })
}

/// Stamped sectors and, if `len` ends within one, some bytes after them.
pub(crate) fn stamped(len: u64, stamp: Stamp) -> Vec<u8> {
    let mut content = vec![0xee; len as usize];
    stamp.fill(Sector(0), &mut content[..len as usize / 512 * 512]);
    content
}

/// Puts a backing file there.
pub(crate) fn install_disk(host: &SimHost, name: &str, content: &[u8], seconds: i64) {
    host.install(name, FileContent::from_bytes(content));
    host.set_modified_seconds(name, seconds);
}

/// Puts a COW file there, over `backing`; what its disk holds.
pub(crate) fn install_cow(
    host: &SimHost,
    name: &str,
    backing: &str,
    layout: Layout<'_>,
) -> Vec<u8> {
    let below = host.content(backing).unwrap().to_bytes();
    let time = host.modified_seconds(backing).unwrap() as u32;
    let (size, alignment) = (Bytes(layout.size), layout.alignment);
    let mut header = Header::v3(Path::new(backing), time, size, alignment).unwrap();
    header.version = layout.version;
    if layout.version == Version::V1 {
        header.byte_order = ByteOrder::Little;
    }
    let geometry = Geometry::of(&header).unwrap();
    let mut file = FileContent::from_bytes(&header.encode());
    if layout.ours {
        let block = Extension::new(Bytes(below.len() as u64)).encode();
        file.write_at(&block, Extension::OFFSET);
    }
    let mut disk = below;
    disk.resize(layout.size as usize / 512 * 512, 0);
    let mut bitmap = vec![0; geometry.bitmap_len.0 as usize];
    for &(start, count, stamp) in layout.dirty {
        let mut data = vec![0; count as usize * 512];
        if let Some(stamp) = stamp {
            Stamp(stamp).fill(Sector(start), &mut data);
            file.write_at(&data, geometry.data_offset + Bytes(start * 512));
        }
        let place = start as usize * 512;
        disk[place..place + data.len()].copy_from_slice(&data);
        for sector in start..start + count {
            bitmap[sector as usize / 8] |= 1 << (sector % 8);
        }
    }
    file.write_at(&bitmap, geometry.bitmap_offset);
    file.set_len(geometry.data_end() - FileOffset(0));
    host.install(name, file);
    disk
}

/// What a device over the COW file shows, every sector of it.
pub(crate) fn disk_of(host: &SimHost, name: &str) -> Result<Vec<u8>, OpenError> {
    let spec: DeviceSpec = format!("ubda={name}").parse().unwrap();
    let options = OpenOptions {
        create: false,
        ..OpenOptions::default()
    };
    let mut device = open(&host.after_kill(), &spec, options)?.device;
    Ok(read_all(&mut device))
}

/// What the COW file says: its header, whether it has the mark of a change of its backing file,
/// and how many sectors are dirty.
pub(crate) fn looked_at(host: &SimHost) -> (Header, bool, u32) {
    let file = host.content(COW).unwrap().to_bytes();
    let header = Header::decode(&file).unwrap();
    let block = file[Extension::OFFSET.0 as usize..][..Extension::LEN].try_into();
    let marked = match Extension::decode(&block.unwrap()) {
        ExtensionState::Valid(extension) => extension.change.is_some(),
        ExtensionState::Absent | ExtensionState::Damaged => false,
    };
    let bitmap = Geometry::of(&header).unwrap().bitmap();
    let bitmap = &file[bitmap.start.0 as usize..bitmap.end().0 as usize];
    let dirty = bitmap.iter().map(|byte| byte.count_ones()).sum();
    (header, marked, dirty)
}

/// Names the first sector in which two disks differ: nobody wants to see the disks.
pub(crate) fn assert_same(found: &[u8], expected: &[u8], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: the size of the disk");
    let mut sectors = found.chunks(512).zip(expected.chunks(512));
    if let Some(sector) = sectors.position(|(found, expected)| found != expected) {
        let content = |disk: &[u8]| harness::stamp::Content::of(&disk[sector * 512..][..512]);
        panic!(
            "{what}: sector {sector} has {}, expected {}",
            content(found),
            content(expected)
        );
    }
}
