//! What is asked of a running device, whatever driver runs it, and whoever carries its host
//! operations out.
//!
//! A [`Driver`] is a machine without I/O in it. What makes it run is here:
//! - [`Stepped`]: on the thread of whoever asks, its operations carried out one after the other
//!   where they are given, or by an executor;
//! - [`SharedDevice`]: on a thread of its own, for as many submitters as there are, each with a
//!   [`Handle`] and completions of its own, which may be [split](Handle::split) between two
//!   threads; [`Live`] is one with a single submitter;
//! - [`OnFiles`]: on real files, as `--io` says.
//!
//! [`BlockDevice`] is the one trait of all of them, and [`Running`] that of those that can be
//! stopped.

mod handle;
mod io_thread;
mod known;
mod on_files;
mod owners;
mod shared;
mod stepped;

use driver::blk::{Completion, Limits, Request};
use driver::driver::Driver;
use driver::executor::Died;
use driver::host::HostFile;
use driver::ordered::{Resize, Statistics};
use driver::resize::ResizeOutcome;
use driver::units::SectorCount;

use crate::clock::Clock;

pub use handle::{Completions, Handle, Submissions};
pub use known::Reply;
pub use on_files::{Chosen, Io, NoIo, OnFiles, Taken};
pub use shared::{Live, SharedDevice};
pub use stepped::Stepped;

/// A resize that a device on any thread may carry out.
pub type SentResize<F> = Box<dyn Resize<F> + Send>;

/// Why a device does not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// What carries its host operations out does not go on.
    #[error(transparent)]
    Died(#[from] Died),
    /// Its driver is dead, of this, and completes nothing any more.
    #[error("the driver died: {0}")]
    DriverDied(String),
    /// It has nothing to do, and yet there is something that it has not done.
    #[error("the device has nothing to do, and has not done what it was asked to")]
    Idle,
    /// Whoever it belongs to has stopped it.
    #[error("the device has been stopped")]
    Stopped,
}

/// A running device, as one of those sees it who submit to it.
pub trait BlockDevice {
    /// The host's files under it.
    type File: HostFile;

    /// Hands a request over; waits while the queue is full.
    ///
    /// # Errors
    /// If the device does not go on.
    fn submit(&mut self, request: Request) -> Result<(), DeviceError>;

    /// The next completion of a request of this submitter; there is one in flight.
    ///
    /// # Errors
    /// If the device does not go on.
    fn complete(&mut self) -> Result<Completion, DeviceError>;

    /// The next completion, if one comes before `clock` shows `deadline_ns`; there is a request
    /// in flight. Where nothing says otherwise it comes at once.
    ///
    /// # Errors
    /// If the device does not go on.
    fn complete_before(
        &mut self,
        _deadline_ns: u64,
        _clock: &dyn Clock,
    ) -> Result<Option<Completion>, DeviceError> {
        self.complete().map(Some)
    }

    /// The sectors that it offers.
    fn capacity(&self) -> SectorCount;

    /// The limits that a request has to keep.
    fn limits(&self) -> Limits;

    /// What it has done, at least up to the latest completion that was taken.
    fn statistics(&self) -> Statistics;

    /// Begins a resize. It may be called at any time, also with requests in flight, but not while a
    /// resize of this submitter is under way: that ends first, as [`BlockDevice::resized`] says.
    /// One of another submitter goes first, and this one begins after it. What has not been asked
    /// of an earlier resize is forgotten. A driver that does not resize refuses it: that is its
    /// outcome.
    ///
    /// # Errors
    /// If the device does not go on.
    fn resize(&mut self, resize: SentResize<Self::File>) -> Result<(), DeviceError>;

    /// How this submitter's resize ended, if it has: each is told once. Waits for it when asked to.
    ///
    /// # Errors
    /// If the device does not go on.
    fn resized(&mut self, wait: bool) -> Result<Option<ResizeOutcome>, DeviceError>;

    /// Has one request carried out; this submitter has none in flight.
    ///
    /// # Errors
    /// If the device does not go on.
    fn carry_out(&mut self, request: Request) -> Result<Completion, DeviceError> {
        self.submit(request)?;
        self.complete()
    }
}

/// What is left of a running device when it is stopped.
#[derive(Debug)]
pub struct Stopped<D> {
    /// The driver.
    pub driver: D,
    /// Completions that nobody was waiting for: each is one too many.
    pub left: Vec<Completion>,
}

impl<D: Driver> Stopped<D> {
    /// Makes everything durable and closes.
    ///
    /// # Errors
    /// See [`Running::close`].
    pub fn close(self) -> Result<(), String> {
        self.driver.close()?;
        match self.left.first() {
            Some(completion) => {
                let range = completion.request.range();
                Err(format!("a completion came too many, of sectors {range}"))
            }
            None => Ok(()),
        }
    }
}

/// A device that can be stopped.
pub trait Running: BlockDevice + Sized {
    /// The driver that runs it.
    type Driver: Driver<File = Self::File>;

    /// Stops when the device has nothing more to do; every request has been completed and no
    /// resize is under way.
    ///
    /// # Errors
    /// If the device does not go on.
    fn stop(self) -> Result<Stopped<Self::Driver>, DeviceError>;

    /// Stops, makes everything durable and closes.
    ///
    /// # Errors
    /// The device's or the driver's words: not everything is durable. Of a driver that has
    /// completed too much, that: what it says is done may not be.
    fn close(self) -> Result<(), String> {
        let stopped = self.stop().map_err(|error| error.to_string())?;
        stopped.close()
    }
}
