//! `ubdlab replay`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::ValueEnum;
use driver::device_spec::DeviceSpec;
use driver::open::OpenOptions;
use driver::resize::Strategy;
use driver::size::parse_device_size;
use driver::units::Bytes;
use userhelper::planner::Shrink;

use crate::replay::{Options, PastEnd, Report, ResizeAt, Session, SessionError};
use crate::trace;

use super::progress::Shown;
use super::{Failure, Verdict, print, print_json};

/// Replay a recorded trace through a driver, compare every sector with a model, and resize
/// the device on the way
///
/// Every sector that a request writes says which request wrote it and where; every sector
/// that a request reads is compared with an independent model, and so is the whole device at
/// the end, and once more after it was closed and reopened.
///
/// Without --device and --memory the device is made for the replay, in files: a backing file
/// that is stamped likewise and a COW file over it, under a directory of the system's
/// temporary files that is removed at the end, or under --out, where they stay.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab replay traces/sqlite-wal.ubdtrace
  ubdlab replay traces/ext4-unpack.ubdtrace --size 200M --past-end wrap \\
         --resize-at 10000:256M --resize-at 20000:400M:reflow
  ubdlab replay trace.vscsi --device ubda=/tmp/test.cow,/tmp/test.img --json

Sizes take K, M, G and T, powers of 1024.")]
pub(super) struct Args {
    /// The trace: vscsi, ftrace text, or ubdlab's own format, told apart by content
    trace: PathBuf,

    /// The driver
    #[arg(long, value_enum, default_value_t = Driver::Ordered)]
    driver: Driver,

    /// A device as on UML's command line: ubda=COW[,BACKING[,SIZE]]
    ///
    /// What it holds is OVERWRITTEN as the trace says. A missing COW file is created.
    #[arg(long, value_name = "SPEC", conflicts_with_all = ["memory", "size", "out"])]
    device: Option<DeviceSpec>,

    /// Keep the device in memory
    #[arg(long, conflicts_with = "out")]
    memory: bool,

    /// The size of the device made for the replay [default: the trace's]
    #[arg(long, value_parser = parse_device_size)]
    size: Option<Bytes>,

    /// Make the device's files in this directory, and leave them there
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Resize the device to SIZE before request REQUEST (from 0); may be repeated
    ///
    /// STRATEGY forces one: auto, headroom, rebuild or reflow.
    #[arg(long, value_name = "REQUEST:SIZE[:STRATEGY]")]
    resize_at: Vec<ResizeAtArg>,

    /// How to resize where --resize-at does not say
    #[arg(long, value_enum, default_value_t = StrategyArg::Auto)]
    strategy: StrategyArg,

    /// Let a resize make the device smaller, as long as no data is behind the new end
    #[arg(long)]
    shrink: bool,

    /// With --shrink: also if data is lost by that
    #[arg(long, requires = "shrink")]
    lose_data: bool,

    /// What becomes of requests past the end of the device
    #[arg(long, value_enum, default_value_t = PastEndArg::Refuse)]
    past_end: PastEndArg,

    /// Requests in flight, from 1 to 64
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=64))]
    depth: u64,

    /// Write another backing file's name into the header of the COW file
    #[arg(long, requires = "device")]
    switch_backing: bool,

    /// Refuse a backing path in the header that leads outside the COW file's directory
    #[arg(long, requires = "device")]
    confine_backing: bool,

    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Driver {
    /// Correct and fast: data is durable before the bit that points to it
    Ordered,
}

/// A strategy on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum StrategyArg {
    /// The cheapest that can be taken
    Auto,
    /// Move nothing: the bitmap still fits
    Headroom,
    /// Copy what is dirty into a new file
    Rebuild,
    /// Move the data within the file
    Reflow,
}

impl StrategyArg {
    fn strategy(self) -> Option<Strategy> {
        match self {
            StrategyArg::Auto => None,
            StrategyArg::Headroom => Some(Strategy::Headroom),
            StrategyArg::Rebuild => Some(Strategy::Rebuild),
            StrategyArg::Reflow => Some(Strategy::Reflow),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PastEndArg {
    /// The replay ends with an error
    Refuse,
    /// They start again from the first sector
    Wrap,
    /// They are left out
    Clip,
}

#[derive(Clone, Copy, Debug)]
struct ResizeAtArg {
    request: u64,
    size: Bytes,
    strategy: Option<StrategyArg>,
}

impl FromStr for ResizeAtArg {
    type Err = String;

    fn from_str(text: &str) -> Result<ResizeAtArg, String> {
        let mut parts = text.split(':');
        let (Some(request), Some(size), strategy, None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err("expected REQUEST:SIZE or REQUEST:SIZE:STRATEGY".into());
        };
        let number = |_| format!("found {request:?}, expected the number of a request");
        Ok(ResizeAtArg {
            request: request.parse().map_err(number)?,
            size: parse_device_size(size).map_err(|error| error.to_string())?,
            strategy: match strategy {
                Some(name) => Some(StrategyArg::from_str(name, false).map_err(|_| {
                    format!("found {name:?}, expected auto, headroom, rebuild or reflow")
                })?),
                None => None,
            },
        })
    }
}

impl Args {
    fn options(&self) -> Options {
        Options {
            depth: self.depth as usize,
            past_end: match self.past_end {
                PastEndArg::Refuse => PastEnd::Refuse,
                PastEndArg::Wrap => PastEnd::Wrap,
                PastEndArg::Clip => PastEnd::Clip,
            },
            resizes: self
                .resize_at
                .iter()
                .map(|at| ResizeAt {
                    request: at.request,
                    size: at.size,
                    strategy: at.strategy.unwrap_or(self.strategy).strategy(),
                })
                .collect(),
            shrink: match (self.shrink, self.lose_data) {
                (false, _) => Shrink::Refuse,
                (true, false) => Shrink::KeepingData,
                (true, true) => Shrink::LosingData,
            },
            strategy: self.strategy.strategy(),
            open: OpenOptions {
                switch_backing: self.switch_backing,
                confine_backing: self.confine_backing,
                ..OpenOptions::default()
            },
            alignment: None,
        }
    }

    fn replay(&self) -> Result<Report, Failure> {
        let open_trace = || trace::open(&self.trace, &trace::ReadOptions::default());
        // Told apart before any file is made.
        drop(open_trace().map_err(Failure::operation)?);
        let shown = Shown::new(None);
        let session = Session {
            trace: &open_trace,
            options: self.options(),
            progress: &|progress| shown.update(progress),
        };
        let report = if let Some(spec) = &self.device {
            session.on_device(&absolute(spec).map_err(Failure::operation)?)
        } else if self.memory {
            session.in_memory(self.size)
        } else {
            return in_directory(self.out.as_deref(), |directory| {
                session.on_files(directory, self.size)
            })
            .map(|(report, _)| report);
        };
        report.map_err(Failure::operation)
    }
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<Verdict, Failure> {
    let Driver::Ordered = args.driver;
    let report = args.replay()?;
    match args.json {
        true => print_json(&report)?,
        false => print(&report),
    }
    Ok(verdict(&report))
}

/// What a report means for the exit status.
pub(super) fn verdict(report: &Report) -> Verdict {
    match report.is_good() {
        true => Verdict::Good,
        false => Verdict::ViolationFound,
    }
}

/// Runs a session in the directory asked for, which is made if need be and stays, or in a new
/// one among the system's temporary files, which is removed. Also says where it was.
pub(super) fn in_directory(
    out: Option<&Path>,
    session: impl FnOnce(&Path) -> Result<Report, SessionError>,
) -> Result<(Report, PathBuf), Failure> {
    let failed = |path: &Path, error: std::io::Error| {
        Failure(format!("{}: creating: {error}", driver::shown(path)))
    };
    match out {
        Some(directory) => {
            std::fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
            let directory =
                std::path::absolute(directory).map_err(|error| failed(directory, error))?;
            let report = session(&directory).map_err(Failure::operation)?;
            Ok((report, directory))
        }
        None => {
            let directory = tempfile::Builder::new()
                .prefix("ubdlab-")
                .tempdir()
                .map_err(|error| failed(&std::env::temp_dir(), error))?;
            let report = session(directory.path()).map_err(Failure::operation)?;
            Ok((report, directory.path().to_owned()))
        }
    }
}

/// The same specification with absolute paths: what goes into a header must not depend on
/// where the process is. The COW file's symbolic links are followed, because a rebuild
/// replaces the name it is given.
fn absolute(spec: &DeviceSpec) -> std::io::Result<DeviceSpec> {
    let file = match std::fs::canonicalize(&spec.file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            std::path::absolute(&spec.file)?
        }
        result => result?,
    };
    let backing = match &spec.backing {
        Some(path) => Some(std::path::absolute(path)?),
        None => None,
    };
    Ok(DeviceSpec {
        file,
        backing,
        ..spec.clone()
    })
}
