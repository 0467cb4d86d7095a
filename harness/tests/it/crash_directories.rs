//! `ubdlab crash` on directories that programs, this one too, need to run at all: they come from
//! the mount, and the run ends.

use std::process::{Command, Output};

use serde_json::Value;

use crate::support::cli::{PROGRAM, Sandbox, output};
use crate::support::crash::{crash, found, start, wait_for, work};
use crate::support::mounted::{Mounted, SharedMounts};

/// The run of a command that changes nothing on a directory of the system. A shell does `before`
/// first, in a view of the file system of its own.
fn crash_on(sandbox: &Sandbox, before: &str, directory: &str) -> Output {
    let script = format!("{before} && exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "elsewhere", PROGRAM]);
    command.args(["crash", "--dir", directory, "--check", "true"]);
    command.args(["--json", "--", "true"]);
    output(command.current_dir(sandbox.path("")))
}

/// To start a program takes `/dev/null` and the list of libraries in `/etc`.
#[test]
fn a_directory_that_programs_need_to_start_is_crashed_like_any_other() {
    let Some(sandbox) = work(&[]) else {
        return;
    };
    // Others make and remove nodes meanwhile.
    let own_nodes = "mkdir nodes && mount -t tmpfs none nodes && \
                     cp -a /dev/null /dev/fuse nodes && mount --bind nodes /dev";
    for (before, directory) in [("true", "/etc"), (own_nodes, "/dev")] {
        let done = crash_on(&sandbox, before, directory);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        let report = found(&done, 0);
        assert_eq!(report["checked_images"], 1, "{directory}: {said}");
    }
}

/// Each check finds what the first one has found.
#[test]
fn what_a_command_mounts_goes_with_it() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    std::fs::create_dir(sandbox.path("else where")).unwrap();
    let check = "test ! -e 'else where/f' || exit 6; mkdir work/d && \
                 mount -t tmpfs none 'else where' && mkdir 'else where/d' && \
                 mount -t tmpfs none 'else where/d' && mount --bind 'else where' work/d && \
                 touch work/d/f && test -e 'else where/f'";
    let script = "for i in 1 2 3; do echo $i >>work/g; done";
    let more = [
        "--json",
        "--jobs",
        "1",
        "--setup",
        "mount -t tmpfs none 'else where'",
    ];
    let report = found(&crash(&sandbox, check, &more, &["sh", "-c", script]), 0);
    assert!(report["checked_images"].as_u64().unwrap() > 4, "{report}");
    assert!(!sandbox.path("else where/f").exists());
}

/// It is in every view of the file system.
#[test]
fn what_is_mounted_elsewhere_meanwhile_stays() {
    let Some(sandbox) = work(&[]) else {
        return;
    };
    for directory in ["mounts", "mounts/disk"] {
        std::fs::create_dir(sandbox.path(directory)).unwrap();
    }
    let (mounts, at) = (sandbox.path("mounts"), sandbox.path("mounts/disk"));
    let _shared = SharedMounts::below(&mounts);
    let made = Command::new("mkfifo").arg(sandbox.path("go")).status();
    assert!(made.unwrap().success());
    let args = [
        "crash",
        "--dir",
        "work",
        "--check",
        "test -e mounts/disk/file",
        "--",
        "sh",
        "-c",
        "touch begun; cat go",
    ];
    let mut child = start(&sandbox, &args);
    wait_for(&mut child, || sandbox.path("begun").exists());
    let Some(disk) = Mounted::tmpfs(&at, 1 << 20) else {
        return;
    };
    sandbox.write("mounts/disk/file", "");
    std::fs::write(sandbox.path("go"), "").unwrap();
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    disk.end();
}

/// Nobody but the program that serves the mount has the device open, also while a command starts:
/// what is on the mount it could wait for after the program was killed.
#[test]
fn a_command_is_started_by_the_first_process_of_its_namespace() {
    let Some(sandbox) = work(&[]) else {
        return;
    };
    let done = crash(
        &sandbox,
        "test $PPID = 1",
        &[],
        &["sh", "-c", "test $PPID = 1"],
    );
    assert_eq!(done.status.code(), Some(0), "{done:?}");
}

#[test]
fn what_no_simulated_directory_can_lie_over_is_refused() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let check = "test -s work/f";
    let script = "printf new >work/g; mv work/g work/f";
    let more = ["--json", "--out", "found"];
    found(&crash(&sandbox, check, &more, &["sh", "-c", script]), 1);
    let finding = sandbox.read("found/finding-1.json");
    let finding: Value = serde_json::from_slice(&finding).unwrap();
    let kernels = "found what the kernel shows of itself, which is no copy of anything, expected \
                   files of a program";
    for (directory, why) in [
        (
            "/",
            "found the root of all files, over which no mount can lie, expected a directory in it",
        ),
        ("/proc", kernels),
        ("/proc/self", kernels),
        ("/sys", kernels),
        ("/dev/null", "found no directory, expected one"),
    ] {
        // A finding that names the root is refused as one that is wrong.
        if directory != "/" {
            let mut finding = finding.clone();
            finding["directory"] = directory.into();
            sandbox.write("elsewhere.json", finding.to_string());
            let again = sandbox.run(&["crash", "--repro", "elsewhere.json"]);
            let said = sandbox.text(&again.stderr);
            assert_eq!(again.status.code(), Some(3), "{directory}: {said}");
            assert!(said.contains(why), "{directory}: {said}");
        }
        if directory != "/dev/null" {
            let done = crash_on(&sandbox, "true", directory);
            let said = sandbox.text(&done.stderr);
            assert_eq!(done.status.code(), Some(3), "{directory}: {said}");
            assert!(said.contains(why), "{directory}: {said}");
        }
    }
}

/// The check of such a finding needs what is then not there.
#[test]
fn a_finding_that_would_lie_over_all_programs_says_what_is_missing() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let script = "printf new >work/g; mv work/g work/f";
    let more = ["--json", "--out", "found"];
    found(
        &crash(&sandbox, "test -s work/f", &more, &["sh", "-c", script]),
        1,
    );
    let finding = sandbox.read("found/finding-1.json");
    let mut finding: Value = serde_json::from_slice(&finding).unwrap();
    let shell = std::fs::canonicalize("/bin/sh").unwrap();
    finding["directory"] = shell.parent().unwrap().to_str().unwrap().into();
    sandbox.write("elsewhere.json", finding.to_string());
    let again = sandbox.run(&["crash", "--repro", "elsewhere.json"]);
    assert_eq!(again.status.code(), Some(3), "{again:?}");
    let why = "ubdlab: the check: /bin/sh: no such file or directory\n";
    assert_eq!(sandbox.text(&again.stderr), why);
}

/// The program is looked for on the mount, which somebody has to serve meanwhile.
#[test]
fn a_program_in_the_directory_whose_interpreter_is_missing_is_told_of() {
    let Some(sandbox) = work(&[("script", "#!/not/there\n")]) else {
        return;
    };
    let script = sandbox.path("work/script");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(script, mode).unwrap();
    let done = crash(&sandbox, "true", &[], &["work/script"]);
    assert_eq!(done.status.code(), Some(3), "{done:?}");
    let said = sandbox.text(&done.stderr);
    assert!(said.contains("not the interpreter"), "{said}");
}
