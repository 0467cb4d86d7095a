//! How many requests of one endpoint or client may be in flight, and what each of them has taken.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::locked::locked;

use super::shares::Given;

/// A number of places, or of whatever else is given to one taker after the other.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    used: u64,
    /// Takers that wait. Where there are none, waking them would be a system call for nothing.
    waiting: usize,
}

impl Budget {
    /// A budget of `limit`.
    pub fn new(limit: u64) -> Arc<Budget> {
        Arc::new(Budget {
            limit,
            state: Mutex::default(),
            freed: Condvar::new(),
        })
    }

    /// Waits until there is room for `amount`. One that is larger than the whole budget waits until
    /// it is alone.
    pub fn take(self: &Arc<Budget>, amount: u64) -> Permit {
        let mut state = locked(&self.state);
        state.waiting += 1;
        while !state.has_room(amount, self.limit) {
            state = self
                .freed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
        state.used += amount;
        Permit::of_budget(Arc::clone(self), amount)
    }

    /// `amount`, if there is room now.
    pub fn try_take(self: &Arc<Budget>, amount: u64) -> Option<Permit> {
        let mut state = locked(&self.state);
        if !state.has_room(amount, self.limit) {
            return None;
        }
        state.used += amount;
        Some(Permit::of_budget(Arc::clone(self), amount))
    }

    /// What is taken.
    pub fn used(&self) -> u64 {
        locked(&self.state).used
    }
}

impl State {
    fn has_room(&self, amount: u64, limit: u64) -> bool {
        self.used == 0 || self.used.saturating_add(amount) <= limit
    }
}

/// What was taken of a budget, or of a client's share of the memory; it is given back when this is
/// dropped.
#[derive(Debug)]
pub struct Permit {
    _of_budget: Option<OfBudget>,
    _of_share: Option<Given>,
}

#[derive(Debug)]
struct OfBudget {
    of: Arc<Budget>,
    amount: u64,
}

impl Permit {
    fn of_budget(of: Arc<Budget>, amount: u64) -> Permit {
        Permit {
            _of_budget: Some(OfBudget { of, amount }),
            _of_share: None,
        }
    }

    pub(super) fn of_share(given: Given) -> Permit {
        Permit {
            _of_budget: None,
            _of_share: Some(given),
        }
    }
}

impl Drop for OfBudget {
    fn drop(&mut self) {
        let mut state = locked(&self.of.state);
        state.used = state.used.saturating_sub(self.amount);
        let is_waited_for = state.waiting > 0;
        drop(state);
        if is_waited_for {
            self.of.freed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_waits_until_something_is_given_back() {
        let budget = Budget::new(100);
        let first = budget.take(60);
        let waits = Arc::clone(&budget);
        let waiting = std::thread::spawn(move || {
            let permit = waits.take(60);
            (waits.used(), permit)
        });
        while locked(&budget.state).waiting == 0 {
            std::thread::yield_now();
        }
        assert_eq!(budget.used(), 60);
        drop(first);
        let (used, permit) = waiting.join().unwrap();
        assert_eq!(used, 60);
        drop(permit);
        assert_eq!(budget.used(), 0);
        // More than there is at all is given to one who is alone.
        let alone = budget.take(1000);
        assert_eq!(budget.used(), 1000);
        assert!(budget.try_take(1).is_none());
        drop(alone);
        assert!(budget.try_take(1).is_some());
    }
}
