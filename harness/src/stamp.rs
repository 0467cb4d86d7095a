//! Stamped contents: every sector that is written says which request wrote it and which
//! sector it is, so that a wrong one can tell what it is instead.

use std::fmt;

use driver::units::{SECTOR_SIZE, Sector};

/// Tells a stamp from other content: no request has so high a number.
const MARK: u64 = 0x7562_6473_0000_0000;
const MARK_MASK: u64 = 0xffff_ffff_0000_0000;

/// Who wrote a sector: a request of the trace by its number, from 1, or whoever made the
/// backing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(pub u32);

impl Stamp {
    /// The content that the backing file was made with.
    pub const BACKING: Stamp = Stamp(0);

    fn pair(self, sector: Sector) -> [u8; 16] {
        let mut pair = [0; 16];
        pair[..8].copy_from_slice(&(MARK | u64::from(self.0)).to_le_bytes());
        pair[8..].copy_from_slice(&sector.0.to_le_bytes());
        pair
    }

    /// Fills `data`, whole sectors from `first` on, each with this stamp and its number.
    pub fn fill(self, first: Sector, data: &mut [u8]) {
        let mut sector = first;
        for content in data.chunks_exact_mut(SECTOR_SIZE as usize) {
            let pair = self.pair(sector);
            for place in content.chunks_exact_mut(pair.len()) {
                place.copy_from_slice(&pair);
            }
            sector.0 += 1;
        }
    }

    /// Whether `content`, one sector, is what [`Stamp::fill`] made of `sector`.
    pub fn is_in(self, sector: Sector, content: &[u8]) -> bool {
        let expected = u128::from_le_bytes(self.pair(sector));
        let mut difference = 0;
        let (pairs, rest) = content.as_chunks::<16>();
        for pair in pairs {
            difference |= u128::from_le_bytes(*pair) ^ expected;
        }
        difference == 0 && rest.is_empty()
    }
}

/// What one sector turned out to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Zeros.
    Zeros,
    /// What the given stamp made of the given sector.
    Stamped(Stamp, Sector),
    /// Parts of different writes, or something that never was written.
    Foreign,
}

impl Content {
    /// Looks at one sector.
    pub fn of(content: &[u8]) -> Content {
        if content.iter().all(|&byte| byte == 0) {
            return Content::Zeros;
        }
        let word = |at: usize| {
            let bytes = content.get(at..at + 8)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        match (word(0), word(8)) {
            (Some(mark), Some(sector)) if mark & MARK_MASK == MARK => {
                let (stamp, sector) = (Stamp(mark as u32), Sector(sector));
                match stamp.is_in(sector, content) {
                    true => Content::Stamped(stamp, sector),
                    false => Content::Foreign,
                }
            }
            _ => Content::Foreign,
        }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::Zeros => f.write_str("zeros"),
            Content::Stamped(Stamp::BACKING, sector) => {
                write!(f, "the backing file's sector {sector}")
            }
            Content::Stamped(Stamp(request), sector) => {
                write!(f, "what request {request} wrote to sector {sector}")
            }
            Content::Foreign => f.write_str("what nobody wrote, or parts of different writes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sector_tells_who_wrote_it_and_where() {
        let mut data = [0; 1024];
        Stamp(7).fill(Sector(100), &mut data);
        assert!(Stamp(7).is_in(Sector(101), &data[512..]));
        assert!(!Stamp(7).is_in(Sector(100), &data[512..]));
        assert!(!Stamp(8).is_in(Sector(101), &data[512..]));
        let content = Content::of(&data[..512]);
        assert_eq!(content, Content::Stamped(Stamp(7), Sector(100)));
    }

    #[test]
    fn one_changed_byte_makes_it_foreign() {
        for at in 0..512 {
            let mut data = [0; 512];
            Stamp(7).fill(Sector(100), &mut data);
            data[at] ^= 1;
            assert!(!Stamp(7).is_in(Sector(100), &data), "byte {at}");
            assert_ne!(Content::of(&data), Content::Stamped(Stamp(7), Sector(100)));
        }
        assert_eq!(Content::of(&[0; 512]), Content::Zeros);
    }
}
