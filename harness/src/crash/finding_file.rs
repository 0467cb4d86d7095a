//! A finding as a file that needs nothing else: the list of all changes, from an empty directory
//! on, the moment, what survives, and the check.

use std::path::{Component, Path, PathBuf};

use driver::shown;
use serde::{Deserialize, Serialize};

use crate::sim::Assumptions;
use crate::sim::tree::{Recorded, Tree, TreeChange, TreeSurvivors};

use super::command::Ran;
use super::finding::{Finding, tell};
use super::kept_change::{KeptChange, Text};
use super::recipe::Recipe;

/// What the file says first.
pub const FORMAT: &str = "ubdlab crash finding 1";

/// A finding, in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FindingFile {
    /// [`FORMAT`].
    pub format: String,
    /// The command that was crashed, for a reader.
    pub command: String,
    /// What looks at the image, in a shell.
    pub check: Text,
    /// The directory as the check names it: beneath the one in which it runs, or an absolute path.
    pub directory: Text,
    /// What was assumed of the disk.
    pub assumptions: Assumptions,
    /// The changes before the crash.
    pub point: u64,
    /// How many of them are not the command's: they make the directory in which it began.
    pub begin: u64,
    /// What the crash leaves.
    pub crash: Crash,
    /// All changes up to the crash and, of a kill, the one that it cuts short.
    pub changes: Vec<KeptChange>,
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
    /// The directory has a name that leads elsewhere.
    #[error(
        "directory: found {}, expected an absolute path or one beneath, without \"..\"",
        shown(found)
    )]
    Directory {
        /// What it says.
        found: PathBuf,
    },
}

impl FindingFile {
    /// The changes, as they are carried out, for which together the directory may take this many
    /// bytes of space.
    ///
    /// # Errors
    /// If one of them is none, or they take more.
    pub fn changes(&self, most: u64) -> Result<Vec<Recorded>, BadFinding> {
        if self.format != FORMAT {
            let found = self.format.clone();
            return Err(BadFinding::Format { found });
        }
        let mut space = 0_u64;
        let mut changes = Vec::new();
        for (number, kept) in self.changes.iter().enumerate() {
            let wrong = |why| BadFinding::Change { number, why };
            let recorded = kept.recorded().map_err(wrong)?;
            space = space.saturating_add(recorded.change.space());
            if space > most {
                return Err(BadFinding::TooMuch { number, most });
            }
            changes.push(recorded);
        }
        Ok(changes)
    }

    /// What the crash leaves.
    pub fn recipe(&self) -> Recipe {
        match &self.crash {
            Crash::Power(survivors) => Recipe::Exactly(survivors.clone()),
            Crash::Kill => Recipe::Killed,
            Crash::KillWithin(border) => Recipe::KilledWithin(*border),
        }
    }

    /// The directory after the crash, if its changes take no more space than this.
    ///
    /// # Errors
    /// If the file is wrong.
    pub fn remains(&self, most: u64) -> Result<Tree, BadFinding> {
        let changes = self.changes(most)?;
        let tree = self.tree_of(&changes)?;
        if let Recipe::Exactly(survivors) = self.recipe() {
            let remains = tree.after_power_cut(&survivors);
            return remains.map_err(|error| BadFinding::Crash(error.to_string()));
        }
        let remains = self.recipe().after_kill(&tree, self.next(&changes));
        remains.ok_or_else(|| BadFinding::Crash("found no write that it could cut there".into()))
    }

    /// The story of the crash, of which the check has said this, within the same bounds.
    ///
    /// # Errors
    /// If the file is wrong.
    pub fn told(&self, ran: Ran, most: u64) -> Result<Finding, BadFinding> {
        let changes = self.changes(most)?;
        let tree = self.tree_of(&changes)?;
        let point = (self.begin, self.point);
        Ok(tell(&tree, &changes, point, self.recipe(), ran))
    }

    /// The directory when the crash came.
    fn tree_of(&self, changes: &[Recorded]) -> Result<Tree, BadFinding> {
        let last = changes.len() as u64;
        if self.point > last || self.begin > self.point {
            return Err(BadFinding::Point {
                found: self.point,
                begin: self.begin,
                changes: last,
            });
        }
        // The list goes before it; what its pages keep of it is what the file had in it.
        let mut tree = Tree::of_a_list(self.assumptions);
        let point = usize::try_from(self.point).unwrap_or(usize::MAX);
        for (number, recorded) in changes.iter().take(point).enumerate() {
            let carried_out = tree.carry_out(number as u64, recorded.at, &recorded.change);
            carried_out.map_err(|error| BadFinding::Change {
                number,
                why: error.to_string(),
            })?;
        }
        Ok(tree)
    }

    /// The change that the crash has cut short or kept from happening.
    fn next<'a>(&self, changes: &'a [Recorded]) -> Option<&'a TreeChange> {
        let point = usize::try_from(self.point).unwrap_or(usize::MAX);
        changes.get(point).map(|recorded| &recorded.change)
    }

    /// The directory, as the check names it.
    ///
    /// # Errors
    /// If that leads to somewhere else than it says.
    pub fn directory(&self) -> Result<PathBuf, BadFinding> {
        let found = PathBuf::from(self.directory.text());
        let mut parts = found.components();
        let leads_there = |part| match part {
            Component::Normal(_) => true,
            Component::RootDir => found.is_absolute(),
            Component::Prefix(_) | Component::CurDir | Component::ParentDir => false,
        };
        match parts.all(leads_there) && found.file_name().is_some() {
            true => Ok(found),
            false => Err(BadFinding::Directory { found }),
        }
    }
}

/// The directory as a check in `within` names it.
pub(super) fn named_from(within: &Path, directory: &Path) -> Text {
    match directory.strip_prefix(within) {
        Ok(beneath) if !beneath.as_os_str().is_empty() => beneath.as_os_str().into(),
        _ => directory.as_os_str().into(),
    }
}
