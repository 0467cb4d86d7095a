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
use super::explore::{Explored, explore, run_exactly};
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
    /// The earliest finding of each kind and of each set of defects that it needs, in the order
    /// of their seeds.
    pub findings: Vec<Finding>,
    /// Cases with a finding.
    pub cases_with_findings: u64,
}

/// Cases between two looks at what was found.
const ROUND: u64 = 128;

/// Runs a campaign. `progress` is told the number of cases every now and then.
///
/// A driver with many defects shows the coarsest in almost every case. So after each round
/// the findings are traced to the defects that they need, and those are switched off for the
/// rest of the campaign: behind them the finer ones show.
pub fn run(campaign: &Campaign, progress: &(dyn Fn(u64) + Sync)) -> Outcome {
    let started = clock::start();
    let mut subject = campaign.subject.clone();
    let mut total = Total::default();
    let mut begun = 0;
    loop {
        let cases = match campaign.stop {
            Stop::Cases(cases) => ROUND.min(cases - begun),
            Stop::Duration(duration) if started.elapsed() >= duration => 0,
            Stop::Duration(_) => ROUND,
        };
        if cases == 0 {
            break;
        }
        let first = campaign.seed.wrapping_add(begun);
        let round = run_round(first, cases, &subject, campaign.jobs);
        begun += cases;
        total.add_round(round, &mut subject);
        progress(begun);
    }
    total.outcome(started.elapsed_ns())
}

/// Runs so many cases from this seed on, on so many threads.
fn run_round(first: u64, cases: u64, subject: &Subject, jobs: usize) -> Round {
    let next = AtomicU64::new(0);
    let round = Mutex::new(Round::default());
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= cases {
                return;
            }
            let seed = first.wrapping_add(number);
            let explored = one(seed, subject);
            match round.lock() {
                Ok(mut round) => round.add(seed, explored),
                Err(poisoned) => poisoned.into_inner().add(seed, explored),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs.max(1) {
            scope.spawn(work);
        }
        work();
    });
    match round.into_inner() {
        Ok(round) => round,
        Err(poisoned) => poisoned.into_inner(),
    }
}

/// The same case with only those defects that its violation needs.
fn trace(case: &Case, violation: &Violation) -> Case {
    let mut traced = case.clone();
    let shows = |case: &Case| {
        let ran = catch_unwind(AssertUnwindSafe(|| run_exactly(case)));
        matches!(ran, Ok(Err(found)) if found.kind == violation.kind)
    };
    for defect in &case.defects {
        let mut without = traced.clone();
        without.defects.retain(|other| other != defect);
        if shows(&without) {
            traced = without;
        }
    }
    traced
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

/// What a round came to.
#[derive(Default)]
struct Round {
    cases: u64,
    host_operations: u64,
    crash_images: u64,
    coverage: Coverage,
    cases_with_findings: u64,
    /// The earliest of each kind.
    findings: BTreeMap<Kind, Finding>,
}

impl Round {
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
}

#[derive(Default)]
struct Total {
    sum: Round,
    /// The earliest of each kind and of each set of defects that it needs.
    findings: BTreeMap<(Kind, Vec<String>), Finding>,
}

impl Total {
    fn add_round(&mut self, round: Round, subject: &mut Subject) {
        self.sum.cases += round.cases;
        self.sum.host_operations += round.host_operations;
        self.sum.crash_images += round.crash_images;
        self.sum.coverage.merge(&round.coverage);
        self.sum.cases_with_findings += round.cases_with_findings;
        for (kind, mut finding) in round.findings {
            finding.case = trace(&finding.case, &finding.violation);
            let needed = finding.case.defects.clone();
            // What needs two of them may be the only sight of one so far: both stay on.
            if let [only] = &needed[..] {
                subject.defects.retain(|defect| defect != only);
            }
            self.findings.entry((kind, needed)).or_insert(finding);
        }
    }

    fn outcome(self, elapsed_ns: u64) -> Outcome {
        let mut findings: Vec<Finding> = self.findings.into_values().collect();
        findings.sort_by_key(|finding| finding.seed);
        Outcome {
            cases: self.sum.cases,
            host_operations: self.sum.host_operations,
            crash_images: self.sum.crash_images,
            elapsed_ns,
            coverage: self.sum.coverage,
            findings,
            cases_with_findings: self.sum.cases_with_findings,
        }
    }
}
