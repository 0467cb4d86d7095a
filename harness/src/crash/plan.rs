//! What is going to be checked: moments, and images of each, those that are alike once. Making
//! the plan takes one pass over the run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::random::SplitMix64;
use crate::sim::Assumptions;
use crate::sim::tree::Recorded;

use super::points::points;
use super::recipe::Recipe;
use super::replay::Replay;

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
    /// By which they are known to be.
    pub digest: u128,
}

/// What is going to be checked, in the order of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The moments.
    pub points: u64,
    /// Those that the run has.
    pub points_of_run: u64,
    /// Those of the moments at which more can be left than their images.
    pub partial_points: u64,
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
    /// to end. `progress` is told how many moments are planned, and of how many.
    pub(super) fn make(
        log: &[Recorded],
        from: u64,
        extent: Extent,
        rules: Assumptions,
        stop: &AtomicBool,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Plan {
        let points = points(log, from, extent.points.max(1));
        let mut plan = Plan {
            points: points.len() as u64,
            points_of_run: (log.len() as u64).saturating_sub(from) + 1,
            partial_points: 0,
            images: 0,
            planned: Vec::new(),
            largest: 0,
            is_cut_short: false,
        };
        let mut known: BTreeMap<u128, usize> = BTreeMap::new();
        let mut seeds = SplitMix64(extent.seed);
        let mut replay = Replay::new(log, rules, stop);
        for (planned, point) in (0..).zip(points) {
            progress(planned, plan.points);
            if !replay.advance_to(point) {
                plan.is_cut_short = true;
                break;
            }
            let tree = &replay.tree;
            plan.largest = plan.largest.max(tree.allocated());
            let seed = seeds.number();
            let (recipes, are_all) = match extent.model {
                Model::Kill => Recipe::of_kill(tree, replay.next(), extent.images.max(1)),
                Model::Power => Recipe::of_power_cut(replay.at_stake(), extent.images.max(1), seed),
            };
            plan.partial_points += u64::from(!are_all);
            for recipe in recipes {
                if stop.load(Ordering::Relaxed) {
                    plan.is_cut_short = true;
                    return plan;
                }
                let Some(image) = replay.image(&recipe) else {
                    continue;
                };
                plan.images += 1;
                let planned = plan.planned.len();
                let digest = image.digest();
                match *known.entry(digest).or_insert(planned) {
                    first if first < planned => plan.planned[first].alike += 1,
                    _ => plan.planned.push(Planned {
                        point,
                        recipe,
                        alike: 1,
                        digest,
                    }),
                }
            }
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use driver::host::OperationKind;
    use driver::units::FileOffset;

    use super::*;
    use crate::sim::tree::{Attributes, EntryName, Moment, NewNode, ROOT, TreeChange};
    use crate::sim::{InodeNumber, PAGE_SIZE};

    fn log(files: u64) -> Vec<Recorded> {
        let create = |number: u64| Recorded {
            kind: OperationKind::CreateNew,
            at: Moment::default(),
            change: TreeChange::Create {
                name: EntryName {
                    directory: ROOT,
                    name: number.to_string().into(),
                },
                node: InodeNumber(ROOT.0 + 1 + number),
                what: NewNode::File,
                attributes: Attributes::default(),
            },
        };
        (0..files).map(create).collect()
    }

    /// Planned until as many moments are.
    fn made(log: &[Recorded], until: u64) -> (Plan, Vec<(u64, u64)>) {
        let extent = Extent {
            model: Model::Power,
            points: 1000,
            images: 1000,
            seed: 1,
        };
        let stop = AtomicBool::new(false);
        let told = Mutex::new(Vec::new());
        let progress = |done, of| {
            told.lock().unwrap().push((done, of));
            stop.store(done == until, Ordering::Relaxed);
        };
        let plan = Plan::make(log, 0, extent, Assumptions::default(), &stop, &progress);
        (plan, told.into_inner().unwrap())
    }

    #[test]
    fn a_plan_says_how_far_it_is_and_is_cut_short_when_it_is_to_end() {
        let log = log(10);
        let (whole, told) = made(&log, u64::MAX);
        assert!(!whole.is_cut_short);
        assert_eq!(whole.points, 11);
        assert!(told.into_iter().eq((0..11).map(|done| (done, 11))));
        for until in 0..11 {
            let (cut_short, told) = made(&log, until);
            assert!(cut_short.is_cut_short);
            assert_eq!(told.last(), Some(&(until, 11)));
            let before = whole.planned.iter().filter(|it| it.point < until);
            let points = |plan: &Plan| plan.planned.iter().map(|it| it.point).collect::<Vec<_>>();
            let expected: Vec<_> = before.map(|it| it.point).collect();
            assert_eq!(points(&cut_short), expected);
        }
    }

    /// What is left out at a moment, and which moments are.
    #[test]
    fn a_plan_knows_how_much_it_leaves_out() {
        let never = AtomicBool::new(false);
        let made = |log: &[Recorded], model, points, images| {
            let extent = Extent {
                model,
                points,
                images,
                seed: 1,
            };
            let plan = Plan::make(log, 0, extent, Assumptions::default(), &never, &|_, _| {});
            (plan.points, plan.points_of_run, plan.partial_points)
        };
        let names = log(4);
        // The subsets of the changes until then are 1, 2, 4, 8 and 16.
        assert_eq!(made(&names, Model::Power, 9, 16), (5, 5, 0));
        assert_eq!(made(&names, Model::Power, 9, 15), (5, 5, 1));
        assert_eq!(made(&names, Model::Power, 9, 7), (5, 5, 2));
        assert_eq!(made(&names, Model::Power, 2, 16), (2, 5, 0));
        // A write of three pages, which can tear, and which a kill can end at two borders.
        let mut write = names;
        write.truncate(1);
        write.push(Recorded {
            change: TreeChange::Write {
                file: InodeNumber(ROOT.0 + 1),
                at: FileOffset(0),
                data: vec![1; 3 * PAGE_SIZE as usize].into(),
            },
            ..write[0].clone()
        });
        assert_eq!(made(&write, Model::Power, 9, 1000), (3, 3, 1));
        assert_eq!(made(&write, Model::Kill, 9, 3), (3, 3, 0));
        assert_eq!(made(&write, Model::Kill, 9, 2), (3, 3, 1));
    }

    /// A check has a copy of what is there, and not of what is gone for good.
    #[test]
    fn what_is_gone_for_good_does_not_count_for_the_largest_moment() {
        let numbers = ROOT.0 + 1..ROOT.0 + 11;
        let log: Vec<_> = numbers.map(InodeNumber).flat_map(temporary).collect();
        let (plan, _) = made(&log, u64::MAX);
        assert_eq!(plan.largest, PAGE_SIZE);
    }

    /// A file that is made, written and removed, durably.
    fn temporary(node: InodeNumber) -> Vec<Recorded> {
        let name = || EntryName {
            directory: ROOT,
            name: "temporary".into(),
        };
        let changes = [
            TreeChange::Create {
                name: name(),
                node,
                what: NewNode::File,
                attributes: Attributes::default(),
            },
            TreeChange::Write {
                file: node,
                at: FileOffset(0),
                data: [1].into(),
            },
            TreeChange::Remove(name()),
            TreeChange::SyncDirectory(ROOT),
        ];
        let recorded = |change| Recorded {
            kind: OperationKind::Write,
            at: Moment::default(),
            change,
        };
        changes.into_iter().map(recorded).collect()
    }
}
