//! `ubdlab replay`.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Subcommand, ValueEnum};
use driver::device_spec::DeviceSpec;
use driver::open::{OpenError, OpenOptions};
use driver::size::parse_device_size;
use driver::units::Bytes;
use serde::Serialize;
use userhelper::planner::Shrink;
use userhelper::real_files::Belongings;

use crate::kernel::brings_up::RealKernel;
use crate::replay::error::ReplayError;
use crate::replay::{
    Allowed, Options, Pace, PastEnd, ReplayDriver, Report, ResizeAt, Session, SessionError,
};
use crate::report::{ReplayPage, replay_page};
use crate::shard::Shard;
use crate::stamp::Coverage;
use crate::trace::{DeviceChoice, Devices, Known, summarize};

use super::device_arg::{device_spec, followed};
use super::driver_arg::{AnyDriverArg, DriverArgs, NO_KERNEL, listed, names_of_drivers};
use super::image::RawArg;
use super::made_files::{
    FILE_OF_DEVICE, elsewhere, fate_of_files, files_in, in_directory, may_be_of_device, told,
};
use super::output::InLines;
use super::output_file::{not_created, tell_what_is_lacking};
use super::own_files::OwnFiles;
use super::page::PageFile;
use super::progress::Shown;
use super::reading::{Reading, Rereadable, files_of};
use super::resize_arg::{ResizeAtArg, StrategyArg};
use super::temporary::TemporaryDirectory;
use super::uml_programs::programs;
use super::{Failure, Verdict, output, wrong_usage};

use given_device::{WhichFile, absolute, device_files};

mod checkpoint;
mod each;
mod given_device;
mod merge;
mod options_text;
mod volumes_text;

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
///
/// With --each-device each volume of a trace of many is replayed by itself, on a device of its own,
/// and --shard takes some of the volumes, for any number of machines; ubdlab replay merge puts
/// their results together. (A trace with the name `merge` is ./merge.)
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(mut_arg("io", |io| io.conflicts_with("memory")))]
#[command(after_long_help = after_long_help())]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    /// The trace, in any format that ubdlab trace reads, or - for standard input
    #[arg(required = true)]
    trace: Option<PathBuf>,

    /// Replay only requests to this device of the trace, named as ubdlab trace info lists it
    #[arg(long, value_name = "DEVICE")]
    trace_device: Option<DeviceChoice>,

    /// Replay the requests to each device of the trace by themselves, as --trace-device does with
    /// one
    ///
    /// Each device that ubdlab trace info lists, a volume, is replayed on a device of its own: in
    /// memory with --memory, or in files, with --out in a directory of their own below DIR. A
    /// volume that cannot be replayed does not end the others. The trace is read once to list its
    /// volumes, and once more for as many of them as have their requests in 256 MiB of memory. The
    /// result is a table of all volumes, worst first, and with --json a document that ubdlab replay
    /// merge reads. It comes at the end; --checkpoint keeps until then what became of each volume.
    #[arg(long, conflicts_with_all = ["device", "trace_device"])]
    each_device: bool,

    /// Replay only shard K of the N that the volumes are cut into
    ///
    /// Volume n, in the order in which ubdlab trace info lists them, from 0, is one of shard K if n
    /// modulo N is K - 1, so that all shards together are all volumes, whatever N is. They need
    /// nothing of each other. ubdlab replay merge puts together what they print with --json.
    #[arg(long, value_name = "K/N", requires = "each_device")]
    shard: Option<Shard>,

    /// Write down in FILE which volumes are done, and go on with the others if FILE exists
    ///
    /// FILE is replaced when a volume is done, whole or not at all. The end result is as it would
    /// have been without interruption. FILE has to be that of the command with the same trace and
    /// the same options, but for --jobs, --report and --json. It stays when all volumes are done:
    /// the command then prints the result again. What could not be replayed is tried once more. A
    /// volume that was under way begins anew: its files below --out would be in its way, and --out
    /// is refused.
    #[arg(
        long,
        value_name = "FILE",
        requires = "each_device",
        conflicts_with = "out"
    )]
    checkpoint: Option<PathBuf>,

    /// Volumes that are replayed side by side, from 1 to 1024 [default: 1]
    ///
    /// Each takes memory of its own, up to --memory-limit, and they slow each other down: times and
    /// rates are then those of a busy machine.
    #[arg(
        long,
        value_name = "J",
        requires = "each_device",
        value_parser = clap::value_parser!(u64).range(1..=1024)
    )]
    jobs: Option<u64>,

    #[command(flatten)]
    reading: Reading,

    #[command(flatten)]
    driver: DriverArgs<AnyDriverArg>,

    /// The kernel that --driver kernel boots, any one for User-Mode Linux [default: linux.uml]
    ///
    /// It is booted with the device's real files, takes Debian's user-mode-linux and no rights, and
    /// is booted once more when the device is opened again. What it asks of its files, such as
    /// syncs, is its own and not counted.
    #[arg(long, value_name = "PROGRAM")]
    kernel: Option<PathBuf>,

    /// Leave out requests that the driver does not know, and count them: discards and writes of
    /// zeros, of linux-2.6
    #[arg(long)]
    skip_unsupported: bool,

    /// A device as on UML's command line: ubda=COW[,BACKING[,SIZE]]
    ///
    /// What it holds is OVERWRITTEN as the trace says. A missing COW file is created over
    /// BACKING. A COW file that is there knows its backing file, and BACKING has to be that one.
    /// SIZE resizes the device before the replay. After ubda (or ubd0, up to ubdp or ubd15) may
    /// come the flags r (read-only), s (synchronous), c (files shared with others, not locked)
    /// and d (a raw disk without COW header).
    #[arg(
        long,
        value_name = "SPEC",
        conflicts_with_all = ["memory", "size", "out"],
        value_parser = OsStringValueParser::new().try_map(|text| device_spec(&text))
    )]
    device: Option<DeviceSpec>,

    /// Keep the device in memory: nothing is written to disk
    #[arg(long, conflicts_with = "out")]
    memory: bool,

    /// Replay without payload: of each sector that is written, only the stamp
    ///
    /// A sector is then the 16 bytes that say which request wrote it and where, and those are
    /// compared. What the driver does, from the map to the resize, is the same and is verified
    /// the same; that a request's bytes are all moved is not. Data that comes with the trace is
    /// kept and compared whole, and so are zeros. The clock is looked at for sixteen requests
    /// together, so that latencies are coarse. Several times the requests a second, and a small
    /// part of the memory.
    #[arg(long, requires = "memory")]
    stamps_only: bool,

    /// The size of the device made for the replay [default: that of the recorded device]
    ///
    /// As 400M, 2.5G or 1TiB, or in bytes. Where the trace does not tell the size of the recorded
    /// device, the default is where its last request ends. By default no device is larger than
    /// 256G: a few bytes of a trace can claim any size.
    #[arg(long, value_parser = parse_device_size)]
    size: Option<Bytes>,

    /// Refuse a replay that may need more memory than this
    ///
    /// For the device with --memory, and for the model of what is written. What a trace needs
    /// follows from where its requests go, and is known before anything is written.
    #[arg(long, value_name = "SIZE", default_value = "4G", value_parser = parse_device_size)]
    memory_limit: Bytes,

    /// Make the device's files in this directory, and leave them there
    ///
    /// They are backing.img and device.cow; neither may be there already. The directory is made
    /// if need be. [default: a new directory for temporary files, removed at the end]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Resize the device to SIZE before request REQUEST (from 0); may be repeated
    ///
    /// The replay goes on meanwhile. REQUEST past the last one means after it. STRATEGY is as for
    /// --strategy, for this resize.
    #[arg(long, value_name = "REQUEST:SIZE[:STRATEGY]")]
    resize_at: Vec<ResizeAtArg>,

    /// How to resize where --resize-at does not say
    #[arg(long, value_enum, default_value_t = StrategyArg::Auto)]
    strategy: StrategyArg,

    /// Let a resize make the device smaller, as long as no data lies past the new end
    #[arg(long)]
    shrink: bool,

    /// Let it do so also where data lies past the new end: that data is lost
    #[arg(long, requires = "shrink")]
    lose_data: bool,

    /// What becomes of requests that reach past the end of the device
    #[arg(long, value_enum, default_value_t = PastEndArg::Refuse)]
    past_end: PastEndArg,

    /// When requests are submitted
    #[arg(long, value_enum, default_value_t = PaceArg::Asap)]
    pace: PaceArg,

    /// How much faster than recorded, for --pace recorded and think-time: 2 is twice as fast
    /// [default: 1]
    #[arg(long, value_name = "FACTOR", value_parser = parse_speed)]
    speed: Option<f64>,

    /// How many requests are in flight at once, from 1 to 64
    #[arg(long, default_value_t = USUAL_DEPTH, value_parser = clap::value_parser!(u64).range(1..=64))]
    depth: u64,

    /// Switch the COW file to the backing file in --device: write its path and modification
    /// time into the header
    ///
    /// It must have the same size as the one before, and should have the same content.
    #[arg(long, requires = "device")]
    switch_backing: bool,

    /// Say that the backing file in --device is a raw disk, also if it begins like a COW file
    ///
    /// A backing file is always a raw disk. One that begins like a COW file, like an image of
    /// another format or like a compressed file is written into no header without this.
    #[arg(
        long = "backing-format",
        value_enum,
        value_name = "FORMAT",
        requires = "device"
    )]
    backing_format: Option<RawArg>,

    /// Refuse a backing path in the header that leads outside the COW file's directory
    ///
    /// For COW files that somebody else made: the path in the header is followed otherwise, as far
    /// as the user's rights go. A path through a symbolic link is refused too, because links come
    /// in archives.
    #[arg(long, requires = "device")]
    confine_backing: bool,

    /// Print the report as one JSON document, its fields named with their units
    #[arg(long)]
    json: bool,

    /// Write the report as a page, too: one HTML file that needs nothing else
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Merge(merge::Args),
}

/// Requests in flight if nothing is said of them.
const USUAL_DEPTH: u64 = 32;

fn after_long_help() -> String {
    let names = listed("Names that --defect takes, beside none", names_of_drivers());
    format!("{EXAMPLES}\n\n{names}")
}

const EXAMPLES: &str = "\
Examples:
  ubdlab replay traces/sqlite-wal.ubdtrace
  ubdlab replay traces/ext4-unpack.ubdtrace --size 200M --past-end wrap \\
         --resize-at 10000:256M --resize-at 20000:400M:reflow --report replay.html
  ubdlab replay trace.vscsi --device ubda=/tmp/test.cow,/tmp/test.img --json
  ubdlab replay sda.blktrace.0 --trace-device 8,0 --from 10s --limit 100000
  ubdlab replay sda.blktrace.0 --driver linux-6.12 --defect last-run-offset
  ubdlab replay traces/git-build.ubdtrace --driver linux-2.6 --skip-unsupported
  ubdlab replay traces/sqlite-wal.ubdtrace --driver kernel
  ubdlab replay recorded.ubdtrace --pace recorded --speed 10
  zcat old.csv.gz | ubdlab replay - --memory --past-end wrap
  ubdlab replay volumes.csv --each-device --memory --shard 3/8 --checkpoint 3.checkpoint \\
         --json >3.json
  ubdlab replay merge 1.json 2.json 3.json 4.json 5.json 6.json 7.json 8.json

Sizes take K, M, G, T, P and E, powers of 1024, and fractions: 2.5G, 1TiB.";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PastEndArg {
    /// The replay ends with an error, before anything is written
    Refuse,
    /// They start again from the first sector
    Wrap,
    /// They are left out, or cut at the end
    Clip,
    /// All requests start at the same share of the device as they did of the recorded one, if
    /// that was larger; their lengths stay
    Scale,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PaceArg {
    /// As soon as there is room, --depth requests at once
    Asap,
    /// At the trace's own times, however late the device is: an open loop. Lateness is reported
    Recorded,
    /// The recorded time after the request before: a closed loop. Waiting for room shifts what
    /// follows
    ThinkTime,
}

/// A factor larger than 0 that leaves times in reach.
fn parse_speed(text: &str) -> Result<f64, String> {
    let speed = text
        .parse()
        .ok()
        .filter(|speed| (1e-6..=1e6).contains(speed));
    speed.ok_or_else(|| format!("found {text:?}, expected a factor from 0.000001 to 1000000"))
}

impl Args {
    /// Refuses an option that changes nothing without another one.
    fn check_effects(&self) -> Result<(), String> {
        if self.speed.is_some() && self.pace == PaceArg::Asap {
            return Err("--speed: only with --pace recorded or think-time".into());
        }
        let resizes = !self.resize_at.is_empty()
            || (self.device.as_ref()).is_some_and(|spec| spec.size.is_some());
        let of_resizes = [
            ("--strategy", self.strategy != StrategyArg::Auto),
            ("--shrink", self.shrink),
        ];
        match of_resizes.iter().find(|(_, asked)| *asked && !resizes) {
            Some((option, _)) => Err(format!(
                "{option}: only with --resize-at or a SIZE in --device"
            )),
            None => Ok(()),
        }
    }

    /// The driver; what it cannot do is refused, and what cannot go together.
    fn driver(&self) -> Result<ReplayDriver, String> {
        if self.kernel.is_some() && self.driver.driver != AnyDriverArg::Kernel {
            return Err(NO_KERNEL.to_owned());
        }
        let spec = self.device.as_ref();
        let is = |asked: fn(&DeviceSpec) -> bool| spec.is_some_and(asked);
        let not_with_a_model = [
            ("--resize-at", !self.resize_at.is_empty()),
            ("--strategy", self.strategy != StrategyArg::Auto),
            ("--shrink", self.shrink),
            ("the SIZE of --device", is(|spec| spec.size.is_some())),
            ("the flag r of --device", is(|spec| spec.read_only)),
            ("the flag s of --device", is(|spec| spec.synchronous)),
            ("the flag c of --device", is(|spec| spec.shared)),
            ("the flag d of --device", is(|spec| spec.data)),
            ("--switch-backing", self.switch_backing),
            ("--backing-format", self.backing_format.is_some()),
            ("--confine-backing", self.confine_backing),
        ];
        let driver = self.driver.chosen(&not_with_a_model)?;
        if self.skip_unsupported && driver.discards() {
            let name = driver.name();
            return Err(format!("--skip-unsupported: {name} knows all requests"));
        }
        if self.memory && driver == ReplayDriver::RealKernel {
            return Err("--memory: not with --driver kernel, which has its files on disk".into());
        }
        if self.each_device && driver == ReplayDriver::RealKernel {
            return Err(
                "--each-device: not with --driver kernel, which replays one volume, with \
                 --trace-device"
                    .into(),
            );
        }
        Ok(driver)
    }

    fn options(&self, driver: ReplayDriver) -> Options {
        let speed = self.speed.unwrap_or(1.0);
        Options {
            driver,
            depth: self.depth as usize,
            io: self.driver.io.into(),
            past_end: match self.past_end {
                PastEndArg::Refuse => PastEnd::Refuse,
                PastEndArg::Wrap => PastEnd::Wrap,
                PastEndArg::Clip => PastEnd::Clip,
                PastEndArg::Scale => PastEnd::Scale,
            },
            pace: match self.pace {
                PaceArg::Asap => Pace::AsFast,
                PaceArg::Recorded => Pace::Recorded { speed },
                PaceArg::ThinkTime => Pace::ThinkTimes { speed },
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
                backing_is_raw: self.backing_format.is_some(),
                trust: followed(self.confine_backing),
                ..OpenOptions::default()
            },
            // A kernel leaves no room for growth.
            alignment: (driver != ReplayDriver::Ordered).then_some(4096),
            coverage: match self.stamps_only {
                true => Coverage::Front,
                false => Coverage::Whole,
            },
            allowed: match self.reading.selection().limit {
                // Whoever says how many requests says how much.
                Some(_) => Allowed {
                    memory: self.memory_limit,
                    moved: Bytes(u64::MAX),
                    zeroed: Bytes(u64::MAX),
                },
                None => Allowed {
                    memory: self.memory_limit,
                    ..Allowed::default()
                },
            },
        }
    }

    /// What helps where the files have too little space, of what is not asked for already.
    fn ways_to_space(&self) -> String {
        let limit = match self.reading.selection().limit {
            Some(_) => "a lower --limit takes fewer requests",
            None => "--limit takes as many requests as it says",
        };
        match &self.device {
            Some(_) => format!(": {limit}"),
            None => {
                let elsewhere = elsewhere(self.out.as_deref());
                format!(": {limit}, {elsewhere}, and with --memory there are none")
            }
        }
    }

    /// Volumes that are replayed side by side.
    fn jobs(&self) -> u64 {
        self.jobs.unwrap_or(1)
    }

    /// Replays on a device that is made for it: in memory, or in files in `out`, or in temporary
    /// ones. Where they are is told to `in_files`.
    fn on_made_device(
        &self,
        session: &Session<'_>,
        kernel: Option<&Kernel>,
        out: Option<&Path>,
        in_files: impl FnOnce(&Path),
    ) -> Result<Result<Report, SessionError>, Failure> {
        if self.memory {
            return Ok(session.in_memory(self.size));
        }
        in_directory(out, |directory| {
            in_files(directory);
            match kernel {
                None => session.on_files(directory, self.size),
                Some(kernel) => session.on_files_by(directory, self.size, &kernel.brings),
            }
        })
    }

    fn own_files(&self, trace: &Path) -> OwnFiles {
        let may_be_made = match self.each_device {
            false => may_be_of_device,
            true => each::may_be_of_device,
        };
        OwnFiles::new()
            .reading("TRACE", files_of(trace))
            .reading("--device", device_files(self.device.as_ref()))
            .reading("--kernel", &self.kernel)
            .writing("--checkpoint", self.checkpoint.as_deref())
            .writing("--report", self.report.as_deref())
            .making(FILE_OF_DEVICE, self.out.as_deref(), may_be_made)
    }

    fn replay(&self, path: &Path, driver: ReplayDriver) -> Result<Replayed, Failure> {
        let devices = self.trace_device.clone().map(Devices::Only);
        let options = self.reading.options(devices.unwrap_or_default());
        check_kind(path)?;
        let trace = Rereadable::new(path)?;
        let known = Known {
            discards: driver.discards() || !self.skip_unsupported,
        };
        let open_trace = || Ok(known.of(self.reading.selection().of(trace.open(&options)?)));
        let page = PageFile::begin(self.report.as_deref(), self.out.as_deref())?;
        // Told apart before any file is made.
        let described = open_trace().map_err(Failure::operation)?;
        let description = described.description().text.clone();
        drop(described);
        let device = self.trace_device.as_ref();
        self.reading
            .check_something_is_taken(path, device, open_trace)?;
        let shown = Shown::new(None);
        let session = Session {
            trace: &open_trace,
            options: self.options(driver),
            progress: &|progress| shown.update(progress),
        };
        let kernel = (driver == ReplayDriver::RealKernel).then(|| Kernel::of(self));
        let kernel = kernel.transpose()?;
        let mut device = "in memory".to_owned();
        let mut fate = None;
        let report = if let Some(spec) = &self.device {
            let spec = absolute(spec)?;
            device = match &spec.backing {
                None => driver::shown(&spec.file),
                Some(backing) => format!(
                    "{} over {}",
                    driver::shown(&spec.file),
                    driver::shown(backing)
                ),
            };
            // A resize on the way may put a new file in its place.
            let (old, belonged) = (WhichFile::at(&spec.file), Belongings::at(&spec.file));
            let report = match &kernel {
                None => session.on_device(&spec),
                Some(kernel) => session.on_device_by(&spec, &kernel.brings),
            };
            if WhichFile::at(&spec.file) != old {
                tell_what_is_lacking(&spec.file, belonged, Belongings::at(&spec.file));
            }
            report
        } else {
            self.on_made_device(
                &session,
                kernel.as_ref(),
                self.out.as_deref(),
                |directory| {
                    device = files_in(directory);
                    fate = Some(fate_of_files(self.out.is_some()));
                },
            )?
        };
        let report = report.map_err(|error| self.failure(driver, trace.name(), error))?;
        if report.requests == 0 {
            let mut trace = open_trace().map_err(Failure::operation)?;
            let requests = summarize(trace.as_mut())
                .map_err(Failure::operation)?
                .requests;
            let nothing = self.reading.if_nothing_was_read(path, requests, &*trace)?;
            nothing.into_iter().for_each(output::remark);
        }
        page.write(|| {
            Ok(replay_page(ReplayPage {
                trace: &driver::shown(trace.name()),
                device: &told(&device, fate),
                description: &description,
                report: &report,
            }))
        })?;
        Ok(Replayed {
            trace: driver::shown(trace.name()),
            device,
            fate,
            report,
        })
    }

    /// What to say of a replay of this trace that has ended early.
    fn failure(&self, driver: ReplayDriver, trace: &Path, error: SessionError) -> Failure {
        match error {
            // The way out of it is not for the models.
            SessionError::Open(OpenError::OtherBacking {
                path, found, asked, ..
            }) if driver != ReplayDriver::Ordered => Failure(format!(
                "{}: its header names the backing file {}, {} was asked for",
                driver::shown(&path),
                driver::shown(&found),
                driver::shown(&asked)
            )),
            // It is the trace that has to be looked at, or the option.
            SessionError::Replay { error, .. } if error.is_about_trace() => {
                let ways = match *error {
                    ReplayError::NoSpace { .. } => self.ways_to_space(),
                    _ => String::new(),
                };
                Failure(format!("{}: {error}{ways}", driver::shown(trace)))
            }
            error @ (SessionError::ImpliedSize { .. } | SessionError::UnknownSize) => {
                Failure(format!("{}: {error}", driver::shown(trace)))
            }
            SessionError::Replay { path, error }
                if error.is_unsupported_by_host() && self.device.is_none() =>
            {
                let (path, elsewhere) = (driver::shown(&path), elsewhere(self.out.as_deref()));
                Failure(format!(
                    "{path}: {error}: {elsewhere}, and with --memory there are none"
                ))
            }
            SessionError::Replay { path, error }
                if driver == ReplayDriver::Ordered && error.is_refused() =>
            {
                let path = driver::shown(&path);
                Failure(format!("{path}: {error}: {WHY_REFUSED}"))
            }
            error => Failure::operation(error),
        }
    }
}

/// The trace is read more than once, so it has to be a file, or is kept in one; what is none is not
/// waited for.
fn check_kind(path: &Path) -> Result<(), Failure> {
    let kind = std::fs::metadata(path).map(|metadata| metadata.file_type());
    if kind.is_ok_and(|kind| !kind.is_file() && !kind.is_dir()) {
        return Err(Failure(format!(
            "{}: found a FIFO, socket or device, expected a regular file: \
             a replay reads its trace more than once",
            driver::shown(path)
        )));
    }
    Ok(())
}

/// What `--driver kernel` takes.
struct Kernel {
    brings: RealKernel,
    /// Where its parts are.
    _directory: TemporaryDirectory,
}

impl Kernel {
    fn of(args: &Args) -> Result<Kernel, Failure> {
        let programs = programs(args.kernel.as_deref()).map_err(Failure::operation)?;
        let parent = std::env::temp_dir();
        let directory = TemporaryDirectory::new_in(&parent, "ubdlab-kernel-");
        let directory = directory.map_err(|error| not_created(&parent, &error))?;
        let brings = RealKernel::made_in(directory.path(), &programs);
        Ok(Kernel {
            brings: brings.map_err(Failure::operation)?,
            _directory: directory,
        })
    }
}

/// Why a device refuses a change within its size.
const WHY_REFUSED: &str = "the device takes no writes there: it is read-only (flag r), or these \
    sectors have no bit in a bitmap of version 1 or 2, which ubdlab image check tells and a resize \
    ends";

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<Verdict, Failure> {
    let trace = match (&args.command, &args.trace) {
        (Some(Command::Merge(args)), _) => return merge::run(args),
        (None, Some(trace)) => trace,
        (None, None) => return Ok(wrong_usage("expected the name of a trace".into())),
    };
    let driver = args.driver().and_then(|driver| {
        args.check_effects()?;
        Ok(driver)
    });
    let driver = match driver {
        Ok(driver) => driver,
        Err(what) => return Ok(wrong_usage(what)),
    };
    if let Err(what) = args.own_files(trace).check() {
        return Ok(wrong_usage(what));
    }
    if args.each_device {
        return each::run(args, trace, driver);
    }
    let replayed = args.replay(trace, driver)?;
    if let Some(note) = &replayed.report.backing_note {
        output::remark(format_args!("note: {note}"));
    }
    match args.json {
        true => output::json(&replayed)?,
        false => output::lines(&replayed),
    }
    Ok(verdict(&replayed.report))
}

/// A report, and what it is about.
#[derive(Debug, Serialize)]
struct Replayed {
    /// The name of the trace.
    trace: String,
    /// The device, and where its files are.
    device: String,
    /// What becomes of files that were made for the replay: for people only.
    #[serde(skip)]
    fate: Option<&'static str>,
    #[serde(flatten)]
    report: Report,
}

/// Names are escaped.
impl InLines for Replayed {}

impl fmt::Display for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "trace      {}", self.trace)?;
        writeln!(f, "device     {}", told(&self.device, self.fate))?;
        write!(f, "{}", self.report)
    }
}

/// Of a trace there are only numbers in it.
impl InLines for Report {}

/// What a report means for the exit status.
pub(super) fn verdict(report: &Report) -> Verdict {
    match report.is_good() {
        true => Verdict::Good,
        false => Verdict::ViolationFound,
    }
}
