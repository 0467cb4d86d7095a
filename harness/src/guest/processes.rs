//! A UML with all its processes, which end with this value.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::io::Errno;
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitOptions, getpid, kill_process_group, set_child_subreaper,
    setrlimit, waitpgid,
};

/// Spares a second in which the kernel finds out how fast its RAID would be.
const NO_BENCHMARKS: &str = "initcall_blacklist=raid6_select_algo,calibrate_xor_blocks";

/// The name of a UML in its directory of sockets.
const NAME: &str = "guest";

/// The descriptors that a UML is started with.
#[derive(Debug)]
pub struct Descriptors {
    /// Standard input.
    pub stdin: Stdio,
    /// Standard output.
    pub stdout: Stdio,
    /// Standard error.
    pub stderr: Stdio,
}

/// The processes of a UML.
#[derive(Debug)]
pub struct UmlProcesses {
    child: Child,
}

impl UmlProcesses {
    /// Starts `uml` in `directory`, where it keeps its memory and its sockets, with these words.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(
        uml: &Path,
        directory: &Path,
        words: &[String],
        preload: Option<&Path>,
        descriptors: Descriptors,
    ) -> io::Result<UmlProcesses> {
        // UML's other processes become ours when the first one ends, so that they can be waited
        // for.
        set_child_subreaper(Some(getpid()))?;
        // One that panics aborts: with a core as large as its memory, if it may.
        let no_core = Rlimit {
            current: Some(0),
            ..rustix::process::getrlimit(Resource::Core)
        };
        setrlimit(Resource::Core, no_core)?;
        // UML takes the gap that randomisation leaves after its image for memory that it has to
        // keep account of, which may be more than it has.
        let mut command = Command::new("setarch");
        command
            .arg("-R")
            .arg(uml)
            .args(["con=null", NO_BENCHMARKS])
            .arg(format!("uml_dir={}", directory.join("uml").display()))
            .arg(format!("umid={NAME}"))
            .args(words)
            .env("TMPDIR", directory)
            .envs(preload.map(|library| ("LD_PRELOAD", library)))
            .current_dir(directory)
            .stdin(descriptors.stdin)
            .stdout(descriptors.stdout)
            .stderr(descriptors.stderr)
            // At its end it kills its group.
            .process_group(0);
        let child = command.spawn()?;
        Ok(UmlProcesses { child })
    }

    /// How the first process has ended, if it has.
    ///
    /// # Errors
    /// The system's.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Kills them all. One that waits for a file system of ours ends when that has answered.
    pub fn kill(&self) {
        let group = Pid::from_child(&self.child);
        let _ = kill_process_group(group, Signal::KILL);
    }

    /// Whether none is left of them.
    pub fn are_gone(&mut self) -> bool {
        let group = Pid::from_child(&self.child);
        if !matches!(self.child.try_wait(), Ok(None)) {
            let waited = waitpgid(group, WaitOptions::NOHANG);
            return matches!(waited, Err(Errno::CHILD));
        }
        false
    }
}

/// The socket by which a UML that was started in `directory` is told things.
pub fn mconsole(directory: &Path) -> std::path::PathBuf {
    directory.join("uml").join(NAME).join("mconsole")
}

impl Drop for UmlProcesses {
    fn drop(&mut self) {
        let group = Pid::from_child(&self.child);
        // The group may be empty but for its leader, whose number is not given to another before it
        // has been waited for.
        self.kill();
        let _ = self.child.wait();
        // They share one table of open files: its locks last until the last one is gone.
        while !matches!(waitpgid(group, WaitOptions::empty()), Err(Errno::CHILD)) {}
    }
}
