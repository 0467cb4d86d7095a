//! What the check has said of images, by their digests: one that is byte for byte like another is
//! not checked again, whoever asks.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::checking::Checks;
use super::command::{End, Ran};
use super::plan::Plan;

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    known: BTreeMap<u128, Verdict>,
}

/// What the check has said of an image.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    Passes,
    Fails(Rc<Ran>),
}

impl Verdicts {
    /// Those of the images of a plan that were checked.
    pub(super) fn of(plan: &Plan, checks: &Checks) -> Verdicts {
        let digest = |place: usize| plan.planned.get(place).map(|planned| planned.digest);
        let passed = checks.passed.iter().filter_map(|place| digest(*place));
        let mut known: BTreeMap<u128, Verdict> =
            passed.map(|digest| (digest, Verdict::Passes)).collect();
        known.extend(checks.failed.iter().filter_map(|checked| {
            let ran = Rc::new(checked.ran.clone());
            Some((digest(checked.planned)?, Verdict::Fails(ran)))
        }));
        Verdicts { known }
    }

    /// That of the image with this digest, if it was checked.
    pub(super) fn get(&self, digest: u128) -> Option<Verdict> {
        self.known.get(&digest).cloned()
    }

    /// Notes what a check has come to, which says nothing of an image if it was stopped.
    pub(super) fn note(&mut self, digest: u128, ran: Ran) -> Option<Verdict> {
        let verdict = match ran.end {
            End::Stopped => return None,
            end if end.is_good() => Verdict::Passes,
            _ => Verdict::Fails(Rc::new(ran)),
        };
        self.known.insert(digest, verdict.clone());
        Some(verdict)
    }
}
