//! `ubdlab bench fuzz`: how many crash images the fuzzer builds, recovers and compares in a
//! second on one core, where that time goes, and how it grows. Seeds and numbers of cases are
//! fixed, so that every run does the same work.

mod growth;
mod stopwatch;

use std::time::Duration;

use super::rounds::rounds;
use super::{Only, Row, Unit};
use crate::clock;
use crate::fuzz::campaign::one;
use crate::fuzz::case::{Case, DriverName, ResizeStrategy, Stimulus};
use crate::fuzz::explore::explore_watched;
use crate::fuzz::generate::{Subject, generate};
use crate::fuzz::parts::{Part, Watch};

use stopwatch::Stopwatch;

/// Crash images in a second on one core, at least, over all kinds of cases. A kind by itself has no
/// target: how much is done for an image depends on it.
const TARGET: f64 = 60_000.0;

/// Cases of each kind.
const CASES: usize = 200;

const ALL_KINDS: &str = "ordered, all kinds of cases";

/// Cases that have something in common.
struct Kind {
    name: &'static str,
    driver: DriverName,
    is_one: fn(&Case) -> bool,
}

const KINDS: [Kind; 7] = [
    ordered(ALL_KINDS, |_| true),
    ordered("ordered, without a resize", |case| !resizes(case, |_| true)),
    ordered("ordered, with a headroom resize", |case| {
        resizes(case, |strategy| strategy == ResizeStrategy::Headroom)
    }),
    ordered("ordered, with a rebuild", |case| {
        resizes(case, |strategy| strategy == ResizeStrategy::Rebuild)
    }),
    ordered("ordered, with a reflow", |case| {
        resizes(case, |strategy| strategy == ResizeStrategy::Reflow)
    }),
    Kind {
        name: "linux-6.12 without its defects",
        driver: DriverName::Linux612,
        is_one: |_| true,
    },
    Kind {
        name: "linux-2.6 without its defects",
        driver: DriverName::Linux26,
        is_one: |_| true,
    },
];

const fn ordered(name: &'static str, is_one: fn(&Case) -> bool) -> Kind {
    Kind {
        name,
        driver: DriverName::Ordered,
        is_one,
    }
}

fn resizes(case: &Case, such: fn(ResizeStrategy) -> bool) -> bool {
    let mut actions = case.lives.iter().flat_map(|life| &life.actions);
    actions.any(|action| matches!(action, Stimulus::Resize { strategy, .. } if such(*strategy)))
}

impl Kind {
    fn subject(&self) -> Subject {
        Subject {
            faults: true,
            ..Subject::healthy(self.driver)
        }
    }

    /// The first seeds that give such cases.
    fn seeds(&self, subject: &Subject) -> Vec<u64> {
        let such = (1..).filter(|&seed| (self.is_one)(&generate(seed, subject)));
        such.take(CASES).collect()
    }

    fn images_a_second(&self) -> Row {
        let subject = self.subject();
        let seeds = self.seeds(&subject);
        let mut images = 0;
        let times = rounds(&mut [Box::new(|| {
            let started = clock::start();
            let explored = seeds.iter().map(|&seed| one(seed, &subject).crash_images);
            images = explored.sum();
            started.elapsed()
        })]);
        let rate = images as f64 * 1e9 / times[0];
        let row = Row::new(images_name(self), rate, Unit::PerSecond);
        match self.name == ALL_KINDS {
            true => row.target(TARGET),
            false => row,
        }
    }

    /// The share of each part in the time, in the order of [`Part::ALL`].
    fn shares(&self) -> Vec<Row> {
        let subject = self.subject();
        let seeds = self.seeds(&subject);
        let mut watch = Stopwatch::start(Part::Generate);
        for seed in seeds {
            watch.enter(Part::Generate);
            let case = generate(seed, &subject);
            explore_watched(&case, seed, &subject, &mut watch);
        }
        let spent = watch.stop();
        let all: Duration = spent.iter().sum();
        let rows = Part::ALL.iter().zip(spent).map(|(&part, spent)| {
            let share = 100.0 * spent.as_secs_f64() / all.as_secs_f64();
            Row::new(share_name(self, part), share, Unit::Percent)
        });
        rows.collect()
    }
}

fn images_name(kind: &Kind) -> String {
    format!("fuzz/crash images a second and core/{}", kind.name)
}

fn share_name(kind: &Kind, part: Part) -> String {
    format!("fuzz/share of the time/{}/{}", kind.name, part.name())
}

/// Measures all rows; calls `each` when a few of them are there.
pub fn measure(only: &Only, mut each: impl FnMut(Vec<Row>)) {
    for kind in KINDS.iter().filter(|kind| only.wanted(&images_name(kind))) {
        each(vec![kind.images_a_second()]);
    }
    for kind in &KINDS {
        let is_wanted = |part: &Part| only.wanted(&share_name(kind, *part));
        if Part::ALL.iter().any(is_wanted) {
            let rows = kind.shares().into_iter();
            each(rows.filter(|row| only.wanted(&row.name)).collect());
        }
    }
    growth::measure(only, &mut each);
}
