//! Changing a good input in a few places.

use rand::{Rng, RngExt};

/// Whole numbers that arithmetic goes wrong at.
const NUMBERS: [u64; 16] = [
    0,
    1,
    511,
    512,
    4095,
    4096,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    1 << 48,
    1 << 54,
    (1 << 54) + 1,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

/// Bytes that mean something to some format.
const BYTES: &[u8] = b"09,\n \t\"-+.:=RWDFN\x00\x01\x7f\x80\xff";

/// One of the seeds, changed in one to eight places.
pub(super) fn mutate(seeds: &[Vec<u8>], rng: &mut impl Rng) -> Vec<u8> {
    let mut bytes = pick(seeds, rng).clone();
    for _ in 0..rng.random_range(1..=8) {
        if bytes.is_empty() {
            break;
        }
        change(&mut bytes, seeds, rng);
    }
    bytes
}

fn pick<'a, T>(from: &'a [T], rng: &mut impl Rng) -> &'a T {
    &from[rng.random_range(0..from.len())]
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], rng: &mut impl Rng) {
    let at = rng.random_range(0..bytes.len());
    let until = |longest: usize, rng: &mut _| {
        let count = RngExt::random_range(rng, 1..=longest);
        (at + count).min(bytes.len())
    };
    match rng.random_range(0..20) {
        0..5 => bytes[at] = rng.random(),
        5..7 => bytes[at] = *pick(BYTES, rng),
        7..9 => bytes[at] ^= 1 << rng.random_range(0..8),
        9..13 => {
            let width = *pick(&[1, 2, 4, 8], rng);
            let number = pick(&NUMBERS, rng)
                .wrapping_add(rng.random_range(0..3))
                .wrapping_sub(1);
            let bytes_of = match rng.random() {
                true => number.to_le_bytes()[..width].to_vec(),
                false => number.to_be_bytes()[8 - width..].to_vec(),
            };
            let end = (at + width).min(bytes.len());
            bytes[at..end].copy_from_slice(&bytes_of[..end - at]);
        }
        13..15 => {
            // A number in a text.
            let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit());
            let end = at + digits.count();
            let number = pick(&NUMBERS, rng).to_string();
            bytes.splice(at..end, number.into_bytes());
        }
        15 => {
            let end = until(20, rng);
            bytes.drain(at..end);
        }
        16..18 => {
            let end = until(64, rng);
            let part = bytes[at..end].to_vec();
            bytes.splice(at..at, part);
        }
        18 => bytes.truncate(at),
        _ => {
            let other = pick(seeds, rng);
            let from = rng.random_range(0..other.len().max(1));
            bytes.truncate(at);
            bytes.extend(&other[from.min(other.len())..]);
        }
    }
}
