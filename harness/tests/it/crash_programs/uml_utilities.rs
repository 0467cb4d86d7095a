//! uml-utilities under `ubdlab crash`. None of its tools syncs anything or writes beside what it
//! replaces, and a crash in the middle leaves neither what there was nor what was to be.

use super::{DIRTY, crash, crashed, found, images_for, is_whole};
use crate::support::cli::{PROGRAM, Sandbox, output};

#[test]
fn a_merge_by_uml_moo_into_the_backing_file_is_found() {
    let Some((uml_moo, sandbox)) = images_for("uml_moo") else {
        return;
    };
    // Merged, or as it was.
    let check = format!(
        "cmp -s work/backing disk || {{ {}; }}",
        is_whole("cow", "disk")
    );
    let report = crashed(&sandbox, &check, &[&uml_moo, "-d", "work/cow"], 1, 5);
    assert!(report["failed_images"].as_u64().unwrap() > 0, "{report}");
}

/// The COW file does not open in the middle of such a merge: the time of its backing file is
/// another one than it knows.
#[test]
fn a_cow_file_that_uml_moo_was_interrupted_with_does_not_open() {
    let Some((uml_moo, sandbox)) = images_for("uml_moo") else {
        return;
    };
    let check = format!("cmp -s work/backing disk || {PROGRAM} image check work/cow");
    let report = crashed(&sandbox, &check, &[&uml_moo, "-d", "work/cow"], 1, 5);
    let said = report["findings"][0]["check"]["said"].to_string();
    assert!(said.contains("work/backing"), "{report}");
}

/// It empties the backing file before it reads it, and says so by status 1: no crash is needed.
#[test]
fn a_merge_by_uml_moo_onto_its_own_backing_file_is_found() {
    let Some((uml_moo, sandbox)) = images_for("uml_moo") else {
        return;
    };
    let check = format!(
        "cmp -s work/backing disk || {{ {}; }}",
        is_whole("cow", "disk")
    );
    let merge = format!("{uml_moo} work/cow work/backing || true");
    fails_without_a_crash(&sandbox, &check, &["sh", "-c", &merge]);
}

/// The bits of the COW file that was there stay, and say that sectors of the new one are dirty: no
/// crash is needed.
#[test]
fn a_cow_file_that_uml_mkcow_replaces_keeps_stale_bits() {
    let Some((uml_mkcow, sandbox)) = images_for("uml_mkcow") else {
        return;
    };
    std::fs::remove_file(sandbox.path("work/cow")).unwrap();
    let mut made = std::process::Command::new(&uml_mkcow);
    let made = made
        .args(["cow", "backing"])
        .current_dir(sandbox.path("work"));
    assert!(output(made).status.success());
    sandbox.make_dirty_at("work/cow", &DIRTY);
    let check = format!("{PROGRAM} image compare work/cow work/backing");
    let command = [&uml_mkcow, "-f", "work/cow", "work/backing"];
    let said = fails_without_a_crash(&sandbox, &check, &command);
    assert!(said.contains("the disks differ, first at byte 0"), "{said}");
}

/// What the check says of the end, which does not pass.
fn fails_without_a_crash(sandbox: &Sandbox, check: &str, command: &[&str]) -> String {
    let report = found(&crash(sandbox, check, &["--json"], command), 3);
    assert_eq!(report["without_crash"]["passes"], false, "{report}");
    report["without_crash"]["said"].to_string()
}
