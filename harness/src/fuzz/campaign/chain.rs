//! A case, and what it shows one after the other. A driver with many defects shows the coarsest in
//! almost every case. So what a case shows is traced to the defects that it needs, those are
//! switched off, and the case is run once more: then the finer ones show, which the coarse ones had
//! hidden. No other case has a say in that: whatever part of a campaign is run, and in which order,
//! each case shows the same.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::locked::locked;

use super::super::defect::CaseDefect;
use super::super::finding::{Finding, Key};
use super::super::guard::guarded;
use super::super::parts::{Part, Watch};
use super::super::shrink::{shrink_until, with_needed_defects};
use super::super::subject::Subject;
use super::super::violation::Violation;
use super::one_watched;
use super::sums::Sums;

/// What came of a case.
#[derive(Default)]
pub(super) struct Chain {
    pub(super) sums: Sums,
    /// Those of which no earlier case has shown the same.
    pub(super) findings: Vec<Finding>,
    /// The campaign was to end before the case did.
    pub(super) cut_off: bool,
}

/// The case of the earliest finding of each thing, as far as is known: what a later case shows of
/// it need not be looked into.
#[derive(Default)]
pub(super) struct Known(Mutex<BTreeMap<Key, u64>>);

impl Known {
    pub(super) fn of<'a>(findings: impl Iterator<Item = &'a Finding>) -> Known {
        let keys = findings.map(|finding| (finding.key(), finding.number));
        Known(Mutex::new(keys.collect()))
    }

    /// Whether this finding is the earliest so far; it is known from then on.
    fn is_earliest(&self, finding: &Finding) -> bool {
        let mut known = locked(&self.0);
        let earliest = known.entry(finding.key()).or_insert(u64::MAX);
        let is_earliest = finding.number < *earliest;
        *earliest = finding.number.min(*earliest);
        is_earliest
    }
}

/// What a case is run as.
pub(super) struct Links {
    pub(super) subject: Subject,
    /// Whether findings are made small.
    pub(super) shrinks: bool,
    pub(super) known: Known,
}

impl Links {
    /// Runs the case of this number and seed.
    pub(super) fn run(&self, number: u64, seed: u64, watch: &mut dyn Watch) -> Chain {
        let mut chain = Chain::default();
        let mut subject = self.subject.clone();
        loop {
            let explored = one_watched(seed, &subject, watch);
            chain.sums.add(&Sums {
                host_operations: explored.host_operations,
                crash_images: explored.crash_images,
                cases_with_findings: 0,
                coverage: explored.coverage,
            });
            chain.cut_off = explored.cut_off;
            let Some((case, violation)) = explored.finding else {
                break;
            };
            chain.sums.cases_with_findings = 1;
            let mut finding = Finding {
                number,
                seed,
                switched_off: off(&self.subject, &subject),
                traced_to: subject.defects.clone(),
                case: *case,
                violation,
                is_stuck: false,
                is_untraced: false,
            };
            let is_whole = self.look_into(&mut finding, watch);
            let needed = finding.traced_to.clone();
            if let Some(is_whole) = is_whole {
                chain.findings.push(finding);
                chain.cut_off |= !is_whole;
            }
            subject.defects.retain(|defect| !needed.contains(defect));
            if chain.cut_off || needed.is_empty() || subject.defects.is_empty() {
                break;
            }
        }
        chain
    }

    /// Traces a finding to the defects that it needs, and makes it small if it is the earliest of
    /// its thing. None if it is not, and false if it was cut short.
    fn look_into(&self, finding: &mut Finding, watch: &mut dyn Watch) -> Option<bool> {
        let watch = RefCell::new(watch);
        let stop = || {
            let mut watch = watch.borrow_mut();
            watch.enter(Part::Run);
            watch.cuts_off()
        };
        let (case, violation) =
            with_needed_defects(&finding.case, &finding.violation, finding.seed, &stop);
        finding.traced_to = case.defects.clone();
        (finding.case, finding.violation) = (case, violation);
        finding.case.found = Some(finding.violation.clone());
        if stop() && !finding.case.defects.is_empty() {
            // Nobody knows which of them are not needed.
            finding.is_untraced = true;
            finding.traced_to = Vec::new();
            return Some(false);
        }
        if !self.known.is_earliest(finding) {
            return None;
        }
        if self.shrinks {
            let (case, violation) = (&finding.case, &finding.violation);
            let shrunk = guarded("while being made small", || {
                Ok::<_, Violation>(shrink_until(case, violation, finding.seed, &stop))
            });
            // Shrinking does not die of what it runs; if it does, the case stays as it is.
            if let Ok(shrunk) = shrunk {
                (finding.case, finding.violation) = shrunk;
            }
        }
        Some(!stop())
    }
}

/// The defects that `all` has and `left` has not.
fn off(all: &Subject, left: &Subject) -> Vec<CaseDefect> {
    let defects = all.defects.iter().copied();
    defects
        .filter(|defect| !left.defects.contains(defect))
        .collect()
}

#[cfg(test)]
mod tests {
    use driver::linux::Defects;

    use super::super::super::case::DriverName;
    use super::super::super::parts::Unwatched;
    use super::*;

    /// Cuts off after having been asked this often.
    struct After(u64);

    impl Watch for After {
        fn enter(&mut self, _: Part) {}

        fn cuts_off(&mut self) -> bool {
            self.0 = self.0.saturating_sub(1);
            self.0 == 0
        }
    }

    #[test]
    fn what_is_cut_off_is_traced_as_in_the_whole_case_or_said_not_to_be() {
        let kernel = Defects::LINUX_6_12.iter().map(CaseDefect::Kernel);
        let subject = Subject {
            defects: kernel.collect(),
            ..Subject::healthy(DriverName::Linux612)
        };
        let run = |watch: &mut dyn Watch| {
            let links = Links {
                subject: subject.clone(),
                shrinks: false,
                known: Known::default(),
            };
            links.run(0, 8, watch)
        };
        let whole = run(&mut Unwatched);
        let keys: Vec<Key> = whole.findings.iter().map(Finding::key).collect();
        assert!(!whole.cut_off && keys.len() > 1, "{keys:?}");
        let (mut untraced, mut asked) = (0, 1);
        loop {
            let part = run(&mut After(asked));
            if !part.cut_off {
                break;
            }
            for finding in &part.findings {
                match finding.is_untraced {
                    false => assert!(keys.contains(&finding.key()), "{finding:?}"),
                    true => {
                        untraced += 1;
                        let cause = finding.violation.cause();
                        assert!(keys.iter().any(|(known, _)| *known == cause), "{cause:?}");
                        assert!(finding.traced_to.is_empty());
                    }
                }
            }
            asked += asked.div_ceil(3);
        }
        assert!(untraced > 0, "tracing was never cut off");
    }
}
