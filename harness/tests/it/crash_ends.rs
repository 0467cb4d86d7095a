//! `ubdlab crash` ends when it is asked to, with what it has found so far, and leaves neither a
//! mount nor a process behind.

use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::cli::{Sandbox, ubdlab_that_heeds_signals};
use crate::support::fuse::{Directory, can_mount};
use crate::support::mounted::{Mounted, SharedMounts};

fn start(sandbox: &Sandbox, args: &[&str]) -> Child {
    let mut command = ubdlab_that_heeds_signals();
    command.args(args).current_dir(sandbox.path(""));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Waits until `happened`, as long as the child runs.
fn wait_for(child: &mut Child, happened: impl Fn() -> bool) {
    while !happened() {
        assert_eq!(child.try_wait().unwrap(), None, "it ended early");
        std::thread::yield_now();
    }
}

/// Whether a process with this number is there, and no zombie.
fn runs(number: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/stat", number.trim()));
    status.is_ok_and(|status| !status.contains(") Z "))
}

#[test]
fn a_signal_ends_the_checks_and_what_was_found_is_told() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("work")).unwrap();
    sandbox.write("work/f", "old");
    // The end passes; of the rest, one check does not end.
    let check = "grep -q new work/f || { sleep 1000 & echo $! >pid.new; mv pid.new pid; wait; }";
    let args = [
        "crash",
        "--dir",
        "work",
        "--check",
        check,
        "--jobs",
        "1",
        "--json",
        "--",
        "sh",
        "-c",
        "printf new >work/f",
    ];
    let mut child = start(&sandbox, &args);
    wait_for(&mut child, || sandbox.path("pid").exists());
    let sleeper = sandbox.read("pid");
    let sleeper = String::from_utf8(sleeper).unwrap();
    assert!(runs(&sleeper));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !mounts.contains(sandbox.path("work").to_str().unwrap()),
        "others see the mount"
    );
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["stopped_early"], true);
    // A process that was killed may be there for a moment.
    while runs(&sleeper) {
        std::thread::yield_now();
    }
    assert_eq!(sandbox.read("work/f"), b"old");
}

#[test]
fn what_a_crash_has_left_is_mounted_until_a_signal_comes() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let Some(directory) = Directory::new(&sandbox, "m") else {
        return;
    };
    std::fs::create_dir(sandbox.path("work")).unwrap();
    sandbox.write("work/f", "old");
    let found = sandbox.run(&[
        "crash",
        "--dir",
        "work",
        "--check",
        "test -s work/f",
        "--out",
        "found",
        "--",
        "sh",
        "-c",
        "printf new >work/g; mv work/g work/f",
    ]);
    assert_eq!(found.status.code(), Some(1), "{found:?}");
    let args = ["crash", "--repro", "found/finding-1.json", "--mount", "m"];
    let mut child = start(&sandbox, &args);
    wait_for(&mut child, || sandbox.path("m/f").exists());
    assert_eq!(sandbox.read("m/f"), b"");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("m: what the crash has left of work"),
        "{said}"
    );
    assert!(!directory.is_mounted());
}

/// The command has a view of the file system of its own, and what somebody unmounts goes from it:
/// the device would stay in use as long as the crashes go on.
#[test]
fn what_is_unmounted_elsewhere_is_unmounted_for_the_command() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    for directory in ["work", "mounts", "mounts/disk"] {
        std::fs::create_dir(sandbox.path(directory)).unwrap();
    }
    let (mounts, at) = (sandbox.path("mounts"), sandbox.path("mounts/disk"));
    let _shared = SharedMounts::below(&mounts);
    let Some(disk) = Mounted::tmpfs(&at, 1 << 20) else {
        return;
    };
    sandbox.write("mounts/disk/file", "");
    let made = std::process::Command::new("mkfifo")
        .arg(sandbox.path("go"))
        .status();
    assert!(made.unwrap().success());
    let command = "test -e mounts/disk/file && touch work/f begun; \
                   cat go; test -e mounts/disk/file && touch stays";
    let args = [
        "crash", "--dir", "work", "--check", "true", "--", "sh", "-c",
    ];
    let mut child = start(&sandbox, &[&args[..], &[command]].concat());
    wait_for(&mut child, || sandbox.path("begun").exists());
    disk.end();
    std::fs::write(sandbox.path("go"), "").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(sandbox.path("begun").exists(), "{output:?}");
    assert!(!sandbox.path("stays").exists(), "{output:?}");
}
