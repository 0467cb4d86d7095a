//! The guest's side of the laboratory: the first process of the kernel that is fuzzed. It opens its
//! device, does with it what it is told, tells what came of it, and closes it, one life after the
//! other.
//!
//! Each request is carried out by a thread that waits in a system call, with direct I/O, so that
//! the kernel's driver gets it as it is. Only the first thread speaks. What it says is in the
//! host's hands when it has been said, before anything is asked of the device after that.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::process::{Command, Stdio};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};
use driver::units::{SECTOR_SIZE, Sector};
use rustix::fs::{FallocateFlags, OFlags, fallocate};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use crate::fuzz::recorded::{Deed, GuestOperation, GuestRequest, GuestWord, pieces};
use crate::stamp::{Coverage, Stamp};

use super::frame::{Frames, framed};

/// The line to the laboratory.
pub(super) const LINE: &str = "dev/ttyS0";

/// The device.
pub(super) const DEVICE: &str = "dev/ubdb";

/// The program that discards sectors: the call that does it has no safe interface.
pub const BLKDISCARD: &str = "blkdiscard";

/// How many requests are in flight at most.
const THREADS: usize = 16;

/// Direct I/O wants buffers that begin with a block of memory.
const MEMORY_ALIGNMENT: usize = 4096;

/// Does what the laboratory says until the machine ends.
///
/// # Errors
/// What keeps it from that.
pub fn serve() -> io::Result<()> {
    let mut line = Line::open()?;
    let workers = Workers::start()?;
    line.say(&GuestWord::Ready)?;
    loop {
        let deeds = line.hear()?;
        if let Err(error) = live(&deeds, &mut line, &workers) {
            let why = error.to_string();
            line.say(&GuestWord::Broken { why })?;
        }
    }
}

/// The line to the laboratory, of whose bytes the terminal changes none.
struct Line {
    file: File,
    frames: Frames,
}

impl Line {
    fn open() -> io::Result<Line> {
        let path = format!("/{LINE}");
        let file = File::options().read(true).write(true).open(path)?;
        let mut settings = tcgetattr(&file)?;
        settings.make_raw();
        tcsetattr(&file, OptionalActions::Now, &settings)?;
        Ok(Line {
            file,
            frames: Frames::default(),
        })
    }

    fn say(&mut self, word: &GuestWord) -> io::Result<()> {
        let frame = framed(word).map_err(io::Error::other)?;
        self.file.write_all(&frame)
    }

    fn hear(&mut self) -> io::Result<Vec<Deed>> {
        let mut bytes = [0; 4096];
        loop {
            if let Some(deeds) = self.frames.next().map_err(io::Error::other)? {
                return Ok(deeds);
            }
            let count = self.file.read(&mut bytes)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.frames.add(&bytes[..count]);
        }
    }
}

/// The open device.
#[derive(Debug)]
struct OpenDevice {
    file: File,
    /// Likewise; what is written through it is durable.
    durable: File,
}

impl OpenDevice {
    fn open() -> io::Result<OpenDevice> {
        let open = |flags: OFlags| {
            let mut options = File::options();
            options.read(true).write(true);
            options
                .custom_flags(flags.bits() as i32)
                .open(format!("/{DEVICE}"))
        };
        Ok(OpenDevice {
            file: open(OFlags::DIRECT)?,
            durable: open(OFlags::DIRECT | OFlags::DSYNC)?,
        })
    }

    fn sectors(&mut self) -> io::Result<u64> {
        Ok(self.file.seek(SeekFrom::End(0))? / SECTOR_SIZE)
    }

    /// Carries a request out; of a read, what it has brought.
    fn carry_out(&self, asked: GuestRequest) -> io::Result<Vec<u8>> {
        let at = asked.start * SECTOR_SIZE;
        let len = (asked.count * SECTOR_SIZE) as usize;
        match asked.what {
            GuestOperation::Read => {
                let mut buffer = vec![0; len + MEMORY_ALIGNMENT];
                let data = aligned(&mut buffer, len);
                Coverage::Whole.poison(data);
                let count = self.file.read_at(data, at)?;
                Ok(data[..count].to_vec())
            }
            GuestOperation::Write | GuestOperation::WriteWithFua => {
                let mut buffer = vec![0; len + MEMORY_ALIGNMENT];
                let data = aligned(&mut buffer, len);
                Stamp(asked.number).fill(Sector(asked.start), data);
                let file = match asked.what {
                    GuestOperation::Write => &self.file,
                    _ => &self.durable,
                };
                match file.write_at(data, at)? == len {
                    true => Ok(Vec::new()),
                    false => Err(Errno::IO.into()),
                }
            }
            GuestOperation::Flush => self.file.sync_data().map(|()| Vec::new()),
            GuestOperation::WriteZeroes => {
                let mode = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
                fallocate(&self.file, mode, at, len as u64)?;
                Ok(Vec::new())
            }
            GuestOperation::Discard => discard(at, len as u64),
        }
    }
}

/// The part of a buffer that direct I/O takes.
fn aligned(buffer: &mut [u8], len: usize) -> &mut [u8] {
    let skipped = buffer.as_ptr().align_offset(MEMORY_ALIGNMENT);
    let skipped = skipped.min(buffer.len() - len);
    &mut buffer[skipped..skipped + len]
}

/// Its message says why it has failed, and only its status can be relied on.
fn discard(at: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut command = Command::new(format!("/bin/{BLKDISCARD}"));
    command.args(["--force", "--offset", &at.to_string()]);
    command
        .args(["--length", &len.to_string()])
        .arg(format!("/{DEVICE}"));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match command.status()?.success() {
        true => Ok(Vec::new()),
        false => Err(Errno::IO.into()),
    }
}

/// A request that has ended, and what came of it.
type Ended = (GuestRequest, io::Result<Vec<u8>>);

/// Threads that carry requests out.
struct Workers {
    asks: Sender<(Arc<OpenDevice>, GuestRequest)>,
    ended: Receiver<Ended>,
}

impl Workers {
    fn start() -> io::Result<Workers> {
        let (asks, asked) = unbounded::<(Arc<OpenDevice>, GuestRequest)>();
        let (ends, ended) = unbounded();
        for _ in 0..THREADS {
            let (asked, ends) = (asked.clone(), ends.clone());
            std::thread::Builder::new().spawn(move || {
                for (device, asked) in asked {
                    let result = device.carry_out(asked);
                    // Who is told closes the device.
                    drop(device);
                    if ends.send((asked, result)).is_err() {
                        return;
                    }
                }
            })?;
        }
        Ok(Workers { asks, ended })
    }
}

/// One life of the device.
fn live(deeds: &[Deed], line: &mut Line, workers: &Workers) -> io::Result<()> {
    let mut device = match OpenDevice::open() {
        Ok(device) => device,
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(Errno::IO.raw_os_error());
            return line.say(&GuestWord::NotOpened { errno });
        }
    };
    let sectors = device.sectors()?;
    line.say(&GuestWord::Opened { sectors })?;
    let mut in_flight = InFlight {
        device: Arc::new(device),
        asked: BTreeMap::new(),
        line,
        workers,
    };
    for &deed in deeds {
        match deed {
            Deed::WaitForAll => while in_flight.wait()? {},
            Deed::WaitForOldest => {
                let oldest = in_flight.asked.first_key_value().map(|(&number, _)| number);
                while oldest.is_some_and(|oldest| in_flight.asked.contains_key(&oldest)) {
                    in_flight.wait()?;
                }
            }
            Deed::Submit(asked) => in_flight.submit(asked)?,
        }
    }
    while in_flight.wait()? {}
    drop(in_flight);
    line.say(&GuestWord::Closed)
}

/// The requests in flight.
struct InFlight<'a> {
    device: Arc<OpenDevice>,
    asked: BTreeMap<u32, GuestRequest>,
    line: &'a mut Line,
    workers: &'a Workers,
}

impl InFlight<'_> {
    fn submit(&mut self, asked: GuestRequest) -> io::Result<()> {
        let in_the_way = |others: &BTreeMap<u32, GuestRequest>| {
            let excluded = others.values().any(|other| asked.excludes(*other));
            excluded || others.len() >= THREADS
        };
        while in_the_way(&self.asked) {
            self.wait()?;
        }
        while let Ok(ended) = self.workers.ended.try_recv() {
            self.tell(ended)?;
        }
        let number = asked.number;
        self.line.say(&GuestWord::Submitted { number })?;
        self.asked.insert(number, asked);
        let sent = self.workers.asks.send((Arc::clone(&self.device), asked));
        sent.map_err(|_| io::Error::other("no thread is left"))
    }

    /// Waits for a request to end. Whether one was in flight.
    fn wait(&mut self) -> io::Result<bool> {
        if self.asked.is_empty() {
            return Ok(false);
        }
        let ended = self.workers.ended.recv();
        self.tell(ended.map_err(|_| io::Error::other("no thread is left"))?)?;
        Ok(true)
    }

    fn tell(&mut self, (asked, result): Ended) -> io::Result<()> {
        let number = asked.number;
        self.asked.remove(&number);
        let errno = |error: &io::Error| error.raw_os_error().unwrap_or(Errno::IO.raw_os_error());
        self.line.say(&GuestWord::Ended {
            number,
            errno: result.as_ref().err().map(errno),
            brought: pieces(result.as_deref().unwrap_or_default()),
        })
    }
}
