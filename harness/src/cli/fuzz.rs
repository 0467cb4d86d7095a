//! `ubdlab fuzz`.

mod against;
mod catalogue;
mod defects;
mod keeper;
mod kernel;
mod repeat;
mod report;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use driver::units::SECTOR_SIZE;

use crate::fuzz::campaign::{self, Campaign, Stop};
use crate::fuzz::case::{DriverName, Resizer};
use crate::fuzz::defect::CaseDefect;
use crate::fuzz::generate::Subject;
use crate::fuzz::guard::is_guarded;
use crate::fuzz::selection::described;
use crate::report::fuzz_page;
use crate::sim::Assumptions;

use super::driver_arg::DriverArg;
use super::interrupt::{self, Interrupt};
use super::output;
use super::output_file::not_created;
use super::page::PageFile;
use super::{Failure, Verdict, wrong_usage};

use keeper::Keeper;
use repeat::repeat;
use report::Report;

/// Crash and resize a driver at every moment, in a simulated host, and see what is lost
///
/// Each case is a small device, a guest that submits requests, and often a resize beneath
/// them. At every change of the host the process is killed and the power cut: of what was not
/// synced any part survives. What is left is opened, recovered, and compared with what has to
/// be there. Findings are shrunk and written as JSON files that --repro repeats.
///
/// The ordered driver and its resizes should survive all of it. The models of the kernels'
/// drivers have the defects of the real ones and should not. Each finding is traced to the
/// defects that it needs, and those are switched off for the cases that follow: without the
/// coarse ones the finer ones show.
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
#[command(after_long_help = after_long_help())]
pub(super) struct Args {
    /// The driver
    #[arg(long, value_enum, default_value_t = FuzzedArg::ORDERED)]
    driver: FuzzedArg,

    /// The kernel that --driver kernel boots, any one for User-Mode Linux [default: linux.uml]
    #[arg(long, value_name = "PROGRAM")]
    kernel: Option<PathBuf>,

    /// Hold --driver kernel against this model of its driver: linux-6.12
    ///
    /// The model gets the requests of the same cases. What the two ask of their hosts has to be the
    /// same, operation by operation, and so has what their guests hear. Nothing is crashed. A
    /// difference is a fault of the model, or a defect of the kernel that it does not have. What
    /// the block layer does before the driver has a request is applied to the model by rules.
    #[arg(
        long,
        value_enum,
        value_name = "MODEL",
        hide_possible_values = true,
        conflicts_with = "report"
    )]
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
    /// Also in the middle of a case.
    #[arg(long, value_name = "T", value_parser = parse_duration)]
    duration: Option<Duration>,

    /// Threads, from 1 to 1024 [default: the machine's cores]
    ///
    /// Where the operating system gives fewer, the fuzzer goes on with those. No more are started
    /// than there are cases to run at once, which are 128.
    #[arg(long, value_name = "J", value_parser = clap::value_parser!(u64).range(1..=MOST_JOBS))]
    jobs: Option<u64>,

    /// Write each finding into this directory
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
        "driver", "kernel", "against", "resizer", "defect", "seed", "cases", "duration", "jobs", "out",
        "no_faults", "lying_syncs", "weaken",
    ])]
    repro: Option<PathBuf>,

    /// Measure how soon each known defect is found, and print docs/defects.md
    ///
    /// The defects of the drivers and of resizes, and the doubles that measure the checks. Seeds
    /// and numbers of cases are fixed: how long it takes depends on the processor, from ten
    /// minutes to more than an hour. On a terminal a bar says how far it is. Ctrl-C ends it with
    /// the rows so far.
    #[arg(long, conflicts_with_all = [
        "driver", "kernel", "against", "resizer", "defect", "seed", "cases", "duration", "out", "no_faults",
        "lying_syncs", "weaken", "repro", "json",
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

    /// Write a page with each finding's story: one HTML file that needs nothing else
    #[arg(long, value_name = "FILE", conflicts_with = "catalogue")]
    report: Option<PathBuf>,
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
  ubdlab fuzz --repro findings/flush-noop-lost-write.json
  ubdlab fuzz --catalogue --output docs/defects.md"
    )
}

/// What is fuzzed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FuzzedArg {
    /// A driver that runs in this program.
    InHere(DriverArg),
    /// That of a running kernel.
    Kernel,
}

impl FuzzedArg {
    const ORDERED: FuzzedArg = FuzzedArg::InHere(DriverArg::Ordered);
}

impl ValueEnum for FuzzedArg {
    fn value_variants<'a>() -> &'a [FuzzedArg] {
        static ALL: LazyLock<Vec<FuzzedArg>> = LazyLock::new(|| {
            let in_here = DriverArg::value_variants().iter().copied();
            let in_here = in_here.map(FuzzedArg::InHere);
            in_here.chain([FuzzedArg::Kernel]).collect()
        });
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            FuzzedArg::InHere(driver) => driver.to_possible_value(),
            FuzzedArg::Kernel => Some(PossibleValue::new("kernel").help(
                "A real kernel of User-Mode Linux, whose files are in a mounted simulated directory",
            )),
        }
    }
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
    match &args.repro {
        Some(file) => repeat(file, args.json, args.report.as_deref()),
        None if args.catalogue => catalogue::measure(args.jobs(), args.output.as_deref()),
        None => match args.driver {
            FuzzedArg::InHere(_) if args.kernel.is_some() => {
                let what =
                    "--kernel: found with a driver that needs none, expected --driver kernel";
                Ok(wrong_usage(what.into()))
            }
            FuzzedArg::InHere(_) if args.against.is_some() => {
                let what =
                    "--against: found with a driver that runs in here, expected --driver kernel";
                Ok(wrong_usage(what.into()))
            }
            FuzzedArg::InHere(driver) => search(args, driver),
            FuzzedArg::Kernel => kernel::search(args),
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

fn search(args: &Args, driver: DriverArg) -> Result<Verdict, Failure> {
    let subject = match args.subject(driver) {
        Ok(subject) => subject,
        Err(what) => return Ok(wrong_usage(what)),
    };
    let jobs = args.jobs();
    if let Some(directory) = &args.out {
        std::fs::create_dir_all(directory).map_err(|error| not_created(directory, &error))?;
    }
    let page = PageFile::begin::<&Path>(args.report.as_deref(), None, &[])?;
    let stop = match (args.duration, args.cases) {
        (Some(duration), _) => Stop::Duration(duration),
        (None, cases) => Stop::Cases(cases.unwrap_or(2000)),
    };
    let campaign = Campaign {
        subject,
        seed: args.seed,
        stop,
        jobs,
    };
    let interrupt = Interrupt::catch();
    let mut keeper = Keeper::new(args.out.as_deref(), stop, jobs);
    let stop = {
        let (interrupt, gave_up) = (interrupt.clone(), Arc::clone(&keeper.gave_up));
        Arc::new(move || interrupt.is_asked() || gave_up.load(Ordering::Relaxed))
    };
    let outcome = quietly(|| campaign::run_until(&campaign, stop, &mut keeper));
    if let Some(stuck) = outcome
        .as_ref()
        .ok()
        .and_then(|outcome| outcome.stuck.as_ref())
    {
        keeper.keep_stuck(stuck);
    }
    let (findings, failure) = keeper.finish();
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => return Err(failure.unwrap_or_else(|| Failure::operation(error))),
    };
    let mut report = Report::of(&campaign, &outcome, findings);
    report.options = args.options();
    report.ended_by_signal = interrupt::signal();
    match args.json {
        true => output::json(&report)?,
        false => output::lines(&report),
    }
    page.write(|| Ok(fuzz_page(&report.page()?)))?;
    // What was found has been told by now.
    failure.map_or(Ok(()), Err)?;
    Ok(match (report.ended_by_signal, report.findings.is_empty()) {
        (Some(signal), _) => Verdict::EndedBySignal(signal),
        (None, true) => Verdict::Good,
        (None, false) => Verdict::ViolationFound,
    })
}

impl Args {
    fn jobs(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.jobs
            .map_or_else(cores, |jobs| jobs as usize)
            .min(MOST_JOBS as usize)
    }

    /// The options that say what is fuzzed, but for seeds, numbers of cases and defects.
    fn options(&self) -> String {
        let mut options = Vec::new();
        let name = |value: Option<clap::builder::PossibleValue>| match value {
            Some(value) => value.get_name().to_owned(),
            None => String::new(),
        };
        if self.driver != FuzzedArg::ORDERED {
            options.push(format!(
                "--driver {}",
                name(self.driver.to_possible_value())
            ));
        }
        if self.resizer != ResizerArg::Userhelper {
            options.push(format!(
                "--resizer {}",
                name(self.resizer.to_possible_value())
            ));
        }
        options.extend(self.no_faults.then(|| "--no-faults".into()));
        options.extend(self.lying_syncs.then(|| "--lying-syncs".into()));
        for weakening in &self.weaken {
            options.push(format!("--weaken {}", name(weakening.to_possible_value())));
        }
        options.join(" ")
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
