//! What `ubdlab crash` and its `--repro` refuse, and what they say of what is more than they tell.

use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::Value;

use crate::support::cli::{PROGRAM, Sandbox, output};
use crate::support::crash::{OLD_OR_NEW, crash, found, replacing, work};
use crate::support::mounted::Mounted;

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
    let done = crash(&sandbox, "true", &[], &[""]);
    let said = sandbox.text(&done.stderr);
    assert_eq!(done.status.code(), Some(2), "{said}");
    assert!(said.contains("COMMAND: found an empty name"), "{said}");
    for check in ["", " \n"] {
        let done = crash(&sandbox, check, &[], &["true"]);
        let said = sandbox.text(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{said}");
        assert!(said.contains("--check: found an empty command"), "{said}");
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
    for place in ["../../other", "other", "/tmp/../other", "", "/"] {
        let error = format!(
            "directory: found {place}, expected an absolute path beneath /, without \"..\""
        );
        refused("directory", place.into(), &error);
    }
    for place in ["other", "/tmp/../other", ""] {
        let error = format!("within: found {place}, expected an absolute path, without \"..\"");
        refused("within", place.into(), &error);
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

/// A program that was told of no space has met a limit of ours.
#[test]
fn who_has_reached_which_limit_is_said_with_what_raises_it() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let files = "3 files, which --max-files raises";
    let bytes = "64 KiB, which --max-bytes raises";
    let written = "64 KiB that are written, with what was in DIR, which --max-bytes raises";
    let changes = "20 changes, which --max-changes raises";
    let fills = "head -c 100000 /dev/zero >work/g";
    let rewrites = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do \
                    dd if=/dev/zero of=work/f bs=4096 count=1 conv=notrunc; done";
    let quietly = |script: &str| format!("{{ {script}; }} >/dev/null 2>&1; true");
    for (option, value, script, what, limit) in [
        ("--max-files", "3", "touch work/a work/b", files, "files"),
        ("--max-bytes", "64K", fills, bytes, "bytes"),
        ("--max-bytes", "64K", rewrites, written, "bytes_written"),
        ("--max-changes", "20", rewrites, changes, "changes"),
    ] {
        let script = quietly(script);
        let what = format!(
            "the command was told that there is no space: the simulated directory takes no more \
             than {what}"
        );
        let more = ["--json", option, value];
        let done = crash(&sandbox, "true", &more, &["sh", "-c", &script]);
        let said = sandbox.text(&done.stderr);
        assert_eq!(said, what.clone() + "\n", "{option} {script}");
        let report = found(&done, 0);
        assert_eq!(report["limits_reached"].as_array().unwrap().len(), 1);
        let reached = &report["limits_reached"][0];
        assert_eq!(reached["who"], "the command");
        assert_eq!(reached["limit"], limit);
        assert_eq!(reached["option"], option);
        // A program that fails of it cannot be crashed.
        let script = format!("{script}; echo no; exit 5");
        let more = [option, value];
        let done = crash(&sandbox, "true", &more, &["sh", "-c", &script]);
        let said = sandbox.text(&done.stderr);
        let end = "ubdlab: the command ended with status 5; it said: no; ";
        assert_eq!(said, format!("{end}{what}\n"));
        // Without it there is space enough.
        let done = crash(
            &sandbox,
            "true",
            &["--json"],
            &["sh", "-c", &quietly(rewrites)],
        );
        assert_eq!(sandbox.text(&done.stderr), "");
        let report = found(&done, 0);
        assert_eq!(report["limits_reached"], Value::Array(Vec::new()));
    }
}

#[test]
fn a_setup_or_a_check_that_has_reached_a_limit_is_named() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let fills = "head -c 100000 /dev/zero >work/g 2>/dev/null; true";
    let more = ["--max-bytes", "64K", "--setup", fills, "--json"];
    let check = "rm -f work/g; head -c 100000 /dev/zero >work/h 2>/dev/null; true";
    let done = crash(&sandbox, check, &more, &["sh", "-c", "printf new >work/f"]);
    let said = sandbox.text(&done.stderr);
    let named: Vec<_> = said
        .lines()
        .filter_map(|line| line.split_once(" was told"))
        .collect();
    let named: Vec<_> = named.iter().map(|(who, _)| *who).collect();
    let expected = [
        "the setup",
        "the check without a crash",
        "a check of what a crash has left",
    ];
    assert_eq!(named, expected, "{said}");
    found(&done, 0);
}

#[test]
fn what_is_too_large_to_be_read_says_what_raises_that() {
    let Some(sandbox) = work(&[("f", "old"), ("g", "more")]) else {
        return;
    };
    let too_large = |option: &str, value: &str, why: &str| {
        let args = [
            "crash", "--dir", "work", "--check", "true", option, value, "--", "true",
        ];
        sandbox.refuses(&args, why);
    };
    let kept = "which are kept in memory";
    let why = format!("@work/g: found more than 2 files, {kept}; --max-files raises that");
    too_large("--max-files", "2", &why);
    let why = format!("@work/g: found more than 5 bytes, {kept}; --max-bytes raises that");
    too_large("--max-bytes", "5", &why);
    let why = format!("@work: found more than 3 changes, {kept}; --max-changes raises that");
    too_large("--max-changes", "3", &why);
    symlink("t".repeat(1000), sandbox.path("work/h")).unwrap();
    let why = format!("@work/h: found more than 1000 bytes, {kept}; --max-bytes raises that");
    too_large("--max-bytes", "1000", &why);
    std::fs::remove_file(sandbox.path("work/h")).unwrap();
    // A finding may be as large as what it was found with.
    let more = ["--out", "found"];
    let script = replacing(false, true);
    let _ = crash(&sandbox, OLD_OR_NEW, &more, &["sh", "-c", &script]);
    let repro = ["crash", "--repro", "found/finding-1.json", "--max-bytes"];
    let done = sandbox.run(&[&repro[..], &["22"]].concat());
    let said = sandbox.text(&done.stderr);
    assert_eq!(done.status.code(), Some(3), "{said}");
    let why = "found more than 22 bytes of writes, names and reservations until then; --max-bytes \
               raises that\n";
    assert!(said.ends_with(why), "{said}");
    let done = sandbox.run(&[&repro[..], &["23"]].concat());
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    // Nor may it have more of anything else.
    for (option, most, why) in [
        ("--max-changes", "3", "found more than 3 changes"),
        ("--max-files", "3", "found more than 3 files then"),
    ] {
        let done = sandbox.run(&[&repro[..2], &["found/finding-1.json", option, most]].concat());
        let said = sandbox.text(&done.stderr);
        assert_eq!(done.status.code(), Some(3), "{said}");
        let why = format!("{why}; {option} raises that\n");
        assert!(said.ends_with(&why), "{said}");
    }
    let enough = ["--max-files", "4", "--max-changes", "20"];
    let done = sandbox.run(&[&repro[..2], &["found/finding-1.json"], &enough].concat());
    assert_eq!(done.status.code(), Some(1), "{done:?}");
}

/// A limit of the system bounds how many check at a time, and not what is checked.
#[test]
fn checks_that_there_is_no_room_for_at_a_time_come_one_after_the_other() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let script = "for i in 1 2 3 4 5 6 7 8; do echo $i >>work/f; done";
    let run = |limit: &str, jobs: &str| {
        let args = format!("--check 'test -s work/f' --jobs {jobs} --json -- sh -c '{script}'");
        let line = format!("{limit}; exec {PROGRAM} crash --dir work {args}");
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &line]).current_dir(sandbox.path(""));
        found(&output(&mut shell), 0)
    };
    let expected = run(":", "1");
    assert!(expected["different_images"].as_u64().unwrap() > 48);
    // None beyond it, and one that may be raised.
    assert_eq!(run("ulimit -n 96", "48"), expected);
    assert_eq!(run("ulimit -S -n 96", "48"), expected);
}

/// What was there before is no finding of this run.
#[test]
fn a_finding_that_could_not_be_written_is_not_to_be_checked_again() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    // Something that no compression makes smaller.
    let noise: Vec<u8> = (0..4096_u64)
        .flat_map(|n| {
            (n + 1)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29)
                .to_le_bytes()
        })
        .collect();
    sandbox.write("work/noise", noise);
    std::fs::create_dir(sandbox.path("found")).unwrap();
    let at = sandbox.path("found");
    let Some(_disk) = Mounted::tmpfs(&at, 8192) else {
        return;
    };
    sandbox.write("found/finding-1.json", "of before");
    let script = replacing(false, true);
    let run = |more: &[&str]| {
        let more = [&["--out", "found", "--report", "page.html"], more].concat();
        crash(&sandbox, OLD_OR_NEW, &more, &["sh", "-c", &script])
    };
    let why = "found/finding-1.json: writing: no space left on device";
    let done = run(&[]);
    let said = sandbox.text(&done.stdout);
    assert_eq!(done.status.code(), Some(3), "{said}");
    let of_before = "found: of an earlier run: finding-1.json is not of this run";
    assert_eq!(
        sandbox.text(&done.stderr),
        format!("{of_before}\nubdlab: {why}\n")
    );
    assert!(
        said.contains(&format!("\n  not written: {why}\n")),
        "{said}"
    );
    assert!(
        !said.contains("again:") && !said.contains("--out DIR"),
        "{said}"
    );
    let page = String::from_utf8(sandbox.read("page.html")).unwrap();
    assert!(page.contains(&format!("It could not be written: {why}.")));
    assert!(!page.contains("--repro"));
    let done = run(&["--json"]);
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(report["findings"][0]["not_written"], why);
    assert_eq!(report["findings"][0]["file"], Value::Null);
    assert_eq!(sandbox.read("found/finding-1.json"), b"of before");
}

#[test]
fn findings_that_nobody_keeps_come_with_a_hint() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let script = replacing(false, true);
    let hint = "\nnot kept: with --out DIR each finding becomes a file";
    for (more, count) in [(&[][..], 1), (&["--out", "found"], 0)] {
        let done = crash(&sandbox, OLD_OR_NEW, more, &["sh", "-c", &script]);
        let said = sandbox.text(&done.stdout);
        assert_eq!(said.matches(hint).count(), count, "{said}");
    }
    // Where nothing was found there is nothing to keep.
    let done = crash(&sandbox, "true", &[], &["sh", "-c", &script]);
    assert!(!sandbox.text(&done.stdout).contains(hint));
}

#[test]
fn json_is_printed_also_where_nothing_could_be_crashed() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let rule = r#"{"file": "any", "kind": "link", "occurrence": {"nth": 0}, "fault": "io"}"#;
    let fails = ["sh", "-c", "echo no; exit 5"];
    let more = ["--json", "--fault", rule];
    let done = crash(&sandbox, "true", &more, &fails);
    let report = found(&done, 3);
    let said = sandbox.text(&done.stderr);
    let error = report["error"].as_str().unwrap();
    assert_eq!(said, format!("ubdlab: {error}\n"));
    assert_eq!(report["command"], "sh -c 'echo no; exit 5'");
    assert_eq!(report["check"], "true");
    assert_eq!(report["failed"], "the command");
    assert_eq!(report["end"]["end"], "ended with status 5");
    assert_eq!(report["end"]["said"][0], "no");
    assert_eq!(report["rules"][0]["matched"], 0);
    let more = ["--json", "--setup", "exit 6"];
    let report = found(&crash(&sandbox, "true", &more, &fails), 3);
    assert_eq!(report["failed"], "the setup");
    assert_eq!(report["end"]["end"], "ended with status 6");
    // It has not begun.
    let report = found(&crash(&sandbox, "true", &["--json"], &["./not-there"]), 3);
    let why = "the command ./not-there: no such file or directory";
    assert_eq!(report["error"], why);
    assert_eq!(report["failed"], Value::Null);
}

/// A program that tries again and again fills nobody's screen.
#[test]
fn failures_that_are_told_alike_are_counted() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let rule = r#"{"file": {"path": "f"}, "kind": "write", "occurrence": {"from": 0},
                   "fault": "no_space"}"#;
    let script = "for i in $(seq 1000); do echo again 2>&- >>work/f; done; true";
    let more = ["--json", "--fault", rule];
    let done = crash(&sandbox, "true", &more, &["sh", "-c", script]);
    let said = sandbox.text(&done.stderr);
    assert_eq!(
        said,
        "failed as asked for: write f 3+6: no_space (1,000 times)\n"
    );
    assert_eq!(found(&done, 0)["rules"][0]["failed"], 1000);
}

/// Those that pass are not all that there is.
#[test]
fn a_run_that_is_crashed_in_part_says_so() {
    let Some(sandbox) = work(&[]) else {
        return;
    };
    let script = "for i in $(seq 30); do echo $i >>work/f; done";
    let run = |more: &[&str]| crash(&sandbox, "true", more, &["sh", "-c", script]);
    let done = run(&["--points", "9", "--images", "16", "--report", "page"]);
    let said = sandbox.text(&done.stdout);
    assert!(said.contains(" images at 9 of 32 moments: "), "{said}");
    let partly = "more can be left than was looked at (--images)\n";
    assert!(said.contains(partly), "{said}");
    let page = String::from_utf8(sandbox.read("page")).unwrap();
    assert!(page.contains("At 9 of 32 moments of what"), "{page}");
    assert!(page.contains("more can be left than was looked at"));
    let report = found(&run(&["--points", "9", "--json"]), 0);
    assert_eq!(report["points"], 9);
    assert_eq!(report["points_of_run"], 32);
    assert!(report["partial_points"].as_u64().unwrap() > 0);
    // Of a run that is crashed in all ways there is nothing to say.
    let done = crash(&sandbox, "true", &[], &["sh", "-c", "echo >>work/f"]);
    let said = sandbox.text(&done.stdout);
    assert!(said.contains(" images at 3 moments: "), "{said}");
    assert!(!said.contains("--images"), "{said}");
}

/// Images that are alike count in both numbers of a pair, or in none.
#[test]
fn the_numbers_of_what_does_not_pass_are_of_the_same_images() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    // Unsynced twice, so that there are more images than different ones.
    let script = "printf new >work/g; mv work/g work/f; touch work/a; touch work/b";
    let run = |more: &[&str]| crash(&sandbox, "test -s work/f", more, &["sh", "-c", script]);
    let report = found(&run(&["--json"]), 1);
    let number = |name: &str| report[name].as_u64().unwrap();
    let (failed, images) = (number("failed_images"), number("images"));
    let (of_them, different) = (
        number("failed_different_images"),
        number("different_images"),
    );
    assert!(of_them < failed && different < images, "{report}");
    let told = report["findings"].as_array().unwrap().iter();
    let told: u64 = told.map(|it| it["images"].as_u64().unwrap()).sum();
    assert_eq!(told, failed);
    let done = run(&["--report", "page"]);
    let said = sandbox.text(&done.stdout);
    let pairs = format!(
        "\nthe check does not pass on {of_them} of {different} different images ({failed} of all \
         {images})\n"
    );
    assert!(said.contains(&pairs), "{said}");
    let page = String::from_utf8(sandbox.read("page")).unwrap();
    let headline = format!("{of_them} of {different} different images do not pass the check");
    assert!(page.contains(&headline), "{page}");
    // One is no plural.
    let done = crash(&sandbox, "true", &[], &["true"]);
    let said = sandbox.text(&done.stdout);
    assert!(
        said.contains("\npower: 1 image at 1 moment: 1 different, 1 checked\n"),
        "{said}"
    );
}

/// What is in the directory is not all of this run.
#[test]
fn findings_of_an_earlier_run_are_told_of() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let script = replacing(false, true);
    let run = |check: &str| crash(&sandbox, check, &["--out", "found"], &["sh", "-c", &script]);
    let said = |check: &str| sandbox.text(&run(check).stderr);
    assert_eq!(said(OLD_OR_NEW), "");
    let replaced = "found: of an earlier run: replaced 1 finding";
    assert_eq!(said(OLD_OR_NEW), format!("{replaced}\n"));
    sandbox.write("found/finding-7.json", "of somebody");
    let left = "finding-7.json is not of this run";
    assert_eq!(said(OLD_OR_NEW), format!("{replaced}; {left}\n"));
    // One that passes has found none of them.
    let both = "found: of an earlier run: finding-1.json and 1 further finding are not of this run";
    assert_eq!(said("true"), format!("{both}\n"));
    assert_eq!(sandbox.read("found/finding-7.json"), b"of somebody");
}

#[test]
fn what_is_weakened_makes_a_difference_and_is_told() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let run = |more: &[&str]| crash(&sandbox, "true", more, &["sh", "-c", "echo >>work/f"]);
    for (name, model, lacks) in [
        ("whole-pages-at-kill", "power", "--model kill"),
        ("whole-sectors-at-kill", "power", "--model kill"),
        ("atomic-sector", "kill", "--model power"),
        ("ordered-names", "kill", "--model power"),
        ("atomic-set-len", "kill", "--model power"),
        ("length-follows-data", "kill", "--model power"),
        ("sync-persists", "kill", "--model power"),
        ("failed-sync-keeps-content", "power", "--fault"),
        ("failed-sync-keeps-content", "kill", "--fault"),
    ] {
        let done = run(&["--weaken", name, "--model", model]);
        let said = sandbox.text(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{said}");
        let why = format!(
            "--weaken {name}: found nothing to which it makes a difference, expected {lacks} with it"
        );
        assert!(said.contains(&why), "{said}");
    }
    let weakened = ["--weaken", "atomic-sector", "--weaken", "ordered-names"];
    let done = run(&[&weakened[..], &["--report", "page"]].concat());
    let told = "not assumed: atomic-sector, ordered-names";
    let said = sandbox.text(&done.stdout);
    assert!(said.contains(&format!("\n{told}\n")), "{said}");
    let page = String::from_utf8(sandbox.read("page")).unwrap();
    assert!(page.contains("Not assumed: atomic-sector, ordered-names."));
    let report = found(&run(&[&weakened[..], &["--json"]].concat()), 0);
    assert_eq!(
        report["weakened"].to_string(),
        r#"["atomic-sector","ordered-names"]"#
    );
}
