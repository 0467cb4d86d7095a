//! How long requests are, in classes that double.

use serde::Serialize;

use super::Lengths;

/// Requests longer than half of this, and no longer than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SizeClass {
    /// The longest of the class: a power of two.
    pub up_to_bytes: u64,
    /// How many.
    pub requests: u64,
}

/// Counts lengths.
#[derive(Clone, Debug)]
pub(super) struct Sizes {
    count: u64,
    sum: u128,
    min: u64,
    max: u64,
    /// By the exponent of the class.
    classes: [u64; 65],
}

impl Default for Sizes {
    fn default() -> Sizes {
        Sizes {
            count: 0,
            sum: 0,
            min: u64::MAX,
            max: 0,
            classes: [0; 65],
        }
    }
}

impl Sizes {
    /// A request of `bytes` bytes, at least one.
    pub(super) fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.sum += u128::from(bytes);
        self.min = self.min.min(bytes);
        self.max = self.max.max(bytes);
        let exponent = u64::BITS - bytes.saturating_sub(1).leading_zeros();
        self.classes[exponent as usize] += 1;
    }

    pub(super) fn finish(self) -> Lengths {
        if self.count == 0 {
            return Lengths::default();
        }
        let classes = self.classes.into_iter().enumerate();
        let classes = classes.filter(|(_, requests)| *requests > 0);
        let class = |(exponent, requests)| SizeClass {
            up_to_bytes: 1_u64.checked_shl(exponent as u32).unwrap_or(u64::MAX),
            requests,
        };
        Lengths {
            min_bytes: self.min,
            mean_bytes: self.sum as f64 / self.count as f64,
            max_bytes: self.max,
            classes: classes.map(class).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_end_at_powers_of_two() {
        let mut sizes = Sizes::default();
        for bytes in [512, 4096, 4095, 4097, 1 << 63] {
            sizes.add(bytes);
        }
        let found = sizes.finish();
        let classes: Vec<_> = found
            .classes
            .iter()
            .map(|c| (c.up_to_bytes, c.requests))
            .collect();
        assert_eq!(classes, [(512, 1), (4096, 2), (8192, 1), (1 << 63, 1)]);
        assert_eq!((found.min_bytes, found.max_bytes), (512, 1 << 63));
    }
}
