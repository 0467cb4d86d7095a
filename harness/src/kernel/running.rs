//! A running UML with this program as its first process: what is said to it and by it, what its
//! console shows, and the management console by which it gets and loses its device.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read, Write, pipe};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use driver::units::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use userhelper::real_files::free_space;

use crate::fuzz::recorded::GuestWord;
use crate::guest::{AMX_PRELOAD, Archive, Descriptors, UmlProcesses, mconsole, user_space_starts};
use crate::locked::locked;

use super::CannotFuzz;
use super::device_argument::{DeviceArgument, LONGEST, NAME, of_command_line};
use super::frame::{Frames, framed};
use super::guest_side::{BLKDISCARD, DEVICE, LINE};
use super::orders::{Order, PIECE, Said};

/// After how long without anything asked or said a kernel hangs.
pub(super) const HANGS: Duration = Duration::from_secs(20);

/// After how long one that boots does.
pub(super) const BOOT_HANGS: Duration = Duration::from_secs(120);

/// What a pipe holds, in bytes. Who has read as many has all that was in it when he began.
const PIPE: usize = 1 << 16;

/// The guest's memory, in MiB. Debian's kernel boots with a quarter of it, and the program is
/// large.
const MEMORY: u64 = 512;

/// The numbers of the line and of the device in the guest.
const LINE_NUMBERS: (u32, u32) = (4, 64);
const DEVICE_NUMBERS: (u32, u32) = (98, 16);

/// The last of the console that is kept, in bytes.
const KEPT: usize = 16 << 10;

/// The management console's protocol: a mark, its version, a length, and a field for the text.
const MAGIC: u32 = 0xcafe_babe;
const VERSION: u32 = 2;
const TEXT: usize = LONGEST + 1;
const NUMBER: usize = 4;

/// Of what guests are made.
#[derive(Clone, Debug)]
pub struct Kit {
    /// The kernel.
    pub kernel: PathBuf,
    /// What its guest has to run.
    archive: PathBuf,
    /// What is loaded before the kernel's own libraries, where the processor needs that.
    preload: Option<PathBuf>,
    /// Where all that is, and where UML keeps its memory.
    directory: PathBuf,
}

impl Kit {
    /// Puts it together in `directory`: `program` is this one, `blkdiscard` discards sectors.
    ///
    /// # Errors
    /// What cannot be written, or read, or that the kernel cannot be told of `directory`.
    pub fn make(
        directory: &Path,
        kernel: &Path,
        program: &Path,
        blkdiscard: &Path,
    ) -> Result<Kit, CannotFuzz> {
        of_command_line(directory)?;
        let made = Kit::make_files(directory, kernel, program, blkdiscard);
        made.map_err(|error| CannotFuzz::File {
            path: directory.to_owned(),
            error,
        })
    }

    fn make_files(
        directory: &Path,
        kernel: &Path,
        program: &Path,
        blkdiscard: &Path,
    ) -> io::Result<Kit> {
        let mut archive = Archive::new();
        archive.character_device(LINE, LINE_NUMBERS);
        archive.character_device("dev/null", (1, 3));
        archive.block_device(DEVICE, DEVICE_NUMBERS);
        archive.program("ubdlab", program)?;
        archive.program(BLKDISCARD, blkdiscard)?;
        let path = directory.join("initrd");
        std::fs::write(&path, archive.end())?;
        let preload = match user_space_starts() || AMX_PRELOAD.is_empty() {
            true => None,
            false => {
                let library = directory.join("amx.so");
                std::fs::write(&library, AMX_PRELOAD)?;
                Some(library)
            }
        };
        Ok(Kit {
            kernel: kernel.to_owned(),
            archive: path,
            preload,
            directory: directory.to_owned(),
        })
    }
}

/// A running UML.
#[derive(Debug)]
pub struct Running {
    processes: UmlProcesses,
    to_guest: PipeWriter,
    /// What the guest is still to be sent.
    to_send: VecDeque<u8>,
    /// How much it has been sent that it has not said to have read.
    unheard: usize,
    from_guest: PipeReader,
    frames: Frames,
    console: Arc<Mutex<Vec<u8>>>,
    management: UnixDatagram,
    /// The socket to which it answers.
    answers: PathBuf,
    mconsole: PathBuf,
}

/// Why a running UML is not of use any more.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// The system's words.
    #[error("{}", driver::system_words(.0))]
    System(#[from] io::Error),
    /// What it says cannot be read.
    #[error(transparent)]
    Frame(#[from] super::frame::BadFrame),
}

impl Running {
    /// Boots one. It says [`GuestWord::Ready`] when it is up.
    ///
    /// # Errors
    /// What keeps it from starting.
    pub fn boot(kit: &Kit) -> Result<Running, CannotFuzz> {
        check_room(&kit.directory)?;
        let failed = |error| CannotFuzz::Starting {
            kernel: kit.kernel.clone(),
            error,
        };
        let (stdin, to_guest) = pipe().map_err(failed)?;
        let (from_guest, stdout) = pipe().map_err(failed)?;
        let (shown, stderr) = pipe().map_err(failed)?;
        let flags = fcntl_setfl(&from_guest, OFlags::NONBLOCK);
        flags.map_err(|error| failed(error.into()))?;
        let words = [
            &format!("mem={MEMORY}M"),
            "con0=null,fd:2",
            "ssl=null",
            "ssl0=fd:0,fd:1",
            "rdinit=/bin/ubdlab",
            &format!("initrd={}", kit.archive.display()),
            "--",
            super::COMMAND,
        ];
        let words = words.map(str::to_owned);
        let descriptors = Descriptors {
            stdin: stdin.into(),
            stdout: stdout.into(),
            stderr: stderr.into(),
        };
        let (kernel, directory) = (&kit.kernel, &kit.directory);
        let preload = kit.preload.as_deref();
        let processes = UmlProcesses::start(kernel, directory, &words, preload, descriptors);
        let console = Arc::new(Mutex::new(Vec::new()));
        keep_last(shown, Arc::clone(&console)).map_err(failed)?;
        let answers = directory.join("answers");
        let _ = std::fs::remove_file(&answers);
        let management = UnixDatagram::bind(&answers).map_err(failed)?;
        management.set_nonblocking(true).map_err(failed)?;
        Ok(Running {
            processes: processes.map_err(failed)?,
            to_guest,
            to_send: VecDeque::new(),
            unheard: 0,
            from_guest,
            frames: Frames::default(),
            console,
            management,
            answers,
            mconsole: mconsole(directory),
        })
    }

    /// Tells the guest what it is to do. What is long goes on while the guest is
    /// [heard](Self::hear).
    ///
    /// # Errors
    /// If it is gone.
    pub(super) fn tell(&mut self, order: &Order) -> Result<(), Lost> {
        self.to_send.extend(framed(order)?);
        self.send()
    }

    /// Sends as much as may be under way.
    fn send(&mut self) -> Result<(), Lost> {
        let count = PIECE.saturating_sub(self.unheard).min(self.to_send.len());
        let piece: Vec<u8> = self.to_send.drain(..count).collect();
        self.unheard += count;
        Ok(self.to_guest.write_all(&piece)?)
    }

    /// What the guest has said until now that was not heard before. A guest that does not stop
    /// talking is heard again later.
    ///
    /// # Errors
    /// If it is none of its words.
    pub fn hear(&mut self) -> Result<Vec<GuestWord>, Lost> {
        let mut bytes = [0; 4096];
        let mut left = PIPE;
        while left > 0 {
            match self.from_guest.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => {
                    self.frames.add(&bytes[..count]);
                    left = left.saturating_sub(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut words = Vec::new();
        while let Some(said) = self.frames.next()? {
            match said {
                Said::Word(word) => words.push(word),
                Said::Heard(count) => self.unheard = self.unheard.saturating_sub(count),
            }
        }
        if !self.to_send.is_empty() {
            self.send()?;
        }
        Ok(words)
    }

    /// [`Running::hear`], and if there is nothing, waits for something for at most this long.
    ///
    /// # Errors
    /// Likewise.
    pub(super) fn hear_within(&mut self, time: Duration) -> Result<Vec<GuestWord>, Lost> {
        let words = self.hear()?;
        if !words.is_empty() {
            return Ok(words);
        }
        let time = Timespec {
            tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        let mut polled = [PollFd::new(&self.from_guest, PollFlags::IN)];
        match poll(&mut polled, Some(&time)) {
            Ok(0) | Err(Errno::INTR) => return Ok(Vec::new()),
            Ok(_) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
        self.hear()
    }

    /// Asks for its device.
    ///
    /// # Errors
    /// If it is gone.
    pub fn configure(&self, device: &DeviceArgument) -> Result<(), Lost> {
        self.ask(device.as_str())
    }

    /// Asks for its device to go.
    ///
    /// # Errors
    /// If it is gone.
    pub fn remove(&self) -> Result<(), Lost> {
        self.ask(&format!("remove {NAME}"))
    }

    /// Asks what kernel it is.
    ///
    /// # Errors
    /// If it is gone.
    pub fn ask_version(&self) -> Result<(), Lost> {
        self.ask("version")
    }

    fn ask(&self, text: &str) -> Result<(), Lost> {
        if text.len() >= TEXT {
            let what = format!(
                "{text}: found {} bytes, expected fewer than {TEXT}",
                text.len()
            );
            return Err(io::Error::other(what).into());
        }
        let mut asked = Vec::new();
        for number in [MAGIC, VERSION, text.len() as u32] {
            asked.extend(number.to_ne_bytes());
        }
        asked.extend(text.bytes());
        asked.resize(3 * NUMBER + TEXT, 0);
        self.management.send_to(&asked, &self.mconsole)?;
        Ok(())
    }

    /// What the management console has answered, if it has: its text, as an error if what was asked
    /// for has failed.
    ///
    /// # Errors
    /// The system's.
    pub fn answer(&self) -> Result<Option<Result<String, String>>, Lost> {
        let mut bytes = [0; 4 * NUMBER + TEXT];
        let count = match self.management.recv(&mut bytes) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let text = bytes.get(3 * NUMBER..count).unwrap_or_default();
        let text = String::from_utf8_lossy(text);
        let text = text.trim_end_matches('\0').trim().to_owned();
        Ok(Some(match bytes[..NUMBER] == [0; NUMBER] {
            true => Ok(text),
            false => Err(text),
        }))
    }

    /// How its first process has ended, if it has.
    ///
    /// # Errors
    /// The system's.
    pub fn ended(&mut self) -> Result<Option<String>, Lost> {
        let ended = self.processes.ended()?;
        Ok(ended.map(|status| status.to_string()))
    }

    /// Kills its processes.
    pub fn kill(&self) {
        self.processes.kill();
    }

    /// Whether none is left of its processes.
    pub fn is_gone(&mut self) -> bool {
        self.processes.are_gone()
    }

    /// The last that its console has shown.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&locked(&self.console)).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.answers);
    }
}

/// Whether there is room for the guest's memory, which is a file in this directory. The kernel
/// takes of it as it goes, and aborts where there is none left.
fn check_room(directory: &Path) -> Result<(), CannotFuzz> {
    let needed = Bytes(MEMORY << 20);
    // Whether there is room shows when it is taken.
    let Ok(room) = free_space(directory) else {
        return Ok(());
    };
    match room.free >= needed {
        true => Ok(()),
        false => Err(CannotFuzz::NoRoom {
            directory: directory.to_owned(),
            found: room.free,
            needed,
        }),
    }
}

/// Keeps the last of what comes, on a thread of its own, which ends with who writes it.
fn keep_last(mut shown: PipeReader, console: Arc<Mutex<Vec<u8>>>) -> io::Result<()> {
    let keep = move || {
        let mut bytes = [0; 4096];
        while let Ok(count) = shown.read(&mut bytes)
            && count > 0
        {
            let mut console = locked(&console);
            console.extend(&bytes[..count]);
            let passed = console.len().saturating_sub(KEPT);
            console.drain(..passed);
        }
    };
    std::thread::Builder::new()
        .name("uml-console".into())
        .spawn(keep)?;
    Ok(())
}
