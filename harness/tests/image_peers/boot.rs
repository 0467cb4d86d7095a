//! Grown images in the real kernel, which has to take them where we say so and to refuse
//! them where we say that.

use std::path::Path;

use driver::device_spec::DeviceSpec;
use driver::open::{OpenOptions, open};
use driver::resize::{Resize, ResizeStep, Strategy};
use driver::units::{Bytes, Sector, SectorCount, SectorRange};
use userhelper::planner::{Shrink, Wish, plan};
use userhelper::real_files::RealHost;
use userhelper::resize::{PlannedResize, surroundings};

use crate::lab::{Lab, SIZE, assert_same};
use crate::uml::{has_mounted, listed_size};

/// The new size; with small alignments the bitmap then needs two pages more.
const GROWN: u64 = 48 << 20;

const PROGRAMS: [&str; 6] = [
    "linux.uml",
    "uml_moo",
    "mkfs.ext4",
    "debugfs",
    "e2fsck",
    "resize2fs",
];

/// What all of it comes to: the device has its new size in the real kernel, which mounts what
/// is in it, and the file system can be enlarged.
fn a_grown_image_boots(strategy: &str, alignment: u32) {
    let Some(lab) = Lab::with(&PROGRAMS) else {
        return;
    };
    let mut wanted = lab.make_ext4_and_cow(Some(alignment));
    let resize = ["resize", "@cow", "48M", "--strategy", strategy];
    lab.image(&[&resize[..], &["--extend-backing"]].concat());
    wanted.resize(GROWN as usize, 0);
    let found = lab.agreed_content("cow", "backing");
    assert_same("the grown image", &found, &wanted);

    // With the COW file alone, the kernel finds the backing file by itself.
    let console = lab.uml().list(&lab.directory(), &lab.device("ubda=@cow"));
    assert_eq!(listed_size(&console), GROWN);
    let ubda = lab.device("ubda=@cow,@backing");
    let console = lab.uml().mount(&lab.directory(), &ubda);
    assert!(has_mounted(&console), "{console}");

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
    lab.image(&["resize", "@cow", "48M", "--extend-backing"]);
    lab.image(&["merge", "@cow", "@full"]);
    assert_eq!(lab.enlarge_ext4("full"), GROWN);
    let args = ["--to", "v3", "--backing", "@backing"];
    lab.image(&[&["convert", "@full", "@full.cow"], &args[..]].concat());
    let uml = |device: &str| lab.uml().mount(&lab.directory(), &lab.device(device));
    let console = uml("ubda=@full.cow,@backing");
    assert!(has_mounted(&console), "{console}");

    // One block less, and it would not have.
    let short = std::fs::File::options()
        .write(true)
        .open(lab.path("full"))
        .unwrap();
    short.set_len(GROWN - 4096).unwrap();
    let console = uml("ubda=@full");
    let refusal = "bad geometry: block count 12288 exceeds size of device (12287 blocks)";
    assert!(console.contains(refusal), "{console}");
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
    lab.image(&["resize", "@cow", "48M"]);
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
    let mut reflow = PlannedResize::new(&plan, RealHost, cow, &device).unwrap();
    let last = SectorRange::new(Sector(device.capacity().0 - 1), SectorCount(1));
    let (old_place, _) = device.placement().place(last);
    while device.placement().place(last).0 == old_place {
        assert_eq!(reflow.step(&mut device).unwrap(), ResizeStep::Working);
    }
}
