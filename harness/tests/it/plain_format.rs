//! The reader that shares no code with the driver, against files that were made without either.

use harness::plain_format::{ByteOrder, CowFile, Extension, Header, Layout, Version};

/// Name, content, version, byte order and dirty sectors of a file.
type Golden = (
    &'static str,
    &'static [u8],
    Version,
    ByteOrder,
    &'static [u64],
);

/// The golden files of the driver's tests: a device of 64 sectors, of which 1, 8 and 63 are dirty
/// but in the file that uml_mkcow has made. They end with their bitmap.
const GOLDEN: [Golden; 6] = [
    (
        "v1-little-endian",
        include_bytes!("../../../driver/tests/golden/v1-little-endian.bin"),
        Version::V1,
        ByteOrder::Little,
        &[1, 8, 63],
    ),
    (
        "v1-big-endian",
        include_bytes!("../../../driver/tests/golden/v1-big-endian.bin"),
        Version::V1,
        ByteOrder::Big,
        &[1, 8, 63],
    ),
    (
        "v2",
        include_bytes!("../../../driver/tests/golden/v2.bin"),
        Version::V2,
        ByteOrder::Big,
        &[1, 8, 63],
    ),
    (
        "v3",
        include_bytes!("../../../driver/tests/golden/v3.bin"),
        Version::V3,
        ByteOrder::Big,
        &[1, 8, 63],
    ),
    (
        "v3-64-bit",
        include_bytes!("../../../driver/tests/golden/v3-64-bit.bin"),
        Version::V3Wide,
        ByteOrder::Big,
        &[1, 8, 63],
    ),
    (
        "v3-uml_mkcow",
        include_bytes!("../../../driver/tests/golden/v3-uml_mkcow.bin"),
        Version::V3,
        ByteOrder::Big,
        &[],
    ),
];

#[test]
fn it_reads_the_golden_files() {
    for (name, bytes, version, order, dirty) in GOLDEN {
        let header = Header::read(bytes).unwrap();
        let aligned = matches!(version, Version::V3 | Version::V3Wide);
        let expected = Header {
            version,
            order,
            path: b"/srv/uml/root.img".to_vec(),
            time: 1_060_000_000,
            size: 32_768,
            marked: false,
            alignment: if aligned { 4096 } else { 512 },
        };
        assert_eq!(header, expected, "{name}");
        let len = version.fields().header_len as usize;
        assert!(header.bytes() == bytes[..len], "{name}");
        let layout = header.layout().unwrap();
        assert_eq!(
            layout.bitmap + layout.bitmap_len,
            bytes.len() as u64,
            "{name}"
        );
        // The data of a dirty sector has to be there, or the file is refused.
        let whole = |end: u64| {
            let mut bytes = bytes.to_vec();
            bytes.resize(end as usize, 0xda);
            bytes
        };
        let file = whole(layout.end);
        let cow = CowFile::open(&file[..]).unwrap();
        assert_eq!(cow.dirty(), dirty, "{name}");
        assert_eq!(cow.extension, None, "{name}");
        let disk = cow.disk(&[0xba; 32_768][..]);
        for (sector, content) in (0..).zip(disk.chunks(512)) {
            let expected = if dirty.contains(&sector) { 0xda } else { 0xba };
            assert!(
                content.iter().all(|&byte| byte == expected),
                "{name}: {sector}"
            );
        }
        let cut = CowFile::open(&whole(layout.end - 1)[..]).is_err();
        assert_eq!(cut, !dirty.is_empty(), "{name}");
    }
}

/// The checksum was computed by another program.
#[test]
fn it_reads_the_golden_extension_block() {
    let start = [
        0x75, 0x62, 0x64, 0x6c, 0x61, 0x62, 0x58, 0x0a, 0, 0, 0, 1, 0x71, 0xfa, 0x17, 0x28, 0, 0,
        0, 0, 0x0c, 0x90, 0xda, 0,
    ];
    let mut file = vec![0; 4128 + 480];
    file[4128..4128 + start.len()].copy_from_slice(&start);
    let extension = Extension {
        backing_size: 210_819_584,
        changing: false,
    };
    assert_eq!(Extension::read(&file[..]), Ok(Some(extension)));
    assert_eq!(extension.bytes(), file[4128..]);
}

/// Both were written from the same page, by different hands: where they differ, one is wrong.
#[test]
fn the_driver_has_the_layout_that_it_has() {
    let versions = [
        (Version::V1, driver::cow::Version::V1),
        (Version::V2, driver::cow::Version::V2),
        (Version::V3, driver::cow::Version::V3),
        (Version::V3Wide, driver::cow::Version::V3Wide),
    ];
    for (version, theirs) in versions {
        for alignment in [512, 4096, 12_288, 1 << 20, 1 << 30] {
            for pages in [0, 1, 2, 1000] {
                for more in (1..300).chain(4090..4100) {
                    let size = (pages * 32_768 + more) * 512 - u64::from(more % 3 == 0) * 200;
                    let ours = Layout::of(version, size, alignment).unwrap();
                    // The driver knows the alignment of V1 and V2.
                    let alignment = match version {
                        Version::V1 | Version::V2 => 512,
                        _ => alignment,
                    };
                    let size = driver::units::Bytes(size);
                    let theirs = driver::cow::Geometry::new(theirs, size, alignment).unwrap();
                    let of = [
                        (ours.bitmap, theirs.bitmap_offset.0),
                        (ours.bitmap_len, theirs.bitmap_len.0),
                        (ours.data, theirs.data_offset.0),
                        (ours.sectors, theirs.capacity().0),
                        (ours.with_bit, theirs.mapped().0),
                        (ours.end, theirs.data_end().0),
                    ];
                    assert!(
                        of.iter().all(|(a, b)| a == b),
                        "{version:?} {size:?}: {of:?}"
                    );
                }
            }
        }
    }
}

/// A sector's content, another for each.
fn content(sector: u64, of: u8) -> [u8; 512] {
    let mut content = [of; 512];
    content[..8].copy_from_slice(&sector.to_le_bytes());
    content
}

/// A COW file of 105 sectors over a backing file of 100, the last five and three others dirty; and
/// what both show.
fn grown() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let header = Header {
        version: Version::V3,
        order: ByteOrder::Big,
        path: b"backing".to_vec(),
        time: 5,
        size: 105 * 512,
        marked: false,
        alignment: 4096,
    };
    let layout = header.layout().unwrap();
    let mut file = header.bytes();
    file.resize(layout.end as usize, 0);
    let backing: Vec<u8> = (0..100).flat_map(|sector| content(sector, 1)).collect();
    let mut shown = backing.clone();
    shown.resize(105 * 512, 0);
    for sector in [3, 64, 65, 100, 101, 102, 103, 104] {
        let (byte, mask) = layout.bit(sector);
        file[(layout.bitmap + byte) as usize] |= mask;
        let (from, to) = (layout.place(sector) as usize, sector as usize * 512);
        file[from..from + 512].copy_from_slice(&content(sector, 2));
        shown[to..to + 512].copy_from_slice(&content(sector, 2));
    }
    (file, backing, shown)
}

fn look(file: &[u8], backing: &[u8], shown: &[u8]) -> Result<(), String> {
    let cow = CowFile::open(file).map_err(|wrong| wrong.to_string())?;
    let checked = cow.check_shown(backing, shown);
    checked.map_err(|wrong| wrong.to_string())
}

#[test]
fn what_a_device_showed_is_compared_sector_by_sector() {
    let (file, backing, shown) = grown();
    assert_eq!(look(&file, &backing, &shown), Ok(()));
    for sector in 0..105 {
        let mut other = shown.clone();
        other[sector * 512 + 511] ^= 1;
        let wrong = look(&file, &backing, &other).unwrap_err();
        let place = format!("sector {sector} as the file has it is not as the device showed it");
        assert!(wrong.ends_with(&place), "{wrong}");
    }
    for len in [104 * 512, 106 * 512] {
        let mut other = shown.clone();
        other.resize(len, 0);
        let wrong = look(&file, &backing, &other).unwrap_err();
        assert!(wrong.contains("the file has 105 sectors"), "{wrong}");
    }
}

/// The defective double: a driver that puts the data of devices of 100 to 110 sectors a page
/// further on, and finds it again there. It agrees with itself in everything.
#[test]
fn another_data_offset_is_seen_however_well_the_driver_agrees_with_itself() {
    let (file, backing, shown) = grown();
    let data = Layout::of(Version::V3, 105 * 512, 4096).unwrap().data as usize;
    let mut moved = file[..data].to_vec();
    moved.resize(data + 4096, 0);
    moved.extend(&file[data..]);
    let wrong = look(&moved, &backing, &shown).unwrap_err();
    assert!(wrong.contains("dirty sector: sector 3 "), "{wrong}");
}

/// And one whose bitmap lies elsewhere: by the page, nothing in the file is dirty.
#[test]
fn another_bitmap_offset_is_seen_too() {
    let (file, backing, shown) = grown();
    let layout = Layout::of(Version::V3, 105 * 512, 4096).unwrap();
    let (at, len) = (layout.bitmap as usize, layout.bitmap_len as usize);
    let mut moved = file.clone();
    moved[at..at + len].fill(0);
    moved[at + 512..at + 512 + len].copy_from_slice(&file[at..at + len]);
    let wrong = look(&moved, &backing, &shown).unwrap_err();
    assert!(wrong.contains("clean sector: sector 3 "), "{wrong}");
}

#[test]
fn a_clean_sector_that_the_backing_file_does_not_have_is_wrong() {
    let (mut file, backing, shown) = grown();
    let layout = Layout::of(Version::V3, 105 * 512, 4096).unwrap();
    let (byte, mask) = layout.bit(102);
    file[(layout.bitmap + byte) as usize] &= !mask;
    let wrong = look(&file, &backing, &shown).unwrap_err();
    assert!(
        wrong.contains("sector 102 is clean, the backing file ends at sector 100"),
        "{wrong}"
    );
}

#[test]
fn what_a_reader_refuses_it_refuses() {
    let (file, _, _) = grown();
    let open = |bytes: &[u8]| CowFile::open(bytes).map(|cow| cow.layout);
    assert!(open(&file).is_ok());
    for len in [0, 7, 4127, 8192 + 13] {
        assert!(open(&file[..len]).is_err(), "{len} bytes");
    }
    // Magic, version, sector size, alignment, format, size, path.
    for (at, bytes) in [
        (0, &b"OOOO"[..]),
        (4, &[0, 0, 0, 4]),
        (20, &[0, 0, 4, 0]),
        (24, &[0, 0, 0, 0]),
        (24, &[0, 0, 1, 128]),
        (28, &[0, 0, 0, 1]),
        (12, &[0; 8]),
        (12, &[0x7f; 8]),
        (32, &[b'p'; 4096]),
    ] {
        let mut other = file.clone();
        other[at..at + bytes.len()].copy_from_slice(bytes);
        assert!(open(&other).is_err(), "{bytes:?} at {at}");
    }
}

/// The device of the golden file uses all 64 bits of its bitmap; with 61 sectors it does not.
#[test]
fn a_bit_past_the_last_sector_is_found() {
    let mut file = GOLDEN[3].1.to_vec();
    let last = file.len() - 1;
    file.resize(12_288 + 64 * 512, 0);
    assert!(CowFile::open(&file[..]).unwrap().bits_past_end().is_empty());
    let size_at = Version::V3.fields().size as usize;
    file[size_at..size_at + 8].copy_from_slice(&(61 * 512_u64).to_be_bytes());
    file[last] = 0x10;
    assert!(CowFile::open(&file[..]).unwrap().bits_past_end().is_empty());
    file[last] = 0x20;
    let found = CowFile::open(&file[..]).unwrap().bits_past_end();
    assert_eq!(found, vec![last as u64]);
}
