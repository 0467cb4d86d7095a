//! Why there is no report of a replay.

use std::path::{Path, PathBuf};

use driver::host::{FileRole, HostError};
use driver::linux::LinuxOpenError;
use driver::open::OpenError;
use driver::resize::ResizeError;
use driver::shown;
use driver::units::Bytes;
use userhelper::planner::PlanError;

use crate::device::NoIo;
use crate::trace::TraceError;

use super::error::ReplayError;
use super::limits::LARGEST_IMPLIED;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The device does not come up.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The trace cannot be read.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The replay ended early.
    #[error("{}: {error}", shown(.path))]
    Replay {
        /// The COW file.
        path: PathBuf,
        /// Why.
        error: Box<ReplayError>,
    },
    /// The size in the device's specification cannot be had.
    #[error("{}: {error}", shown(.path))]
    Plan {
        /// The COW file.
        path: PathBuf,
        /// Why not.
        error: PlanError,
    },
    /// A resize or a recovery outside the replay failed.
    #[error("{}: {error}", shown(.path))]
    Resize {
        /// The COW file.
        path: PathBuf,
        /// Why.
        error: ResizeError,
    },
    /// The device could not be closed cleanly.
    #[error("{}: closing: {error}", shown(.path))]
    Close {
        /// The COW file.
        path: PathBuf,
        /// Why not.
        error: String,
    },
    /// A host operation failed.
    #[error("{}: {doing}: {error}", shown(.path))]
    Host {
        /// On which file.
        path: PathBuf,
        /// Doing what.
        doing: &'static str,
        /// What the host said.
        error: HostError,
    },
    /// Somebody has taken the device's file its name while it was replayed on.
    #[error(
        "{}: the {file} has been removed or renamed meanwhile: what became of it was not compared",
        shown(.path)
    )]
    Removed {
        /// The name.
        path: PathBuf,
        /// What it was a name of.
        file: FileRole,
    },
    /// Somebody has given the name of the device's file to another one meanwhile.
    #[error("{}: the {file}'s name has been given to another file meanwhile", shown(.path))]
    Exchanged {
        /// The name.
        path: PathBuf,
        /// What it was a name of.
        file: FileRole,
    },
    /// The model of a kernel's driver does not open the device.
    #[error("{}: {error}", shown(.path))]
    Model {
        /// The COW file.
        path: PathBuf,
        /// Why not.
        error: LinuxOpenError,
    },
    /// There is no COW file, and the models of kernels' drivers have no raw disks.
    #[error(
        "{}: found a raw disk, expected a COW file: only --driver ordered replays on one",
        shown(.path)
    )]
    ModelOfRawDisk {
        /// The disk.
        path: PathBuf,
    },
    /// The kernel does not come up, or does not open the device.
    #[error("{0}")]
    Kernel(String),
    /// Nobody carries the device's operations out as asked for.
    #[error(transparent)]
    Io(#[from] NoIo),
    /// An empty trace of an unknown device.
    #[error("the trace does not tell the size of its device: give --size")]
    UnknownSize,
    /// A trace from which a device would follow that nobody asked for.
    #[error(
        "{what} {size}, and a device of more than {LARGEST_IMPLIED} is only made if --size says \
         so; on a smaller one --past-end wrap, clip or scale says what becomes of the requests"
    )]
    ImpliedSize {
        /// What implies it, in words.
        what: &'static str,
        /// The size.
        size: Bytes,
    },
}

impl SessionError {
    /// A replay on the device of this COW file ended early.
    pub(super) fn replay(path: &Path) -> impl Fn(ReplayError) -> SessionError + '_ {
        move |error| match error {
            ReplayError::Trace(error) => SessionError::Trace(error),
            error => SessionError::Replay {
                path: path.to_owned(),
                error: Box::new(error),
            },
        }
    }

    /// An operation of the host on this file failed.
    pub(super) fn host<'a>(
        path: &'a Path,
        doing: &'static str,
    ) -> impl FnOnce(HostError) -> SessionError + 'a {
        move |error| SessionError::Host {
            path: path.to_owned(),
            doing,
            error,
        }
    }
}
