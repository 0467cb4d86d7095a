//! How far a resize has come, for whoever looks on while the device carries on with it: also from
//! another thread.

use std::sync::{Arc, Mutex, PoisonError};

use driver::units::{Bytes, Sector};

use crate::pace::Windows;

/// Shared with the resize that it is about.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<Snapshot>>);

#[derive(Clone, Copy, Debug, Default)]
struct Snapshot {
    passed: Bytes,
    windows: Windows,
    frontier: Option<Sector>,
    reached: Option<Sector>,
}

impl Progress {
    /// The bytes of what the plan says has to move that are moved.
    pub fn passed(&self) -> Bytes {
        self.snapshot().passed
    }

    /// The windows of a reflow so far.
    pub fn windows(&self) -> Windows {
        self.snapshot().windows
    }

    /// The sectors from here on are at their new place, once a reflow moves anything.
    pub fn frontier(&self) -> Option<Sector> {
        self.snapshot().frontier
    }

    /// No window of a reflow has reached below this sector so far.
    pub fn reached(&self) -> Option<Sector> {
        self.snapshot().reached
    }

    pub(crate) fn set_window(&self, start: Sector, frontier: Sector) {
        self.change(|now| {
            now.frontier = Some(frontier);
            now.reached = Some(start.min(now.reached.unwrap_or(start)));
        });
    }

    pub(crate) fn set_frontier(&self, frontier: Sector) {
        self.change(|now| now.frontier = Some(frontier));
    }

    pub(crate) fn set_passed(&self, passed: Bytes) {
        self.change(|now| now.passed = passed);
    }

    pub(crate) fn set_windows(&self, windows: Windows) {
        self.change(|now| now.windows = windows);
    }

    fn snapshot(&self) -> Snapshot {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
