//! `ubdlab fuzz --driver kernel`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use driver::OneLine;
use indicatif::ProgressBar;
use serde::Serialize;

use crate::figures::{counted, grouped};
use crate::fuzz::campaign::Stop;
use crate::fuzz::violation::Violation;
use crate::kernel::campaign::{Campaign, Outcome, run};
use crate::kernel::faults_met::FaultsMet;
use crate::kernel::finding::Finding;
use crate::kernel::naming::Explained;
use crate::report::{FuzzPage, ToldFinding, fuzz_page};
use crate::sim::Assumptions;

use super::super::interrupt::{self, Interrupt};
use super::super::output::{self, InLines};
use super::super::output_file::{OutputFile, not_created};
use super::super::own_files::{OwnFiles, json_right_in};
use super::super::page::PageFile;
use super::super::temporary::TemporaryDirectory;
use super::super::uml_programs::programs;
use super::super::{Failure, Verdict, wrong_usage};
use super::against;
use super::keeper::progress;
use super::report::{repeating, tell_count, tell_early_end, tell_lived};
use super::{Args, ResizerArg};

/// Cases, if nothing is said of them: a kernel lives tens of them in a second, and not thousands.
const CASES: u64 = 200;

/// A campaign on a kernel, and the directory that it takes.
pub(super) struct Prepared {
    pub(super) campaign: Campaign,
    _temporary: TemporaryDirectory,
}

/// Finds all that a campaign takes. The directory for findings is made.
pub(super) fn prepare(args: &Args) -> Result<Prepared, Failure> {
    let programs = programs(args.kernel.as_deref()).map_err(Failure::operation)?;
    if let Some(directory) = &args.out {
        std::fs::create_dir_all(directory).map_err(|error| not_created(directory, &error))?;
    }
    let parent = std::env::temp_dir();
    let temporary = TemporaryDirectory::new_in(&parent, "ubdlab-kernel-");
    let temporary = temporary.map_err(|error| not_created(&parent, &error))?;
    let stop = match (args.duration, args.cases) {
        (Some(duration), _) => Stop::Duration(duration),
        (None, cases) => Stop::Cases(cases.unwrap_or(CASES)),
    };
    let mut assumptions = Assumptions::default();
    for weakening in &args.weaken {
        weakening.apply(&mut assumptions);
    }
    let campaign = Campaign {
        seed: args.seed,
        stop,
        faults: !args.no_faults,
        assumptions,
        programs,
        directory: temporary.path().to_owned(),
    };
    Ok(Prepared {
        campaign,
        _temporary: temporary,
    })
}

/// Runs the campaign.
pub(super) fn search(args: &Args) -> Result<Verdict, Failure> {
    if let Some(what) = not_with_the_kernel(args) {
        return Ok(wrong_usage(format!("{what}: not with --driver kernel")));
    }
    let own = args.own_files(may_be_finding);
    if let Err(what) = own.check() {
        return Ok(wrong_usage(what));
    }
    if let Some(against) = args.against {
        return against::search(args, against.driver(), &own);
    }
    let page = PageFile::begin(args.report.as_deref(), None)?;
    let prepared = prepare(args)?;
    let campaign = &prepared.campaign;
    let interrupt = Interrupt::catch();
    let is_asked = Arc::new(move || interrupt.is_asked());
    let mut kept = Kept {
        directory: args.out.as_deref(),
        own: &own,
        bar: progress(campaign.stop),
        files: Vec::new(),
        failure: None,
    };
    let (outcome, ended) = run(campaign, is_asked, &mut |cases, found| {
        kept.take(cases, found)
    });
    kept.bar.finish_and_clear();
    let ended = ended.map_err(Failure::operation);
    if outcome.cases == 0 && ended.is_err() {
        return ended.map(|()| Verdict::Good);
    }
    let report = Report {
        ended_by_error: ended.as_ref().err().map(|failure| failure.0.clone()),
        ..Report::of(campaign, &outcome, &kept.files)
    };
    match args.json {
        true => output::json(&report)?,
        false => output::lines(&report),
    }
    page.write(|| Ok(fuzz_page(&page_of(campaign, &outcome, &kept.files)?)))?;
    // What was found has been told by now.
    kept.failure.map_or(Ok(()), Err)?;
    ended?;
    Ok(match (interrupt::signal(), outcome.findings.is_empty()) {
        (Some(signal), _) => Verdict::EndedBySignal(signal),
        (None, true) => Verdict::Good,
        (None, false) => Verdict::ViolationFound,
    })
}

/// An option that was given and means nothing to a kernel.
fn not_with_the_kernel(args: &Args) -> Option<&'static str> {
    let given = [
        ("--resizer", args.resizer != ResizerArg::Userhelper),
        ("--defect", !args.defect.is_empty()),
        ("--jobs", args.jobs.is_some()),
        ("--lying-syncs", args.lying_syncs),
    ];
    let mut given = given.into_iter().filter(|(_, is_given)| *is_given);
    given.next().map(|(what, _)| what)
}

/// Whether a file at this path below the directory of findings could be one.
fn may_be_finding(below: &Path) -> bool {
    json_right_in(below).is_some_and(|name| name.starts_with("kernel-"))
}

/// Findings, written down as they come.
struct Kept<'a> {
    directory: Option<&'a Path>,
    own: &'a OwnFiles,
    bar: ProgressBar,
    /// The file of each finding, in the order of the findings.
    files: Vec<Option<PathBuf>>,
    failure: Option<Failure>,
}

impl Kept<'_> {
    fn take(&mut self, cases: u64, found: Option<&Finding>) {
        self.bar.set_position(cases);
        let Some(finding) = found else {
            return;
        };
        let file = self.directory.map(|directory| {
            let kind = finding.violation.kind.name();
            let name = match finding.explained {
                // There may be several of a kind.
                Explained::Unknown => format!("kernel-{kind}-{}", finding.seed),
                _ => format!("kernel-{}-{kind}", finding.name()),
            };
            directory.join(name + ".json")
        });
        let written = file.as_deref().map(|file| {
            self.own.check_made(file).map_err(Failure)?;
            write(file, finding)
        });
        match written.transpose() {
            Ok(_) => self.files.push(file),
            Err(failure) => {
                self.files.push(None);
                self.failure.get_or_insert(failure);
            }
        }
    }
}

fn write(file: &Path, finding: &Finding) -> Result<(), Failure> {
    let text = serde_json::to_string(&finding.file()).map_err(Failure::operation)?;
    OutputFile::create(file)?.write_whole(&(text + "\n"))
}

fn page_of(
    campaign: &Campaign,
    outcome: &Outcome,
    files: &[Option<PathBuf>],
) -> Result<FuzzPage, Failure> {
    let told = |(finding, file): (&Finding, &Option<PathBuf>)| {
        Ok(ToldFinding {
            name: finding.name(),
            requests: finding.case.requests(),
            command: file.as_deref().map(repeating),
            told: finding.file().tell().map_err(Failure::operation)?,
        })
    };
    Ok(FuzzPage {
        driver: outcome.kernel.clone(),
        defects: Vec::new(),
        seed: campaign.seed,
        cases: outcome.cases,
        crash_images: outcome.crash_images,
        elapsed_ns: outcome.elapsed_ns,
        findings: outcome
            .findings
            .iter()
            .zip(files)
            .map(told)
            .collect::<Result<_, Failure>>()?,
    })
}

/// What a campaign came to.
#[derive(Serialize)]
struct Report {
    driver: &'static str,
    kernel: String,
    seed: u64,
    cases: u64,
    boots: u64,
    host_operations: u64,
    faults_met: FaultsMet,
    crash_images: u64,
    elapsed_ns: u64,
    cases_with_findings: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_by_signal: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_by_error: Option<String>,
    findings: Vec<FindingReport>,
}

#[derive(Serialize)]
struct FindingReport {
    seed: u64,
    /// The known defects that explain it.
    defects: Vec<&'static str>,
    /// How that is known.
    explained: &'static str,
    #[serde(flatten)]
    violation: Violation,
    requests: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    #[serde(skip)]
    name: String,
}

impl Report {
    fn of(campaign: &Campaign, outcome: &Outcome, files: &[Option<PathBuf>]) -> Report {
        let findings = outcome.findings.iter().zip(files);
        let findings = findings.map(|(finding, file)| FindingReport {
            seed: finding.seed,
            defects: finding
                .explained
                .defects()
                .iter()
                .map(|it| it.name())
                .collect(),
            explained: finding.explained.how(),
            violation: finding.violation.clone(),
            requests: finding.case.requests(),
            file: file.clone(),
            name: finding.name(),
        });
        Report {
            driver: "kernel",
            kernel: outcome.kernel.clone(),
            seed: campaign.seed,
            cases: outcome.cases,
            boots: outcome.boots,
            host_operations: outcome.host_operations,
            faults_met: outcome.faults_met.clone(),
            crash_images: outcome.crash_images,
            elapsed_ns: outcome.elapsed_ns,
            cases_with_findings: outcome.cases_with_findings,
            ended_by_signal: interrupt::signal(),
            ended_by_error: None,
            findings: findings.collect(),
        }
    }
}

impl InLines for Report {}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "fuzzed     {}", OneLine(&self.kernel))?;
        tell_lived(f, self.cases, self.seed, self.elapsed_ns, self.boots)?;
        writeln!(
            f,
            "recorded   {} of the kernel's driver, {}",
            counted(self.host_operations, "host operation"),
            self.faults_met
        )?;
        let seconds = self.elapsed_ns.max(1) as f64 / 1e9;
        writeln!(
            f,
            "crashes    {} built and checked: {} a second",
            counted(self.crash_images, "image"),
            grouped((self.crash_images as f64 / seconds) as u64)
        )?;
        tell_early_end(f, self.ended_by_signal, self.ended_by_error.is_some())?;
        tell_count(f, self.findings.len(), self.cases_with_findings)?;
        for finding in &self.findings {
            writeln!(
                f,
                "\n  {} (seed {}, {})\n    {}\n    {}",
                finding.name,
                finding.seed,
                counted(finding.requests as u64, "request"),
                OneLine(&finding.violation),
                finding.explained
            )?;
            if let Some(file) = &finding.file {
                writeln!(f, "    {}", repeating(file))?;
            }
        }
        if self.findings.iter().any(|finding| finding.file.is_none()) {
            writeln!(
                f,
                "\nWith --out DIR findings are kept, each with its recording, and --repro tells their \
                 stories."
            )?;
        }
        Ok(())
    }
}
