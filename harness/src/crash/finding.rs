//! What was found: images that do not pass the check, those that say the same together, and of each
//! kind one with its story, shrunk to the fewest lost operations.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::process::ExitStatusExt;

use driver::host::OperationKind;
use driver::units::FileRange;

use crate::sim::tree::{Recorded, Tree};
use crate::sim::{Assumptions, InodeNumber, Survival};

use super::checking::Checks;
use super::command::{End, Ran};
use super::names_then::NamesThen;
use super::plan::Plan;
use super::recipe::Recipe;
use super::shrink::whole;

/// The last changes of a command that a finding tells of, whether they were at stake or not. Of
/// those before it tells what was at stake.
const MOST_SAFE: u64 = 200;

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
    /// So much.
    pub done: u64,
    /// Of this much.
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

/// Images that do not pass in the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// One of them.
    pub finding: Finding,
    /// How many there are.
    pub images: u64,
}

/// All that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Of each kind one, in the order of the run.
    pub told: Vec<Group>,
    /// How many kinds are not told. Some of them may be of one cause, or of one that is told:
    /// shrinking would show it.
    pub untold_kinds: u64,
    /// The images of these.
    pub untold_images: u64,
    /// Why what is told is not shrunk, or not all of it.
    pub not_shrunk: Option<String>,
}

impl Found {
    /// Whether this is told already; then it counts for the finding that does.
    pub(super) fn has(&mut self, ran: &Ran, images: u64) -> bool {
        let by = signature(ran);
        let known = self
            .told
            .iter_mut()
            .find(|it| signature(&it.finding.ran) == by);
        known.map(|it| it.images += images).is_some()
    }
}

/// By what findings of one cause are known: how the check ended, and what it said but for numbers.
fn signature(ran: &Ran) -> (String, String) {
    let said = String::from_utf8_lossy(&ran.said);
    let mut words = String::new();
    for character in said.chars().take(1000) {
        match character.is_ascii_digit() {
            false => words.push(character),
            true if words.ends_with('0') => {}
            true => words.push('0'),
        }
    }
    (ran.end.to_string(), words)
}

/// As it ends a sentence about a check.
impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Exited(status) => match (status.code(), status.signal()) {
                (Some(code), _) => write!(f, "ended with status {code}"),
                (None, Some(signal)) => write!(f, "was ended by signal {signal}"),
                (None, None) => f.write_str("ended"),
            },
            End::TimedOut => f.write_str("took too long and was killed"),
            End::Stopped => f.write_str("was stopped"),
        }
    }
}

/// Puts findings of one cause together; the first of each in the plan stands for them. What it has
/// lost beside the cause goes when it is shrunk.
pub(super) fn groups(checks: &Checks, plan: &Plan) -> Vec<(usize, u64, Ran)> {
    let mut known: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut groups: Vec<(usize, u64, Ran)> = Vec::new();
    for checked in &checks.failed {
        let alike = plan.planned.get(checked.planned).map_or(1, |it| it.alike);
        let group = *known.entry(signature(&checked.ran)).or_insert(groups.len());
        match groups.get_mut(group) {
            Some((_, images, _)) => *images += alike,
            None => groups.push((checked.planned, alike, checked.ran.clone())),
        }
    }
    groups
}

impl Finding {
    /// What was not synced when the crash came.
    pub fn at_stake(&self) -> impl Iterator<Item = &CrashedOperation> {
        let operations = self.operations.iter();
        operations.filter(|operation| operation.fate != Fate::Safe)
    }
}

/// Tells the story of an image, with `tree` at its moment, by the names that files have then. `from`
/// is the number of the command's first change.
pub(super) fn tell(
    tree: &Tree,
    log: &[Recorded],
    (from, point): (u64, u64),
    assumptions: &Assumptions,
    recipe: Recipe,
    ran: Ran,
) -> Finding {
    let at = usize::try_from(point).unwrap_or(usize::MAX).min(log.len());
    let begin = usize::try_from(from).unwrap_or(usize::MAX).min(at);
    let names = NamesThen::after(log, point);
    let name = |node: InodeNumber| names.name(node);
    let told = |index: usize| log.get(index).map(|recorded| recorded.told(&name));
    let mut at_stake = match recipe {
        Recipe::Killed | Recipe::KilledWithin(_) => BTreeMap::new(),
        _ => fates(tree, assumptions, &recipe),
    };
    let mut operations = Vec::new();
    for (index, recorded) in (from..).zip(&log[begin..at]) {
        let fate = at_stake.remove(&index);
        if fate.is_none() && point - index > MOST_SAFE {
            continue;
        }
        operations.push(CrashedOperation {
            number: index - from,
            kind: recorded.kind,
            operation: recorded.told(&name),
            fate: fate.unwrap_or(Fate::Safe),
        });
    }
    Finding {
        point: point.saturating_sub(from),
        after: at.checked_sub(1).filter(|_| at > begin).and_then(told),
        before: told(at),
        cut_short: match recipe {
            Recipe::KilledWithin(border) => {
                let range = log.get(at).and_then(|next| next.change.range());
                range.map(|range| part(range, &[(0, border)], assumptions.unit_of_a_kill()))
            }
            _ => None,
        },
        left_out: (at - begin - operations.len()) as u64,
        operations,
        recipe,
        ran,
    }
}

/// What became of each operation at stake, by its number.
fn fates(tree: &Tree, assumptions: &Assumptions, recipe: &Recipe) -> BTreeMap<u64, Fate> {
    let at_stake = tree.at_stake();
    let survivors = whole(&at_stake, recipe.survivors(&at_stake));
    let mut fates = BTreeMap::new();
    for file in &at_stake.files.files {
        let decided = survivors.files.get(&file.inode);
        for (operation, survival) in file.operations.iter().zip(decided.into_iter().flatten()) {
            let fate = match survival {
                Survival::Whole => Fate::Survived,
                Survival::Lost => Fate::Lost,
                Survival::Torn(runs) if operation.range.len.0 > 0 => {
                    Fate::Torn(part(operation.range, runs, assumptions.unit()))
                }
                Survival::Torn(runs) => Fate::Torn(Part {
                    done: runs.iter().map(|(from, to)| to - from).sum(),
                    of: operation.atoms,
                    unit: "parts",
                }),
            };
            fates.insert(operation.index, fate);
        }
    }
    for (&index, survives) in at_stake.names.iter().zip(tree.surviving(&survivors)) {
        let fate = if survives { Fate::Survived } else { Fate::Lost };
        fates.insert(index, fate);
    }
    fates
}

/// What these runs of units have of a range of bytes, counted from the unit in which that begins.
fn part(range: FileRange, runs: &[(u64, u64)], unit: u64) -> Part {
    let (start, end) = (range.start.0, range.end().0);
    let at = |number: u64| {
        let at = (start / unit).saturating_add(number).saturating_mul(unit);
        at.clamp(start, end)
    };
    Part {
        done: runs.iter().map(|&(from, to)| at(to) - at(from)).sum(),
        of: range.len.0,
        unit: "bytes",
    }
}

#[cfg(test)]
mod tests {
    use driver::units::{Bytes, FileOffset};

    use super::*;

    /// Units are those of the file, and not of what is written.
    #[test]
    fn a_part_is_told_in_bytes_whatever_the_unit() {
        let told = |start, len, runs: &[(u64, u64)], unit| {
            let range = FileRange::new(FileOffset(start), Bytes(len));
            part(range, runs, unit).to_string()
        };
        assert_eq!(told(0, 4096, &[(0, 2)], 512), "1024 of 4096 bytes");
        assert_eq!(told(500, 600, &[(0, 1), (2, 3)], 512), "88 of 600 bytes");
        assert_eq!(told(8, 16, &[(1, 2)], 8), "8 of 16 bytes");
        assert_eq!(told(4096, 8192, &[(0, 1)], 4096), "4096 of 8192 bytes");
        assert_eq!(told(0, 512, &[], 512), "0 of 512 bytes");
    }
}
