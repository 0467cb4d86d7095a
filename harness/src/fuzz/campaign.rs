//! Many cases, on all cores, until a number of cases or a time is reached. Cases have numbers, and
//! what each of them shows depends on nothing else: so the result is the same with one job and with
//! several, in one piece and in shards, in one sitting and in several.
//!
//! `workers` are the threads, to which a `dealer` deals out cases; `chain` runs one of them and
//! `total` adds up. A [`result`] is a document, which [`merge`] adds to others; what a
//! [`checkpoint`] holds of a campaign is enough to go on from there.

mod chain;
pub mod checkpoint;
mod dealer;
mod earliest;
mod fingerprint;
pub mod finished;
pub mod identity;
pub mod merge;
pub mod record;
pub mod result;
mod sums;
mod total;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{self, Started};
use crate::shard::Shard;
use crate::shard::merge::add_up;

use super::coverage::Coverage;
use super::explore::{Explored, explore_watched};
use super::generate::generate;
use super::guard::guarded;
use super::parts::{Unwatched, Watch};
use super::subject::Subject;
use super::violation::{Kind, Violation};

use chain::{Chain, Known, Links};
use dealer::Dealer;
use total::Total;
use workers::{Event, RunOne, Workers};

pub use super::finding::{Finding, Key, StopSign};
pub use sums::Sums;
pub use total::State;
pub use workers::NoThread;

/// When a campaign stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// After this number of cases, of all shards together.
    Cases(u64),
    /// After this time; the number of cases then depends on the machine.
    Duration(Duration),
}

impl Stop {
    /// Whether the time is up, `elapsed_ns` nanoseconds after the start.
    fn is_time_up(self, elapsed_ns: u64) -> bool {
        matches!(self, Stop::Duration(time) if Duration::from_nanos(elapsed_ns) >= time)
    }
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
    /// What is run of it.
    pub shard: Shard,
    /// Threads.
    pub jobs: usize,
    /// Whether findings are made small.
    pub shrinks: bool,
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
    /// The time it took, in all sittings.
    pub elapsed_ns: u64,
    /// Likewise, of all threads together.
    pub job_ns: u64,
    /// What came up.
    pub coverage: Coverage,
    /// The earliest finding of each cause and of each set of defects that it was traced to, in the
    /// order of their cases.
    pub findings: Vec<Finding>,
    /// Cases with a finding.
    pub cases_with_findings: u64,
}

/// Receives the progress and the findings of a campaign while it runs.
pub trait Recipient {
    /// `cases` cases are finished.
    fn progress(&mut self, cases: u64);

    /// Gets findings of new things, in the order of their cases, as soon as no earlier one can
    /// come.
    fn found(&mut self, findings: &[Finding]);

    /// Gets, at the end, the findings of which an earlier one could still come, or that were cut
    /// off. If the campaign was ended early, it `goes_on` from its state, and then has these or
    /// earlier ones.
    fn others(&mut self, findings: &[Finding], goes_on: bool);

    /// Every now and then: the campaign is in this state, from which it can go on. `is_last` says
    /// that this sitting has come to its end.
    fn may_keep(&mut self, is_last: bool, state: &dyn Fn() -> State);
}

impl Campaign {
    /// A whole campaign of this number of cases, whose findings are left as they are.
    pub fn of_cases(subject: Subject, seed: u64, cases: u64, jobs: usize) -> Campaign {
        Campaign {
            subject,
            seed,
            stop: Stop::Cases(cases),
            shard: Shard::WHOLE,
            jobs,
            shrinks: false,
        }
    }

    /// The most cases that are run here.
    pub fn cases_of_shard(&self) -> u64 {
        match self.stop {
            Stop::Cases(cases) => self.shard.share_of(cases),
            Stop::Duration(_) => self.shard.share_of(u64::MAX),
        }
    }
}

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

        fn found(&mut self, _: &[Finding]) {}

        fn others(&mut self, _: &[Finding], _: bool) {}

        fn may_keep(&mut self, _: bool, _: &dyn Fn() -> State) {}
    }
    run_from(
        campaign,
        State::default(),
        Arc::new(|| false),
        &mut Quiet(progress),
    )
}

/// The time that a campaign has taken so far.
struct Time {
    started: Started,
    /// In earlier sittings, by the clock and of all threads together.
    before: (u64, u64),
    /// Threads that were started.
    jobs: u64,
}

impl Time {
    fn so_far(&self) -> (u64, u64) {
        let now = self.started.elapsed_ns();
        let (mut elapsed, mut of_jobs) = self.before;
        add_up(&mut elapsed, now);
        add_up(&mut of_jobs, now.saturating_mul(self.jobs));
        (elapsed, of_jobs)
    }
}

/// Goes on with a campaign from a state of it, until it is finished or `stop` says so. The outcome
/// then covers what was looked at until then.
///
/// # Errors
/// See [`NoThread`]; `recipient` has been told what was found before.
pub fn run_from(
    campaign: &Campaign,
    mut state: State,
    stop: StopSign,
    recipient: &mut dyn Recipient,
) -> Result<CampaignOutcome, NoThread> {
    let mut time = Time {
        started: clock::start(),
        before: (state.elapsed_ns, state.job_ns),
        jobs: 0,
    };
    if !campaign.stop.is_time_up(state.elapsed_ns) {
        // What was cut off is run once more.
        state.cut_off = None;
    }
    let ended_early = Arc::clone(&stop);
    let stop = match campaign.stop {
        Stop::Cases(_) => stop,
        Stop::Duration(duration) => {
            let left = duration.saturating_sub(Duration::from_nanos(state.elapsed_ns));
            let started = time.started;
            Arc::new(move || stop() || started.elapsed() >= left)
        }
    };
    let mut total = Total::of(campaign.shard, state);
    let dealer = Arc::new(Dealer::of(total.finished(), campaign.cases_of_shard()));
    recipient.found(&total.certain());
    recipient.progress(total.finished().count());
    let workers = Workers {
        dealer: Arc::clone(&dealer),
        stop,
        run: run_of(campaign, &total),
    };
    let stuck = workers.work(campaign.jobs, &mut |event| {
        match event {
            Event::Started(threads) => time.jobs = threads,
            Event::Quiet => {}
            Event::Done(index, chain) => {
                let new = total.add(index, chain);
                dealer.pass(total.finished().frontier());
                if !new.is_empty() {
                    recipient.found(&new);
                }
                recipient.progress(total.finished().count());
            }
        }
        let (elapsed, of_jobs) = time.so_far();
        recipient.may_keep(false, &|| total.state(elapsed, of_jobs, false));
    })?;
    let (elapsed_ns, job_ns) = time.so_far();
    let is_time_up = campaign.stop.is_time_up(elapsed_ns);
    let goes_on = ended_early() && !is_time_up && stuck.is_none();
    let mut others = total.others();
    if let Some(index) = stuck {
        let number = campaign.shard.case_at(index);
        let seed = campaign.seed.wrapping_add(number);
        others.push(self::stuck(number, seed, &campaign.subject));
    }
    recipient.others(&others, goes_on);
    recipient.may_keep(true, &|| total.state(elapsed_ns, job_ns, is_time_up));
    let findings = total.certain().into_iter().chain(others).collect();
    let cases = total.finished().count();
    let sums = total.all_sums();
    Ok(CampaignOutcome {
        cases,
        host_operations: sums.host_operations,
        crash_images: sums.crash_images,
        elapsed_ns,
        job_ns,
        coverage: sums.coverage,
        findings: earliest::in_order(findings),
        cases_with_findings: sums.cases_with_findings,
    })
}

/// What runs the case at an index of the shard.
fn run_of(campaign: &Campaign, total: &Total) -> Box<RunOne<Chain>> {
    let (shard, seed) = (campaign.shard, campaign.seed);
    let links = Links {
        subject: campaign.subject.clone(),
        shrinks: campaign.shrinks,
        known: Known::of(total.findings()),
    };
    Box::new(move |index, watch| {
        let number = shard.case_at(index);
        links.run(number, seed.wrapping_add(number), watch)
    })
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
fn stuck(number: u64, seed: u64, subject: &Subject) -> Finding {
    let what = "the case neither ends nor asks anything of its host any more";
    let violation = Violation::new(Kind::DoesNotEnd, "while running", what);
    let mut case = generate(seed, subject);
    case.found = Some(violation.clone());
    Finding {
        number,
        seed,
        switched_off: Vec::new(),
        traced_to: subject.defects.clone(),
        case,
        violation,
        is_stuck: true,
        is_untraced: false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::case::DriverName;
    use super::*;

    #[test]
    fn the_time_of_threads_is_that_of_those_that_were_started() {
        let subject = Subject::healthy(DriverName::Ordered);
        let outcome = run(&Campaign::of_cases(subject, 1, 1, 64), &|_| {}).unwrap();
        assert_eq!(outcome.job_ns, outcome.elapsed_ns);
    }
}
