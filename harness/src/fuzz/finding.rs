//! What a campaign finds, and what makes it stop.

use super::case::Case;
use super::defect::CaseDefect;
use super::violation::{Cause, Violation};

/// A case that shows something wrong.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The number of the case in its campaign, from 0.
    pub number: u64,
    /// The seed of the case.
    pub seed: u64,
    /// The defects that the case had shown before, and that were switched off for this.
    pub switched_off: Vec<CaseDefect>,
    /// The defects that the violation was traced to.
    pub traced_to: Vec<CaseDefect>,
    /// The case, as far as it is needed.
    pub case: Case,
    /// What is wrong.
    pub violation: Violation,
    /// The case gives no sign any more: it can be neither shrunk nor told.
    pub is_stuck: bool,
    /// The campaign was to end before the violation was traced: it is traced to nothing, and its
    /// case may have defects that it does not need.
    pub is_untraced: bool,
}

/// What two findings of one thing have in common: a campaign keeps the earliest of each.
pub type Key = (Cause, Vec<CaseDefect>);

impl Finding {
    /// What it has in common with all findings of its thing.
    pub fn key(&self) -> Key {
        (self.violation.cause(), self.traced_to.clone())
    }

    /// Its place among the findings of a campaign: the earlier one is kept.
    pub fn place(&self) -> (u64, usize) {
        (self.number, self.switched_off.len())
    }

    /// Which of two findings of one key is kept: a traced one, then the earlier one.
    pub fn rank(&self) -> (bool, (u64, usize)) {
        (self.is_untraced, self.place())
    }
}

/// Says that a campaign is to come to its end, in the middle of a case if need be.
pub type StopSign = std::sync::Arc<dyn Fn() -> bool + Send + Sync>;
