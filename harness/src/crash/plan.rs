//! What is going to be checked: moments, and images of each, those that are alike once. Making
//! the plan takes one pass over the run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::clock::{self, Started};
use crate::random::SplitMix64;
use crate::sim::Assumptions;
use crate::sim::tree::{Recorded, Tree};

use super::points::points;
use super::recipe::Recipe;

/// How long a run is gone through yet when everything is to end. Of a short one what was found is
/// told then.
const LAST_STEPS: Duration = Duration::from_millis(300);

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
    /// The most bytes that the content of the directory takes at one of the moments.
    pub largest: u64,
    /// Everything was to end before it was made.
    pub is_cut_short: bool,
}

impl Plan {
    /// Plans crashes of the run that `log` has from `from` on, until `stop` says that everything is
    /// to end.
    pub(super) fn make(
        log: &[Recorded],
        from: u64,
        extent: Extent,
        rules: Assumptions,
        stop: &AtomicBool,
    ) -> Plan {
        let points = points(log, from, extent.points.max(1));
        let mut plan = Plan {
            points: points.len() as u64,
            images: 0,
            planned: Vec::new(),
            largest: 0,
            is_cut_short: false,
        };
        let mut known: BTreeMap<u128, usize> = BTreeMap::new();
        let mut seeds = SplitMix64(extent.seed);
        let mut replay = Replay::new(log, rules, stop);
        for point in points {
            if !replay.advance_to(point) {
                plan.is_cut_short = true;
                break;
            }
            let next = replay.next();
            let next = next.map(|next| &next.change);
            let tree = &replay.tree;
            plan.largest = plan.largest.max(tree.allocated());
            let seed = seeds.number();
            let recipes = match extent.model {
                Model::Kill => Recipe::of_kill(tree, next, extent.images.max(1)),
                Model::Power => Recipe::of_power_cut(&tree.at_stake(), extent.images.max(1), seed),
            };
            for recipe in recipes {
                if stop.load(Ordering::Relaxed) {
                    plan.is_cut_short = true;
                    return plan;
                }
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
    stop: &'a AtomicBool,
    /// Since when it is known that everything is to end.
    ends: Option<Started>,
}

impl<'a> Replay<'a> {
    /// From an empty directory on. Soon after `stop` says that everything is to end, it does.
    pub(super) fn new(
        log: &'a [Recorded],
        assumptions: Assumptions,
        stop: &'a AtomicBool,
    ) -> Replay<'a> {
        Replay {
            log,
            tree: Tree::of_a_list(assumptions),
            at: 0,
            stop,
            ends: None,
        }
    }

    /// Carries out what comes before the change with this number. It was carried out before on the
    /// same directory, and so does not fail. Whether it got there, and was not to end.
    pub(super) fn advance_to(&mut self, point: u64) -> bool {
        let end = usize::try_from(point).unwrap_or(usize::MAX);
        while let Some(recorded) = self.log.get(self.at).filter(|_| self.at < end) {
            if self.stop.load(Ordering::Relaxed)
                && self.ends.get_or_insert_with(clock::start).elapsed() > LAST_STEPS
            {
                return false;
            }
            let carried_out = self
                .tree
                .carry_out(self.at as u64, recorded.at, &recorded.change);
            assert!(
                carried_out.is_ok(),
                "a change that has succeeded once succeeds again: {recorded}: {carried_out:?}"
            );
            self.at += 1;
        }
        true
    }

    /// The change that comes next.
    pub(super) fn next(&self) -> Option<&'a Recorded> {
        self.log.get(self.at)
    }
}

#[cfg(test)]
mod tests {
    use driver::host::OperationKind;

    use super::*;
    use crate::sim::tree::{Attributes, EntryName, Moment, NewNode, ROOT, TreeChange};

    fn log(files: u64) -> Vec<Recorded> {
        let create = |number: u64| Recorded {
            kind: OperationKind::CreateNew,
            at: Moment::default(),
            change: TreeChange::Create {
                name: EntryName {
                    directory: ROOT,
                    name: number.to_string().into(),
                },
                node: crate::sim::InodeNumber(ROOT.0 + 1 + number),
                what: NewNode::File,
                attributes: Attributes::default(),
            },
        };
        (0..files).map(create).collect()
    }

    fn made(log: &[Recorded], stop: bool) -> Plan {
        let extent = Extent {
            model: Model::Power,
            points: 1000,
            images: 1000,
            seed: 1,
        };
        let stop = AtomicBool::new(stop);
        Plan::make(log, 0, extent, Assumptions::default(), &stop)
    }

    #[test]
    fn a_plan_that_is_to_end_is_cut_short() {
        let log = log(10);
        let whole = made(&log, false);
        assert!(!whole.is_cut_short);
        assert_eq!(whole.points, 11);
        let cut_short = made(&log, true);
        assert!(cut_short.is_cut_short);
        assert_eq!(cut_short.planned, []);
    }
}
