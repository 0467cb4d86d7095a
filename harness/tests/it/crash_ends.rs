//! `ubdlab crash` ends when it is asked to, with what it has found so far, and leaves neither a
//! mount nor a process behind.

use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Output};

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::cli::Sandbox;
use crate::support::crash::{crash, found, start, wait_for, work};
use crate::support::fuse::{Directory, can_mount};
use crate::support::mounted::{Mounted, SharedMounts};

/// A process that does not end by itself, for a script that runs in a sandbox. It has the path of
/// [`MARKER`] in its command line, and the script has not.
const ENDLESS: &str = "tail -f \"$PWD\"/marker";

const MARKER: &str = "marker";

/// Whether an [`ENDLESS`] process of this sandbox is there. Its number is nothing that it could
/// say: in its namespace it has another.
fn runs(sandbox: &Sandbox) -> bool {
    let marker = sandbox.path(MARKER);
    let marker = marker.as_os_str().as_bytes();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let has_it = |line: Vec<u8>| line.windows(marker.len()).any(|part| part == marker);
    let mut lines = processes.map(|process| std::fs::read(process.path().join("cmdline")));
    lines.any(|line| line.is_ok_and(has_it))
}

/// Sends the signal, and says how the program has ended by it.
fn ended_by(child: Child, signal: Signal) -> Output {
    kill_process(Pid::from_child(&child), signal).unwrap();
    let output = child.wait_with_output().unwrap();
    let expected = Some(128 + signal.as_raw());
    assert_eq!(output.status.code(), expected, "{output:?}");
    output
}

#[test]
fn what_a_command_leaves_running_ends_with_it() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    sandbox.write(MARKER, "");
    let before = sandbox.contents();
    let daemon = format!(
        "setsid -f sh -c 'while :; do echo late >work/late; done'; setsid -f {ENDLESS} >&2 & "
    );
    for (setup, command, check) in [
        (&*daemon, "echo >>work/f", "true"),
        ("true", &*daemon, "true"),
        ("true", "echo >>work/f", &*daemon),
    ] {
        let more = ["--setup", setup, "--jobs", "1"];
        let done = crash(&sandbox, check, &more, &["sh", "-c", command]);
        assert_eq!(done.status.code(), Some(0), "{done:?}");
        assert!(!runs(&sandbox), "{setup}, {command}, {check}");
        assert_eq!(sandbox.contents(), before);
    }
}

#[test]
fn what_a_check_leaves_running_does_not_change_the_next_image() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let check = "test ! -e work/late || exit 6; \
                 setsid -f sh -c 'while :; do echo >work/late; done' >/dev/null 2>&1; :";
    let script = "for i in 1 2 3 4 5 6; do echo $i >>work/f; done";
    let more = ["--json", "--jobs", "1"];
    let report = found(&crash(&sandbox, check, &more, &["sh", "-c", script]), 0);
    assert_eq!(report["failed_images"], 0);
}

#[test]
fn a_program_that_is_killed_leaves_nothing_running() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    sandbox.write(MARKER, "");
    let script = format!("setsid -f {ENDLESS}; {ENDLESS}");
    let args = [
        "crash", "--dir", "work", "--check", "true", "--", "sh", "-c", &script,
    ];
    let mut child = start(&sandbox, &args);
    wait_for(&mut child, || runs(&sandbox));
    child.kill().unwrap();
    child.wait().unwrap();
    // The kernel ends them by itself, which may take a moment.
    while runs(&sandbox) {
        std::thread::yield_now();
    }
    assert_eq!(sandbox.read("work/f"), b"old");
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
    sandbox.write(MARKER, "");
    let check = &format!("grep -q new work/f || {{ {ENDLESS} & wait; }}");
    let args = ["crash", "--dir", "work", "--check", check, "--jobs", "1"];
    let command = ["--", "sh", "-c", "printf new >work/f"];
    let mut child = start(&sandbox, &[&args[..], &["--json"], &command].concat());
    wait_for(&mut child, || runs(&sandbox));
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
    assert!(!runs(&sandbox));
    assert_eq!(sandbox.read("work/f"), b"old");
    // In words.
    let mut child = start(&sandbox, &[&args[..], &command].concat());
    wait_for(&mut child, || runs(&sandbox));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = sandbox.text(&output.stdout);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(
        said.contains("\nstopped before all were checked\n"),
        "{said}"
    );
    assert!(!said.contains("passes on all"), "{said}");
}

/// Whether a thread of the process has this name.
fn has_thread(process: u32, name: &str) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{process}/task"));
    let names = threads.into_iter().flatten().flatten();
    let mut names = names.map(|thread| std::fs::read_to_string(thread.path().join("comm")));
    names.any(|found| found.is_ok_and(|found| found.trim_end() == name))
}

/// Of what would take hours.
#[test]
fn a_signal_ends_the_planning() {
    let Some(sandbox) = work(&[]) else {
        return;
    };
    let writes = "dd if=/dev/zero of=work/f bs=512 count=2000 2>/dev/null";
    let args = [
        "crash", "--dir", "work", "--check", "true", "--points", "2000", "--images", "5000",
        "--json", "--", "sh", "-c", writes,
    ];
    for signal in [Signal::INT, Signal::TERM] {
        let mut child = start(&sandbox, &args);
        let process = child.id();
        wait_for(&mut child, || has_thread(process, "crash-plan"));
        let output = ended_by(child, signal);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["stopped_early"], true);
    }
}

/// All was checked by then, and what was found is told as it is.
#[test]
fn a_signal_ends_the_shrinking_and_that_is_told() {
    let Some(sandbox) = work(&[]) else {
        return;
    };
    sandbox.write(MARKER, "");
    let script = "for i in $(seq 20); do printf x >work/f$i; done; printf x >work/g";
    let check = format!(
        "echo >>count; test $(wc -l <count) != $(cat hangs) || {{ {ENDLESS} & wait; }}; \
         test ! -e work/g || test -s work/g"
    );
    let args = [
        "crash", "--dir", "work", "--check", &check, "--points", "2", "--jobs", "1",
    ];
    let command = ["--", "sh", "-c", script];
    sandbox.write("hangs", "0");
    let report = found(
        &sandbox.run(&[&args[..], &["--json"], &command].concat()),
        1,
    );
    assert_eq!(report["findings"][0]["not_fewest"], Value::Null);
    assert_eq!(report["stopped_early"], false);
    let before = report["different_images"].as_u64().unwrap() + 1;
    assert!(sandbox.read("count").len() as u64 > before, "{report}");
    // The first check of the shrinking does not end.
    sandbox.write("hangs", (before + 1).to_string());
    let why = "it may have lost more than it takes: its shrinking was stopped";
    for json in [true, false] {
        sandbox.write("count", "");
        let more: &[&str] = if json {
            &["--json"]
        } else {
            &["--report", "page"]
        };
        let mut child = start(&sandbox, &[&args[..], more, &command].concat());
        wait_for(&mut child, || runs(&sandbox));
        let output = ended_by(child, Signal::INT);
        if json {
            let report: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(report["stopped_early"], true);
            assert_eq!(report["checked_images"], report["different_images"]);
            assert_eq!(report["findings"][0]["not_fewest"], "stopped");
            continue;
        }
        let said = sandbox.text(&output.stdout);
        assert!(said.contains(&format!("\n  {why}\n")), "{said}");
        let stopped = "\nstopped before all that was found was shrunk\n";
        assert!(said.contains(stopped), "{said}");
        assert!(!said.contains("before all were checked"), "{said}");
        let page = String::from_utf8(sandbox.read("page")).unwrap();
        assert!(page.contains("its shrinking was stopped."), "{page}");
    }
}

/// Without it the command would work on the real directory.
#[test]
fn a_command_or_a_check_that_takes_the_mount_away_ends_the_run() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    sandbox.write(MARKER, "");
    let takes_away = format!("umount -l work; {ENDLESS}");
    let check = format!("grep -q new work/f || {{ {takes_away}; }}");
    for (command, check) in [(&*takes_away, "true"), ("printf new >work/f", &*check)] {
        let done = crash(&sandbox, check, &["--jobs", "1"], &["sh", "-c", command]);
        let said = sandbox.text(&done.stderr);
        assert_eq!(done.status.code(), Some(3), "{said}");
        let why = "the mount of the simulated directory was taken away";
        assert!(said.contains(why), "{said}");
        assert!(!runs(&sandbox));
        assert_eq!(sandbox.read("work/f"), b"old");
    }
}

/// The command would work on something else, and the mount beneath it would stay in use.
#[test]
fn what_is_mounted_over_the_directory_ends_the_run() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let place = sandbox.path("");
    let over_all = format!("mount -t tmpfs none {}", place.display());
    let over = "mount -t tmpfs none work";
    let in_a_crash = format!("grep -q new work/f || {over}");
    let writes = "printf new >work/f";
    for (setup, command, check) in [
        (over, writes, "true"),
        ("true", over, "true"),
        ("true", &*over_all, "true"),
        ("true", writes, over),
        ("true", writes, &*in_a_crash),
        ("mkdir moved && mount --move work moved", writes, "true"),
    ] {
        let more = ["--setup", setup, "--jobs", "1"];
        let done = crash(&sandbox, check, &more, &["sh", "-c", command]);
        let said = sandbox.text(&done.stderr);
        assert_eq!(done.status.code(), Some(3), "{said}");
        let why = match setup.contains("--move") {
            false => "something was mounted over the simulated directory",
            true => "the mount of the simulated directory was taken away",
        };
        assert!(said.contains(why), "{setup}, {command}, {check}: {said}");
        assert_eq!(sandbox.read("work/f"), b"old");
    }
}

/// What a check breaks is one thing, and what the others have found is another.
#[test]
fn what_was_found_before_an_error_is_told_and_written() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    sandbox.write(MARKER, "");
    let check = format!(
        "grep -q new work/f || {{ echo of old; exit 4; }}; \
         test -s work/g || {{ umount -l work; {ENDLESS}; }}"
    );
    let script = "printf new >work/f; printf more >work/g";
    let why = "the check: the mount of the simulated directory was taken away";
    let more = ["--jobs", "1", "--out", "found", "--report", "page"];
    let done = crash(&sandbox, &check, &more, &["sh", "-c", script]);
    let said = sandbox.text(&done.stdout);
    assert_eq!(done.status.code(), Some(3), "{said}");
    assert_eq!(sandbox.text(&done.stderr), format!("ubdlab: {why}\n"));
    let ended = format!("\nended before all were checked: {why}\n");
    assert!(said.contains(&ended), "{said}");
    assert!(said.contains("the check ended with status 4"), "{said}");
    let page = String::from_utf8(sandbox.read("page")).unwrap();
    assert!(page.contains(&format!("ended before the end: {why}.")));
    let again = sandbox.run(&["crash", "--repro", "found/finding-1.json", "--json"]);
    assert_eq!(found(&again, 1)["end"], "ended with status 4");
    let more = ["--jobs", "1", "--json"];
    let done = crash(&sandbox, &check, &more, &["sh", "-c", script]);
    let report = found(&done, 3);
    assert_eq!(report["ended_by_error"], why);
    assert_eq!(report["stopped_early"], false);
    assert!(!runs(&sandbox));
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
    // It has then done what it was asked for, whichever signal says that it is enough.
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut child = start(&sandbox, &args);
        wait_for(&mut child, || sandbox.path("m/f").exists());
        assert_eq!(sandbox.read("m/f"), b"");
        kill_process(Pid::from_child(&child), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.contains("m: what the crash has left of work"),
            "{said}"
        );
        assert_eq!(output.status.code(), Some(0), "{signal:?}: {said}");
        assert!(!directory.is_mounted());
    }
    // Likewise until somebody else unmounts it.
    let mut child = start(&sandbox, &args);
    wait_for(&mut child, || sandbox.path("m/f").exists());
    unmount(directory.path(), UnmountFlags::DETACH).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("m: somebody else has unmounted it"), "{said}");
    assert_eq!(output.status.code(), Some(0));
    // Nor does a dead mount stay.
    let mut child = start(&sandbox, &args);
    wait_for(&mut child, || sandbox.path("m/f").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    let mut child = start(&sandbox, &args);
    wait_for(&mut child, || sandbox.path("m/f").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    while directory.is_mounted() {
        std::thread::yield_now();
    }
}

/// A file that is lost leaves an empty directory.
#[test]
fn what_a_crash_has_left_is_mounted_once_and_ends_whatever_is_mounted_over_it() {
    let Some(sandbox) = work(&[]) else {
        return;
    };
    let Some(directory) = Directory::new(&sandbox, "m") else {
        return;
    };
    let command = ["sh", "-c", "printf new >work/g"];
    let more = ["--json", "--out", "found"];
    found(&crash(&sandbox, "test -e work/g", &more, &command), 1);
    let args = ["crash", "--repro", "found/finding-1.json", "--mount", "m"];
    let mut child = start(&sandbox, &args);
    wait_for(&mut child, || directory.is_mounted());
    let again = sandbox.run(&args);
    let said = sandbox.text(&again.stderr);
    assert_eq!(again.status.code(), Some(3), "{said}");
    let why = "m: found a FUSE mount, with nothing in it, expected another directory\n";
    assert!(said.ends_with(why), "{said}");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!directory.is_mounted());
    // What somebody else mounts there is not ours to take away.
    let mut child = start(&sandbox, &args);
    wait_for(&mut child, || directory.is_mounted());
    let over = Mounted::tmpfs(directory.path(), 1 << 20);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = sandbox.text(&output.stderr);
    assert!(said.contains("something was mounted over"), "{said}");
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(directory.is_mounted());
    drop(over);
    unmount(directory.path(), UnmountFlags::DETACH).unwrap();
    assert!(!directory.is_mounted());
}

/// A check that a signal has ended has said nothing of what the crash has left.
#[test]
fn a_signal_ends_the_check_of_a_finding_before_it_is_done() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    sandbox.write(MARKER, "");
    let check = format!("grep -q new work/f && exit; test ! -e hangs || {{ {ENDLESS}; }}; exit 7");
    let command = ["sh", "-c", "printf new >work/f"];
    found(
        &crash(&sandbox, &check, &["--json", "--out", "found"], &command),
        1,
    );
    sandbox.write("hangs", "");
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let args = [
            "crash",
            "--repro",
            "found/finding-1.json",
            "--report",
            "page",
        ];
        let mut child = start(&sandbox, &args);
        wait_for(&mut child, || runs(&sandbox));
        let output = ended_by(child, signal);
        let said = sandbox.text(&output.stdout);
        assert!(said.contains("the check was stopped"), "{said}");
        assert!(!sandbox.path("page").exists());
        assert!(!runs(&sandbox));
    }
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
