//! Recovery, and each repair of a check.

use std::path::Path;

use driver::cow::{BackingChange, Extension, Geometry, Version};
use driver::open::temporary_name;
use driver::resize::Strategy;
use driver::units::{Bytes, FileOffset};
use harness::sim::{FileContent, SimHost};
use harness::stamp::Stamp;
use userhelper::image::ImageError;
use userhelper::image::check::{Severity, check, check_and_repair};
use userhelper::image::open::{Trust, open_for_change};
use userhelper::image::resize::{carry_out, plan_resize};
use userhelper::planner::{Shrink, Wish};

use super::story::{Story, Tool, finish, go_on};
use super::world::{BACKING, COW, Layout, TIME, host, install_cow, install_disk, stamped};

const LEN: u64 = 75 * 512;
const NEW_LEN: u64 = LEN + 20 * 512;

/// A whole image, to be damaged; what its disk holds.
fn world() -> (SimHost, Vec<u8>) {
    let host = host();
    install_disk(&host, BACKING, &stamped(LEN, Stamp::BACKING), TIME);
    let layout = Layout {
        version: Version::V3,
        alignment: 4096,
        ours: true,
        size: LEN,
        dirty: &[(4, 2, Some(1)), (20, 12, Some(2)), (40, 3, None)],
    };
    let disk = install_cow(&host, COW, BACKING, layout);
    (host, disk)
}

type Damage = fn(&mut FileContent, &Geometry);

fn cut_short(file: &mut FileContent, geometry: &Geometry) {
    file.set_len(geometry.data_offset + Bytes(50 * 512) - FileOffset(0));
}

fn trailing_data(file: &mut FileContent, geometry: &Geometry) {
    file.write_at(&[0xaa; 10_000], geometry.data_end() + Bytes(3000));
}

fn bits_past_the_end(file: &mut FileContent, geometry: &Geometry) {
    file.write_at(&[0xf8], geometry.bitmap_offset + Bytes(9));
    file.write_at(&[0xff; 900], geometry.bitmap().end() + Bytes(300));
}

fn stale_data(file: &mut FileContent, geometry: &Geometry) {
    file.write_at(&[0xbb; 12_288], geometry.data_offset + Bytes(48 * 512));
}

fn damaged_extension(file: &mut FileContent, _: &Geometry) {
    file.write_at(&[0xcc], Extension::OFFSET + Bytes(20));
}

/// As an earlier ubdlab marked it, before anything was changed.
fn changing_backing(file: &mut FileContent, _: &Geometry) {
    let block = Extension {
        backing_size: Bytes(LEN),
        change: Some(BackingChange::default()),
    };
    file.write_at(&block.encode(), Extension::OFFSET);
}

const REPAIRS: [(&str, &[Damage]); 7] = [
    ("cut short", &[cut_short]),
    ("trailing data", &[trailing_data]),
    ("bits past the end", &[bits_past_the_end]),
    ("stale data", &[stale_data]),
    ("damaged extension block", &[damaged_extension]),
    ("interrupted change", &[changing_backing]),
    (
        "everything",
        &[
            stale_data,
            trailing_data,
            bits_past_the_end,
            changing_backing,
        ],
    ),
];

fn damaged(damages: &[Damage]) -> (SimHost, Vec<u8>) {
    let (host, disk) = world();
    let geometry = Geometry::new(Version::V3, Bytes(LEN), 4096).unwrap();
    let mut file = host.content(COW).unwrap();
    for damage in damages {
        damage(&mut file, &geometry);
    }
    host.install(COW, file);
    (host, disk)
}

fn severity(host: &SimHost) -> Option<Severity> {
    let (path, trust) = (Path::new(COW), Trust::Follow);
    check(host, path, trust, &mut go_on).unwrap().severity()
}

fn repair(host: &SimHost) -> Result<(), ImageError> {
    let (path, trust) = (Path::new(COW), Trust::Follow);
    check_and_repair(host, path, trust, &mut go_on).map(drop)
}

fn survives(name: &str, host: SimHost, disks: Vec<Vec<u8>>, tool: Tool<'_>) {
    let exceptions = Story {
        name,
        host,
        disks,
        sibling: None,
        tool,
        exception: None,
        done: &|host| {
            assert_eq!(severity(host), None);
            assert!(!host.paths().contains(&temporary_name(Path::new(COW))));
        },
    }
    .survives_every_crash();
    assert_eq!(exceptions, 0);
}

#[test]
fn each_repair() {
    for (name, damages) in REPAIRS {
        let (host, disk) = damaged(damages);
        assert!(severity(&host) >= Some(Severity::Leak), "{name}: not found");
        survives(name, host, vec![disk], &repair);
    }
}

/// A resize, interrupted half way.
fn interrupted(strategy: Strategy) -> (SimHost, Vec<Vec<u8>>) {
    let (host, disk) = world();
    let grow = |host: &SimHost| {
        let mut cow = open_for_change(host, Path::new(COW), Trust::Follow)?;
        let wish = Wish {
            new_size: Bytes(NEW_LEN),
            strategy: Some(strategy),
            shrink: Shrink::Refuse,
            online: false,
        };
        let plan = plan_resize(host, &cow, wish)?;
        carry_out(host, &mut cow, &plan, &mut go_on)
    };
    let whole = host.after_kill();
    grow(&whole).unwrap();
    let half = host.after_kill();
    half.crash_before_change(whole.changes() / 2);
    assert!(grow(&half).is_err());
    let mut grown = disk.clone();
    grown.resize(NEW_LEN as usize, 0);
    (half.after_kill(), vec![disk, grown])
}

#[test]
fn recovery_and_repair_of_an_interrupted_reflow() {
    let (host, disks) = interrupted(Strategy::Reflow);
    assert!(finish(&host.after_kill()).unwrap().resized.is_some());
    let recovery = |host: &SimHost| finish(host).map(drop);
    survives("recovery", host.after_kill(), disks.clone(), &recovery);
    survives("repair of a reflow", host, disks, &repair);
}

#[test]
fn recovery_of_a_change_of_the_backing_file() {
    let (host, disk) = damaged(&[changing_backing]);
    assert!(finish(&host.after_kill()).unwrap().backing_change);
    let recovery = |host: &SimHost| finish(host).map(drop);
    survives("recovery of a mark", host, vec![disk], &recovery);
}

#[test]
fn recovery_removes_what_a_rebuild_has_left() {
    let (host, disks) = interrupted(Strategy::Rebuild);
    assert!(finish(&host.after_kill()).unwrap().temporary);
    let recovery = |host: &SimHost| finish(host).map(drop);
    survives("recovery of a rebuild", host, disks, &recovery);
}
