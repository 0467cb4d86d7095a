//! The device of a case, whichever driver runs it.

use driver::blk::{Completion, Request};
use driver::cow::JournalRecord;
use driver::device_spec::DeviceSpec;
use driver::open::{OpenOptions, open};
use driver::ordered::{Hold, Ordered, Step};

use crate::sim::{SimFile, SimHost};

use super::case::{Case, DriverName};

/// The COW file of every case.
pub const COW: &str = "/disk/cow";
/// The backing file of every case.
pub const BACKING: &str = "/disk/backing";
/// When it was modified last.
pub const BACKING_SECONDS: i64 = 1_000_000_000;

/// A running device.
pub enum Device {
    /// Run by the correct driver.
    Ordered(Box<Ordered<SimFile>>),
}

/// Why a device could not be brought up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DidNotOpen(pub String);

impl Device {
    /// Brings up the case's device from what is on `host`.
    ///
    /// # Errors
    /// The driver's words.
    pub fn open(
        host: &SimHost,
        case: &Case,
    ) -> Result<(Device, Option<JournalRecord>), DidNotOpen> {
        match case.driver {
            DriverName::Ordered => {
                let options = OpenOptions {
                    create: false,
                    ..OpenOptions::default()
                };
                let opened =
                    open(host, &spec(), options).map_err(|error| DidNotOpen(error.to_string()))?;
                Ok((Device::Ordered(Box::new(opened.device)), opened.interrupted))
            }
            DriverName::Linux612 | DriverName::Linux26 => {
                Err(DidNotOpen("the kernel models are not built yet".into()))
            }
        }
    }

    /// Submits a request; it comes back if there is no room.
    ///
    /// # Errors
    /// The request.
    pub fn submit(&mut self, request: Request) -> Result<(), Request> {
        match self {
            Device::Ordered(device) => device.submit(request),
        }
    }

    /// One step.
    pub fn step(&mut self) -> Step {
        match self {
            Device::Ordered(device) => device.step(),
        }
    }

    /// The sectors it offers.
    pub fn capacity(&self) -> u64 {
        match self {
            Device::Ordered(device) => device.capacity().0,
        }
    }

    /// The sectors that can be written: in V1 and V2 the last few may have no bit.
    pub fn writable(&self) -> u64 {
        match self {
            Device::Ordered(device) => {
                let mapped = device.geometry().map(|geometry| geometry.mapped());
                mapped.unwrap_or(device.capacity()).0
            }
        }
    }

    /// The longest transfer it takes, in sectors.
    pub fn longest_transfer(&self) -> u64 {
        match self {
            Device::Ordered(device) => device.limits().max_transfer.0,
        }
    }

    /// Whether a flush is half done.
    pub fn is_publishing(&self) -> bool {
        match self {
            Device::Ordered(device) => device.is_publishing(),
        }
    }

    /// Closes it; queued requests are dropped. Whether everything was made durable.
    pub fn close(self) -> bool {
        match self {
            Device::Ordered(device) => device.close().is_ok(),
        }
    }

    /// The device itself, for a resize; the kernels' drivers have none.
    pub fn resizable(&mut self) -> Option<&mut Ordered<SimFile>> {
        match self {
            Device::Ordered(device) => Some(device),
        }
    }

    /// Lets requests go on after a resize was given up.
    pub fn release(&mut self) {
        match self {
            Device::Ordered(device) => device.set_hold(Hold::Nothing),
        }
    }

    /// Carries out one request on a device that has nothing else to do.
    pub fn carry_out(&mut self, request: Request) -> Option<Completion> {
        self.submit(request).ok()?;
        loop {
            match self.step() {
                Step::Completed(completion) => return Some(completion),
                Step::Working => {}
                Step::Idle | Step::Blocked => return None,
            }
        }
    }
}

/// The specification of every case's device.
pub fn spec() -> DeviceSpec {
    DeviceSpec {
        index: 0,
        read_only: false,
        synchronous: false,
        shared: false,
        data: false,
        file: COW.into(),
        backing: None,
        size: None,
    }
}
