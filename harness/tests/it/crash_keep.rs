//! `ubdlab crash --keep`: nothing goes that was not copied, nothing that others have done
//! meanwhile, and nothing when the power goes in the middle.

use std::os::unix::net::UnixListener;
use std::process::Command;

use rustix::fs::{Mode, XattrFlags, mkfifoat, setxattr};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::cli::{PROGRAM, Sandbox};
use crate::support::crash::{crash, start, wait_for, work};
use crate::support::fuse::Directory;
use crate::support::mounted::Mounted;

/// Runs a command that says so, and has to be refused before.
fn refused(sandbox: &Sandbox, more: &[&str], error: &str) {
    let before = sandbox.contents();
    let more = [&["--keep"], more].concat();
    let done = crash(
        sandbox,
        "true",
        &more,
        &["sh", "-c", "echo >ran; echo >>work/f"],
    );
    let said = sandbox.text(&done.stderr);
    assert!(said.contains(error), "{said}");
    assert!(matches!(done.status.code(), Some(2 | 3)), "{said}");
    assert!(!sandbox.path("ran").exists(), "it ran");
    assert_eq!(sandbox.contents(), before);
}

#[test]
fn a_directory_with_a_mount_beneath_it_is_refused() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    std::fs::create_dir(sandbox.path("other")).unwrap();
    sandbox.write("other/precious", "precious");
    let Some(below) = Directory::new(&sandbox, "work/with space") else {
        return;
    };
    let mut mount = Command::new("mount");
    mount
        .arg("--bind")
        .arg(sandbox.path("other"))
        .arg(below.path());
    assert!(mount.status().unwrap().success());
    refused(&sandbox, &[], "work/with space: found a mount there");
    assert_eq!(sandbox.read("other/precious"), b"precious");
}

#[test]
fn a_directory_that_is_a_mount_itself_is_refused() {
    let Some(sandbox) = work(&[]) else {
        return;
    };
    let at = sandbox.path("work");
    let Some(_mounted) = Mounted::tmpfs(&at, 1 << 20) else {
        return;
    };
    sandbox.write("work/f", "old");
    refused(&sandbox, &[], "work: found a mount there");
}

#[test]
fn a_directory_in_one_that_cannot_be_written_is_refused() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    std::fs::create_dir(sandbox.path("work/in")).unwrap();
    sandbox.write("work/in/f", "old");
    let at = sandbox.path("work");
    let read_only = ["-o", "bind,ro", at.to_str().unwrap()];
    let Some(_mounted) = Mounted::with(&at, &read_only) else {
        return;
    };
    let before = sandbox.contents();
    let args = ["crash", "--dir", "work/in", "--check", "true", "--keep"];
    let done = sandbox.run(&[&args[..], &["--", "sh", "-c", "echo >ran"]].concat());
    let said = sandbox.text(&done.stderr);
    let why = "work: exchanging two directories in it: read-only file system";
    assert!(said.contains(why), "{said}");
    assert_eq!(done.status.code(), Some(3));
    assert_eq!(sandbox.contents(), before);
}

#[test]
fn what_would_be_lost_is_refused_before_anything_runs() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let at = |name: &str| sandbox.path(name);
    std::fs::write(at("outside"), "shared").unwrap();
    std::fs::hard_link(at("outside"), at("work/link")).unwrap();
    refused(
        &sandbox,
        &[],
        "work/link: found a file that has names outside",
    );
    std::fs::remove_file(at("work/link")).unwrap();
    let listener = UnixListener::bind(at("work/socket")).unwrap();
    refused(
        &sandbox,
        &[],
        "work/socket: found neither a file nor a directory",
    );
    drop(listener);
    std::fs::remove_file(at("work/socket")).unwrap();
    mkfifoat(rustix::fs::CWD, at("work/fifo"), Mode::RUSR).unwrap();
    refused(
        &sandbox,
        &[],
        "work/fifo: found neither a file nor a directory",
    );
    std::fs::remove_file(at("work/fifo")).unwrap();
    refused(
        &sandbox,
        &["--out", "work/found"],
        "--out work/found: found a place in",
    );
    refused(
        &sandbox,
        &["--report", "work/page"],
        "--report work/page: found a place in",
    );
    match setxattr(at("work/f"), "user.colour", b"red", XattrFlags::CREATE) {
        Ok(()) => refused(
            &sandbox,
            &[],
            "work/f: found the extended attribute user.colour",
        ),
        Err(error) => eprintln!("skipped: no extended attributes here: {error}"),
    }
}

#[test]
fn what_others_have_changed_meanwhile_stays_and_so_does_what_the_command_made() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let script = "echo new >work/f; : >begun; until test -e go; do sleep 0.01; done";
    let args = ["crash", "--dir", "work", "--check", "true", "--keep"];
    let mut child = start(&sandbox, &[&args[..], &["--", "sh", "-c", script]].concat());
    wait_for(&mut child, || sandbox.path("begun").exists());
    sandbox.write("work/others", "others");
    sandbox.write("go", "");
    let output = child.wait_with_output().unwrap();
    let said = sandbox.text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(
        said.contains("somebody else has changed it meanwhile"),
        "{said}"
    );
    assert_eq!(sandbox.read("work/f"), b"old");
    assert_eq!(sandbox.read("work/others"), b"others");
    let (_, made) = said.trim_end().rsplit_once(".ubdlab-crash-").unwrap();
    assert_eq!(sandbox.read(&format!(".ubdlab-crash-{made}/f")), b"new\n");
}

#[test]
fn a_run_that_has_not_gone_through_changes_nothing() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let command = ["sh", "-c", "echo new >work/f"];
    let done = crash(&sandbox, "exit 4", &["--keep"], &command);
    let said = sandbox.text(&done.stderr);
    let expected = "work: it stays as it was: the check does not pass without a crash";
    assert!(said.contains(expected), "{said}");
    assert_eq!(sandbox.read("work/f"), b"old");
    // Here the command fails, and there the finding has no place.
    std::fs::create_dir_all(sandbox.path("found/finding-1.json")).unwrap();
    let fails = ["sh", "-c", "echo new >work/f; exit 3"];
    let check = "grep -q new work/f";
    for (command, error) in [
        (&fails, "the command ended with status 3"),
        (&command, "found/finding-1.json: writing: found a directory"),
    ] {
        let done = crash(&sandbox, check, &["--keep", "--out", "found"], command);
        let said = sandbox.text(&done.stderr);
        assert_eq!(done.status.code(), Some(3), "{said}");
        let expected = format!("work: it stays as it was: the run has failed\nubdlab: {error}");
        assert!(said.contains(&expected), "{said}");
        assert_eq!(sandbox.read("work/f"), b"old");
    }
    // Here the end passes, and then a signal comes.
    let check = "grep -q new work/f || { : >checked; sleep 1000; }";
    let args = ["crash", "--dir", "work", "--check", check, "--keep", "--"];
    let mut child = start(&sandbox, &[&args[..], &command].concat());
    wait_for(&mut child, || sandbox.path("checked").exists());
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = sandbox.text(&output.stderr);
    assert!(
        said.contains("work: it stays as it was: a signal"),
        "{said}"
    );
    assert_eq!(sandbox.read("work/f"), b"old");
}

/// `ubdlab crash` crashed by itself, while it replaces a directory: the old one is there, or the
/// new one, and each is whole.
#[test]
fn when_the_power_goes_the_old_directory_is_there_or_the_new_one() {
    let Some(sandbox) = work(&[]) else {
        return;
    };
    std::fs::create_dir_all(sandbox.path("work/in/d")).unwrap();
    sandbox.write("work/in/f", "old");
    sandbox.write("work/in/d/g", "old");
    let check = "case $(cat work/in/f work/in/d/g) in oldold|newnew) ;; *) exit 5;; esac";
    let script = "printf new >work/in/f; printf new >work/in/d/g";
    let inner = ["crash", "--dir", "work/in", "--check", "true", "--keep"];
    let inner = [&[PROGRAM], &inner[..], &["--", "sh", "-c", script]].concat();
    let done = crash(&sandbox, check, &["--images", "12"], &inner);
    let said = format!(
        "{}{}",
        sandbox.text(&done.stdout),
        sandbox.text(&done.stderr)
    );
    assert_eq!(done.status.code(), Some(0), "{said}");
    assert!(said.contains("the check passes on all of them"), "{said}");
}
