//! What is going to be checked: moments, and images of each, those that are byte for byte alike
//! once. Making the plan takes one pass over the run.

use std::collections::BTreeMap;

use crate::random::SplitMix64;
use crate::sim::Assumptions;
use crate::sim::tree::{Recorded, Tree};

use super::points::points;
use super::recipe::Recipe;

/// What a crash is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// The processes are killed: what they did is there.
    Kill,
    /// The power is cut: of what was not synced any part survives.
    Power,
}

/// How much is planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) model: Model,
    /// The most moments.
    pub(super) points: u64,
    /// The most images of each.
    pub(super) images: u64,
    pub(super) seed: u64,
}

/// An image that is going to be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The changes that were carried out before the crash.
    pub point: u64,
    /// What of them it leaves.
    pub recipe: Recipe,
    /// How many images are like this, itself among them.
    pub alike: u64,
}

/// What is going to be checked, in the order of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The moments.
    pub points: u64,
    /// Their images, those that are alike counted each.
    pub images: u64,
    /// The images that are different.
    pub planned: Vec<Planned>,
}

impl Plan {
    /// Plans crashes of the run that `log` has from `from` on.
    pub(super) fn make(log: &[Recorded], from: u64, extent: Extent, rules: Assumptions) -> Plan {
        let points = points(log, from, extent.points.max(1));
        let mut plan = Plan {
            points: points.len() as u64,
            images: 0,
            planned: Vec::new(),
        };
        let mut known: BTreeMap<u128, usize> = BTreeMap::new();
        let mut seeds = SplitMix64(extent.seed);
        let mut replay = Replay::new(log, rules);
        for point in points {
            replay.advance_to(point);
            let next = replay.next();
            let next = next.map(|next| &next.change);
            let tree = &replay.tree;
            let seed = seeds.number();
            let recipes = match extent.model {
                Model::Kill => Recipe::of_kill(tree, next, extent.images.max(1)),
                Model::Power => Recipe::of_power_cut(&tree.at_stake(), extent.images.max(1), seed),
            };
            for recipe in recipes {
                let Some(image) = recipe.image(tree, next) else {
                    continue;
                };
                plan.images += 1;
                let planned = plan.planned.len();
                match *known.entry(image.digest()).or_insert(planned) {
                    first if first < planned => plan.planned[first].alike += 1,
                    _ => plan.planned.push(Planned {
                        point,
                        recipe,
                        alike: 1,
                    }),
                }
            }
        }
        plan
    }
}

/// A run that is gone through again, forwards.
pub(super) struct Replay<'a> {
    log: &'a [Recorded],
    pub(super) tree: Tree,
    at: usize,
}

impl<'a> Replay<'a> {
    pub(super) fn new(log: &'a [Recorded], assumptions: Assumptions) -> Replay<'a> {
        Replay {
            log,
            tree: Tree::new(assumptions),
            at: 0,
        }
    }

    /// Carries out what comes before the change with this number. It was carried out before on the
    /// same directory, and so does not fail.
    pub(super) fn advance_to(&mut self, point: u64) {
        let end = usize::try_from(point).unwrap_or(usize::MAX);
        while let Some(recorded) = self.log.get(self.at).filter(|_| self.at < end) {
            let carried_out = self
                .tree
                .carry_out(self.at as u64, recorded.at, &recorded.change);
            assert!(
                carried_out.is_ok(),
                "a change that has succeeded once succeeds again: {recorded}: {carried_out:?}"
            );
            self.at += 1;
        }
    }

    /// The change that comes next.
    pub(super) fn next(&self) -> Option<&'a Recorded> {
        self.log.get(self.at)
    }
}
