//! `ubdlab fuzz`.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use driver::OneLine;
use driver::linux::{Defect, Defects};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::fuzz::campaign::{self, Campaign, Finding, Outcome, Stop};
use crate::fuzz::case::{Case, DriverName, FORMAT, Resizer};
use crate::fuzz::catalogue::{self, Catalogue};
use crate::fuzz::coverage::Coverage;
use crate::fuzz::generate::Subject;
use crate::fuzz::procedure_2003::ResizeDefect;
use crate::fuzz::shrink::shrink;
use crate::fuzz::story::{Told, tell};
use crate::fuzz::violation::Violation;
use crate::replay::report::{grouped, time};
use crate::report::{FuzzPage, ToldFinding, finding_page, fuzz_page};
use crate::sim::Assumptions;

use super::output::{self, InLines};
use super::page::write_page;
use super::{Failure, Verdict};

/// Crash and resize a driver at every moment, in a simulated host, and see what is lost
///
/// Each case is a small device, a guest that submits requests, and often a resize beneath
/// them. At every change of the host the process is killed and the power cut: of what was not
/// synced any part survives. What is left is opened, recovered, and compared with what has to
/// be there. Findings are shrunk and written as JSON files that --repro repeats.
///
/// The ordered driver and its resizes should survive all of it. The models of the kernels'
/// drivers have the defects of the real ones and should not. Each finding is traced to the
/// defects that it needs, and those are switched off for the cases that follow: behind the
/// coarse ones the finer ones show.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab fuzz --duration 60s
  ubdlab fuzz --driver linux-6.12 --duration 60s --out findings --report findings.html
  ubdlab fuzz --driver linux-6.12 --defect flush-noop --cases 1000 --json
  ubdlab fuzz --repro findings/flush-noop-lost-write.json
  ubdlab fuzz --catalogue >docs/defects.md")]
pub(super) struct Args {
    /// The driver
    #[arg(long, value_enum, default_value_t = DriverArg::Ordered)]
    driver: DriverArg,

    /// Who resizes under the ordered driver
    #[arg(long, value_enum, default_value_t = ResizerArg::Userhelper)]
    resizer: ResizerArg,

    /// Switch on only this defect; may be repeated
    ///
    /// A defect of the driver for a kernel's driver: without it, all that the real one has;
    /// `none` switches all off. A defect of the resize for the ordered driver: it is then done
    /// by the model of 2003's procedure.
    #[arg(long, value_name = "NAME")]
    defect: Vec<String>,

    /// The first case's seed; case n has this plus n
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,

    /// Stop after this many cases [default: 2000]
    #[arg(long, value_name = "N", conflicts_with = "duration")]
    cases: Option<u64>,

    /// Stop after this long: 90s, 5m, 2h
    #[arg(long, value_name = "T", value_parser = parse_duration)]
    duration: Option<Duration>,

    /// Threads [default: the machine's cores]
    #[arg(long, value_name = "J")]
    jobs: Option<NonZeroUsize>,

    /// Write each finding into this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// The host never fails
    #[arg(long)]
    no_faults: bool,

    /// Syncs report success and do nothing: voids every promise, to see that it is noticed
    #[arg(long)]
    lying_syncs: bool,

    /// Assume less of the host's disk; may be repeated
    #[arg(long, value_enum, value_name = "ASSUMPTION")]
    weaken: Vec<Weakening>,

    /// Repeat a finding, and tell its story
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "driver", "resizer", "defect", "seed", "cases", "duration", "jobs", "out", "no_faults",
        "lying_syncs", "weaken",
    ])]
    repro: Option<PathBuf>,

    /// Measure how soon each known defect is found, and print docs/defects.md
    ///
    /// Takes some minutes. Seeds and numbers of cases are fixed.
    #[arg(long, conflicts_with_all = [
        "driver", "resizer", "defect", "seed", "cases", "duration", "out", "no_faults",
        "lying_syncs", "weaken", "repro", "json",
    ])]
    catalogue: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Write a page with each finding's story: one HTML file that needs nothing else
    #[arg(long, value_name = "FILE", conflicts_with = "catalogue")]
    report: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DriverArg {
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ResizerArg {
    /// ubdlab's own: headroom, rebuild, reflow
    Userhelper,
    /// A slow and obvious model of 2003's procedure, journaled
    #[value(name = "procedure-2003")]
    Procedure2003,
    /// The same as in 2003: no journal, no syncs
    #[value(name = "spillner-2003")]
    Spillner2003,
}

/// An assumption about the host that is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Weakening {
    /// A write may tear within a sector, at eight bytes
    AtomicSector,
    /// Of the changes of names in a directory any subset survives
    OrderedNames,
    /// A change of a file's length may survive in part
    AtomicSetLen,
    /// A write behind the end may leave its length alone
    LengthFollowsData,
    /// No sync makes anything durable
    SyncPersists,
}

impl Weakening {
    fn apply(self, assumptions: &mut Assumptions) {
        match self {
            Weakening::AtomicSector => assumptions.atomic_unit = 8,
            Weakening::OrderedNames => assumptions.ordered_names = false,
            Weakening::AtomicSetLen => assumptions.atomic_set_len = false,
            Weakening::LengthFollowsData => assumptions.length_follows_data = false,
            Weakening::SyncPersists => assumptions.sync_persists = false,
        }
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("found {text:?}, expected a number with s, m or h behind it");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let seconds = number.checked_mul(seconds).ok_or_else(wrong)?;
    Ok(Duration::from_secs(seconds))
}

/// The result, as JSON. Field names carry their units.
#[derive(Serialize)]
struct Report {
    driver: &'static str,
    defects: Vec<String>,
    seed: u64,
    jobs: usize,
    cases: u64,
    host_operations: u64,
    /// Built, recovered and checked.
    crash_images: u64,
    elapsed_ns: u64,
    crash_images_per_second_and_job: f64,
    cases_with_findings: u64,
    findings: Vec<FindingReport>,
    coverage: Coverage,
}

#[derive(Serialize)]
struct FindingReport {
    seed: u64,
    /// The defects that it needs, of those switched on.
    defects: Vec<String>,
    #[serde(flatten)]
    violation: Violation,
    /// Requests in the shrunk case.
    requests: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    case: Case,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<Verdict, Failure> {
    match &args.repro {
        Some(file) => repeat(file, args.json, args.report.as_deref()),
        None if args.catalogue => measure(args),
        None => search(args),
    }
}

fn measure(args: &Args) -> Result<Verdict, Failure> {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(4));
    let progress = |name: &str| bar.set_message(name.to_string());
    let catalogue = quietly(|| Catalogue::measure(args.jobs(), catalogue::CASES, &progress));
    bar.finish_and_clear();
    output::lines(&catalogue);
    Ok(Verdict::Good)
}

/// A panic of what is fuzzed is a finding; its backtrace would only bury the report.
fn quietly<T>(work: impl FnOnce() -> T) -> T {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = work();
    std::panic::set_hook(hook);
    result
}

fn search(args: &Args) -> Result<Verdict, Failure> {
    let subject = args.subject()?;
    let jobs = args.jobs();
    if let Some(directory) = &args.out {
        std::fs::create_dir_all(directory)
            .map_err(|error| Failure(format!("{}: creating: {error}", driver::shown(directory))))?;
    }
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
    let (outcome, findings) = quietly(|| {
        let outcome = campaign::run(&campaign, &progress(stop));
        let findings = args.keep(&outcome);
        (outcome, findings)
    });
    let report = args.report(&campaign, &outcome, findings?);
    match args.json {
        true => output::json(&report)?,
        false => output::lines(&report),
    }
    if let Some(path) = &args.report {
        write_page(path, &fuzz_page(&report.page()))?;
    }
    Ok(match report.findings.is_empty() {
        true => Verdict::Good,
        false => Verdict::ViolationFound,
    })
}

impl Args {
    fn jobs(&self) -> usize {
        match self.jobs {
            Some(jobs) => jobs.get(),
            None => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
        }
    }

    fn subject(&self) -> Result<Subject, Failure> {
        let (driver, real) = match self.driver {
            DriverArg::Ordered => (DriverName::Ordered, Defects::none()),
            DriverArg::Linux612 => (DriverName::Linux612, Defects::LINUX_6_12),
            DriverArg::Linux26 => (DriverName::Linux26, Defects::LINUX_2_6),
        };
        let defects = match &self.defect[..] {
            [] => real
                .iter()
                .map(|defect| defect.name().to_string())
                .collect(),
            [none] if none == "none" => Vec::new(),
            names => {
                for name in names {
                    match driver {
                        DriverName::Ordered => name
                            .parse()
                            .map(|_: ResizeDefect| ())
                            .map_err(Failure::operation)?,
                        _ => name
                            .parse()
                            .map(|_: Defect| ())
                            .map_err(Failure::operation)?,
                    }
                }
                names.to_vec()
            }
        };
        let mut assumptions = Assumptions::default();
        for weakening in &self.weaken {
            weakening.apply(&mut assumptions);
        }
        if driver != DriverName::Ordered && self.resizer != ResizerArg::Userhelper {
            let driver = driver.name();
            return Err(Failure(format!("--resizer: {driver} has no resize")));
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

    /// Shrinks each finding and writes it down.
    fn keep(&self, outcome: &Outcome) -> Result<Vec<FindingReport>, Failure> {
        let kept = outcome
            .findings
            .iter()
            .map(|finding| self.keep_one(finding));
        kept.collect()
    }

    fn keep_one(&self, finding: &Finding) -> Result<FindingReport, Failure> {
        let (case, violation) = shrink(&finding.case, &finding.violation, finding.seed);
        let file = match &self.out {
            Some(directory) => {
                let named = [&case.defects[..], &[violation.kind.name().to_string()]].concat();
                let file = directory.join(named.join("-") + ".json");
                write_case(&file, &case)?;
                Some(file)
            }
            None => None,
        };
        Ok(FindingReport {
            seed: finding.seed,
            defects: case.defects.clone(),
            violation,
            requests: case.requests(),
            file,
            case,
        })
    }

    fn report(
        &self,
        campaign: &Campaign,
        outcome: &Outcome,
        findings: Vec<FindingReport>,
    ) -> Report {
        let seconds = outcome.elapsed_ns.max(1) as f64 / 1e9;
        Report {
            driver: campaign.subject.driver.name(),
            defects: campaign.subject.defects.clone(),
            seed: campaign.seed,
            jobs: campaign.jobs,
            cases: outcome.cases,
            host_operations: outcome.host_operations,
            crash_images: outcome.crash_images,
            elapsed_ns: outcome.elapsed_ns,
            crash_images_per_second_and_job: outcome.crash_images as f64
                / seconds
                / campaign.jobs as f64,
            cases_with_findings: outcome.cases_with_findings,
            findings,
            coverage: outcome.coverage.clone(),
        }
    }
}

impl Report {
    fn page(&self) -> FuzzPage {
        let told = |finding: &FindingReport| ToldFinding {
            name: finding.name(),
            requests: finding.requests,
            command: finding.file.as_deref().map(repeating),
            told: tell(&finding.case),
        };
        FuzzPage {
            driver: self.driver.to_string(),
            defects: self.defects.clone(),
            seed: self.seed,
            cases: self.cases,
            crash_images: self.crash_images,
            elapsed_ns: self.elapsed_ns,
            // A panic of what is fuzzed is part of the story.
            findings: quietly(|| self.findings.iter().map(told).collect()),
        }
    }
}

impl FindingReport {
    /// The defects that it needs, or what kind of violation it is.
    fn name(&self) -> String {
        match self.defects.is_empty() {
            true => self.violation.kind.name().to_string(),
            false => self.defects.join(" and "),
        }
    }
}

/// The command that repeats the case in a file.
fn repeating(file: &Path) -> String {
    format!("ubdlab fuzz --repro {}", driver::shown(file))
}

fn write_case(file: &Path, case: &Case) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(case).map_err(Failure::operation)?;
    std::fs::write(file, text + "\n")
        .map_err(|error| Failure(format!("{}: writing: {error}", driver::shown(file))))
}

fn progress(stop: Stop) -> impl Fn(u64) + Sync {
    let (len, style) = match stop {
        Stop::Cases(cases) => (Some(cases), "{msg} {wide_bar} {pos}/{len}"),
        Stop::Duration(_) => (None, "{msg} {spinner} {pos} in {elapsed}"),
    };
    let bar = ProgressBar::with_draw_target(len, ProgressDrawTarget::stderr_with_hz(4));
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar.set_message("cases");
    move |cases| bar.set_position(cases)
}

impl InLines for Report {}

/// Names of its own.
impl InLines for Catalogue {}

/// Each of its events is on one line.
impl InLines for Told {}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "fuzzed     {} with {} cases from seed {} in {}",
            self.driver,
            grouped(self.cases),
            self.seed,
            time(self.elapsed_ns)
        )?;
        if !self.defects.is_empty() {
            writeln!(f, "defects    {}", self.defects.join(", "))?;
        }
        writeln!(
            f,
            "crashes    {} images built, recovered and checked: {} a second and job, {} jobs",
            grouped(self.crash_images),
            grouped(self.crash_images_per_second_and_job as u64),
            self.jobs
        )?;
        let blind: Vec<_> = self.coverage.blind_spots().collect();
        if !blind.is_empty() {
            writeln!(f, "never came {}", blind.join(", "))?;
        }
        if self.findings.is_empty() {
            return writeln!(f, "found      nothing");
        }
        writeln!(
            f,
            "found      {} violations, in {} cases",
            self.findings.len(),
            grouped(self.cases_with_findings)
        )?;
        for finding in &self.findings {
            writeln!(
                f,
                "\n  {} (seed {}, shrunk to {} requests)\n    {}",
                finding.name(),
                finding.seed,
                finding.requests,
                OneLine(&finding.violation)
            )?;
            if let Some(file) = &finding.file {
                writeln!(f, "    {}", repeating(file))?;
            }
        }
        Ok(())
    }
}

/// The largest file that is read as a case.
const LARGEST_CASE: u64 = 16 << 20;

fn repeat(file: &Path, json: bool, page: Option<&Path>) -> Result<Verdict, Failure> {
    let wrong = |what: String| Failure(format!("{}: {what}", driver::shown(file)));
    let opened = File::open(file).map_err(|error| wrong(format!("opening: {error}")))?;
    let mut text = String::new();
    // A length says nothing of a pipe or a device.
    opened
        .take(LARGEST_CASE + 1)
        .read_to_string(&mut text)
        .map_err(|error| wrong(format!("reading: {error}")))?;
    if text.len() as u64 > LARGEST_CASE {
        return Err(wrong(format!(
            "found more than {LARGEST_CASE} bytes, expected a case, which has at most as many"
        )));
    }
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    match value.get("format").and_then(serde_json::Value::as_str) {
        Some(FORMAT) => {}
        Some(other) => {
            return Err(wrong(format!(
                "found format {other:?}, expected {FORMAT:?}"
            )));
        }
        None => return Err(wrong(format!("found no format, expected {FORMAT:?}"))),
    }
    let case: Case = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    case.check().map_err(wrong)?;
    let told = tell(&case);
    match json {
        true => output::json(&told.violation)?,
        false => output::lines(&told),
    }
    if let Some(page) = page {
        let finding = ToldFinding {
            name: match case.defects.is_empty() {
                true => case.driver.name().to_string(),
                false => case.defects.join(" and "),
            },
            requests: case.requests(),
            command: Some(repeating(file)),
            told: told.clone(),
        };
        write_page(page, &finding_page(case.driver.name(), &finding))?;
    }
    Ok(match told.violation {
        Some(_) => Verdict::ViolationFound,
        None => Verdict::Good,
    })
}
