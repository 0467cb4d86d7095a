//! Another file under the backing file's name, at every moment at which a change of the backing
//! file is under way: it is refused by whatever opens the image, nothing is mended over it, and
//! when the right file is back everything goes on. (`docs/format.md` says by what it is known.)

use std::path::Path;

use driver::cow::{BackingChange, Extension, ExtensionState, Version};
use driver::open::{NotInChange, OpenError};
use driver::units::Bytes;
use harness::sim::{FileContent, SimHost};
use harness::stamp::Stamp;
use userhelper::image::ImageError;
use userhelper::image::check::{Fault, check, check_and_repair};
use userhelper::image::info::{BackingDifference, BackingState, info};
use userhelper::image::merge::{in_place, open_both};
use userhelper::image::open::{Trust, close};
use userhelper::image::rebase::{rebase, rebase_unsafely};
use userhelper::image::recover::Recovered;
use userhelper::image::resize::{extend_backing, open_for_resize};

use super::story::{Tool, finish, go_on};
use super::world::{
    BACKING, COW, Layout, OTHER, Run, TIME, assert_same, disk_of, host, install_cow, install_disk,
    looked_at, stamped,
};

const SECTORS: u64 = 75;
const LEN: u64 = SECTORS * 512;
const MORE: u64 = 20;

/// Those past the backing file's end are dirty if the device has them.
const DIRTY: &[Run] = &[
    (2, 4, Some(1)),
    (30, 8, None),
    (60, 3, Some(2)),
    (SECTORS, MORE, None),
];

fn world(size: u64) -> (SimHost, Vec<u8>) {
    let host = host();
    install_disk(&host, BACKING, &stamped(LEN, Stamp::BACKING), TIME);
    install_disk(&host, OTHER, &stamped(LEN, Stamp(5)), TIME + 1000);
    let layout = Layout {
        version: Version::V3,
        alignment: 4096,
        ours: true,
        size,
        dirty: if size > LEN { DIRTY } else { &DIRTY[..3] },
    };
    let disk = install_cow(&host, COW, BACKING, layout);
    (host, disk)
}

fn merge(host: &SimHost) -> Result<(), ImageError> {
    let path = Path::new(COW);
    let mut cow = open_both(host, path, Trust::Follow)?;
    in_place(host, &mut cow, &mut go_on)?;
    close(cow.device, path)
}

fn extend(host: &SimHost) -> Result<(), ImageError> {
    let path = Path::new(COW);
    let mut cow = open_for_resize(host, path, Trust::Follow, true)?;
    extend_backing(host, &mut cow, &mut go_on)?;
    close(cow.device, path)
}

fn change_to_other(host: &SimHost) -> Result<(), ImageError> {
    let (cow, other) = (Path::new(COW), Path::new(OTHER));
    rebase(host, cow, other, Trust::Follow, &mut go_on).map(drop)
}

/// The host before each change of the tool at which the image is marked.
fn marked_moments(host: &SimHost, tool: Tool<'_>) -> Vec<SimHost> {
    let host = host.after_kill();
    host.keep_snapshots();
    tool(&host).unwrap();
    let moments = host.take_snapshots();
    moments
        .into_iter()
        .filter(|host| looked_at(host).1)
        .collect()
}

/// The name of the backing file in the header.
fn backing_of(host: &SimHost) -> String {
    let (header, ..) = looked_at(host);
    header.backing_path().to_str().unwrap().to_owned()
}

/// The host with another file of this content and time in the place of `name`.
fn with_stranger(host: &SimHost, name: &str, content: &[u8], seconds: i64) -> SimHost {
    let host = host.after_kill();
    install_disk(&host, name, content, seconds);
    host
}

/// Everything refuses the file, and leaves the COW file and it as they are. What is wrong with it.
fn refused(host: &SimHost) -> NotInChange {
    let path = Path::new(COW);
    let backing = backing_of(host);
    let files = || [COW, &backing].map(|name| host.content(name).unwrap());
    let (before, time) = (files(), host.modified_seconds(&backing));
    let problem = match disk_of(host, COW) {
        Err(OpenError::NotInChange { problem, .. }) => problem,
        other => panic!("{:?}", other.map(drop)),
    };
    let is_refused = |told: Result<(), ImageError>| {
        let expected = matches!(told, Err(ImageError::Open(OpenError::NotInChange { .. })));
        assert!(expected, "{told:?}");
    };
    is_refused(finish(host).map(drop));
    is_refused(merge(host));
    is_refused(extend(host));
    is_refused(change_to_other(host));
    for checked in [
        check(host, path, Trust::Follow, &mut go_on).unwrap(),
        check_and_repair(host, path, Trust::Follow, &mut go_on).unwrap(),
    ] {
        let faults = checked.findings.iter().map(|it| it.fault);
        // What is merged and clean is a leak until its space is given back.
        let faults: Vec<Fault> = faults.filter(|it| *it != Fault::StaleData).collect();
        assert_eq!(
            (faults, checked.repaired),
            (vec![Fault::BackingChanged], vec![])
        );
    }
    assert!(files() == before && host.modified_seconds(&backing) == time);
    problem
}

/// The right file again, and the disk is what it was.
fn is_whole(host: &SimHost, disk: &[u8]) {
    let host = host.after_kill();
    assert_same(&disk_of(&host, COW).unwrap(), disk, "the disk");
    assert!(finish(&host).unwrap().backing_change);
    assert_same(
        &disk_of(&host, COW).unwrap(),
        disk,
        "the disk after recovery",
    );
    assert_eq!(finish(&host).unwrap(), Recovered::default());
}

/// Whether a change may write this sector.
fn is_dirty(sector: u64) -> bool {
    let within = |&(start, count, _): &Run| (start..start + count).contains(&sector);
    DIRTY.iter().any(within)
}

fn refuses_strangers(size: u64, tool: Tool<'_>) {
    let (host, disk) = world(size);
    let moments = marked_moments(&host, tool);
    assert!(moments.len() > 3);
    for moment in moments {
        let right = moment.content(BACKING).unwrap().to_bytes();
        let time = moment.modified_seconds(BACKING).unwrap();
        let stranger = |content: &[u8]| refused(&with_stranger(&moment, BACKING, content, time));
        let other = stamped(right.len() as u64, Stamp(77));
        assert!(matches!(stranger(&other), NotInChange::Content { .. }));
        // Of a small file every sector that is not written tells.
        for sector in (0..SECTORS).filter(|&sector| !is_dirty(sector)) {
            let mut almost = right.clone();
            almost[sector as usize * 512 + 200] ^= 1;
            let found = stranger(&almost);
            let told = matches!(found, NotInChange::Content { at } if at.0 <= sector * 512);
            assert!(told, "sector {sector}: {found:?}");
        }
        for len in [right.len() - 512, LEN as usize - 512, right.len() + 512, 0] {
            if [LEN, size].contains(&(len as u64)) {
                continue;
            }
            let mut resized = right.clone();
            resized.resize(len, 0);
            let found = stranger(&resized);
            assert!(matches!(found, NotInChange::Length { .. }), "{found:?}");
        }
        is_whole(&moment, &disk);
        // A copy of the right file has any time, and is as good.
        is_whole(&with_stranger(&moment, BACKING, &right, TIME - 7), &disk);
    }
}

#[test]
fn during_a_merge_in_place() {
    refuses_strangers(LEN, &merge);
}

#[test]
fn during_a_merge_in_place_of_a_grown_device() {
    refuses_strangers(LEN + MORE * 512, &merge);
}

#[test]
fn during_the_extension_of_the_backing_file() {
    refuses_strangers(LEN + MORE * 512, &extend);
}

/// What the merge writes tells too, where nothing else does: another file of this length would
/// be written over.
#[test]
fn under_a_device_of_which_every_sector_is_dirty() {
    let (host, _) = world(LEN);
    let layout = Layout {
        version: Version::V3,
        alignment: 4096,
        ours: true,
        size: LEN,
        dirty: &[(0, SECTORS, Some(3))],
    };
    let disk = install_cow(&host, COW, BACKING, layout);
    for moment in marked_moments(&host, &merge) {
        let time = moment.modified_seconds(BACKING).unwrap();
        let other = stamped(LEN, Stamp(77));
        let found = refused(&with_stranger(&moment, BACKING, &other, time));
        assert!(matches!(found, NotInChange::Content { .. }));
        is_whole(&moment, &disk);
    }
}

/// Neither file is written: the one that is named has to have size and time of either.
#[test]
fn during_a_rebase() {
    let (host, disk) = world(LEN);
    let moments = marked_moments(&host, &change_to_other);
    assert!(moments.len() > 1);
    for moment in moments {
        let name = backing_of(&moment);
        let right = moment.content(&name).unwrap().to_bytes();
        let time = moment.modified_seconds(&name).unwrap();
        let mut longer = right.clone();
        longer.resize(right.len() + 512, 0);
        for (content, seconds) in [(&right, time + 1), (&right, 0), (&longer, time)] {
            let found = refused(&with_stranger(&moment, &name, content, seconds));
            assert!(matches!(found, NotInChange::Facts { .. }), "{found:?}");
        }
        is_whole(&moment, &disk);
    }
}

/// A merge was interrupted, and then the unsafe rebase to another file that ends it: until the
/// header names that file, the one that was being merged into is known as before.
#[test]
fn during_an_unsafe_rebase_that_ends_a_merge() {
    let (host, disk) = world(LEN);
    let of_merge = marked_moments(&host, &merge);
    let begun = &of_merge[of_merge.len() / 2];
    let unsafely =
        |host: &SimHost| rebase_unsafely(host, Path::new(COW), Path::new(OTHER)).map(drop);
    let moments = marked_moments(begun, &unsafely);
    let (mut old, mut new) = (0, 0);
    for moment in moments {
        let name = backing_of(&moment);
        let content = moment.content(&name).unwrap().to_bytes();
        let time = moment.modified_seconds(&name).unwrap();
        let mut other = content.clone();
        other[300] ^= 1;
        refused(&with_stranger(&moment, &name, &other, time + 1));
        match name == BACKING {
            true => {
                old += 1;
                is_whole(&moment, &disk);
            }
            false => {
                new += 1;
                disk_of(&moment, COW).unwrap();
            }
        }
    }
    assert!(old > 0 && new > 0);
}

/// An earlier ubdlab set a flag and noted nothing else: then it is as without the flag.
#[test]
fn a_flag_that_names_no_file() {
    let (host, disk) = world(LEN);
    let block = Extension {
        backing_size: Bytes(LEN),
        change: Some(BackingChange::default()),
    };
    let mut cow = host.content(COW).unwrap();
    cow.write_at(&block.encode(), Extension::OFFSET);
    host.install(COW, cow);
    is_whole(&host, &disk);
    let right = host.content(BACKING).unwrap().to_bytes();
    for (len, seconds) in [(LEN, TIME + 1), (LEN + 512, TIME)] {
        let mut other = right.clone();
        other.resize(len as usize, 0);
        let host = with_stranger(&host, BACKING, &other, seconds);
        let found = refused(&host);
        assert!(matches!(found, NotInChange::Facts { other: None, .. }));
        // The way out that the message names.
        rebase_unsafely(&host, Path::new(COW), Path::new(BACKING)).unwrap();
        assert_same(&disk_of(&host, COW).unwrap(), &disk, "the disk");
        assert_eq!(finish(&host).unwrap(), Recovered::default());
    }
}

/// Somebody wrote into the block that the file has had the last of all times: there is no later
/// one, and it keeps its own.
#[test]
fn a_time_after_which_there_is_none() {
    let (host, _) = world(LEN);
    for moment in marked_moments(&host, &merge) {
        let mut cow = moment.content(COW).unwrap();
        let mut block = [0; Extension::LEN];
        cow.read_at(&mut block, Extension::OFFSET);
        let ExtensionState::Valid(mut extension) = Extension::decode(&block) else {
            panic!("the moment is marked");
        };
        let change = extension.change.as_mut().unwrap();
        change.in_place.as_mut().unwrap().latest = i64::MAX;
        cow.write_at(&extension.encode(), Extension::OFFSET);
        let crafted = moment.after_kill();
        crafted.install(COW, cow.clone());
        let before = crafted.modified_seconds(BACKING);
        let error = finish(&crafted).unwrap_err().to_string();
        assert!(error.contains("holds no later time"), "{error}");
        assert_eq!(crafted.modified_seconds(BACKING), before);
    }
}

/// `info` opens no backing file, and says what it can say without.
#[test]
fn info_does_not_call_it_the_right_one() {
    let (host, _) = world(LEN + MORE * 512);
    let moments = marked_moments(&host, &merge);
    let moment = moments.last().unwrap();
    let found = |moment: &SimHost| {
        let info = info(moment, Path::new(COW), Trust::Follow).unwrap();
        assert!(info.is_changing_backing());
        info.backing
    };
    assert!(matches!(found(moment), BackingState::Unknown(_)));
    let mut content = FileContent::from_bytes(&stamped(LEN, Stamp(9)));
    content.set_len(Bytes(LEN + 512));
    moment.install(BACKING, content);
    let differs = found(moment);
    let BackingState::Differs(BackingDifference::NotInChange(NotInChange::Length {
        found, ..
    })) = differs
    else {
        panic!("{differs:?}");
    };
    assert_eq!(found, Bytes(LEN + 512));
}
