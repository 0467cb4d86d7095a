//! `ubdlab crash` with a directory `work` in a sandbox.

use std::process::{Child, Output, Stdio};

use serde_json::Value;

use super::cli::{Sandbox, ubdlab_that_heeds_signals};
use super::fuse::can_mount;

/// A directory `work` with these files in it. `None` where nothing can be mounted.
pub(crate) fn work(files: &[(&str, &str)]) -> Option<Sandbox> {
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

/// Crashes a command that works in `work`.
pub(crate) fn crash(sandbox: &Sandbox, check: &str, more: &[&str], command: &[&str]) -> Output {
    let before = ["crash", "--dir", "work", "--check", check];
    sandbox.run(&[&before, more, &["--"], command].concat())
}

/// Starts the program, which is going to be sent a signal or to be waited for.
pub(crate) fn start(sandbox: &Sandbox, args: &[&str]) -> Child {
    let mut command = ubdlab_that_heeds_signals();
    command.args(args).current_dir(sandbox.path(""));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Waits until `happened`, as long as the child runs.
pub(crate) fn wait_for(child: &mut Child, happened: impl Fn() -> bool) {
    while !happened() {
        assert_eq!(child.try_wait().unwrap(), None, "it ended early");
        std::thread::yield_now();
    }
}

/// What is found, of a run that ends with this status.
pub(crate) fn found(output: &Output, status: i32) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    let report = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(status), "{said}{report}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A script that replaces `work/f`, with these syncs.
pub(crate) fn replacing(sync_file: bool, sync_directory: bool) -> String {
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

/// Passes if `work/f` has its old content or the new one.
pub(crate) const OLD_OR_NEW: &str =
    "case $(cat work/f) in old|new) ;; *) cat work/f; echo neither; exit 7;; esac";
