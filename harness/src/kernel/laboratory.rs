//! The mount, the running UML, and how a life comes to be lived there. Many lives have one boot:
//! between two of them the device is removed, and made anew on the files of the next.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::{self, Started};
use crate::fuzz::campaign::StopSign;
use crate::fuzz::case::{Case, End, Life};
use crate::fuzz::recorded::{Ending, GuestWord, Recording, Witnessed, deeds_after, numbered_after};
use crate::mount::{Limits, MountedTree, TreeMount, own_view};
use crate::sim::Assumptions;
use crate::sim::tree::Tree;

use super::CannotFuzz;
use super::device_argument::DeviceArgument;
use super::faults_met::FaultsMet;
use super::files::Place;
use super::life_bounds::{Extent, keep_beginning};
use super::orders::Order;
use super::running::{BOOT_HANGS, HANGS, Kit, Lost, Running};
use super::words::Words;

/// How long the kernel is waited for before something else is looked at.
const LOOK: Duration = Duration::from_millis(1);

/// How often a kernel is booted that has come up before, until it is given up: the machine may be
/// short of something for a moment. One that has never come up is not tried again.
const BOOT_TRIES: u32 = 3;

/// ENXIO: the device is not there.
const NO_DEVICE: i32 = 6;

/// The name of the mounted directory.
const DISK: &str = "disk";

/// The programs that it takes, beside this one.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The kernel.
    pub kernel: PathBuf,
    /// This program.
    pub ubdlab: PathBuf,
    /// The program `blkdiscard`.
    pub blkdiscard: PathBuf,
}

/// A laboratory. It belongs to the thread that has opened it, which has a view of the file system
/// of its own from then on.
pub struct Laboratory {
    kit: Kit,
    mount: TreeMount,
    tree: MountedTree,
    place: Place,
    running: Option<Running>,
    /// What the kernel says that it is.
    kernel: String,
    stop: StopSign,
    /// A kernel has come up before.
    has_come_up: bool,
    witnessed: Vec<Witnessed>,
    /// What the guest may say in this life, and how much that may come to.
    words: Words,
    extent: Extent,
    /// How many changes the kernel has carried out in this life.
    changes: usize,
    /// After how many of them it is killed.
    killed_after: Option<usize>,
    /// What the kernel has left that was ended last.
    left: Option<Tree>,
    /// What the host has failed in.
    pub faults_met: FaultsMet,
    /// How often a kernel was booted.
    pub boots: u64,
}

/// A life to be lived.
struct ToLive<'a> {
    case: &'a Case,
    /// Which of the case's, counted from 0.
    number: usize,
    life: &'a Life,
    /// Reads and writes have at most as many sectors.
    longest: u64,
    /// After how many changes the kernel is killed.
    killed_after: Option<usize>,
    /// What it begins with.
    tree: Tree,
}

/// Why a life does not go on.
enum NoMore {
    /// The kernel has died or hangs.
    Ended(Ending),
    /// Nothing more can be done here.
    Cannot(CannotFuzz),
}

impl From<CannotFuzz> for NoMore {
    fn from(error: CannotFuzz) -> NoMore {
        NoMore::Cannot(error)
    }
}

impl Laboratory {
    /// Opens one in `directory`, which is empty.
    ///
    /// # Errors
    /// What is missing.
    pub fn open(
        directory: &Path,
        programs: &Programs,
        stop: StopSign,
    ) -> Result<Laboratory, CannotFuzz> {
        let disk = directory.join(DISK);
        DeviceArgument::of(&disk, None)?;
        let file = |path: &Path| {
            let path = path.to_owned();
            move |error| CannotFuzz::File { path, error }
        };
        std::fs::create_dir(&disk).map_err(file(&disk))?;
        let Programs {
            kernel,
            ubdlab,
            blkdiscard,
        } = programs;
        let kit = Kit::make(directory, kernel, ubdlab, blkdiscard)?;
        own_view::enter().map_err(CannotFuzz::Mount)?;
        let mount = own_view::mount(&disk).map_err(CannotFuzz::Mount)?;
        let empty = Tree::new(Assumptions::default());
        Ok(Laboratory {
            kit,
            mount,
            tree: MountedTree::new(empty, Limits::default()),
            place: Place(disk),
            running: None,
            kernel: String::new(),
            stop,
            has_come_up: false,
            witnessed: Vec::new(),
            words: Words::of_boot(),
            extent: Extent::of(&[]),
            changes: 0,
            killed_after: None,
            left: None,
            faults_met: FaultsMet::default(),
            boots: 0,
        })
    }

    /// Lets the kernel live the first life of a case, with reads and writes of at most `longest`
    /// sectors.
    ///
    /// # Errors
    /// What keeps it from that. That the kernel dies is part of the recording.
    pub fn live(&mut self, case: &Case, longest: u64) -> Result<Recording, CannotFuzz> {
        let first = Case {
            lives: case.lives.iter().take(1).cloned().collect(),
            ..case.clone()
        };
        let lived = self.live_all(&first, longest)?;
        let none = || CannotFuzz::Case("found no life, expected one".to_owned());
        lived.into_iter().next().ok_or_else(none)
    }

    /// Lets the kernel live the lives of a case. Each but the last ends with a kill of the kernel,
    /// when it has carried out as many changes as that life's end says, or has closed the device
    /// before that. None comes after one in which the kernel dies by itself, or hangs.
    ///
    /// # Errors
    /// See [`Laboratory::live`].
    pub fn live_all(&mut self, case: &Case, longest: u64) -> Result<Vec<Recording>, CannotFuzz> {
        let unfit = |error| CannotFuzz::Case(format!("its files: {error}"));
        let mut tree = self.place.tree(case).map_err(unfit)?;
        let mut recordings = Vec::new();
        for (number, life) in case.lives.iter().enumerate() {
            let is_last = number + 1 == case.lives.len();
            let recording = self.live_one(ToLive {
                case,
                number,
                life,
                longest,
                killed_after: (!is_last).then(|| changes_before(&life.end)),
                tree,
            })?;
            let is_killed = recording.ending == Ending::Killed;
            recordings.push(recording);
            match self.left.take() {
                Some(left) if is_killed => tree = left,
                _ => break,
            }
        }
        Ok(recordings)
    }

    fn live_one(&mut self, life: ToLive<'_>) -> Result<Recording, CannotFuzz> {
        if self.running.is_none() {
            self.come_up()?;
        }
        let longest = life.longest;
        let lived = self.try_live(life);
        self.faults_met.add(self.tree.injected(), self.tree.tree());
        let ending = match lived {
            Ok(()) => Ending::Whole,
            Err(NoMore::Ended(ending)) => {
                // What processes that are killed still ask for is not in it.
                self.left = Some(self.tree.tree().clone());
                self.killed_after = None;
                self.end_running();
                ending
            }
            Err(NoMore::Cannot(error)) => {
                // It is in the middle of a life, and cannot begin another.
                self.end_running();
                return Err(error);
            }
        };
        if matches!(ending, Ending::Endless(_)) {
            keep_beginning(&mut self.witnessed);
        }
        Ok(Recording {
            kernel: self.kernel.clone(),
            longest,
            witnessed: std::mem::take(&mut self.witnessed),
            ending,
        })
    }

    /// Boots a kernel, if need be a few times.
    fn come_up(&mut self) -> Result<(), CannotFuzz> {
        let tries = match self.has_come_up {
            true => BOOT_TRIES,
            false => 1,
        };
        let mut tried = 0;
        loop {
            tried += 1;
            let booted = self.boot();
            let is_final = matches!(booted, Ok(()) | Err(CannotFuzz::Stopped));
            if is_final || tried >= tries {
                return booted;
            }
        }
    }

    fn boot(&mut self) -> Result<(), CannotFuzz> {
        self.boots += 1;
        (self.words, self.extent) = (Words::of_boot(), Extent::of(&[]));
        self.running = Some(Running::boot(&self.kit)?);
        let up = self.wait(BOOT_HANGS, |word| *word == GuestWord::Ready);
        let up = up.and_then(|_| {
            self.on_running(|running| running.ask_version())?;
            self.wait_for_answer()
        });
        match up {
            Ok(Ok(version) | Err(version)) => {
                self.kernel = version;
                self.has_come_up = true;
                self.witnessed.clear();
                Ok(())
            }
            Err(NoMore::Cannot(error)) => {
                self.end_running();
                Err(error)
            }
            Err(NoMore::Ended(ending)) => {
                let has_ended = "it has ended".to_owned();
                let (why, console) = match ending {
                    Ending::Whole | Ending::Killed => (has_ended, String::new()),
                    Ending::Died(console) => (has_ended, console),
                    Ending::Hung(console) => ("it hangs".to_owned(), console),
                    Ending::Endless(console) => ("it asks for files for ever".to_owned(), console),
                    Ending::Astray { why, console } => (why, console),
                };
                self.end_running();
                Err(CannotFuzz::NoGuest {
                    kernel: self.kit.kernel.clone(),
                    why,
                    console,
                })
            }
        }
    }

    fn try_live(&mut self, to_live: ToLive<'_>) -> Result<(), NoMore> {
        let ToLive {
            case,
            number,
            life,
            longest,
            killed_after,
            tree,
        } = to_live;
        (self.changes, self.killed_after) = (0, killed_after);
        let deeds = deeds_after(numbered_after(number), life, case.image.sectors, longest);
        (self.words, self.extent) = (Words::of_life(&deeds), Extent::of(&deeds));
        self.tree.show(tree);
        let device = self.place.named(case)?;
        // A device that is made opens its files, and so may create one of them.
        self.tree.keep_answered();
        self.witnessed.clear();
        self.on_running(|running| running.configure(&device))?;
        if self.wait_for_answer()?.is_err() {
            let word = GuestWord::NotOpened { errno: NO_DEVICE };
            self.witnessed.push(Witnessed::Guest(word));
            return self.closed();
        }
        self.tree.fail_by(&self.place.rules(&life.faults));
        self.on_running(|running| running.tell(&Order::Live(deeds)))?;
        self.wait(HANGS, |word| {
            use GuestWord::{Closed, NotOpened};
            matches!(word, Closed | NotOpened { .. })
        })?;
        self.faults_met.add(self.tree.injected(), self.tree.tree());
        self.tree.fail_by(&[]);
        self.closed()?;
        let witnessed = std::mem::take(&mut self.witnessed);
        self.on_running(|running| running.remove())?;
        let removed = self.wait_for_answer();
        self.witnessed = witnessed;
        if removed?.is_err() {
            // It keeps its files open.
            self.end_running();
        }
        Ok(())
    }

    /// The device is closed. A kernel that was to be killed before is killed now.
    fn closed(&mut self) -> Result<(), NoMore> {
        match self.killed_after.take() {
            Some(_) => Err(NoMore::Ended(Ending::Killed)),
            None => Ok(()),
        }
    }

    fn on_running<T>(
        &mut self,
        act: impl FnOnce(&mut Running) -> Result<T, Lost>,
    ) -> Result<T, NoMore> {
        match self.running.as_mut().map(act) {
            Some(Ok(done)) => Ok(done),
            Some(Err(Lost::Frame(error))) => Err(self.astray(error.to_string())),
            Some(Err(error @ Lost::System(_))) => Err(self.died(&error.to_string())),
            None => Err(self.died("it is not running")),
        }
    }

    fn died(&self, how: &str) -> NoMore {
        let console = self.console();
        NoMore::Ended(Ending::Died(format!("{console}\n({how})")))
    }

    /// The guest has said what nobody can make anything of.
    fn astray(&self, why: String) -> NoMore {
        let console = self.console();
        NoMore::Ended(Ending::Astray { why, console })
    }

    fn console(&self) -> String {
        let running = self.running.as_ref();
        running.map(Running::console).unwrap_or_default()
    }

    fn witness(&mut self, witnessed: Witnessed) {
        self.extent.add(&witnessed);
        self.witnessed.push(witnessed);
    }

    /// Serves the mount until the guest says a word like this.
    fn wait(
        &mut self,
        time: Duration,
        is_it: impl Fn(&GuestWord) -> bool,
    ) -> Result<GuestWord, NoMore> {
        let mut quiet = clock::start();
        loop {
            let words = self.serve_once(&mut quiet, time)?;
            if let Some(word) = words.into_iter().find(&is_it) {
                return Ok(word);
            }
        }
    }

    /// Serves the mount until the management console answers.
    fn wait_for_answer(&mut self) -> Result<Result<String, String>, NoMore> {
        let mut quiet = clock::start();
        loop {
            self.serve_once(&mut quiet, HANGS)?;
            if let Some(answer) = self.on_running(|running| running.answer())? {
                return Ok(answer);
            }
        }
    }

    /// Answers at most one request of the host's kernel, after having heard what the guest has said
    /// before it.
    fn serve_once(
        &mut self,
        quiet: &mut Started,
        time: Duration,
    ) -> Result<Vec<GuestWord>, NoMore> {
        // Before each answer: the kernel may never be quiet.
        if (self.stop)() {
            return Err(CannotFuzz::Stopped.into());
        }
        let asked = self.mount.next(LOOK);
        let heard = self.on_running(Running::hear);
        let is_quiet = asked.is_none() && matches!(&heard, Ok(words) if words.is_empty());
        let mut understood = Ok(());
        for word in heard.iter().flatten() {
            understood = self.words.hear(word);
            if understood.is_err() {
                break;
            }
            self.witness(Witnessed::Guest(word.clone()));
        }
        // Also if nothing was heard: whoever asks waits for it, and would not end.
        if let Some(answer) = asked {
            answer(&mut self.tree);
            for answered in self.tree.take_answered() {
                self.changes += usize::from(answered.kind.is_change());
                let record = self.place.record(self.tree.tree(), answered);
                self.witness(Witnessed::Host(record));
            }
            if self.killed_after.is_some_and(|after| self.changes >= after) {
                self.killed_after = None;
                return Err(NoMore::Ended(Ending::Killed));
            }
        }
        let words = heard?;
        understood.map_err(|why| self.astray(why))?;
        if self.extent.is_exceeded() {
            return Err(NoMore::Ended(Ending::Endless(self.console())));
        }
        if !is_quiet {
            *quiet = clock::start();
            return Ok(words);
        }
        if let Some(how) = self.on_running(Running::ended)? {
            return Err(self.died(&how));
        }
        if quiet.elapsed() > time {
            return Err(NoMore::Ended(Ending::Hung(self.console())));
        }
        Ok(words)
    }

    /// Ends the kernel that is running, if one is. It may wait for the mount.
    fn end_running(&mut self) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        running.kill();
        while !running.is_gone() {
            if let Some(answer) = self.mount.next(LOOK) {
                answer(&mut self.tree);
            }
        }
    }
}

/// How many changes a life carries out that ends so.
fn changes_before(end: &End) -> usize {
    match end {
        End::Close => usize::MAX,
        End::Kill { change, .. } | End::PowerCut { change, .. } => *change,
    }
}

impl Drop for Laboratory {
    fn drop(&mut self) {
        self.end_running();
    }
}
