//! How much of a case is looked at. A crash image costs what its device has, and a case has as
//! many as there are changes of its host, and ways for them to survive. So a large device, or a
//! case that is looked at whole, could take as long as a hundred thousand others.
//!
//! A case has an allowance, in bytes that are read and compared. All crash points are looked at
//! until it is used up. After that, a crash point that comes when `n` allowances have been asked
//! for is looked at with probability `1/n`. So the end of a long case is looked at too, and all of
//! it costs no more than `1 + ln n` allowances.

use driver::units::SECTOR_SIZE;

use crate::streams::{Stream, below};

/// What a case may cost, in bytes of devices: some 8,000 images of a device of two hundred sectors.
const ALLOWANCE: u64 = 1 << 30;

/// What a case may cost that is looked at whole: some 125,000 images of a device of two hundred
/// sectors.
const THOROUGH: u64 = 16 << 30;

/// What an image costs beside its device: opening, bitmaps, the fixed part of everything.
const AN_IMAGE: u64 = 32 << 10;

/// A device of more bytes does not fit a core's cache, and is read from memory for every image.
/// Few cases have one, and all of them together must not take most of a campaign.
const LARGE: u64 = 1 << 18;

/// What a byte of such a device costs.
const LARGE_COSTS: u64 = 8;

/// What a case has cost.
#[derive(Clone, Debug)]
pub struct Thrift {
    allowance: u64,
    /// What one crash point may take of it.
    a_point: u64,
    /// What looking at all crash points so far would have cost.
    asked: u64,
}

impl Thrift {
    /// The allowance of a case; `thorough` if all of it is to be looked at.
    pub fn new(thorough: bool) -> Thrift {
        let (allowance, a_point) = match thorough {
            true => (THOROUGH, THOROUGH / 2),
            false => (ALLOWANCE, ALLOWANCE / 8),
        };
        Thrift {
            allowance,
            a_point,
            asked: 0,
        }
    }

    /// The allowance of a case of which everything is looked at, however long it takes.
    pub fn unlimited() -> Thrift {
        Thrift {
            allowance: u64::MAX,
            a_point: u64::MAX,
            asked: 0,
        }
    }

    /// How many images of a device of `sectors` sectors one crash point may have.
    pub fn images(&self, sectors: u64) -> u64 {
        self.a_point / cost(sectors)
    }

    /// Whether a crash point with `images` images is looked at.
    pub fn takes(&mut self, images: u64, sectors: u64, rng: &mut Stream) -> bool {
        let cost = images.saturating_mul(cost(sectors));
        self.asked = self.asked.saturating_add(cost);
        self.asked <= self.allowance || below(rng, self.asked) < self.allowance
    }
}

fn cost(sectors: u64) -> u64 {
    let bytes = sectors.saturating_mul(SECTOR_SIZE);
    let bytes = match bytes > LARGE {
        true => bytes.saturating_mul(LARGE_COSTS),
        false => bytes,
    };
    bytes.saturating_add(AN_IMAGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streams::stream;

    /// How many images are looked at for `points` crash points of `images` images each.
    fn images(points: u64, images: u64, sectors: u64) -> u64 {
        let (mut thrift, mut rng) = (Thrift::new(false), stream(1, "thrift"));
        let taken = (0..points).filter(|_| thrift.takes(images, sectors, &mut rng));
        taken.count() as u64 * images
    }

    #[test]
    fn a_usual_case_is_looked_at_at_every_point() {
        assert_eq!(images(100, 24, 200), 2400);
    }

    /// A minute's worth of crash points on a device of 16 MiB.
    #[test]
    fn a_dear_case_costs_a_few_allowances_and_is_looked_at_to_its_end() {
        let looked_at = images(10_000, 3, 33_000);
        assert!((24..150).contains(&looked_at), "{looked_at}");
        let (mut thrift, mut rng) = (Thrift::new(false), stream(1, "thrift"));
        let mut late = 0;
        for point in 0..10_000 {
            let taken = thrift.takes(3, 33_000, &mut rng);
            late += u64::from(taken && point > 1000);
        }
        assert!(late > 0);
    }
}
