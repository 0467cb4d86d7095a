//! What takes the mount away when the program was ended by SIGKILL, and could not.
//!
//! A process of its own waits at a pipe whose other end only the program has. The kernel closes
//! that however the program ends; and then, if there still is a mount that nobody answers, the
//! process detaches it. It is a shell, because a process that is made of this one would need a copy
//! of the program, and other names for it in the tests.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::HELPER;

/// It ends when it is told to, or when what it has to take away is not there: of a mount that
/// nobody answers the directory cannot be looked at. What ends whole process groups, such as a
/// terminal that closes, is not meant for it.
const SCRIPT: &str = r#"trap "" HUP INT TERM
read -r line && exit
dir=$1; shift
test -e "$dir" || exec "$@" "$dir""#;

/// Where the programs are.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// The kernel's list of mounts, which tells who polls it of changes.
const MOUNTS: &str = "/proc/self/mountinfo";

/// How long a mount that nobody answers may stay before it counts as left over, in seconds; and how
/// many changes of other mounts are waited through.
const PATIENCE: i64 = 2;
const MOST_CHANGES: u32 = 16;

/// The process. Without it a mount stays behind that the next server tells of.
#[derive(Debug)]
pub(crate) struct Unmounter(Option<Child>);

impl Unmounter {
    /// Starts it for a mount that is there.
    pub(crate) fn start(directory: &Path) -> Unmounter {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", SCRIPT, "ubdlab-unmounter"])
            .arg(directory);
        match rustix::process::geteuid().is_root() {
            true => command.args(["umount", "-l", "--"]),
            false => command.args([HELPER, "-u", "-z", "-q", "--"]),
        };
        command.env_clear().env("PATH", PATH).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        // Where there is no shell, nothing waits.
        let started = command.stderr(Stdio::null()).process_group(0).spawn();
        Unmounter(started.ok())
    }

    /// Ends it: the mount is gone.
    pub(crate) fn end(mut self) {
        if let Some(mut child) = self.0.take() {
            if let Some(mut pipe) = child.stdin.take() {
                // One that somebody has ended does not read.
                let _ = pipe.write_all(b"gone\n");
            }
            let _ = child.wait();
        }
    }
}

/// Waits for the unmounter of another server, which is done a moment after that was killed, until
/// `is_done` or no longer than that takes.
pub(super) fn wait_for_another(is_done: impl Fn() -> bool) {
    let Ok(mounts) = File::open(MOUNTS) else {
        return;
    };
    let patience = Timespec {
        tv_sec: PATIENCE,
        tv_nsec: 0,
    };
    for _ in 0..MOST_CHANGES {
        if is_done() {
            return;
        }
        let mut polled = [PollFd::new(&mounts, PollFlags::PRI)];
        match poll(&mut polled, Some(&patience)) {
            Ok(changes) if changes > 0 => {}
            _ => return,
        }
    }
}
