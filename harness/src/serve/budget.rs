//! How much memory requests in flight may take, over all clients.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// The bytes that the data of requests in flight may take.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    used: Mutex<u64>,
    freed: Condvar,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Arc<Budget> {
        Arc::new(Budget {
            limit,
            used: Mutex::new(0),
            freed: Condvar::new(),
        })
    }

    /// Waits until there is room for `bytes`. One that is larger than the whole budget waits until
    /// it is alone.
    pub fn take(self: &Arc<Budget>, bytes: u64) -> Permit {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        while *used > 0 && used.saturating_add(bytes) > self.limit {
            used = self
                .freed
                .wait(used)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *used += bytes;
        Permit {
            of: Arc::clone(self),
            bytes,
        }
    }

    /// So many bytes, if there is room now.
    pub fn try_take(self: &Arc<Budget>, bytes: u64) -> Option<Permit> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if *used > 0 && used.saturating_add(bytes) > self.limit {
            return None;
        }
        *used += bytes;
        Some(Permit {
            of: Arc::clone(self),
            bytes,
        })
    }

    /// The bytes that are taken.
    pub fn used(&self) -> u64 {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part of a budget; it is given back when this is dropped.
#[derive(Debug)]
pub struct Permit {
    of: Arc<Budget>,
    bytes: u64,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut used = self.of.used.lock().unwrap_or_else(PoisonError::into_inner);
        *used = used.saturating_sub(self.bytes);
        drop(used);
        self.of.freed.notify_all();
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
        let waiting = std::thread::spawn(move || waits.take(60).bytes);
        assert_eq!(budget.used(), 60);
        drop(first);
        assert_eq!(waiting.join().unwrap(), 60);
        assert_eq!(budget.used(), 0);
        // More than there is at all is given to one who is alone.
        let alone = budget.take(1000);
        assert_eq!(budget.used(), 1000);
        assert!(budget.try_take(1).is_none());
        drop(alone);
        assert!(budget.try_take(1).is_some());
    }
}
