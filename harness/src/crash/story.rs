//! The story of a crash: what the command did, and what became of each part of it.

use std::collections::BTreeMap;

use driver::units::FileRange;

use crate::sim::tree::{Recorded, Tree};
use crate::sim::{Assumptions, Survival};

use super::command::Ran;
use super::finding::{CrashedOperation, Fate, Finding, Part};
use super::names_then::NamesThen;
use super::recipe::Recipe;
use super::shrink::whole;

/// The last changes of a command that a finding tells of, whether they were at stake or not. Of
/// those before it tells what was at stake.
const MOST_SAFE: u64 = 200;

/// Tells the story of an image, with `tree` at its moment, by the names that files have then.
/// `from` is the number of the command's first change.
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
    let told = |number: usize| names.told(number);
    let mut at_stake = match recipe {
        Recipe::Killed | Recipe::KilledWithin(_) => BTreeMap::new(),
        _ => fates(tree, assumptions, &recipe),
    };
    let mut operations = Vec::new();
    for (place, (index, recorded)) in (begin..).zip((from..).zip(&log[begin..at])) {
        let fate = at_stake.remove(&index);
        if fate.is_none() && point - index > MOST_SAFE {
            continue;
        }
        operations.push(CrashedOperation {
            number: index - from,
            kind: recorded.kind,
            operation: told(place).unwrap_or_default(),
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
