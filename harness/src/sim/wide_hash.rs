//! A hash of 128 bits, for what is known by its hash alone. Of ten million different contents two
//! have the same one by a chance of one in 10^24.

use std::hash::{DefaultHasher, Hasher};

/// Hashes all that it is given twice, in two ways.
pub(super) struct WideHasher {
    low: DefaultHasher,
    high: DefaultHasher,
}

impl WideHasher {
    pub(super) fn new() -> WideHasher {
        let mut high = DefaultHasher::new();
        // All that comes after it is hashed in another way than without it.
        high.write_u8(1);
        WideHasher {
            low: DefaultHasher::new(),
            high,
        }
    }

    /// All 128 bits.
    pub(super) fn wide(&self) -> u128 {
        u128::from(self.low.finish()) | u128::from(self.high.finish()) << 64
    }
}

impl Hasher for WideHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.low.write(bytes);
        self.high.write(bytes);
    }

    fn finish(&self) -> u64 {
        self.low.finish()
    }
}
