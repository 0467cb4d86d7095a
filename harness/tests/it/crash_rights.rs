//! What `ubdlab crash` needs of the system, and what it says where that is missing.

use std::process::{Command, Output};

use crate::support::cli::{PROGRAM, Sandbox, output};
use crate::support::crash::work;

/// `ubdlab crash`, as the last words of another command.
fn crash_by(sandbox: &Sandbox, before: &[&str]) -> Output {
    let mut command = Command::new(before[0]);
    command.args(&before[1..]).arg(PROGRAM);
    command.args(["crash", "--dir", "work", "--check", "true", "--", "true"]);
    output(command.current_dir(sandbox.path("")))
}

/// Root without the right to mount is what any other user is.
#[test]
fn a_user_who_may_not_mount_is_told_what_would_help() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("work")).unwrap();
    let drops = ["setpriv", "--bounding-set", "-sys_admin"];
    let before = match rustix::process::geteuid().is_root() {
        true => &drops[..],
        false => &["env"],
    };
    let done = crash_by(&sandbox, before);
    assert_eq!(
        (sandbox.text(&done.stderr).as_str(), done.status.code()),
        (
            "ubdlab: a mount namespace of its own: operation not permitted; it takes root, or \
             `unshare --user --map-root-user --mount` before the command\n",
            Some(3)
        )
    );
}

/// What gives a user a mount namespace of his own.
const UNSHARE: [&str; 4] = ["unshare", "--user", "--map-root-user", "--mount"];

/// Whether the system has it for users; a word if not.
///
/// # Panics
/// If it has not, and `UBDLAB_REQUIRE_PEERS` says that everything is there.
fn gives_users_namespaces() -> bool {
    let mut command = Command::new(UNSHARE[0]);
    let allowed = command.args(&UNSHARE[1..]).arg("true").status();
    let allowed = allowed.is_ok_and(|status| status.success());
    if !allowed {
        let required = std::env::var_os("UBDLAB_REQUIRE_PEERS").is_some();
        assert!(
            !required,
            "this system gives no user a namespace, and it is required"
        );
        eprintln!("skipped: this system gives no user a namespace");
    }
    allowed
}

/// What the message names is enough, where the system has it for users.
#[test]
fn a_user_with_a_namespace_of_his_own_may_mount() {
    let Some(sandbox) = work(&[]) else {
        return;
    };
    if !gives_users_namespaces() {
        return;
    }
    let done = crash_by(&sandbox, &UNSHARE);
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(0), "{said}");
}

/// Files of owners that his namespace does not have are his own in the copy.
#[test]
fn a_user_with_a_namespace_of_his_own_may_write_what_others_own() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    std::os::unix::fs::chown(sandbox.path("work/f"), Some(12_345), Some(54_321)).unwrap();
    if !gives_users_namespaces() {
        return;
    }
    let run = |more: &[&str]| {
        let mut command = Command::new(UNSHARE[0]);
        command.args(&UNSHARE[1..]).arg(PROGRAM);
        command.args(["crash", "--dir", "work", "--check", "true"]);
        command
            .args(more)
            .args(["--", "sh", "-c", "echo new >>work/f"]);
        output(command.current_dir(sandbox.path("")))
    };
    let done = run(&[]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    // What it would become is not what it was.
    let done = run(&["--keep"]);
    let said = sandbox.text(&done.stderr);
    assert_eq!(done.status.code(), Some(3), "{said}");
    assert!(
        said.contains("an owner or a group that this user namespace has not"),
        "{said}"
    );
}

/// FUSE is there, and so is the right to mount.
#[test]
fn what_fails_for_want_of_descriptors_is_not_laid_to_fuse_or_rights() {
    let Some(sandbox) = work(&[]) else {
        return;
    };
    let mut of_the_mount = 0;
    for files in 4..24 {
        let line = format!("ulimit -n {files}; exec \"$@\"");
        let done = crash_by(&sandbox, &["sh", "-c", &line, "few-files"]);
        let said = sandbox.text(&done.stderr);
        if !said.contains("too many open files") {
            continue;
        }
        assert_eq!(done.status.code(), Some(3), "{said}");
        for cause in ["modprobe", "it takes root", "right to mount"] {
            assert!(!said.contains(cause), "{files}: {said}");
        }
        of_the_mount += u32::from(said.contains("mounting on") || said.contains("namespace"));
    }
    assert!(of_the_mount > 0);
}

#[test]
fn a_system_without_fuse_is_told_of() {
    let Some(sandbox) = work(&[]) else {
        return;
    };
    let dev = sandbox.path("dev");
    std::fs::create_dir(&dev).unwrap();
    sandbox.write("dev/null", "");
    let script = "mount --bind dev /dev && exec \"$@\"";
    let done = crash_by(
        &sandbox,
        &["unshare", "--mount", "sh", "-c", script, "without-fuse"],
    );
    let said = sandbox.text(&done.stderr);
    assert_eq!(done.status.code(), Some(3), "{said}");
    assert!(said.contains("/dev/fuse"), "{said}");
    assert!(said.contains("modprobe fuse"), "{said}");
}
