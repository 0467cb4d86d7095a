//! Headers that say that a reflow is under way, and journals that say how far it came.

use driver::cow::{Extension, JournalRecord};
use driver::open::OpenOptions;
use driver::units::{Bytes, Sector};

use super::{host_with, patched, read, refused, try_open, v3, write};

const RECORD: JournalRecord = JournalRecord {
    sequence: 7,
    frontier: Sector(9),
    old_size: Bytes(32768),
    old_alignment: 4096,
    new_size: Bytes(65536),
    new_alignment: 16384,
};

/// The file in the middle of a reflow: sector 63 has moved from 12288 to 32768 + 63 * 512,
/// sectors 1 and 8 have not.
fn marked(records: &[JournalRecord]) -> Vec<u8> {
    let mut bytes = patched(v3(), 12, &[0x80]);
    bytes[12288 + 63 * 512..].fill(0);
    bytes.resize(32768 + 65536, 0);
    bytes[32768 + 63 * 512..][..512].fill(191);
    let extension = Extension::new(Bytes(32768));
    bytes[4128..4608].copy_from_slice(&extension.encode());
    for record in records {
        let at = record.slot_offset().0 as usize;
        bytes[at..at + 512].copy_from_slice(&record.encode());
    }
    bytes
}

fn message(cow: &[u8]) -> String {
    refused(&host_with(cow), "ubda=/cow")
}

fn journal(at: u64, problem: &str) -> String {
    format!("/cow: byte {at}: an interrupted resize is recorded, but {problem}")
}

#[test]
fn data_is_found_on_either_side_of_the_frontier() {
    let host = host_with(&marked(&[RECORD]));
    let opened = try_open(&host, "ubda=/cow", OpenOptions::default()).unwrap();
    assert_eq!(opened.interrupted, Some(RECORD));
    let mut device = opened.device;
    assert_eq!(device.capacity().0, 64);
    assert_eq!(read(&mut device, 0, 3), [0, 129, 2]);
    assert_eq!(read(&mut device, 7, 3), [7, 136, 9]);
    assert_eq!(read(&mut device, 62, 2), [62, 191]);
    write(&mut device, 8, 200);
    write(&mut device, 9, 201);
    device.close().unwrap();
    let bytes = host.contents("/cow").unwrap();
    assert_eq!(bytes[12288 + 8 * 512], 200);
    assert_eq!(bytes[32768 + 9 * 512], 201);
    // Published where the old bitmap is.
    assert_eq!(bytes[8193], 0b11);
}

#[test]
fn the_later_record_counts() {
    let earlier = JournalRecord {
        sequence: 6,
        frontier: Sector(64),
        ..RECORD
    };
    let host = host_with(&marked(&[earlier, RECORD]));
    let opened = try_open(&host, "ubda=/cow", OpenOptions::default()).unwrap();
    assert_eq!(opened.interrupted, Some(RECORD));
}

#[test]
fn without_an_extension_block_a_mark_is_not_believed() {
    let mut bytes = marked(&[RECORD]);
    bytes[4128 + 16] ^= 1;
    let problem = "there is no valid extension block";
    assert_eq!(message(&bytes), journal(4128, problem));
    bytes[4128..4608].fill(0);
    assert_eq!(message(&bytes), journal(4128, problem));
}

#[test]
fn without_a_valid_record_nobody_knows_where_data_is() {
    let problem = "neither journal slot holds a valid record";
    assert_eq!(message(&marked(&[])), journal(4608, problem));
    let mut spoilt = marked(&[RECORD]);
    spoilt[5120 + 31] ^= 1;
    assert_eq!(message(&spoilt), journal(4608, problem));
}

/// A checksum proves nothing about who wrote the record.
#[test]
fn a_record_that_nobody_could_have_meant_is_not_valid() {
    for (alignment, size) in [(0, 65536), (384, 65536), (4096, 0), (4096, 1 << 63)] {
        let record = JournalRecord {
            new_alignment: alignment,
            new_size: Bytes(size),
            ..RECORD
        };
        assert_eq!(
            message(&marked(&[record])),
            journal(4608, "neither journal slot holds a valid record")
        );
    }
}

/// Each record after the first has moved a sector at least: 64 sectors give 65 records.
#[test]
fn a_record_number_that_no_reflow_comes_to() {
    for sequence in [66, 1 << 63, u64::MAX - 1, u64::MAX] {
        let record = JournalRecord { sequence, ..RECORD };
        let at = 4608 + sequence % 2 * 512;
        let problem = format!(
            "found record number {sequence}, expected at most 65 for the device's sectors: \
             no resize has written it"
        );
        assert_eq!(message(&marked(&[RECORD, record])), journal(at, &problem));
    }
    let last = JournalRecord {
        sequence: 65,
        ..RECORD
    };
    let host = host_with(&marked(&[last]));
    let opened = try_open(&host, "ubda=/cow", OpenOptions::default()).unwrap();
    assert_eq!(opened.interrupted, Some(last));
}

/// Nothing has to be moved to find out that the map could not take its sectors.
#[test]
fn a_new_size_that_no_device_has() {
    let record = JournalRecord {
        new_size: Bytes(1 << 49),
        ..RECORD
    };
    let sectors = (1_u64 << 49) / 512;
    assert_eq!(
        message(&marked(&[record])),
        format!(
            "/cow: a device of {sectors} sectors is larger than the 549755813888 sectors supported"
        )
    );
}

#[test]
fn a_record_about_another_layout() {
    let size = JournalRecord {
        old_size: Bytes(32256),
        ..RECORD
    };
    let alignment = JournalRecord {
        old_alignment: 8192,
        ..RECORD
    };
    for record in [size, alignment] {
        assert_eq!(
            message(&marked(&[record])),
            journal(4608, "the journal is about another layout")
        );
    }
}

#[test]
fn a_frontier_past_the_end() {
    let record = JournalRecord {
        frontier: Sector(65),
        ..RECORD
    };
    assert_eq!(
        message(&marked(&[record])),
        journal(4608, "the frontier is past the device's end")
    );
}

/// Nothing ever moves towards the start of the file.
#[test]
fn a_new_layout_that_does_not_lie_after_the_old_one() {
    let nearer = JournalRecord {
        new_alignment: 512,
        ..RECORD
    };
    let same = JournalRecord {
        new_alignment: 4096,
        ..RECORD
    };
    let smaller = JournalRecord {
        new_size: Bytes(16384),
        ..RECORD
    };
    for record in [nearer, same, smaller] {
        assert_eq!(
            message(&marked(&[record])),
            journal(
                4608,
                "the journal's new layout does not lie after the old one"
            )
        );
    }
}

#[test]
fn a_file_too_short_for_what_was_moved() {
    let bytes = marked(&[RECORD]);
    assert_eq!(
        message(&bytes[..98303]),
        "/cow: byte 98303: the file ends here, its data goes on up to byte 98304"
    );
}

/// The mark means nothing in the layouts that have no room for a journal.
#[test]
fn a_header_without_room_for_a_journal() {
    let mut bytes = patched(marked(&[RECORD]), 24, &512_u32.to_be_bytes());
    let record = JournalRecord {
        old_alignment: 512,
        ..RECORD
    };
    bytes[5120..5632].copy_from_slice(&record.encode());
    assert_eq!(
        message(&bytes),
        journal(4608, "the header has no room for a journal")
    );
}
