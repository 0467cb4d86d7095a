//! Giving a header another backing file, with every part of it that a power cut can leave: whole
//! sectors survive or do not, in each step on its own.

use std::path::Path;

use driver::cow::{ByteOrder, Header, HeaderChange, HeaderError, HeaderPiece, Version};
use driver::units::Bytes;

const SECTOR: usize = 512;
const OLD_TIME: u32 = 1_060_000_000;

fn header(version: Version, path: &str) -> Vec<u8> {
    let header = Header::v3(Path::new(path), OLD_TIME, Bytes(1 << 20), 4096).unwrap();
    let byte_order = match version {
        Version::V1 => ByteOrder::Little,
        _ => ByteOrder::Big,
    };
    let header = Header {
        version,
        byte_order,
        ..header
    };
    header.encode()
}

/// The parts of some pieces that are a sector's or less each, which survive whole or not at all.
fn atoms(pieces: &[HeaderPiece]) -> Vec<(usize, &[u8])> {
    let mut atoms = Vec::new();
    for piece in pieces {
        let (start, end) = (piece.at.0 as usize, piece.at.0 as usize + piece.bytes.len());
        let mut at = start;
        while at < end {
            let next = ((at / SECTOR + 1) * SECTOR).min(end);
            atoms.push((at, &piece.bytes[at - start..next - start]));
            at = next;
        }
    }
    atoms
}

/// Every header that a power cut can leave while these are written over `before`.
fn left_after(before: &[u8], pieces: &[HeaderPiece]) -> Vec<Vec<u8>> {
    let atoms = atoms(pieces);
    (0..1_u32 << atoms.len())
        .map(|survivors| {
            let mut bytes = before.to_vec();
            for (number, (at, atom)) in atoms.iter().enumerate() {
                if survivors >> number & 1 == 1 {
                    bytes[*at..at + atom.len()].copy_from_slice(atom);
                }
            }
            bytes
        })
        .collect()
}

fn all_of(before: &[u8], pieces: &[HeaderPiece]) -> Vec<u8> {
    left_after(before, pieces).pop().unwrap()
}

/// How many of the moments left a header that is half changed.
fn survives(before: &[u8], path: &str, mtime: u32) -> usize {
    let change = HeaderChange::new(before, Path::new(path), mtime).unwrap();
    let old = Header::decode(before).unwrap();
    let new = old.with_backing(Path::new(path), mtime).unwrap();
    for left in left_after(before, &change.record) {
        assert_eq!(
            Header::decode(&left),
            Ok(old.clone()),
            "the record is written"
        );
    }
    let recorded = all_of(before, &change.record);
    let mut half = 0;
    for left in left_after(&recorded, &change.header) {
        match Header::decode(&left) {
            Ok(header) => {
                assert!(header == old || header == new, "{header:?}");
                assert_eq!(HeaderChange::resume(&left), None);
            }
            Err(HeaderError::HalfChanged { .. }) => {
                half += 1;
                check_resumed(&left, &new);
            }
            Err(error) => panic!("{error}"),
        }
    }
    let changed = all_of(&recorded, &change.header);
    for left in left_after(&changed, &change.tidy) {
        assert_eq!(
            Header::decode(&left),
            Ok(new.clone()),
            "the record is cleared"
        );
    }
    // As if nothing had been there before: the next change is not misled.
    assert_eq!(all_of(&changed, &change.tidy), new.encode());
    half
}

/// A recovery that is cut short is begun again.
fn check_resumed(half: &[u8], new: &Header) {
    let rest = HeaderChange::resume(half).unwrap();
    assert!(rest.record.is_empty());
    let written = left_after(half, &rest.header);
    // A sample: the product of both is large.
    for left in written.iter().step_by(5) {
        if let Some(rest) = HeaderChange::resume(left) {
            let whole = all_of(&all_of(left, &rest.header), &rest.tidy);
            assert_eq!(whole, new.encode());
        } else {
            assert_eq!(Header::decode(left).as_ref(), Ok(new));
        }
    }
    let whole = all_of(&all_of(half, &rest.header), &rest.tidy);
    assert_eq!(whole, new.encode());
}

fn long(letter: &str, len: usize) -> String {
    format!("/{}", letter.repeat(len - 1))
}

#[test]
fn one_sector_takes_no_record() {
    for (version, path) in [
        (Version::V1, "/moved/root.img".to_string()),
        (Version::V3, long("n", 479)),
        (Version::V3Wide, long("n", 475)),
    ] {
        let before = header(version, "/root.img");
        let change = HeaderChange::new(&before, Path::new(&path), 7).unwrap();
        assert!(
            change.record.is_empty() && change.tidy.is_empty(),
            "{version}"
        );
        assert_eq!(survives(&before, &path, 7), 0);
    }
    // The time alone, or the path alone, is in one sector of version 2.
    let before = header(Version::V2, "/root.img");
    for (path, mtime) in [("/root.img", 7), ("/moved.img", OLD_TIME)] {
        let change = HeaderChange::new(&before, Path::new(path), mtime).unwrap();
        assert!(change.record.is_empty());
        assert_eq!(survives(&before, path, mtime), 0);
    }
}

#[test]
fn path_and_time_in_two_sectors() {
    let before = header(Version::V2, "/root.img");
    assert_eq!(survives(&before, "/moved/root.img", 7), 2);
}

#[test]
fn long_paths() {
    for version in [Version::V2, Version::V3, Version::V3Wide] {
        for (old, new) in [(9, 700), (700, 9), (700, 701), (1900, 1950), (2500, 1400)] {
            let before = header(version, &long("o", old));
            assert!(
                survives(&before, &long("n", new), 7) > 0 || new < 480,
                "{version}"
            );
        }
    }
}

/// What some writers leave after the NUL of the path.
#[test]
fn rubbish_after_the_path() {
    for version in [Version::V2, Version::V3, Version::V3Wide] {
        let mut before = header(version, "/root.img");
        let path_at = version.path_offset().0 as usize;
        before[path_at + 10..path_at + 4095].fill(b'x');
        for new in ["/moved/root.img", &long("n", 600)] {
            survives(&before, new, 7);
        }
    }
}

/// A record that was not cleared, whatever the header was given after that.
#[test]
fn a_record_that_stayed() {
    let paths = ["/a.img".to_string(), "/bb.img".into(), long("c", 600)];
    for version in [Version::V2, Version::V3, Version::V3Wide] {
        for (old, new, third) in [(0, 1, 0), (0, 1, 2), (1, 2, 0), (2, 0, 2), (0, 2, 1)] {
            for (time, third_time) in [(7, OLD_TIME), (7, 7), (OLD_TIME, 7), (7, 8)] {
                let before = header(version, &paths[old]);
                let change = HeaderChange::new(&before, Path::new(&paths[new]), time).unwrap();
                for left in left_after(&all_of(&before, &change.record), &change.header) {
                    if Header::decode(&left).is_ok() {
                        survives(&left, &paths[third], third_time);
                    }
                }
            }
        }
    }
}

#[test]
fn paths_that_leave_no_room_for_the_record() {
    for (version, most) in [
        (Version::V2, 2022),
        (Version::V3, 2010),
        (Version::V3Wide, 2008),
    ] {
        let before = header(version, "/root.img");
        assert!(HeaderChange::new(&before, Path::new(&long("n", most)), 7).is_ok());
        let path = long("n", most + 2);
        let error = HeaderChange::new(&before, Path::new(&path), 7).unwrap_err();
        let expected = HeaderError::NoRoomForChange {
            offset: version.path_offset().0,
            old: 9,
            new: most + 2,
        };
        assert_eq!(error, expected, "{version}");
    }
    // It takes none where only the time changes.
    let before = header(Version::V2, &long("o", 4000));
    assert!(HeaderChange::new(&before, Path::new(&long("o", 4000)), 7).is_ok());
}
