//! `ubdlab bench replay`.

use std::path::PathBuf;

use driver::size::parse_device_size;
use driver::units::Bytes;

use crate::bench::replay::{self, Generated, Plan, ReplayBenchError};
use crate::cli::driver_arg::IoArg;
use crate::cli::output;

use super::{Common, Failure, Place, Rows, Verdict};

/// Measure replays in memory: recorded traces with full payload, generated ones with stamps
///
/// Each trace that is part of the program, and each TRACE, is replayed several times with every
/// byte written, read and compared, and again with stamps only. Payload counts what requests
/// read and wrote, over the time from the first request to the last completion; a further row
/// includes the two comparisons of the whole device that follow. Generated traces of up to
/// 10,000,000 requests, each in a process of its own, show requests a second with stamps only,
/// and how time and peak memory grow with the trace: on a device of 64 MiB, whose model fits the
/// processor's caches, and on larger ones, whose does not. The memory depends on the size of the
/// device, and not on how long the trace is.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab bench replay
  ubdlab bench replay my.vscsi --only my.vscsi --json
  ubdlab bench replay --only generated --long")]
pub(in crate::cli) struct ReplayArgs {
    /// More traces, in any format that ubdlab trace reads
    #[arg(value_name = "TRACE")]
    traces: Vec<PathBuf>,

    #[command(flatten)]
    common: Common,

    /// Make the files in a new directory below this one, removed at the end
    /// [default: where the system has its temporary files]
    #[arg(long, value_name = "DIR", requires = "io")]
    dir: Option<PathBuf>,

    /// Replay each trace also on files in --dir, with this to carry out what the device asks of
    /// them, as ubdlab replay does at --depth 32
    #[arg(
        long,
        value_enum,
        hide_possible_values = true,
        value_name = "auto|inline|threads|uring"
    )]
    io: Option<IoArg>,

    /// Go up to 100,000,000 generated requests, which takes a minute or so more
    #[arg(long)]
    long: bool,

    /// Measure one generated trace in this process, and print what it came to
    #[arg(
        long,
        value_name = "REQUESTS",
        hide = true,
        requires = "generated_size"
    )]
    generated: Option<u64>,

    /// The size of its device
    #[arg(long, value_name = "SIZE", hide = true, requires = "generated", value_parser = parse_device_size)]
    generated_size: Option<Bytes>,
}

impl ReplayArgs {
    pub(super) fn run(&self) -> Result<Verdict, Failure> {
        if let Some((requests, size)) = self.generated.zip(self.generated_size) {
            output::json(&Generated::measure(requests, size).map_err(Failure::operation)?)?;
            return Ok(Verdict::Good);
        }
        let rows = Rows::new(&self.common);
        let dir = self.dir.clone();
        let directory = self.io.map(|_| Place { dir }.directory()).transpose()?;
        let on_files = self.io.zip(directory.as_ref());
        let only = self.common.only();
        let plan = Plan {
            on_files: on_files.map(|(io, directory)| (io.into(), directory.path())),
            files: &self.traces,
            only: &only,
            long: self.long,
            measure_one: measured_by_itself,
        };
        replay::measure(&plan, |more| rows.collect(more)).map_err(Failure::operation)?;
        rows.report(&only)
    }
}

/// Measures a generated trace with this program in a process of its own.
fn measured_by_itself(requests: u64, size: Bytes) -> Result<Generated, ReplayBenchError> {
    let failed = |cause: String| ReplayBenchError::Process { requests, cause };
    let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
    let output = std::process::Command::new(program)
        .args(["bench", "replay", "--generated", &requests.to_string()])
        .args(["--generated-size", &size.0.to_string()])
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(said.trim().to_owned()));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))
}
