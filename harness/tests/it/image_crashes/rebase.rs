//! The crash table of the rebase (`userhelper/src/image/rebase.rs`), also where the header changes
//! in several sectors: with a long path, and in version 2.

use std::path::Path;

use driver::cow::{HeaderError, Version};
use driver::host::{HostFile, HostNames};
use driver::open::OpenError;
use driver::units::FileOffset;
use harness::sim::SimHost;
use harness::stamp::Stamp;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use userhelper::image::open::{Trust, open_cow};
use userhelper::image::rebase::{rebase, rebase_unsafely};

use super::story::{DEPTH, Exception, Story, finish, go_on, rows};
use super::world::{
    BACKING, COW, Layout, OTHER, SIBLING, TIME, assert_same, disk_of, host, install_cow,
    install_disk, looked_at, stamped,
};
use crate::world::explore::{Context, crash_images};

const SECTORS: u64 = 75;
const LEN: u64 = SECTORS * 512;

/// The old backing file has a hole.
fn old_content() -> Vec<u8> {
    let mut content = stamped(LEN, Stamp::BACKING);
    content[8192..16384].fill(0);
    content
}

/// The new one has another, and other data here and there.
fn new_content(len: u64) -> Vec<u8> {
    let mut content = stamped(len, Stamp::BACKING);
    content[20480..24576].fill(0);
    Stamp(7).fill(driver::units::Sector(3), &mut content[3 * 512..5 * 512]);
    Stamp(7).fill(driver::units::Sector(60), &mut content[60 * 512..64 * 512]);
    content
}

fn layout(version: Version) -> Layout<'static> {
    Layout {
        version,
        alignment: if version == Version::V3 { 4096 } else { 512 },
        ours: version == Version::V3,
        size: LEN,
        dirty: &[(4, 2, Some(1)), (30, 12, Some(2)), (62, 1, None)],
    }
}

/// Rebases from `old` to `new`, which has `new_len` bytes. Returns how many images needed the
/// exception.
fn survives(
    name: &str,
    (old, new): (&str, &str),
    new_len: u64,
    layout: Layout<'_>,
    exception: Option<Exception<'_>>,
) -> u64 {
    let host = host();
    install_disk(&host, old, &old_content(), TIME);
    install_disk(&host, new, &new_content(new_len), TIME + 1000);
    let disk = install_cow(&host, COW, old, layout);
    let sibling = install_cow(&host, SIBLING, old, layout);
    Story {
        name,
        host,
        disks: vec![disk],
        sibling: Some(sibling),
        tool: &|host| {
            rebase(
                host,
                Path::new(COW),
                Path::new(new),
                Trust::Follow,
                &mut go_on,
            )
            .map(drop)
        },
        exception,
        done: &|host| {
            let cow = open_cow(&host.after_kill(), Path::new(COW), Trust::Follow).unwrap();
            assert_eq!(cow.backing_path, Path::new(new));
            assert!(disk_of(host, SIBLING).is_ok(), "nobody else is concerned");
        },
    }
    .survives_every_crash()
}

fn never(name: &str, new_len: u64, layout: Layout<'_>) {
    assert_eq!(survives(name, (BACKING, OTHER), new_len, layout, None), 0);
}

#[test]
fn version_3_to_a_file_of_the_same_size() {
    never("same size", LEN, layout(Version::V3));
}

#[test]
fn version_3_to_a_shorter_file() {
    never("shorter", LEN - 10 * 512, layout(Version::V3));
    never("partial", LEN - 10 * 512 + 100, layout(Version::V3));
}

#[test]
fn version_3_to_a_longer_file() {
    never("longer", LEN + 20 * 512, layout(Version::V3));
}

#[test]
fn a_stock_file_gets_its_extension_block() {
    let stock = Layout {
        ours: false,
        alignment: 512,
        ..layout(Version::V3)
    };
    never("stock", LEN + 20 * 512, stock);
}

/// As [`layout`], with nothing in the last sectors, which have no bit in the older versions.
fn old_layout(version: Version) -> Layout<'static> {
    Layout {
        dirty: &[(4, 2, Some(1)), (30, 12, Some(2))],
        ..layout(version)
    }
}

#[test]
fn version_1_keeps_its_bitmap_which_begins_in_the_first_sector() {
    never("version 1", LEN, old_layout(Version::V1));
}

/// Path and time are in the first sector.
#[test]
fn the_wide_version_3() {
    never("wide version 3", LEN, old_layout(Version::V3Wide));
}

/// The stories crash in every one of these, and there are no others.
#[test]
fn the_rows_of_the_table() {
    let host = host();
    install_disk(&host, BACKING, &old_content(), TIME);
    install_disk(&host, OTHER, &new_content(LEN), TIME + 1000);
    install_cow(&host, COW, BACKING, layout(Version::V3));
    let look = |host: &SimHost| {
        let (header, marked, dirty) = looked_at(host);
        let name = header.backing_path().to_str().unwrap().to_owned();
        (marked, name, header.backing_mtime - TIME as u32, dirty)
    };
    let row = |marked, name: &str, time, dirty| (marked, name.to_owned(), time, dirty);
    // 15 sectors are dirty; 3, 16 to 29, 42 to 47, 60, 61 and 63 that are not differ, and bring
    // the rest of their blocks of eight.
    let expected = [
        row(false, BACKING, 0, 15),
        row(false, BACKING, 0, 48),
        row(true, BACKING, 0, 48),
        row(true, OTHER, 1000, 48),
        row(false, OTHER, 1000, 48),
    ];
    let tool = |host: &SimHost| {
        let (cow, other) = (Path::new(COW), Path::new(OTHER));
        rebase(host, cow, other, Trust::Follow, &mut go_on).map(drop)
    };
    assert_eq!(rows(&host, &tool, &look), expected);
}

/// Headers that change in several sectors: some images do not open until the recovery has finished
/// the header, and there is no other exception.
fn needs_recovery(name: &str, (old, new): (&str, &str), layout: Layout<'_>) {
    let refused = |error: &OpenError| {
        let half = |error: &HeaderError| matches!(error, HeaderError::HalfChanged { .. });
        matches!(error, OpenError::Header { error, .. } if half(error))
    };
    let recovery = |host: &SimHost| {
        assert!(finish(host)?.header);
        Ok(())
    };
    let exception: Exception<'_> = (&refused, &recovery);
    let exceptions = survives(name, (old, new), LEN, layout, Some(exception));
    assert!(exceptions > 0, "the documentation may be better now");
}

/// Version 2 has the time after the path, in another sector, and no mark.
#[test]
fn version_2_is_refused_until_its_header_is_recovered() {
    needs_recovery("version 2", (BACKING, OTHER), layout(Version::V2));
}

#[test]
fn a_long_path_is_refused_until_the_header_is_recovered() {
    let path = |letter: &str, name: &str| {
        let part = "x".repeat(200);
        format!("{part}/{part}/{}/{name}", letter.repeat(200))
    };
    let (old, new) = (path("y", "disk"), path("z", "other"));
    for version in [Version::V3, Version::V3Wide, Version::V2] {
        let name = format!("long path, {version}");
        needs_recovery(&name, (&*old, &*new), old_layout(version));
    }
}

/// Whoever has just copied the new backing file has not synced it.
#[test]
fn the_new_backing_file_is_durable_before_the_image_names_it() {
    for unsafely in [false, true] {
        let host = host();
        install_disk(&host, BACKING, &old_content(), TIME);
        let disk = install_cow(&host, COW, BACKING, layout(Version::V3));
        let content = match unsafely {
            true => old_content(),
            false => new_content(LEN),
        };
        let file = host.create_new(Path::new(OTHER)).unwrap();
        file.write_all_at(&content, FileOffset(0)).unwrap();
        drop(file);
        let (path, other) = (Path::new(COW), Path::new(OTHER));
        match unsafely {
            true => rebase_unsafely(&host, path, other).unwrap(),
            false => rebase(&host, path, other, Trust::Follow, &mut go_on).unwrap(),
        };
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        for (survivors, image) in crash_images(&host, DEPTH, &mut rng) {
            let _what = Context(survivors);
            assert_same(&disk_of(&image, COW).unwrap(), &disk, "the disk");
        }
    }
}

/// In version 2 the last three of these sectors have no bit.
#[test]
fn what_has_no_bit_is_not_copied_in_and_the_image_stays_as_it_is() {
    let host = host();
    install_disk(&host, BACKING, &old_content(), TIME);
    let mut new = old_content();
    Stamp(7).fill(driver::units::Sector(74), &mut new[74 * 512..]);
    install_disk(&host, OTHER, &new, TIME + 1000);
    let disk = install_cow(&host, COW, BACKING, old_layout(Version::V2));
    let before = host.content(COW);
    let (cow, other) = (Path::new(COW), Path::new(OTHER));
    let error = rebase(&host, cow, other, Trust::Follow, &mut go_on).unwrap_err();
    let says = "differ in or after sector 72, and sectors from 72 on have no bit";
    assert!(error.to_string().contains(says), "{error}");
    assert_eq!(host.content(COW), before);
    assert_same(&disk_of(&host, COW).unwrap(), &disk, "the disk");
}
