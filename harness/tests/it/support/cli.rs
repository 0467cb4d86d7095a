//! Running the real program in a directory of its own, and seeing what it left there.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, UNIX_EPOCH};

use driver::blk::{Request, Status, Tag};
use driver::cow::Header;
use driver::device_spec::DeviceSpec;
use driver::driver::Driver;
use driver::host::HostNames;
use driver::units::{Bytes, Sector};
use rustix::process::Signal;
use userhelper::real_files::{RealHost, free_space};

/// What hangs that long will not end, however busy the machine is.
pub(crate) const TOO_LONG: Duration = Duration::from_secs(600);

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_ubdlab");

/// What gives a process a signal for the death of its parent.
const SETPRIV: &str = "/usr/bin/setpriv";

/// The size of the small device that most tests use.
pub(crate) const SIZE: u64 = 1 << 20;

/// The alignment of its COW file: the bitmap's page, and the data after it.
pub(crate) const ALIGNMENT: u32 = 4096;

/// A command that runs `ubdlab`.
pub(crate) fn ubdlab() -> Command {
    prepared(Command::new(PROGRAM))
}

/// As [`ubdlab`], with no signal ignored, for tests that send one.
pub(crate) fn ubdlab_that_heeds_signals() -> Command {
    let heeding = ["env", "--default-signal=HUP,INT", PROGRAM];
    prepared(ending_with_the_test(match ignores_signals() {
        false => &heeding[2..],
        true => &heeding,
    }))
}

/// A command that the kernel kills when the thread that has started it ends, as by SIGKILL of the
/// tests: nothing that serves is left behind.
pub(crate) fn ending_with_the_test(words: &[&str]) -> Command {
    // util-linux has it. Without it the command does as well.
    let is_there = Path::new(SETPRIV).exists();
    let before: &[&str] = match is_there {
        true => &[SETPRIV, "--pdeathsig", "KILL", "--"],
        false => &[],
    };
    let words = [before, words].concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

fn prepared(mut command: Command) -> Command {
    // Help is as wide as this, and usage errors too.
    command.env("COLUMNS", "100").stdin(Stdio::null());
    command
}

/// Whether the tests were started with SIGHUP or SIGINT ignored, by nohup or in the background of
/// a script. What they start would inherit that.
fn ignores_signals() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = u64::from_str_radix(ignored.unwrap().trim(), 16).unwrap();
    let signals = [Signal::HUP, Signal::INT];
    let bits = signals.map(|signal| 1 << (signal.as_raw() - 1));
    bits.iter().any(|bit| ignored & bit != 0)
}

/// A trace that comes with the program.
pub(crate) fn bundled(name: &str) -> PathBuf {
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("../traces");
    traces.canonicalize().unwrap().join(name)
}

/// Runs to the end, which has to come.
pub(crate) fn output(command: &mut Command) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let stdout = collect(stdout.unwrap());
    let stderr = collect(stderr.unwrap());
    let mut receive = |from: mpsc::Receiver<Vec<u8>>| {
        from.recv_timeout(TOO_LONG).unwrap_or_else(|_| {
            child.kill().unwrap();
            panic!("{command:?} hangs");
        })
    };
    let (stdout, stderr) = (receive(stdout), receive(stderr));
    Output {
        status: child.wait().unwrap(),
        stdout,
        stderr,
    }
}

/// Does this with each of them at the same time, for commands that mostly wait.
pub(crate) fn side_by_side<T: Sync>(all: &[T], each: impl Fn(&T) + Sync) {
    std::thread::scope(|scope| {
        for one in all {
            let each = &each;
            scope.spawn(move || each(one));
        }
    });
}

fn collect(mut from: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        // Nobody waits for it any more after a panic.
        let _ = sender.send(bytes);
    });
    receiver
}

/// A directory for one test.
pub(crate) struct Sandbox {
    directory: tempfile::TempDir,
    /// For the temporary files of the program. What it leaves if it is killed goes with the test: a
    /// replay's files may take much of the disk.
    temporary: tempfile::TempDir,
}

/// What is in a directory: each file's bytes, or what else a name is.
pub(crate) type Contents = BTreeMap<PathBuf, Result<Vec<u8>, String>>;

impl Sandbox {
    /// An empty one.
    pub(crate) fn new() -> Sandbox {
        let [directory, temporary] = ["cli-", "cli-t-"]
            .map(|prefix| tempfile::Builder::new().prefix(prefix).tempdir().unwrap());
        Sandbox {
            directory,
            temporary,
        }
    }

    /// One with the small device (`cow` over `backing`) and a trace of two requests (`trace`).
    pub(crate) fn with_device() -> Sandbox {
        let sandbox = Sandbox::new();
        sandbox.write_backing("backing", SIZE);
        sandbox.create_cow("cow", "backing");
        sandbox.write("trace", ftrace(&[("WS", 0, 8), ("R", 8, 8)]));
        sandbox
    }

    /// One with a COW file `cow` over a hole of this size.
    pub(crate) fn with_hole(size: u64) -> Sandbox {
        let sandbox = Sandbox::new();
        let file = std::fs::File::create(sandbox.path("backing")).unwrap();
        file.set_len(size).unwrap();
        sandbox.touch("backing", 1_050_000_000);
        sandbox.create_cow("cow", "backing");
        sandbox
    }

    /// The path of a name in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file. What is zero in it is a hole, as in an image that a tool has made.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        const BLOCK: usize = 4096;
        let content = content.as_ref();
        let file = std::fs::File::create(self.path(name)).unwrap();
        for (n, block) in content.chunks(BLOCK).enumerate() {
            if block.iter().any(|&byte| byte != 0) {
                file.write_all_at(block, (n * BLOCK) as u64).unwrap();
            }
        }
        file.set_len(content.len() as u64).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// A backing file in which every sector differs, of 2003: what changes it does not have to
    /// wait until the second has passed in which it was made.
    pub(crate) fn write_backing(&self, name: &str, size: u64) {
        let content: Vec<u8> = (0..size / 8).flat_map(u64::to_le_bytes).collect();
        self.write(name, content);
        self.touch(name, 1_050_000_000);
    }

    /// Makes the file's time of last modification this one, in seconds since 1970.
    pub(crate) fn touch(&self, name: &str, seconds: u64) {
        let file = std::fs::File::options().write(true).open(self.path(name));
        let modified = UNIX_EPOCH + Duration::from_secs(seconds);
        file.unwrap().set_modified(modified).unwrap();
    }

    /// A COW file as `ubdlab` makes them, with the alignment above.
    pub(crate) fn create_cow(&self, name: &str, backing: &str) {
        let (path, backing) = (self.path(name), self.path(backing));
        driver::open::create(&RealHost, &path, &backing, Some(ALIGNMENT)).unwrap();
    }

    /// Makes the first sector of a COW file's device dirty.
    pub(crate) fn make_dirty(&self, name: &str) {
        self.make_dirty_at(name, &[0]);
    }

    /// Makes these sectors of a COW file's device dirty.
    pub(crate) fn make_dirty_at(&self, name: &str, sectors: &[u64]) {
        let spec = DeviceSpec::of(self.path(name));
        let opened = driver::open::open(&RealHost, &spec, Default::default());
        let mut device = opened.unwrap().device;
        for &sector in sectors {
            let done = device.serve(Request::write(Tag(0), Sector(sector), vec![b'd'; 512]));
            assert_eq!(done.unwrap().status, Status::Ok);
        }
        device.close().unwrap();
    }

    /// Writes over a part of a file.
    pub(crate) fn patch(&self, name: &str, at: usize, bytes: &[u8]) {
        let file = std::fs::File::options().write(true).open(self.path(name));
        let file = file.unwrap();
        let end = (at + bytes.len()) as u64;
        assert!(
            end <= file.metadata().unwrap().len(),
            "past the end of {name}"
        );
        file.write_all_at(bytes, at as u64).unwrap();
    }

    /// A header that names this backing path, and nothing after it but holes.
    pub(crate) fn write_header(&self, name: &str, backing: &Path) {
        let mtime = std::fs::metadata(backing).map_or(0, |metadata| {
            use std::os::unix::fs::MetadataExt;
            metadata.mtime() as u32
        });
        let header = Header::v3(backing, mtime, Bytes(SIZE), ALIGNMENT).unwrap();
        let mut content = header.encode();
        content.resize(3 * ALIGNMENT as usize + SIZE as usize, 0);
        self.write(name, content);
    }

    /// Arguments with `@name` for the path of a name in here, also within a word.
    pub(crate) fn args(&self, args: &[&str]) -> Vec<String> {
        let directory = format!("{}/", self.directory.path().display());
        args.iter()
            .map(|arg| arg.replace('@', &directory))
            .collect()
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        output(
            ubdlab()
                .args(self.args(args))
                .env("TMPDIR", self.temporary())
                .current_dir(self.directory.path()),
        )
    }

    /// Where the program makes its temporary files.
    pub(crate) fn temporary(&self) -> &Path {
        self.temporary.path()
    }

    /// What the program printed, with `@` for this directory.
    pub(crate) fn text(&self, bytes: &[u8]) -> String {
        let directory = format!("{}/", self.directory.path().display());
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        text.replace(&directory, "@")
    }

    /// Everything in it.
    pub(crate) fn contents(&self) -> Contents {
        let mut contents = Contents::new();
        let mut directories = vec![self.directory.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let (path, kind) = entry.map(|e| (e.path(), e.file_type().unwrap())).unwrap();
                let content = if kind.is_file() {
                    Ok(std::fs::read(&path).unwrap())
                } else {
                    Err(format!("{kind:?}, FIFO: {}", kind.is_fifo()))
                };
                if kind.is_dir() {
                    directories.push(path.clone());
                }
                contents.insert(path, content);
            }
        }
        contents
    }

    /// The program has to fail with this status and exactly this message, and to leave every
    /// file as it was and no new one.
    pub(crate) fn fails(&self, args: &[&str], status: i32, message: &str) {
        let before = self.contents();
        let output = self.run(args);
        assert_eq!(
            (self.text(&output.stderr).as_str(), output.status.code()),
            (message, Some(status)),
            "of {args:?}{}",
            self.space_left(&output)
        );
        assert_eq!(self.text(&output.stdout), "", "of {args:?}");
        let after = self.contents();
        let names = |contents: &Contents| contents.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&before), names(&after), "of {args:?}");
        for (path, content) in &before {
            assert!(*content == after[path], "{path:?} was changed by {args:?}");
        }
    }

    /// As [`Sandbox::fails`], of an operation that failed.
    pub(crate) fn refuses(&self, args: &[&str], message: &str) {
        self.fails(args, 3, &format!("ubdlab: {message}\n"));
    }

    /// The replay of the trace `trace` on the device `cow` fails.
    pub(crate) fn device_refused(&self, message: &str) {
        self.refuses(&["replay", "@trace", "--device", "ubda=@cow"], message);
    }

    /// Runs the program, which has to succeed; its standard output.
    pub(crate) fn succeeds(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let stderr = self.text(&output.stderr);
        assert_eq!(
            (stderr.as_str(), output.status.code()),
            ("", Some(0)),
            "of {args:?}{}",
            self.space_left(&output)
        );
        self.text(&output.stdout)
    }

    /// Runs the program, which has to succeed, and may note something; its standard output.
    pub(crate) fn succeeds_with_notes(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let stderr = self.text(&output.stderr);
        let notes_only = stderr.lines().all(|line| line.starts_with("note: "));
        assert!(
            notes_only && output.status.code() == Some(0),
            "of {args:?}: {stderr}{}",
            self.space_left(&output)
        );
        self.text(&output.stdout)
    }

    /// Where the program had no space: how much there is where the tests run. Others use that disk
    /// too, and if they have filled it a test says nothing about the program.
    fn space_left(&self, output: &Output) -> String {
        if !String::from_utf8_lossy(&output.stderr).contains("no space left") {
            return String::new();
        }
        let space = free_space(self.directory.path());
        format!(", with {space:?} free beside the test's files")
    }

    /// Runs the program with `--json`, which has to succeed; what it reports.
    pub(crate) fn report(&self, args: &[&str]) -> serde_json::Value {
        let mut args = args.to_vec();
        args.push("--json");
        serde_json::from_str(&self.succeeds(&args)).unwrap()
    }

    /// Another process holding the file, as far as the kernel is concerned.
    pub(crate) fn hold(&self, name: &str) -> impl Drop + use<> {
        let file = RealHost.open(&self.path(name), driver::host::Access::ReadWrite);
        let file = file.unwrap();
        RealHost
            .lock(&file, driver::host::LockKind::Exclusive)
            .unwrap();
        Held(file)
    }
}

struct Held(#[allow(dead_code, reason = "its lock ends with it")] userhelper::real_files::RealFile);

impl Drop for Held {
    fn drop(&mut self) {}
}

/// What is said of a backing file of another time than `seconds`, which the COW file expects.
pub(crate) fn ways_out(backing: &str, cow: &str, seconds: u64) -> String {
    format!(
        "If nothing but its time has changed, `touch -d @{seconds} {backing}` sets that back. If it is \
         another file with the same content, `ubdlab image rebase {cow} --backing {backing} \
         --unsafe` takes it. Where the content has changed, both are wrong: the file system on the \
         disk would be damaged"
    )
}

/// A trace as ftrace writes it, of requests each with RWBS, first sector and sectors.
pub(crate) fn ftrace(requests: &[(&str, u64, u64)]) -> String {
    let line = |(n, (rwbs, start, count)): (usize, &(&str, u64, u64))| {
        let bytes = count * 512;
        format!(
            "dd-1 [000] ..... 1.{n:06}: block_rq_issue: 8,0 {rwbs} {bytes} () {start} + {count} [dd]\n"
        )
    };
    requests.iter().enumerate().map(line).collect()
}

/// A vscsi trace, version 2: writes of 8 sectors one after the other.
pub(crate) fn vscsi(records: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for n in 0..records {
        bytes.extend(0x2a_u16.to_le_bytes());
        bytes.extend(0x0200_u16.to_le_bytes());
        bytes.extend(n.to_le_bytes());
        bytes.extend(4096_u32.to_le_bytes());
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(u64::from(8 * n).to_le_bytes());
        bytes.extend(u64::from(n).to_le_bytes());
        bytes.extend(0_u64.to_le_bytes());
    }
    bytes
}
