//! The format on disk is pinned here: headers in every layout, made independently of this
//! code (see `golden/README.md`), and the bytes of the extension block and the journal.

use std::path::Path;
use std::process::Command;

use driver::cow::{
    BackingChange, ByteOrder, Extension, ExtensionState, Geometry, Header, InPlace, JournalRecord,
    LONGEST_HEADER, OtherBacking, Sample, SampledRange, Version,
};
use driver::units::{Bytes, FileOffset, Sector, SectorCount, SectorRange};

/// A golden file, and what is in it.
struct Golden {
    name: &'static str,
    bytes: &'static [u8],
    version: Version,
    byte_order: ByteOrder,
    alignment: u32,
    bitmap_offset: u64,
    data_offset: u64,
}

macro_rules! golden {
    ($name:literal, $version:ident, $order:ident, $alignment:literal, $bitmap:literal, $data:literal) => {
        Golden {
            name: $name,
            bytes: include_bytes!(concat!("../golden/", $name)),
            version: Version::$version,
            byte_order: ByteOrder::$order,
            alignment: $alignment,
            bitmap_offset: $bitmap,
            data_offset: $data,
        }
    };
}

const GOLDEN: [Golden; 6] = [
    golden!("v1-little-endian.bin", V1, Little, 512, 280, 512),
    golden!("v1-big-endian.bin", V1, Big, 512, 280, 512),
    golden!("v2.bin", V2, Big, 512, 4120, 4608),
    golden!("v3.bin", V3, Big, 4096, 8192, 12288),
    golden!("v3-64-bit.bin", V3Wide, Big, 4096, 8192, 12288),
    golden!("v3-uml_mkcow.bin", V3, Big, 4096, 8192, 12288),
];

/// What a reader that does not know the version has of a file.
fn start(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(LONGEST_HEADER.0 as usize)]
}

#[test]
fn every_layout_is_read() {
    for golden in GOLDEN {
        let header = Header::decode(start(golden.bytes)).unwrap();
        let expected = Header {
            version: golden.version,
            byte_order: golden.byte_order,
            backing_path: b"/srv/uml/root.img".to_vec(),
            backing_mtime: 1_060_000_000,
            size: Bytes(32768),
            relocating: false,
            alignment: golden.alignment,
        };
        assert_eq!(header, expected, "{}", golden.name);
    }
}

#[test]
fn every_layout_is_written_byte_for_byte() {
    for golden in GOLDEN {
        let header = Header::decode(start(golden.bytes)).unwrap();
        let len = golden.version.header_len().0 as usize;
        let same = header.encode() == golden.bytes[..len];
        assert!(same, "{}", golden.name);
    }
}

#[test]
fn every_layout_has_bitmap_and_data_in_their_place() {
    for golden in GOLDEN {
        let header = Header::decode(start(golden.bytes)).unwrap();
        let geometry = Geometry::of(&header).unwrap();
        let name = golden.name;
        assert_eq!(geometry.bitmap_offset.0, golden.bitmap_offset, "{name}");
        assert_eq!(geometry.bitmap_len, Bytes(8), "{name}");
        assert_eq!(geometry.data_offset.0, golden.data_offset, "{name}");
        assert_eq!(geometry.mapped(), SectorCount(64), "{name}");
        let end = geometry.bitmap().end() - FileOffset(0);
        assert_eq!(golden.bytes.len() as u64, end.0, "{name}");
    }
}

#[test]
fn a_fresh_file_of_uml_mkcow_is_read() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fresh-uml_mkcow");
    // What an earlier run has left, if it has.
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).unwrap();
    let (cow, backing) = (directory.join("cow"), directory.join("root.img"));
    // The sector count of the 2003 disk is no multiple of 8.
    let file = std::fs::File::create(&backing).unwrap();
    file.set_len(210_819_584).unwrap();
    let mtime = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_060_000_000);
    file.set_modified(mtime).unwrap();
    match Command::new("uml_mkcow").arg(&cow).arg(&backing).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: uml_mkcow is not installed");
            return;
        }
        output => assert!(output.unwrap().status.success()),
    }
    let bytes = std::fs::read(&cow).unwrap();
    let header = Header::decode(start(&bytes)).unwrap();
    let expected = Header::v3(
        &backing.canonicalize().unwrap(),
        1_060_000_000,
        Bytes(210_819_584),
        4096,
    );
    assert_eq!(Ok(&header), expected.as_ref());
    let geometry = Geometry::of(&header).unwrap();
    assert_eq!(geometry.data_offset.0, 15 * 4096);
    assert_eq!(bytes.len() as u64, geometry.data_end().0);
    let after_header = Version::V3.header_len().0 as usize..geometry.data_offset.0 as usize;
    assert!(bytes[after_header].iter().all(|&byte| byte == 0));
    std::fs::remove_dir_all(&directory).unwrap();
}

/// The extension block of the 2003 disk; the checksum was computed by another program.
#[test]
fn the_extension_block_has_these_bytes() {
    let golden = hex("7562646c 6162580a 00000001 71fa1728 00000000 0c90da00");
    let extension = Extension::new(Bytes(210_819_584));
    let block = extension.encode();
    assert_eq!(Extension::OFFSET, FileOffset(4128));
    assert_eq!(block.len(), 480);
    assert_eq!(block[..golden.len()], golden);
    assert!(block[golden.len()..].iter().all(|&byte| byte == 0));
    assert_eq!(Extension::decode(&block), ExtensionState::Valid(extension));
}

/// As an earlier ubdlab marked it; the checksum was computed by another program.
#[test]
fn the_bare_flag_of_version_1_has_these_bytes() {
    let golden = hex("7562646c 6162580a 00000001 d2b29bc9 00000000 0c90da00 00000001");
    let mut block = [0; Extension::LEN];
    block[..golden.len()].copy_from_slice(&golden);
    let extension = Extension {
        backing_size: Bytes(210_819_584),
        change: Some(BackingChange::default()),
    };
    assert_eq!(Extension::decode(&block), ExtensionState::Valid(extension));
    assert_eq!(extension.encode(), block);
}

/// Both kinds of change at once; the checksum was computed by another program.
#[test]
fn the_block_of_a_change_has_these_bytes() {
    let golden = hex(
        "7562646c 6162580a 00000002 b9cc8eed 00000000 0c90da00 00000003 \
         3f2e5100 00000000 12c00000 00000000 0ca01c00 00000000 3f2e5101 \
         00000000 00000000 00000002 11111111 11111111 \
         00000000 00001234 00000001 22222222 33333333",
    );
    let mut block = [0; Extension::LEN];
    block[..golden.len()].copy_from_slice(&golden);
    let mut sample = Sample::new();
    for (start, count, before, after) in [
        (0, 2, 0x1111_1111, 0x1111_1111),
        (0x1234, 1, 0x2222_2222, 0x3333_3333),
    ] {
        let range = SectorRange::new(Sector(start), SectorCount(count));
        sample.push(SampledRange {
            range,
            before,
            after,
        });
    }
    let extension = Extension {
        backing_size: Bytes(210_819_584),
        change: Some(BackingChange {
            in_place: Some(InPlace {
                len: Bytes(211_819_520),
                latest: 1_060_000_001,
                sample,
            }),
            other: Some(OtherBacking {
                len: Bytes(314_572_800),
                mtime: 1_060_000_000,
            }),
        }),
    };
    assert_eq!(Extension::decode(&block), ExtensionState::Valid(extension));
    assert_eq!(extension.encode(), block);
}

#[test]
fn the_journal_record_has_these_bytes() {
    let golden = hex("7562646c 61624a0a 00000001 2dc79e63 00000000 00000007 \
         00000000 00001234 00000000 0c90da00 00000000 12c00000 00001000 00400000");
    let record = JournalRecord {
        sequence: 7,
        frontier: Sector(0x1234),
        old_size: Bytes(210_819_584),
        old_alignment: 4096,
        new_size: Bytes(314_572_800),
        new_alignment: 4 << 20,
    };
    let slot = record.encode();
    assert_eq!(slot[..golden.len()], golden);
    assert!(slot[golden.len()..].iter().all(|&byte| byte == 0));
    // Even numbers go to the first slot, odd ones to the second.
    assert_eq!(JournalRecord::slots_offset(), FileOffset(4608));
    assert_eq!(record.slot_offset(), FileOffset(5120));
    let next = JournalRecord {
        sequence: 8,
        ..record
    };
    assert_eq!(next.slot_offset(), FileOffset(4608));
    let mut slots = [0; JournalRecord::SLOTS_LEN];
    slots[512..].copy_from_slice(&slot);
    assert_eq!(JournalRecord::latest(&slots), Some(record));
}

/// While a reflow is under way, the highest bit of the size is set, and nothing else.
#[test]
fn the_mark_of_a_reflow_is_one_bit() {
    let golden = include_bytes!("../golden/v3.bin");
    let mut marked = golden.to_vec();
    marked[12] |= 0x80;
    let header = Header::decode(start(&marked)).unwrap();
    assert!(header.relocating);
    assert_eq!(header.size, Bytes(32768));
    assert_eq!(header.encode(), marked[..4128]);
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
    digits.chunks(2).map(|pair| byte(pair).unwrap()).collect()
}
