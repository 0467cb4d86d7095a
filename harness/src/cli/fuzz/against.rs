//! `ubdlab fuzz --driver kernel --against MODEL`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use driver::OneLine;
use serde::Serialize;

use crate::figures::counted;
use crate::fuzz::case::DriverName;
use crate::kernel::against::Difference;
use crate::kernel::against::campaign::{Found, Outcome, run};
use crate::kernel::against::difference::check_model;
use crate::kernel::campaign::Campaign;
use crate::report::{DifferencesPage, ToldDifference, differences_page};

use super::super::interrupt::{self, Interrupt};
use super::super::output::{self, InLines};
use super::super::output_file::OutputFile;
use super::super::own_files::OwnFiles;
use super::super::page::PageFile;
use super::super::{Failure, Verdict, wrong_usage};
use super::Args;
use super::keeper::progress;
use super::kernel::prepare;
use super::report::{repeating, tell_early_end, tell_lived};

/// Runs the campaign.
pub(super) fn search(args: &Args, against: DriverName, own: &OwnFiles) -> Result<Verdict, Failure> {
    if let Err(why) = check_model(against) {
        return Ok(wrong_usage(format!("--against: {why}")));
    }
    let page = PageFile::begin(args.report.as_deref(), None)?;
    let prepared = prepare(args)?;
    let campaign = &prepared.campaign;
    let interrupt = Interrupt::catch();
    let is_asked = Arc::new(move || interrupt.is_asked());
    let bar = progress(campaign.stop);
    let (mut files, mut failure) = (Vec::new(), None);
    let (outcome, ended) = run(campaign, against, is_asked, &mut |cases, found| {
        bar.set_position(cases);
        let Some(found) = found else {
            return;
        };
        let written = args.out.as_deref();
        let written = written.map(|directory| write(directory, found, own));
        files.push(match written.transpose() {
            Ok(file) => file,
            Err(error) => {
                failure.get_or_insert(error);
                None
            }
        });
    });
    bar.finish_and_clear();
    let ended = ended.map_err(Failure::operation);
    if outcome.cases == 0 && ended.is_err() {
        return ended.map(|()| Verdict::Good);
    }
    let report = Report {
        ended_by_error: ended.as_ref().err().map(|failure| failure.0.clone()),
        ..Report::of(against, campaign.seed, &outcome, &files)
    };
    match args.json {
        true => output::json(&report)?,
        false => output::lines(&report),
    }
    page.write(|| {
        let page = page_of(against, campaign, &outcome, &files)?;
        Ok(differences_page(&page))
    })?;
    // What was found has been told by now.
    failure.map_or(Ok(()), Err)?;
    ended?;
    Ok(
        match (interrupt::signal(), outcome.differences.is_empty()) {
            (Some(signal), _) => Verdict::EndedBySignal(signal),
            (None, true) => Verdict::Good,
            (None, false) => Verdict::ViolationFound,
        },
    )
}

/// Writes a difference into the directory for findings.
fn write(directory: &Path, found: &Found, own: &OwnFiles) -> Result<PathBuf, Failure> {
    let file = directory.join(format!("kernel-difference-{}.json", found.seed));
    own.check_made(&file).map_err(Failure)?;
    let text = serde_json::to_string(&found.file).map_err(Failure::operation)?;
    OutputFile::create(&file)?.write_whole(&(text + "\n"))?;
    Ok(file)
}

fn page_of(
    against: DriverName,
    campaign: &Campaign,
    outcome: &Outcome,
    files: &[Option<PathBuf>],
) -> Result<DifferencesPage, Failure> {
    let told = |(found, file): (&Found, &Option<PathBuf>)| {
        let (_, told) = found.file.tell().map_err(Failure::operation)?;
        Ok(ToldDifference {
            name: format!("seed {}", found.seed),
            command: file.as_deref().map(repeating),
            told,
        })
    };
    let cut_short = outcome.cut_short.iter();
    let differences = outcome.differences.iter().zip(files);
    Ok(DifferencesPage {
        kernel: outcome.kernel.clone(),
        model: against.name().to_owned(),
        seed: campaign.seed,
        cases: outcome.cases,
        requests: outcome.requests,
        host_operations: outcome.host_operations,
        sectors_read: outcome.sectors_read,
        misheard: outcome.misheard,
        elapsed_ns: outcome.elapsed_ns,
        cut_short: cut_short
            .map(|(why, cases)| ((*why).to_owned(), *cases))
            .collect(),
        differences: differences.map(told).collect::<Result<_, Failure>>()?,
    })
}

/// What a campaign came to.
#[derive(Serialize)]
struct Report {
    driver: &'static str,
    against: &'static str,
    kernel: String,
    seed: u64,
    cases: u64,
    boots: u64,
    /// What has agreed.
    requests: u64,
    host_operations: u64,
    sectors_read: u64,
    /// Errors of the host that the kernel has heard as others, or as none.
    misheard: u64,
    elapsed_ns: u64,
    /// Why cases were not compared to their ends, and how many.
    cut_short: BTreeMap<&'static str, u64>,
    cases_with_differences: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_by_signal: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_by_error: Option<String>,
    differences: Vec<DifferenceReport>,
}

#[derive(Serialize)]
struct DifferenceReport {
    seed: u64,
    #[serde(flatten)]
    difference: Difference,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
}

impl Report {
    fn of(against: DriverName, seed: u64, outcome: &Outcome, files: &[Option<PathBuf>]) -> Report {
        let differences = outcome.differences.iter().zip(files);
        let differences = differences.map(|(found, file)| DifferenceReport {
            seed: found.seed,
            difference: found.file.difference.clone(),
            file: file.clone(),
        });
        Report {
            driver: "kernel",
            against: against.name(),
            kernel: outcome.kernel.clone(),
            seed,
            cases: outcome.cases,
            boots: outcome.boots,
            requests: outcome.requests,
            host_operations: outcome.host_operations,
            sectors_read: outcome.sectors_read,
            misheard: outcome.misheard,
            elapsed_ns: outcome.elapsed_ns,
            cut_short: outcome.cut_short.clone(),
            cases_with_differences: outcome.cases_with_differences,
            ended_by_signal: interrupt::signal(),
            ended_by_error: None,
            differences: differences.collect(),
        }
    }
}

impl InLines for Report {}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "fuzzed     {}", OneLine(&self.kernel))?;
        writeln!(f, "against    the model {}", self.against)?;
        tell_lived(f, self.cases, self.seed, self.elapsed_ns, self.boots)?;
        writeln!(
            f,
            "agreed     {}, {}, {} read",
            counted(self.requests, "request"),
            counted(self.host_operations, "host operation"),
            counted(self.sectors_read, "sector")
        )?;
        if self.misheard > 0 {
            let errors = counted(self.misheard, "error");
            writeln!(
                f,
                "misheard   {errors} of the host, as others or as none (shared-errno)"
            )?;
        }
        for (why, cases) in &self.cut_short {
            let cases = counted(*cases, "case");
            writeln!(f, "cut short  {cases}: {why}")?;
        }
        tell_early_end(f, self.ended_by_signal, self.ended_by_error.is_some())?;
        match self.differences.len() {
            0 => writeln!(f, "found      no difference")?,
            found => writeln!(
                f,
                "found      {}, in {}",
                counted(found as u64, "difference"),
                counted(self.cases_with_differences, "case")
            )?,
        }
        for DifferenceReport {
            seed,
            difference,
            file,
        } in &self.differences
        {
            writeln!(f, "\n  seed {seed}, witnessed[{}]", difference.at)?;
            writeln!(f, "    the kernel {}", OneLine(&difference.kernel))?;
            writeln!(f, "    the model {}", OneLine(&difference.model))?;
            if let Some(file) = file {
                writeln!(f, "    {}", repeating(file))?;
            }
        }
        if self.differences.iter().any(|found| found.file.is_none()) {
            writeln!(
                f,
                "\nWith --out DIR differences are kept, each with its recording, and --repro tells \
                 their stories."
            )?;
        }
        Ok(())
    }
}
