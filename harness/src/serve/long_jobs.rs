//! Which of a client's long jobs are under way. A client may ask for 4 GiB of zeros many times at
//! once; what comes after the first few waits, so that others' requests come in between.

use std::collections::VecDeque;

/// The most long jobs of a client that are under way.
pub(super) const MOST_LONG: usize = 4;

/// The long jobs of a client, by their numbers.
#[derive(Debug, Default)]
pub(super) struct LongJobs {
    under_way: usize,
    /// In the order in which they came.
    waiting: VecDeque<u64>,
}

impl LongJobs {
    /// One has come. Whether it may begin.
    pub(super) fn come(&mut self, number: u64) -> bool {
        let begins = self.under_way < MOST_LONG;
        match begins {
            true => self.under_way += 1,
            false => self.waiting.push_back(number),
        }
        begins
    }

    /// One that was under way has ended: the one that may begin now.
    pub(super) fn leave(&mut self) -> Option<u64> {
        let next = self.waiting.pop_front();
        if next.is_none() {
            self.under_way = self.under_way.saturating_sub(1);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_wait_begin_in_their_order_as_others_end() {
        let mut jobs = LongJobs::default();
        let begun: Vec<_> = (0..7).filter(|&number| jobs.come(number)).collect();
        assert_eq!(begun, [0, 1, 2, 3]);
        assert_eq!(jobs.leave(), Some(4));
        assert!(!jobs.come(7));
        let next: Vec<_> = std::iter::from_fn(|| jobs.leave()).collect();
        assert_eq!(next, [5, 6, 7]);
        // There is room for as many as had ended.
        assert!(jobs.come(8));
        assert!(!jobs.come(9));
    }
}
