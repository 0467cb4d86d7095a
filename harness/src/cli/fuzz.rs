//! `ubdlab fuzz`.

mod against;
mod catalogue;
mod checkpoint;
mod defects;
mod keeper;
mod kernel;
mod live;
mod merge;
mod options;
mod repeat;
mod report;
mod search;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use driver::units::SECTOR_SIZE;

use crate::fuzz::case::{DriverName, Resizer};
use crate::fuzz::defect::CaseDefect;
use crate::fuzz::generate::Subject;
use crate::fuzz::guard::is_guarded;
use crate::fuzz::selection::described;
use crate::shard::Shard;
use crate::sim::Assumptions;

use super::driver_arg::{AnyDriverArg, DriverArg, NO_KERNEL};
use super::own_files::OwnFiles;
use super::{Failure, Verdict, wrong_usage};

use repeat::repeat;

/// Crash and resize a driver at every moment, in a simulated host, and see what is lost
///
/// Each case is a small device, a guest that submits requests, and often a resize beneath
/// them. At every change of the host the process is killed and the power cut: of what was not
/// synced any part survives. What is left is opened, recovered, and compared with what has to
/// be there. Findings are shrunk and written as JSON files that --repro repeats.
///
/// The ordered driver and its resizes should survive all of it. The models of the kernels'
/// drivers have the defects of the real ones and should not. Each finding is traced to the
/// defects that it needs, those are switched off, and its case is run once more, until it shows
/// nothing: without the coarse ones the finer ones show. What is kept is the earliest finding of
/// each cause and of each set of defects.
///
/// What a case shows depends on its number alone. So a campaign can be cut into shards, for any
/// number of machines, and interrupted (--shard, --checkpoint; ubdlab fuzz merge).
///
/// With --driver kernel the driver is that of a real kernel, which takes root, the kernel's FUSE
/// and Debian's user-mode-linux. Its device has its files in a simulated directory that is mounted.
/// All that it asks of them is recorded, together with what its guest sees; the recording is
/// crashed and checked like a model's life. A finding keeps its recording: --repro tells its story
/// without the kernel. What a defect has lost in one case is put right in the recordings that
/// follow, so that the others show. With --against, the recording is held against a model of the
/// driver instead.
///
/// Ctrl-C ends a campaign early, also in the middle of a case: what was found so far is reported
/// and written like any other result, and the exit status is 130 (128 and the signal's number).
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, after_long_help = after_long_help())]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    /// The driver
    #[arg(long, value_enum, default_value_t = AnyDriverArg::ORDERED)]
    driver: AnyDriverArg,

    /// The kernel that --driver kernel boots, any one for User-Mode Linux [default: linux.uml]
    #[arg(long, value_name = "PROGRAM")]
    kernel: Option<PathBuf>,

    /// Hold --driver kernel against this model of its driver: linux-6.12
    ///
    /// The model gets the requests of the same cases. What the two ask of their hosts has to be the
    /// same, operation by operation, and so has what their guests hear. Nothing is crashed. A
    /// difference is a fault of the model, or a defect of the kernel that it does not have. What
    /// the block layer does before the driver has a request is applied to the model by rules.
    #[arg(long, value_enum, value_name = "MODEL", hide_possible_values = true)]
    against: Option<DriverArg>,

    /// Who resizes under the ordered driver
    #[arg(long, value_enum, default_value_t = ResizerArg::Userhelper)]
    resizer: ResizerArg,

    /// Switch on only this defect; may be repeated
    ///
    /// A defect of the driver for a kernel's driver: without it, all that the real one has;
    /// `none` switches all off. A defect of the resize for the ordered driver: it is then done
    /// by the model of 2003's procedure. Or a double of the judge's catalogue for the ordered
    /// driver, which does one thing wrong. docs/defects.md says what each of them is.
    #[arg(long, value_name = "NAME", value_parser = defects::names(), hide_possible_values = true)]
    defect: Vec<String>,

    /// The first case's seed; case n has this plus n
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,

    /// Stop after this many cases, instead of after a --duration [default: 2000; of a kernel 200]
    ///
    /// With --shard it is the number of the whole campaign, of which the shard has its part.
    #[arg(
        long,
        value_name = "N",
        conflicts_with = "duration",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    cases: Option<u64>,

    /// Stop after this long, instead of after a number of --cases: 90s, 5m, 2h, or seconds without
    /// unit
    ///
    /// Also in the middle of a case. With --shard it is the time of this shard. With --checkpoint
    /// it is that of all sittings together.
    #[arg(long, value_name = "T", value_parser = parse_duration)]
    duration: Option<Duration>,

    /// Run only shard K of the N that the campaign is cut into
    ///
    /// Case n is one of shard K if n modulo N is K - 1, so that all shards together are the
    /// campaign, whatever N is. They need nothing of each other. ubdlab fuzz merge adds up what
    /// they write with --result, or print with --json.
    #[arg(long, value_name = "K/N")]
    shard: Option<Shard>,

    /// Write down in FILE where the campaign is, and go on from there if FILE exists
    ///
    /// FILE is replaced every few seconds and when a signal ends the campaign, whole or not at all.
    /// Where SIGTERM comes before a first case is finished, the campaign goes on until one is: so
    /// it comes further each time. Further ones change nothing, and Ctrl-C after one ends it at
    /// once. With --cases the end result is as it would have been without interruption; with
    /// --duration it depends on the machine. FILE has to be that of the command with the same
    /// options, but for --jobs, --out, --result, --report and --json. It stays when the campaign is
    /// finished: the command then prints the result again.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,

    /// Threads, from 1 to 1024 [default: the machine's cores]
    ///
    /// Where the operating system gives fewer, the fuzzer goes on with those. No more are started
    /// than there are cases.
    #[arg(long, value_name = "J", value_parser = clap::value_parser!(u64).range(1..=MOST_JOBS))]
    jobs: Option<u64>,

    /// Write each finding into this directory
    ///
    /// Shards may share it: with --shard the names say which one has found it. Where a signal ends
    /// a campaign with a --checkpoint, findings of which an earlier one may still come are
    /// reported, and written by the command that goes on.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// The host never fails
    #[arg(long)]
    no_faults: bool,

    /// Syncs report success and do nothing: voids every promise, to see that it is noticed
    #[arg(long)]
    lying_syncs: bool,

    /// Assume less of the host; may be repeated
    #[arg(long, value_enum, value_name = "ASSUMPTION")]
    weaken: Vec<Weakening>,

    /// Repeat a finding, and tell its story
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "driver", "against", "resizer", "defect", "seed", "cases", "duration", "shard",
        "checkpoint", "jobs", "out", "no_faults", "lying_syncs", "weaken",
    ])]
    repro: Option<PathBuf>,

    /// Repeat the finding of a kernel on the kernel, N times, and say how often it shows
    /// [default: 20]
    ///
    /// A kernel's scheduling is its own: the same requests need not come to the same every time.
    /// The exit status is 1 if the finding shows at least once.
    #[arg(
        long,
        value_name = "N",
        requires = "repro",
        conflicts_with = "report",
        num_args = 0..=1,
        default_missing_value = "20",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    live: Option<u64>,

    /// Measure how soon each known defect is found, and print docs/defects.md
    ///
    /// The defects of the drivers and of resizes, and the doubles that measure the checks. Seeds
    /// and numbers of cases are fixed: how long it takes depends on the processor, from ten
    /// minutes to more than an hour. On a terminal a bar says how far it is. Ctrl-C ends it with
    /// the rows so far.
    #[arg(long, conflicts_with_all = [
        "driver", "kernel", "against", "resizer", "defect", "seed", "cases", "duration", "shard",
        "checkpoint", "out", "no_faults", "lying_syncs", "weaken", "repro", "json",
    ])]
    catalogue: bool,

    /// Write the --catalogue to FILE, which is replaced when all of it is measured
    ///
    /// Ended early, FILE stays as it was, and the rows so far go to standard output.
    #[arg(long, value_name = "FILE", requires = "catalogue")]
    output: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Write the result as JSON to FILE, which is replaced when the campaign is finished
    ///
    /// It is what --json prints, for ubdlab fuzz merge. Ended early, FILE stays as it was.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["repro", "catalogue"])]
    result: Option<PathBuf>,

    /// Write a page with the story of each finding, or difference: one HTML file that needs nothing
    /// else
    #[arg(long, value_name = "FILE", conflicts_with = "catalogue")]
    report: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Merge(merge::Args),
}

fn after_long_help() -> String {
    let described = described().replace('\n', "\n  ");
    let names = defects::all_listed();
    format!(
        "\
What is looked at:
  {described}

{names}

Examples:
  ubdlab fuzz --duration 60s
  ubdlab fuzz --driver linux-6.12 --duration 60s --out findings --report findings.html
  ubdlab fuzz --driver linux-6.12 --defect flush-noop --cases 1000 --json
  ubdlab fuzz --driver kernel --duration 60s --out findings
  ubdlab fuzz --driver kernel --against linux-6.12 --duration 60s --out findings
  ubdlab fuzz --cases 1000000 --shard 3/8 --checkpoint 3.checkpoint --result 3.json
  ubdlab fuzz --repro findings/flush-noop-lost-write.json
  ubdlab fuzz --repro findings/kernel-flush-noop-lost-write.json --live 50
  ubdlab fuzz --catalogue --output docs/defects.md"
    )
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ResizerArg {
    /// ubdlab's own: headroom, rebuild, reflow
    Userhelper,
    /// A slow and obvious model of 2003's procedure, journaled
    #[value(name = "procedure-2003")]
    Procedure2003,
    /// The procedure of 2003 as it was: no journal, no syncs
    #[value(name = "spillner-2003")]
    Spillner2003,
}

/// An assumption about the host that is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Weakening {
    /// A write may tear within a sector, at eight bytes
    AtomicSector,
    /// Of the changes of names in a directory any subset survives
    OrderedNames,
    /// A change of a file's length may survive in part
    AtomicSetLen,
    /// A write past the end may leave the file's length alone
    LengthFollowsData,
    /// No sync makes anything durable
    SyncPersists,
    /// After a failed sync only the process ends, and the file is opened again
    RestartAfterFailedSync,
    /// What a failed sync gives up is gone at once
    FailedSyncKeepsContent,
    /// A kill in the middle of a write may end it within a page, at a sector
    WholePagesAtKill,
    /// A kill in the middle of a write may end it within a sector, at eight bytes
    WholeSectorsAtKill,
    /// A write that has failed may take effect later
    ErrorsAreFinal,
}

impl Weakening {
    pub(super) fn apply(self, assumptions: &mut Assumptions) {
        match self {
            Weakening::AtomicSector => assumptions.atomic_unit = 8,
            Weakening::OrderedNames => assumptions.ordered_names = false,
            Weakening::AtomicSetLen => assumptions.atomic_set_len = false,
            Weakening::LengthFollowsData => assumptions.length_follows_data = false,
            Weakening::SyncPersists => assumptions.sync_persists = false,
            Weakening::RestartAfterFailedSync => assumptions.restart_after_failed_sync = false,
            Weakening::FailedSyncKeepsContent => assumptions.failed_sync_keeps_content = false,
            Weakening::WholePagesAtKill => assumptions.kill_unit = SECTOR_SIZE,
            Weakening::WholeSectorsAtKill => assumptions.kill_unit = 8,
            Weakening::ErrorsAreFinal => assumptions.errors_are_final = false,
        }
    }
}

/// The most threads that can be asked for.
const MOST_JOBS: u64 = 1024;

pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 3] = [("s", 1), ("m", 60), ("h", 3600)];
    let wrong = || format!("found {text:?}, expected a time such as 90s, 5m, 2h or 90");
    let found =
        (UNITS.into_iter()).find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)));
    let (number, unit) = found.unwrap_or((text, 1));
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = number.checked_mul(unit).ok_or_else(wrong)?;
    Ok(Duration::from_secs(seconds))
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<Verdict, Failure> {
    match (&args.command, &args.repro) {
        (Some(Command::Merge(merge)), _) => merge::run(merge),
        (None, Some(file)) => match (args.live, &args.kernel) {
            (Some(tries), kernel) => live::repeat(file, tries, kernel.as_deref(), args.json),
            (None, Some(_)) => {
                let what = "--kernel: found with --repro, which needs none, expected --live too";
                Ok(wrong_usage(what.into()))
            }
            (None, None) => repeat(file, args.json, args.report.as_deref()),
        },
        (None, None) if args.catalogue => catalogue::measure(args.jobs(), args.output.as_deref()),
        (None, None) => match args.driver {
            AnyDriverArg::InHere(_) if args.kernel.is_some() => Ok(wrong_usage(NO_KERNEL.into())),
            AnyDriverArg::InHere(_) if args.against.is_some() => {
                let what =
                    "--against: found with a driver that runs in here, expected --driver kernel";
                Ok(wrong_usage(what.into()))
            }
            AnyDriverArg::InHere(driver) => search::search(args, driver),
            AnyDriverArg::Kernel => match args.only_in_here() {
                Some(what) => Ok(wrong_usage(format!("{what}: not with --driver kernel"))),
                None => kernel::search(args),
            },
        },
    }
}

/// A panic of what is fuzzed is a finding; its backtrace would only bury the report. One of the
/// fuzzer itself is told like any other.
fn quietly<T>(work: impl FnOnce() -> T) -> T {
    let hook = Arc::new(std::panic::take_hook());
    let usual = Arc::clone(&hook);
    std::panic::set_hook(Box::new(move |panic| {
        if !is_guarded() {
            usual(panic);
        }
    }));
    let result = work();
    std::panic::set_hook(Box::new(move |panic| hook(panic)));
    result
}

impl Args {
    fn jobs(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.jobs
            .map_or_else(cores, |jobs| jobs as usize)
            .min(MOST_JOBS as usize)
    }

    /// An option that was given and means nothing where each case is a boot of a kernel.
    fn only_in_here(&self) -> Option<&'static str> {
        let given = [
            ("--shard", self.shard.is_some()),
            ("--checkpoint", self.checkpoint.is_some()),
            ("--result", self.result.is_some()),
        ];
        let mut given = given.into_iter().filter(|(_, is_given)| *is_given);
        given.next().map(|(what, _)| what)
    }

    /// The files of a campaign, which may be names of its findings as this says.
    fn own_files(&self, may_be_finding: fn(&Path) -> bool) -> OwnFiles {
        OwnFiles::new()
            .reading("--kernel", &self.kernel)
            .writing("--checkpoint", self.checkpoint.as_deref())
            .writing("--report", self.report.as_deref())
            .writing("--result", self.result.as_deref())
            .making("a finding", self.out.as_deref(), may_be_finding)
    }

    fn subject(&self, chosen: DriverArg) -> Result<Subject, String> {
        let driver = chosen.driver();
        let parse = |name: &str| {
            let defect = defects::check(driver, name)?;
            if let CaseDefect::Kernel(defect) = defect {
                chosen.check_own(defect)?;
            }
            Ok(defect)
        };
        let defects = chosen.defects(&self.defect, parse)?;
        let mut assumptions = Assumptions::default();
        for weakening in &self.weaken {
            weakening.apply(&mut assumptions);
        }
        if driver != DriverName::Ordered && self.resizer != ResizerArg::Userhelper {
            let driver = driver.name();
            return Err(format!("--resizer: {driver} has no resize"));
        }
        Ok(Subject {
            driver,
            defects,
            resizer: match self.resizer {
                ResizerArg::Userhelper => Resizer::Userhelper,
                ResizerArg::Procedure2003 => Resizer::Procedure2003,
                ResizerArg::Spillner2003 => Resizer::Spillner2003,
            },
            assumptions,
            faults: !self.no_faults,
            lying_syncs: self.lying_syncs,
        })
    }
}
