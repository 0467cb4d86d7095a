//! Recovery and repair, of all that an interruption or a failing disk can leave.

use std::path::Path;

use driver::cow::{BackingChange, Extension, Geometry, Header, HeaderChange, Version};
use driver::open::temporary_name;
use driver::resize::Strategy;
use driver::units::{Bytes, FileOffset};
use harness::sim::{FileContent, SimHost};
use harness::stamp::Stamp;
use userhelper::image::ImageError;
use userhelper::image::check::{Severity, check, check_and_repair};
use userhelper::image::open::{Format, Trust, open_for_change};
use userhelper::image::recover::recover;
use userhelper::image::resize::{carry_out, plan_resize};
use userhelper::planner::{Shrink, Wish};

use super::story::{Story, Subject};
use crate::image_crashes::story::{Tool, go_on};
use crate::image_crashes::world::{
    BACKING, COW, Layout, OTHER, TIME, host, install_cow, install_disk, stamped,
};

const LEN: u64 = 75 * 512;
const NEW_LEN: u64 = LEN + 20 * 512;
const VERSIONS: [Version; 4] = [Version::V1, Version::V2, Version::V3Wide, Version::V3];

/// A whole image with another file beside its backing file that has the same content.
fn world(version: Version) -> (SimHost, Vec<u8>) {
    let alignment = if version == Version::V3 { 4096 } else { 512 };
    world_of(layout(version, alignment, version == Version::V3))
}

fn world_of(layout: Layout<'_>) -> (SimHost, Vec<u8>) {
    let host = host();
    let content = stamped(LEN, Stamp::BACKING);
    install_disk(&host, BACKING, &content, TIME);
    install_disk(&host, OTHER, &content, TIME + 1000);
    let disk = install_cow(&host, COW, BACKING, layout);
    (host, disk)
}

fn layout(version: Version, alignment: u32, ours: bool) -> Layout<'static> {
    Layout {
        version,
        alignment,
        ours,
        size: LEN,
        dirty: &[(4, 2, Some(1)), (20, 12, Some(2)), (40, 3, None)],
    }
}

/// Every version, and version 3 as stock tools and as we lay it out.
fn layouts() -> [Layout<'static>; 6] {
    [
        layout(Version::V1, 512, false),
        layout(Version::V2, 512, false),
        layout(Version::V3Wide, 512, false),
        layout(Version::V3, 512, false),
        layout(Version::V3, 4096, false),
        layout(Version::V3, 4096, true),
    ]
}

/// What only a check mends.
const EXTENSION: &str = "a damaged extension block";

fn recovery(host: &SimHost) -> Result<(), ImageError> {
    recover(host, Path::new(COW), Format::Cow, Trust::Follow, &mut go_on).map(drop)
}

fn repair(host: &SimHost) -> Result<(), ImageError> {
    let (path, trust) = (Path::new(COW), Trust::Follow);
    let checked = check_and_repair(host, path, trust, &mut go_on)?;
    match checked.severity() {
        // It says what it found, and ends with a status that is no success.
        Some(severity) if severity > Severity::Note => {
            let findings = format!("{:?}", checked.findings);
            Err(ImageError::refused(Path::new(COW), findings))
        }
        _ => Ok(()),
    }
}

/// Whatever was left, both take it up.
fn survives(name: &str, host: &SimHost, disks: &[Vec<u8>], tools: &[(&str, Tool<'_>)]) {
    for &(tool_name, tool) in tools {
        Story {
            name: &format!("{tool_name} of {name}"),
            host: host.after_kill(),
            tool,
            file: COW,
            subject: Subject::Image,
            damaged: name == EXTENSION,
            disks: disks.to_vec(),
            done: &|host| assert!(!host.paths().contains(&temporary_name(Path::new(COW)))),
        }
        .survives_every_failure();
    }
}

const BOTH: [(&str, Tool<'static>); 2] = [("recovery", &recovery), ("repair", &repair)];

#[test]
fn a_reflow_that_was_interrupted_anywhere() {
    // No other version has room for a journal, nor has this one where its bitmap follows at once.
    for (alignment, ours) in [(4096, true), (4096, false), (8192, true), (65536, false)] {
        reflow_interrupted_anywhere(layout(Version::V3, alignment, ours));
    }
}

fn reflow_interrupted_anywhere(layout: Layout<'_>) {
    let (before, disk) = world_of(layout);
    let grow = |host: &SimHost| {
        let mut cow = open_for_change(host, Path::new(COW), Trust::Follow)?;
        let wish = Wish {
            new_size: Bytes(NEW_LEN),
            strategy: Some(Strategy::Reflow),
            shrink: Shrink::Refuse,
            online: false,
        };
        let plan = plan_resize(host, &cow, wish)?;
        carry_out(host, &mut cow, &plan, &mut go_on)
    };
    let whole = before.after_kill();
    grow(&whole).unwrap();
    let mut grown = disk.clone();
    grown.resize(NEW_LEN as usize, 0);
    for at in (2..whole.changes()).step_by(4) {
        let host = before.after_kill();
        host.crash_before_change(at);
        // What frees space at the end may fail, and nobody minds.
        let _ = grow(&host);
        assert!(host.crashed());
        let name = format!(
            "a reflow, alignment {}, ours: {}, interrupted before change {at}",
            layout.alignment, layout.ours
        );
        survives(&name, &host, &[disk.clone(), grown.clone()], &BOTH);
    }
}

#[test]
fn a_new_file_that_was_left() {
    for version in VERSIONS {
        let (host, disk) = world(version);
        let half = FileContent::from_bytes(b"half of a file");
        host.install(temporary_name(Path::new(COW)), half);
        let name = format!("a new file beside {version}");
        survives(&name, &host, &[disk], &BOTH[..1]);
    }
}

#[test]
fn a_mark_and_a_half_changed_header() {
    let long = format!("{}/{}/other", "x".repeat(250), "y".repeat(250));
    for (version, new) in [
        (Version::V2, OTHER),
        (Version::V2, &*long),
        (Version::V3Wide, &*long),
        (Version::V3, &*long),
    ] {
        let (host, disk) = world(version);
        install_disk(&host, new, &stamped(LEN, Stamp::BACKING), TIME + 1000);
        let mut file = host.content(COW).unwrap();
        let start = file.to_bytes();
        let change = HeaderChange::new(&start, Path::new(new), TIME as u32 + 1000).unwrap();
        // The record, and of the header the last piece or the first sector.
        let last = change.header.last().unwrap();
        for (piece, len) in [(&change.header[0], 512), (last, last.bytes.len())] {
            let half = host.after_kill();
            file.write_at(&change.record[0].bytes, change.record[0].at);
            let mut halved = file.clone();
            let from = piece.bytes.len() - len.min(piece.bytes.len());
            match len {
                512 => halved.write_at(&piece.bytes[..512], piece.at),
                _ => halved.write_at(&piece.bytes[from..], piece.at),
            }
            if version == Version::V3 {
                halved.write_at(&marked().encode(), Extension::OFFSET);
            }
            half.install(COW, halved);
            let name = format!("a half changed header, {version}, path of {}", new.len());
            survives(&name, &half, std::slice::from_ref(&disk), &BOTH);
        }
    }
    let (host, disk) = world(Version::V3);
    let mut file = host.content(COW).unwrap();
    file.write_at(&marked().encode(), Extension::OFFSET);
    host.install(COW, file);
    survives("a mark", &host, &[disk], &BOTH);
}

fn marked() -> Extension {
    Extension {
        backing_size: Bytes(LEN),
        change: Some(BackingChange::default()),
    }
}

#[test]
fn what_a_check_repairs() {
    type Damage = fn(&mut FileContent, &Geometry);
    let damages: [(&str, Damage); 5] = [
        ("a file cut short", |file, geometry| {
            file.set_len(geometry.data_offset + Bytes(50 * 512) - FileOffset(0));
        }),
        ("data after the end", |file, geometry| {
            file.write_at(&[0xaa; 10_000], geometry.data_end() + Bytes(3000));
        }),
        ("bits after the end", |file, geometry| {
            file.write_at(&[0xf8], geometry.bitmap_offset + Bytes(9));
        }),
        ("stale data", |file, geometry| {
            file.write_at(&[0xbb; 12_288], geometry.data_offset + Bytes(48 * 512));
        }),
        (EXTENSION, |file, _| {
            file.write_at(&[0xcc], Extension::OFFSET + Bytes(20));
        }),
    ];
    for (name, damage) in damages {
        for layout in layouts() {
            if name == EXTENSION && !layout.ours {
                continue;
            }
            let (host, disk) = world_of(layout);
            let mut file = host.content(COW).unwrap();
            let header = Header::decode(&file.to_bytes()).unwrap();
            damage(&mut file, &Geometry::of(&header).unwrap());
            host.install(COW, file);
            let found = check(&host, Path::new(COW), Trust::Follow, &mut go_on).unwrap();
            assert!(found.severity() > Some(Severity::Note), "{name}: not found");
            survives(name, &host, &[disk], &BOTH[1..]);
        }
    }
}
