//! Findings of one kind together.

use std::collections::BTreeMap;

use super::checking::Checks;
use super::command::Ran;
use super::finding::Finding;
use super::kind::Kind;
use super::plan::Plan;
use super::shrink::NotFewest;

/// Images that do not pass in the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// One of them.
    pub finding: Finding,
    /// How many there are.
    pub images: u64,
    /// Why it may have lost more than it takes.
    pub not_fewest: Option<NotFewest>,
}

/// All that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Of each kind one, in the order of the run.
    pub told: Vec<Group>,
    /// How many kinds are not told.
    pub untold_kinds: u64,
    /// The images of these.
    pub untold_images: u64,
    /// Why what is told is not shrunk, or not all of it.
    pub not_shrunk: Option<String>,
    /// Whether everything was to end before all was told, or shrunk to the end.
    pub stopped: bool,
}

/// Puts findings of one kind together; the first of each in the plan stands for them. What it has
/// lost beside the cause goes when it is shrunk.
pub(super) fn groups(checks: &Checks, plan: &Plan) -> Vec<(usize, u64, Ran)> {
    let mut known: BTreeMap<Kind, usize> = BTreeMap::new();
    let mut groups: Vec<(usize, u64, Ran)> = Vec::new();
    for checked in &checks.failed {
        let alike = plan.planned.get(checked.planned).map_or(1, |it| it.alike);
        let group = *known.entry(Kind::of(&checked.ran)).or_insert(groups.len());
        match groups.get_mut(group) {
            Some((_, images, _)) => *images += alike,
            None => groups.push((checked.planned, alike, checked.ran.clone())),
        }
    }
    groups
}
