//! The wall clock. Most of the program only measures with it; what has to wait for a time, as a
//! replay at a trace's own pace does, is given a [`Clock`], so that its tests can simulate one.

use std::time::{Duration, Instant, SystemTime};

/// A clock to wait by. Its times are nanoseconds from some moment on and never go back.
pub trait Clock {
    /// What it shows.
    fn now_ns(&self) -> u64;

    /// Returns when it shows `ns` or more.
    fn sleep_until_ns(&self, ns: u64);
}

/// The real one, from when it was made.
#[derive(Clone, Copy, Debug)]
pub struct WallClock(Started);

impl WallClock {
    /// Starts at 0.
    pub fn start() -> WallClock {
        WallClock(start())
    }
}

impl Clock for WallClock {
    fn now_ns(&self) -> u64 {
        self.0.elapsed_ns()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where time is waited for"
    )]
    fn sleep_until_ns(&self, ns: u64) {
        loop {
            let left = ns.saturating_sub(self.now_ns());
            if left == 0 {
                return;
            }
            std::thread::sleep(Duration::from_nanos(left));
        }
    }
}

/// The time of day, for what tells people or programs when something was.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the time of day is looked at"
)]
pub fn time_of_day() -> SystemTime {
    SystemTime::now()
}

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

    /// How long after `earlier` it was, in nanoseconds; `None` if it was before.
    pub fn ns_since(self, earlier: Started) -> Option<u64> {
        let after = self.0.checked_duration_since(earlier.0)?;
        u64::try_from(after.as_nanos()).ok()
    }

    /// How long ago that was, in nanoseconds.
    pub fn elapsed_ns(self) -> u64 {
        u64::try_from(self.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
