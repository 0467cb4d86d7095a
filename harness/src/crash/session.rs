//! A directory as it was, the run of a command on it, and what its crashes leave.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use driver::shown;

use crate::mount::{Limit, Limits, MountedTree};
use crate::sim::tree::load::{CannotLoad, MostLoaded, load};
use crate::sim::tree::{Recorded, TreeSurvivors};
use crate::sim::{Assumptions, FaultRule, Injected, RuleMet};

use super::cannot_crash::CannotCrash;
use super::checking::{Checker, Checks};
use super::command::{CommandLine, End, Ran, Terms, run};
use super::finding::Finding;
use super::finding_file::{Crash, FORMAT, FindingFile};
use super::groups::{Found, Group, groups};
use super::keeping::{CannotKeep, Replaceable};
use super::names_then::NamesThen;
use super::own_ids::OwnIds;
use super::place::{self, View};
use super::plan::{Extent, Model, Plan};
use super::recipe::Recipe;
use super::replacement::replace;
use super::replay::Replay;
use super::shrink::{NotFewest, Shrunk, shrink};
use super::story::tell;
use super::trials::Trials;
use super::verdicts::Verdicts;

/// The most findings that are told, each of another kind.
const MOST_TOLD: usize = 20;

/// What is crashed, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory, as an absolute path without links.
    pub directory: PathBuf,
    /// Where the commands run.
    pub within: PathBuf,
    /// What runs before, without a crash.
    pub setup: Option<CommandLine>,
    /// What is crashed.
    pub command: CommandLine,
    /// What looks at each image; with status 0 it is fine.
    pub check: CommandLine,
    /// What a crash is.
    pub model: Model,
    /// What is assumed of the disk.
    pub assumptions: Assumptions,
    /// What fails while the command runs.
    pub faults: Vec<FaultRule>,
    /// The most moments.
    pub points: u64,
    /// The most images of each.
    pub images: u64,
    /// How many checks run at a time.
    pub jobs: usize,
    /// The longest that a command, or a check, may take.
    pub timeout: Duration,
    /// Of what is chosen at random.
    pub seed: u64,
    /// What the directory may take.
    pub limits: Limits,
}

/// The images of one moment that no moment before it has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtMoment {
    /// The changes of the command before it.
    pub point: u64,
    /// The last of them.
    pub after: Option<String>,
    /// The images that are different.
    pub different: u64,
    /// Those of them that do not pass.
    pub failed: u64,
}

/// A run that can be crashed.
#[derive(Debug)]
pub struct Session {
    options: Options,
    log: Vec<Recorded>,
    /// The number of the command's first change.
    from: u64,
    /// What was left out of the directory.
    pub left_out: Vec<PathBuf>,
    /// Who was told that there is no space, because the directory's limits were reached.
    pub reached: Vec<(&'static str, Limit)>,
    /// What has failed while the command ran.
    pub injected: Vec<String>,
    /// What has come of the rules by which it has.
    pub rules: Vec<RuleMet>,
    /// What the command did. It has ended as it should, unless something has failed as asked for.
    pub command_ran: Ran,
    /// The check of the end, without a crash.
    pub at_the_end: Ran,
}

impl Session {
    /// Copies the directory, runs the command on the copy, and checks the end.
    ///
    /// # Errors
    /// What has kept it from that.
    pub fn run(options: Options, stop: &AtomicBool) -> Result<Session, CannotCrash> {
        std::thread::scope(|scope| {
            let builder = std::thread::Builder::new().name("crash-run".into());
            let running = builder.spawn_scoped(scope, || Session::run_here(options, stop));
            let running = running.map_err(|error| CannotCrash::Start {
                what: "a thread".into(),
                error,
            })?;
            running.join().unwrap_or_else(|panic| {
                std::panic::resume_unwind(panic);
            })
        })
    }

    fn run_here(options: Options, stop: &AtomicBool) -> Result<Session, CannotCrash> {
        place::check(&options.directory).map_err(CannotCrash::Place)?;
        let most = MostLoaded {
            nodes: options.limits.nodes,
            bytes: options.limits.bytes.min(options.limits.logged),
        };
        let mut loaded = load(&options.directory, most, stop)?;
        // Otherwise only the command's first change would meet it.
        if loaded.changes.len() as u64 > options.limits.changes {
            return Err(CannotCrash::Load(CannotLoad::TooMuch {
                path: options.directory,
                most: options.limits.changes,
                what: "changes",
            }));
        }
        OwnIds::of_this_process().take_over(&mut loaded.changes);
        let view = View::over(&options.directory).map_err(CannotCrash::Place)?;
        let mut replay = Replay::new(&loaded.changes, options.assumptions, stop);
        if !replay.advance_to(loaded.changes.len() as u64) {
            return Err(CannotLoad::Stopped.into());
        }
        let mut mounted = MountedTree::new(replay.tree, options.limits);
        mounted.record_after(loaded.changes);
        let terms = Terms {
            within: &options.within,
            timeout: options.timeout,
            stop,
        };
        let runs = |command: &CommandLine, what: &str, mounted: &mut MountedTree| {
            run(command, terms, &view, mounted).map_err(|error| CannotCrash::Start {
                error,
                what: match command {
                    CommandLine::Shell(_) => String::from(what),
                    CommandLine::Program(program, _) => {
                        format!("{what} {}", shown(Path::new(program)))
                    }
                },
            })
        };
        let mut reached = Vec::new();
        let mut note = |who, ran: &Ran| {
            reached.extend(ran.reached.iter().map(|limit| (who, *limit)));
        };
        if let Some(setup) = &options.setup {
            let ran = runs(setup, "the setup", &mut mounted)?;
            note("the setup", &ran);
            must_succeed("the setup", ran, &[])?;
            mounted.settle();
        }
        let from = mounted.recorded();
        mounted.fail_by(&options.faults);
        let ran = runs(&options.command, "the command", &mut mounted)?;
        note("the command", &ran);
        let injected = mounted.injected().iter().map(Injected::told).collect();
        // One to which something has failed may fail, and what it leaves is looked at.
        if mounted.injected().is_empty() || ran.end == End::Stopped {
            must_succeed("the command", ran.clone(), mounted.rules_met())?;
        }
        let rules = mounted.rules_met().to_vec();
        let log = mounted.take_log();
        let end = mounted.tree().after_kill();
        mounted.show(end);
        let at_the_end = runs(&options.check, "the check", &mut mounted)?;
        note("the check without a crash", &at_the_end);
        if at_the_end.end == End::Stopped {
            return Err(CannotCrash::Failed {
                what: "the check",
                ran: at_the_end,
                rules,
            });
        }
        Ok(Session {
            left_out: loaded.left_out,
            log,
            from,
            reached,
            injected,
            rules,
            command_ran: ran,
            at_the_end,
            options,
        })
    }

    /// What the directory may take.
    pub fn limits(&self) -> Limits {
        self.options.limits
    }

    /// What was crashed.
    pub fn command(&self) -> &CommandLine {
        &self.options.command
    }

    /// How many changes the command has made, and how many of them were syncs.
    pub fn changes(&self) -> (u64, u64) {
        use driver::host::OperationKind::{SyncData, SyncDirectory};
        let of_the_command = self.of_the_command();
        let is_sync = |it: &&Recorded| matches!(it.kind, SyncData | SyncDirectory);
        let syncs = of_the_command.iter().filter(is_sync).count();
        (of_the_command.len() as u64, syncs as u64)
    }

    fn of_the_command(&self) -> &[Recorded] {
        let from = usize::try_from(self.from).unwrap_or(usize::MAX);
        self.log.get(from..).unwrap_or_default()
    }

    /// Which crashes are going to be checked. `progress` is told how many moments are planned, and
    /// of how many.
    pub fn plan(&self, stop: &AtomicBool, progress: &(dyn Fn(u64, u64) + Sync)) -> Plan {
        let Options {
            model,
            points,
            images,
            seed,
            assumptions,
            ..
        } = self.options;
        let extent = Extent {
            model,
            points,
            images,
            seed,
        };
        let plan = || Plan::make(&self.log, self.from, extent, assumptions, stop, progress);
        // A thread takes over the memory of one that has ended before, as the run's has: what that
        // has given back is not kept beside it.
        std::thread::scope(|scope| {
            let builder = std::thread::Builder::new().name("crash-plan".into());
            match builder.spawn_scoped(scope, plan) {
                Ok(planning) => {
                    let planned = planning.join();
                    planned.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                }
                Err(_) => plan(),
            }
        })
    }

    fn checker<'a>(&'a self, stop: &'a AtomicBool) -> Checker<'a> {
        let options = &self.options;
        Checker {
            log: &self.log,
            assumptions: options.assumptions,
            directory: &options.directory,
            check: &options.check,
            terms: Terms {
                within: &options.within,
                timeout: options.timeout,
                stop,
            },
            limits: options.limits,
        }
    }

    /// Checks all that is planned, as far as that goes.
    pub fn check(&self, plan: &Plan, stop: &AtomicBool, progress: &(dyn Fn(u64) + Sync)) -> Checks {
        let checker = self.checker(stop);
        let mut checked = checker.check_all(plan, self.workers(plan), progress);
        checked.stopped |= plan.is_cut_short;
        checked
    }

    /// How many checks run at a time: each has two copies of the directory, as it was at the moment
    /// and as the crash leaves it, and together they are to have no more in memory than the
    /// directory may take, but for one that takes more alone.
    fn workers(&self, plan: &Plan) -> usize {
        let fitting = self.options.limits.bytes / plan.largest.saturating_mul(2).max(1);
        let fitting = usize::try_from(fitting).unwrap_or(usize::MAX);
        self.options.jobs.min(fitting).max(1)
    }

    /// What was found: of each kind one, shrunk if the checks for that can be had, with its story,
    /// in the order of the run.
    pub fn found(&self, checks: &Checks, plan: &Plan, stop: &AtomicBool) -> Found {
        let groups = groups(checks, plan);
        if groups.is_empty() {
            return Found::default();
        }
        let checker = self.checker(stop);
        let known = || Verdicts::of(plan, checks);
        std::thread::scope(|scope| {
            let builder = std::thread::Builder::new().name("crash-shrink".into());
            let shrinks = || self.told(&groups, plan, &checker, Trials::new(&checker), known());
            match builder.spawn_scoped(scope, shrinks) {
                Ok(told) => {
                    let told = told.join();
                    told.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                }
                Err(error) => {
                    let why = format!("a thread: {}", driver::system_words(error));
                    let trials = Trials::none(&checker, why);
                    self.told(&groups, plan, &checker, trials, known())
                }
            }
        })
    }

    fn told(
        &self,
        groups: &[(usize, u64, Ran)],
        plan: &Plan,
        checker: &Checker<'_>,
        mut trials: Trials<'_>,
        mut verdicts: Verdicts,
    ) -> Found {
        let mut replay = Replay::new(&self.log, self.options.assumptions, checker.terms.stop);
        let mut found = Found::default();
        for &(place, images, ref ran) in groups {
            let Some(planned) = plan.planned.get(place) else {
                continue;
            };
            let stopped = checker.terms.stop.load(Ordering::Relaxed);
            let is_full = found.told.len() == MOST_TOLD;
            if is_full || stopped && !found.told.is_empty() || !replay.advance_to(planned.point) {
                found.stopped |= !is_full;
                found.untold_kinds += 1;
                found.untold_images += images;
                continue;
            }
            let Shrunk {
                recipe,
                ran,
                not_fewest,
            } = shrink(
                &mut |image| trials.check(image),
                &mut verdicts,
                &replay.tree,
                planned.recipe.clone(),
                ran.clone(),
                checker.terms.stop,
            );
            let point = (self.from, planned.point);
            let assumptions = &self.options.assumptions;
            let finding = tell(&replay.tree, &self.log, point, assumptions, recipe, ran);
            found.stopped |= not_fewest == Some(NotFewest::Stopped);
            found.told.push(Group {
                finding,
                images,
                not_fewest,
            });
        }
        found.not_shrunk = trials.cannot();
        found
    }

    /// What came of the images of each moment, in order.
    pub fn by_moment(&self, plan: &Plan, checks: &Checks) -> Vec<AtMoment> {
        let mut failed = checks
            .failed
            .iter()
            .map(|checked| checked.planned)
            .peekable();
        let mut names = NamesThen::after(&self.log, self.from);
        let mut moments: Vec<AtMoment> = Vec::new();
        for (place, planned) in plan.planned.iter().enumerate() {
            let point = planned.point.saturating_sub(self.from);
            if moments.last().is_none_or(|last| last.point != point) {
                names.advance_to(planned.point);
                let last = usize::try_from(planned.point).ok().filter(|_| point > 0);
                moments.push(AtMoment {
                    point,
                    after: last.and_then(|point| names.told(point - 1)),
                    different: 0,
                    failed: 0,
                });
            }
            if let Some(moment) = moments.last_mut() {
                moment.different += 1;
                moment.failed += u64::from(failed.next_if_eq(&place).is_some());
            }
        }
        moments
    }

    /// A finding as a file that needs nothing else.
    pub fn file_of(&self, finding: &Finding) -> FindingFile {
        let options = &self.options;
        let point = self.from + finding.point;
        // Of a kill the change that it cuts short.
        let most = usize::try_from(point + 1).unwrap_or(usize::MAX);
        FindingFile {
            format: FORMAT.to_owned(),
            command: options.command.to_string(),
            check: options.check.line().into(),
            within: options.within.as_os_str().into(),
            directory: options.directory.as_os_str().into(),
            end: finding.ran.end.to_string(),
            assumptions: options.assumptions,
            point,
            begin: self.from,
            crash: match &finding.recipe {
                Recipe::Killed => Crash::Kill,
                Recipe::KilledWithin(border) => Crash::KillWithin(*border),
                recipe => Crash::Power(self.survivors(point, recipe)),
            },
            changes: self.log.iter().take(most).cloned().collect(),
        }
    }

    fn survivors(&self, point: u64, recipe: &Recipe) -> TreeSurvivors {
        if let Recipe::Exactly(survivors) = recipe {
            return survivors.clone();
        }
        let never = AtomicBool::new(false);
        let mut replay = Replay::new(&self.log, self.options.assumptions, &never);
        replay.advance_to(point);
        recipe.survivors(replay.at_stake())
    }

    /// Why the real directory had better stay as it is: something has not gone through.
    pub fn why_not_kept(&self) -> Option<&'static str> {
        match (
            self.command_ran.end.is_good(),
            self.at_the_end.end.is_good(),
        ) {
            (false, _) => Some("the command has failed"),
            (true, false) => Some("the check does not pass without a crash"),
            (true, true) => None,
        }
    }

    /// Makes the real directory what it became by the command. The old one is gone then.
    ///
    /// # Errors
    /// The system's, which say where both are, or that the directory is as it was, as it also is
    /// if everything is to end before they have exchanged their names.
    pub fn keep(&self, old: &Replaceable, stop: &AtomicBool) -> Result<(), CannotCrash> {
        let mut replay = Replay::new(&self.log, self.options.assumptions, stop);
        match replay.advance_to(self.log.len() as u64) {
            true => replace(&replay.tree, old, stop),
            false => Err(CannotKeep::stopped(old).into()),
        }
    }
}

fn must_succeed(what: &'static str, ran: Ran, rules: &[RuleMet]) -> Result<(), CannotCrash> {
    match ran.end.is_good() {
        true => Ok(()),
        false => Err(CannotCrash::Failed {
            what,
            ran,
            rules: rules.to_vec(),
        }),
    }
}
