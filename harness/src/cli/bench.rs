//! `ubdlab bench`.

use std::path::PathBuf;

use clap::Subcommand;
use driver::size::parse_device_size;
use driver::units::Bytes;

use crate::bench::replay::{Generated, Plan, ReplayBenchError};
use crate::bench::{Row, Table, io, lookup, replay};

use super::{Failure, Verdict, print, print_json, without_path};

/// Measure the hot paths, each beside what it is made of and beside other programs
///
/// Every row is measured in turns with what it is compared with, several times, and its
/// median is taken: the figures of another run on a busy machine differ, the ratios less so.
/// A ratio says how many times as good as what is beside it the value is. A target that is
/// missed is shown and changes nothing about the exit status.
#[derive(Debug, Subcommand)]
#[command(after_long_help = "\
Examples:
  ubdlab bench lookup --only '/1 GiB'
  ubdlab bench io --json")]
pub(super) enum Command {
    Lookup(LookupArgs),
    Io(IoArgs),
    Replay(ReplayArgs),
}

/// What all of them take.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    /// Only the rows whose names contain TEXT
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,

    /// Print the rows as one JSON array
    #[arg(long)]
    json: bool,
}

/// Measure the sector lookup beside the original driver's loop and three crates
///
/// Times are net of reading the random positions. Maps that are empty, full, dirty in 1 % of
/// their sectors in extents of 4 KiB, and in half of them at random; devices of 1 GiB, 256 GiB
/// and 2 TiB. The maps of the largest device take 3 GiB of memory. hi_sparse_bitset holds no
/// more than the smallest one.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab bench lookup
  ubdlab bench lookup --only 'run/50 % random' --json")]
pub(super) struct LookupArgs {
    #[command(flatten)]
    common: Common,
}

/// Measure the way to the host's files beside bare system calls and other programs
///
/// The driver reads and writes a COW file of 256 MiB that is in the page cache; pread and
/// pwrite do the same on the same file at the same offsets. Where qemu-img and nbdkit are
/// found, their copy-on-write layers are measured beside it with `qemu-img bench`; where they
/// are not, the row says so.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab bench io
  ubdlab bench io --only 'I/O thread' --dir /mnt/disk --json")]
pub(super) struct IoArgs {
    #[command(flatten)]
    common: Common,

    /// Make the files in a new directory below this one, removed at the end
    /// [default: where the system has its temporary files]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

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
pub(super) struct ReplayArgs {
    /// More traces, in any format that ubdlab trace reads
    #[arg(value_name = "TRACE")]
    traces: Vec<PathBuf>,

    #[command(flatten)]
    common: Common,

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
    fn run(&self) -> Result<Verdict, Failure> {
        if let Some((requests, size)) = self.generated.zip(self.generated_size) {
            print_json(&Generated::measure(requests, size).map_err(Failure::operation)?)?;
            return Ok(Verdict::Good);
        }
        let mut rows = Vec::new();
        let plan = Plan {
            files: &self.traces,
            only: self.common.only.as_deref(),
            long: self.long,
            measure_one: measured_by_itself,
        };
        replay::measure(&plan, |more| collect(&mut rows, more)).map_err(Failure::operation)?;
        report(&self.common, &rows)
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

impl IoArgs {
    fn run(&self) -> Result<Verdict, Failure> {
        let parent = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        let directory = tempfile::Builder::new()
            .prefix("ubdlab-bench-")
            .tempdir_in(&parent)
            .map_err(|error| {
                let (parent, error) = (driver::shown(&parent), without_path(&error));
                Failure(format!("{parent}: creating a directory: {error}"))
            })?;
        let (mut rows, only) = (Vec::new(), self.common.only.as_deref());
        io::measure(directory.path(), only, |more| collect(&mut rows, more))
            .map_err(Failure::operation)?;
        report(&self.common, &rows)
    }
}

/// Runs the command.
pub(super) fn run(command: &Command) -> Result<Verdict, Failure> {
    match command {
        Command::Lookup(LookupArgs { common }) => {
            let mut rows = Vec::new();
            lookup::measure(common.only.as_deref(), |more| collect(&mut rows, more));
            report(common, &rows)
        }
        Command::Io(args) => args.run(),
        Command::Replay(args) => args.run(),
    }
}

fn collect(rows: &mut Vec<Row>, more: Vec<Row>) {
    if let Some(row) = more.first() {
        eprintln!("measured {}", row.name);
    }
    rows.extend(more);
}

fn report(common: &Common, rows: &[Row]) -> Result<Verdict, Failure> {
    match common.json {
        true => print_json(&rows)?,
        false => print(Table(rows)),
    }
    Ok(Verdict::Good)
}
