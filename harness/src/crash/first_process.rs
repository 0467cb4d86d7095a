//! The first process of a view's PID namespace: this program once more, under another name.
//!
//! It starts the commands, and has none of the descriptors that this program has: of a mount that
//! a command waits for, nobody but the program that serves it has the device open, and so the wait
//! ends when that program does, however it ends. It is there before the mount is, and needs no file
//! afterwards: whatever the mount lies over, the program waits for nothing that it has to answer
//! itself.

use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitCode};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::mount::{MountFlags, mount};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpid, kill_process_group, pidfd_open, waitid,
};

use super::init_messages::{Answer, Missing, Order};
use super::later_mounts::{LaterMounts, Left};

/// The name under which this program is the first process of a namespace.
pub(super) const NAME: &str = "ubdlab-crash-init";

/// What this program does instead of all else, where [`super::processes::Processes`] has started
/// it. Its standard input is a socket.
pub(crate) fn be_init_if_asked() -> Option<ExitCode> {
    let is_asked = std::env::args_os().next().as_deref() == Some(OsStr::new(NAME));
    if !is_asked || !getpid().is_init() {
        return None;
    }
    // A container may not allow it. Then `/proc` is that of the system, with other numbers.
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let _ = mount("proc", "/proc", "proc", flags, None::<&CStr>);
    // Whoever has started it hears of an error by the socket, which closes then.
    let _ = be_first();
    Some(ExitCode::SUCCESS)
}

/// A command that has not ended.
struct Running {
    child: Child,
    process: OwnedFd,
}

fn be_first() -> io::Result<()> {
    let link = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let nothing = File::open("/dev/null")?;
    let mounts = File::open("/proc/self/mountinfo")?;
    let mut later: Option<LaterMounts> = None;
    let mut running: Option<Running> = None;
    Answer::Done(Left::Whole).send(&link)?;
    loop {
        if let Some(mut ended) = wait(&link, &mut running)? {
            Answer::Ended(ended.child.wait()?.into_raw()).send(&link)?;
            continue;
        }
        match Order::receive(&link) {
            Ok(None) => return Ok(()),
            Ok(Some(Order::EndAll)) => {
                kill_all_others();
                running = None;
                let left = later.as_ref().map(LaterMounts::clear).transpose()?;
                Answer::Done(left.unwrap_or(Left::Whole)).send(&link)?;
            }
            Ok(Some(Order::NoteMounts { directory, outside })) => {
                let here = mounts.try_clone()?;
                let noted = LaterMounts::note(here, outside.into(), directory.into());
                later = Some(noted?);
                Answer::Done(Left::Whole).send(&link)?;
            }
            Ok(Some(Order::Start { words, output })) => {
                let (answer, started) = match start(&words, output, &nothing) {
                    Ok((started, process)) => (Answer::Started(process), Some(started)),
                    Err(error) => (not_started(&words, &error), None),
                };
                running = started;
                answer.send(&link)?;
            }
            Err(error) => not_started(&[], &error).send(&link)?,
        }
    }
}

/// Waits for the command's end, which is given, or for an order.
fn wait(link: &UnixStream, running: &mut Option<Running>) -> io::Result<Option<Running>> {
    let mut polled = vec![PollFd::new(link, PollFlags::IN)];
    if let Some(running) = &*running {
        polled.push(PollFd::new(&running.process, PollFlags::IN));
    }
    retry_on_intr(|| poll(&mut polled, None))?;
    let has_ended = polled.get(1).is_some_and(|it| !it.revents().is_empty());
    Ok(match has_ended {
        true => running.take(),
        false => None,
    })
}

/// Starts a command: these are the directory in which it runs, and its words. What it may say goes
/// to `output`.
fn start(words: &[OsString], output: OwnedFd, nothing: &File) -> io::Result<(Running, OwnedFd)> {
    let [within, program, arguments @ ..] = words else {
        return Err(Errno::INVAL.into());
    };
    let mut command = Command::new(program);
    command.args(arguments).current_dir(within).process_group(0);
    command.stdin(nothing.try_clone()?);
    command.stdout(output.try_clone()?).stderr(output);
    let mut child = command.spawn()?;
    let opened = pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
    let opened = opened.and_then(|process| Ok((rustix::io::dup(&process)?, process)));
    match opened {
        Ok((copy, process)) => Ok((Running { child, process }, copy)),
        // It could not be ended when it takes too long.
        Err(error) => {
            let _ = child.kill().and_then(|()| child.wait());
            Err(error.into())
        }
    }
}

/// Where something is missing, the system has one number for all that it could be. It is looked for
/// here, because it may be on the mount.
fn not_started(words: &[OsString], error: &io::Error) -> Answer {
    let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
    let missing = match words {
        [within, program, ..] if errno == Errno::NOENT => {
            let (within, program) = (Path::new(within), Path::new(program));
            // One without a slash is looked for elsewhere.
            let is_path = program.components().count() > 1 || program.is_absolute();
            match is_path && within.join(program).is_file() {
                _ if !within.is_dir() => Missing::Place,
                true => Missing::Interpreter,
                false => Missing::Unknown,
            }
        }
        _ => Missing::Unknown,
    };
    Answer::NotStarted(errno.raw_os_error(), missing)
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
