//! What a campaign came to, as text, as JSON and as a page.

use std::fmt;
use std::path::{Path, PathBuf};

use driver::OneLine;
use serde::Serialize;

use crate::fuzz::campaign::{Campaign, Outcome};
use crate::fuzz::case::Case;
use crate::fuzz::coverage::Coverage;
use crate::fuzz::story::{tell, tell_unrun};
use crate::fuzz::violation::Violation;
use crate::replay::report::{grouped, time};
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
            ended_by_signal: None,
            findings,
            coverage: outcome.coverage.clone(),
        }
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

impl InLines for Report {}

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
        if let Some(signal) = self.ended_by_signal {
            writeln!(f, "ended      early, by signal {signal}")?;
        }
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
            let shrunk = if finding.is_stuck {
                "not shrunk:"
            } else {
                "shrunk to"
            };
            writeln!(
                f,
                "\n  {} (seed {}, {shrunk} {} requests)\n    {}",
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
