//! New files: there is nothing under the name, or the whole file, and making it again works.
//! (`driver/src/open/create.rs` has the crash table.)

use std::path::Path;

use driver::cow::Version;
use driver::host::{HostFile, HostNames};
use driver::open::temporary_name;
use driver::units::{Bytes, FileOffset};
use harness::sim::{SimHost, SurvivalWeights};
use harness::stamp::Stamp;
use harness::streams::below;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use userhelper::image::ImageError;
use userhelper::image::convert::{CowVersion, to_cow, to_raw};
use userhelper::image::create::{Wish, create};
use userhelper::image::open::{Format, Trust, open_image};

use super::story::{DEPTH, go_on};
use super::world::{
    BACKING, COW, Layout, OTHER, TIME, assert_same, disk_of, host, install_cow, install_disk,
    stamped,
};
use crate::world::explore::{Context, crash_images};

const LEN: u64 = 75 * 512;
const NEW: &str = "new";

type Tool = fn(&SimHost) -> Result<(), ImageError>;

/// A new COW file, larger than its backing file.
fn created(host: &SimHost) -> Result<(), ImageError> {
    let wish = Wish {
        size: Some(Bytes(LEN + 20 * 512)),
        max_size: Some(Bytes(1 << 20)),
    };
    create(host, Path::new(NEW), Path::new(BACKING), wish).map(drop)
}

fn raw(host: &SimHost) -> Result<(), ImageError> {
    let image = open_image(host, Path::new(COW), Format::Cow, Trust::Follow)?;
    to_raw(host, &image, Path::new(NEW), &mut go_on).map(drop)
}

fn over(host: &SimHost, backing: &str, version: CowVersion) -> Result<(), ImageError> {
    let image = open_image(host, Path::new(COW), Format::Cow, Trust::Follow)?;
    let (backing, new) = (Path::new(backing), Path::new(NEW));
    to_cow(host, &image, backing, version, new, &mut go_on).map(drop)
}

fn version_3(host: &SimHost) -> Result<(), ImageError> {
    over(host, OTHER, CowVersion::V3 { alignment: 4096 })
}

fn version_2(host: &SimHost) -> Result<(), ImageError> {
    over(host, BACKING, CowVersion::V2)
}

/// What the new file holds, if there is one.
fn content(host: &SimHost, is_raw: bool) -> Option<Vec<u8>> {
    let file = host.content(NEW)?;
    Some(match is_raw {
        true => file.to_bytes(),
        false => disk_of(host, NEW).unwrap(),
    })
}

/// A disk with what can be made of it; what it holds.
fn world() -> (SimHost, Vec<u8>) {
    let host = host();
    install_disk(&host, BACKING, &stamped(LEN, Stamp::BACKING), TIME);
    let mut other = stamped(LEN - 9 * 512, Stamp::BACKING);
    other[4096..12288].fill(0);
    install_disk(&host, OTHER, &other, TIME + 1000);
    let layout = Layout {
        version: Version::V3,
        alignment: 4096,
        ours: true,
        size: LEN,
        dirty: &[(4, 2, Some(1)), (30, 12, None), (60, 9, Some(2))],
    };
    let disk = install_cow(&host, COW, BACKING, layout);
    (host, disk)
}

fn is_whole_or_not_there(name: &str, tool: Tool, expected: &[u8]) {
    let (before, _) = world();
    let is_raw = name == "raw";
    let files = [BACKING, OTHER, COW];
    let check = |image: &SimHost, done: bool| {
        let found = content(image, is_raw);
        assert!(found.is_some() || !done, "done, and not there");
        if let Some(found) = &found {
            assert_same(found, expected, "the new file");
        }
        for file in files {
            assert!(
                image.content(file) == before.content(file),
                "{file} changed"
            );
        }
        found.is_some()
    };
    // Begun again: what is there already is not written over.
    let redo = |host: &SimHost| match tool(host) {
        Err(_) if !host.crashed() && check(host, false) => Ok(()),
        told => told,
    };
    let check_redo = |image: &SimHost| {
        let host = image.after_kill();
        redo(&host).unwrap();
        assert!(check(&host, true));
        assert!(!host.paths().contains(&temporary_name(Path::new(NEW))));
    };
    let whole = before.after_kill();
    tool(&whole).unwrap();
    let (changes, mut images) = (whole.changes(), 0);
    for at in 0..=changes {
        let host = before.after_kill();
        host.crash_before_change(at);
        let told = tool(&host);
        assert_eq!(told.is_err(), host.crashed(), "{name}: {told:?}");
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(at);
        for (survivors, image) in crash_images(&host, DEPTH, &mut rng) {
            let _what = Context(format!("{name}: crash before change {at}, {survivors}"));
            images += 1;
            check(&image, told.is_ok());
            check_redo(&image);
            if below(&mut rng, 16) != 0 {
                continue;
            }
            for second in 0.. {
                let host = image.after_kill();
                host.crash_before_change(second);
                let told = redo(&host);
                if !host.crashed() {
                    break;
                }
                let _what = Context(format!("second crash before change {second}"));
                let weights = SurvivalWeights::draw(&mut rng);
                let survivors = host.unsynced().sample(weights, &mut rng);
                for image in [host.after_kill(), host.after_power_cut(&survivors).unwrap()] {
                    check(&image, told.is_ok());
                    check_redo(&image);
                }
            }
        }
    }
    println!("{name}: {changes} changes, {images} crash images");
}

#[test]
fn a_new_device_larger_than_its_backing_file() {
    let mut expected = stamped(LEN, Stamp::BACKING);
    expected.resize(expected.len() + 20 * 512, 0);
    is_whole_or_not_there("create", created, &expected);
}

#[test]
fn a_raw_file() {
    is_whole_or_not_there("raw", raw, &world().1);
}

#[test]
fn a_cow_file_over_another_backing_file() {
    is_whole_or_not_there("version 3", version_3, &world().1);
    is_whole_or_not_there("version 2", version_2, &world().1);
}

/// Whoever has just copied the backing file has not synced it.
#[test]
fn the_backing_file_is_durable_before_there_is_a_file_over_it() {
    let tools: [(Tool, &str); 2] = [(created, BACKING), (version_3, OTHER)];
    for (tool, backing) in tools {
        let (host, _) = world();
        let copied = host.content(backing).unwrap().to_bytes();
        host.remove(Path::new(backing)).unwrap();
        let file = host.create_new(Path::new(backing)).unwrap();
        file.write_all_at(&copied, FileOffset(0)).unwrap();
        drop(file);
        tool(&host).unwrap();
        let expected = disk_of(&host, NEW).unwrap();
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        for (survivors, image) in crash_images(&host, DEPTH, &mut rng) {
            let _what = Context(survivors);
            assert_same(&disk_of(&image, NEW).unwrap(), &expected, "the new file");
        }
    }
}
