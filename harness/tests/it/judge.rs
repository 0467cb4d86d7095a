//! The judge is judged: every defective double is refused, by the fuzzer's checks as what it
//! is, and by those of a replay where it shows there; and what is right is not.

use std::sync::atomic::{AtomicUsize, Ordering};

use harness::fuzz::catalogue::first_finding;
use harness::fuzz::doubles::{self, Disk, Double};
use harness::judge::{Seen, replay, subject};

/// Within this many cases each is found, from this seed on.
const CASES: u64 = 1_000;
const SEED: u64 = 1;

#[test]
fn every_double_is_found_by_the_fuzzer_as_what_it_is() {
    let doubles: Vec<&Double> = doubles::all().filter(|d| !d.found_as.is_empty()).collect();
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
        assert_ne!(seen, Seen::Nothing, "{}", double.name);
    }
}

#[test]
fn a_replay_of_a_device_that_is_right_sees_nothing() {
    for disk in [Disk::Small, Disk::Large] {
        assert_eq!(replay(None, disk), Seen::Nothing, "{disk:?}");
    }
}
