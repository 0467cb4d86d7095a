//! What `ubdlab crash` and its `--repro` refuse, and what they say of what is more than they tell.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::cli::Sandbox;
use crate::support::crash::{OLD_OR_NEW, crash, found, replacing, work};

#[test]
fn what_has_no_sense_is_wrong_usage() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("work")).unwrap();
    for more in [
        &["--images", "18446744073709551615"][..],
        &["--images", "1000000000000"],
        &["--points", "1000000000000"],
        &["--points", "1000000", "--images", "100000"],
        &["--timeout", "0"],
        &["--mount", "m"],
    ] {
        let done = crash(&sandbox, "true", more, &["true"]);
        let said = sandbox.text(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{more:?}: {said}");
    }
}

/// After each letter there is another kind: the check says them.
#[test]
fn of_many_kinds_those_that_are_not_told_are_counted() {
    let Some(sandbox) = work(&[("f", "")]) else {
        return;
    };
    let script = "for a in a b c d e f g h i j k l m n o p q r s t u v w x y z; do \
                  printf $a >>work/f; sync work/f; done";
    let check = "grep z work/f || { cat work/f; false; }";
    let done = crash(&sandbox, check, &["--json"], &["sh", "-c", script]);
    let report = found(&done, 1);
    assert_eq!(report["findings"].as_array().unwrap().len(), 20);
    // Of 26 letters with nothing before the first one, the last is the one that passes.
    assert_eq!(report["untold"]["kinds"], 6, "{}", report["untold"]);
    let told = report["findings"].as_array().unwrap().iter();
    let told: u64 = told
        .map(|finding| finding["images"].as_u64().unwrap())
        .sum();
    let all = told + report["untold"]["images"].as_u64().unwrap();
    assert_eq!(report["failed_images"], all);
    let done = crash(&sandbox, check, &[], &["sh", "-c", script]);
    let said = sandbox.text(&done.stdout);
    assert!(said.contains("not told: 6 further findings"), "{said}");
}

#[test]
fn a_finding_is_its_owners_alone() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let script = replacing(false, true);
    let more = ["--out", "found"];
    let _ = crash(&sandbox, OLD_OR_NEW, &more, &["sh", "-c", &script]);
    let mode = || {
        let found = std::fs::metadata(sandbox.path("found/finding-1.json")).unwrap();
        found.permissions().mode() & 0o777
    };
    assert_eq!(mode(), 0o600);
    // Nor does it take over the mode of one that others may read.
    let open = PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(sandbox.path("found/finding-1.json"), open).unwrap();
    let _ = crash(&sandbox, OLD_OR_NEW, &more, &["sh", "-c", &script]);
    assert_eq!(mode(), 0o600);
}

#[test]
fn a_finding_that_leads_elsewhere_is_refused() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let script = replacing(false, true);
    let _ = crash(
        &sandbox,
        OLD_OR_NEW,
        &["--out", "found"],
        &["sh", "-c", &script],
    );
    let file = sandbox.read("found/finding-1.json");
    let file: Value = serde_json::from_slice(&file).unwrap();
    let refused = |field: &str, value: Value, error: &str| {
        let mut edited = file.clone();
        edited[field] = value;
        sandbox.write("edited", edited.to_string());
        sandbox.refuses(&["crash", "--repro", "edited"], &format!("edited: {error}"));
    };
    for place in ["../../other", "/tmp/../other", "", "/"] {
        let error = format!(
            "directory: found {place}, expected an absolute path or one beneath, without \"..\""
        );
        refused("directory", place.into(), &error);
    }
    let changes = file["changes"].as_array().unwrap().len();
    let begin = file["begin"].as_u64().unwrap();
    let error = format!(
        "point: found 1000000, expected from {begin} (\"begin\") to {changes} (the changes)"
    );
    refused("point", 1_000_000.into(), &error);
}

/// A directory that is not beneath the one in which the check ran has an absolute name. Where that
/// is not there, something stands in for it.
#[test]
fn a_finding_of_a_directory_elsewhere_needs_nothing_else() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    std::fs::create_dir(sandbox.path("here")).unwrap();
    let place = sandbox.path("work");
    let place = place.to_str().unwrap();
    let script = format!("printf new >{place}/g; mv {place}/g {place}/f");
    let check = format!("test -s {place}/f");
    let program = crate::support::cli::PROGRAM;
    let within = format!(
        "cd here && exec {program} crash --dir ../work --check '{check}' --out found -- \
         sh -c '{script}'"
    );
    let run = |line: &str| {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", line]).current_dir(sandbox.path(""));
        crate::support::cli::output(&mut shell)
    };
    let done = run(&within);
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    std::fs::remove_dir_all(place).unwrap();
    let again = run(&format!(
        "cd here && {program} crash --repro found/finding-1.json"
    ));
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert!(
        !sandbox.path("work").exists(),
        "what stood in for it is left"
    );
}

#[test]
fn times_before_1970_come_back() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let script = "touch -d '1969-12-31 23:59:58.3 UTC' work/f && \
                  test \"$(date -r work/f +%s.%N)\" = -2.300000000";
    found(
        &crash(&sandbox, "true", &["--json"], &["sh", "-c", script]),
        0,
    );
}
