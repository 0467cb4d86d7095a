//! Many cases on the kernel. One thread has the laboratory and records; another judges what was
//! recorded, in the order of the cases.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use driver::linux::Defect;

use crate::clock;
use crate::fuzz::campaign::{Stop, StopSign};
use crate::fuzz::case::Case;
use crate::fuzz::explore::Search;
use crate::fuzz::recorded::{Recording, Witnessed};
use crate::fuzz::violation::{Cause, Kind, Violation};
use crate::fuzz::world::Mending;
use crate::sim::Assumptions;

use super::CannotFuzz;
use super::case::{case_of, longest_request, with_a_kill};
use super::faults_met::FaultsMet;
use super::finding::Finding;
use super::laboratory::{Laboratory, Programs};
use super::naming::{Explained, explain, mend};
use super::smaller::make_smaller;
use super::thread;

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
    /// What the host has failed in.
    pub faults_met: FaultsMet,
    /// Crash images built and checked.
    pub crash_images: u64,
    /// The time it took.
    pub elapsed_ns: u64,
    /// Cases with a finding.
    pub cases_with_findings: u64,
    /// The earliest finding of each kind and of each set of defects that explain it. Of those that
    /// none explains, the earliest of each cause.
    pub findings: Vec<Finding>,
}

/// A recorded case.
struct Recorded {
    seed: u64,
    case: Case,
    recordings: Vec<Recording>,
}

/// Runs a campaign. `recipient` gets each finding, made small, and the number of cases so far. What
/// it came to, and what has kept the kernel from being fuzzed further.
pub fn run(
    campaign: &Campaign,
    stop: StopSign,
    recipient: &mut dyn FnMut(u64, Option<&Finding>),
) -> (Outcome, Result<(), CannotFuzz>) {
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
    let (large, to_shrink) = unbounded();
    let (shrunk, small) = unbounded();
    let worked = std::thread::scope(|scope| {
        let work = Work {
            campaign,
            stop: Arc::clone(&stop),
            records,
            to_shrink,
            shrunk,
        };
        let recording = match thread::start(scope, move || work.all()) {
            Ok(recording) => recording,
            Err(error) => return Worked::cannot(error),
        };
        let mut judged = Ok(());
        for recorded in recorded {
            judged = judge.add(recorded, &large);
            if judged.is_err() {
                ended.store(true, Ordering::Relaxed);
                break;
            }
            small.try_iter().for_each(|it| judge.keep(it, recipient));
            recipient(judge.outcome.cases, None);
        }
        drop(large);
        small.iter().for_each(|it| judge.keep(it, recipient));
        let worked = thread::joined(recording);
        Worked {
            ended: judged.and(worked.ended),
            ..worked
        }
    });
    let outcome = Outcome {
        boots: worked.boots,
        faults_met: worked.faults_met,
        elapsed_ns: started.elapsed_ns(),
        ..judge.outcome
    };
    (outcome, worked.ended)
}

/// What the laboratory has come to.
struct Worked {
    boots: u64,
    faults_met: FaultsMet,
    ended: Result<(), CannotFuzz>,
}

impl Worked {
    /// Nothing, because of this.
    fn cannot(error: CannotFuzz) -> Worked {
        Worked {
            boots: 0,
            faults_met: FaultsMet::default(),
            ended: Err(error),
        }
    }
}

/// What the thread does that has the laboratory.
struct Work<'a> {
    campaign: &'a Campaign,
    stop: StopSign,
    records: Sender<Recorded>,
    /// Findings to be made small, and those that are.
    to_shrink: Receiver<Finding>,
    shrunk: Sender<Finding>,
}

impl Work<'_> {
    /// Has the cases lived by the kernel, and what is found in them made small.
    fn all(self) -> Worked {
        let (directory, programs) = (&self.campaign.directory, &self.campaign.programs);
        let opened = Laboratory::open(directory, programs, Arc::clone(&self.stop));
        let mut laboratory = match opened {
            Ok(laboratory) => laboratory,
            Err(error) => return Worked::cannot(error),
        };
        let mut error = self.cases(&mut laboratory).err();
        let Work {
            records,
            to_shrink,
            shrunk,
            stop,
            ..
        } = self;
        drop(records);
        for finding in to_shrink {
            let small = match error {
                None => make_smaller(finding, &mut laboratory, &stop, &mut error),
                // What was found is told, as large as it is.
                Some(_) => finding,
            };
            // Whoever has gone does not want to know.
            let _ = shrunk.send(small);
        }
        Worked {
            boots: laboratory.boots,
            faults_met: std::mem::take(&mut laboratory.faults_met),
            ended: error.map_or(Ok(()), Err),
        }
    }

    fn cases(&self, laboratory: &mut Laboratory) -> Result<(), CannotFuzz> {
        let campaign = self.campaign;
        let most = match campaign.stop {
            Stop::Cases(cases) => cases,
            Stop::Duration(_) => u64::MAX,
        };
        for number in 0..most {
            for finding in self.to_shrink.try_iter() {
                let mut error = None;
                let small = make_smaller(finding, laboratory, &self.stop, &mut error);
                let _ = self.shrunk.send(small);
                error.map_or(Ok(()), Err)?;
            }
            if (self.stop)() {
                return Ok(());
            }
            let seed = campaign.seed.wrapping_add(number);
            let case = case_of(seed, campaign.faults, campaign.assumptions);
            let case = with_a_kill(seed, case);
            let recordings = match laboratory.live_all(&case, longest_request(seed)) {
                Ok(recordings) => recordings,
                Err(CannotFuzz::Stopped) => return Ok(()),
                Err(error) => return Err(error),
            };
            let recorded = Recorded {
                seed,
                case,
                recordings,
            };
            if self.records.send(recorded).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Who judges, and what was found so far.
#[derive(Default)]
struct Judge {
    outcome: Outcome,
    /// What recordings are mended of: what has been found already would hide the rest.
    mending: Mending,
    known: BTreeSet<Known>,
}

/// What findings have in common of which one is kept.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Known {
    /// A kind, and the defects that explain it.
    Explained(Kind, Vec<Defect>),
    /// What no known defect explains.
    Unknown(Cause),
}

impl Known {
    fn of(explained: &Explained, violation: &Violation) -> Known {
        match explained {
            Explained::Unknown => Known::Unknown(violation.cause()),
            _ => Known::Explained(violation.kind, explained.defects()),
        }
    }
}

impl Judge {
    /// Judges a case. New findings go to `large`.
    fn add(&mut self, recorded: Recorded, large: &Sender<Finding>) -> Result<(), CannotFuzz> {
        let Recorded {
            seed,
            case,
            recordings,
        } = recorded;
        let wrong = |error| CannotFuzz::Recording { seed, error };
        let is_host = |it: &&Witnessed| matches!(it, Witnessed::Host(_));
        let witnessed = recordings.iter().flat_map(|it| &it.witnessed);
        self.outcome.cases += 1;
        self.outcome.host_operations += witnessed.filter(is_host).count() as u64;
        if let Some(recording) = recordings.last() {
            self.outcome.kernel.clone_from(&recording.kernel);
        }
        let mut has_finding = false;
        loop {
            let mending = self.mending;
            let explored = Search::for_anything(seed).of_recorded(&case, &recordings, mending);
            let explored = explored.map_err(wrong)?;
            self.outcome.crash_images += explored.crash_images;
            let Some((found, violation)) = explored.finding else {
                break;
            };
            has_finding = true;
            let mut case = *found;
            let mut recordings = recordings.clone();
            recordings.truncate(case.lives.len());
            let explained = explain(&case, &recordings, &violation, mending, seed);
            let explained = explained.map_err(wrong)?;
            let defects = explained.defects();
            self.mending = defects
                .iter()
                .fold(mending, |mending, it| mend(mending, *it));
            if self.known.insert(Known::of(&explained, &violation)) {
                case.found = Some(violation.clone());
                let finding = Finding {
                    seed,
                    case,
                    recordings,
                    mending,
                    explained,
                    violation: violation.without_content(),
                };
                // If nobody makes it small any more, the reason for that is told.
                let _ = large.send(finding);
            }
            // What is not mended shows again.
            if self.mending == mending {
                break;
            }
        }
        self.outcome.cases_with_findings += u64::from(has_finding);
        Ok(())
    }

    /// Keeps a finding that is small.
    fn keep(&mut self, finding: Finding, recipient: &mut dyn FnMut(u64, Option<&Finding>)) {
        recipient(self.outcome.cases, Some(&finding));
        self.outcome.findings.push(finding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::case::{BackingFile, Image, ImageVersion};
    use crate::fuzz::recorded::Ending;

    #[test]
    fn of_what_no_defect_explains_each_cause_is_kept_once() {
        let mut judge = Judge::default();
        let (large, found) = unbounded();
        for (seed, why) in [(1, "found this"), (2, "found that"), (3, "found this")] {
            let mut case = case_of(seed, false, Assumptions::default());
            case.image = Image::sound(128, ImageVersion::V3, 4096);
            case.lives[0].backing = BackingFile::AsItWas;
            case.lives[0].actions.clear();
            let recordings = vec![Recording {
                kernel: "a test's".into(),
                longest: 128,
                witnessed: Vec::new(),
                ending: Ending::Astray {
                    why: why.into(),
                    console: String::new(),
                },
            }];
            let recorded = Recorded {
                seed,
                case,
                recordings,
            };
            judge.add(recorded, &large).unwrap();
        }
        drop(large);
        let found: Vec<_> = found.iter().collect();
        let seeds: Vec<_> = found.iter().map(|finding| finding.seed).collect();
        assert_eq!(seeds, [1, 2]);
        assert!(found.iter().all(|it| it.explained == Explained::Unknown));
        assert_eq!(judge.outcome.cases_with_findings, 3);
    }
}
