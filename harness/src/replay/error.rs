//! Why a replay ends early.

use driver::blk::{Completion, HostFailure, Operation, Status};
use driver::exact_count;
use driver::host::HostError;
use driver::resize::ResizeError;
use driver::units::{Bytes, Sector, SectorCount, SectorRange};

use crate::device::DeviceError;
use crate::oracle::NotRead;
use crate::trace::{Nanoseconds, TraceError, TraceOperation};

use super::requests::IsPastEnd;

/// Why a replay ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The trace cannot be read on.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// A request lies past the end of the device.
    #[error(
        "request {request}, a {operation} of {} at sector {start}: {error}; \
         --past-end wrap, clip or scale allows it",
        exact_count(.count.0, "sector")
    )]
    PastEnd {
        /// The number of the request in the trace, from 1.
        request: u64,
        /// What it asks for.
        operation: TraceOperation,
        /// Where it starts.
        start: Sector,
        /// How long it is.
        count: SectorCount,
        /// What is wrong.
        error: IsPastEnd,
    },
    /// The device refused a request, or its host failed.
    #[error("request {request} ({what}, sectors {range}): {status}{cause}")]
    Failed {
        /// The number of the request in the trace, from 1.
        request: u64,
        /// What it asked for.
        what: &'static str,
        /// Of which sectors.
        range: SectorRange,
        /// How it ended.
        status: Status,
        /// Whether the host is to blame, whatever the driver asked of it.
        is_of_host: bool,
        /// What the host said.
        cause: String,
    },
    /// The device could not be read when it was compared with the model.
    #[error("comparing the device with the model, sectors {range}: {status}{cause}")]
    Unreadable {
        /// Which sectors.
        range: SectorRange,
        /// How the read ended.
        status: Status,
        /// Whether the host is to blame, whatever the driver asked of it.
        is_of_host: bool,
        /// What the host said.
        cause: String,
    },
    /// What was there at the start could not be read, to be compared with what the device shows.
    #[error("comparing the device with the model: {0}")]
    NotCompared(#[from] NotRead),
    /// A resize failed.
    #[error("resize to {} bytes before request {request}: {error}", .new_size.0)]
    Resize {
        /// Before which request.
        request: u64,
        /// To which size.
        new_size: Bytes,
        /// Why.
        error: ResizeError,
    },
    /// The requests move more than anybody has agreed to.
    #[error(
        "up to request {request} the trace reads and writes more than {allowed}: --limit takes as \
         many requests as it says, however much they move"
    )]
    TooMuchMoved {
        /// The number of the request in the trace, from 1.
        request: u64,
        /// What they may move.
        allowed: Bytes,
    },
    /// The requests write zeros to more of a device in files than anybody has agreed to.
    #[error(
        "up to request {request} the trace writes zeros to more than {allowed} of the device, which \
         takes as much space in its files: --limit takes as many requests as it says, and with \
         --memory zeros take none"
    )]
    TooMuchZeroed {
        /// The number of the request in the trace, from 1.
        request: u64,
        /// What they may write zeros to.
        allowed: Bytes,
    },
    /// The requests write to more of the device than its files have space for.
    #[error(
        "up to request {request} the device's files come to take more than the {free} that they may \
         where they are"
    )]
    NoSpace {
        /// The number of the request in the trace, from 1.
        request: u64,
        /// What the files have, and what is free.
        free: Bytes,
    },
    /// The replay may take more memory than it may.
    #[error(
        "up to request {request} the replay may need more than {allowed} of memory: \
         --memory-limit allows more; a device in files takes less, and a smaller one (--size, \
         with --past-end wrap, clip or scale)"
    )]
    TooMuchMemory {
        /// The number of the request in the trace, from 1.
        request: u64,
        /// What there is for it.
        allowed: Bytes,
    },
    /// Keeping the pace takes longer than anybody waits.
    #[error(
        "request {request} comes {time} after the first, more than 30 days at this speed: --speed \
         makes it less, and --to or --limit end before it"
    )]
    TooLongSchedule {
        /// The number of the request in the trace, from 1.
        request: u64,
        /// Its time.
        time: Nanoseconds,
    },
    /// A completion came that belongs to no request in flight, or to another one than it names.
    #[error("a completion came of a {what} of sectors {range}, which is not in flight")]
    NotInFlight {
        /// What it says was asked for.
        what: &'static str,
        /// Of which sectors.
        range: SectorRange,
    },
    /// The device has nothing to do, and has not completed what it was given.
    #[error(
        "{} never completed, the first of them request {request} ({what}, sectors {range})",
        exact_count(*.count as u64, "request")
    )]
    NeverCompleted {
        /// How many.
        count: usize,
        /// The number of the first in the trace, from 1.
        request: u64,
        /// What it asks for.
        what: &'static str,
        /// Of which sectors.
        range: SectorRange,
    },
    /// A request that a driver of that time does not know.
    #[error(
        "request {request}, a {operation}: --driver {driver} knows none, linux-6.12 does; \
         --skip-unsupported leaves them out and counts them"
    )]
    Unknown {
        /// The number of the request in the trace, from 1.
        request: u64,
        /// What it asks for.
        operation: TraceOperation,
        /// The driver.
        driver: &'static str,
    },
    /// The trace has more requests than stamps can number.
    #[error("the trace has more than {} requests", u32::MAX)]
    TooLong,
    /// The device does not go on.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl ReplayError {
    /// Whether the host cannot do what the driver needs, wherever its files are.
    pub fn is_unsupported_by_host(&self) -> bool {
        matches!(
            self,
            ReplayError::Failed {
                status: Status::NotSupported,
                is_of_host: true,
                ..
            }
        )
    }

    /// Whether it is the driver that does something wrong, on a host that does what it is asked.
    pub fn is_of_driver(&self) -> bool {
        match self {
            ReplayError::Failed { is_of_host, .. } | ReplayError::Unreadable { is_of_host, .. } => {
                !is_of_host
            }
            ReplayError::NotInFlight { .. } | ReplayError::NeverCompleted { .. } => true,
            ReplayError::Device(error) => {
                matches!(error, DeviceError::DriverDied(_) | DeviceError::Idle)
            }
            _ => false,
        }
    }

    /// Whether the device has refused a change without asking its files.
    pub fn is_refused(&self) -> bool {
        match self {
            ReplayError::Failed {
                what,
                status,
                is_of_host,
                cause,
                ..
            } => {
                let is_change = matches!(*what, WRITE | DISCARD | WRITE_ZEROES);
                *status == Status::IoError && is_change && !is_of_host && cause.is_empty()
            }
            _ => false,
        }
    }

    /// Whether it is the trace that asks for too much, and not the device that fails.
    pub fn is_about_trace(&self) -> bool {
        matches!(
            self,
            ReplayError::PastEnd { .. }
                | ReplayError::Unknown { .. }
                | ReplayError::TooMuchMoved { .. }
                | ReplayError::TooMuchZeroed { .. }
                | ReplayError::NoSpace { .. }
                | ReplayError::TooMuchMemory { .. }
                | ReplayError::TooLongSchedule { .. }
        )
    }
}

/// Whether the host is to blame for a failure. A driver that reads past the end of a file is wrong
/// itself: there is nothing.
pub(super) fn is_of_host(failure: Option<&HostFailure>) -> bool {
    failure.is_some_and(|failure| !matches!(failure.error, HostError::UnexpectedEnd { .. }))
}

/// Of a completion that came from nowhere.
pub(super) fn not_in_flight(completion: &Completion) -> ReplayError {
    ReplayError::NotInFlight {
        what: name(completion.request.operation),
        range: completion.request.range(),
    }
}

/// What asks for a change of the disk.
const WRITE: &str = "write";
const DISCARD: &str = "discard";
const WRITE_ZEROES: &str = "write of zeros";

/// A request in a word or two.
pub(super) fn name(operation: Operation) -> &'static str {
    match operation {
        Operation::Read => "read",
        Operation::Write { .. } => WRITE,
        Operation::Flush => "flush",
        Operation::Discard => DISCARD,
        Operation::WriteZeroes => WRITE_ZEROES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_change_of_the_disk_is_refused_by_the_device() {
        let failed = |operation| ReplayError::Failed {
            request: 1,
            what: name(operation),
            range: SectorRange::default(),
            status: Status::IoError,
            is_of_host: false,
            cause: String::new(),
        };
        assert!(failed(Operation::Write { fua: true }).is_refused());
        assert!(failed(Operation::Discard).is_refused());
        assert!(failed(Operation::WriteZeroes).is_refused());
        assert!(!failed(Operation::Read).is_refused());
        assert!(!failed(Operation::Flush).is_refused());
    }
}
