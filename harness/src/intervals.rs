//! Sets of numbers, kept as the intervals that they consist of. What a range costs does not
//! depend on how long it is: a record of a trace may claim any length.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of numbers. Adding or removing a range costs the logarithm of the number of intervals,
/// but for the intervals that it swallows, each of which some earlier range has made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IntervalSet {
    /// The end of each interval, by its start. No two touch.
    ends: BTreeMap<u64, u64>,
}

impl IntervalSet {
    /// The number of intervals, which is what takes memory.
    pub(crate) fn intervals(&self) -> usize {
        self.ends.len()
    }

    /// The number of numbers.
    pub(crate) fn count(&self) -> u64 {
        self.iter().map(|range| range.end - range.start).sum()
    }

    /// Adds a range. Returns how many of its numbers there were already.
    pub(crate) fn insert(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let (mut start, mut end, mut had) = (range.start, range.end, 0);
        if let Some((&first, &last)) = self.ends.range(..=start).next_back()
            && last >= start
        {
            if last >= end {
                return end - start;
            }
            had += last - start;
            start = first;
        }
        while let Some((&first, &last)) = self.ends.range(start + 1..=range.end).next() {
            self.ends.remove(&first);
            had += last.min(range.end) - first;
            end = end.max(last);
        }
        self.ends.insert(start, end);
        had
    }

    /// Takes a range out. Returns how many of its numbers there were.
    pub(crate) fn remove(&mut self, range: Range<u64>) -> u64 {
        let mut had = 0;
        if range.is_empty() || self.ends.is_empty() {
            return had;
        }
        if let Some((&first, &last)) = self.ends.range(..range.start).next_back()
            && last > range.start
        {
            self.ends.insert(first, range.start);
            had += last.min(range.end) - range.start;
            if last > range.end {
                self.ends.insert(range.end, last);
            }
        }
        while let Some((&first, &last)) = self.ends.range(range.clone()).next() {
            self.ends.remove(&first);
            had += last.min(range.end) - first;
            if last > range.end {
                self.ends.insert(range.end, last);
            }
        }
        had
    }

    /// Whether `at` is in the set, and the end of the numbers from there on of which the same is
    /// true, `end` at most.
    #[inline]
    pub(crate) fn run_at(&self, at: u64, end: u64) -> (bool, u64) {
        if self.ends.is_empty() {
            return (false, end);
        }
        match self.ends.range(..=at).next_back() {
            Some((_, &last)) if last > at => (true, last.min(end)),
            _ => {
                let next = self.ends.range(at..end).next();
                (false, next.map_or(end, |(&first, _)| first))
            }
        }
    }

    /// Whether `at` is in the set, and all the numbers around it of which the same is true.
    pub(crate) fn run_around(&self, at: u64) -> (bool, Range<u64>) {
        let before = self.ends.range(..=at).next_back();
        if let Some((&first, &last)) = before
            && last > at
        {
            return (true, first..last);
        }
        let next = self.ends.range(at..).next();
        let start = before.map_or(0, |(_, &last)| last);
        (false, start..next.map_or(u64::MAX, |(&first, _)| first))
    }

    /// The intervals, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.ends.iter().map(|(&start, &end)| start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_longest_range_is_one_interval() {
        let mut set = IntervalSet::default();
        assert_eq!(set.insert(5..u64::MAX), 0);
        assert_eq!(set.insert(0..u64::MAX), u64::MAX - 5);
        assert_eq!((set.intervals(), set.count()), (1, u64::MAX));
        assert_eq!(set.remove(1..u64::MAX - 1), u64::MAX - 2);
        assert_eq!(
            set.iter().collect::<Vec<_>>(),
            [0..1, u64::MAX - 1..u64::MAX]
        );
        assert_eq!(set.run_at(1, u64::MAX), (false, u64::MAX - 1));
    }

    proptest! {
        /// Against one number after the other.
        #[test]
        fn a_set_is_the_numbers_that_went_in(
            steps in proptest::collection::vec((any::<bool>(), 0..40_u64, 0..12_u64), 1..60),
        ) {
            let (mut set, mut slow) = (IntervalSet::default(), [false; 64]);
            for (adds, start, len) in steps {
                let range = start..start + len;
                let part = &mut slow[start as usize..(start + len) as usize];
                let had = part.iter().filter(|&&is_in| is_in).count() as u64;
                part.fill(adds);
                let said = if adds { set.insert(range) } else { set.remove(range) };
                prop_assert_eq!(said, had);
                let numbers: Vec<u64> = set.iter().flatten().collect();
                let slowly = (0..64).filter(|&at| slow[at as usize]);
                prop_assert_eq!(&numbers, &slowly.collect::<Vec<_>>());
                prop_assert_eq!(set.count(), numbers.len() as u64);
                let gaps = set.iter().zip(set.iter().skip(1));
                prop_assert!(gaps.into_iter().all(|(one, next)| one.end < next.start));
                for at in 0..63 {
                    let same = (at..60).take_while(|&n| slow[n as usize] == slow[at as usize]);
                    let run = (slow[at as usize], at + same.count() as u64);
                    if at < 60 {
                        prop_assert_eq!(set.run_at(at, 60), run);
                    }
                    let (is_in, around) = set.run_around(at);
                    let until = around.end.min(64);
                    prop_assert!(around.contains(&at));
                    prop_assert!((around.start..until).all(|n| slow[n as usize] == is_in));
                    let borders = [around.start.checked_sub(1), Some(until)];
                    let borders = borders.into_iter().flatten().filter(|&n| n < 64);
                    prop_assert!(borders.into_iter().all(|n| slow[n as usize] != is_in));
                }
            }
        }
    }
}
