//! Many cases on the kernel. One thread has the laboratory and records; another judges what was
//! recorded, in the order of the cases.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Sender, bounded};
use driver::linux::Defect;

use crate::clock;
use crate::fuzz::campaign::{Stop, StopSign};
use crate::fuzz::case::Case;
use crate::fuzz::explore::Search;
use crate::fuzz::recorded::{Recording, Witnessed};
use crate::fuzz::violation::{Kind, Violation};
use crate::fuzz::world::Mending;
use crate::sim::Assumptions;

use super::CannotFuzz;
use super::case::{case_of, longest_request};
use super::finding::Finding;
use super::laboratory::{Laboratory, Programs};
use super::naming::{explain, mend};

/// Recordings that wait to be judged.
const MOST_WAITING: usize = 4;

/// A campaign to be run.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The seed of case n is this plus n.
    pub seed: u64,
    /// When to stop.
    pub stop: Stop,
    /// Whether the host may fail.
    pub faults: bool,
    /// What is assumed of the host.
    pub assumptions: Assumptions,
    /// What it takes.
    pub programs: Programs,
    /// An empty directory.
    pub directory: PathBuf,
}

/// What a campaign came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The kernel, in its own words.
    pub kernel: String,
    /// Cases lived and judged.
    pub cases: u64,
    /// How often the kernel was booted.
    pub boots: u64,
    /// What the kernel asked of its host.
    pub host_operations: u64,
    /// Crash images built and checked.
    pub crash_images: u64,
    /// The time it took.
    pub elapsed_ns: u64,
    /// Cases with a finding.
    pub cases_with_findings: u64,
    /// The earliest finding of each kind and of each set of defects that explain it.
    pub findings: Vec<Finding>,
}

/// A recorded case.
struct Recorded {
    seed: u64,
    case: Case,
    recording: Recording,
}

/// Runs a campaign. `recipient` gets each finding, and the number of cases so far.
///
/// # Errors
/// What keeps the kernel from being fuzzed.
pub fn run(
    campaign: &Campaign,
    stop: StopSign,
    recipient: &mut dyn FnMut(u64, Option<&Finding>),
) -> Result<Outcome, CannotFuzz> {
    let started = clock::start();
    let ended = Arc::new(AtomicBool::new(false));
    let stop: StopSign = {
        let (ended, until) = (Arc::clone(&ended), campaign.stop);
        Arc::new(move || {
            let is_over = matches!(until, Stop::Duration(time) if started.elapsed() >= time);
            stop() || is_over || ended.load(Ordering::Relaxed)
        })
    };
    let mut judge = Judge::default();
    let (records, recorded) = bounded(MOST_WAITING);
    let boots = std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("kernel-laboratory".into());
        let stop = Arc::clone(&stop);
        let recording = builder.spawn_scoped(scope, move || record(campaign, &stop, &records));
        let recording = recording.map_err(|error| CannotFuzz::File {
            path: "a thread".into(),
            error,
        })?;
        let mut judged = Ok(());
        for recorded in recorded {
            judged = judge.add(recorded, recipient);
            if judged.is_err() {
                ended.store(true, Ordering::Relaxed);
                break;
            }
        }
        let boots = recording.join();
        let boots = boots.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        judged.and(boots)
    })?;
    judge.outcome.boots = boots;
    judge.outcome.elapsed_ns = started.elapsed_ns();
    Ok(judge.outcome)
}

/// Has the cases lived by the kernel; how often it was booted.
fn record(
    campaign: &Campaign,
    stop: &StopSign,
    records: &Sender<Recorded>,
) -> Result<u64, CannotFuzz> {
    let (directory, programs) = (&campaign.directory, &campaign.programs);
    let mut laboratory = Laboratory::open(directory, programs, Arc::clone(stop))?;
    let most = match campaign.stop {
        Stop::Cases(cases) => cases,
        Stop::Duration(_) => u64::MAX,
    };
    for number in 0..most {
        if stop() {
            break;
        }
        let seed = campaign.seed.wrapping_add(number);
        let case = case_of(seed, campaign.faults, campaign.assumptions);
        let recording = match laboratory.live(&case, longest_request(seed)) {
            Ok(recording) => recording,
            Err(CannotFuzz::Stopped) => break,
            Err(error) => return Err(error),
        };
        let recorded = Recorded {
            seed,
            case,
            recording,
        };
        if records.send(recorded).is_err() {
            break;
        }
    }
    Ok(laboratory.boots)
}

/// Who judges, and what was found so far.
#[derive(Default)]
struct Judge {
    outcome: Outcome,
    /// What recordings are mended of: what has been found already would hide the rest.
    mending: Mending,
    known: BTreeSet<(Kind, Vec<Defect>)>,
}

impl Judge {
    fn add(
        &mut self,
        recorded: Recorded,
        recipient: &mut dyn FnMut(u64, Option<&Finding>),
    ) -> Result<(), CannotFuzz> {
        let Recorded {
            seed,
            case,
            recording,
        } = recorded;
        let wrong = |error| CannotFuzz::Recording { seed, error };
        let is_host = |it: &&Witnessed| matches!(it, Witnessed::Host(_));
        let asked = recording.witnessed.iter().filter(is_host).count();
        self.outcome.cases += 1;
        self.outcome.host_operations += asked as u64;
        self.outcome.kernel.clone_from(&recording.kernel);
        let mut has_finding = false;
        loop {
            let mending = self.mending;
            let explored = Search::for_anything(seed).of_recorded(&case, &recording, mending);
            let explored = explored.map_err(wrong)?;
            self.outcome.crash_images += explored.crash_images;
            let Some((found, violation)) = explored.finding else {
                break;
            };
            has_finding = true;
            let explained = explain(&case, &recording, &violation, mending, seed);
            let explained = explained.map_err(wrong)?;
            let defects = explained.defects();
            self.mending = defects
                .iter()
                .fold(mending, |mending, it| mend(mending, *it));
            let key = (violation.kind, defects);
            if self.known.insert(key) {
                let mut case = *found;
                case.found = Some(violation.clone());
                let finding = Finding {
                    seed,
                    case,
                    recording: recording.clone(),
                    mending,
                    explained,
                    violation: without_content(violation),
                };
                recipient(self.outcome.cases, Some(&finding));
                self.outcome.findings.push(finding);
            }
            // What is not mended shows again.
            if self.mending == mending {
                break;
            }
        }
        self.outcome.cases_with_findings += u64::from(has_finding);
        recipient(self.outcome.cases, None);
        Ok(())
    }
}

/// As a file has it.
fn without_content(violation: Violation) -> Violation {
    Violation {
        shown: None,
        ..violation
    }
}
