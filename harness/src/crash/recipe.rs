//! What survives a crash, said in few words: with the directory at its moment, a recipe gives one
//! crash image, the same each time.

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

use crate::random::SplitMix64;
use crate::sim::SurvivalWeights;
use crate::sim::tree::{AtStake, Tree, TreeChange, TreeSurvivors};
use crate::streams::below;

use super::points::spread;

/// Of which changes at stake a crash leaves what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// The processes were killed: all that was done is left.
    Killed,
    /// And of the write that came next, what lies before this border between its pages.
    KilledWithin(u64),
    /// The power was cut: nothing survives.
    Nothing,
    /// All of them survive.
    Everything,
    /// All but the one with this place survive.
    AllBut(usize),
    /// Only the one with this place survives.
    Only(usize),
    /// Those before the one with this place survive.
    Before(usize),
    /// Those survive whose bits are set.
    Subset(u64),
    /// As numbers from this seed say; writes may be torn.
    Drawn(u64),
    /// These survive.
    Exactly(TreeSurvivors),
}

impl Recipe {
    /// What a kill leaves by it, with `tree` at its moment and the change that comes next. `None`
    /// if it is none of a kill, or cuts nothing short there.
    pub(super) fn after_kill(&self, tree: &Tree, next: Option<&TreeChange>) -> Option<Tree> {
        match self {
            Recipe::Killed => Some(tree.after_kill()),
            Recipe::KilledWithin(border) => tree.after_kill_within(next?, *border),
            _ => None,
        }
    }

    /// What survives a power cut.
    pub fn survivors(&self, at_stake: &AtStake) -> TreeSurvivors {
        let indices = at_stake.indices();
        let at = |place: &usize| indices.get(*place).copied();
        match self {
            Recipe::Killed | Recipe::KilledWithin(_) | Recipe::Everything => {
                at_stake.survivors(|_| true)
            }
            Recipe::Nothing => at_stake.survivors(|_| false),
            Recipe::AllBut(lost) => {
                let lost = at(lost);
                at_stake.survivors(|index| Some(index) != lost)
            }
            Recipe::Only(kept) => {
                let kept = at(kept);
                at_stake.survivors(|index| Some(index) == kept)
            }
            Recipe::Before(end) => {
                let end = at(end);
                at_stake.survivors(|index| end.is_none_or(|end| index < end))
            }
            Recipe::Subset(bits) => {
                let place = |index: u64| indices.partition_point(|&it| it < index);
                at_stake.survivors(|index| bits >> place(index) & 1 == 1)
            }
            Recipe::Drawn(seed) => drawn(at_stake, *seed),
            Recipe::Exactly(survivors) => survivors.clone(),
        }
    }

    /// The recipes for a power cut, at most `most`, with what is most telling first: all subsets
    /// where they are few. Whether nothing else can be left than what they leave.
    pub(super) fn of_power_cut(at_stake: &AtStake, most: u64, seed: u64) -> (Vec<Recipe>, bool) {
        let count = at_stake.indices().len();
        let mut recipes = vec![Recipe::Everything];
        if count == 0 {
            return (recipes, true);
        }
        let mut seeds = SplitMix64(seed);
        let few = count < 20 && 1u64 << count <= most;
        if few {
            recipes.extend((0..(1u64 << count) - 1).map(Recipe::Subset));
        } else {
            recipes.push(Recipe::Nothing);
            let places: Vec<u64> = (0..count as u64).collect();
            let share = most / 4;
            let some = |make: fn(usize) -> Recipe| {
                let chosen = spread(&places, share).into_iter();
                chosen.map(move |place| make(place as usize))
            };
            recipes.extend(some(Recipe::AllBut));
            recipes.extend(some(Recipe::Before));
            recipes.extend(some(Recipe::Only).take(share as usize / 2));
        }
        let are_all = few && !at_stake.files.can_tear();
        let torn = match are_all {
            true => 0,
            false => most.saturating_sub(recipes.len() as u64),
        };
        recipes.extend((0..torn).map(|_| Recipe::Drawn(seeds.number())));
        recipes.truncate(usize::try_from(most).unwrap_or(usize::MAX).max(1));
        (recipes, are_all)
    }

    /// The recipes for a kill before `next`, at most `most`. Whether there are no others.
    pub(super) fn of_kill(
        tree: &Tree,
        next: Option<&TreeChange>,
        most: u64,
    ) -> (Vec<Recipe>, bool) {
        let borders = next.map_or(0, |next| tree.borders_within(next));
        let within: Vec<u64> = (1..=borders).collect();
        let mut recipes = vec![Recipe::Killed];
        let within = spread(&within, most.saturating_sub(1));
        recipes.extend(within.into_iter().map(Recipe::KilledWithin));
        let are_all = recipes.len() as u64 > borders;
        (recipes, are_all)
    }
}

fn drawn(at_stake: &AtStake, seed: u64) -> TreeSurvivors {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let weights = SurvivalWeights::draw(&mut rng);
    let mut files = at_stake.files.sample(weights, &mut rng);
    if !files.are_torn() && below(&mut rng, 2) == 0 {
        at_stake.files.tear_one(&mut files, &mut rng);
    }
    let count = at_stake.names.len() as u64;
    let names = match below(&mut rng, 3) {
        0 => vec![true; at_stake.names.len()],
        _ if at_stake.files.ordered_names => {
            let kept = below(&mut rng, count + 1);
            (0..count).map(|place| place < kept).collect()
        }
        _ => {
            let weights = SurvivalWeights::draw(&mut rng);
            (0..count).map(|_| weights.survives(&mut rng)).collect()
        }
    };
    TreeSurvivors {
        files: files.files,
        names,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::sim::Unsynced;

    fn names(count: u64, ordered_names: bool) -> AtStake {
        let files = Unsynced {
            files: Vec::new(),
            directories: Vec::new(),
            times: BTreeMap::new(),
            ordered_names,
        };
        AtStake::new(files, (0..count).map(|place| 100 + 7 * place).collect())
    }

    #[test]
    fn recipes_go_by_the_places_of_changes_at_stake() {
        let at_stake = names(4, false);
        let kept = |recipe: Recipe| recipe.survivors(&at_stake).names;
        assert_eq!(kept(Recipe::AllBut(1)), [true, false, true, true]);
        assert_eq!(kept(Recipe::Only(2)), [false, false, true, false]);
        assert_eq!(kept(Recipe::Before(2)), [true, true, false, false]);
        assert_eq!(kept(Recipe::Before(4)), [true; 4]);
        assert_eq!(kept(Recipe::Subset(0b1001)), [true, false, false, true]);
    }

    /// A first part of all, or any part where they survive in no order.
    #[test]
    fn of_many_names_those_are_drawn_that_can_survive() {
        for (ordered, scattered) in [(true, 0), (false, 300)] {
            let at_stake = names(30, ordered);
            let drawn = (0..1000).map(|seed| Recipe::Drawn(seed).survivors(&at_stake).names);
            let is_scattered = |kept: &Vec<bool>| !kept.is_sorted_by(|one, next| one >= next);
            let found = drawn.filter(is_scattered).count();
            assert!(found >= scattered && (found == 0) == ordered, "{found}");
        }
    }
}
