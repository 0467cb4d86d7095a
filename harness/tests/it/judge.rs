//! The judge is judged: every defective double is refused, by the fuzzer's checks as what it
//! is, and by those of a replay where it shows there; and what is right is not. A run that is not
//! thorough puts every third before the fuzzer.

use std::sync::atomic::{AtomicUsize, Ordering};

use driver::linux::Defect;
use harness::fuzz::catalogue::{Catalogue, Waiting, first_finding, sections};
use harness::fuzz::doubles::{self, Disk, Double};
use harness::fuzz::procedure_2003::ResizeDefect;
use harness::judge::{Detection, replay, subject};

use crate::support::share::every;

/// Within this many cases each is found, from this seed on.
const CASES: u64 = 1_000;
const SEED: u64 = 1;

#[test]
fn every_double_is_found_by_the_fuzzer_as_what_it_is() {
    let shown = doubles::all().filter(|double| !double.found_as.is_empty());
    let doubles: Vec<&Double> = every(3, shown).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut wrong = Vec::new();
        while let Some(double) = doubles.get(next.fetch_add(1, Ordering::Relaxed)) {
            match first_finding(&subject(double), SEED, CASES) {
                None => wrong.push(format!("{}: not found", double.name)),
                Some(found) if double.found_as.contains(&found.violation.kind) => {
                    println!("{}: case {}", double.name, found.cases);
                }
                Some(found) => wrong.push(format!("{}: {}", double.name, found.violation)),
            }
        }
        wrong
    };
    let wrong = std::thread::scope(|scope| {
        let other = scope.spawn(work);
        let mut wrong = work();
        wrong.extend(other.join().unwrap());
        wrong
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_replay_sees_every_double_that_shows_without_a_crash() {
    for double in doubles::all() {
        let Some(disk) = double.replay else {
            continue;
        };
        let seen = replay(Some(double), disk);
        println!("{}: {seen:?}", double.name);
        assert_ne!(seen, Detection::Nothing, "{}", double.name);
    }
}

#[test]
fn a_replay_of_a_device_that_is_right_sees_nothing() {
    for disk in [Disk::Small, Disk::Large] {
        assert_eq!(replay(None, disk), Detection::Nothing, "{disk:?}");
    }
}

#[test]
fn every_double_has_a_name_of_its_own_and_somebody_to_see_it() {
    for double in doubles::all() {
        let same = doubles::all().filter(|other| other.name == double.name);
        assert_eq!(same.count(), 1, "{}", double.name);
        let name = double.name;
        assert!(name.parse::<ResizeDefect>().is_err(), "{name}");
        assert!(name.parse::<Defect>().is_err(), "{name}");
        let seen = !double.found_as.is_empty() || double.replay.is_some();
        assert!(seen && !double.does.is_empty(), "{name}");
    }
}

#[test]
fn what_is_stopped_has_the_rows_that_are_complete() {
    let asked = std::cell::Cell::new(0);
    let next = |_: &str| asked.set(asked.get() + 1);
    let stopped = Waiting {
        next: &next,
        stop: &|| true,
    };
    let catalogue = Catalogue::measure(1, 1, stopped);
    assert_eq!((catalogue.rows(), asked.get()), (0, 0));
    let all = Waiting {
        next: &next,
        stop: &|| false,
    };
    // No case at all is enough to see which rows there are.
    let catalogue = Catalogue::measure(1, 0, all);
    let entries: usize = sections().iter().map(|section| section.entries.len()).sum();
    assert_eq!((catalogue.rows(), asked.get()), (entries, entries));
}
