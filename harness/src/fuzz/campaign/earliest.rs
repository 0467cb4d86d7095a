//! The earliest finding of each thing, which is what a campaign keeps.

use std::collections::{BTreeMap, BTreeSet};

use super::super::finding::{Finding, Key};
use super::super::violation::Cause;

/// Findings, of each thing the earliest that came.
#[derive(Clone, Default)]
pub(super) struct Earliest(BTreeMap<Key, Finding>);

impl Earliest {
    /// Keeps this one, unless there is an earlier one of the same thing.
    pub(super) fn keep(&mut self, finding: Finding) {
        let key = finding.key();
        let kept = self.0.get(&key);
        if kept.is_none_or(|kept| finding.rank() < kept.rank()) {
            self.0.insert(key, finding);
        }
    }

    /// Whether there is one of the same thing.
    pub(super) fn has_one_of(&self, finding: &Finding) -> bool {
        self.0.contains_key(&finding.key())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.0.values()
    }

    /// Takes out those of cases before this one.
    pub(super) fn take_before(&mut self, case: u64) -> Earliest {
        let all = std::mem::take(&mut self.0).into_iter();
        let (before, others) = all.partition(|(_, finding)| finding.number < case);
        self.0 = others;
        Earliest(before)
    }

    /// Leaves out what is not traced and may be something that is: one of these or of the `certain`
    /// ones that has its cause.
    pub(super) fn leave_out_covered(&mut self, certain: &Earliest) {
        let traced = self.iter().filter(|finding| !finding.is_untraced);
        let traced = traced.chain(certain.iter());
        let causes: BTreeSet<Cause> = traced.map(|finding| finding.violation.cause()).collect();
        self.0
            .retain(|(cause, _), finding| !finding.is_untraced || !causes.contains(cause));
    }

    /// All of them, in the order of their cases.
    pub(super) fn in_order(self) -> Vec<Finding> {
        in_order(self.0.into_values().collect())
    }
}

impl Extend<Finding> for Earliest {
    fn extend<T: IntoIterator<Item = Finding>>(&mut self, findings: T) {
        findings.into_iter().for_each(|finding| self.keep(finding));
    }
}

impl FromIterator<Finding> for Earliest {
    fn from_iter<T: IntoIterator<Item = Finding>>(findings: T) -> Earliest {
        let mut earliest = Earliest::default();
        earliest.extend(findings);
        earliest
    }
}

/// The findings in the order of their cases.
pub(super) fn in_order(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by_key(Finding::place);
    findings
}
