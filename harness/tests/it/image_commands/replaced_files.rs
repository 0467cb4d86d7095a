//! What belongs to a file that is replaced by a new one: attributes go along, and other names of it
//! are not left with the old one behind their owner's back.

use std::os::unix::fs::MetadataExt;

use rustix::fs::{XattrFlags, getxattr, setxattr};

use crate::support::cli::{SIZE, Sandbox};

const NOTE: &str = "user.note";

/// Notes something on the file; `false` where the file system keeps no notes.
fn note(sandbox: &Sandbox, name: &str) -> bool {
    let set = setxattr(sandbox.path(name), NOTE, b"hello", XattrFlags::empty());
    if set.is_err() {
        eprintln!("skipped: this file system keeps no extended attributes");
    }
    set.is_ok()
}

fn noted(sandbox: &Sandbox, name: &str) -> Vec<u8> {
    let mut value = [0; 16];
    let len = getxattr(sandbox.path(name), NOTE, &mut value).unwrap();
    value[..len].to_vec()
}

#[test]
fn extended_attributes_go_along_with_a_rebuild() {
    let sandbox = Sandbox::with_device();
    if !note(&sandbox, "cow") {
        return;
    }
    let before = std::fs::metadata(sandbox.path("cow")).unwrap().ino();
    sandbox.succeeds(&["image", "resize", "@cow", "2M", "--strategy", "rebuild"]);
    assert_ne!(
        std::fs::metadata(sandbox.path("cow")).unwrap().ino(),
        before
    );
    assert_eq!(noted(&sandbox, "cow"), b"hello");
}

#[test]
fn extended_attributes_go_along_with_an_output_that_is_replaced() {
    let sandbox = Sandbox::with_device();
    sandbox.write("out", "of before");
    if !note(&sandbox, "out") {
        return;
    }
    sandbox.succeeds(&["trace", "convert", "@trace", "@out"]);
    assert_ne!(sandbox.read("out"), b"of before");
    assert_eq!(noted(&sandbox, "out"), b"hello");
}

#[test]
fn a_file_with_two_names_is_not_replaced_under_one() {
    let sandbox = Sandbox::with_device();
    let link = |from: &str, to: &str| {
        std::fs::hard_link(sandbox.path(from), sandbox.path(to)).unwrap();
    };
    link("cow", "second");
    let why = "only a regular file without a second name (hard link) can be replaced";
    let rebuild = ["image", "resize", "@cow", "20M", "--strategy", "rebuild"];
    sandbox.refuses(&rebuild, &format!("@cow: rebuild cannot do this: {why}"));
    // The planner takes another way, and the file keeps its names.
    let plan = sandbox.succeeds(&["image", "resize", "@cow", "20M", "--dry-run"]);
    assert!(plan.contains("strategy   reflow\n"), "{plan}");
    assert!(plan.contains(&format!("not by rebuild: {why}\n")), "{plan}");
    sandbox.succeeds(&["image", "resize", "@cow", "20M"]);
    assert!(sandbox.read("cow") == sandbox.read("second"));
    sandbox.write("out", "of before");
    link("out", "out2");
    sandbox.refuses(
        &["trace", "convert", "@trace", "@out"],
        "@out: writing: found a file with 2 names (hard links), and a new file would get only \
         this one; nothing was changed",
    );
}

#[test]
fn dirty_holes_are_not_moved_and_take_no_space() {
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", SIZE);
    sandbox.create_cow("cow", "backing");
    sandbox.succeeds(&["image", "resize", "@cow", "500G"]);
    let dry_run = ["image", "resize", "@cow", "3T", "--dry-run", "--strategy"];
    for strategy in ["rebuild", "reflow"] {
        let plan = sandbox.succeeds(&[&dry_run[..], &[strategy]].concat());
        assert!(plan.contains("\nmoves      0 bytes at most\n"), "{plan}");
    }
    let resize = ["image", "resize", "@cow", "3T", "--strategy", "rebuild"];
    let said = sandbox.succeeds(&resize);
    let expected = "@cow: 500 GiB to 3 TiB by rebuild, 0 bytes moved\n";
    assert!(said.starts_with(expected), "{said}");
}
