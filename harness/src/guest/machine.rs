//! A running guest: it is booted when this is made, and gone, with all its processes, when this is
//! dropped.

use std::io::{self, PipeReader, PipeWriter, Read, Write, pipe};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::clock;

use super::processes::{Descriptors, UmlProcesses};

/// How long a guest is waited for in one go, in nanoseconds.
const LOOK_NS: i64 = 50_000_000;

/// The longest that a command, or a boot, may take.
const TOO_LONG_SECONDS: u64 = 300;

/// The most of what a guest prints in one command that is kept, in bytes.
const LONGEST_ANSWER: usize = 16 << 20;

/// Why a guest does not do what it is told.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The system's.
    #[error("{}", driver::system_words(.0))]
    Io(#[from] io::Error),
    /// It has ended, or does not end a command, or that has failed.
    #[error("a guest: {what}: {said}")]
    Guest {
        /// What it did.
        what: String,
        /// What it has printed.
        said: String,
    },
    /// Nobody wants to know any more.
    #[error("interrupted")]
    Stopped,
}

/// A guest.
#[derive(Debug)]
pub struct Machine<'a> {
    _processes: UmlProcesses,
    input: PipeWriter,
    output: PipeReader,
    /// What it has printed since the last command was given.
    said: String,
    commands: usize,
    /// Nobody wants to know any more.
    stop: &'a AtomicBool,
}

impl Machine<'_> {
    /// Boots `linux.uml` with these words. Its first process is a shell that reads the console,
    /// after it has done what the archive says.
    ///
    /// # Errors
    /// If it does not start.
    pub fn boot<'a>(
        uml: &Path,
        directory: &Path,
        words: &[String],
        stop: &'a AtomicBool,
    ) -> Result<Machine<'a>, MachineError> {
        let (stdin, input) = pipe()?;
        let (output, end) = pipe()?;
        let words = [&["con0=fd:0,fd:1".to_owned()], words].concat();
        let descriptors = Descriptors {
            stdin: stdin.into(),
            stdout: end.try_clone()?.into(),
            stderr: end.into(),
        };
        let processes = UmlProcesses::start(uml, directory, &words, None, descriptors)?;
        Ok(Machine {
            _processes: processes,
            input,
            output,
            said: String::new(),
            commands: 0,
            stop,
        })
    }

    /// Has a command carried out, which has to succeed; what it prints.
    ///
    /// # Errors
    /// If it does not, or takes too long.
    pub fn run(&mut self, command: &str) -> Result<String, MachineError> {
        self.commands += 1;
        let number = self.commands;
        // The terminal shows what is written to it. So what is searched for is written otherwise.
        let line = format!("echo BE''GIN {number}; {command}; echo EN''D {number} $?.\n");
        self.said.clear();
        self.input.write_all(line.as_bytes())?;
        let (begin, end) = (format!("BEGIN {number}"), format!("END {number} "));
        let started = clock::start();
        loop {
            if let Some((said, rest)) = self.said.split_once(&end)
                && let Some((status, _)) = rest.split_once('.')
            {
                let said = said.split_once(&begin).map_or(said, |(_, said)| said);
                let said = said.replace('\r', "").trim().to_owned();
                return match status {
                    "0" => Ok(said),
                    status => Err(MachineError::Guest {
                        what: format!("{command} ended with status {status}"),
                        said,
                    }),
                };
            }
            let has_time = started.elapsed().as_secs() < TOO_LONG_SECONDS;
            if !self.read()? || !has_time || self.said.len() > LONGEST_ANSWER {
                return Err(MachineError::Guest {
                    what: format!("{command} did not end"),
                    said: std::mem::take(&mut self.said),
                });
            }
        }
    }

    /// Waits a while for something that it prints. Whether more may come.
    fn read(&mut self) -> Result<bool, MachineError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(MachineError::Stopped);
        }
        let look = Timespec {
            tv_sec: 0,
            tv_nsec: LOOK_NS,
        };
        let mut polled = [PollFd::new(&self.output, PollFlags::IN)];
        match poll(&mut polled, Some(&look)) {
            Ok(0) | Err(Errno::INTR) => return Ok(true),
            Ok(_) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
        let mut bytes = [0; 4096];
        let read = self.output.read(&mut bytes)?;
        let part = bytes.get(..read).unwrap_or_default();
        self.said.push_str(&String::from_utf8_lossy(part));
        Ok(read > 0)
    }
}
