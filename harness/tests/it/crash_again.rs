//! `ubdlab crash --repro`: where the check of a finding runs again, and that it never gets hold of
//! a real directory.

use std::process::Command;

use crate::support::cli::{PROGRAM, Sandbox, output};
use crate::support::crash::{OLD_OR_NEW, crash, found, replacing, work};

fn finding_of(sandbox: &Sandbox) -> String {
    let finding = sandbox.path("found/finding-1.json");
    finding.to_str().unwrap().to_owned()
}

/// A check that leaves a trace in what it takes for the directory, by its absolute path.
#[test]
fn wherever_it_is_repeated_the_real_directory_is_not_touched() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let file = sandbox.path("work/f");
    let file = file.to_str().unwrap();
    let check = format!("test -s {file}; s=$?; echo recovered >>{file}; exit $s");
    let script = format!("printf new >{file}.new; mv {file}.new {file}");
    let place = sandbox.path("work");
    for directory in ["work", place.to_str().unwrap()] {
        let run = [
            "crash", "--dir", directory, "--check", &check, "--json", "--out", "found", "--", "sh",
            "-c", &script,
        ];
        found(&sandbox.run(&run), 1);
        let other = Sandbox::new();
        let again = other.run(&["crash", "--repro", &finding_of(&sandbox), "--json"]);
        assert_eq!(found(&again, 1)["end"], "ended with status 1");
        let again = other.run(&["crash", "--repro", &finding_of(&sandbox), "--here"]);
        assert_eq!(again.status.code(), Some(3), "{again:?}");
        let said = other.text(&again.stderr);
        assert!(said.contains("--here: found "), "{said}");
        assert!(other.contents().is_empty());
        assert_eq!(sandbox.read("work/f"), b"old");
    }
}

/// With `--dir .` the check runs in the directory itself.
#[test]
fn a_finding_of_the_directory_in_which_it_was_made_is_repeated_there() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let line = format!(
        "cd work && exec {PROGRAM} crash --dir . --check 'test -s f' --json --out ../found -- \
         sh -c 'printf new >g; mv g f'"
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &line]).current_dir(sandbox.path(""));
    found(&output(&mut shell), 1);
    let other = Sandbox::new();
    other.write("f", "not empty");
    let again = other.run(&["crash", "--repro", &finding_of(&sandbox), "--json"]);
    found(&again, 1);
}

/// What is not there is said, and is no finding.
#[test]
fn what_a_repeated_check_needs_is_said_where_it_is_missing() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let ok = |sandbox: &Sandbox| sandbox.write("ok", OLD_OR_NEW);
    ok(&sandbox);
    let script = replacing(false, true);
    let check = "chmod +x ok; ./ok";
    let more = ["--json", "--out", "found"];
    found(&crash(&sandbox, check, &more, &["sh", "-c", &script]), 1);
    let finding = sandbox.read("found/finding-1.json");
    // The command of the check is not there.
    std::fs::remove_file(sandbox.path("ok")).unwrap();
    let again = sandbox.run(&["crash", "--repro", "found/finding-1.json"]);
    let said = sandbox.text(&again.stderr);
    assert_eq!(again.status.code(), Some(3), "{said}");
    let place = sandbox.path("").canonicalize().unwrap();
    let why = format!(
        "ubdlab: the check could not be run in {}: it ended with status 127, and ended with status 7 \
         when this was found; it said: ",
        place.display()
    );
    let said_whole = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(said_whole.starts_with(&why), "{said_whole}");
    // Nor is where it ran.
    drop(sandbox);
    let other = Sandbox::new();
    other.write("finding", &finding);
    let again = other.run(&["crash", "--repro", "finding"]);
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert_eq!(again.status.code(), Some(3), "{said}");
    let why = format!(
        "ubdlab: finding: the check runs in {}, where this was found: no such file or directory; \
         make it, with what the check names there, or --here runs the check in this directory\n",
        place.display()
    );
    assert_eq!(said, why);
    // Here it takes what it took there, and not the directory.
    ok(&other);
    let again = other.run(&["crash", "--repro", "finding", "--here", "--json"]);
    let report = found(&again, 1);
    assert_eq!(report["end"], "ended with status 7");
    assert_eq!(report["found_with_end"], "ended with status 7");
    let left: Vec<_> = other.contents().into_keys().collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

/// It says less than it seems to, where the check ends in another way.
#[test]
fn another_end_than_when_it_was_found_is_said() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    sandbox.write("status", "7");
    let script = replacing(false, true);
    let check = "test -s work/f || exit $(cat status)";
    let more = ["--json", "--out", "found"];
    found(&crash(&sandbox, check, &more, &["sh", "-c", &script]), 1);
    sandbox.write("status", "9");
    let again = sandbox.run(&["crash", "--repro", "found/finding-1.json"]);
    let said = sandbox.text(&again.stdout);
    assert!(said.contains("the check ended with status 9"), "{said}");
    assert!(
        said.ends_with("\n  when this was found it ended with status 7\n"),
        "{said}"
    );
}
