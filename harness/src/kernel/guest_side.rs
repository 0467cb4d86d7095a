//! The guest's side of the laboratory: the first process of the kernel that is fuzzed. It opens its
//! device, does with it what it is told, tells what came of it, and closes it, one life after the
//! other.
//!
//! Each request is carried out by a thread that waits in a system call, with direct I/O, so that
//! the kernel's driver gets it as it is. Only the first thread speaks of the device. What it says
//! is in the host's hands when it has been said, before anything is asked of the device after that.
//! Another one listens, and says how much it has heard.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender, select, unbounded};
use driver::units::{SECTOR_SIZE, Sector};
use rustix::fs::{FallocateFlags, OFlags, fallocate};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use crate::fuzz::recorded::{Deed, GuestOperation, GuestRequest, GuestWord, content, pieces};
use crate::locked::locked;
use crate::open_flags::O_DSYNC;
use crate::stamp::{Coverage, Stamp};

use super::frame::{Frames, framed};
use super::orders::{Order, Said};

/// The line to the laboratory.
pub(super) const LINE: &str = "dev/ttyS0";

/// The device.
pub(super) const DEVICE: &str = "dev/ubdb";

/// The program that discards sectors: the call that does it has no safe interface.
pub const BLKDISCARD: &str = "blkdiscard";

/// How many requests of a life are in flight at most.
const IN_FLIGHT: usize = 16;

/// How many requests can be carried out at once: as many as the driver takes.
const THREADS: usize = 64;

/// Direct I/O wants buffers that begin with a block of memory.
const MEMORY_ALIGNMENT: usize = 4096;

/// Does what the laboratory says until the machine ends.
///
/// # Errors
/// What keeps it from that.
pub fn serve() -> io::Result<()> {
    let line = Line::open()?;
    let orders = line.orders()?;
    let workers = Workers::start()?;
    line.say(&GuestWord::Ready)?;
    let mut open = None;
    loop {
        let done = select! {
            recv(orders) -> order => match order {
                Ok(order) => obey(order, &mut open, &line, &workers),
                Err(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            },
            recv(workers.ended) -> ended => match ended {
                Ok(ended) => tell(ended, &line),
                Err(_) => return Err(no_thread()),
            },
        };
        if let Err(error) = done {
            let why = error.to_string();
            line.say(&GuestWord::Broken { why })?;
        }
    }
}

fn no_thread() -> io::Error {
    io::Error::other("no thread is left")
}

/// Does what it is told.
fn obey(
    order: Order,
    open: &mut Option<Arc<OpenDevice>>,
    line: &Line,
    workers: &Workers,
) -> io::Result<()> {
    match order {
        Order::Live(deeds) => live(&deeds, line, workers),
        Order::Open => {
            *open = open_device(line)?;
            Ok(())
        }
        Order::CarryOut(asked, pieces) => {
            let device = open.as_ref().map(Arc::clone);
            let device = device.ok_or_else(|| io::Error::other("the device is not open"))?;
            let content = content(&pieces).map_err(io::Error::other)?;
            workers.ask(device, asked, content)
        }
        Order::Close => {
            // Each thread that is under way has it too.
            while open
                .as_ref()
                .is_some_and(|device| Arc::strong_count(device) > 1)
            {
                tell(workers.ended.recv().map_err(|_| no_thread())?, line)?;
            }
            while let Ok(ended) = workers.ended.try_recv() {
                tell(ended, line)?;
            }
            *open = None;
            line.say(&GuestWord::Closed)
        }
    }
}

/// Opens the device, and says what came of that.
fn open_device(line: &Line) -> io::Result<Option<Arc<OpenDevice>>> {
    let mut device = match OpenDevice::open() {
        Ok(device) => device,
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(Errno::IO.raw_os_error());
            line.say(&GuestWord::NotOpened { errno })?;
            return Ok(None);
        }
    };
    let sectors = device.sectors()?;
    line.say(&GuestWord::Opened { sectors })?;
    Ok(Some(Arc::new(device)))
}

/// Says how a request has ended.
fn tell((asked, result): Ended, line: &Line) -> io::Result<()> {
    let errno = |error: &io::Error| error.raw_os_error().unwrap_or(Errno::IO.raw_os_error());
    line.say(&GuestWord::Ended {
        number: asked.number,
        errno: result.as_ref().err().map(errno),
        brought: pieces(result.as_deref().unwrap_or_default()),
    })
}

/// The line to the laboratory, of whose bytes the terminal changes none.
#[derive(Clone)]
struct Line {
    /// Several threads speak, one after the other.
    file: Arc<Mutex<File>>,
}

impl Line {
    fn open() -> io::Result<Line> {
        let path = format!("/{LINE}");
        let file = File::options().read(true).write(true).open(path)?;
        let mut settings = tcgetattr(&file)?;
        settings.make_raw();
        tcsetattr(&file, OptionalActions::Now, &settings)?;
        Ok(Line {
            file: Arc::new(Mutex::new(file)),
        })
    }

    fn say(&self, word: &GuestWord) -> io::Result<()> {
        self.send(&Said::Word(word.clone()))
    }

    fn send(&self, said: &Said) -> io::Result<()> {
        let frame = framed(said).map_err(io::Error::other)?;
        locked(&self.file).write_all(&frame)
    }

    /// Listens on a thread of its own, which ends with the line or with what is no order.
    fn orders(&self) -> io::Result<Receiver<Order>> {
        let mut file = locked(&self.file).try_clone()?;
        let line = self.clone();
        let (hears, heard) = unbounded();
        std::thread::Builder::new().spawn(move || {
            let mut frames = Frames::default();
            let mut bytes = [0; 4096];
            while let Ok(count) = file.read(&mut bytes)
                && count > 0
            {
                frames.add(&bytes[..count]);
                if line.send(&Said::Heard(count)).is_err() {
                    return;
                }
                while let Ok(Some(order)) = frames.next() {
                    if hears.send(order).is_err() {
                        return;
                    }
                }
            }
        })?;
        Ok(heard)
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
            durable: open(OFlags::DIRECT | OFlags::from_bits_retain(O_DSYNC as u32))?,
        })
    }

    fn sectors(&mut self) -> io::Result<u64> {
        Ok(self.file.seek(SeekFrom::End(0))? / SECTOR_SIZE)
    }

    /// Carries a request out; of a read, what it has brought. A write without content writes its
    /// stamp.
    fn carry_out(&self, asked: GuestRequest, content: &[u8]) -> io::Result<Vec<u8>> {
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
                match content.len() == data.len() {
                    true => data.copy_from_slice(content),
                    false => Stamp(asked.number).fill(Sector(asked.start), data),
                }
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

/// A request to be carried out, and what it writes.
type Asked = (Arc<OpenDevice>, GuestRequest, Vec<u8>);

/// Threads that carry requests out.
struct Workers {
    asks: Sender<Asked>,
    ended: Receiver<Ended>,
}

impl Workers {
    fn start() -> io::Result<Workers> {
        let (asks, asked) = unbounded::<Asked>();
        let (ends, ended) = unbounded();
        for _ in 0..THREADS {
            let (asked, ends) = (asked.clone(), ends.clone());
            std::thread::Builder::new().spawn(move || {
                for (device, asked, content) in asked {
                    let result = device.carry_out(asked, &content);
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

    fn ask(&self, on: Arc<OpenDevice>, asked: GuestRequest, content: Vec<u8>) -> io::Result<()> {
        let sent = self.asks.send((on, asked, content));
        sent.map_err(|_| no_thread())
    }
}

/// One life of the device.
fn live(deeds: &[Deed], line: &Line, workers: &Workers) -> io::Result<()> {
    let Some(device) = open_device(line)? else {
        return Ok(());
    };
    let mut in_flight = InFlight {
        device,
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
    line: &'a Line,
    workers: &'a Workers,
}

impl InFlight<'_> {
    fn submit(&mut self, asked: GuestRequest) -> io::Result<()> {
        let in_the_way = |others: &BTreeMap<u32, GuestRequest>| {
            let excluded = others.values().any(|other| asked.excludes(*other));
            excluded || others.len() >= IN_FLIGHT
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
        let device = Arc::clone(&self.device);
        self.workers.ask(device, asked, Vec::new())
    }

    /// Waits for a request to end. Whether one was in flight.
    fn wait(&mut self) -> io::Result<bool> {
        if self.asked.is_empty() {
            return Ok(false);
        }
        let ended = self.workers.ended.recv();
        self.tell(ended.map_err(|_| no_thread())?)?;
        Ok(true)
    }

    fn tell(&mut self, ended: Ended) -> io::Result<()> {
        self.asked.remove(&ended.0.number);
        tell(ended, self.line)
    }
}
