//! `ubdlab bench replay`: replays in memory, from the decoder to the comparison of the last
//! sector, with full payload and with stamps only.

mod generated;
mod traces;

use driver::exact_count;
use std::path::{Path, PathBuf};

use crate::device::Io;
use crate::replay::options::OpenTrace;
use crate::replay::{Options, Report, Session, SessionError};
use crate::stamp::Coverage;
use crate::trace::TraceError;
use crate::trace::generate::WorkloadError;

use super::{Only, Row};

pub use generated::{Generated, MeasureOne};

/// Why a row could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum ReplayBenchError {
    /// A trace cannot be read.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// A replay failed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// There is no such trace to generate.
    #[error("generating a trace: {0}")]
    Workload(#[from] WorkloadError),
    /// A replay found what should not be.
    #[error(
        "{name}: what should not be was found {}: {example}",
        exact_count(*.mismatches, "time")
    )]
    Mismatch {
        /// The trace.
        name: String,
        /// Sectors, and what else was wrong.
        mismatches: u64,
        /// One of them.
        example: String,
    },
    /// The process that was to measure by itself failed.
    #[error("measuring {} in a process of its own: {cause}", exact_count(*.requests, "request"))]
    Process {
        /// How many requests it was to replay.
        requests: u64,
        /// What went wrong.
        cause: String,
    },
}

/// What is measured.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Files to be replayed beside the traces that are part of the program.
    pub files: &'a [PathBuf],
    /// Which rows.
    pub only: &'a Only,
    /// Each trace also on files in a directory, by this.
    pub on_files: Option<(Io, &'a Path)>,
    /// Up to 100,000,000 generated requests instead of 10,000,000.
    pub long: bool,
    /// Measures a generated trace in a process of its own.
    pub measure_one: MeasureOne,
}

/// Measures the rows; calls `each` when a few of them are there.
///
/// # Errors
/// See [`ReplayBenchError`].
pub fn measure(plan: &Plan<'_>, mut each: impl FnMut(Vec<Row>)) -> Result<(), ReplayBenchError> {
    traces::measure(plan, &mut each)?;
    generated::measure(plan, &mut each)
}

/// A replay as fast as it goes. The device is stepped in place, so that more in flight than four
/// do not go faster: they only spread their buffers over the processor's caches.
fn options(coverage: Coverage) -> Options {
    Options {
        coverage,
        ..Options::as_fast(4)
    }
}

/// Replays a trace in memory, as fast as it goes.
///
/// # Errors
/// If that fails, or if a sector shows what it should not.
pub fn in_memory(
    name: &str,
    trace: OpenTrace<'_>,
    coverage: Coverage,
) -> Result<Report, ReplayBenchError> {
    let session = Session {
        trace,
        options: options(coverage),
        progress: &|_| {},
    };
    checked(name, session.in_memory(None)?)
}

/// Requests in flight of a replay on files.
const DEPTH_ON_FILES: usize = 32;

/// Replays a trace on files that are made in `directory` and removed, as fast as it goes.
fn on_files(
    name: &str,
    trace: OpenTrace<'_>,
    io: Io,
    directory: &Path,
) -> Result<Report, ReplayBenchError> {
    let session = Session {
        trace,
        options: Options {
            io,
            ..Options::as_fast(DEPTH_ON_FILES)
        },
        progress: &|_| {},
    };
    let report = session.on_files(directory, None);
    for file in ["device.cow", "backing.img"] {
        // Where the replay failed, that is the error to report.
        let _ = std::fs::remove_file(directory.join(file));
    }
    checked(name, report?)
}

/// A figure of a replay that went wrong means nothing.
fn checked(name: &str, report: Report) -> Result<Report, ReplayBenchError> {
    match report.is_good() {
        true => Ok(report),
        false => Err(ReplayBenchError::Mismatch {
            name: name.to_owned(),
            mismatches: report.mismatches + report.other_faults,
            example: (report.mismatch_examples.into_iter().next())
                .unwrap_or_else(|| "the backing file has changed".to_owned()),
        }),
    }
}
