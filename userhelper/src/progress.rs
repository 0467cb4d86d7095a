//! How far a resize has come, for whoever looks on while the device carries on with it: also from
//! another thread.

use std::sync::{Arc, Mutex, PoisonError};

use driver::units::{Bytes, Sector, SectorRange};

use crate::pace::Windows;

/// Shared with the resize that it is about.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<Seen>>);

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    passed: Bytes,
    windows: Windows,
    frontier: Option<Sector>,
    kept_out: Option<SectorRange>,
}

impl Progress {
    /// The bytes of what the plan says has to move that are moved.
    pub fn passed(&self) -> Bytes {
        self.seen().passed
    }

    /// The windows of a reflow so far.
    pub fn windows(&self) -> Windows {
        self.seen().windows
    }

    /// The sectors from here on are at their new place, once a reflow moves anything.
    pub fn frontier(&self) -> Option<Sector> {
        self.seen().frontier
    }

    /// The sectors whose requests wait at the moment: the window of a reflow, up to the frontier.
    pub fn kept_out(&self) -> Option<SectorRange> {
        self.seen().kept_out
    }

    pub(crate) fn set_kept_out(&self, sectors: SectorRange) {
        self.change(|seen| {
            seen.frontier = Some(sectors.end());
            seen.kept_out = Some(sectors);
        });
    }

    pub(crate) fn set_frontier(&self, frontier: Sector) {
        self.change(|seen| {
            seen.frontier = Some(frontier);
            seen.kept_out = None;
        });
    }

    pub(crate) fn set_passed(&self, passed: Bytes) {
        self.change(|seen| seen.passed = passed);
    }

    pub(crate) fn set_windows(&self, windows: Windows) {
        self.change(|seen| seen.windows = windows);
    }

    fn seen(&self) -> Seen {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
