//! The processes of a view: they end before the mount that they work on goes, or changes.
//!
//! They are in a PID namespace, which no process leaves: neither by a session of its own, nor when
//! its parent has ended. The first process of the namespace is this program once more, under
//! another name. When it is asked to, it kills all others and waits until the last of them has
//! gone. When it ends itself, the kernel kills them. It ends when nobody can ask it any more, and
//! so even SIGKILL of this program leaves none of them running.

use std::ffi::{CStr, OsStr};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};

use nix::sched::{CloneFlags, setns, unshare};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpid, kill_process_group, pidfd_open, waitid,
};

/// The name under which this program is the first process of a namespace.
const NAME: &str = "ubdlab-crash-init";

/// This program, whatever has become of its file.
const ITSELF: &str = "/proc/self/exe";

/// What an answer is, and what is asked: there is only one thing to ask for.
const WORD: [u8; 1] = [b'.'];

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
    asks: Option<ChildStdin>,
    answers: ChildStdout,
    descriptor: OwnedFd,
}

impl Processes {
    /// A namespace without processes, for the view of the calling thread. In that view `/proc` is
    /// the namespace's own from now on.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn begin() -> io::Result<Processes> {
        let start = || -> io::Result<Child> {
            // It is for what this thread starts, which can start no thread any more.
            unshare(CloneFlags::CLONE_NEWPID)?;
            let mut command = Command::new(ITSELF);
            command.arg0(NAME).current_dir("/").process_group(0);
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            command.stderr(Stdio::null()).spawn()
        };
        let mut init = std::thread::scope(|scope| {
            let builder = std::thread::Builder::new().name("crash-init".into());
            let started = builder.spawn_scoped(scope, start)?.join();
            started.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        let pid = Pid::from_child(&init);
        let descriptor = pidfd_open(pid, PidfdFlags::empty());
        match (init.stdin.take(), init.stdout.take(), descriptor) {
            (asks @ Some(_), Some(answers), Ok(descriptor)) => {
                let processes = Processes {
                    init,
                    asks,
                    answers,
                    descriptor,
                };
                processes.answered()?;
                Ok(processes)
            }
            (_, _, descriptor) => {
                let _ = init.kill().and_then(|()| init.wait());
                Err(descriptor
                    .err()
                    .map_or(io::ErrorKind::Other.into(), io::Error::from))
            }
        }
    }

    /// The processes that the calling thread starts from now on are among these.
    pub(super) fn enter(&self) -> io::Result<()> {
        Ok(setns(&self.descriptor, CloneFlags::CLONE_NEWPID)?)
    }

    /// Kills all processes and waits until they have gone. What they ask of a mount has to be
    /// answered meanwhile. Those that the caller has started directly it has waited for.
    pub(super) fn end_all(&self) -> io::Result<()> {
        if let Some(mut asks) = self.asks.as_ref() {
            asks.write_all(&WORD)?;
        }
        self.answered()
    }

    fn answered(&self) -> io::Result<()> {
        if !comes(&self.answers)? {
            let found = "a process that was started does not end, although it was killed";
            return Err(io::Error::other(found));
        }
        match rustix::io::read(&self.answers, &mut [0]) {
            Ok(0) => Err(io::Error::other(
                "the first process of its namespace has ended",
            )),
            answered => Ok(answered.map(drop)?),
        }
    }

    /// Ends the namespace; whether all of it has gone.
    pub(super) fn end(&mut self) -> bool {
        self.asks = None;
        let _ = self.init.kill();
        comes(&self.descriptor).is_ok_and(|ended| ended) && self.init.wait().is_ok()
    }
}

/// Whether there is something to read before [`LONGEST_END`] is over.
fn comes(from: &impl std::os::fd::AsFd) -> io::Result<bool> {
    loop {
        match poll(&mut [PollFd::new(from, PollFlags::IN)], Some(&LONGEST_END)) {
            Err(Errno::INTR) => {}
            found => return Ok(found? > 0),
        }
    }
}

/// What this program does instead of all else, where [`Processes`] has started it.
pub(crate) fn be_init_if_asked() -> Option<ExitCode> {
    let is_asked = std::env::args_os().next().as_deref() == Some(OsStr::new(NAME));
    if !is_asked || !getpid().is_init() {
        return None;
    }
    // A container may not allow it. Then `/proc` is that of the system, with other numbers.
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let _ = mount("proc", "/proc", "proc", flags, None::<&CStr>);
    loop {
        let answered = rustix::io::write(rustix::stdio::stdout(), &WORD);
        if answered.is_err() || io::stdin().read_exact(&mut [0]).is_err() {
            return Some(ExitCode::SUCCESS);
        }
        kill_all_others();
    }
}

/// Kills all other processes of the namespace and waits until they have gone. Whatever its parent
/// was, a process that has lost it is a child of this one.
fn kill_all_others() {
    // As a group this number stands for all processes but this. None of them can start another one
    // once it has a signal that kills it.
    let _ = kill_process_group(Pid::INIT, Signal::KILL);
    let any = || waitid(WaitId::All, WaitIdOptions::EXITED);
    while matches!(any(), Ok(_) | Err(Errno::INTR)) {}
}
