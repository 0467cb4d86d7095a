//! Who deals out the cases of a shard to the threads that run them.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::locked::locked;

use super::finished::Finished;

/// How far past the first unfinished case the threads may be. What is finished out of order is
/// remembered one by one, and that has to stay small however long one case takes.
const AHEAD: u64 = 4096;

/// Between two looks whether the campaign is to end, of a thread that waits.
const LOOK: Duration = Duration::from_millis(50);

/// Deals out cases by their index in the shard, each once.
pub(super) struct Dealer {
    state: Mutex<State>,
    moved: Condvar,
}

struct State {
    next: u64,
    /// The first index that is none of the shard's.
    end: u64,
    frontier: u64,
    /// Those that are finished already.
    finished: BTreeSet<u64>,
}

impl Dealer {
    /// Of a shard of this many cases, those that are not finished.
    pub(super) fn of(finished: &Finished, cases: u64) -> Dealer {
        let state = State {
            next: finished.frontier(),
            end: cases,
            frontier: finished.frontier(),
            finished: finished.beyond().clone(),
        };
        Dealer {
            state: Mutex::new(state),
            moved: Condvar::new(),
        }
    }

    /// How many are left at most.
    pub(super) fn left(&self) -> u64 {
        let state = locked(&self.state);
        state.end.saturating_sub(state.next)
    }

    /// The next case. While all that may be run are being run, it waits, and calls `waits` now and
    /// then. None when there is no other, or `stop` says that no other is to be begun.
    pub(super) fn take(&self, stop: &dyn Fn() -> bool, mut waits: impl FnMut()) -> Option<u64> {
        let mut state = locked(&self.state);
        loop {
            if stop() {
                return None;
            }
            let next = state.next;
            if state.finished.remove(&next) {
                state.next += 1;
            } else if next >= state.end {
                return None;
            } else if next - state.frontier < AHEAD {
                state.next += 1;
                return Some(next);
            } else {
                waits();
                let woken = self.moved.wait_timeout(state, LOOK);
                state = woken.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    /// All cases before this one are finished.
    pub(super) fn pass(&self, frontier: u64) {
        locked(&self.state).frontier = frontier;
        self.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_is_finished_is_not_dealt_again() {
        let mut finished = Finished::default();
        for index in [0, 1, 3, 4] {
            finished.add(index);
        }
        let dealer = Dealer::of(&finished, 7);
        let all: Vec<u64> = std::iter::from_fn(|| dealer.take(&|| false, || {})).collect();
        assert_eq!(all, [2, 5, 6]);
        assert_eq!(dealer.take(&|| false, || {}), None);
    }

    #[test]
    fn nobody_runs_far_ahead_of_a_slow_case() {
        let dealer = Dealer::of(&Finished::default(), u64::MAX);
        for index in 0..AHEAD {
            assert_eq!(dealer.take(&|| false, || {}), Some(index));
        }
        // It waits until it is told to end, or that the slow one is finished.
        let waited = Cell::new(0);
        let wait = || waited.set(waited.get() + 1);
        assert_eq!(dealer.take(&|| waited.get() > 1, wait), None);
        assert_eq!(waited.get(), 2);
        dealer.pass(1);
        assert_eq!(dealer.take(&|| false, || {}), Some(AHEAD));
    }
}
