//! Taking turns: contenders run one after another, round after round, so that what disturbs
//! the machine disturbs all of them, and the median of each is kept.

use std::time::Duration;

use crate::clock;

/// Something to be measured. A call does one pass of the same work and says how long that
/// took; what only prepares it is left out by the callee.
pub type Contender<'a, T = Duration> = Box<dyn FnMut() -> T + 'a>;

/// How long a pass took.
pub trait Elapsed {
    /// In nanoseconds.
    fn nanoseconds(&self) -> f64;
}

impl Elapsed for Duration {
    fn nanoseconds(&self) -> f64 {
        self.as_nanos() as f64
    }
}

/// Nanoseconds, and parts of them: a mean of something that takes next to none.
impl Elapsed for f64 {
    fn nanoseconds(&self) -> f64 {
        *self
    }
}

/// The most rounds.
const MOST_ROUNDS: usize = 61;

/// No further round is begun when this much time has gone into those before.
const ENOUGH: Duration = Duration::from_millis(400);

/// No further round is begun when this much time has gone into all, preparation included.
const ENOUGH_IN_ALL: Duration = Duration::from_millis(1500);

/// The fewest rounds, but for contenders that take very long.
const FEWEST_ROUNDS: usize = 4;

/// Runs all contenders for several rounds; the median time of a pass of each, in
/// nanoseconds.
///
/// Short passes are the better ones: on a machine with other things to do, most of them are
/// not interrupted, and the median is one of those.
pub fn rounds<T: Elapsed>(contenders: &mut [Contender<'_, T>]) -> Vec<f64> {
    let mut times = vec![Vec::new(); contenders.len()];
    let mut spent = Duration::ZERO;
    let started = clock::start();
    for round in 1..=MOST_ROUNDS {
        for (contender, times) in contenders.iter_mut().zip(&mut times) {
            let time = contender().nanoseconds();
            spent += Duration::from_nanos(time as u64);
            times.push(time);
        }
        let enough = spent >= ENOUGH || started.elapsed() >= ENOUGH_IN_ALL;
        if enough && round >= FEWEST_ROUNDS || spent >= ENOUGH * 5 {
            break;
        }
    }
    // The first round also warms the caches: it counts only where it is the only one.
    times
        .into_iter()
        .map(|times| match &times[..] {
            [only] => *only,
            [_, rest @ ..] => median(rest),
            [] => 0.0,
        })
        .collect()
}

/// The value in the middle; of an even number of values the lower one of the two.
///
/// # Panics
/// If there are none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.0);
    }

    #[test]
    fn the_first_round_only_warms_up() {
        let mut pass = 0;
        let contender = || {
            pass += 1;
            Duration::from_nanos(if pass == 1 { 1000 } else { 10 })
        };
        assert_eq!(rounds(&mut [Box::new(contender)]), [10.0]);
    }

    #[test]
    fn a_slow_contender_runs_once() {
        let mut passes = 0;
        let slow = || {
            passes += 1;
            Duration::from_secs(10)
        };
        rounds(&mut [Box::new(slow)]);
        assert_eq!(passes, 1);
    }
}
