//! A replay with a double put before the device.

use std::fmt;

use driver::host::HostFile;
use driver::memory::MemoryHost;
use driver::ordered::Ordered;
use driver::units::Bytes;

use crate::fuzz::doubles::{Defective, Disk, Double, Doubled, Seam};
use crate::replay::error::ReplayError;
use crate::replay::{Options, OrderedBut, Session, SessionError};
use crate::trace::{Generator, TraceSource, Workload};

/// How much of the device a trace touches: little enough that requests in flight overlap, or more.
fn touched(disk: Disk) -> Bytes {
    match disk {
        Disk::Small => Bytes(64 << 10),
        Disk::Large => Bytes(64 << 20),
    }
}

/// The size of the device.
fn size(disk: Disk) -> Bytes {
    match disk {
        Disk::Small => touched(disk),
        Disk::Large => Bytes(1280 << 20),
    }
}

/// What a replay came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detection {
    /// Everything was as it should be.
    Nothing,
    /// How much was not: sectors, and what else was wrong.
    Mismatches(u64),
    /// It ended early: why, in a word or two.
    Error(&'static str),
}

impl fmt::Display for Detection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Detection::Nothing => f.write_str("nothing"),
            Detection::Mismatches(_) => f.write_str("mismatches"),
            Detection::Error(error) => f.write_str(error),
        }
    }
}

/// The device as it is.
struct Right;

impl<F: HostFile> Defective<F> for Right {}

/// Replays a generated trace in memory on such a device, with this double of the driver or with
/// none.
pub fn replay(double: Option<&Double>, disk: Disk) -> Detection {
    let put_in = || -> Box<dyn Defective<_>> {
        match double.map(|double| double.seam) {
            Some(Seam::Driver { in_memory, .. }) => in_memory(),
            _ => Box::new(Right),
        }
    };
    let workload = Workload {
        seed: 1,
        requests: 2_000,
        device: touched(disk),
        reads: 40,
        writes: 50,
        discards: 5,
        write_zeroes: 5,
        sizes: vec![(1, Bytes(512)), (2, Bytes(4096)), (1, Bytes(8192))],
        fua_percent: 5,
        ..Workload::default()
    };
    let open_trace = || {
        let generated = Generator::new(workload.clone());
        let generator = generated.expect("the workload above is within its ranges");
        Ok(Box::new(generator) as Box<dyn TraceSource>)
    };
    let session = Session {
        trace: &open_trace,
        options: Options::as_fast(8),
        progress: &|_| {},
    };
    let brings = OrderedBut(|device: Ordered<_>| Doubled::new(Box::new(device), put_in()));
    match session.on_host(MemoryHost::new(), Some(size(disk)), &brings) {
        Ok(report) if report.is_good() => Detection::Nothing,
        Ok(report) => Detection::Mismatches(report.mismatches + report.other_faults),
        Err(SessionError::Replay { error, .. }) => Detection::Error(match *error {
            ReplayError::NotInFlight { .. } => "completion of nothing",
            ReplayError::NeverCompleted { .. } => "never completed",
            ReplayError::Failed { .. } => "failed request",
            ReplayError::Unreadable { .. } => "unreadable",
            _ => "ended early",
        }),
        Err(_) => Detection::Error("ended early"),
    }
}
