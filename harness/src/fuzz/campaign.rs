//! Many cases, on all cores, until a number of cases or a time is reached. With a number of cases
//! the result is the same with one job and with several, because cases are numbered and findings
//! are kept in the order of their numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock;

use super::coverage::Coverage;
use super::defect::CaseDefect;
use super::explore::{Explored, explore_watched};
use super::generate::generate;
use super::guard::guarded;
use super::parts::{Unwatched, Watch};
use super::round::{Round, Workers};
use super::shrink::with_needed_defects;
use super::subject::Subject;
use super::violation::{Cause, Kind, Violation};

pub use super::finding::{Finding, StopSign};
pub use super::round::NoThread;

/// When a campaign stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// After this number of cases.
    Cases(u64),
    /// After this time; the number of cases then depends on the machine.
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

/// What a campaign came to.
#[derive(Clone, Debug, Default)]
pub struct CampaignOutcome {
    /// Cases run, to their end.
    pub cases: u64,
    /// Operations of simulated hosts.
    pub host_operations: u64,
    /// Crash images built, recovered and checked. Those that are what the kill at the same crash
    /// point has left, to the last byte, count like others, and are recovered once.
    pub crash_images: u64,
    /// The time it took.
    pub elapsed_ns: u64,
    /// What came up.
    pub coverage: Coverage,
    /// The earliest finding of each cause and of each set of defects that it needs, in the order
    /// of their seeds.
    pub findings: Vec<Finding>,
    /// Cases with a finding.
    pub cases_with_findings: u64,
    /// A case that gave no sign any more, with what is wrong with that: the campaign ended there.
    pub stuck: Option<Finding>,
}

/// Receives the progress and the findings of a campaign while it runs.
pub trait Recipient {
    /// `cases` cases have been begun.
    fn progress(&mut self, cases: u64);

    /// Gets findings of new causes, in the order of their seeds, as soon as they are known. `stop`
    /// says whether the campaign is to come to its end, and this with it.
    fn found(&mut self, findings: &[Finding], stop: &(dyn Fn() -> bool + Sync));
}

/// Cases between two looks at what was found.
const ROUND: u64 = 128;

/// Runs a campaign. `progress` is told the number of cases every now and then.
///
/// # Errors
/// See [`NoThread`].
pub fn run(campaign: &Campaign, progress: &dyn Fn(u64)) -> Result<CampaignOutcome, NoThread> {
    struct Quiet<'a>(&'a dyn Fn(u64));
    impl Recipient for Quiet<'_> {
        fn progress(&mut self, cases: u64) {
            (self.0)(cases);
        }

        fn found(&mut self, _: &[Finding], _: &(dyn Fn() -> bool + Sync)) {}
    }
    let never = std::sync::Arc::new(|| false);
    run_until(campaign, never, &mut Quiet(progress))
}

/// Runs a campaign that may be stopped. The outcome then covers what was looked at until then.
///
/// A driver with many defects shows the coarsest in almost every case. So after each round
/// the findings are traced to the defects that they need, and those are switched off for the
/// rest of the campaign. Then the finer ones show, which the coarse ones had hidden.
///
/// # Errors
/// See [`NoThread`]; `recipient` has been told what was found before.
pub fn run_until(
    campaign: &Campaign,
    stop: StopSign,
    recipient: &mut dyn Recipient,
) -> Result<CampaignOutcome, NoThread> {
    let started = clock::start();
    let stop: StopSign = match campaign.stop {
        Stop::Cases(_) => stop,
        Stop::Duration(duration) => {
            std::sync::Arc::new(move || stop() || started.elapsed() >= duration)
        }
    };
    let mut subject = campaign.subject.clone();
    let mut total = Total::default();
    let mut begun = 0;
    while !stop() && total.stuck.is_none() {
        let cases = match campaign.stop {
            Stop::Cases(cases) => ROUND.min(cases - begun),
            Stop::Duration(_) => ROUND,
        };
        if cases == 0 {
            break;
        }
        let first = campaign.seed.wrapping_add(begun);
        let workers = Workers {
            first,
            cases,
            subject: subject.clone(),
            stop: stop.clone(),
            run: one_watched,
        };
        let round = workers.work(campaign.jobs)?;
        begun += cases;
        let new = total.add_round(round, &mut subject, &*stop);
        recipient.found(&new, &*stop);
        recipient.progress(begun);
    }
    Ok(total.outcome(started.elapsed_ns()))
}

/// [`Finding`] with only those defects that its violation needs, as far as is found until `stop`
/// says so: without any one of those left, it does not show.
fn trace(finding: &mut Finding, stop: &dyn Fn() -> bool) {
    (finding.case, finding.violation) =
        with_needed_defects(&finding.case, &finding.violation, finding.seed, stop);
}

/// Runs one case; a panic of what is fuzzed is a finding like any other.
pub fn one(seed: u64, subject: &Subject) -> Explored {
    one_watched(seed, subject, &mut Unwatched)
}

/// [`one`] while a watcher looks on, who may cut it off.
pub(super) fn one_watched(seed: u64, subject: &Subject, watch: &mut dyn Watch) -> Explored {
    let case = generate(seed, subject);
    let explored = guarded("while running", || {
        Ok::<_, Violation>(explore_watched(&case, seed, subject, watch))
    });
    explored.unwrap_or_else(|violation| Explored {
        finding: Some((Box::new(case), violation)),
        ..Explored::default()
    })
}

/// The finding that the case of this seed gives no sign any more.
fn stuck(seed: u64, subject: &Subject) -> Finding {
    let what = "the case neither ends nor asks anything of its host any more";
    let violation = Violation::new(Kind::DoesNotEnd, "while running", what);
    let mut case = generate(seed, subject);
    case.found = Some(violation.clone());
    Finding {
        seed,
        case,
        violation,
    }
}

#[derive(Default)]
struct Total {
    sum: Round,
    /// The earliest of each cause and of each set of defects that it needs.
    findings: BTreeMap<(Cause, Vec<CaseDefect>), Finding>,
    stuck: Option<Finding>,
}

impl Total {
    /// Adds a round; the findings in it that are new.
    fn add_round(
        &mut self,
        round: Round,
        subject: &mut Subject,
        stop: &dyn Fn() -> bool,
    ) -> Vec<Finding> {
        self.sum.cases += round.cases;
        self.sum.host_operations += round.host_operations;
        self.sum.crash_images += round.crash_images;
        self.sum.coverage.merge(&round.coverage);
        self.sum.cases_with_findings += round.cases_with_findings;
        self.stuck = round.stuck.map(|seed| stuck(seed, subject));
        let mut new = Vec::new();
        for (cause, mut finding) in round.findings {
            trace(&mut finding, stop);
            let needed = finding.case.defects.clone();
            // What needs two of them may be the only sight of one so far: both stay on.
            if let [only] = &needed[..] {
                subject.defects.retain(|defect| defect != only);
            }
            let entry = self.findings.entry((cause, needed));
            if let std::collections::btree_map::Entry::Vacant(entry) = entry {
                new.push(entry.insert(finding).clone());
            }
        }
        new.sort_by_key(|finding| finding.seed);
        new
    }

    fn outcome(self, elapsed_ns: u64) -> CampaignOutcome {
        let mut findings: Vec<Finding> = self.findings.into_values().collect();
        findings.sort_by_key(|finding| finding.seed);
        CampaignOutcome {
            cases: self.sum.cases,
            host_operations: self.sum.host_operations,
            crash_images: self.sum.crash_images,
            elapsed_ns,
            coverage: self.sum.coverage,
            findings,
            cases_with_findings: self.sum.cases_with_findings,
            stuck: self.stuck,
        }
    }
}
