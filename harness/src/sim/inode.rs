//! One file of the simulated host: what of it is durable, what it holds now, and the
//! ordered list of changes that lie between.

use std::path::Path;
use std::rc::Rc;

use driver::host::FileKind;
use driver::units::FileRange;

use super::assumptions::Assumptions;
use super::change::Change;
use super::change_list::ChangeList;
use super::content::FileContent;
use super::survivors::{BadSurvivors, InodeNumber, Survival, UnsyncedOperation};
use super::times::Times;

/// A file. The invariant: `durable`, then all `unsynced` in order, gives `current`.
#[derive(Clone)]
pub(crate) struct Inode {
    pub(crate) kind: FileKind,
    pub(crate) times: Times,
    /// The last name that it had.
    pub(crate) path: Rc<Path>,
    /// How many open descriptions there are.
    pub(crate) handles: u32,
    durable: FileContent,
    current: FileContent,
    unsynced: ChangeList<UnsyncedChange>,
}

#[derive(Clone)]
struct UnsyncedChange {
    index: u64,
    change: Change,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The next sync makes it durable.
    Pending,
    /// A sync of it failed: no later sync makes it durable.
    Orphaned,
    /// Durable, but listed because it comes after an orphan, which, if it survived,
    /// was overwritten by this.
    Secured,
}

impl Inode {
    /// A file whose content is durable.
    pub(crate) fn new(path: &Rc<Path>, content: FileContent) -> Self {
        Self {
            kind: FileKind::Regular,
            times: Times::default(),
            path: Rc::clone(path),
            handles: 0,
            durable: content.clone(),
            current: content,
            unsynced: ChangeList::default(),
        }
    }

    pub(crate) fn current(&self) -> &FileContent {
        &self.current
    }

    /// What a snapshot of it holds for itself of the list of changes that are not settled.
    pub(crate) fn cost_of_a_snapshot(&self) -> u64 {
        self.unsynced.cost_of_a_clone()
    }

    /// Carries out a change, in the page cache.
    pub(crate) fn change(&mut self, index: u64, change: Change) {
        change.apply(&mut self.current);
        self.unsynced.push(UnsyncedChange {
            index,
            change,
            fate: Fate::Pending,
        });
    }

    /// Allocates space. No reader sees a difference, and so it is no change that a crash could
    /// lose. The space is kept by the next sync, or given back when the power goes before it. A
    /// sync that fails gives it back at once, where it drops content. Where it leaves orphans, no
    /// later sync keeps space, because none makes the content durable that it belongs to.
    pub(crate) fn reserve(&mut self, range: FileRange) {
        self.current.reserve(range);
    }

    /// Makes everything durable that no failed sync has orphaned.
    pub(crate) fn sync(&mut self) {
        let Some(orphan) = self.first_orphan() else {
            self.settle();
            return;
        };
        let durable = &mut self.durable;
        self.unsynced.edit(|unsynced| {
            for settled in unsynced.drain(..orphan) {
                settled.change.apply(durable);
            }
        });
        self.seal(Fate::Secured);
    }

    /// A sync that failed: what it should have made durable no later sync will.
    /// Unless it stays visible, it is gone.
    pub(crate) fn fail_sync(&mut self, keeps_content: bool) {
        if keeps_content {
            self.seal(Fate::Orphaned);
            return;
        }
        self.unsynced
            .edit(|unsynced| unsynced.retain(|change| change.fate != Fate::Pending));
        self.current = self.durable.clone();
        for unsynced in self.unsynced.iter() {
            unsynced.change.apply(&mut self.current);
        }
    }

    /// Whether a power cut would leave it as it is now.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.unsynced.iter().next().is_none() && self.durable.is_same_as(&self.current)
    }

    /// Makes the current content durable as it is.
    pub(crate) fn settle(&mut self) {
        self.durable = self.current.clone();
        self.unsynced.clear();
    }

    /// What is durable whatever happens: the content after a cut with no survivors.
    pub(crate) fn durable(&self) -> FileContent {
        let mut content = self.durable.clone();
        for unsynced in self.unsynced.iter() {
            if unsynced.fate == Fate::Secured {
                unsynced.change.apply(&mut content);
            }
        }
        content
    }

    /// What is at stake when the power fails now.
    pub(crate) fn unsynced(&self, assumptions: &Assumptions) -> Vec<UnsyncedOperation> {
        self.at_stake()
            .map(|unsynced| UnsyncedOperation {
                index: unsynced.index,
                kind: unsynced.change.kind(),
                range: unsynced.change.range(),
                atoms: unsynced.change.atoms(assumptions),
                may_leave_its_length: unsynced.change.may_leave_its_length(assumptions),
                orphaned: unsynced.fate == Fate::Orphaned,
            })
            .collect()
    }

    /// This file after a restart: with this content and time, durable, under its present name.
    pub(crate) fn restarted(&self, path: &Rc<Path>, content: FileContent, time: i64) -> Self {
        let mut restarted = Self::new(path, content);
        restarted.kind = self.kind;
        restarted.times = Times::durable(time);
        restarted
    }

    /// The time after a power cut that left this one; `None`: no later one than the durable.
    pub(crate) fn time_after_power_cut(
        &self,
        number: InodeNumber,
        survivor: Option<i64>,
    ) -> Result<i64, BadSurvivors> {
        let mut times = self.times.at_stake();
        let found = match survivor {
            None => times.next(),
            Some(time) => times.find(|&at_stake| at_stake == time),
        };
        found.ok_or_else(|| BadSurvivors::Time {
            inode: number,
            found: survivor.unwrap_or_default(),
            times: self.times.at_stake().collect(),
        })
    }

    /// The content after a power cut that left these survivors; `None`: nothing at stake
    /// survived.
    pub(crate) fn after_power_cut(
        &self,
        number: InodeNumber,
        survivors: Option<&[Survival]>,
        assumptions: &Assumptions,
    ) -> Result<FileContent, BadSurvivors> {
        let Some(survivors) = survivors else {
            return Ok(self.durable());
        };
        let expected = self.at_stake().count();
        if survivors.len() != expected {
            return Err(BadSurvivors::FileCount {
                inode: number,
                found: survivors.len(),
                expected,
            });
        }
        let mut content = self.durable.clone();
        let mut decisions = survivors.iter().enumerate();
        for unsynced in self.unsynced.iter() {
            if unsynced.fate == Fate::Secured {
                unsynced.change.apply(&mut content);
            } else if let Some((position, survival)) = decisions.next() {
                check_tear(number, position, &unsynced.change, survival, assumptions)?;
                (unsynced.change).apply_survivor(survival, &mut content, assumptions);
            }
        }
        Ok(content)
    }

    fn at_stake(&self) -> impl Iterator<Item = &UnsyncedChange> {
        (self.unsynced.iter()).filter(|unsynced| unsynced.fate != Fate::Secured)
    }

    fn first_orphan(&self) -> Option<usize> {
        (self.unsynced.iter()).position(|unsynced| unsynced.fate == Fate::Orphaned)
    }

    fn seal(&mut self, fate: Fate) {
        self.unsynced.edit(|unsynced| {
            for change in unsynced.iter_mut() {
                if change.fate == Fate::Pending {
                    change.fate = fate;
                }
            }
        });
    }
}

fn check_tear(
    inode: InodeNumber,
    position: usize,
    change: &Change,
    survival: &Survival,
    assumptions: &Assumptions,
) -> Result<(), BadSurvivors> {
    let Survival::Torn(runs) = survival else {
        return Ok(());
    };
    let atoms = change.atoms(assumptions);
    let mut behind = 0;
    let mut fits = match runs.is_empty() {
        true => change.may_leave_its_length(assumptions),
        false => atoms > 1,
    };
    for &(from, to) in runs {
        fits &= behind <= from && from < to && to <= atoms;
        behind = to;
    }
    if fits {
        return Ok(());
    }
    Err(BadSurvivors::Tear {
        inode,
        position,
        atoms,
        runs: runs.clone(),
    })
}
