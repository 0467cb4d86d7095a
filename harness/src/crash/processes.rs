//! The processes of a view: they end before the mount that they work on goes, or changes.
//!
//! They are in a PID namespace, which no process leaves: neither by a session of its own, nor when
//! its parent has ended. The first process of the namespace ([`super::first_process`]) starts them.
//! When it is asked to, it kills all others and waits until the last of them has gone. When it ends
//! itself, the kernel kills them. It ends when nobody can ask it any more, and so even SIGKILL of
//! this program leaves none of them running.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use driver::shown;
use nix::sched::{CloneFlags, unshare};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::first_process::NAME;
use super::init_messages::{Answer, Missing, Order};
use super::later_mounts::{Left, number_at};

/// This program, whatever has become of its file.
const ITSELF: &str = "/proc/self/exe";

/// What is said of a command that has lost its mount.
pub(super) const TAKEN_AWAY: &str = "the mount of the simulated directory was taken away";

/// Where the namespace has what shows its processes.
const PROC: &str = "/proc";

/// The longest that processes which were killed may take to go. One that waits for a dead disk may
/// never go.
const LONGEST_END: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

/// The processes of a view.
#[derive(Debug)]
pub(super) struct Processes {
    init: Child,
    /// The other end is the first process's standard input. `None` when it is to end.
    link: Option<UnixStream>,
    descriptor: OwnedFd,
    /// The mount of `/proc` before the namespace had one.
    proc_before: Option<u64>,
}

impl Processes {
    /// A namespace without processes, for the view of the calling thread. In that view `/proc` is
    /// the namespace's own from now on.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn begin() -> io::Result<Processes> {
        let proc_before = number_at(Path::new(PROC));
        let (link, its_end) = UnixStream::pair()?;
        let start = || -> io::Result<Child> {
            // It is for what this thread starts, which can start no thread any more.
            unshare(CloneFlags::CLONE_NEWPID)?;
            let mut command = Command::new(ITSELF);
            command.arg0(NAME).current_dir("/").process_group(0);
            command.stdin(OwnedFd::from(its_end)).stdout(Stdio::null());
            command.stderr(Stdio::null()).spawn()
        };
        let mut init = std::thread::scope(|scope| {
            let builder = std::thread::Builder::new().name("crash-init".into());
            let started = builder.spawn_scoped(scope, start)?.join();
            started.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        let descriptor = match pidfd_open(Pid::from_child(&init), PidfdFlags::empty()) {
            Ok(descriptor) => descriptor,
            Err(error) => {
                let _ = init.kill().and_then(|()| init.wait());
                return Err(error.into());
            }
        };
        let mut processes = Processes {
            init,
            link: Some(link),
            descriptor,
            proc_before,
        };
        if let Err(error) = processes.is_done() {
            processes.end();
            return Err(error);
        }
        Ok(processes)
    }

    /// Starts a command that runs in `within`; its pidfd. What it says goes to `output`.
    ///
    /// # Errors
    /// The system's, or what is missing.
    pub(super) fn start(
        &self,
        within: &Path,
        words: impl IntoIterator<Item = OsString>,
        output: OwnedFd,
    ) -> io::Result<OwnedFd> {
        let link = self.link()?;
        let words = [OsString::from(within)].into_iter().chain(words).collect();
        Order::Start { words, output }.send(link)?;
        match Answer::receive(link)? {
            Answer::Started(process) => Ok(process),
            Answer::NotStarted(errno, missing) => Err(match missing {
                Missing::Place => io::Error::other(format!(
                    "{}: found no such directory, in which it is to run",
                    shown(within)
                )),
                Missing::Interpreter => io::Error::other(
                    "found the file, and not the interpreter that its first line or its header \
                     names",
                ),
                Missing::Unknown => io::Error::from_raw_os_error(errno),
            }),
            _ => Err(another_answer()),
        }
    }

    /// Waits for the end of the command that was started.
    pub(super) fn wait(&self) -> io::Result<ExitStatus> {
        match Answer::receive(self.link()?)? {
            Answer::Ended(status) => Ok(ExitStatus::from_raw(status)),
            _ => Err(another_answer()),
        }
    }

    /// Notes what is mounted, with the simulated directory over this one. `outside` is the list of
    /// the mounts outside of the view.
    pub(super) fn note_mounts(&self, directory: &Path, outside: File) -> io::Result<()> {
        let order = Order::NoteMounts {
            directory: directory.into(),
            outside: outside.into(),
        };
        order.send(self.link()?)?;
        self.is_done()
    }

    /// Kills all processes, waits until they have gone, and takes away what they have mounted. What
    /// is asked of the simulated directory has to be answered meanwhile.
    ///
    /// # Errors
    /// It does not end, or it has left no simulated directory.
    pub(super) fn end_all(&self) -> io::Result<()> {
        Order::EndAll.send(self.link()?)?;
        self.is_done()
    }

    /// Waits until the first process says so.
    fn is_done(&self) -> io::Result<()> {
        let link = self.link()?;
        if !comes(link)? {
            let found = "a process that was started does not end, although it was killed";
            return Err(io::Error::other(found));
        }
        match Answer::receive(link)? {
            Answer::Done(Left::Whole) => Ok(()),
            Answer::Done(Left::Covered) => Err(io::Error::other(
                "something was mounted over the simulated directory",
            )),
            Answer::Done(Left::TakenAway) => Err(io::Error::other(TAKEN_AWAY)),
            _ => Err(another_answer()),
        }
    }

    fn link(&self) -> io::Result<&UnixStream> {
        self.link.as_ref().ok_or_else(another_answer)
    }

    /// Ends the namespace; whether all of it has gone.
    pub(super) fn end(&mut self) -> bool {
        self.link = None;
        let _ = self.init.kill();
        let has_ended =
            comes(&self.descriptor).is_ok_and(|ended| ended) && self.init.wait().is_ok();
        // Its own shows nothing any more. Another view of this thread is a copy of this one.
        if number_at(Path::new(PROC)) != self.proc_before {
            let _ = unmount(PROC, UnmountFlags::DETACH);
        }
        has_ended
    }
}

/// Nothing that is done goes on after it.
fn another_answer() -> io::Error {
    io::Error::other("the first process of its namespace has answered something else")
}

/// Whether there is something to read before [`LONGEST_END`] is over.
fn comes(from: &impl AsFd) -> io::Result<bool> {
    let mut polled = [PollFd::new(from, PollFlags::IN)];
    Ok(retry_on_intr(|| poll(&mut polled, Some(&LONGEST_END)))? > 0)
}
