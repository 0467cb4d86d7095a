//! Randomness: one seed, and from it a stream of its own for each purpose, so that a change
//! in how one thing is drawn leaves the others as they were. ChaCha with eight rounds gives
//! the same numbers on every machine.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A stream of random numbers.
pub type Stream = ChaCha8Rng;

/// The stream `name` of the case with this seed.
pub fn stream(seed: u64, name: &str) -> Stream {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let hash = u64::from(crc32c::crc32c(name.as_bytes()));
    key[8..16].copy_from_slice(&hash.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// A number below `bound`, which must not be 0. The bias of at most `bound` / 2^64 is
/// of no interest here. Only the generator's 64-bit outputs are used, which no version of a library
/// changes.
pub fn below<R: Rng + ?Sized>(rng: &mut R, bound: u64) -> u64 {
    ((u128::from(rng.next_u64()) * u128::from(bound)) >> 64) as u64
}

/// True `percent` times of a hundred.
pub fn chance(rng: &mut impl Rng, percent: u64) -> bool {
    below(rng, 100) < percent
}

/// One of these, each as likely as its weight says.
///
/// # Panics
/// If all weights are 0.
pub fn weighted<T: Copy>(rng: &mut impl Rng, choices: &[(u64, T)]) -> T {
    let total = choices.iter().map(|(weight, _)| weight).sum();
    let mut at = below(rng, total);
    for &(weight, choice) in choices {
        if at < weight {
            return choice;
        }
        at -= weight;
    }
    panic!("the weights add up to {total}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_pinned_and_differ_by_name() {
        let first = |name| stream(1, name).next_u64();
        assert_eq!(first("actions"), stream(1, "actions").next_u64());
        assert_ne!(first("actions"), first("crash"));
        assert_ne!(first("actions"), stream(2, "actions").next_u64());
    }
}
