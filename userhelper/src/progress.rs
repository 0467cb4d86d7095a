//! How far a resize has come, for whoever looks on while the device carries on with it: also from
//! another thread.

use std::sync::{Arc, Mutex, PoisonError};

use driver::units::Bytes;

use crate::pace::Windows;

/// Shared with the resize that it is about.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<Seen>>);

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    passed: Bytes,
    windows: Windows,
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
