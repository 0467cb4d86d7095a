//! Who carries the host operations of a device out on real files.

use std::cell::Cell;

use driver::blk::{Completion, Limits, Request};
use driver::driver::Portable;
use driver::executor::Executor;
use driver::ordered::Statistics;
use driver::resize::ResizeOutcome;
use driver::units::SectorCount;
use serde::{Deserialize, Serialize};
use userhelper::executor::{NoUring, Threads, Uring};
use userhelper::real_files::RealFile;

use crate::clock::Clock;

use super::{BlockDevice, DeviceError, Live, Running, SentResize, Stepped, Stopped};

/// What was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Io {
    /// The best there is: see [`Io::choose`].
    #[default]
    Auto,
    /// One operation after the other, by the device's own I/O thread.
    Inline,
    /// A pool of threads, as many as there are requests in flight.
    Threads,
    /// io_uring.
    Uring,
}

/// What was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Taken {
    /// See [`Io::Inline`].
    Inline,
    /// See [`Io::Threads`].
    Threads,
    /// See [`Io::Uring`].
    Uring,
}

impl Taken {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Taken::Inline => "inline",
            Taken::Threads => "threads",
            Taken::Uring => "uring",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Taken> {
        let all = [Taken::Inline, Taken::Threads, Taken::Uring];
        all.into_iter().find(|taken| taken.name() == name)
    }
}

/// Why a device cannot be had so.
#[derive(Debug, thiserror::Error)]
pub enum NoIo {
    /// The kernel has no io_uring, or does not allow it.
    #[error("{0}: --io threads and --io inline work everywhere")]
    Uring(#[from] NoUring),
    /// The operating system gives no thread.
    #[error("starting an I/O thread: {}", driver::system_words(.0))]
    Thread(std::io::Error),
}

/// What to carry operations out with, each time that a device is started.
#[derive(Debug)]
pub struct Chosen {
    taken: Cell<Taken>,
    /// Where it is not to be had, threads do as well.
    may_fall_back: bool,
    depth: usize,
}

impl Chosen {
    /// What was taken, once a device has been started; after a ring could not be had, threads.
    pub fn taken(&self) -> Taken {
        self.taken.get()
    }
}

impl Io {
    /// What to take with this many requests in flight. With one there is nothing to do side by
    /// side; otherwise io_uring, and where [`OnFiles::start`] cannot make a ring, threads.
    ///
    /// # Errors
    /// That what was asked for by name is not to be had.
    pub fn choose(self, depth: usize) -> Result<Chosen, NoIo> {
        let taken = match self {
            Io::Inline => Taken::Inline,
            Io::Threads => Taken::Threads,
            Io::Uring => Uring::new().map(|_| Taken::Uring)?,
            Io::Auto if depth <= 1 => Taken::Inline,
            Io::Auto => Taken::Uring,
        };
        Ok(Chosen {
            taken: Cell::new(taken),
            may_fall_back: self == Io::Auto,
            depth,
        })
    }
}

/// A device on real files.
pub enum OnFiles<D: Portable<File = RealFile>> {
    /// On a thread of its own.
    Live(Live<D>),
    /// Stepped in place, with an executor.
    Stepped(Box<Stepped<D>>),
}

impl<D: Portable<File = RealFile> + 'static> OnFiles<D> {
    /// A device whose operations are carried out so.
    ///
    /// # Errors
    /// Why not.
    pub fn start(driver: D, chosen: &Chosen) -> Result<OnFiles<D>, NoIo> {
        Ok(match chosen.executor()? {
            None => OnFiles::Live(Live::start(driver).map_err(NoIo::Thread)?),
            Some(executor) => OnFiles::Stepped(Box::new(Stepped::on(driver, executor))),
        })
    }
}

impl Chosen {
    /// A new executor, or none where a device is to carry its operations out itself.
    ///
    /// # Errors
    /// That what was asked for by name is not to be had.
    pub fn executor(&self) -> Result<Option<Box<dyn Executor<RealFile> + Send>>, NoIo> {
        let uring = match self.taken() {
            Taken::Inline => return Ok(None),
            Taken::Threads => None,
            Taken::Uring => match Uring::new() {
                Ok(uring) => Some(uring),
                Err(_) if self.may_fall_back => {
                    self.taken.set(Taken::Threads);
                    None
                }
                Err(error) => return Err(error.into()),
            },
        };
        Ok(Some(match uring {
            Some(uring) => Box::new(uring),
            None => Box::new(Threads::start(self.depth).map_err(NoIo::Thread)?),
        }))
    }
}

impl<D: Portable<File = RealFile>> BlockDevice for OnFiles<D> {
    type File = RealFile;

    fn submit(&mut self, request: Request) -> Result<(), DeviceError> {
        match self {
            OnFiles::Live(live) => live.submit(request),
            OnFiles::Stepped(stepped) => stepped.submit(request),
        }
    }

    fn complete(&mut self) -> Result<Completion, DeviceError> {
        match self {
            OnFiles::Live(live) => live.complete(),
            OnFiles::Stepped(stepped) => stepped.complete(),
        }
    }

    fn complete_before(
        &mut self,
        deadline_ns: u64,
        clock: &dyn Clock,
    ) -> Result<Option<Completion>, DeviceError> {
        match self {
            OnFiles::Live(live) => live.complete_before(deadline_ns, clock),
            OnFiles::Stepped(stepped) => stepped.complete_before(deadline_ns, clock),
        }
    }

    fn capacity(&self) -> SectorCount {
        match self {
            OnFiles::Live(live) => live.capacity(),
            OnFiles::Stepped(stepped) => stepped.capacity(),
        }
    }

    fn limits(&self) -> Limits {
        match self {
            OnFiles::Live(live) => live.limits(),
            OnFiles::Stepped(stepped) => stepped.limits(),
        }
    }

    fn statistics(&self) -> Statistics {
        match self {
            OnFiles::Live(live) => live.statistics(),
            OnFiles::Stepped(stepped) => stepped.statistics(),
        }
    }

    fn resize(&mut self, resize: SentResize<RealFile>) -> Result<(), DeviceError> {
        match self {
            OnFiles::Live(live) => live.resize(resize),
            OnFiles::Stepped(stepped) => stepped.resize(resize),
        }
    }

    fn resized(&mut self, wait: bool) -> Result<Option<ResizeOutcome>, DeviceError> {
        match self {
            OnFiles::Live(live) => live.resized(wait),
            OnFiles::Stepped(stepped) => stepped.resized(wait),
        }
    }
}

impl<D: Portable<File = RealFile>> Running for OnFiles<D> {
    type Driver = D;

    fn stop(self) -> Result<Stopped<D>, DeviceError> {
        match self {
            OnFiles::Live(live) => live.stop(),
            OnFiles::Stepped(stepped) => stepped.stop(),
        }
    }
}
