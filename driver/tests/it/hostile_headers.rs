//! Whatever a file holds, opening it ends in a device or in an error: no panic, and no memory
//! that the file does not justify.

use proptest::prelude::*;

use crate::live::{SIZE, bring_up, host_with, live_with};
use driver::cow::{
    ByteOrder, Extension, Geometry, Header, JournalRecord, LONGEST_HEADER, MAX_SECTORS, Version,
};
use driver::host::HostFile;
use driver::memory::MemoryHost;
use driver::open::{OpenOptions, Trust, open};
use driver::units::{Bytes, FileOffset, SECTOR_SIZE, Sector, SectorCount};

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![
        Just(Version::V1),
        Just(Version::V2),
        Just(Version::V3),
        Just(Version::V3Wide)
    ]
}

/// Any header that decoding can give.
fn header() -> impl Strategy<Value = Header> {
    let order = prop_oneof![Just(ByteOrder::Little), Just(ByteOrder::Big)];
    let size = prop_oneof![SECTOR_SIZE..1 << 24, SECTOR_SIZE..1 << 62];
    let alignment = prop_oneof![Just(8_u32), 1..1_u32 << 22];
    let path = prop::collection::vec(1..=255_u8, 1..255);
    (
        version(),
        order,
        size,
        alignment,
        path,
        any::<(u32, bool)>(),
    )
        .prop_map(
            |(version, byte_order, size, alignment, backing_path, (backing_mtime, relocating))| {
                let old = matches!(version, Version::V1 | Version::V2);
                Header {
                    version,
                    byte_order,
                    backing_path,
                    backing_mtime,
                    size: Bytes(size),
                    relocating: relocating && version == Version::V3,
                    alignment: if old { 512 } else { alignment * 512 },
                }
            },
        )
}

/// The bytes that tell one header from another, so that a mutation hits them.
fn interesting_place() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => 0..48_usize,
        1 => 256..288_usize,
        1 => 4096..4160_usize,
        2 => 4608..4672_usize,
        2 => 5120..5176_usize,
        1 => 8192..8200_usize,
        1 => 0..20_000_usize,
    ]
}

fn interesting_value() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![
        Just(0_u64),
        Just(1),
        Just(511),
        Just(512),
        Just(1 << 63),
        Just(i64::MAX as u64),
        Just(u64::MAX),
        any::<u64>(),
    ];
    (number, 1..=8_usize).prop_map(|(number, len)| number.to_be_bytes()[8 - len..].to_vec())
}

/// A good image over `/disk` in any layout, with a journal in V3.
fn image(version: Version, relocating: bool, record: JournalRecord) -> Vec<u8> {
    let old = matches!(version, Version::V1 | Version::V2);
    let header = Header {
        version,
        byte_order: ByteOrder::Big,
        backing_path: b"/disk".to_vec(),
        backing_mtime: 0,
        size: Bytes(SIZE),
        relocating: relocating && version == Version::V3,
        alignment: if old { 512 } else { 8192 },
    };
    let geometry = Geometry::of(&header).unwrap();
    let mut bytes = vec![0; (1 << 17) + SIZE as usize];
    let mut put = |at: FileOffset, part: &[u8]| {
        bytes[at.0 as usize..at.0 as usize + part.len()].copy_from_slice(part);
    };
    put(FileOffset(0), &header.encode());
    if version == Version::V3 {
        let extension = Extension::new(Bytes(SIZE));
        put(Extension::OFFSET, &extension.encode());
        put(record.slot_offset(), &record.encode());
    }
    put(geometry.bitmap_offset, &[0b10, 0, 0, 0xff, 0, 0, 0, 0x80]);
    bytes
}

/// Any record, and often one that fits [`image`].
fn record() -> impl Strategy<Value = JournalRecord> {
    let size = |usual| prop_oneof![16 => Just(usual), 1 => any::<u64>()];
    let alignment = |usual| prop_oneof![16 => Just(usual), 1 => Just(0), 1 => any::<u32>()];
    let frontier = prop_oneof![4 => 0..66_u64, 1 => any::<u64>()];
    let sequence = prop_oneof![
        8 => 0..67_u64,
        1 => Just(u64::MAX),
        1 => Just(u64::MAX - 1),
        1 => any::<u64>(),
    ];
    (
        sequence,
        frontier,
        size(SIZE),
        alignment(8192),
        size(SIZE * 2),
        alignment(1 << 15),
    )
        .prop_map(
            |(sequence, frontier, old_size, old_alignment, new_size, new_alignment)| {
                JournalRecord {
                    sequence,
                    frontier: Sector(frontier),
                    old_size: Bytes(old_size),
                    old_alignment,
                    new_size: Bytes(new_size),
                    new_alignment,
                }
            },
        )
}

/// Opens these bytes as a COW file, and if they are one, reads, writes and closes the device.
fn exercise(cow: &[u8], trust: Trust) {
    let host = host_with(cow, Bytes(cow.len() as u64));
    if let Some(opened) = bring_up(&host, trust) {
        live_with(opened.device);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8192))]

    #[test]
    fn any_header_is_read_as_it_was_written(header in header()) {
        let bytes = header.encode();
        prop_assert_eq!(bytes.len() as u64, header.version.header_len().0);
        // A wide header needs its padding, a narrow one nothing after it.
        prop_assert_eq!(Header::decode(&bytes), Ok(header.clone()));
        let mut longer = bytes;
        longer.resize(LONGEST_HEADER.0 as usize, 0xaa);
        prop_assert_eq!(Header::decode(&longer), Ok(header));
    }

    #[test]
    fn any_bytes_are_a_header_or_an_error(
        mut bytes in prop::collection::vec(any::<u8>(), 0..4200),
        magic in prop::option::of(0..8_u32),
        little in any::<bool>(),
    ) {
        if let Some(version) = magic && bytes.len() >= 8 {
            bytes[..8].copy_from_slice(&[b"OOOM".as_slice(), &version.to_be_bytes()].concat());
            if little {
                bytes[..4].reverse();
                bytes[4..8].reverse();
            }
        }
        if let Ok(header) = Header::decode(&bytes) {
            let geometry = Geometry::of(&header).unwrap();
            prop_assert!(geometry.data_end().0 <= i64::MAX as u64);
        }
    }

    #[test]
    fn a_spoilt_image_is_a_device_or_an_error(
        version in version(),
        relocating in any::<bool>(),
        record in record(),
        patches in prop::collection::vec((interesting_place(), interesting_value()), 0..4),
        len in prop_oneof![3 => Just(usize::MAX), 1 => 0..60_000_usize],
        trust in prop_oneof![Just(Trust::Follow), Just(Trust::Confine), Just(Trust::Guessed)],
    ) {
        let mut bytes = image(version, relocating, record);
        for (at, value) in patches {
            bytes[at..at + value.len()].copy_from_slice(&value);
        }
        bytes.truncate(len);
        exercise(&bytes, trust);
    }
}

/// The map has whole sectors in pages of 4096 bytes, and two pages of them here.
#[test]
fn a_bit_of_a_partial_last_sector_in_a_page_of_its_own() {
    let size = 2 * 4096 * 8 * SECTOR_SIZE + 100;
    let host = MemoryHost::new();
    host.file("/disk", &[]).set_len(Bytes(size)).unwrap();
    let header = Header::v3("/disk".as_ref(), 0, Bytes(size), 4096).unwrap();
    let geometry = Geometry::of(&header).unwrap();
    let file = host.file("/cow", &header.encode());
    file.set_len(geometry.data_end() - FileOffset(0)).unwrap();
    file.write_all_at(&[0xff; 8193], geometry.bitmap_offset)
        .unwrap();
    let opened = open(&host, &"ubda=/cow".parse().unwrap(), OpenOptions::default());
    let device = opened.unwrap().device;
    assert_eq!(device.capacity(), SectorCount(2 * 4096 * 8));
    assert_eq!(device.map().dirty_count(), device.capacity());
}

/// Only a file as long as its bitmap makes anything be allocated, and never for more than the
/// largest device there is.
#[test]
fn a_size_that_the_file_is_too_short_for_costs_nothing() {
    for size in [
        1 << 40,
        MAX_SECTORS.bytes().0,
        MAX_SECTORS.bytes().0 * 2,
        1 << 62,
    ] {
        let host = MemoryHost::new();
        let header = Header::v3("/disk".as_ref(), 0, Bytes(size), 4096).unwrap();
        let file = host.file("/cow", &header.encode());
        file.set_len(Bytes(1 << 20)).unwrap();
        let spec = "ubda=/cow".parse().unwrap();
        let error = open(&host, &spec, OpenOptions::default()).map(drop);
        let expected = format!(
            "/cow: byte 1048576: the file ends here, its bitmap goes on up to byte {}",
            8192 + size / 4096
        );
        assert_eq!(error.unwrap_err().to_string(), expected);
        // Long enough, with holes: then the largest device is the limit.
        file.set_len(Bytes(8192 + size / 4096)).unwrap();
        let error = open(&host, &spec, OpenOptions::default()).map(drop);
        let message = error.unwrap_err().to_string();
        if size > MAX_SECTORS.bytes().0 {
            let sectors = size / 512;
            assert_eq!(
                message,
                format!(
                    "/cow: a device of {sectors} sectors is larger than \
                     the 549755813888 sectors supported"
                )
            );
        } else {
            let missing = "/disk: opening the backing file: no such file or directory";
            assert_eq!(message, missing);
        }
    }
}
