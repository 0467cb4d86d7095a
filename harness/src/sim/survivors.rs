//! What a power cut left: for every unsynced operation whether it reached the disk,
//! as explicit data. A choice of survivors together with the host before the cut is
//! one crash image; it can be written down, edited and used again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use driver::host::OperationKind;
use driver::units::FileRange;
use serde::{Deserialize, Serialize};

use super::names::NameChange;

/// A file on the simulated host, whatever its names. Numbers are never used twice and
/// stay the same through crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InodeNumber(pub u64);

/// What of one unsynced change of a file's content survived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Survival {
    /// Nothing.
    Lost,
    /// All of it.
    Whole,
    /// These runs of its atoms, each from and up to, ascending. An atom is a sector, unless
    /// [`Assumptions::atomic_unit`](super::Assumptions::atomic_unit) says otherwise;
    /// they are counted from the one in which the change begins.
    Torn(Vec<(u64, u64)>),
}

/// The survivors of a power cut: a decision for each operation in [`Unsynced`], in its
/// order. The operations of a file or directory that is not mentioned are lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Survivors {
    /// Of the changes of each file's content.
    pub files: BTreeMap<InodeNumber, Vec<Survival>>,
    /// Of the changes of the names in each directory.
    pub names: BTreeMap<PathBuf, Vec<bool>>,
    /// The time of last modification that each file has. Without one it is the durable one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub times: BTreeMap<InodeNumber, i64>,
}

/// What was not durable at one moment, and so is at stake when the power fails then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsynced {
    /// The files with unsynced changes that have a name or may have one after the cut.
    pub files: Vec<UnsyncedFile>,
    /// The directories with unsynced changes of names.
    pub directories: Vec<UnsyncedNames>,
    /// The times of last modification that a file may have after the cut, the durable one
    /// first, where there is more than one.
    pub times: BTreeMap<InodeNumber, Vec<i64>>,
    /// As [`Assumptions::ordered_names`](super::Assumptions::ordered_names).
    pub ordered_names: bool,
}

/// The unsynced changes of one file's content, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsyncedFile {
    /// Which file.
    pub inode: InodeNumber,
    /// The last name that it had.
    pub path: Rc<Path>,
    /// The changes.
    pub operations: Vec<UnsyncedOperation>,
}

/// One unsynced change of a file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsyncedOperation {
    /// The number of the operation on the host that carried it out. (After a kill this
    /// is the host before the kill.)
    pub index: u64,
    /// What it is.
    pub kind: OperationKind,
    /// The bytes that it changes; of a new length, the empty range there.
    pub range: FileRange,
    /// In how many parts it may be torn; 1 if it is atomic.
    pub atoms: u64,
    /// Whether [`Survival::Torn`] with no atoms has a meaning: the new length alone.
    pub may_leave_its_length: bool,
    /// Whether a sync of it failed, so that no later one makes it durable.
    pub orphaned: bool,
}

/// The unsynced changes of the names in one directory, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsyncedNames {
    /// The directory.
    pub directory: Rc<Path>,
    /// The changes.
    pub changes: Vec<NameChange>,
}

impl UnsyncedOperation {
    /// Whether it can survive in part.
    pub fn can_tear(&self) -> bool {
        self.atoms > 1 || self.may_leave_its_length
    }
}

impl Survivors {
    /// Whether some operation has survived in part.
    pub fn are_torn(&self) -> bool {
        let mut all = self.files.values().flatten();
        all.any(|survival| matches!(survival, Survival::Torn(_)))
    }
}

impl Unsynced {
    /// Whether some operation can survive in part.
    pub fn can_tear(&self) -> bool {
        let mut all = self.files.iter().flat_map(|file| &file.operations);
        all.any(UnsyncedOperation::can_tear)
    }

    /// How many operations are at stake.
    pub fn operation_count(&self) -> usize {
        let changes = self.files.iter().map(|file| file.operations.len());
        let names = self.directories.iter().map(|names| names.changes.len());
        changes.chain(names).sum()
    }

    /// The survivors if the disk had caught up just before the cut.
    pub fn everything(&self) -> Survivors {
        let whole = |file: &UnsyncedFile| vec![Survival::Whole; file.operations.len()];
        let kept = |names: &UnsyncedNames| vec![true; names.changes.len()];
        Survivors {
            files: (self.files.iter().map(|file| (file.inode, whole(file)))).collect(),
            names: (self.directories.iter())
                .map(|names| (names.directory.to_path_buf(), kept(names)))
                .collect(),
            times: (self.times.iter())
                .filter_map(|(&inode, times)| times.last().map(|&last| (inode, last)))
                .collect(),
        }
    }
}

/// Survivors that do not fit the host that they are meant for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSurvivors {
    /// A decision for a file without unsynced changes.
    #[error("file {} has no unsynced changes", .0.0)]
    NoSuchFile(InodeNumber),
    /// A decision for a directory without unsynced changes.
    #[error("the directory '{}' has no unsynced changes of names", .0.display())]
    NoSuchDirectory(PathBuf),
    /// Too many decisions for a file, or too few.
    #[error("file {} has {expected} unsynced changes, {found} decisions were given", .inode.0)]
    FileCount {
        /// The file.
        inode: InodeNumber,
        /// Decisions given.
        found: usize,
        /// Unsynced changes.
        expected: usize,
    },
    /// Too many decisions for a directory, or too few.
    #[error(
        "the directory '{}' has {expected} unsynced changes of names, {found} decisions were given",
        .directory.display()
    )]
    NameCount {
        /// The directory.
        directory: PathBuf,
        /// Decisions given.
        found: usize,
        /// Unsynced changes.
        expected: usize,
    },
    /// A tear that the change does not have atoms for, or not in ascending order.
    #[error("change {position} of file {} has {atoms} atoms and cannot be torn into {runs:?}", .inode.0)]
    Tear {
        /// The file.
        inode: InodeNumber,
        /// The change's place among the file's unsynced ones.
        position: usize,
        /// The atoms that the change has.
        atoms: u64,
        /// The runs of atoms given.
        runs: Vec<(u64, u64)>,
    },
    /// A time that the file did not have since its last one became durable.
    #[error("file {} cannot have been modified at {found}: that was one of {times:?}", .inode.0)]
    Time {
        /// The file.
        inode: InodeNumber,
        /// The time given.
        found: i64,
        /// Those that it can have.
        times: Vec<i64>,
    },
    /// A change of a name that survived an earlier one, where they are ordered.
    #[error(
        "in the directory '{}' change {position} of names survived and an earlier one did not, \
         but names are assumed to be ordered",
        .directory.display()
    )]
    NamesOutOfOrder {
        /// The directory.
        directory: PathBuf,
        /// The change's place among the directory's unsynced ones.
        position: usize,
    },
}
