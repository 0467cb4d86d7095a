//! Grown images in the real kernel, which has to take them where we say so and to refuse
//! them where we say that.

use std::path::Path;

use driver::device_spec::DeviceSpec;
use driver::open::{OpenOptions, open};
use driver::resize::{ResizeStep, Strategy};
use driver::units::{Bytes, Sector, SectorCount, SectorRange};
use userhelper::planner::{Shrink, Wish, plan};
use userhelper::real_files::RealHost;
use userhelper::resize::{PlannedResize, surroundings};

use super::lab::{Lab, SIZE, assert_same, decode};
use crate::support::uml::{has_mounted, listed_size};

/// The new size; with small alignments the bitmap then needs a page more.
const GROWN: u64 = 32 << 20;

const PROGRAMS: [&str; 6] = [
    "linux.uml",
    "uml_moo",
    "mkfs.ext4",
    "debugfs",
    "e2fsck",
    "resize2fs",
];

/// The real kernel mounts the file system on the device, and so writes to it.
fn mounts(lab: &Lab, ubda: &str) {
    let console = lab.uml().mount(&lab.directory(), &lab.device(ubda));
    assert!(has_mounted(&console), "{console}");
}

/// What all of it comes to: the device has its new size in the real kernel, which mounts what
/// is in it, and the file system can be enlarged.
fn a_grown_image_boots(strategy: &str, alignment: u32) {
    let Some(lab) = Lab::with(&PROGRAMS) else {
        return;
    };
    let mut wanted = lab.make_ext4_and_cow(Some(alignment));
    let resize = ["resize", "@cow", "32M", "--strategy", strategy];
    lab.image(&[&resize[..], &["--extend-backing"]].concat());
    wanted.resize(GROWN as usize, 0);
    let found = lab.agreed_content("cow", "backing");
    assert_same("the grown image", &found, &wanted);

    // With the COW file alone, the kernel finds the backing file by itself.
    let console = lab.uml().list(&lab.directory(), &lab.device("ubda=@cow"));
    assert_eq!(listed_size(&console), GROWN);
    mounts(&lab, "ubda=@cow,@backing");
    lab.image(&["check", "@cow"]);

    lab.sandbox
        .write("merged", lab.agreed_content("cow", "backing"));
    lab.check_ext4("merged");
    assert_eq!(lab.enlarge_ext4("merged"), GROWN);
    lab.check_ext4("merged");
}

#[test]
fn an_image_grown_within_its_headroom_boots() {
    a_grown_image_boots("headroom", 1 << 20);
}

#[test]
fn an_image_grown_by_a_rebuild_boots() {
    a_grown_image_boots("rebuild", 4096);
}

#[test]
fn an_image_grown_by_a_reflow_boots() {
    a_grown_image_boots("reflow", 4096);
}

/// The kernel mounts no file system that is larger than its device, so this one says what
/// size the device really has.
#[test]
fn a_file_system_that_fills_the_grown_device_mounts() {
    let Some(lab) = Lab::with(&PROGRAMS) else {
        return;
    };
    lab.make_ext4_and_cow(None);
    lab.image(&["resize", "@cow", "32M", "--extend-backing"]);
    lab.image(&["merge", "@cow", "@full"]);
    assert_eq!(lab.enlarge_ext4("full"), GROWN);
    let args = ["--to", "v3", "--backing", "@backing"];
    lab.image(&[&["convert", "@full", "@full.cow"], &args[..]].concat());
    mounts(&lab, "ubda=@full.cow,@backing");

    // One block less, and it would not have.
    let short = std::fs::File::options()
        .write(true)
        .open(lab.path("full"))
        .unwrap();
    short.set_len(GROWN - 4096).unwrap();
    let ubda = lab.device("ubda=@full");
    let console = lab.uml().mount(&lab.directory(), &ubda);
    let refusal = "bad geometry: block count 8192 exceeds size of device (8191 blocks)";
    assert!(console.contains(refusal), "{console}");
}

/// The kernel has no extension block, and leaves ours what it was.
#[test]
fn an_image_is_grown_again_after_the_kernel_has_written_to_it() {
    let Some(lab) = Lab::with(&PROGRAMS) else {
        return;
    };
    lab.make_ext4_and_cow(Some(4096));
    // The second size ends with a sector that has a byte of the bitmap for itself.
    for (strategy, more) in [
        ("reflow", 8 << 20),
        ("headroom", (8 << 20) + 512),
        ("rebuild", 8 << 20),
    ] {
        let mut wanted = decode(&lab.path("cow"), &lab.path("backing")).content;
        wanted.resize(wanted.len() + more, 0);
        let size = format!("+{more}");
        let resize = ["resize", "@cow", &size, "--strategy", strategy];
        lab.image(&[&resize[..], &["--extend-backing"]].concat());
        let found = lab.agreed_content("cow", "backing");
        assert_same(&format!("grown by {strategy}"), &found, &wanted);
        mounts(&lab, "ubda=@cow,@backing");
    }
    lab.image(&["merge", "@cow", "@merged"]);
    lab.check_ext4("merged");
}

/// Room for 2 TiB puts the data at 1 GiB. The kernel reaches nothing past 2 GiB.
#[test]
fn the_kernel_uses_an_image_with_as_much_room_as_it_can_reach() {
    let Some(lab) = Lab::with(&PROGRAMS) else {
        return;
    };
    lab.make_ext4("backing");
    let create = ["create", "@cow", "--backing", "@backing"];
    lab.image(&[&create[..], &["--max-size", "2T"]].concat());
    mounts(&lab, "ubda=@cow,@backing");
    let mut wanted = lab.agreed_content("cow", "backing");
    assert!(wanted != lab.sandbox.read("backing"), "nothing was written");
    lab.image(&["resize", "@cow", "32M", "--extend-backing"]);
    wanted.resize(GROWN as usize, 0);
    assert_same("grown", &lab.agreed_content("cow", "backing"), &wanted);
    mounts(&lab, "ubda=@cow,@backing");
}

#[test]
fn an_image_of_version_2_is_used_by_the_kernel_and_grown_into_version_3() {
    let Some(lab) = Lab::with(&PROGRAMS) else {
        return;
    };
    lab.make_ext4_and_cow(None);
    lab.image(&["convert", "@cow", "@v2", "--to", "v2"]);
    mounts(&lab, "ubda=@v2,@backing");
    lab.run("uml_moo", &["@v2", "@theirs"], &[0]);
    lab.image(&["merge", "@v2", "@ours"]);
    let mut wanted = lab.sandbox.read("theirs");
    assert_same("ours", &lab.sandbox.read("ours"), &wanted);
    lab.check_ext4("ours");
    lab.image(&["resize", "@v2", "32M", "--extend-backing"]);
    wanted.resize(GROWN as usize, 0);
    assert_same("grown", &lab.agreed_content("v2", "backing"), &wanted);
    mounts(&lab, "ubda=@v2,@backing");
}

#[test]
fn an_image_merged_in_place_or_rebased_goes_on_in_the_kernel() {
    let Some(lab) = Lab::with(&PROGRAMS) else {
        return;
    };
    let wanted = lab.make_ext4_and_cow(None);
    lab.image(&["merge", "@cow", "--in-place"]);
    assert_same("merged", &lab.sandbox.read("backing"), &wanted);
    assert_eq!(
        decode(&lab.path("cow"), &lab.path("backing")).dirty_sectors,
        0
    );
    mounts(&lab, "ubda=@cow,@backing");
    let before = lab.agreed_content("cow", "backing");
    // Not the same content: what differs has to become dirty.
    lab.make_ext4("other");
    lab.image(&["rebase", "@cow", "--backing", "@other"]);
    let rebased = lab.agreed_content("cow", "other");
    assert_same("rebased", &rebased, &before);
    mounts(&lab, "ubda=@cow,@other");
}

/// Stock programs refuse the image, with the COW file alone and beside its backing file, and
/// leave it alone.
fn stock_programs_refuse(lab: &Lab, size: &str) {
    let before = ["cow", "backing"].map(|name| lab.sandbox.read(name));
    let refusal = format!("Size mismatch ({size} vs {SIZE}) of COW header vs backing file");
    for device in ["ubda=@cow", "ubda=@cow,@backing"] {
        let console = lab.uml().mount(&lab.directory(), &lab.device(device));
        assert!(console.contains(&refusal), "{console}");
        assert!(!has_mounted(&console), "{console}");
    }
    lab.run("uml_moo", &["@cow", "@merged"], &[1]);
    assert!(!lab.path("merged").exists());
    assert!(before == ["cow", "backing"].map(|name| lab.sandbox.read(name)));
}

#[test]
fn without_its_backing_file_extended_a_grown_image_is_refused() {
    let Some(lab) = Lab::with(&PROGRAMS) else {
        return;
    };
    let mut wanted = lab.make_ext4_and_cow(None);
    lab.image(&["resize", "@cow", "32M"]);
    stock_programs_refuse(&lab, &GROWN.to_string());
    // We do not.
    lab.image(&["merge", "@cow", "@merged"]);
    wanted.resize(GROWN as usize, 0);
    assert_same("merged", &lab.sandbox.read("merged"), &wanted);
}

/// In particular the kernel does not take it for a raw disk, which it would write over.
#[test]
fn an_interrupted_reflow_is_refused_until_it_is_finished() {
    let Some(lab) = Lab::with(&PROGRAMS) else {
        return;
    };
    let mut wanted = lab.make_ext4_and_cow(Some(4096));
    begin_reflow(&lab.path("cow"), Bytes(GROWN));
    let info = lab.sandbox.report(&["image", "info", "@cow"]);
    assert_eq!(info["resize_in_progress"], true, "{info}");
    stock_programs_refuse(&lab, &(SIZE | 1 << 63).to_string());
    lab.image(&["recover", "@cow"]);
    lab.image(&["merge", "@cow", "@merged"]);
    wanted.resize(GROWN as usize, 0);
    assert_same("merged", &lab.sandbox.read("merged"), &wanted);
}

/// Reflows until the header is marked and something was moved; the process that did it might
/// as well have been killed.
fn begin_reflow(cow: &Path, new_size: Bytes) {
    let spec: DeviceSpec = format!("ubda={}", cow.display()).parse().unwrap();
    let mut device = open(&RealHost, &spec, OpenOptions::default())
        .unwrap()
        .device;
    let wish = Wish {
        new_size,
        strategy: Some(Strategy::Reflow),
        shrink: Shrink::Refuse,
        online: false,
    };
    let surroundings = surroundings(&RealHost, cow, &device).unwrap();
    let plan = plan(&device, wish, surroundings).unwrap();
    let reflow = PlannedResize::new(&plan, RealHost, cow, &device).unwrap();
    device.begin_resize(Box::new(reflow));
    let last = SectorRange::new(Sector(device.capacity().0 - 1), SectorCount(1));
    let (old_place, _) = device.placement().place(last);
    while device.placement().place(last).0 == old_place {
        assert_eq!(device.step_resize(), ResizeStep::Working);
    }
}
