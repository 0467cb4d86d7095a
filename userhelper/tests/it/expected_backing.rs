//! Who opens an image and who only looks at it come to one answer about its backing file.

use std::path::Path;

use driver::cow::{BackingChange, Extension, Header, InPlace, OtherBacking, Sample, SampledRange};
use driver::memory::MemoryHost;
use driver::open::{NotInChange, OpenError, OpenOptions, open};
use driver::units::{Bytes, Sector, SectorCount, SectorRange};
use userhelper::image::info::{BackingDifference, BackingState, info};
use userhelper::image::open::Trust;

use crate::exercise::{BACKING, COW, SIZE, image};

const MTIME: i64 = 1_060_000_000;
const CONTENT: u8 = 5;

/// The file itself is being changed, from [`SIZE`] to twice of it.
fn in_place() -> InPlace {
    let digest = |byte| SampledRange::digest(&[byte; 512]);
    let mut sample = Sample::new();
    sample.push(SampledRange {
        range: SectorRange::new(Sector(1), SectorCount(1)),
        before: digest(CONTENT),
        after: digest(CONTENT + 1),
    });
    InPlace {
        len: Bytes(2 * SIZE),
        latest: MTIME + 5,
        sample,
    }
}

/// The blocks that a COW file may have, each with a name.
fn extensions() -> Vec<(&'static str, Option<Extension>)> {
    let other = Some(OtherBacking {
        len: Bytes(3 * SIZE),
        mtime: 77,
    });
    let marked = |in_place, other| {
        Some(Extension {
            backing_size: Bytes(SIZE),
            change: Some(BackingChange { in_place, other }),
        })
    };
    vec![
        ("none", None),
        (
            "settled",
            Some(Extension {
                backing_size: Bytes(SIZE),
                change: None,
            }),
        ),
        (
            "another length than the header's",
            Some(Extension {
                backing_size: Bytes(4 * SIZE),
                change: None,
            }),
        ),
        ("a mark of an earlier version", marked(None, None)),
        ("in place", marked(Some(in_place()), None)),
        ("another file", marked(None, other)),
        ("both", marked(Some(in_place()), other)),
    ]
}

#[test]
fn opening_and_looking_come_to_one_answer() {
    let mut answers = [0; 4];
    for (name, extension) in extensions() {
        let header = Header::v3(Path::new(BACKING), MTIME as u32, Bytes(SIZE), 4096).unwrap();
        let mut cow = image(&header, &[(3, 2)]);
        if let Some(extension) = extension {
            let block = extension.encode();
            let at = Extension::OFFSET.0 as usize;
            cow[at..at + block.len()].copy_from_slice(&block);
        }
        for len in [512, SIZE - 1, SIZE, 2 * SIZE, 3 * SIZE, 4 * SIZE] {
            for mtime in [0, 77, MTIME, MTIME + 1] {
                for content in [CONTENT, CONTENT + 1, CONTENT + 2] {
                    let host = MemoryHost::new();
                    host.file(COW, &cow);
                    host.file(BACKING, &vec![content; len as usize]);
                    host.set_modified(BACKING, mtime).unwrap();
                    let what = format!("{name}: {len} bytes of {content} at {mtime}");
                    answers[agree(&host, &what)] += 1;
                }
            }
        }
    }
    // Each of the answers was given.
    assert!(answers.iter().all(|&count| count > 0), "{answers:?}");
}

/// Which of the answers both give.
fn agree(host: &MemoryHost, what: &str) -> usize {
    let specification = format!("ubdar={COW}").parse().unwrap();
    let opened = open(host, &specification, OpenOptions::default());
    let looked = info(host, Path::new(COW), Trust::Follow).unwrap().backing;
    let (answer, right) = match (&opened, &looked) {
        (Ok(_), BackingState::Matches) => (0, true),
        // What only looks does not read.
        (Ok(_), BackingState::Unknown(_)) => (1, true),
        (
            Err(OpenError::NotInChange {
                problem: NotInChange::Content { .. },
                ..
            }),
            BackingState::Unknown(_),
        ) => (1, true),
        (Err(error), BackingState::Differs(difference)) => (
            if matches!(difference, BackingDifference::NotInChange(_)) {
                2
            } else {
                3
            },
            match (error, difference) {
                (OpenError::BackingSize { found, .. }, BackingDifference::Size(size)) => {
                    found == size
                }
                (OpenError::BackingModified { found, .. }, BackingDifference::Modified(time)) => {
                    found == time
                }
                (OpenError::NotInChange { problem, .. }, BackingDifference::NotInChange(other)) => {
                    problem == other
                }
                _ => false,
            },
        ),
        _ => (0, false),
    };
    assert!(
        right,
        "{what}: opened {:?}, looked {looked:?}",
        opened.err()
    );
    answer
}
