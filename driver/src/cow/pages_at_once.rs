//! How much of a bitmap is read or written in one go.

use crate::units::Bytes;

use super::sector_map::PAGE_BYTES;

/// Pages of a bitmap that are read or written in one go, at least one. Whoever makes that few meets
/// every cut on a small device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PagesAtOnce(u64);

impl PagesAtOnce {
    /// What the driver does unless somebody wants less: few enough pages to stay in a processor's
    /// cache.
    pub const USUAL: PagesAtOnce = PagesAtOnce(64);

    /// This many pages, and at least one.
    pub fn of(pages: u64) -> PagesAtOnce {
        PagesAtOnce(pages.max(1))
    }

    /// How many there are.
    pub fn count(self) -> u64 {
        self.0
    }

    /// How long they are together.
    pub fn bytes(self) -> Bytes {
        Bytes(self.0.saturating_mul(PAGE_BYTES as u64))
    }
}

impl Default for PagesAtOnce {
    fn default() -> PagesAtOnce {
        PagesAtOnce::USUAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_at_least_one_and_no_number_is_too_large() {
        for (pages, count, bytes) in [
            (0, 1, 4096),
            (1, 1, 4096),
            (3, 3, 12_288),
            (u64::MAX, u64::MAX, u64::MAX),
        ] {
            let at_once = PagesAtOnce::of(pages);
            assert_eq!((at_once.count(), at_once.bytes()), (count, Bytes(bytes)));
        }
    }
}
