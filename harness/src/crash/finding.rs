//! What was found: an image that does not pass the check, with what was done before the crash and
//! what became of it.

use std::fmt;

use driver::host::OperationKind;

use super::command::Ran;
use super::recipe::Recipe;

/// What became of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was not at stake: synced, or of a kind that no crash takes back.
    Safe,
    /// It was not synced, and survived.
    Survived,
    /// It was lost.
    Lost,
    /// A part of it survived.
    Torn(Part),
}

/// How much of something was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// What was done.
    pub done: u64,
    /// What there was to do.
    pub of: u64,
    /// Bytes. A new length has none, and survives in parts.
    pub unit: &'static str,
}

/// As in `512 of 4096 bytes`.
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Part { done, of, unit } = self;
        write!(f, "{done} of {of} {unit}")
    }
}

/// An operation of the command before the crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashedOperation {
    /// The number of its change, counted from the command's first one.
    pub number: u64,
    /// What kind it is of.
    pub kind: OperationKind,
    /// What it was.
    pub operation: String,
    /// What became of it.
    pub fate: Fate,
}

/// An image that does not pass the check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The changes of the command before the crash.
    pub point: u64,
    /// The last of them.
    pub after: Option<String>,
    /// The one that would have come next.
    pub before: Option<String>,
    /// What the command has done, in order: all that was not synced, and the last of the rest.
    pub operations: Vec<CrashedOperation>,
    /// How many changes come before these, or between them, that were not at stake.
    pub left_out: u64,
    /// How much of that one was done, where a kill has cut it short.
    pub cut_short: Option<Part>,
    /// What the crash leaves.
    pub recipe: Recipe,
    /// What the check did.
    pub ran: Ran,
}

impl Finding {
    /// What was not synced when the crash came.
    pub fn at_stake(&self) -> impl Iterator<Item = &CrashedOperation> {
        let operations = self.operations.iter();
        operations.filter(|operation| operation.fate != Fate::Safe)
    }
}
