//! A command that runs on a mounted directory, with its time and its output bounded.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, PipeReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, tick, unbounded};
use driver::shell_word;
use rustix::process::{Signal, pidfd_send_signal};

use super::place::View;
use super::processes::{Processes, TAKEN_AWAY};
use crate::mount::{Come, Limit, MountedTree};

/// What runs a line.
const SHELL: &str = "/bin/sh";

/// The most bytes of a command's output that are kept: the last ones.
const MOST_SAID: usize = 16 << 10;

/// How long the last of the output is waited for when a command has ended. Whom it has sent the
/// pipe may keep it open for ever.
const LISTEN: Duration = Duration::from_millis(500);

/// How often it is looked whether a command has run for too long, or is to be stopped.
const LOOK: Duration = Duration::from_millis(50);

/// What is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// A line for the shell.
    Shell(OsString),
    /// A program and its arguments.
    Program(OsString, Vec<OsString>),
}

impl CommandLine {
    /// The line of a shell, or the name of a program.
    pub(super) fn line(&self) -> &OsStr {
        match self {
            CommandLine::Shell(line) => line,
            CommandLine::Program(program, _) => program,
        }
    }

    /// The program, and its arguments.
    fn words(&self) -> Vec<OsString> {
        match self {
            CommandLine::Shell(line) => vec![SHELL.into(), "-c".into(), line.clone()],
            CommandLine::Program(program, arguments) => {
                let words = [program].into_iter().chain(arguments);
                words.cloned().collect()
            }
        }
    }
}

/// As a shell would be given it, for a reader.
impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommandLine::Shell(line) => f.write_str(&line.to_string_lossy()),
            CommandLine::Program(program, arguments) => {
                f.write_str(&shell_word(Path::new(program)))?;
                arguments.iter().try_for_each(|word| {
                    let (dashes, rest) = without_dashes(word);
                    match rest.is_empty() {
                        true => write!(f, " {dashes}"),
                        false => write!(f, " {dashes}{}", shell_word(Path::new(rest))),
                    }
                })
            }
        }
    }
}

/// The dashes at the beginning of an option, and what follows them. No shell takes them for
/// anything else, and so they need no quotes.
fn without_dashes(word: &OsStr) -> (&'static str, &OsStr) {
    let rest = |dashes| OsStr::from_bytes(&word.as_bytes()[dashes..]);
    match word.as_bytes() {
        [] => ("''", word),
        [b'-', b'-', b'-', ..] => ("", word),
        [b'-', b'-', ..] => ("--", rest(2)),
        [b'-', ..] => ("-", rest(1)),
        _ => ("", word),
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, or by a signal of its own.
    Exited(ExitStatus),
    /// It had run for too long, and was killed.
    TimedOut,
    /// It was killed because everything is to end.
    Stopped,
}

impl End {
    /// Whether it ended as it should.
    pub fn is_good(self) -> bool {
        matches!(self, End::Exited(status) if status.success())
    }

    /// Whether it ended as a shell does whose command is not there, or is none.
    pub fn is_of_no_command(self) -> bool {
        matches!(self, End::Exited(status) if matches!(status.code(), Some(126 | 127)))
    }
}

/// As it ends a sentence about a check.
impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Exited(status) => match (status.code(), status.signal()) {
                (Some(code), _) => write!(f, "ended with status {code}"),
                (None, Some(signal)) => write!(f, "was ended by signal {signal}"),
                (None, None) => f.write_str("ended"),
            },
            End::TimedOut => f.write_str("took too long and was killed"),
            End::Stopped => f.write_str("was stopped"),
        }
    }
}

/// A command that has run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// How it ended.
    pub end: End,
    /// The last of what it said, on standard output and standard error together.
    pub said: Vec<u8>,
    /// The limits of the simulated directory for which it was told that there is no space.
    pub reached: BTreeSet<Limit>,
}

/// Where and for how long a command runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    /// The directory in which it runs.
    pub(super) within: &'a Path,
    /// The longest that it may take.
    pub(super) timeout: Duration,
    /// Whether everything is to end.
    pub(super) stop: &'a AtomicBool,
}

enum Event {
    Started(OwnedFd),
    Ended(ExitStatus),
    Failed(io::Error),
}

/// Runs a command in a view, whose mount is served from `tree`. All that it has started has ended
/// when it returns.
///
/// # Errors
/// If it cannot be started, or what it has started does not end.
pub(super) fn run(
    command: &CommandLine,
    terms: Terms<'_>,
    view: &View,
    tree: &mut MountedTree,
) -> io::Result<Ran> {
    let (reader, writer) = io::pipe()?;
    let heard = Heard::listen(reader)?;
    let processes = &view.processes;
    let (tells, events) = unbounded();
    let ended = std::thread::scope(|scope| {
        // What it takes to start may be on the mount, which this thread serves meanwhile.
        let builder = std::thread::Builder::new().name("command".into());
        let output = OwnedFd::from(writer);
        builder.spawn_scoped(scope, move || {
            attend(command, terms.within, output, processes, &tells);
        })?;
        let (ticks, mut patience) = (tick(LOOK), Patience::of(terms.timeout));
        let (mut process, mut killed) = (None, None);
        loop {
            match view.serve(tree, &events, &ticks) {
                Some(Come::Awaited(Event::Started(started))) => process = Some(started),
                Some(Come::Awaited(Event::Ended(status))) => {
                    return Ok(killed.unwrap_or(End::Exited(status)));
                }
                Some(Come::Awaited(Event::Failed(error))) => return Err(error),
                Some(Come::Beside(_)) => patience.look(),
                Some(Come::Unmounted) => return Err(end_without_mount(process, &events)),
                None => return Err(io::Error::other("the thread that waits for it has ended")),
            }
            let end = match terms.stop.load(Ordering::Relaxed) {
                true => End::Stopped,
                false if patience.is_over() => End::TimedOut,
                false => continue,
            };
            if let (None, Some(process)) = (killed, &process) {
                let _ = pidfd_send_signal(process, Signal::KILL);
                killed = Some(end);
            }
        }
    })?;
    view.serve_waiting(tree);
    Ok(Ran {
        end: ended,
        said: heard.last(),
        reached: tree.take_reached(),
    })
}

/// How long a command may take, counted in looks. A clock would go on while this program is stopped
/// (Ctrl-Z), and does not answer what the command asks for.
#[derive(Debug)]
struct Patience {
    looks_left: u128,
}

impl Patience {
    fn of(timeout: Duration) -> Patience {
        Patience {
            looks_left: timeout.as_nanos().div_ceil(LOOK.as_nanos()),
        }
    }

    /// One look's time has passed.
    fn look(&mut self) {
        self.looks_left = self.looks_left.saturating_sub(1);
    }

    fn is_over(&self) -> bool {
        self.looks_left == 0
    }
}

/// Ends a command that has lost its mount: it works on the real directory.
fn end_without_mount(mut process: Option<OwnedFd>, events: &Receiver<Event>) -> io::Error {
    loop {
        if let Some(process) = &process {
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
        match events.recv() {
            Ok(Event::Started(started)) => process = Some(started),
            _ => return io::Error::other(TAKEN_AWAY),
        }
    }
}

/// Starts the command, waits for its end, and ends all that it has started.
fn attend(
    command: &CommandLine,
    within: &Path,
    output: OwnedFd,
    processes: &Processes,
    tells: &Sender<Event>,
) {
    let end = || -> io::Result<ExitStatus> {
        let started = processes.start(within, command.words(), output);
        let started = started.map_err(|error| match command {
            CommandLine::Shell(_) if error.kind() == io::ErrorKind::NotFound => {
                io::Error::other(format!("{SHELL}: {}", driver::system_words(error)))
            }
            _ => error,
        });
        drop(tells.send(Event::Started(started?)));
        let status = processes.wait()?;
        processes.end_all()?;
        Ok(status)
    };
    let _ = tells.send(match end() {
        Ok(status) => Event::Ended(status),
        Err(error) => Event::Failed(error),
    });
}

/// The last of what a command says.
struct Heard {
    last: Arc<Mutex<VecDeque<u8>>>,
    /// It is closed when nobody can say anything any more.
    end: Receiver<()>,
}

impl Heard {
    fn listen(mut pipe: PipeReader) -> io::Result<Heard> {
        let last = Arc::new(Mutex::new(VecDeque::new()));
        let (ends, end) = bounded(0);
        let into = Arc::clone(&last);
        let listen = move || {
            let _ends: Sender<()> = ends;
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                let mut last = into.lock().unwrap_or_else(PoisonError::into_inner);
                last.extend(&buffer[..count]);
                let surplus = last.len().saturating_sub(MOST_SAID);
                last.drain(..surplus);
            }
        };
        let builder = std::thread::Builder::new().name("command-output".into());
        builder.spawn(listen)?;
        Ok(Heard { last, end })
    }

    fn last(self) -> Vec<u8> {
        let _ = self.end.recv_timeout(LISTEN);
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// And not what a clock says, which goes on while this program is stopped.
    #[test]
    fn a_command_has_as_many_looks_as_its_time_has() {
        let of = |timeout| {
            let mut patience = Patience::of(timeout);
            let mut looks = 0;
            while !patience.is_over() {
                patience.look();
                looks += 1;
            }
            looks
        };
        assert_eq!(of(Duration::from_secs(1)), 20);
        assert_eq!(of(LOOK), 1);
        assert_eq!(of(LOOK + Duration::from_nanos(1)), 2);
    }

    #[test]
    fn a_command_is_told_as_it_could_be_given_again() {
        let words = ["sh", "-c", "a b", "--", "--two=2", "--it's", "", "-", "---"];
        let mut words = words.map(OsString::from).into_iter();
        let program = words.next().unwrap_or_default();
        let command = CommandLine::Program(program, words.collect());
        let expected = r"sh -c 'a b' -- --two=2 --'it'\''s' '' - '---'";
        assert_eq!(command.to_string(), expected);
    }
}
