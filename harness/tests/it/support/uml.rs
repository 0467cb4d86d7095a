//! Running the real kernel, `linux.uml`, to the end or up to where it stands still.
//!
//! Nothing needs user space, which not every host lets UML have: a kernel without an init
//! panics, and by then it has opened its devices and mounted one of them.

use std::io::{BufRead, BufReader, ErrorKind, PipeReader, PipeWriter, pipe};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::personality::{self, Persona};
use rustix::io::Errno;
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitOptions, getpid, kill_process_group, set_child_subreaper,
    setrlimit, waitpgid,
};

/// Spares a second in which the kernel finds out how fast its RAID would be.
const NO_BENCHMARKS: &str = "initcall_blacklist=raid6_select_algo,calibrate_xor_blocks";

/// The memory of a guest. Debian's kernel boots with half of it.
const MEMORY: &str = "mem=128M";

/// A boot takes a second or two; one that takes that long will not end, however busy the machine
/// is.
const TOO_LONG: Duration = Duration::from_secs(600);

/// What the kernel says when there is no init, with its root mounted.
const MOUNTED_AND_PANICS: &str = "Kernel panic - not syncing: No working init found";

/// The program `linux.uml`.
pub(crate) struct Uml {
    program: PathBuf,
    /// A library that is loaded before its own.
    preload: Option<PathBuf>,
}

impl Uml {
    pub(crate) fn new(program: PathBuf) -> Uml {
        Uml {
            program,
            preload: None,
        }
    }

    /// Likewise, with a library that is loaded before its own.
    pub(crate) fn with_preload(self, library: PathBuf) -> Uml {
        Uml {
            preload: Some(library),
            ..self
        }
    }

    /// Mounts the file system on `ubda` read-write and panics. What it printed, with or
    /// without success.
    pub(crate) fn mount(&self, directory: &Path, ubda: &str) -> String {
        self.boot(directory, &[ubda, "root=/dev/ubda", "rw"])
    }

    /// Boots from the root file system on `ubda`, whose init turns the machine off. What it
    /// printed.
    pub(crate) fn boot_from(&self, directory: &Path, ubda: &str) -> String {
        let args = ["con0=null,fd:1", ubda, "root=/dev/ubda", "rw"];
        let mut running = Running::start(self, directory, Stdio::null(), &args);
        while running.read_line() {}
        std::mem::take(&mut running.console)
    }

    /// Opens `ubda`, tries to find there what is not, and lists the devices with their sizes.
    pub(crate) fn list(&self, directory: &Path, ubda: &str) -> String {
        self.boot(directory, &[ubda, "root=/dev/ubda", "rootfstype=xfs"])
    }

    /// Boots with its console here: what the guest reads there is written to the first, and what it
    /// prints comes from the second.
    pub(crate) fn console(&self, directory: &Path, args: &[&str]) -> (PipeWriter, Running) {
        let (stdin, input) = pipe().unwrap();
        let args = [&["con0=fd:0,fd:1"], args].concat();
        let running = Running::start(self, directory, stdin.into(), &args);
        (input, running)
    }

    fn boot(&self, directory: &Path, args: &[&str]) -> String {
        let args = [&["con0=null,fd:1"], args].concat();
        let mut running = Running::start(self, directory, Stdio::null(), &args);
        while running.read_line() {}
        assert!(
            running.console.contains("Kernel panic"),
            "{args:?} ended early or hung:\n{}",
            running.console
        );
        std::mem::take(&mut running.console)
    }

    /// Mounts the file system on `ubda` read-write and stands still, with the device open, for as
    /// long as what is returned lives.
    ///
    /// A UML that panics tells the socket that `mconsole=notify` names, and waits while that
    /// socket's queue is full. So the queue is filled, but for the one place that the
    /// message takes by which UML says that it has started.
    pub(crate) fn hold(&self, directory: &Path, ubda: &str) -> Held {
        let name = directory.join("notify");
        let socket = UnixDatagram::bind(&name).unwrap();
        fill(&name);
        socket.recv(&mut [0; 16]).unwrap();
        let notify = format!("mconsole=notify:{}", name.display());
        let args = ["con0=null,fd:1", ubda, "root=/dev/ubda", "rw", &notify];
        let mut running = Running::start(self, directory, Stdio::null(), &args);
        while !running.console.contains(MOUNTED_AND_PANICS) {
            assert!(
                running.read_line(),
                "{args:?} did not mount its root:\n{}",
                running.console
            );
        }
        Held {
            _running: running,
            _socket: socket,
        }
    }
}

/// Sends to the socket of this name until its queue is full.
fn fill(name: &Path) {
    loop {
        let sender = UnixDatagram::unbound().unwrap();
        sender.set_nonblocking(true).unwrap();
        let mut sent = 0;
        let error = loop {
            match sender.send_to(b"full", name) {
                Ok(_) => sent += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
        // Otherwise it may have been the sender's own buffer that was full.
        if sent == 0 {
            return;
        }
    }
}

/// A UML that has its devices open and stands still.
pub(crate) struct Held {
    _running: Running,
    /// Without it UML would not wait.
    _socket: UnixDatagram,
}

/// A UML with all its processes, which end with this.
pub(crate) struct Running {
    child: Child,
    output: BufReader<PipeReader>,
    /// What it has printed.
    pub(crate) console: String,
    watchdog: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Running {
    fn start(uml: &Uml, directory: &Path, stdin: Stdio, args: &[&str]) -> Running {
        // UML's other processes become ours when the first one ends, so that they can be
        // waited for.
        set_child_subreaper(Some(getpid())).unwrap();
        // A UML that panics aborts: with a core as large as its memory, if it may.
        let no_core = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        setrlimit(Resource::Core, no_core).unwrap();
        let (output, end) = pipe().unwrap();
        let mut command = Command::new(&uml.program);
        command
            .args([MEMORY, "con=null", NO_BENCHMARKS])
            .arg(format!("uml_dir={}", directory.join("uml").display()))
            .args(args)
            // Where it keeps its memory.
            .env("TMPDIR", directory)
            .envs(uml.preload.iter().map(|library| ("LD_PRELOAD", library)))
            .current_dir(directory)
            .stdin(stdin)
            .stdout(end.try_clone().unwrap())
            .stderr(end)
            // At its end it kills its group.
            .process_group(0);
        let child = spawn_without_randomisation(&mut command);
        let watchdog = Some(watch(group(&child)));
        Running {
            child,
            output: BufReader::new(output),
            console: String::new(),
            watchdog,
        }
    }

    /// Reads on; whether there was something.
    pub(crate) fn read_line(&mut self) -> bool {
        let mut line = Vec::new();
        self.output.read_until(b'\n', &mut line).unwrap();
        self.console.push_str(&String::from_utf8_lossy(&line));
        !line.is_empty()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = group(&self.child);
        if let Some((sender, watchdog)) = self.watchdog.take() {
            drop(sender);
            let _ = watchdog.join();
        }
        // The group may be empty but for its leader, whose number is not given to another
        // before it has been waited for.
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
        // They share one table of open files: its locks last until the last one is gone.
        while !matches!(waitpgid(group, WaitOptions::empty()), Err(Errno::CHILD)) {}
    }
}

/// Starts `linux.uml` with its address space where it always is.
///
/// UML takes the gap that randomisation leaves after its image for physical memory, and keeps page
/// structures for all of it in the memory that it was given. The gap is up to 1 GiB, so that now
/// and then too little was left to mount the root: "Cannot open root device", error -12. Seen with
/// Debian's UML 6.1.
fn spawn_without_randomisation(command: &mut Command) -> Child {
    // A child inherits the personality of the thread that starts it.
    let before = personality::get().unwrap();
    personality::set(before | Persona::ADDR_NO_RANDOMIZE).unwrap();
    let child = command.spawn();
    personality::set(before).unwrap();
    child.unwrap()
}

fn group(leader: &Child) -> Pid {
    Pid::from_child(leader)
}

/// Kills a process group that takes too long, unless the sender is dropped before.
fn watch(group: Pid) -> (Sender<()>, JoinHandle<()>) {
    let (sender, receiver) = channel();
    let watchdog = std::thread::spawn(move || {
        if receiver.recv_timeout(TOO_LONG) == Err(RecvTimeoutError::Timeout) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    });
    (sender, watchdog)
}

/// Whether it has mounted its root, read-write.
pub(crate) fn has_mounted(console: &str) -> bool {
    console.contains("EXT4-fs (ubda): mounted filesystem") && console.contains(MOUNTED_AND_PANICS)
}

/// The size of `ubda` in bytes, from the list of devices.
pub(crate) fn listed_size(console: &str) -> u64 {
    // It would be in the list also then, with the size of its backing file.
    assert!(!console.contains("Can't open"), "{console}");
    let line = console.lines().find(|line| line.starts_with("6200 "));
    let size = line.and_then(|line| line.split_whitespace().nth(1));
    let Some(Ok(kib)) = size.map(str::parse::<u64>) else {
        panic!("ubda is not in the list:\n{console}");
    };
    kib * 1024
}
