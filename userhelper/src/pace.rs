//! How large the windows of a reflow are. Requests that touch a window wait until it has been
//! moved, so under live I/O its size follows from how fast the disk has turned out to be. Time
//! is told by the caller; where none is, the size stays as it is.

/// The windows of a reflow, so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// How many were moved.
    pub count: u64,
    /// How long the longest took, in nanoseconds: from when requests were kept out of it
    /// until they were let in again. 0 where no time was told.
    pub longest_ns: u64,
}

/// How long a window is meant to take. A request for it that comes at its beginning waits for all
/// of it, and none is to wait longer than 50 ms, also where a disk is slower for a moment.
const WINDOW_GOAL_NS: u64 = 10_000_000;

/// How long a step is meant to take that frees what windows leave behind. Where operations are
/// carried out where they are given, any request that comes at its beginning waits for all of it.
const FREEING_GOAL_NS: u64 = 250_000;

/// How much there may be to one window or one step that frees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// How long it is meant to take.
    goal_ns: u64,
    least: u64,
    /// To begin with.
    first: u64,
    pub(crate) most: u64,
}

impl Bounds {
    /// With no more than this.
    pub(crate) fn within(self, most: u64) -> Bounds {
        Bounds {
            goal_ns: self.goal_ns,
            least: self.least.min(most),
            first: self.first.min(most),
            most: self.most.min(most),
        }
    }
}

/// Bytes to move, in a window under live I/O.
pub(crate) const LIVE_WINDOW: Bounds = Bounds {
    goal_ns: WINDOW_GOAL_NS,
    least: 64 << 10,
    first: 256 << 10,
    most: 16 << 20,
};

/// Extents to free, in a step under live I/O.
pub(crate) const LIVE_FREEING: Bounds = Bounds {
    goal_ns: FREEING_GOAL_NS,
    least: 1,
    first: 16,
    most: 4096,
};

/// Chooses how much is done at once.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    amount: u64,
    /// `None` if the amount stays as it is.
    bounds: Option<Bounds>,
    now_ns: Option<u64>,
    /// When it began, and how much it came to.
    under_way: Option<(u64, u64)>,
    windows: Windows,
}

impl Pace {
    /// A pace whose amount never changes.
    pub(crate) fn fixed(amount: u64) -> Pace {
        Pace {
            amount,
            bounds: None,
            now_ns: None,
            under_way: None,
            windows: Windows::default(),
        }
    }

    /// As much as is done in a time that requests can wait for.
    pub(crate) fn adapting(bounds: Bounds) -> Pace {
        Pace {
            bounds: Some(bounds),
            ..Pace::fixed(bounds.first)
        }
    }

    /// What time it is, before a step.
    pub(crate) fn tell_time(&mut self, now_ns: u64) {
        self.now_ns = Some(now_ns);
    }

    /// The most to be done at once next.
    pub(crate) fn amount(&self) -> u64 {
        self.amount
    }

    pub(crate) fn windows(&self) -> Windows {
        self.windows
    }

    /// A window or a step has begun, and comes to `amount`.
    pub(crate) fn begin(&mut self, amount: u64) {
        self.under_way = Some((self.now_ns.unwrap_or(0), amount));
    }

    /// It is over, if one was under way.
    pub(crate) fn end(&mut self) {
        let Some((began, amount)) = self.under_way.take() else {
            return;
        };
        self.windows.count += 1;
        let Some(now) = self.now_ns else {
            return;
        };
        let took = now.saturating_sub(began);
        self.windows.longest_ns = self.windows.longest_ns.max(took);
        let Some(bounds) = self.bounds else {
            return;
        };
        let goal_ns = bounds.goal_ns;
        if took > goal_ns {
            // Half of what took too long, which may be less than what was allowed.
            let parts = if took > 3 * goal_ns { 4 } else { 2 };
            self.amount = (self.amount.min(amount) / parts).max(bounds.least);
        } else if took < goal_ns / 2 && amount > self.amount / 2 {
            self.amount = (self.amount * 2).min(bounds.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        goal_ns: 10_000_000,
        least: 4,
        first: 16,
        most: 256,
    };

    /// The amounts of `rounds` rounds, each of which takes as long as `cost` says.
    fn amounts(rounds: usize, bounds: Bounds, cost: impl Fn(u64) -> u64) -> Vec<u64> {
        let mut pace = Pace::adapting(bounds);
        let mut now = 1_000_000_000;
        let mut amounts = Vec::new();
        for _ in 0..rounds {
            let amount = pace.amount();
            amounts.push(amount);
            pace.tell_time(now);
            pace.begin(amount);
            now += cost(amount);
            pace.tell_time(now);
            pace.end();
        }
        amounts
    }

    #[test]
    fn on_a_fast_disk_windows_double_up_to_the_most() {
        assert_eq!(
            amounts(7, BOUNDS, |_| 1_000),
            [16, 32, 64, 128, 256, 256, 256]
        );
    }

    #[test]
    fn on_a_slow_disk_they_shrink_down_to_the_least() {
        assert_eq!(amounts(4, BOUNDS, |_| 11_000_000), [16, 8, 4, 4]);
        assert_eq!(amounts(3, BOUNDS, |_| 90_000_000), [16, 4, 4]);
    }

    #[test]
    fn they_settle_where_one_takes_about_the_goal() {
        // 100 us each: 64 take 6.4 ms, and 128 would take 12.8 ms.
        let last = amounts(20, BOUNDS, |amount| amount * 100_000);
        assert_eq!(last[10..], [64; 10]);
    }

    #[test]
    fn a_disk_that_becomes_slower_is_noticed_in_the_next_window() {
        let mut pace = Pace::adapting(BOUNDS);
        let mut now = 0;
        let mut round = |pace: &mut Pace, amount, took| {
            pace.tell_time(now);
            pace.begin(amount);
            now += took;
            pace.tell_time(now);
            pace.end();
            pace.amount()
        };
        for _ in 0..8 {
            let amount = pace.amount();
            round(&mut pace, amount, 1000);
        }
        assert_eq!(round(&mut pace, 256, 35_000_000), 64);
        // One that was far from full says nothing about a larger one, but a slow one does.
        assert_eq!(round(&mut pace, 8, 1000), 64);
        assert_eq!(round(&mut pace, 20, 12_000_000), 10);
        let windows = pace.windows();
        assert_eq!((windows.count, windows.longest_ns), (11, 35_000_000));
    }

    #[test]
    fn where_no_time_is_told_nothing_changes() {
        let mut pace = Pace::adapting(BOUNDS);
        pace.end();
        for _ in 0..3 {
            pace.begin(16);
            pace.end();
        }
        assert_eq!(pace.amount(), 16);
        let windows = pace.windows();
        assert_eq!((windows.count, windows.longest_ns), (3, 0));
    }

    #[test]
    fn a_fixed_amount_stays_whatever_the_time() {
        let mut pace = Pace::fixed(7);
        pace.tell_time(0);
        pace.begin(7);
        pace.tell_time(1_000_000_000);
        pace.end();
        assert_eq!(pace.amount(), 7);
        assert_eq!(pace.windows().longest_ns, 1_000_000_000);
    }
}
