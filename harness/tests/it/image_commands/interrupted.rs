//! What the commands say of an image that an interruption has left, and what to do about it: the
//! command that they print is one that can be given.

use std::process::Stdio;

use driver::cow::Version;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::cli::{SIZE, Sandbox, ubdlab_that_heeds_signals};
use crate::support::images::SOME;

use super::check::interrupted_reflow;

fn with_backing() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", SIZE);
    sandbox
}

/// The backing file has another time than the header from the first moment on: stock UML compares
/// them.
#[test]
fn a_merge_is_not_what_stock_uml_takes() {
    let sandbox = with_backing();
    sandbox.write_image("cow", Version::V3, "backing", &SOME);
    sandbox.begin_merge("cow");
    let info = sandbox.json(&["image", "info", "@cow"]);
    assert_eq!(
        info["stock_uml"],
        "refuses it: a change of its backing file was interrupted, and the header has another \
         time than that file"
    );
    let said = sandbox.succeeds(&["image", "info", "@cow"]);
    let of_interrupted: Vec<_> = said.lines().rev().take(1).collect();
    assert_eq!(
        of_interrupted,
        [
            "interrupted    a change of the backing file: ubdlab image recover @cow, if it is a \
             COW file that you trust, ends it, or give the command again"
        ]
    );
    assert_eq!(said.matches("backing file  ").count(), 1, "{said}");
    assert_eq!(said.matches("ubdlab image").count(), 1, "{said}");
    sandbox.succeeds(&["image", "recover", "@cow"]);
    let info = sandbox.json(&["image", "info", "@cow"]);
    assert_eq!(info["stock_uml"], "takes it");
}

#[test]
fn a_recovered_resize_says_that_the_backing_file_is_to_be_extended() {
    let sandbox = with_backing();
    interrupted_reflow(&sandbox);
    // A guest may have written that to its raw disk: only who names a COW file is told flatly.
    for (named, trusted) in [
        (&[][..], ", if it is a COW file that you trust,"),
        (&["--format", "cow"], ""),
    ] {
        let said = sandbox.succeeds(&[&["image", "info", "@cow"], named].concat());
        let last = format!(
            "interrupted    a resize to 4 MiB: ubdlab image recover @cow{trusted} finishes it\n"
        );
        assert!(said.ends_with(&last), "{said}");
    }
    sandbox.refuses(
        &["image", "resize", "@cow", "4M"],
        "@cow: an interrupted resize has to be finished first: ubdlab image recover @cow",
    );
    assert_eq!(
        sandbox.succeeds(&["image", "recover", "@cow"]),
        "@cow: finished the resize from 1 MiB to 4 MiB, 4.50 KiB moved\n\
         stock UML refuses it: it has 4 MiB, its backing file 1 MiB\n\
         ubdlab image resize @cow 4M --extend-backing makes the backing file as large\n"
    );
    sandbox.run(&["image", "resize", "@cow", "4M", "--extend-backing"]);
    let info = sandbox.json(&["image", "info", "@cow"]);
    assert_eq!(info["stock_uml"], "takes it");
}

/// Whenever the signal comes, the message says which of the two states the image is in.
#[test]
fn a_resize_says_in_which_state_it_was_interrupted() {
    for strategy in ["rebuild", "reflow"] {
        let sandbox = Sandbox::new();
        sandbox.write_backing("backing", 64 << 20);
        let dirty: Vec<u64> = (0..32768).collect();
        sandbox.write_image("cow", Version::V3, "backing", &dirty);
        let args = ["image", "resize", "@cow", "128M", "--strategy", strategy];
        let mut command = ubdlab_that_heeds_signals();
        command.args(sandbox.args(&args));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let len = || std::fs::metadata(sandbox.path("cow")).unwrap().len();
        let before = len();
        let has_begun = || len() != before || sandbox.path(".cow.ubdlab-new").exists();
        while !has_begun() && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        let _ = kill_process(Pid::from_child(&child), Signal::INT);
        let output = child.wait_with_output().unwrap();
        let said = sandbox.text(&output.stderr);
        let info = sandbox.json(&["image", "info", "@cow"]);
        let state = (&info["size_bytes"], &info["resize_in_progress"]);
        match &said[..] {
            // It was done before the signal came.
            "" => assert_eq!(state, (&(128 << 20).into(), &false.into())),
            "ubdlab: @cow: interrupted: nothing is lost; the disk is as before, 64 MiB\n" => {
                assert_eq!(state, (&(64 << 20).into(), &false.into()));
            }
            "ubdlab: @cow: interrupted: nothing is lost; half done is a resize to 128 MiB: ubdlab \
             image recover @cow finishes it\n" => assert_eq!(state.1, true),
            _ => panic!("{strategy}: {said}"),
        }
    }
}

/// New sectors have nothing in the backing file: they are dirty, and holes.
#[test]
fn a_grown_disk_has_no_more_data() {
    let sandbox = with_backing();
    sandbox.write_image("cow", Version::V3, "backing", &SOME);
    let before = sandbox.json(&["image", "info", "@cow"]);
    sandbox.succeeds(&["image", "resize", "@cow", "8M"]);
    let info = sandbox.json(&["image", "info", "@cow"]);
    assert_eq!(before["dirty_data_bytes"], 4608);
    assert_eq!(info["dirty_data_bytes"], 4608);
    assert_eq!(info["dirty_sectors"], 9 + (7 << 20) / 512);
    let said = sandbox.succeeds(&["image", "info", "@cow"]);
    let line = "4.50 KiB of it data, 7 MiB zeros that take no space\n";
    assert!(said.contains(line), "{said}");
}

/// It makes no backing file smaller: it cannot be the advice of a shrink.
#[test]
fn a_dry_run_advises_what_can_be_given() {
    let sandbox = with_backing();
    sandbox.write_image("cow", Version::V3, "backing", &[1]);
    let shrink = [
        "image",
        "resize",
        "@cow",
        "512K",
        "--shrink",
        "--lose-data",
        "--dry-run",
    ];
    let said = sandbox.succeeds(&shrink);
    assert!(said.contains("stock UML  refuses it"), "{said}");
    assert!(!said.contains("--extend-backing"), "{said}");
    let said = sandbox.succeeds(&["image", "resize", "@cow", "2M", "--dry-run"]);
    assert!(said.contains("--extend-backing makes"), "{said}");
    let grow = [
        "image",
        "resize",
        "@cow",
        "2M",
        "--extend-backing",
        "--dry-run",
    ];
    let said = sandbox.succeeds(&grow);
    assert!(
        said.contains("would extend @backing: every other COW file"),
        "{said}"
    );
}
