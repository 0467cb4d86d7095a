//! What a campaign came to, as text, as JSON and as a page.

use std::fmt;
use std::path::{Path, PathBuf};

use driver::OneLine;
use serde::Serialize;

use crate::figures::{counted, grouped, time};
use crate::fuzz::campaign::{Campaign, CampaignOutcome};
use crate::fuzz::case::{Case, DriverName};
use crate::fuzz::coverage::Coverage;
use crate::fuzz::defect::CaseDefect;
use crate::fuzz::generate::Subject;
use crate::fuzz::reachable::cannot_come;
use crate::fuzz::story::{tell, tell_unrun};
use crate::fuzz::violation::Violation;
use crate::report::{FuzzPage, ToldFinding};

use super::super::Failure;
use super::super::output::InLines;
use super::quietly;

/// The result, as JSON. Field names carry their units.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) driver: &'static str,
    pub(super) defects: Vec<String>,
    pub(super) seed: u64,
    pub(super) jobs: usize,
    pub(super) cases: u64,
    pub(super) host_operations: u64,
    /// Built, recovered and checked.
    pub(super) crash_images: u64,
    pub(super) elapsed_ns: u64,
    pub(super) crash_images_per_second_and_job: f64,
    pub(super) cases_with_findings: u64,
    /// The number of the signal that has ended the campaign early.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ended_by_signal: Option<u8>,
    pub(super) findings: Vec<FindingReport>,
    pub(super) coverage: Coverage,
    #[serde(skip)]
    pub(super) subject: Subject,
    /// The options that a case is repeated with, but for its seed and its defects.
    #[serde(skip)]
    pub(super) options: String,
}

#[derive(Serialize)]
pub(super) struct FindingReport {
    pub(super) seed: u64,
    /// The defects that it needs, of those switched on.
    pub(super) defects: Vec<String>,
    #[serde(flatten)]
    pub(super) violation: Violation,
    /// Requests in the shrunk case.
    pub(super) requests: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<PathBuf>,
    pub(super) case: Case,
    /// The case does not end: it can be neither shrunk nor told.
    #[serde(skip)]
    pub(super) is_stuck: bool,
}

impl Report {
    pub(super) fn of(
        campaign: &Campaign,
        outcome: &CampaignOutcome,
        findings: Vec<FindingReport>,
    ) -> Report {
        let seconds = outcome.elapsed_ns.max(1) as f64 / 1e9;
        Report {
            driver: campaign.subject.driver.name(),
            defects: CaseDefect::names(&campaign.subject.defects),
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
            ended_by_signal: None,
            findings,
            coverage: outcome.coverage.clone(),
            subject: campaign.subject.clone(),
            options: String::new(),
        }
    }

    /// The command that runs the case of a finding again, with the defects that it needs.
    fn searching(&self, finding: &FindingReport) -> String {
        let mut command = String::from("ubdlab fuzz");
        if !self.options.is_empty() {
            command = command + " " + &self.options;
        }
        for defect in &finding.defects {
            command = command + " --defect " + defect;
        }
        if finding.defects.is_empty() && self.subject.driver != DriverName::Ordered {
            command += " --defect none";
        }
        format!("{command} --seed {} --cases 1", finding.seed)
    }

    pub(super) fn page(&self) -> Result<FuzzPage, Failure> {
        let told = |finding: &FindingReport| -> Result<ToldFinding, Failure> {
            Ok(ToldFinding {
                name: finding.name(),
                requests: finding.requests,
                command: finding.file.as_deref().map(repeating),
                told: match finding.is_stuck {
                    true => tell_unrun(&finding.case, &finding.violation),
                    false => tell(&finding.case).map_err(Failure::operation)?,
                },
            })
        };
        Ok(FuzzPage {
            driver: self.driver.to_string(),
            defects: self.defects.clone(),
            seed: self.seed,
            cases: self.cases,
            crash_images: self.crash_images,
            elapsed_ns: self.elapsed_ns,
            // A panic of what is fuzzed is part of the story.
            findings: quietly(|| self.findings.iter().map(told).collect::<Result<_, _>>())?,
        })
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
pub(super) fn repeating(file: &Path) -> String {
    format!("ubdlab fuzz --repro {}", driver::shown(file))
}

/// How many violations were found, in how many cases.
pub(super) fn tell_count(f: &mut fmt::Formatter<'_>, violations: usize, cases: u64) -> fmt::Result {
    match violations {
        0 => writeln!(f, "found      nothing"),
        violations => writeln!(
            f,
            "found      {}, in {}",
            counted(violations as u64, "violation"),
            counted(cases, "case")
        ),
    }
}

impl InLines for Report {}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "fuzzed     {} with {} from seed {} in {}",
            self.driver,
            counted(self.cases, "case"),
            self.seed,
            time(self.elapsed_ns)
        )?;
        if !self.defects.is_empty() {
            writeln!(f, "defects    {}", self.defects.join(", "))?;
        }
        writeln!(
            f,
            "crashes    {} built, recovered and checked: {} a second and job, {}",
            counted(self.crash_images, "image"),
            grouped(self.crash_images_per_second_and_job as u64),
            counted(self.jobs as u64, "job")
        )?;
        if let Some(signal) = self.ended_by_signal {
            writeln!(f, "ended      early, by signal {signal}")?;
        }
        let blind = self.coverage.blind_spots();
        let blind: Vec<_> = blind
            .filter(|name| !cannot_come(name, &self.subject))
            .collect();
        if !blind.is_empty() {
            writeln!(f, "never came {}", blind.join(", "))?;
            writeln!(
                f,
                "           (counted, and zero in these cases: not tried. Some need more cases, some an option)"
            )?;
        }
        tell_count(f, self.findings.len(), self.cases_with_findings)?;
        for finding in &self.findings {
            let shrunk = if finding.is_stuck {
                "not shrunk:"
            } else {
                "shrunk to"
            };
            writeln!(
                f,
                "\n  {} (seed {}, {shrunk} {})\n    {}",
                finding.name(),
                finding.seed,
                counted(finding.requests as u64, "request"),
                OneLine(&finding.violation)
            )?;
            match &finding.file {
                Some(file) => writeln!(f, "    {}", repeating(file))?,
                None => writeln!(f, "    {}", self.searching(finding))?,
            }
        }
        if self.findings.iter().any(|finding| finding.file.is_none()) {
            writeln!(
                f,
                "\nThe commands run these cases again; with --out DIR they are kept, and --repro tells \
                 their stories."
            )?;
        }
        Ok(())
    }
}
