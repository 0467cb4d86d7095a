//! Findings of one cause together: those of which the check says the same.

use std::collections::BTreeMap;

use super::checking::Checks;
use super::command::Ran;
use super::finding::Finding;
use super::plan::Plan;

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
