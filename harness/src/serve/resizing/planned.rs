//! What a resize is planned to be, once it has been planned, and how far it is.

use std::sync::{Arc, Mutex};

use driver::resize::Strategy;
use driver::units::{Bytes, Sector};
use userhelper::planner::Plan;
use userhelper::progress::Progress;

use crate::locked::locked;

/// What a resize is planned to be, for those who plan it and those who ask.
#[derive(Clone, Default)]
pub(super) struct Planned(Arc<Mutex<Option<Seen>>>);

/// What is seen of a resize that is planned.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) strategy: String,
    /// Not known of a reflow that is taken up again.
    pub(super) to_move: Option<Bytes>,
    pub(super) notes: Vec<String>,
    pub(super) progress: Progress,
}

impl Seen {
    /// Of a resize as it is planned.
    pub(super) fn of(plan: &Plan, progress: Progress) -> Seen {
        Seen {
            strategy: plan.strategy.to_string(),
            to_move: Some(plan.to_move),
            notes: plan.notes.clone(),
            progress,
        }
    }

    /// Of a reflow that is taken up again.
    pub(super) fn of_rest(progress: Progress) -> Seen {
        Seen {
            strategy: Strategy::Reflow.to_string(),
            to_move: None,
            notes: Vec::new(),
            progress,
        }
    }
}

impl Planned {
    pub(super) fn set(&self, seen: Seen) {
        *locked(&self.0) = Some(seen);
    }

    /// What is seen of it, if it is planned.
    pub(super) fn seen(&self) -> Option<Seen> {
        locked(&self.0).clone()
    }

    /// The sectors from here on are at their new place, once a reflow moves anything.
    pub(super) fn frontier(&self) -> Option<Sector> {
        let seen = locked(&self.0);
        seen.as_ref().and_then(|seen| seen.progress.frontier())
    }
}
