//! What a campaign finds: shrunk and written down as it comes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::fuzz::campaign::{Finding, Recipient, Stop};
use crate::fuzz::case::Case;
use crate::fuzz::defect::CaseDefect;
use crate::fuzz::shrink::shrink_until;
use crate::fuzz::violation::Violation;

use super::super::output_file::OutputFile;
use super::super::{Failure, interrupt};
use super::report::FindingReport;

/// Shrinks findings and writes them down as they come: whatever ends the campaign, they are there.
pub(super) struct Keeper<'a> {
    directory: Option<&'a Path>,
    jobs: usize,
    bar: ProgressBar,
    kept: Vec<FindingReport>,
    /// How many findings have a name.
    names: BTreeMap<String, u64>,
    /// Why a finding could not be written.
    failure: Option<Failure>,
    /// There is such a reason: nothing more is to be found.
    pub(super) gave_up: Arc<AtomicBool>,
}

impl Recipient for Keeper<'_> {
    fn progress(&mut self, cases: u64) {
        self.bar.set_position(cases);
    }

    fn found(&mut self, findings: &[Finding], stop: &(dyn Fn() -> bool + Sync)) {
        for findings in findings.chunks(self.jobs.max(1)) {
            let shrunk: Vec<_> = std::thread::scope(|scope| {
                let shrinking = |finding: &'_ Finding| {
                    let (case, violation, seed) = (
                        finding.case.clone(),
                        finding.violation.clone(),
                        finding.seed,
                    );
                    let shrink = move || shrink_until(&case, &violation, seed, &stop);
                    std::thread::Builder::new().spawn_scoped(scope, shrink)
                };
                let shrinking: Vec<_> = findings.iter().map(shrinking).collect();
                let shrunk = shrinking.into_iter().zip(findings);
                shrunk
                    .map(|(started, finding)| match started {
                        Ok(thread) => thread.join(),
                        // Here, where there is no thread for it.
                        Err(_) => {
                            let (case, violation) = (&finding.case, &finding.violation);
                            Ok(shrink_until(case, violation, finding.seed, &stop))
                        }
                    })
                    .collect()
            });
            for (finding, shrunk) in findings.iter().zip(shrunk) {
                // Shrinking does not die of what it runs; if it does, the case stays as it is.
                let (case, violation) =
                    shrunk.unwrap_or((finding.case.clone(), finding.violation.clone()));
                self.keep(finding.seed, case, violation, false);
            }
        }
    }
}

impl<'a> Keeper<'a> {
    pub(super) fn new(directory: Option<&'a Path>, stop: Stop, jobs: usize) -> Keeper<'a> {
        Keeper {
            directory,
            jobs,
            bar: progress(stop),
            kept: Vec::new(),
            names: BTreeMap::new(),
            failure: None,
            gave_up: Arc::default(),
        }
    }

    pub(super) fn keep_stuck(&mut self, finding: &Finding) {
        let (case, violation) = (finding.case.clone(), finding.violation.clone());
        self.keep(finding.seed, case, violation, true);
    }

    fn keep(&mut self, seed: u64, case: Case, violation: Violation, is_stuck: bool) {
        let mut file = self.directory.map(|directory| {
            let mut named = CaseDefect::names(&case.defects);
            named.push(violation.kind.name().to_string());
            directory.join(self.another(named.join("-")) + ".json")
        });
        if let Some(name) = &file
            && let Err(failure) = write_case(name, &case)
        {
            file = None;
            self.failure.get_or_insert(failure);
            self.gave_up.store(true, Ordering::Relaxed);
        }
        self.kept.push(FindingReport {
            seed,
            defects: CaseDefect::names(&case.defects),
            violation,
            requests: case.requests(),
            file,
            case,
            is_stuck,
        });
    }

    /// This name, with the next number after it if it was used before.
    fn another(&mut self, name: String) -> String {
        let had = self.names.entry(name.clone()).or_default();
        *had += 1;
        match *had {
            1 => name,
            number => format!("{name}-{number}"),
        }
    }

    /// All findings, in the order of their seeds; and why one of them could not be written.
    pub(super) fn finish(mut self) -> (Vec<FindingReport>, Option<Failure>) {
        self.bar.finish_and_clear();
        self.kept.sort_by_key(|finding| finding.seed);
        (self.kept, self.failure)
    }
}

fn write_case(file: &Path, case: &Case) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(case).map_err(Failure::operation)?;
    OutputFile::create(file)?.write_whole(&(text + "\n"))
}

pub(super) fn progress(stop: Stop) -> ProgressBar {
    let (len, style) = match stop {
        Stop::Cases(cases) => (Some(cases), "{msg} {wide_bar} {pos}/{len}"),
        Stop::Duration(_) => (None, "{msg} {spinner} {pos} in {elapsed}"),
    };
    let bar = ProgressBar::with_draw_target(len, ProgressDrawTarget::stderr_with_hz(4));
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar.set_message("cases");
    interrupt::show(&bar);
    bar
}
