//! `ubdlab image` under `ubdlab crash`: after a power cut at any moment `recover` and
//! `check --repair` leave the disk that there was, or the one that was to be, and nothing else.

use std::path::Path;

use harness::crash::FindingFile;
use harness::mount::Limits;

use super::{crashed, images, is_whole};
use crate::support::cli::{PROGRAM, Sandbox};
use crate::support::crash::{crash, found};

/// Recovers `work/NAME` in this format, which has to work.
fn recovered(name: &str, format: &str) -> String {
    format!("{PROGRAM} image recover --format {format} work/{name} >/dev/null || exit 9; ")
}

/// Likewise, of a new file that may not have been begun.
fn recovered_if_begun(format: &str) -> String {
    let begun = "if test -e work/new || test -e work/.new.ubdlab-new; then ";
    format!("{begun}{}fi; ", recovered("new", format))
}

/// Nothing is left in `work` but these names.
fn nothing_but(names: &str) -> String {
    format!("test \"$(ls -A work | tr '\\n' ' ')\" = '{names} ' || {{ ls -A work; exit 8; }}; ")
}

/// A command that makes the COW file `work/new`, whose disk has this content.
fn makes_a_cow_file(sandbox: &Sandbox, args: &[&str], expected: &str) {
    let check = recovered_if_begun("cow")
        + "if test -e work/new; then "
        + &nothing_but("backing cow new")
        + &is_whole("new", expected)
        + "; else "
        + &nothing_but("backing cow")
        + "fi";
    let command = [&[PROGRAM, "image"], args].concat();
    crashed(sandbox, &check, &command, 0, 3);
}

/// A command that makes the raw disk `work/new`, as `disk` is.
fn makes_a_raw_disk(sandbox: &Sandbox, args: &[&str]) {
    let check = recovered_if_begun("raw")
        + "if test -e work/new; then "
        + &nothing_but("backing cow new")
        + "cmp work/new disk; else "
        + &nothing_but("backing cow")
        + "fi";
    let command = [&[PROGRAM, "image"], args].concat();
    crashed(sandbox, &check, &command, 0, 3);
}

#[test]
fn a_file_that_is_created_is_whole_or_not_there() {
    let Some(sandbox) = images() else {
        return;
    };
    let args = ["create", "work/new", "--backing", "work/backing"];
    makes_a_cow_file(&sandbox, &args, "work/backing");
}

#[test]
fn a_file_that_is_converted_is_whole_or_not_there() {
    let Some(sandbox) = images() else {
        return;
    };
    let args = ["convert", "work/cow", "work/new", "--to", "v3"];
    makes_a_cow_file(&sandbox, &args, "disk");
    let args = ["convert", "work/cow", "work/new", "--to", "raw"];
    makes_a_raw_disk(&sandbox, &args);
}

#[test]
fn a_merged_file_is_whole_or_not_there() {
    let Some(sandbox) = images() else {
        return;
    };
    makes_a_raw_disk(&sandbox, &["merge", "work/cow", "work/new"]);
}

#[test]
fn a_merge_in_place_leaves_the_disk_as_it_is() {
    let Some(sandbox) = images() else {
        return;
    };
    let check = recovered("cow", "cow") + &nothing_but("backing cow") + &is_whole("cow", "disk");
    let command = [PROGRAM, "image", "merge", "work/cow", "--in-place"];
    crashed(&sandbox, &check, &command, 0, 10);
}

#[test]
fn a_rebase_leaves_the_disk_as_it_is() {
    let Some(sandbox) = images() else {
        return;
    };
    // Another one in a few places, which are copied in.
    let mut other = sandbox.read("work/backing");
    for at in [5000, 300_000, 900_000] {
        other[at..at + 20_000].fill(7);
    }
    sandbox.write("work/other", other);
    let check =
        recovered("cow", "cow") + &nothing_but("backing cow other") + &is_whole("cow", "disk");
    let command = [PROGRAM, "image", "rebase", "work/cow", "-b", "work/other"];
    crashed(&sandbox, &check, &command, 0, 10);
}

#[test]
fn a_resize_leaves_the_old_disk_or_a_longer_one() {
    for strategy in ["headroom", "rebuild", "reflow"] {
        let Some(sandbox) = images() else {
            return;
        };
        // What a grown disk has past the end of the other one is zeros, which compares as equal.
        let check =
            recovered("cow", "cow") + &nothing_but("backing cow") + &is_whole("cow", "disk");
        let resize = [PROGRAM, "image", "resize", "work/cow", "2M", "--strategy"];
        let command = [&resize[..], &[strategy]].concat();
        crashed(&sandbox, &check, &command, 0, 4);
    }
}

/// Stale data in clean sectors, bits past the end, and a file that is longer than its disk.
#[test]
fn a_repair_leaves_the_disk_as_it_is() {
    let Some(sandbox) = images() else {
        return;
    };
    let info = sandbox.report(&["image", "info", "@work/cow"]);
    let data = info["data_offset"].as_u64().unwrap() as usize;
    sandbox.patch("work/cow", data + 200 * 512, &[7; 40_000]);
    let mut longer = sandbox.read("work/cow");
    longer.resize(longer.len() + 20_000, 9);
    sandbox.write("work/cow", longer);
    let check = recovered("cow", "cow") + &nothing_but("backing cow") + &is_whole("cow", "disk");
    let command = [PROGRAM, "image", "check", "--repair", "work/cow"];
    crashed(&sandbox, &check, &command, 0, 1);
}

/// `work` as a power cut in the middle of a reflow has left it.
fn interrupted() -> Option<Sandbox> {
    let sandbox = images()?;
    let check = format!("{PROGRAM} image check work/cow; test $? != 2");
    let more = [
        "--json", "--points", "12", "--images", "4", "--out", "found",
    ];
    let resize = [
        PROGRAM,
        "image",
        "resize",
        "work/cow",
        "2M",
        "--strategy",
        "reflow",
    ];
    let report = found(&crash(&sandbox, &check, &more, &resize), 1);
    let findings = report["findings"].as_array().unwrap();
    let is_interrupted = |finding: &&serde_json::Value| {
        let said = finding["check"]["said"].to_string();
        said.contains("interrupted")
    };
    let finding = findings.iter().find(is_interrupted);
    let finding = finding.unwrap_or_else(|| panic!("{report}"));
    let file = finding["file"].as_str().unwrap();
    let file = FindingFile::read(&*sandbox.read(file), Limits::default()).unwrap();
    let work = sandbox.path("work");
    std::fs::remove_dir_all(&work).unwrap();
    std::fs::create_dir(&work).unwrap();
    let never = std::sync::atomic::AtomicBool::new(false);
    let remains = file.remains(Limits::default()).unwrap();
    assert!(remains.store(Path::new(&work), &never).unwrap());
    Some(sandbox)
}

#[test]
fn a_recovery_can_be_interrupted_and_begun_again() {
    let Some(sandbox) = interrupted() else {
        return;
    };
    let check = recovered("cow", "cow") + &nothing_but("backing cow") + &is_whole("cow", "disk");
    let command = [PROGRAM, "image", "recover", "--format", "cow", "work/cow"];
    crashed(&sandbox, &check, &command, 0, 5);
}
