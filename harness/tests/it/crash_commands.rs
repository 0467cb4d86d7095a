//! `ubdlab crash` with programs that know nothing of it: what survives every crash is told from
//! what does not, and the directory stays as it was.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use serde_json::Value;

use crate::support::cli::{PROGRAM, Sandbox, output, ubdlab};
use crate::support::crash::{OLD_OR_NEW, crash, found, replacing, work};
use crate::support::peers::optional_peer;

#[test]
fn a_file_that_is_replaced_as_it_should_be_survives_every_crash() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let before = sandbox.contents();
    let script = replacing(true, true);
    let done = crash(&sandbox, OLD_OR_NEW, &["--json"], &["sh", "-c", &script]);
    let report = found(&done, 0);
    assert_eq!(report["failed_images"], 0);
    assert!(
        report["different_images"].as_u64().unwrap() >= 4,
        "{report}"
    );
    assert_eq!(sandbox.contents(), before);
}

#[test]
fn a_rename_before_its_data_is_found_with_what_was_lost() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let script = replacing(false, true);
    let done = crash(&sandbox, OLD_OR_NEW, &["--json"], &["sh", "-c", &script]);
    let report = found(&done, 1);
    let finding = &report["findings"][0];
    assert_eq!(finding["check"]["end"], "ended with status 7");
    let lost: Vec<_> = finding["unsynced"].as_array().unwrap().iter().collect();
    let fate = |operation: &str| {
        let is_it = |it: &&&Value| it["operation"].as_str().unwrap().starts_with(operation);
        lost.iter()
            .find(is_it)
            .map(|it| it["fate"].as_str().unwrap())
    };
    assert_eq!(fate("rename f.new to f"), Some("survived"), "{report}");
    assert_eq!(fate("write f 0+3"), Some("lost"), "{report}");
    // Shrunk: nothing else is lost.
    let count = lost.iter().filter(|it| it["fate"] != "survived").count();
    assert_eq!(count, 1, "{report}");
}

/// Where names are not ordered, the last rename may survive without the one before it.
#[test]
fn a_directory_is_never_beneath_itself_whatever_survives() {
    let Some(sandbox) = work(&[]) else {
        return;
    };
    std::fs::create_dir_all(sandbox.path("work/a/b")).unwrap();
    let script = "mv work/a work/x; mv work/x/b work/b; mv work/x work/b/a";
    let check = "find work | grep -q b || { echo gone; exit 7; }";
    let more = ["--weaken", "ordered-names", "--json", "--out", "found"];
    let done = crash(&sandbox, check, &more, &["sh", "-c", script]);
    let report = found(&done, 1);
    assert_eq!(report["findings"].as_array().unwrap().len(), 1, "{report}");
    // Nor is it in what such a finding leaves.
    let file = sandbox.read("found/finding-1.json");
    let mut file: Value = serde_json::from_slice(&file).unwrap();
    file["crash"]["power"]["names"] = [false, false, true].into_iter().collect();
    sandbox.write("beneath.json", file.to_string());
    let done = sandbox.run(&["crash", "--repro", "beneath.json"]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
}

/// The names are those of the moment of the crash, and not of what comes after it.
#[test]
fn a_crash_is_told_by_the_names_of_its_moment() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let renamed =
        "mkdir work/d; : >work/d/x; mv work/d work/e; printf new >>work/e/x; mv work/e work/g";
    for (script, check, after, before) in [
        (
            &*replacing(false, false),
            "test ! -e work/f.new",
            "create f.new",
            "write f.new 0+3",
        ),
        (
            &*replacing(false, false),
            "! grep -qs new work/f.new",
            "write f.new 0+3",
            "rename f.new to f",
        ),
        (
            renamed,
            "test ! -e work/e || test -s work/e/x",
            "rename d to e",
            "write e/x 0+3",
        ),
    ] {
        let more = ["--json", "--model", "kill", "--report", "page"];
        let done = crash(&sandbox, check, &more, &["sh", "-c", script]);
        let report = found(&done, 1);
        let finding = &report["findings"][0];
        assert_eq!(finding["after"], after, "{report}");
        assert_eq!(finding["before"], before, "{report}");
        // And so it is where moments are listed.
        let page = String::from_utf8(sandbox.read("page")).unwrap();
        assert!(page.contains(&format!(": {before}<")), "{page}");
    }
}

/// Also while a finding is shrunk: all that it could lose less was checked before.
#[test]
fn an_image_is_checked_once() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let check = format!("echo >>count; {OLD_OR_NEW}");
    let script = replacing(false, true);
    let more = ["--json", "--images", "1000", "--jobs", "1"];
    let report = found(&crash(&sandbox, &check, &more, &["sh", "-c", &script]), 1);
    let checks = sandbox.read("count").len() as u64;
    // The end is checked before it is known what is like it.
    let without_crash = 1;
    let different = report["different_images"].as_u64().unwrap();
    assert_eq!(checks, different + without_crash, "{report}");
    let unsynced = report["findings"][0]["unsynced"].as_array().unwrap();
    assert!(unsynced.len() > 1, "{report}");
}

/// Among hundreds that were lost with it.
#[test]
fn one_lost_write_is_told_alone() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let script = "for i in $(seq 300); do printf x >work/f$i; done; printf x >work/g";
    let check = "test ! -e work/g || test -s work/g";
    let more = ["--json", "--points", "2"];
    let done = crash(&sandbox, check, &more, &["sh", "-c", script]);
    let report = found(&done, 1);
    let unsynced = report["findings"][0]["unsynced"].as_array().unwrap();
    let lost = unsynced.iter().filter(|it| it["fate"] != "survived");
    let lost: Vec<_> = lost.map(|it| it["operation"].as_str().unwrap()).collect();
    assert_eq!(lost, ["write g 0+1"]);
}

/// The processes alone are killed: nothing that they did is lost, but it is not all done.
#[test]
fn a_kill_between_cut_and_write_is_found_and_one_around_a_rename_is_not() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let kill = ["--json", "--model", "kill"];
    let script = replacing(false, false);
    let done = crash(&sandbox, OLD_OR_NEW, &kill, &["sh", "-c", &script]);
    assert_eq!(found(&done, 0)["failed_images"], 0);
    let done = crash(
        &sandbox,
        OLD_OR_NEW,
        &kill,
        &["sh", "-c", "printf new >work/f"],
    );
    let report = found(&done, 1);
    assert_eq!(report["findings"][0]["before"], "write f 0+3", "{report}");
}

#[test]
fn whatever_the_number_of_jobs_the_findings_are_alike() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let script = "printf aaaa >work/f; dd if=/dev/zero of=work/g bs=4096 count=9 conv=fsync; \
                  mv work/g work/f; printf b >>work/f";
    let check = "test ! -e work/g";
    let run = |jobs: &str| {
        let more = ["--json", "--jobs", jobs, "--images", "40"];
        let mut report = found(&crash(&sandbox, check, &more, &["sh", "-c", script]), 1);
        // It says how long it took.
        report["command_end"]["said"].take();
        report
    };
    assert_eq!(run("1"), run("3"));
}

/// That is no loss, and has the status of what could not be run.
#[test]
fn a_run_that_fails_the_check_without_a_crash_is_said_first() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let hangs = "grep -q old work/f || { echo neither; sleep 1000; }";
    let missing = "grep -q old work/f || { echo neither; ./no-such-check; }";
    let nothing = "ubdlab: nothing was crashed: without a crash, the check ";
    let not_run = "ubdlab: the check could not be run: without a crash, it ";
    for (check, end, why) in [
        (OLD_OR_NEW, "ended with status 7", nothing),
        (hangs, "took too long and was killed", nothing),
        (missing, "ended with status 127", not_run),
    ] {
        let more = ["--timeout", "2", "--report", "page"];
        let done = crash(&sandbox, check, &more, &["sh", "-c", "echo else >work/f"]);
        let said = sandbox.text(&done.stdout);
        assert_eq!(done.status.code(), Some(3), "{said}");
        assert!(
            said.contains(&format!("without any crash, the check {end}\n")),
            "{said}"
        );
        assert!(said.contains("| neither"), "{said}");
        assert_eq!(sandbox.text(&done.stderr), format!("{why}{end}\n"));
        assert!(sandbox.path("page").exists());
    }
}

/// Without a program that a crash has taken, the check cannot be run either, and that is a finding.
#[test]
fn a_check_whose_program_a_crash_has_taken_does_not_pass() {
    let Some(sandbox) = work(&[]) else {
        return;
    };
    let script = "touch work/done; sync work; printf '#!/bin/sh\n' >work/run; chmod +x work/run";
    let check = "test ! -e work/done || work/run";
    let done = crash(&sandbox, check, &["--json"], &["sh", "-c", script]);
    let report = found(&done, 1);
    let end = &report["findings"][0]["check"]["end"];
    assert_eq!(end, "ended with status 127", "{report}");
}

#[test]
fn what_cannot_be_run_is_said_in_one_error() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    for (command, error) in [
        (
            &["sh", "-c", "echo no >&2; exit 3"][..],
            "the command ended with status 3; it said: no",
        ),
        (
            &["/not/there"],
            "the command /not/there: no such file or directory",
        ),
        (
            &["sh", "-c", "kill -9 $$"],
            "the command was ended by signal 9",
        ),
    ] {
        let args = [
            &["crash", "--dir", "work", "--check", "true", "--"],
            command,
        ]
        .concat();
        sandbox.refuses(&args, error);
    }
    // The system has the same words for a script and for what runs it.
    sandbox.write("script", "#!/not/there\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(sandbox.path("script"), mode).unwrap();
    let args = [
        "crash", "--dir", "work", "--check", "true", "--", "./script",
    ];
    let why = "the command ./script: found the file, and not the interpreter that its first line \
               or its header names";
    sandbox.refuses(&args, why);
    let args = [
        "crash", "--dir", "@nowhere", "--check", "true", "--", "true",
    ];
    sandbox.refuses(&args, "@nowhere: no such file or directory");
}

#[test]
fn a_check_that_does_not_end_is_a_finding_and_is_killed_with_what_it_started() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let check = "test -s work/f || { sleep 1000 & sleep 1000; }";
    let more = ["--json", "--timeout", "1", "--model", "kill"];
    let done = crash(&sandbox, check, &more, &["sh", "-c", "printf new >work/f"]);
    let report = found(&done, 1);
    let end = &report["findings"][0]["check"]["end"];
    assert_eq!(end, "took too long and was killed");
}

#[test]
fn with_keep_the_directory_becomes_what_the_command_made_of_it() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let script = "mkdir work/d && mv work/f work/d/g && ln work/d/g work/h && chmod 600 work/h";
    let done = crash(&sandbox, "true", &["--keep"], &["sh", "-c", script]);
    assert_eq!(done.status.code(), Some(0));
    assert_eq!(sandbox.read("work/d/g"), b"old");
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(sandbox.path("work/h")).unwrap();
    assert_eq!((found.nlink(), found.mode() & 0o777), (2, 0o600));
    assert!(!sandbox.path("work/f").exists());
    // Nothing is left beside it.
    let beside = std::fs::read_dir(sandbox.path("")).unwrap();
    assert_eq!(beside.count(), 1);
}

#[test]
fn a_finding_is_a_file_that_is_checked_again_anywhere() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let script = replacing(false, true);
    let more = ["--out", "found"];
    let done = crash(&sandbox, OLD_OR_NEW, &more, &["sh", "-c", &script]);
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        said.contains("again: ubdlab crash --repro found/finding-1.json"),
        "{said}"
    );
    let file = sandbox.read("found/finding-1.json");
    let other = Sandbox::new();
    other.write("finding", &file);
    let again = other.run(&["crash", "--repro", "finding", "--json"]);
    let report = found(&again, 1);
    assert_eq!(report["end"], "ended with status 7", "{report}");
    // What survived is in the file: here it is all of it, which passes.
    let mut edited: Value = serde_json::from_slice(&file).unwrap();
    for fates in edited["crash"]["power"]["files"]
        .as_object_mut()
        .unwrap()
        .values_mut()
    {
        fates.as_array_mut().unwrap().fill("whole".into());
    }
    other.write("edited", edited.to_string());
    let again = other.run(&["crash", "--repro", "edited", "--json"]);
    assert_eq!(found(&again, 0)["passes"], true);
    let left: Vec<_> = other.contents().into_keys().collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_file_that_is_no_finding_is_refused_with_what_is_wrong() {
    let sandbox = Sandbox::new();
    let refuses = |text: &str, error: &str| {
        sandbox.write("finding", text);
        sandbox.refuses(
            &["crash", "--repro", "@finding"],
            &format!("@finding: {error}"),
        );
    };
    refuses(
        "{}",
        "not a finding of ubdlab crash: missing field `format` at line 1 column 2",
    );
}

#[test]
fn what_is_to_fail_fails_and_its_end_is_crashed_too() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let rule = r#"{"file": {"path": "f.new"}, "kind": "sync_data", "occurrence": {"nth": 0},
                   "fault": "failed_sync"}"#;
    let more = ["--json", "--fault", rule];
    let run = |script: &str| crash(&sandbox, OLD_OR_NEW, &more, &["sh", "-c", script]);
    // It stops at the sync that fails.
    let done = run(&replacing(true, true));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("failed as asked for: "), "{said}");
    assert_eq!(found(&done, 0)["failed_images"], 0);
    // It goes on, and what could not be synced is lost.
    let done = run(&replacing(true, true).replace("sync work/f.new &&", "sync work/f.new;"));
    assert_eq!(found(&done, 1)["without_crash"]["passes"], true);
}

/// Not only what changes something: whatever a program asks of its files.
#[test]
fn whatever_is_asked_of_a_file_can_fail() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    for (kind, fault, script) in [
        ("open", "io", "cat work/f"),
        ("read", "io", "cat work/f"),
        ("metadata", "io", "stat work/f"),
        ("allocate", "no_space", "fallocate -l 4096 work/f"),
        ("set_attributes", "io", "chmod 600 work/f"),
        ("make_directory", "no_space", "mkdir work/f.d"),
        ("link", "no_space", "ln work/f work/f.l"),
    ] {
        let rule = format!(
            r#"{{"file": "any", "kind": "{kind}", "occurrence": {{"from": 0}}, "fault": "{fault}"}}"#
        );
        let more = ["--json", "--fault", &rule];
        let script = format!("! {script}");
        let done = crash(&sandbox, "true", &more, &["sh", "-c", &script]);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(said.contains("failed as asked for: "), "{kind}: {said}");
        found(&done, 0);
    }
}

/// A program that takes a file for complete when it has its time, as rsync does, goes on without
/// its content.
#[test]
fn a_time_that_is_given_before_the_content_is_durable_is_found() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let check = "test \"$(stat -c %Y work/f)\" != 1000000000 || grep -q new work/f";
    let copy =
        |sync: &str| format!("printf new >work/f{sync}; touch -d '2001-09-09 01:46:40 UTC' work/f");
    for (sync, status) in [("", 1), ("; sync work/f", 0)] {
        let script = copy(sync);
        let done = crash(&sandbox, check, &["--json"], &["sh", "-c", &script]);
        found(&done, status);
    }
}

/// Whatever the changes that a request is made of, rules count it once.
#[test]
fn a_rule_counts_what_a_program_asks_for() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let second = |kind: &str| {
        format!(
            r#"{{"file": {{"path": "f"}}, "kind": "{kind}", "occurrence": {{"nth": 1}}, "fault": "io"}}"#
        )
    };
    // It zeroes what is there, takes space, and makes the file longer.
    let zero = "fallocate -z -l 9000 work/f && ! fallocate -z -l 20000 work/f && \
                fallocate -z -l 30000 work/f";
    let take = "fallocate -l 9000 work/f && ! fallocate -l 20000 work/f && \
                fallocate -l 30000 work/f";
    for (kind, script) in [("zero_range", zero), ("allocate", take)] {
        let rule = second(kind);
        let more = ["--json", "--fault", &rule];
        let done = crash(&sandbox, "true", &more, &["sh", "-c", script]);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(said.matches("failed as asked for: ").count(), 1, "{said}");
        found(&done, 0);
    }
}

#[test]
fn a_rule_goes_by_the_name_that_a_file_has_then() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let rule = r#"{"file": {"path": "d/g"}, "kind": "write", "occurrence": {"nth": 0},
                   "fault": "no_space"}"#;
    let script = "echo >>work/f && mkdir work/c && mv work/f work/c/g && echo >>work/c/g && \
                  mv work/c work/d && ! echo >>work/d/g";
    let more = ["--json", "--fault", rule];
    let done = crash(&sandbox, "true", &more, &["sh", "-c", script]);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("write d/g 5+1: no_space"), "{said}");
    found(&done, 0);
}

/// It is the file that fails, whichever of its names the program has used.
#[test]
fn a_rule_goes_by_any_of_the_names_that_a_file_has_then() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let before = "ln work/f work/g && mkdir work/d && ln work/f work/d/h";
    for named in ["f", "g", "d/h"] {
        for used in ["f", "g", "d/h"] {
            let rule = format!(
                r#"{{"file": {{"path": "{named}"}}, "kind": "write", "occurrence": {{"from": 0}},
                    "fault": "no_space"}}"#
            );
            let script = format!(
                "! echo 1 >>work/{used} && rm work/{named} && echo 2 >>\"$(ls work/[fg] | head -1)\""
            );
            let more = ["--json", "--setup", before, "--fault", &rule];
            let done = crash(&sandbox, "true", &more, &["sh", "-c", &script]);
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            found(&done, 0);
            let failed: Vec<_> = said
                .lines()
                .filter(|line| line.contains("failed as"))
                .collect();
            assert_eq!(failed.len(), 1, "{named}, {used}: {said}");
            let told = format!("write {named} 3+2: no_space");
            assert!(failed[0].ends_with(&told), "{named}, {used}: {said}");
        }
    }
}

/// Nobody asks for a link by the name that the file has already.
#[test]
fn a_change_of_names_is_about_one_name_and_what_is_removed_keeps_its_last() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    for (kind, path, script) in [
        (
            "rename",
            "f",
            "! mv work/f work/g && ln work/f work/l && mv work/l work/g",
        ),
        ("link", "l", "! ln work/f work/l && ln work/f work/f2"),
        ("create_new", "s", "! ln -s f work/s"),
        ("create_new", "n", "! touch work/n"),
        ("remove", "f", "! rm -f work/f"),
        ("write", "f", "exec 3>>work/f; rm work/f; ! echo >&3"),
        ("sync_directory", ".", "! sync work"),
    ] {
        let rule = format!(
            r#"{{"file": {{"path": "{path}"}}, "kind": "{kind}", "occurrence": {{"nth": 0}},
                "fault": "io"}}"#
        );
        let more = ["--json", "--fault", &rule];
        let done = crash(&sandbox, "true", &more, &["sh", "-c", script]);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        let failed = said.matches("failed as asked for: ").count();
        assert_eq!(failed, 1, "{kind} {path}: {said}");
        found(&done, 0);
    }
}

/// What is told of a finding can be given to any shell, whatever the name of its file.
#[test]
fn the_line_that_repeats_a_finding_takes_names_of_any_bytes() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let script = replacing(false, true);
    for out in [
        &b"f\xff 'd"[..],
        b"it's here",
        b"a\nb%d\\n",
        b"\xc3\xbc \x1b[2J!$x`",
    ] {
        let mut command = ubdlab();
        command.args(["crash", "--dir", "work", "--check", OLD_OR_NEW, "--out"]);
        command.arg(OsStr::from_bytes(out));
        command.args(["--", "sh", "-c", &script]);
        let done = output(command.current_dir(sandbox.path("")));
        assert_eq!(done.status.code(), Some(1), "{done:?}");
        let said = String::from_utf8_lossy(&done.stdout);
        let again = said
            .lines()
            .find_map(|line| line.trim().strip_prefix("again: "));
        let again = again.unwrap().replacen("ubdlab", PROGRAM, 1);
        // A shell that knows no more than POSIX asks for, and that of most users, where they are.
        for shell in ["sh", "dash", "bash"].into_iter().filter_map(optional_peer) {
            let mut command = std::process::Command::new(shell);
            command.args(["-c", &again]).current_dir(sandbox.path(""));
            let done = output(&mut command);
            let said = String::from_utf8_lossy(&done.stdout);
            assert_eq!(done.status.code(), Some(1), "{again}: {done:?}");
            assert!(said.contains("ended with status 7"), "{said}");
        }
    }
}

/// What a command has beside the directory.
#[test]
fn input_is_empty_output_is_kept_and_what_is_elsewhere_is_real() {
    let Some(sandbox) = work(&[]) else {
        return;
    };
    let line = format!(
        "echo data | exec {PROGRAM} crash --dir work --check 'test ! -s work/q' --json -- \
         sh -c 'cat >work/q; echo said; echo beside >beside'"
    );
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &line]).current_dir(sandbox.path(""));
    let report = found(&output(&mut shell), 0);
    assert_eq!(report["command_end"]["said"][0], "said");
    assert_eq!(sandbox.read("beside"), b"beside\n");
    assert!(!sandbox.path("work/q").exists());
}
