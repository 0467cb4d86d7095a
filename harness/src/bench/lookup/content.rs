//! The bitmaps that lookups are measured on: four contents on devices of three sizes.

use driver::units::SectorCount;

use crate::random::SplitMix64;

/// Sectors in a GiB.
pub const GIB: u64 = 1 << 21;

/// The devices, each with its name.
pub const DEVICES: [(&str, SectorCount); 3] = [
    ("1 GiB", SectorCount(GIB)),
    ("256 GiB", SectorCount(256 * GIB)),
    ("2 TiB", SectorCount(2048 * GIB)),
];

/// Which sectors of a device are dirty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// None.
    Empty,
    /// All.
    Full,
    /// One in a hundred, in extents of 4 KiB at random places.
    Extents,
    /// Each with a probability of one half.
    Random,
}

impl Content {
    /// All of them.
    pub const ALL: [Content; 4] = [
        Content::Empty,
        Content::Full,
        Content::Extents,
        Content::Random,
    ];

    /// The name in a row.
    pub fn name(self) -> &'static str {
        match self {
            Content::Empty => "empty",
            Content::Full => "full",
            Content::Extents => "1 % in 4 KiB",
            Content::Random => "half at random",
        }
    }

    /// The bitmap of a device of `sectors` sectors, a multiple of 64: a bit a sector, least
    /// significant first.
    pub fn bitmap(self, sectors: SectorCount) -> Vec<u64> {
        let words = (sectors.0 / 64) as usize;
        let mut random = SplitMix64(1);
        match self {
            Content::Empty => vec![0; words],
            Content::Full => vec![u64::MAX; words],
            Content::Random => (0..words).map(|_| random.number()).collect(),
            Content::Extents => {
                let mut bitmap = vec![0_u64; words];
                // A byte of bitmap is an extent of 4 KiB.
                for _ in 0..words as u64 * 8 / 100 {
                    let byte = random.below(words as u64 * 8);
                    bitmap[(byte / 8) as usize] |= 0xff << (byte % 8 * 8);
                }
                bitmap
            }
        }
    }
}
