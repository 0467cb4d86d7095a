//! A directory as it was, the run of a command on it, and what its crashes leave.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use driver::shown;
use userhelper::unfinished;

use crate::mount::{Limits, MountedTree, own_view};
use crate::sim::tree::load::{CannotLoad, MostLoaded, load};
use crate::sim::tree::store::CannotStore;
use crate::sim::tree::{Recorded, Tree, TreeSurvivors};
use crate::sim::{Assumptions, FaultRule, Injected};

use super::checking::{Bench, Checker, Checks};
use super::command::{CommandLine, End, Ran, Terms, run};
use super::finding::{Finding, Group, groups, shrink, signature, tell};
use super::finding_file::{BadFinding, Crash, FORMAT, FindingFile, named_from};
use super::kept_change::KeptChange;
use super::plan::{Extent, Model, Plan, Replay};
use super::recipe::Recipe;

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

/// Why nothing was crashed.
#[derive(Debug, thiserror::Error)]
pub enum CannotCrash {
    /// The directory cannot be read.
    #[error(transparent)]
    Load(#[from] CannotLoad),
    /// There is no view of the file system with a mount in it.
    #[error("{0}")]
    Place(String),
    /// A thread or a command cannot be started.
    #[error("{what}: {}", driver::system_words(error))]
    Start {
        /// Which.
        what: &'static str,
        /// Why not.
        error: io::Error,
    },
    /// A command has not done what it should.
    #[error("{what} {}", ran.end)]
    Failed {
        /// Which.
        what: &'static str,
        /// What it did.
        ran: Ran,
    },
    /// A file is no finding.
    #[error(transparent)]
    Finding(#[from] BadFinding),
    /// What the directory became cannot be written beside it.
    #[error(transparent)]
    Store(#[from] CannotStore),
    /// It cannot be put in the directory's place.
    #[error("{}: {}", shown(directory), driver::system_words(error))]
    Replace {
        /// The directory.
        directory: PathBuf,
        /// Why not.
        error: io::Error,
    },
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
    /// Something was refused to the command because the directory's limits were reached.
    pub was_full: bool,
    /// What has failed while the command ran.
    pub injected: Vec<String>,
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
                what: "a thread",
                error,
            })?;
            running.join().unwrap_or_else(|panic| {
                std::panic::resume_unwind(panic);
            })
        })
    }

    fn run_here(options: Options, stop: &AtomicBool) -> Result<Session, CannotCrash> {
        let most = MostLoaded {
            nodes: options.limits.nodes,
            bytes: options.limits.bytes.min(options.limits.logged),
        };
        let loaded = load(&options.directory, most)?;
        let mount = own_view::over(&options.directory).map_err(CannotCrash::Place)?;
        let mut replay = Replay::new(&loaded.changes, options.assumptions);
        replay.advance_to(loaded.changes.len() as u64);
        let mut mounted = MountedTree::new(replay.tree, options.limits);
        mounted.record_after(loaded.changes);
        let terms = Terms {
            within: &options.within,
            timeout: options.timeout,
            stop,
        };
        let runs = |command: &CommandLine, what, mounted: &mut MountedTree| {
            run(command, terms, &mount, mounted).map_err(|error| CannotCrash::Start { what, error })
        };
        if let Some(setup) = &options.setup {
            must_succeed("the setup", runs(setup, "the setup", &mut mounted)?)?;
            mounted.settle();
        }
        let from = mounted.recorded();
        mounted.fail_by(&options.faults);
        let ran = runs(&options.command, "the command", &mut mounted)?;
        let injected = mounted.injected().iter().map(Injected::to_string).collect();
        // One to which something has failed may fail, and what it leaves is looked at.
        if mounted.injected().is_empty() || ran.end == End::Stopped {
            must_succeed("the command", ran)?;
        }
        let was_full = mounted.is_full();
        let log = mounted.take_log();
        let end = mounted.tree().after_kill();
        mounted.show(end);
        let at_the_end = runs(&options.check, "the check", &mut mounted)?;
        if at_the_end.end == End::Stopped {
            return Err(CannotCrash::Failed {
                what: "the check",
                ran: at_the_end,
            });
        }
        Ok(Session {
            left_out: loaded.left_out,
            log,
            from,
            was_full,
            injected,
            at_the_end,
            options,
        })
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

    /// Which crashes are going to be checked.
    pub fn plan(&self) -> Plan {
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
        Plan::make(&self.log, self.from, extent, assumptions)
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

    /// Checks all that is planned.
    ///
    /// # Errors
    /// If the checks cannot go on.
    pub fn check(
        &self,
        plan: &Plan,
        stop: &AtomicBool,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Checks, CannotCrash> {
        let checked = self.checker(stop);
        let checked = checked.check_all(plan, self.options.jobs, progress);
        checked.map_err(CannotCrash::Place)
    }

    /// What was found: of each kind one, shrunk, with its story, in the order of the run.
    ///
    /// # Errors
    /// If the checks that shrinking takes cannot be had.
    pub fn found(
        &self,
        checks: &Checks,
        plan: &Plan,
        stop: &AtomicBool,
    ) -> Result<Vec<Group>, CannotCrash> {
        let groups = groups(checks, plan);
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        let checker = self.checker(stop);
        std::thread::scope(|scope| {
            let builder = std::thread::Builder::new().name("crash-shrink".into());
            let told = builder.spawn_scoped(scope, || self.told(groups, plan, &checker));
            let told = told.map_err(|error| CannotCrash::Start {
                what: "a thread",
                error,
            })?;
            let told = told.join();
            told.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn told(
        &self,
        groups: Vec<(usize, u64, Ran)>,
        plan: &Plan,
        checker: &Checker<'_>,
    ) -> Result<Vec<Group>, CannotCrash> {
        let mut bench = Bench::new(checker).map_err(CannotCrash::Place)?;
        let mut replay = Replay::new(&self.log, self.options.assumptions);
        let mut told: Vec<Group> = Vec::new();
        for (place, images, ran) in groups.into_iter().take(MOST_TOLD) {
            let Some(planned) = plan.planned.get(place) else {
                continue;
            };
            replay.advance_to(planned.point);
            let (recipe, ran) = shrink(&mut bench, &replay.tree, planned.recipe.clone(), ran);
            // What is lost beside the cause may have hidden that it is a known one.
            let known = |it: &&mut Group| signature(&it.finding.ran) == signature(&ran);
            if let Some(known) = told.iter_mut().find(known) {
                known.images += images;
                continue;
            }
            let point = (self.from, planned.point);
            let finding = tell(&replay, &self.log, point, recipe, ran);
            told.push(Group { finding, images });
        }
        Ok(told)
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
            directory: named_from(&options.within, &options.directory),
            assumptions: options.assumptions,
            point,
            begin: self.from,
            crash: match &finding.recipe {
                Recipe::Killed => Crash::Kill,
                Recipe::KilledWithin(border) => Crash::KillWithin(*border),
                recipe => Crash::Power(self.survivors(point, recipe)),
            },
            changes: self.log.iter().take(most).map(KeptChange::of).collect(),
        }
    }

    fn survivors(&self, point: u64, recipe: &Recipe) -> TreeSurvivors {
        if let Recipe::Exactly(survivors) = recipe {
            return survivors.clone();
        }
        let mut replay = Replay::new(&self.log, self.options.assumptions);
        replay.advance_to(point);
        recipe.survivors(&replay.tree.at_stake())
    }

    /// Makes the real directory what it became by the command. The old one is gone then.
    ///
    /// # Errors
    /// The system's; the directory is as it was then.
    pub fn keep(&self) -> Result<(), CannotCrash> {
        let mut replay = Replay::new(&self.log, self.options.assumptions);
        replay.advance_to(self.log.len() as u64);
        replace(&replay.tree, &self.options.directory)
    }
}

fn must_succeed(what: &'static str, ran: Ran) -> Result<(), CannotCrash> {
    match ran.end.is_good() {
        true => Ok(()),
        false => Err(CannotCrash::Failed { what, ran }),
    }
}

/// Puts a directory with this content in the place of the one that is there, in one step.
fn replace(tree: &Tree, directory: &std::path::Path) -> Result<(), CannotCrash> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let failed = |error: io::Error| CannotCrash::Replace {
        directory: directory.to_owned(),
        error,
    };
    let parent = directory.parent().unwrap_or(directory);
    let make = || {
        tempfile::Builder::new()
            .prefix(".ubdlab-crash-")
            .tempdir_in(parent)
    };
    // A signal that ends the process takes it away.
    let new = unfinished::create(make, |made| made.path().to_owned()).map_err(failed)?;
    let path = new.path().to_owned();
    tree.store(&path)?;
    let exchange = || renameat_with(CWD, &path, CWD, directory, RenameFlags::EXCHANGE);
    unfinished::finish(&path, exchange).map_err(|error| failed(error.into()))?;
    // What is called so now is the old one.
    new.close().map_err(failed)
}
