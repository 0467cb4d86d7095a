//! `ubdlab crash` with programs that know nothing of it: what survives every crash is told from
//! what does not, and the directory stays as it was.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::support::cli::{PROGRAM, SIZE, Sandbox};
use crate::support::fuse::can_mount;
use crate::support::peers::peer;

/// A directory `work` with these files in it. `None` where nothing can be mounted.
fn work(files: &[(&str, &str)]) -> Option<Sandbox> {
    if !can_mount() {
        return None;
    }
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("work")).unwrap();
    for (name, content) in files {
        sandbox.write(&format!("work/{name}"), content);
    }
    Some(sandbox)
}

/// An empty directory `work`, for a peer's program with this name.
fn work_of(peer_name: &str) -> Option<(String, Sandbox)> {
    let program = peer(peer_name)?;
    Some((program.to_str().unwrap().to_owned(), work(&[])?))
}

fn crash(sandbox: &Sandbox, check: &str, more: &[&str], command: &[&str]) -> Output {
    let before = ["crash", "--dir", "work", "--check", check];
    sandbox.run(&[&before, more, &["--"], command].concat())
}

/// What is found, of a run that ends with this status.
fn found(output: &Output, status: i32) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A script that replaces `work/f`, with these syncs.
fn replacing(sync_file: bool, sync_directory: bool) -> String {
    let mut script = "printf new >work/f.new && ".to_owned();
    if sync_file {
        script += "sync work/f.new && ";
    }
    script += "mv work/f.new work/f";
    if sync_directory {
        script += " && sync work";
    }
    script
}

const OLD_OR_NEW: &str =
    "case $(cat work/f) in old|new) ;; *) cat work/f; echo neither; exit 7;; esac";

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
        found(&crash(&sandbox, check, &more, &["sh", "-c", script]), 1)
    };
    assert_eq!(run("1"), run("3"));
}

#[test]
fn a_run_that_fails_the_check_without_a_crash_is_said_first() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let done = crash(
        &sandbox,
        OLD_OR_NEW,
        &[],
        &["sh", "-c", "echo else >work/f"],
    );
    let said = String::from_utf8_lossy(&done.stdout);
    assert_eq!(done.status.code(), Some(1));
    assert!(
        said.contains("without any crash, the check ended with status 7"),
        "{said}"
    );
    assert!(said.contains("| neither"), "{said}");
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
        (&["/not/there"], "the command: no such file or directory"),
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

/// A resize that is interrupted by a power cut, and what the image's own tools make of it.
#[test]
fn a_resize_of_an_image_survives_every_power_cut() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("work")).unwrap();
    sandbox.write_backing("work/backing", SIZE);
    sandbox.create_cow("work/cow", "work/backing");
    sandbox.make_dirty("work/cow");
    // Of a grow by headroom, bits may be left that `--repair` clears.
    let check = format!(
        "{PROGRAM} image recover work/cow >/dev/null 2>&1; \
         {PROGRAM} image check --repair work/cow >/dev/null; \
         {PROGRAM} image check work/cow && {PROGRAM} image convert work/cow raw --to raw && \
         test $(head -c 512 raw | tr -d d | wc -c) = 0 && rm raw"
    );
    for strategy in ["headroom", "rebuild", "reflow"] {
        let resize = [
            PROGRAM,
            "image",
            "resize",
            "work/cow",
            "2M",
            "--strategy",
            strategy,
        ];
        let more = ["--json", "--points", "60", "--images", "12", "--jobs", "1"];
        let done = crash(&sandbox, &check, &more, &resize);
        let said = String::from_utf8_lossy(&done.stdout);
        assert_eq!(done.status.code(), Some(0), "{strategy}: {said}");
    }
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

/// SQLite's manual: with FULL a power cut corrupts nothing, with OFF it may.
#[test]
fn sqlite_survives_with_its_syncs_and_not_without() {
    let Some((sqlite, sandbox)) = work_of("sqlite3") else {
        return;
    };
    let setup = format!(
        "{sqlite} work/db 'create table t(a, b); \
         insert into t select value, hex(randomblob(500)) from generate_series(1, 30)'"
    );
    let check = format!("test \"$({sqlite} work/db 'pragma integrity_check')\" = ok");
    for (journal, synchronous, status) in [
        ("delete", "full", 0),
        ("wal", "full", 0),
        ("delete", "off", 1),
    ] {
        let script = format!(
            "pragma locking_mode=exclusive; pragma journal_mode={journal}; \
             pragma synchronous={synchronous}; \
             update t set b = hex(randomblob(500)) where a > 10; \
             delete from t where a < 5; insert into t values (99, 'x')"
        );
        let more = [
            "--json", "--setup", &setup, "--points", "60", "--images", "10",
        ];
        let done = crash(&sandbox, &check, &more, &[&sqlite, "work/db", &script]);
        let said = String::from_utf8_lossy(&done.stdout);
        let (found, settings) = (done.status.code(), [journal, synchronous]);
        assert_eq!(found, Some(status), "{settings:?}: {said}");
    }
}

/// A crash in the middle of a merge into the backing file leaves neither what was there nor what
/// was to be.
#[test]
fn a_merge_by_uml_moo_into_the_backing_file_is_found() {
    let Some(uml_moo) = peer("uml_moo") else {
        return;
    };
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("work")).unwrap();
    sandbox.write_backing("work/backing", SIZE);
    sandbox.create_cow("work/cow", "work/backing");
    sandbox.make_dirty_at("work/cow", &[0, 100]);
    sandbox.succeeds(&["image", "convert", "@work/cow", "@merged", "--to", "raw"]);
    let check = format!("cmp -s work/backing merged || {PROGRAM} image check work/cow");
    let command = [uml_moo.to_str().unwrap(), "-d", "work/cow"];
    let more = ["--json", "--points", "40", "--images", "6"];
    let report = found(&crash(&sandbox, &check, &more, &command), 1);
    assert_eq!(report["without_crash"]["passes"], true, "{report}");
    assert!(report["failed_images"].as_u64().unwrap() > 0, "{report}");
}

/// Whatever comes of it: it is run, crashed and told.
#[test]
fn qemu_img_commit_is_crashed_and_reported() {
    let Some((qemu_img, sandbox)) = work_of("qemu-img") else {
        return;
    };
    let setup = format!(
        "cd work && {qemu_img} create -q -f qcow2 base.qcow2 4M \
         && {qemu_img} create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2 \
         && qemu-io -c 'write -P 7 0 192k' top.qcow2"
    );
    // Leaked clusters cost space and nothing else.
    let check = format!(
        "for f in work/base.qcow2 work/top.qcow2; do \
         {qemu_img} check -q $f; case $? in 0|3) ;; *) exit 1;; esac; done"
    );
    let more = [
        "--json", "--setup", &setup, "--points", "40", "--images", "8",
    ];
    let commit = [&qemu_img, "commit", "-q", "work/top.qcow2"];
    let done = crash(&sandbox, &check, &more, &commit);
    let status = done.status.code();
    assert!(matches!(status, Some(0 | 1)), "{done:?}");
    let report = found(&done, status.unwrap());
    assert_eq!(report["without_crash"]["passes"], true, "{report}");
    assert!(report["checked_images"].as_u64().unwrap() > 10, "{report}");
    assert!(
        Path::new(&sandbox.path("work"))
            .read_dir()
            .unwrap()
            .next()
            .is_none()
    );
}
