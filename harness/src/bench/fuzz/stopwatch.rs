//! Listens to where the fuzzer is, with a clock. Reading the clock takes some 30 ns. A crash
//! image takes ten microseconds and has the clock read three times.

use std::time::Duration;

use crate::clock::{self, Started};
use crate::fuzz::parts::{Part, Watch};

/// The time that went into each part.
pub(super) struct Stopwatch {
    started: Started,
    /// When the part that it is at began, after the start.
    since: Duration,
    part: Part,
    spent: [Duration; Part::ALL.len()],
}

impl Stopwatch {
    /// Starts in this part.
    pub(super) fn start(part: Part) -> Stopwatch {
        Stopwatch {
            started: clock::start(),
            since: Duration::ZERO,
            part,
            spent: [Duration::ZERO; Part::ALL.len()],
        }
    }

    /// The time that went into each part, in the order of [`Part::ALL`].
    pub(super) fn stop(mut self) -> [Duration; Part::ALL.len()] {
        self.enter(self.part);
        self.spent
    }
}

impl Watch for Stopwatch {
    fn enter(&mut self, part: Part) {
        let now = self.started.elapsed();
        // The order of `ALL` is that of the declaration.
        self.spent[self.part as usize] += now - self.since;
        (self.since, self.part) = (now, part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_the_time_goes_into_the_parts_that_were_entered() {
        let mut watch = Stopwatch::start(Part::Run);
        watch.enter(Part::Compare);
        watch.enter(Part::Run);
        let started = watch.started;
        let spent = watch.stop();
        let all: Duration = spent.iter().sum();
        assert!(all > Duration::ZERO && all <= started.elapsed());
        let entered = [Part::Run, Part::Compare].map(|part| spent[part as usize]);
        assert_eq!(entered.iter().sum::<Duration>(), all);
    }

    #[test]
    fn each_part_has_its_own_place() {
        let places = Part::ALL.map(|part| part as usize);
        assert!(places.into_iter().eq(0..Part::ALL.len()));
    }
}
