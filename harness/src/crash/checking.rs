//! The check of all planned images, by several workers at a time. Each has its own view of the file
//! system, its own mount, and goes through the run once.
//!
//! A worker that the system has no room for leaves its images to the others. Where images are left
//! over because of that, fewer workers go on with them, at last one alone.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use crate::mount::{Limit, Limits, MountedTree};
use crate::open_files::may_open;
use crate::sim::tree::Tree;
use crate::sim::{Assumptions, tree::Recorded};

use super::command::{CommandLine, End, Ran, Terms, run};
use super::place::View;
use super::plan::Plan;
use super::replay::Replay;

/// The most files that a worker has open at a time: its mount, its processes, and the check with
/// its output.
const FILES_OF_A_WORKER: u64 = 32;

/// The most that are open beside those of the workers.
const FILES_BESIDE: u64 = 256;

/// An image that was checked and did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Its place in the plan.
    pub planned: usize,
    /// What the check did.
    pub ran: Ran,
}

/// What came of the checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    /// How many images were checked.
    pub checked: u64,
    /// The places of those that passed, in any order.
    pub passed: Vec<usize>,
    /// Those that did not pass, in the order of the plan.
    pub failed: Vec<Checked>,
    /// Whether they were stopped before the end.
    pub stopped: bool,
    /// Why they have ended before the end although nobody has stopped them.
    pub ended_by: Option<String>,
    /// The limits of the directory for which one of them was told that there is no space.
    pub reached: BTreeSet<Limit>,
}

/// What a worker checks with.
pub(super) struct Checker<'a> {
    pub(super) log: &'a [Recorded],
    pub(super) assumptions: Assumptions,
    pub(super) directory: &'a std::path::Path,
    pub(super) check: &'a CommandLine,
    pub(super) terms: Terms<'a>,
    pub(super) limits: Limits,
}

/// A view with a mount in it, on which images are checked one after the other.
pub(super) struct Bench<'a> {
    checker: &'a Checker<'a>,
    view: View,
    mounted: MountedTree,
}

impl<'a> Bench<'a> {
    /// One for the calling thread.
    ///
    /// # Errors
    /// What is missing for it.
    pub(super) fn new(checker: &'a Checker<'a>) -> Result<Bench<'a>, String> {
        Ok(Bench {
            view: View::over(checker.directory)?,
            mounted: MountedTree::new(Tree::new(checker.assumptions), checker.limits),
            checker,
        })
    }

    /// Checks what a crash has left.
    ///
    /// # Errors
    /// If the check cannot be started.
    pub(super) fn check(&mut self, image: Tree) -> io::Result<Ran> {
        self.mounted.show(image);
        let Checker { check, terms, .. } = self.checker;
        run(check, *terms, &self.view, &mut self.mounted)
    }
}

impl Checker<'_> {
    /// Checks all images of the plan, this many at a time where there is room for them. `progress`
    /// is told how many are done.
    pub(super) fn check_all(
        &self,
        plan: &Plan,
        jobs: usize,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Checks {
        let shared = Shared::new(plan, progress);
        let mut jobs = jobs.clamp(1, plan.planned.len().max(1));
        // Where it may not be, those that there is room for do the work of all.
        let _ = may_open(jobs as u64 * FILES_OF_A_WORKER + FILES_BESIDE);
        loop {
            std::thread::scope(|scope| {
                for _ in 0..jobs {
                    let builder = std::thread::Builder::new().name("crash-check".into());
                    if let Err(error) = builder.spawn_scoped(scope, || self.work(plan, &shared)) {
                        let words = driver::system_words(error);
                        shared.leave_to_others(format!("a thread: {words}"));
                    }
                }
            });
            if jobs == 1 || shared.is_over() {
                return shared.checks(plan);
            }
            jobs /= 2;
        }
    }

    fn work(&self, plan: &Plan, shared: &Shared<'_>) {
        let mut bench = match Bench::new(self) {
            Ok(bench) => bench,
            Err(why) => return shared.leave_to_others(why),
        };
        let stop = self.terms.stop;
        let new_replay = || Replay::new(self.log, self.assumptions, stop);
        let (mut replay, mut at) = (new_replay(), 0);
        while let Some(place) = shared.take() {
            let planned = &plan.planned[place];
            // Another worker may have given back an earlier image.
            if planned.point < at {
                replay = new_replay();
            }
            at = planned.point;
            if stop.load(Ordering::Relaxed) || !replay.advance_to(planned.point) {
                return shared.stop();
            }
            let Some(image) = replay.image(&planned.recipe) else {
                return shared.end(format!("image {place} of the plan could not be made again"));
            };
            match bench.check(image) {
                Ok(ran) if ran.end == End::Stopped => return shared.stop(),
                Ok(ran) => shared.note(place, ran),
                Err(error) => {
                    let why = format!("the check: {}", driver::system_words(&error));
                    return match is_for_want_of_room(&error) {
                        true => shared.give_back(place, why),
                        false => shared.end(why),
                    };
                }
            }
        }
    }
}

/// Whether there would have been no such error with fewer workers.
fn is_for_want_of_room(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|errno| {
        [
            Errno::MFILE,
            Errno::NFILE,
            Errno::AGAIN,
            Errno::NOMEM,
            Errno::NOSPC,
        ]
        .contains(&errno)
    })
}

/// What the workers share.
struct Shared<'a> {
    progress: &'a (dyn Fn(u64) + Sync),
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The places of the plan that are yet to be checked, the first one last.
    left: Vec<usize>,
    checks: Checks,
    /// Why a worker has left what there was to the others.
    no_room: Option<String>,
}

impl<'a> Shared<'a> {
    fn new(plan: &Plan, progress: &'a (dyn Fn(u64) + Sync)) -> Shared<'a> {
        let state = State {
            left: (0..plan.planned.len()).rev().collect(),
            ..State::default()
        };
        Shared {
            progress,
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place of the image that is checked next, unless everything is to end.
    fn take(&self) -> Option<usize> {
        let mut state = self.state();
        match state.is_over() {
            true => None,
            false => state.left.pop(),
        }
    }

    /// Somebody else has to check it.
    fn give_back(&self, place: usize, why: String) {
        self.state().left.push(place);
        self.leave_to_others(why);
    }

    fn leave_to_others(&self, why: String) {
        self.state().no_room.get_or_insert(why);
    }

    fn note(&self, planned: usize, ran: Ran) {
        let mut state = self.state();
        let checks = &mut state.checks;
        checks.checked += 1;
        checks.reached.extend(&ran.reached);
        match ran.end.is_good() {
            true => checks.passed.push(planned),
            false => checks.failed.push(Checked { planned, ran }),
        }
        (self.progress)(checks.checked);
    }

    /// Everything is to end, and not all of them are checked.
    fn stop(&self) {
        self.state().checks.stopped = true;
    }

    /// Likewise, because of this.
    fn end(&self, why: String) {
        self.state().checks.ended_by.get_or_insert(why);
    }

    fn is_over(&self) -> bool {
        self.state().is_over()
    }

    /// What has come of all of it.
    fn checks(self, plan: &Plan) -> Checks {
        let state = self.state.into_inner();
        let State {
            mut checks,
            no_room,
            ..
        } = state.unwrap_or_else(PoisonError::into_inner);
        checks.failed.sort_by_key(|checked| checked.planned);
        let planned = plan.planned.len() as u64;
        if checks.checked < planned && !checks.stopped && checks.ended_by.is_none() {
            let why = no_room.unwrap_or_else(|| "nobody has checked the rest".into());
            checks.ended_by = Some(why);
        }
        checks
    }
}

impl State {
    /// All are checked, or everything is to end.
    fn is_over(&self) -> bool {
        self.left.is_empty() || self.checks.stopped || self.checks.ended_by.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;
    use crate::crash::{Planned, Recipe};

    fn plan(images: u64) -> Plan {
        let planned = |point| Planned {
            point,
            recipe: Recipe::Nothing,
            alike: 1,
            digest: u128::from(point),
        };
        Plan {
            points: images,
            points_of_run: images,
            partial_points: 0,
            images,
            planned: (0..images).map(planned).collect(),
            largest: 0,
            is_cut_short: false,
        }
    }

    fn ran(status: i32) -> Ran {
        Ran {
            end: End::Exited(ExitStatus::from_raw(status << 8)),
            said: Vec::new(),
            reached: BTreeSet::new(),
        }
    }

    #[test]
    fn what_nobody_has_checked_is_told_with_the_reason_and_what_was_found() {
        let plan = plan(3);
        let checked = Shared::new(&plan, &|_| {}).checks(&plan);
        assert!(!checked.stopped && checked.ended_by.is_some());
        let shared = Shared::new(&plan, &|_| {});
        let first = shared.take().unwrap();
        shared.note(first, ran(4));
        shared.leave_to_others("no room".into());
        assert!(!shared.is_over());
        let checks = shared.checks(&plan);
        assert_eq!(checks.ended_by.as_deref(), Some("no room"));
        assert_eq!((checks.checked, checks.failed.len()), (1, 1));
    }

    #[test]
    fn what_a_worker_has_no_room_for_others_check() {
        let plan = plan(2);
        let shared = Shared::new(&plan, &|_| {});
        assert_eq!(shared.take(), Some(0));
        assert_eq!(shared.take(), Some(1));
        shared.give_back(0, "no room".into());
        shared.note(1, ran(0));
        assert!(!shared.is_over());
        assert_eq!(shared.take(), Some(0));
        shared.note(0, ran(0));
        let checks = shared.checks(&plan);
        assert_eq!((checks.checked, checks.ended_by), (2, None));
    }
}
