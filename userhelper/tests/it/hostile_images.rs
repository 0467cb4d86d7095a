//! Whatever a file holds, every image tool ends with a result or an error: no panic, no hang.

use std::ops::ControlFlow;
use std::path::Path;

use crate::exercise::{BACKING, COW, SIZE, exercise, host, image};
use driver::cow::{ByteOrder, Extension, Header, JournalRecord, Version};
use driver::units::{Bytes, Sector};
use proptest::prelude::*;
use userhelper::image::open::{Format, Trust};
use userhelper::image::recover::recover;

fn header(version: Version, alignment: u32) -> Header {
    let order = match version {
        Version::V1 => ByteOrder::Little,
        _ => ByteOrder::Big,
    };
    let header = Header::v3(Path::new(BACKING), 0, Bytes(SIZE), alignment).unwrap();
    Header {
        version,
        byte_order: order,
        alignment: match version {
            Version::V1 | Version::V2 => 512,
            _ => alignment,
        },
        ..header
    }
}

const DIRTY: [(u64, u64); 3] = [(0, 1), (7, 4), (60, 4)];

#[test]
fn good_images_of_every_version_pass_through_every_tool() {
    for version in [Version::V1, Version::V2, Version::V3, Version::V3Wide] {
        for alignment in [512, 4096, 65536] {
            exercise(&image(&header(version, alignment), &DIRTY));
        }
    }
}

/// A V3 image in the middle of a reflow, with this record.
fn relocating(sequence: u64, frontier: u64, new_sectors: u64, new_alignment: u32) -> Vec<u8> {
    let mut header = header(Version::V3, 4096);
    let record = JournalRecord {
        sequence,
        frontier: Sector(frontier),
        old_size: header.size,
        old_alignment: header.alignment,
        new_size: Bytes(new_sectors * 512),
        new_alignment,
    };
    let mut bytes = image(&header, &DIRTY);
    header.relocating = true;
    bytes[..512].copy_from_slice(&header.first_sector());
    let at = record.slot_offset().0 as usize;
    bytes[at..at + 512].copy_from_slice(&record.encode());
    bytes.resize(bytes.len() + (4 << 20), 0);
    bytes
}

/// Recovering counts on from the number that stands there.
#[test]
fn the_largest_record_number_is_refused_by_every_tool() {
    for sequence in [u64::MAX, u64::MAX - 1, u64::MAX / 2 + 1] {
        let bytes = relocating(sequence, 64, 128, 1 << 20);
        exercise(&bytes);
        let host = host(&bytes);
        let path = Path::new(COW);
        let error = recover(&host, path, Format::Cow, Trust::Follow, &mut |_, _| {
            ControlFlow::Continue(())
        });
        let message = error.unwrap_err().to_string();
        let expected = format!("found record number {sequence}, expected at most 65");
        assert!(message.contains(&expected), "{message}");
        assert_eq!(host.contents(COW), Some(bytes));
    }
}

fn any_image() -> impl Strategy<Value = Vec<u8>> {
    let version = prop_oneof![
        Just(Version::V1),
        Just(Version::V2),
        Just(Version::V3),
        Just(Version::V3Wide)
    ];
    let alignment = prop_oneof![Just(512_u32), Just(4096), Just(65536)];
    let settled = (
        version,
        alignment,
        prop::collection::vec((0..64_u64, 1..9_u64), 0..6),
    )
        .prop_map(|(version, alignment, dirty)| {
            let within = |(start, count): (u64, u64)| (start, count.min(64 - start));
            let dirty: Vec<_> = dirty.into_iter().map(within).collect();
            image(&header(version, alignment), &dirty)
        });
    let alignment = prop_oneof![Just(8192_u32), Just(1 << 20), Just(4096)];
    let sequence = prop_oneof![4 => 1..66_u64, 1 => Just(u64::MAX - 1), 1 => Just(u64::MAX)];
    let moving = (sequence, 0..70_u64, 60..200_u64, alignment).prop_map(
        |(sequence, frontier, sectors, alignment)| {
            relocating(sequence, frontier, sectors, alignment)
        },
    );
    prop_oneof![3 => settled, 1 => moving]
}

/// Where a change of a byte means something: header, blocks, bitmap.
fn place() -> impl Strategy<Value = usize> {
    prop_oneof![
        0..40_usize,
        264..300_usize,
        4100..4140_usize,
        (Extension::OFFSET.0 as usize)..4640,
        4600..5700_usize,
        8190..8210_usize,
        0..70_000_usize,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_image_ends_in_a_result_or_an_error(
        image in any_image(),
        changes in prop::collection::vec((place(), any::<u8>()), 0..6),
        len in prop_oneof![4 => Just(usize::MAX), 1 => 0..100_000_usize],
    ) {
        let mut image = image;
        for (at, value) in changes {
            if let Some(byte) = image.get_mut(at) {
                *byte = value;
            }
        }
        image.truncate(len);
        exercise(&image);
    }

    #[test]
    fn bytes_of_any_kind_end_in_a_result_or_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..9000),
        magic in any::<bool>(),
        version in 0..5_u8,
    ) {
        let mut bytes = bytes;
        if magic && bytes.len() > 8 {
            bytes[..8].copy_from_slice(&[b'O', b'O', b'O', b'M', 0, 0, 0, version]);
        }
        exercise(&bytes);
    }
}
