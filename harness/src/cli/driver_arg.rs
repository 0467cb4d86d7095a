//! `--driver` and `--io`, wherever they are taken.

use clap::ValueEnum;
use driver::linux::{Defects, Kernel};

use crate::device::Io;
use crate::fuzz::case::DriverName;

/// A driver on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum DriverArg {
    /// The correct one, with every way to resize
    #[value(name = "ordered")]
    Ordered,
    /// The model of Linux 5.11 to 6.12
    #[value(name = "linux-6.12")]
    Linux612,
    /// The model of the 2.6 era
    #[value(name = "linux-2.6")]
    Linux26,
}

impl DriverArg {
    pub(super) fn driver(self) -> DriverName {
        match self {
            DriverArg::Ordered => DriverName::Ordered,
            DriverArg::Linux612 => DriverName::Linux612,
            DriverArg::Linux26 => DriverName::Linux26,
        }
    }

    /// Of a model, whose it is, and the defects that the real one has.
    pub(super) fn kernel(self) -> Option<(Kernel, Defects)> {
        match self {
            DriverArg::Ordered => None,
            DriverArg::Linux612 => Some((Kernel::Linux6_12, Defects::LINUX_6_12)),
            DriverArg::Linux26 => Some((Kernel::Linux2_6, Defects::LINUX_2_6)),
        }
    }
}

/// Who carries host operations out, on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum IoArg {
    /// With one request in flight as inline; otherwise as uring, or as threads where io_uring is
    /// refused
    Auto,
    /// The device's own thread, one operation after the other
    Inline,
    /// A pool of threads, one for each request in flight
    Threads,
    /// io_uring, which many containers do not allow
    Uring,
}

impl From<IoArg> for Io {
    fn from(io: IoArg) -> Io {
        match io {
            IoArg::Auto => Io::Auto,
            IoArg::Inline => Io::Inline,
            IoArg::Threads => Io::Threads,
            IoArg::Uring => Io::Uring,
        }
    }
}
