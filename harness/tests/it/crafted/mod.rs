//! Inputs from outside, crafted by the ten thousand in every run of the tests: COW files field by
//! field, images and traces as mutations of good ones. Nothing panics, hangs, or takes memory that
//! the input does not justify. `UBDLAB_CRAFTED=20` crafts twenty times as many, two million of the
//! quickest; the fuzz targets in `fuzz/` call the same functions, guided by coverage.
//!
//! Each input follows from its number alone; a failure prints the number and the input.

mod mutate;
mod seeds;

use std::fmt::Write;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt, SeedableRng};

use crate::chain::{ChainOutcome, take_apart};
use crate::crafted_cow::{Outcome, exercise_crafted};
use crate::exercise::exercise;
use crate::negotiate::negotiate_with;
use crate::read_trace::read_trace;
use mutate::mutate;

/// How many inputs, where an ordinary run has `ordinary`.
fn count(ordinary: u64) -> u64 {
    let factor = std::env::var("UBDLAB_CRAFTED").map_or(1, |factor| {
        let parsed = factor.parse::<u64>();
        parsed.unwrap_or_else(|error| panic!("UBDLAB_CRAFTED={factor}: {error}"))
    });
    ordinary * factor
}

/// Says which input it was when the test fails.
struct Crafted<'a> {
    target: &'static str,
    number: u64,
    input: &'a [u8],
}

impl Drop for Crafted<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut hex = String::new();
            for byte in self.input {
                let _ = write!(hex, "{byte:02x}");
            }
            eprintln!("crafted input {} of {}: {hex}", self.number, self.target);
        }
    }
}

/// Makes inputs `0..count` and hands each to `exercise`.
fn each(
    target: &'static str,
    count: u64,
    make: impl Fn(&mut Xoshiro256PlusPlus) -> Vec<u8>,
    mut exercise: impl FnMut(&[u8]),
) {
    for number in 0..count {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(number);
        let input = make(&mut rng);
        let _crafted = Crafted {
            target,
            number,
            input: &input,
        };
        exercise(&input);
    }
}

/// Often short: a file in which one field is wrong gets further than one in which all are.
fn any_bytes(rng: &mut impl Rng) -> Vec<u8> {
    let longest = [2, 5, 8, 12, 24, 64][rng.random_range(0..6)];
    let len = rng.random_range(0..=longest);
    (0..len).map(|_| rng.random()).collect()
}

#[test]
fn cow_files_end_in_a_device_or_an_error() {
    let count = count(100_000);
    let mut outcomes = [Outcome::Refused, Outcome::Opened, Outcome::Recovered].map(|it| (it, 0));
    each("cow", count, any_bytes, |input| {
        let found = exercise_crafted(input);
        for (outcome, times) in &mut outcomes {
            *times += u64::from(*outcome == found);
        }
    });
    // What is refused at the first field shows little.
    for (outcome, times) in outcomes {
        assert!(times > count / 50, "{outcome:?}: {times} of {count}");
    }
}

/// libFuzzer found it: a size of 32,756 bytes, marked, which recovery makes one of whole sectors.
#[test]
fn a_reflow_from_a_size_within_a_sector_is_finished() {
    let marked = [4, 0];
    // Twelve bytes less in the header and in both records of the journal.
    let [header, first, second] = [3, 20, 28].map(|field| [field, 160 - 12]);
    let input = [marked, header, first, second].concat();
    assert_eq!(exercise_crafted(&input), Outcome::Recovered);
}

#[test]
fn traces_end_in_records_or_an_error() {
    let seeds = seeds::traces();
    let make = |rng: &mut Xoshiro256PlusPlus| mutate(&seeds, rng);
    let count = count(8000);
    let mut with_records = 0;
    each("trace", count, make, |input| {
        with_records += u64::from(read_trace(input) > 0);
    });
    assert!(
        with_records > count / 4,
        "{with_records} of {count} are read"
    );
}

#[test]
fn negotiations_end_in_requests_or_an_error() {
    let seeds = seeds::negotiations();
    let make = |rng: &mut Xoshiro256PlusPlus| mutate(&seeds, rng);
    let count = count(40_000);
    let (mut answered, mut asked) = (0, 0);
    each("nbd", count, make, |input| {
        let (options, requests) = negotiate_with(input);
        answered += u64::from(options > 0);
        asked += u64::from(requests > 0);
    });
    let some = count / 20;
    assert!(
        answered > some && asked > some,
        "{answered}, {asked} of {count}"
    );
}

#[test]
fn chains_end_in_requests_or_an_error() {
    let seeds = seeds::chains();
    let make = |rng: &mut Xoshiro256PlusPlus| mutate(&seeds, rng);
    let count = count(40_000);
    let mut outcomes = [
        ChainOutcome::Broken,
        ChainOutcome::Answered,
        ChainOutcome::Asked,
    ]
    .map(|it| (it, 0));
    each("chain", count, make, |input| {
        let found = take_apart(input);
        for (outcome, times) in &mut outcomes {
            *times += u64::from(*outcome == found);
        }
    });
    for (outcome, times) in outcomes {
        assert!(times > count / 20, "{outcome:?}: {times} of {count}");
    }
}

#[test]
fn images_end_in_a_result_or_an_error_of_every_tool() {
    let seeds = seeds::images();
    let make = |rng: &mut Xoshiro256PlusPlus| mutate(&seeds, rng);
    each("image", count(200), make, exercise);
}

/// Good ones pass, so that their mutations begin where it is interesting.
#[test]
fn seeds_are_good() {
    for seed in seeds::traces() {
        assert!(
            read_trace(&seed) > 0,
            "{:?}",
            String::from_utf8_lossy(&seed)
        );
    }
    for seed in seeds::negotiations() {
        assert!(negotiate_with(&seed).0 > 0);
    }
    for seed in seeds::images() {
        exercise(&seed);
    }
    let chains = seeds::chains();
    // The serial number is an answer at once.
    let asked = chains
        .iter()
        .filter(|seed| take_apart(seed) == ChainOutcome::Asked);
    assert_eq!(asked.count(), chains.len() - 1);
    assert_eq!(exercise_crafted(&[]), Outcome::Opened);
    assert_eq!(exercise_crafted(&[4]), Outcome::Recovered);
}
