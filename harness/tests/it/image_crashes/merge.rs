//! The crash tables of the merge in place (`userhelper/src/image/merge.rs`) and of the change
//! of the backing file under it (`userhelper/src/image/backing_change.rs`).

use std::path::Path;

use driver::cow::Version;
use harness::sim::SimHost;
use harness::stamp::Stamp;
use userhelper::image::ImageError;
use userhelper::image::merge::{in_place, open_both};
use userhelper::image::open::{Trust, close};

use super::story::{Story, go_on, rows};
use super::world::{
    BACKING, COW, Layout, Run, SIBLING, TIME, disk_of, host, install_cow, install_disk, looked_at,
    stamped,
};

const SECTORS: u64 = 75;

/// Data, and holes within, before and after it.
const DIRTY: &[Run] = &[
    (2, 1, Some(1)),
    (9, 7, None),
    (16, 20, Some(2)),
    (36, 5, None),
    (41, 1, Some(3)),
    (74, 1, Some(4)),
];

/// Those of a device whose last three sectors have no bit, as in old versions.
const DIRTY_OLD: &[Run] = &[
    (2, 1, Some(1)),
    (9, 7, None),
    (16, 20, Some(2)),
    (70, 2, Some(4)),
];

/// What a grown device has past its backing file's end is dirty.
const GROWN: &[Run] = &[
    (3, 9, Some(1)),
    (40, 20, None),
    (SECTORS, 20, None),
    (80, 2, Some(2)),
];

fn merge(host: &SimHost) -> Result<(), ImageError> {
    let path = Path::new(COW);
    let mut cow = open_both(host, path, Trust::Follow)?;
    in_place(host, &mut cow, &mut go_on)?;
    close(cow.device, path)
}

/// Merges this COW file over a backing file of `backing_len` bytes, which has another COW file.
fn survives(name: &str, backing_len: u64, layout: Layout<'_>) {
    let host = host();
    install_disk(&host, BACKING, &stamped(backing_len, Stamp::BACKING), TIME);
    let disk = install_cow(&host, COW, BACKING, layout);
    let beside = Layout {
        version: Version::V3,
        alignment: 4096,
        ours: true,
        size: backing_len,
        dirty: &[(1, 3, Some(9)), (60, 4, Some(9))],
    };
    let sibling = install_cow(&host, SIBLING, BACKING, beside);
    let exceptions = Story {
        name,
        host,
        disks: vec![disk.clone()],
        sibling: Some(sibling),
        tool: &merge,
        exception: None,
        done: &|host| {
            let merged = host.content(BACKING).unwrap().to_bytes();
            assert!(merged.starts_with(&disk), "the backing file has the disk");
            let dirty = open_both(&host.after_kill(), Path::new(COW), Trust::Follow);
            assert_eq!(dirty.unwrap().device.map().dirty_count().0, 0);
            assert!(disk_of(host, SIBLING).is_err(), "the sibling is refused");
        },
    }
    .survives_every_crash();
    assert_eq!(exceptions, 0);
}

fn layout(version: Version, size: u64, dirty: &[Run]) -> Layout<'_> {
    Layout {
        version,
        alignment: if version == Version::V3 { 4096 } else { 512 },
        ours: version == Version::V3,
        size,
        dirty,
    }
}

#[test]
fn version_3() {
    let len = SECTORS * 512;
    survives("merge", len, layout(Version::V3, len, DIRTY));
}

#[test]
fn version_3_of_stock_tools() {
    let len = SECTORS * 512;
    let stock = Layout {
        ours: false,
        alignment: 512,
        ..layout(Version::V3, len, DIRTY)
    };
    survives("merge of a stock file", len, stock);
}

#[test]
fn older_versions_are_rebuilt_first() {
    let len = SECTORS * 512;
    for version in [Version::V1, Version::V2, Version::V3Wide] {
        let name = format!("merge of {version}");
        survives(&name, len, layout(version, len, DIRTY_OLD));
    }
}

#[test]
fn a_device_larger_than_its_backing_file() {
    let size = (SECTORS + 20) * 512;
    survives("grown", SECTORS * 512, layout(Version::V3, size, GROWN));
}

#[test]
fn a_partial_last_sector_in_every_version() {
    let len = SECTORS * 512 + 100;
    for version in [Version::V1, Version::V2, Version::V3Wide, Version::V3] {
        let name = format!("partial, {version}");
        survives(&name, len, layout(version, len, DIRTY_OLD));
    }
}

#[test]
fn a_grown_device_over_a_partial_last_sector() {
    let size = (SECTORS + 20) * 512;
    let len = SECTORS * 512 + 100;
    survives("partial and grown", len, layout(Version::V3, size, GROWN));
}

#[test]
fn nothing_to_merge() {
    let len = SECTORS * 512;
    let host = host();
    install_disk(&host, BACKING, &stamped(len, Stamp::BACKING), TIME);
    for version in [Version::V1, Version::V2, Version::V3] {
        let disk = install_cow(&host, COW, BACKING, layout(version, len, &[]));
        let sibling = install_cow(&host, SIBLING, BACKING, layout(Version::V3, len, DIRTY));
        let cow = host.content(COW).unwrap().to_bytes();
        merge(&host).unwrap();
        assert_eq!(host.modified_seconds(BACKING), Some(TIME), "{version}");
        assert!(host.content(COW).unwrap().to_bytes() == cow, "{version}");
        assert!(disk_of(&host, COW).unwrap() == disk, "{version}");
        assert!(disk_of(&host, SIBLING).unwrap() == sibling, "{version}");
    }
}

/// What the device was grown by is dirty, and nothing is written for it: the backing file is to be
/// as long as the device all the same.
#[test]
fn a_grown_device_without_data() {
    let (len, size) = (SECTORS * 512, (SECTORS + 20) * 512);
    survives(
        "empty and grown",
        len,
        layout(Version::V3, size, &[(SECTORS, 20, None)]),
    );
}

/// A device that is longer by less than a sector has no sector that could be dirty for it.
#[test]
fn a_backing_file_that_is_too_short_for_an_empty_device() {
    let (len, size) = (SECTORS * 512, SECTORS * 512 + 100);
    let host = host();
    install_disk(&host, BACKING, &stamped(len, Stamp::BACKING), TIME);
    let disk = install_cow(&host, COW, BACKING, layout(Version::V3, size, &[]));
    merge(&host).unwrap();
    let merged = host.content(BACKING).unwrap().to_bytes();
    assert_eq!(merged.len() as u64, size);
    assert!(merged.starts_with(&disk) && merged[disk.len()..] == [0; 100]);
    assert_ne!(host.modified_seconds(BACKING), Some(TIME));
    assert!(disk_of(&host, COW).unwrap() == disk);
}

/// The stories crash in every one of these, in a run that is not thorough too, and there are no
/// others.
#[test]
fn the_rows_of_the_table() {
    let host = host();
    let len = SECTORS * 512;
    let old = stamped(len, Stamp::BACKING);
    install_disk(&host, BACKING, &old, TIME);
    let disk = install_cow(&host, COW, BACKING, layout(Version::V3, len, DIRTY));
    let look = |host: &SimHost| {
        let (header, marked, dirty) = looked_at(host);
        let time = host.modified_seconds(BACKING).unwrap() as u32;
        let merged = match host.content(BACKING).unwrap().to_bytes() {
            now if now == old => "old",
            now if now == disk => "merged",
            _ => "part",
        };
        let time = if header.backing_mtime == time {
            "its time"
        } else {
            "another time"
        };
        let mark = if marked { "marked" } else { "" };
        (
            mark,
            time,
            merged,
            if dirty > 0 { "dirty" } else { "empty" },
        )
    };
    let expected = [
        ("", "its time", "old", "dirty"),
        ("marked", "its time", "old", "dirty"),
        ("marked", "another time", "old", "dirty"),
        ("marked", "another time", "part", "dirty"),
        ("marked", "another time", "merged", "dirty"),
        ("marked", "its time", "merged", "dirty"),
        ("marked", "its time", "merged", "empty"),
        ("", "its time", "merged", "empty"),
    ];
    assert_eq!(rows(&host, &merge, &look), expected);
}
