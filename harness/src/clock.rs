//! The wall clock, for measuring only: nothing that is decided depends on it.

use std::time::{Duration, Instant};

/// A point in time.
#[derive(Clone, Copy, Debug)]
pub struct Started(Instant);

/// Starts measuring.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where time is measured"
)]
pub fn start() -> Started {
    Started(Instant::now())
}

impl Started {
    /// How long ago that was.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// The same in nanoseconds.
    pub fn elapsed_ns(self) -> u64 {
        u64::try_from(self.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
