//! A finding as a file that needs nothing else: the list of all changes, from an empty directory
//! on, the moment, what survives, and the check.

use std::path::{Component, Path, PathBuf};

use driver::shown;
use serde::{Deserialize, Serialize, Serializer};

use crate::mount::Limits;
use crate::mount::known_names::stood_for;
use crate::sim::tree::{EntryName, NodeKind, Recorded, Tree, TreeChange, TreeSurvivors};
use crate::sim::{Assumptions, InodeNumber};

use super::command::Ran;
use super::finding::Finding;
use super::kept_change::{KeptChange, Text};
use super::recipe::Recipe;
use super::story::tell;

/// What the file says first.
pub const FORMAT: &str = "ubdlab crash finding 1";

/// A finding, in a file. It is read by [`FindingFile::read`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FindingFile {
    /// [`FORMAT`].
    pub format: String,
    /// The command that was crashed, for a reader.
    pub command: String,
    /// What looks at the image, in a shell.
    pub check: Text,
    /// Where the check runs, as an absolute path. What it names lies there.
    pub within: Text,
    /// Where the directory is for it, as an absolute path.
    pub directory: Text,
    /// How the check ended.
    pub end: String,
    /// What was assumed of the disk.
    pub assumptions: Assumptions,
    /// The changes before the crash.
    pub point: u64,
    /// How many of them are not the command's: they make the directory in which it began.
    pub begin: u64,
    /// What the crash leaves.
    pub crash: Crash,
    /// All changes up to the crash and, of a kill, the one that it cuts short.
    #[serde(serialize_with = "as_kept")]
    pub changes: Vec<Recorded>,
}

fn as_kept<S: Serializer>(changes: &[Recorded], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(changes.iter().map(KeptChange::of))
}

/// What a crash leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Crash {
    /// The power was cut, and this survived.
    Power(TreeSurvivors),
    /// The processes were killed.
    Kill,
    /// Likewise, in the middle of a write, before this border between its pages.
    KillWithin(u64),
}

/// Why a file is no finding.
#[derive(Debug, thiserror::Error)]
pub enum BadFinding {
    /// It cannot be read.
    #[error("reading: {}", driver::system_words(.0))]
    Reading(std::io::Error),
    /// It is none, or has something in it that none has.
    #[error("not a finding of ubdlab crash: {0}")]
    Text(serde_json::Error),
    /// It is longer than one that its limits allow.
    #[error("found more than {most} bytes {what}, expected a finding, which has at most as many")]
    TooLong {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        most: u64,
    },
    /// It says that it is something else.
    #[error("found format {found:?}, expected {FORMAT:?}")]
    Format {
        /// What it says.
        found: String,
    },
    /// A change cannot be read.
    #[error("change {number}: {why}")]
    Change {
        /// Its number.
        number: usize,
        /// What is wrong with it.
        why: String,
    },
    /// The changes take too much space.
    #[error(
        "change {number}: found more than {most} bytes of writes, names and reservations until then"
    )]
    TooMuch {
        /// The one with which they do.
        number: usize,
        /// How much is allowed.
        most: u64,
    },
    /// There are too many of them.
    #[error("found more than {most} changes")]
    TooManyChanges {
        /// How many are allowed.
        most: u64,
    },
    /// There are too many files, directories and symbolic links.
    #[error("change {number}: found more than {most} files then")]
    TooManyFiles {
        /// The one with which there are.
        number: usize,
        /// How many are allowed.
        most: u64,
    },
    /// What it leaves does not fit its changes.
    #[error("the crash: {0}")]
    Crash(String),
    /// The moment is none of the run's.
    #[error("point: found {found}, expected from {begin} (\"begin\") to {changes} (the changes)")]
    Point {
        /// What it says.
        found: u64,
        /// The first moment.
        begin: u64,
        /// The last one.
        changes: u64,
    },
    /// A place has a name that leads elsewhere.
    #[error("{field}: found {}, expected {expected}, without \"..\"", shown(found))]
    Place {
        /// Which.
        field: &'static str,
        /// What it says.
        found: PathBuf,
        /// What it would have to be.
        expected: &'static str,
    },
}

impl FindingFile {
    /// What the crash leaves.
    pub fn recipe(&self) -> Recipe {
        match &self.crash {
            Crash::Power(survivors) => Recipe::Exactly(survivors.clone()),
            Crash::Kill => Recipe::Killed,
            Crash::KillWithin(border) => Recipe::KilledWithin(*border),
        }
    }

    /// The directory after the crash, if it never has more files than its limits allow.
    ///
    /// # Errors
    /// If the file is wrong.
    pub fn remains(&self, limits: Limits) -> Result<Tree, BadFinding> {
        self.remains_of(&self.tree(limits)?)
    }

    /// What the crash leaves of this directory, which is that of its moment.
    pub(super) fn remains_of(&self, tree: &Tree) -> Result<Tree, BadFinding> {
        if let Recipe::Exactly(survivors) = self.recipe() {
            let remains = tree.after_power_cut(&survivors);
            return remains.map_err(|error| BadFinding::Crash(error.to_string()));
        }
        let remains = self.recipe().after_kill(tree, self.next());
        remains.ok_or_else(|| BadFinding::Crash("found no write that it could cut there".into()))
    }

    /// The story of the crash, of which the check has said this, with the directory of its moment.
    pub(super) fn told(&self, tree: &Tree, ran: Ran) -> Finding {
        let point = (self.begin, self.point);
        let recipe = self.recipe();
        tell(tree, &self.changes, point, &self.assumptions, recipe, ran)
    }

    /// The directory when the crash came.
    pub(super) fn tree(&self, limits: Limits) -> Result<Tree, BadFinding> {
        let last = self.changes.len() as u64;
        if self.point > last || self.begin > self.point {
            return Err(BadFinding::Point {
                found: self.point,
                begin: self.begin,
                changes: last,
            });
        }
        // The list stays as long as it.
        let mut tree = Tree::of_a_list(self.assumptions);
        let point = usize::try_from(self.point).unwrap_or(usize::MAX);
        let mut named = tree.node_count();
        for (number, recorded) in self.changes.iter().take(point).enumerate() {
            let change = &recorded.change;
            let before = stood_for(&tree, change);
            let carried_out = tree.carry_out(number as u64, recorded.at, change);
            carried_out.map_err(|error| BadFinding::Change {
                number,
                why: error.to_string(),
            })?;
            match change {
                TreeChange::Create { .. } => named += 1,
                TreeChange::Rename { exchange: true, .. } => {}
                _ => named -= u64::from(before.last().is_some_and(|it| has_gone(&tree, it))),
            }
            if named > limits.nodes {
                let most = limits.nodes;
                return Err(BadFinding::TooManyFiles { number, most });
            }
        }
        Ok(tree)
    }

    /// The change that the crash has cut short or kept from happening.
    fn next(&self) -> Option<&TreeChange> {
        let point = usize::try_from(self.point).unwrap_or(usize::MAX);
        self.changes.get(point).map(|recorded| &recorded.change)
    }

    /// Where the check runs.
    ///
    /// # Errors
    /// If that leads to somewhere else than it says.
    pub fn within(&self) -> Result<PathBuf, BadFinding> {
        let found = PathBuf::from(self.within.text());
        match leads_there(&found) {
            true => Ok(found),
            false => Err(BadFinding::Place {
                field: "within",
                found,
                expected: "an absolute path",
            }),
        }
    }

    /// What the remains lie over for it.
    ///
    /// # Errors
    /// If that leads to somewhere else than it says.
    pub fn directory(&self) -> Result<PathBuf, BadFinding> {
        let found = PathBuf::from(self.directory.text());
        match leads_there(&found) && found.file_name().is_some() {
            true => Ok(found),
            false => Err(BadFinding::Place {
                field: "directory",
                found,
                expected: "an absolute path beneath /",
            }),
        }
    }

    /// The directory as the check may name it: beneath the one in which it runs, if it is there.
    ///
    /// # Errors
    /// As for both of them.
    pub fn named(&self) -> Result<PathBuf, BadFinding> {
        let (within, directory) = (self.within()?, self.directory()?);
        Ok(match directory.strip_prefix(&within) {
            Ok(beneath) if !beneath.as_os_str().is_empty() => beneath.to_owned(),
            _ => directory,
        })
    }
}

/// Whether a path is absolute and leads to what its text says.
fn leads_there(path: &Path) -> bool {
    let is_plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
    path.is_absolute() && path.components().all(is_plain)
}

/// Whether what a name stood for before a change has no name any more.
fn has_gone(tree: &Tree, (name, before): &(EntryName, Option<InodeNumber>)) -> bool {
    let Some(node) = *before else {
        return false;
    };
    // A directory has one name.
    let had_no_other = tree
        .stat(node)
        .is_ok_and(|found| found.links == 0 || found.kind == NodeKind::Directory);
    had_no_other && tree.lookup(name.directory, &name.name) != Ok(node)
}
