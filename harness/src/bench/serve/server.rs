//! A server of a device as a process of its own: it serves when this is made, and has ended when
//! this is dropped.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::Advice;
use rustix::process::{Pid, Signal, kill_process};

use crate::bench::{BenchError, Settings};
use crate::clock::{Clock, WallClock};

/// From one look at a process to the next.
const LOOK_NS: u64 = 2_000_000;

/// The longest that a server may take to begin or to end. On a busy disk an end takes seconds: what
/// was written has to be durable.
const TOO_LONG_NS: u64 = 120_000_000_000;

/// A process that serves.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
}

/// What a process takes of the machine's memory, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProcessMemory {
    /// Pages that it has, those shared with other processes too.
    pub(super) resident: u64,
    /// Of a shared page, its part.
    pub(super) proportional: u64,
}

impl Server {
    /// Starts it, and waits until there is a file called `ready`.
    pub(super) fn start(
        settings: Settings<'_>,
        mut command: Command,
        ready: &Path,
    ) -> Result<Server, BenchError> {
        let said = tempfile::tempfile_in(settings.directory);
        let mut said = said.map_err(BenchError::file(settings.directory, "making a file in"))?;
        let stderr = said.try_clone();
        let stderr = stderr.map_err(BenchError::file(settings.directory, "using a file in"))?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr);
        let child = command.spawn();
        let failed = |problem: String| BenchError::Program {
            command: format!("{command:?}"),
            problem,
        };
        let child = child.map_err(|error| failed(driver::system_words(error)))?;
        let mut server = Server { child };
        let clock = WallClock::start();
        while !ready.exists() {
            settings.check_stop()?;
            if server.has_ended() || clock.now_ns() > TOO_LONG_NS {
                let mut words = String::new();
                // What cannot be read is not told.
                let _ = said.rewind().and_then(|()| said.read_to_string(&mut words));
                return Err(failed(format!("it does not serve: {}", words.trim_end())));
            }
            clock.sleep_until_ns(clock.now_ns() + LOOK_NS);
        }
        Ok(server)
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Writes what waits for it of all files that it has open to the disk.
    pub(super) fn write_back(&self) -> Result<(), BenchError> {
        self.each_file(|file| file.sync_data())
    }

    /// Drops what the page cache has of all files that it has open, after writing them back.
    pub(super) fn make_cold(&self) -> Result<(), BenchError> {
        self.each_file(|file| {
            file.sync_data()?;
            Ok(rustix::fs::fadvise(file, 0, None, Advice::DontNeed)?)
        })
    }

    fn each_file(&self, act: impl Fn(&File) -> io::Result<()>) -> Result<(), BenchError> {
        let directory = PathBuf::from(format!("/proc/{}/fd", self.child.id()));
        let entries = std::fs::read_dir(&directory);
        let entries = entries.map_err(BenchError::file(&directory, "reading"))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            // Sockets and pipes are none, and what was closed meanwhile is not there.
            if path.metadata().is_ok_and(|found| found.is_file()) {
                let acted = File::open(&path).and_then(|file| act(&file));
                acted.map_err(BenchError::file(&path, "dropping from the page cache"))?;
            }
        }
        Ok(())
    }

    /// What it takes of the memory.
    pub(super) fn memory(&self) -> Result<ProcessMemory, BenchError> {
        let path = PathBuf::from(format!("/proc/{}/smaps_rollup", self.child.id()));
        let text = std::fs::read_to_string(&path).map_err(BenchError::file(&path, "reading"))?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            number.map(|kib| kib << 10).ok_or_else(|| {
                let missing = io::Error::other(format!("found no number after {name}"));
                BenchError::file(&path, "reading")(missing)
            })
        };
        Ok(ProcessMemory {
            resident: field("Rss:")?,
            proportional: field("Pss:")?,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended already needs no signal, and its number is still its own.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let clock = WallClock::start();
        while !self.has_ended() {
            if clock.now_ns() > TOO_LONG_NS {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            clock.sleep_until_ns(clock.now_ns() + LOOK_NS);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use driver::units::Bytes;

    use super::*;

    fn started(directory: &Path, script: &str) -> Result<Server, BenchError> {
        let stop = AtomicBool::new(false);
        let settings = Settings {
            directory,
            program: Path::new("/"),
            dirty: Bytes(0),
            io: None,
            only: &crate::bench::Only::default(),
            stop: &stop,
        };
        let ready = directory.join("ready");
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(&ready);
        Server::start(settings, command, &ready)
    }

    #[test]
    fn one_that_does_not_serve_is_quoted() {
        let directory = tempfile::tempdir().unwrap();
        let error = started(directory.path(), "echo no disk >&2; exit 4").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("it does not serve: no disk"), "{text}");
    }

    #[test]
    fn one_that_serves_has_memory_and_ends_when_it_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        // Once it is ready it begins no other program: one that does has no memory for a moment.
        let serve = "mkfifo \"$0.wait\"; exec 9<\"$0.data\"; : >\"$0\"; read -r _ <\"$0.wait\"";
        std::fs::write(directory.path().join("ready.data"), [1; 8192]).unwrap();
        let server = started(directory.path(), serve).unwrap();
        let memory = server.memory().unwrap();
        assert!(memory.proportional > 0 && memory.resident >= memory.proportional);
        server.make_cold().unwrap();
        let process = PathBuf::from(format!("/proc/{}", server.child.id()));
        drop(server);
        assert!(!process.exists());
    }
}
