//! What a campaign came to, as text and as a page.

use std::fmt;
use std::path::Path;

use driver::OneLine;

use crate::figures::{counted, grouped, time};
use crate::fuzz::campaign::record::FindingRecord;
use crate::fuzz::campaign::result::CampaignResult;
use crate::fuzz::case::DriverName;
use crate::fuzz::defect::CaseDefect;
use crate::fuzz::generate::Subject;
use crate::fuzz::reachable::cannot_come;
use crate::fuzz::story::{tell, tell_unrun};
use crate::report::{FuzzPage, ToldFinding};

use super::super::Failure;
use super::super::output::InLines;
use super::{options, quietly};

/// A result, for a reader.
pub(super) struct Report<'a>(pub(super) &'a CampaignResult);

impl Report<'_> {
    fn subject(&self) -> &Subject {
        &self.0.campaign.subject
    }

    /// The command that runs the case of a finding again, with the defects that it needs.
    fn searching(&self, finding: &FindingRecord) -> String {
        let mut command = String::from("ubdlab fuzz");
        let options = options::of(self.subject());
        if !options.is_empty() {
            command = command + " " + &options;
        }
        for defect in &finding.defects {
            command = command + " --defect " + defect.name();
        }
        if finding.defects.is_empty() && self.subject().driver != DriverName::Ordered {
            command += " --defect none";
        }
        format!("{command} --seed {} --cases 1", finding.seed)
    }

    pub(super) fn page(&self) -> Result<FuzzPage, Failure> {
        let told = |finding: &FindingRecord| -> Result<ToldFinding, Failure> {
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
        let result = self.0;
        Ok(FuzzPage {
            driver: self.subject().driver.name().to_owned(),
            defects: CaseDefect::names(&self.subject().defects),
            seed: result.campaign.seed,
            cases: result.cases,
            crash_images: result.crash_images,
            elapsed_ns: result.elapsed_ns,
            // A panic of what is fuzzed is part of the story.
            findings: quietly(|| result.findings.iter().map(told).collect::<Result<_, _>>())?,
        })
    }
}

/// The command that repeats the case in a file.
pub(super) fn repeating(file: &Path) -> String {
    format!("ubdlab fuzz --repro {}", driver::shell_path(file))
}

/// How many cases a kernel has lived, from which seed on.
pub(super) fn tell_lived(
    f: &mut fmt::Formatter<'_>,
    cases: u64,
    seed: u64,
    elapsed_ns: u64,
    boots: u64,
) -> fmt::Result {
    writeln!(
        f,
        "lived      {} from seed {seed} in {}, {}",
        counted(cases, "case"),
        time(elapsed_ns),
        counted(boots, "boot")
    )
}

/// What has ended a campaign before it came to its end, if anything has.
pub(super) fn tell_early_end(
    f: &mut fmt::Formatter<'_>,
    signal: Option<u8>,
    by_error: bool,
) -> fmt::Result {
    if let Some(signal) = signal {
        writeln!(f, "ended      early, by signal {signal}")?;
    }
    match by_error {
        true => writeln!(f, "ended      early, by an error"),
        false => Ok(()),
    }
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

impl InLines for Report<'_> {}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (result, subject) = (self.0, self.subject());
        writeln!(
            f,
            "fuzzed     {} with {} from seed {} in {}",
            subject.driver.name(),
            counted(result.cases, "case"),
            result.campaign.seed,
            time(result.elapsed_ns)
        )?;
        if let Some(shard) = result.shard() {
            writeln!(f, "shard      {shard} of the campaign")?;
        }
        if !subject.defects.is_empty() {
            let names = CaseDefect::names(&subject.defects);
            writeln!(f, "defects    {}", names.join(", "))?;
        }
        writeln!(
            f,
            "crashes    {} built, recovered and checked: {} a second and job, {}",
            counted(result.crash_images, "image"),
            grouped(result.crash_images_per_second_and_job as u64),
            counted(result.jobs as u64, "job")
        )?;
        tell_early_end(f, result.ended_by_signal, false)?;
        let blind = result.coverage.blind_spots();
        let blind: Vec<_> = blind.filter(|name| !cannot_come(name, subject)).collect();
        if !blind.is_empty() {
            // A result that was read may have names of its own.
            writeln!(f, "never came {}", OneLine(blind.join(", ")))?;
            writeln!(
                f,
                "           (counted, and zero in these cases: not tried. Some need more cases, some an option)"
            )?;
        }
        tell_count(f, result.findings.len(), result.cases_with_findings)?;
        for finding in &result.findings {
            self.tell(f, finding)?;
        }
        if result.findings.iter().any(|finding| finding.file.is_none()) {
            writeln!(
                f,
                "\nThe commands run these cases again; with --out DIR they are kept, and --repro tells \
                 their stories."
            )?;
        }
        Ok(())
    }
}

impl Report<'_> {
    fn tell(&self, f: &mut fmt::Formatter<'_>, finding: &FindingRecord) -> fmt::Result {
        let shrunk = match (finding.is_stuck, finding.is_untraced) {
            (true, _) => "not shrunk:",
            (false, true) => "not traced to defects, with",
            (false, false) => "shrunk to",
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
            Some(file) => writeln!(f, "    {}", repeating(file)),
            None => writeln!(f, "    {}", self.searching(finding)),
        }
    }
}
