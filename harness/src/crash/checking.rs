//! The check of all planned images, by several workers at a time. Each has its own view of the file
//! system, its own mount, and goes through the run once.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::mount::{Limit, Limits, MountedTree};
use crate::sim::tree::Tree;
use crate::sim::{Assumptions, tree::Recorded};

use super::command::{CommandLine, End, Ran, Terms, run};
use super::place::View;
use super::plan::Plan;
use super::replay::Replay;

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
    /// Those that did not pass, in the order of the plan.
    pub failed: Vec<Checked>,
    /// Whether they were stopped before the end.
    pub stopped: bool,
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

    /// Whether everything is to end.
    pub(super) fn stop(&self) -> &'a AtomicBool {
        self.checker.terms.stop
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
    /// Checks all images of the plan. `progress` is told how many are done.
    ///
    /// # Errors
    /// If no worker could go on.
    pub(super) fn check_all(
        &self,
        plan: &Plan,
        jobs: usize,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Checks, String> {
        let shared = Shared {
            next: AtomicUsize::new(0),
            results: Mutex::new((Checks::default(), None)),
            progress,
        };
        std::thread::scope(|scope| {
            for _ in 0..jobs.clamp(1, plan.planned.len().max(1)) {
                // Where there is no further thread, those that there are go on.
                let builder = std::thread::Builder::new().name("crash-check".into());
                let _ = builder.spawn_scoped(scope, || shared.note(self.work(plan, &shared)));
            }
        });
        let results = shared.results.into_inner();
        let (mut checks, error) = results.unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = error {
            return Err(error);
        }
        checks.failed.sort_by_key(|checked| checked.planned);
        Ok(checks)
    }

    fn work(&self, plan: &Plan, shared: &Shared<'_>) -> Result<(), String> {
        let mut bench = Bench::new(self)?;
        let stop = self.terms.stop;
        let mut replay = Replay::new(self.log, self.assumptions, stop);
        loop {
            let place = shared.next.fetch_add(1, Ordering::Relaxed);
            let Some(planned) = plan.planned.get(place) else {
                return Ok(());
            };
            if stop.load(Ordering::Relaxed) || !replay.advance_to(planned.point) {
                shared.stop();
                return Ok(());
            }
            let Some(image) = replay.image(&planned.recipe) else {
                continue;
            };
            let ran = bench
                .check(image)
                .map_err(|error| format!("the check: {}", driver::system_words(&error)))?;
            if shared.take(place, ran) {
                return Ok(());
            }
        }
    }
}

/// What the workers share.
struct Shared<'a> {
    next: AtomicUsize,
    results: Mutex<(Checks, Option<String>)>,
    progress: &'a (dyn Fn(u64) + Sync),
}

impl Shared<'_> {
    /// Takes a result; whether everything is to end.
    fn take(&self, planned: usize, ran: Ran) -> bool {
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        let (checks, error) = &mut *results;
        if ran.end == End::Stopped {
            checks.stopped = true;
            return true;
        }
        checks.checked += 1;
        checks.reached.extend(&ran.reached);
        if !ran.end.is_good() {
            checks.failed.push(Checked { planned, ran });
        }
        (self.progress)(checks.checked);
        error.is_some()
    }

    /// Not all of them are checked.
    fn stop(&self) {
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        results.0.stopped = true;
    }

    fn note(&self, worked: Result<(), String>) {
        if let Err(error) = worked {
            let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
            results.1.get_or_insert(error);
        }
    }
}
