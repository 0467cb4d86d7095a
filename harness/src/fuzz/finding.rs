//! What a campaign finds, and what makes it stop.

use super::case::Case;
use super::violation::Violation;

/// A case that shows something wrong.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The seed of the case.
    pub seed: u64,
    /// The case, as far as it is needed.
    pub case: Case,
    /// What is wrong.
    pub violation: Violation,
}

/// Says that a campaign is to come to its end, in the middle of a case if need be.
pub type StopSign = std::sync::Arc<dyn Fn() -> bool + Send + Sync>;
