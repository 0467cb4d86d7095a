//! Every layout is read and written right through, with the bits and the data at the places
//! that the format says and not those that this code computes.

use std::path::Path;

use driver::blk::Status;
use driver::host::HostFile;
use driver::memory::MemoryHost;
use driver::open::{OpenOptions, create, open};
use driver::units::{Bytes, FileOffset, Sector};

use super::{bring_up, host_with, read, whole, write};

struct Layout {
    name: &'static str,
    golden: &'static [u8],
    path: (usize, usize),
    bitmap_offset: usize,
    data_offset: usize,
}

const LAYOUTS: [Layout; 5] = [
    Layout {
        name: "V1, little endian",
        golden: include_bytes!("../../golden/v1-little-endian.bin"),
        path: (8, 256),
        bitmap_offset: 280,
        data_offset: 512,
    },
    Layout {
        name: "V1, big endian",
        golden: include_bytes!("../../golden/v1-big-endian.bin"),
        path: (8, 256),
        bitmap_offset: 280,
        data_offset: 512,
    },
    Layout {
        name: "V2",
        golden: include_bytes!("../../golden/v2.bin"),
        path: (8, 4096),
        bitmap_offset: 4120,
        data_offset: 4608,
    },
    Layout {
        name: "V3",
        golden: include_bytes!("../../golden/v3.bin"),
        path: (32, 4096),
        bitmap_offset: 8192,
        data_offset: 12288,
    },
    Layout {
        name: "V3, 64-bit",
        golden: include_bytes!("../../golden/v3-64-bit.bin"),
        path: (36, 4096),
        bitmap_offset: 8192,
        data_offset: 12288,
    },
];

#[test]
fn every_layout_is_read_written_and_read_again() {
    for layout in LAYOUTS {
        let name = layout.name;
        let bytes = whole(
            layout.golden,
            layout.path.0,
            layout.path.1,
            layout.data_offset,
        );
        let host = host_with(&bytes);
        let mut device = bring_up(&host, "ubda=/cow");
        assert_eq!(read(&mut device, 0, 3), [0, 129, 2], "{name}");
        assert_eq!(read(&mut device, 7, 3), [7, 136, 9], "{name}");
        assert_eq!(read(&mut device, 62, 2), [62, 191], "{name}");
        assert_eq!(write(&mut device, 9, 209), Status::Ok);
        assert_eq!(write(&mut device, 63, 250), Status::Ok);
        device.close().unwrap();

        let mut expected = bytes;
        expected[layout.bitmap_offset + 1] |= 0b10;
        let sector = |n: usize| layout.data_offset + n * 512..layout.data_offset + (n + 1) * 512;
        expected[sector(9)].fill(209);
        expected[sector(63)].fill(250);
        assert!(host.contents("/cow").unwrap() == expected, "{name}");

        let mut device = bring_up(&host, "ubda=/cow,/disk");
        assert_eq!(read(&mut device, 7, 4), [7, 136, 209, 10], "{name}");
        assert_eq!(read(&mut device, 62, 2), [62, 250], "{name}");
    }
}

/// With 60 sectors, V1 and V2 have seven bytes of bitmap: the last four sectors have no bit.
/// They are the backing file's for good.
#[test]
fn sectors_without_a_bit_are_read_from_the_backing_file_and_never_written() {
    for layout in &LAYOUTS[..3] {
        let (at, size) = match layout.name {
            "V1, little endian" => (268, (60_u64 * 512).to_le_bytes()),
            "V1, big endian" => (268, (60_u64 * 512).to_be_bytes()),
            _ => (4108, (60_u64 * 512).to_be_bytes()),
        };
        let mut bytes = whole(
            layout.golden,
            layout.path.0,
            layout.path.1,
            layout.data_offset,
        );
        bytes[at..at + 8].copy_from_slice(&size);
        // Past the bitmap, where the missing byte would be, is nothing to be believed.
        bytes[layout.bitmap_offset + 7] = 0xff;
        let host = host_with(&bytes);
        let backing = host.contents("/disk").unwrap();
        host.file("/disk", &backing[..60 * 512]);
        host.set_modified("/disk", super::MTIME).unwrap();

        let mut device = bring_up(&host, "ubda=/cow");
        assert_eq!(read(&mut device, 54, 6), [54, 55, 56, 57, 58, 59]);
        assert_eq!(write(&mut device, 55, 200), Status::Ok);
        assert_eq!(write(&mut device, 56, 200), Status::IoError);
        assert_eq!(read(&mut device, 54, 6), [54, 200, 56, 57, 58, 59]);
        device.close().unwrap();
        let after = host.contents("/cow").unwrap();
        assert_eq!(after[layout.bitmap_offset + 7], 0xff, "{}", layout.name);
    }
}

/// With an alignment below a page, a page of the bitmap lies in two of the host's, and the first of
/// them may be a hole.
#[test]
fn a_page_of_bitmap_that_begins_with_a_hole_is_read() {
    const BITMAP: u64 = 4608;
    let host = MemoryHost::new();
    host.file("disk", b"").set_len(Bytes(65_536 * 512)).unwrap();
    let cow = create(&host, Path::new("cow"), Path::new("disk"), Some(512)).unwrap();
    // In the second page of the bitmap, and in the host's page that begins at byte 12288.
    for sector in [61_536, 65_535] {
        let at = FileOffset(BITMAP + sector / 8);
        cow.write_all_at(&[1 << (sector % 8)], at).unwrap();
    }
    drop(cow);
    let spec = "ubda=cow,disk".parse().unwrap();
    let device = open(&host, &spec, OpenOptions::default()).unwrap().device;
    let dirty: Vec<u64> = (0..65_536)
        .filter(|&sector| device.map().is_dirty(Sector(sector)))
        .collect();
    assert_eq!(dirty, [61_536, 65_535]);
}
