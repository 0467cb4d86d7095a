//! Zipf's law over the regions of a device, the same on every machine.
//!
//! The n-th region weighs 1 / n^theta. The power is taken with square roots, multiplications
//! and a division only: IEEE 754 fixes those to the last bit, which it does not for `powf`.

use crate::streams::{Stream, below};

/// The most regions: their cumulated weights take half a megabyte.
const MAX_REGIONS: u64 = 65_536;

/// The weight of the first region.
const ONE: f64 = (1_u64 << 40) as f64;

/// The law, laid onto a device.
#[derive(Debug)]
pub(super) struct Zipf {
    /// The sum of the weights up to and with each region, by rank.
    cumulated: Vec<u64>,
    /// Where the region of each rank lies.
    regions: Vec<u32>,
    device: u64,
}

/// n to the power of `theta_64ths` / 64.
fn power(n: u64, theta_64ths: u32) -> f64 {
    let mut root = n as f64;
    for _ in 0..6 {
        root = root.sqrt();
    }
    let (mut power, mut square, mut left) = (1.0, root, theta_64ths);
    while left > 0 {
        if left & 1 == 1 {
            power *= square;
        }
        square *= square;
        left >>= 1;
    }
    power
}

impl Zipf {
    /// Over a device of `device` sectors, its regions in the order that `rng` shuffles them to.
    pub(super) fn new(rng: &mut Stream, device: u64, theta_64ths: u32) -> Zipf {
        let count = device.min(MAX_REGIONS);
        let mut sum = 0;
        let weights = (1..=count).map(|rank| {
            // No weight is 0: n^4 is 2^64 at most, of 2^40.
            sum += ((ONE / power(rank, theta_64ths)) as u64).max(1);
            sum
        });
        let cumulated = weights.collect();
        let mut regions: Vec<u32> = (0..count as u32).collect();
        for last in (1..regions.len()).rev() {
            regions.swap(last, below(rng, last as u64 + 1) as usize);
        }
        Zipf {
            cumulated,
            regions,
            device,
        }
    }

    /// A sector, by the law.
    pub(super) fn sector(&self, rng: &mut Stream) -> u64 {
        let total = self.cumulated.last().copied().unwrap_or(1);
        let at = below(rng, total);
        let rank = self.cumulated.partition_point(|sum| *sum <= at);
        let region = u128::from(self.regions[rank]);
        let (count, device) = (self.regions.len() as u128, u128::from(self.device));
        let start = (region * device / count) as u64;
        let end = ((region + 1) * device / count) as u64;
        start + below(rng, end - start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streams::stream;

    #[test]
    fn powers_are_right() {
        assert_eq!(power(7, 0), 1.0);
        for (n, theta, expected) in [
            (2, 64, 2.0),
            (10, 128, 100.0),
            (16, 32, 4.0),
            (3, 256, 81.0),
        ] {
            let found: f64 = power(n, theta);
            assert!(
                (found - expected).abs() / expected < 1e-12,
                "{n}^({theta}/64) = {found}"
            );
        }
    }

    #[test]
    fn the_first_regions_get_their_share() {
        let mut rng = stream(1, "test");
        let zipf = Zipf::new(&mut rng, 1 << 20, 64);
        let first = u64::from(zipf.regions[0]) * 16..u64::from(zipf.regions[0] + 1) * 16;
        let hits = (0..100_000)
            .filter(|_| first.contains(&zipf.sector(&mut rng)))
            .count();
        // 1 / H(65536) is 8.57 percent.
        assert!((8000..9200).contains(&hits), "{hits}");
        let small = Zipf::new(&mut rng, 3, 256);
        assert!((0..100).all(|_| small.sector(&mut rng) < 3));
    }
}
