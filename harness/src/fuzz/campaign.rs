//! Many cases, on all cores: stop after so many, or after so long. With a number of cases the
//! result is the same with one job and with several, because cases are numbered and findings
//! are kept in the order of their numbers.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock;

use super::case::Case;
use super::coverage::Coverage;
use super::explore::{Explored, explore};
use super::generate::{Subject, generate};
use super::violation::{Kind, Violation};

/// When a campaign stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// After so many cases.
    Cases(u64),
    /// After so long; the number of cases depends on the machine then.
    Duration(Duration),
}

/// A campaign to be run.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// What is fuzzed.
    pub subject: Subject,
    /// The seed of case n is this plus n.
    pub seed: u64,
    /// When to stop.
    pub stop: Stop,
    /// Threads.
    pub jobs: usize,
}

/// A case that shows something wrong.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The seed of the case.
    pub seed: u64,
    /// The case, as far as it is needed.
    pub case: Case,
    /// What is wrong.
    pub violation: Violation,
}

/// What a campaign came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Cases run.
    pub cases: u64,
    /// Operations of simulated hosts.
    pub host_operations: u64,
    /// Crash images built, recovered and checked.
    pub crash_images: u64,
    /// The time it took.
    pub elapsed_ns: u64,
    /// What came up.
    pub coverage: Coverage,
    /// One finding of each kind, the earliest, in the order of their seeds.
    pub findings: Vec<Finding>,
    /// Cases with a finding.
    pub cases_with_findings: u64,
}

/// Runs a campaign. `progress` is told the number of cases every now and then.
pub fn run(campaign: &Campaign, progress: &(dyn Fn(u64) + Sync)) -> Outcome {
    let started = clock::start();
    let next = AtomicU64::new(0);
    let total = Mutex::new(Total::default());
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let over = match campaign.stop {
                Stop::Cases(cases) => number >= cases,
                Stop::Duration(duration) => started.elapsed() >= duration,
            };
            if over {
                return;
            }
            let seed = campaign.seed.wrapping_add(number);
            let explored = one(seed, &campaign.subject);
            let mut total = match total.lock() {
                Ok(total) => total,
                Err(poisoned) => poisoned.into_inner(),
            };
            total.add(seed, explored);
            if total.cases.is_multiple_of(256) {
                progress(total.cases);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..campaign.jobs.max(1) {
            scope.spawn(work);
        }
        work();
    });
    let total = match total.into_inner() {
        Ok(total) => total,
        Err(poisoned) => poisoned.into_inner(),
    };
    total.outcome(started.elapsed_ns())
}

/// Runs one case; a panic of what is fuzzed is a finding like any other.
pub fn one(seed: u64, subject: &Subject) -> Explored {
    let case = generate(seed, subject);
    let explored = catch_unwind(AssertUnwindSafe(|| explore(&case, seed, subject)));
    explored.unwrap_or_else(|panic| {
        let what = match panic.downcast_ref::<String>() {
            Some(message) => message.clone(),
            None => match panic.downcast_ref::<&str>() {
                Some(message) => (*message).to_string(),
                None => "a panic".to_string(),
            },
        };
        let violation = Violation::new(Kind::Died, "while running", what);
        Explored {
            finding: Some((Box::new(case), violation)),
            ..Explored::default()
        }
    })
}

#[derive(Default)]
struct Total {
    cases: u64,
    host_operations: u64,
    crash_images: u64,
    coverage: Coverage,
    cases_with_findings: u64,
    /// The earliest of each kind.
    findings: BTreeMap<Kind, Finding>,
}

impl Total {
    fn add(&mut self, seed: u64, explored: Explored) {
        self.cases += 1;
        self.host_operations += explored.host_operations;
        self.crash_images += explored.crash_images;
        self.coverage.merge(&explored.coverage);
        let Some((case, violation)) = explored.finding else {
            return;
        };
        self.cases_with_findings += 1;
        let finding = Finding {
            seed,
            case: *case,
            violation,
        };
        let kept = self.findings.get(&finding.violation.kind);
        if kept.is_none_or(|kept| seed < kept.seed) {
            self.findings.insert(finding.violation.kind, finding);
        }
    }

    fn outcome(self, elapsed_ns: u64) -> Outcome {
        let mut findings: Vec<Finding> = self.findings.into_values().collect();
        findings.sort_by_key(|finding| finding.seed);
        Outcome {
            cases: self.cases,
            host_operations: self.host_operations,
            crash_images: self.crash_images,
            elapsed_ns,
            coverage: self.coverage,
            findings,
            cases_with_findings: self.cases_with_findings,
        }
    }
}
