//! Stamped contents: every sector that is written says which request wrote it and which
//! sector it is, so that a wrong one can tell what it is instead.

use std::fmt;
use std::num::NonZeroU64;

use driver::cow::MAX_SECTORS;
use driver::units::{SECTOR_SIZE, Sector};

/// Tells a stamp from other content: no request has so high a number.
const MARK: u64 = 0x7562_6473_0000_0000;
const MARK_MASK: u64 = 0xffff_ffff_0000_0000;

/// What a buffer is filled with before it is read into: neither zeros nor the bytes of a stamp, so
/// that what a read leaves out does not pass for what it should have brought.
const POISON: [u8; Place::LEN] = [0xa5; Place::LEN];

/// Bytes that are compared side by side.
const LINE: usize = 64;

/// Whether each of these lines consists of the words of `expected`. All of a line goes through one
/// step, for which a compiler finds instructions that take several words.
#[inline]
fn all_are(expected: &[u64; LINE / 8], lines: &[[u8; LINE]]) -> bool {
    let mut differing = [0; LINE / 8];
    for line in lines {
        let words = line.as_chunks().0.iter();
        for ((differing, word), expected) in differing.iter_mut().zip(words).zip(expected) {
            *differing |= u64::from_le_bytes(*word) ^ expected;
        }
    }
    differing.into_iter().fold(0, |all, word| all | word) == 0
}

/// Whether all bytes are zero.
pub fn is_zero(content: &[u8]) -> bool {
    let (lines, rest) = content.as_chunks();
    all_are(&[0; LINE / 8], lines) && rest.iter().all(|&byte| byte == 0)
}

/// Who wrote a sector: a request of the trace by its number, from 1, or whoever made the
/// backing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(pub u32);

impl Stamp {
    /// The content that the backing file was made with.
    pub const BACKING: Stamp = Stamp(0);

    #[inline]
    fn pair(self, sector: Sector) -> [u8; Place::LEN] {
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
    #[inline]
    pub fn is_in(self, sector: Sector, content: &[u8]) -> bool {
        let mark = MARK | u64::from(self.0);
        let expected = std::array::from_fn(|word| if word % 2 == 0 { mark } else { sector.0 });
        let (lines, rest) = content.as_chunks();
        all_are(&expected, lines) && rest.is_empty()
    }
}

/// The 16 bytes that a stamp puts in front of a sector, and with which it fills the rest: the
/// mark with the request's number, and the sector's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    mark: NonZeroU64,
    sector: u64,
}

impl Place {
    /// Bytes of it.
    pub const LEN: usize = 16;

    /// The one that `content` begins with, if that is a stamp's. Other content passes for one
    /// only by chance: 57 of its bits have to be the right ones.
    #[inline]
    pub fn in_front_of(content: &[u8]) -> Option<Place> {
        let (words, _) = content.as_chunks::<8>();
        let [mark, sector] = [words.first()?, words.get(1)?].map(|word| u64::from_le_bytes(*word));
        let is_stamp = mark & MARK_MASK == MARK && sector < MAX_SECTORS.0;
        let mark = NonZeroU64::new(mark).filter(|_| is_stamp)?;
        Some(Place { mark, sector })
    }

    /// The one of this stamp and sector.
    #[inline]
    pub fn of(stamp: Stamp, sector: Sector) -> Place {
        // The mark is not 0, whatever the number.
        const MARKED: NonZeroU64 = NonZeroU64::new(MARK).expect("it is not 0");
        Place {
            mark: MARKED | u64::from(stamp.0),
            sector: sector.0,
        }
    }

    /// Whose stamp it is.
    #[inline]
    pub fn stamp(self) -> Stamp {
        Stamp(self.mark.get() as u32)
    }

    /// Of which sector.
    #[inline]
    pub fn sector(self) -> Sector {
        Sector(self.sector)
    }

    #[inline]
    fn bytes(self) -> [u8; Place::LEN] {
        let mut bytes = [0; Place::LEN];
        bytes[..8].copy_from_slice(&self.mark.get().to_le_bytes());
        bytes[8..].copy_from_slice(&self.sector.to_le_bytes());
        bytes
    }

    /// Puts it in front of a sector, and leaves the rest as it is.
    #[inline]
    pub fn put(self, content: &mut [u8]) {
        content[..Place::LEN].copy_from_slice(&self.bytes());
    }

    /// A whole sector of it.
    pub fn repeated(self) -> [u8; SECTOR_SIZE as usize] {
        let mut sector = [0; SECTOR_SIZE as usize];
        for place in sector.chunks_exact_mut(Place::LEN) {
            place.copy_from_slice(&self.bytes());
        }
        sector
    }
}

/// How much of a sector its stamp takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coverage {
    /// All of it, so that every byte can be compared.
    #[default]
    Whole,
    /// The 16 bytes in front. The others mean nothing and are never looked at.
    Front,
}

impl Coverage {
    /// Stamps `data`, whole sectors from `first` on.
    #[inline]
    pub fn stamp(self, stamp: Stamp, first: Sector, data: &mut [u8]) {
        match self {
            Coverage::Whole => stamp.fill(first, data),
            Coverage::Front => {
                let contents = data.chunks_exact_mut(SECTOR_SIZE as usize);
                for (sector, content) in (first.0..).zip(contents) {
                    content[..Place::LEN].copy_from_slice(&stamp.pair(Sector(sector)));
                }
            }
        }
    }

    /// Makes `data`, whole sectors, such that no part of it that a read leaves out passes for
    /// content: both ends of each sector are poisoned, or the front where only that is stamped.
    /// A read leaves out the end of a sector or the beginning, and hardly just its middle; to
    /// fill all of a buffer would cost as much as reading it.
    #[inline]
    pub fn poison(self, data: &mut [u8]) {
        for content in data.chunks_mut(SECTOR_SIZE as usize) {
            if let Some(front) = content.first_chunk_mut() {
                *front = POISON;
            }
            if self == Coverage::Whole
                && let Some(back) = content.last_chunk_mut()
            {
                *back = POISON;
            }
        }
    }

    /// Whether `content`, one sector, is what [`Coverage::stamp`] made of `sector`.
    #[inline]
    pub fn shows(self, stamp: Stamp, sector: Sector, content: &[u8]) -> bool {
        match self {
            Coverage::Whole => stamp.is_in(sector, content),
            Coverage::Front => content.first_chunk() == Some(&stamp.pair(sector)),
        }
    }

    /// Looks at one sector.
    pub fn look(self, content: &[u8]) -> Content {
        match (self, Place::in_front_of(content)) {
            (Coverage::Front, Some(place)) => Content::Stamped(place.stamp(), place.sector()),
            _ => Content::of(content),
        }
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
            _ if is_zero(content) => Content::Zeros,
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

    #[test]
    fn a_stamp_in_front_is_all_that_is_looked_at() {
        let (front, whole) = (Coverage::Front, Coverage::Whole);
        let mut data = [9; 1024];
        front.stamp(Stamp(7), Sector(100), &mut data);
        assert!(data[16..512].iter().all(|&byte| byte == 9));
        let second = &data[512..];
        assert!(front.shows(Stamp(7), Sector(101), second));
        assert!(!front.shows(Stamp(7), Sector(100), second));
        assert!(!front.shows(Stamp(8), Sector(101), second));
        assert!(!whole.shows(Stamp(7), Sector(101), second));
        let stamped = Content::Stamped(Stamp(7), Sector(101));
        assert_eq!(front.look(second), stamped);
        assert_eq!(whole.look(second), Content::Foreign);
        for at in 0..16 {
            let mut changed = data;
            changed[512 + at] ^= 1;
            let sector = &changed[512..];
            assert!(!front.shows(Stamp(7), Sector(101), sector), "byte {at}");
            assert_ne!(front.look(sector), stamped, "byte {at}");
        }
        assert_eq!(front.look(&[0; 512]), Content::Zeros);
    }

    #[test]
    fn a_poisoned_sector_passes_for_nothing_though_one_end_of_it_was_read() {
        for coverage in [Coverage::Front, Coverage::Whole] {
            for right in [true, false] {
                let mut expected = [0; 512];
                if right {
                    coverage.stamp(Stamp(7), Sector(100), &mut expected);
                }
                let mut data = expected;
                coverage.poison(&mut data);
                assert_ne!(data, expected);
                assert!(!coverage.shows(Stamp(7), Sector(100), &data));
                assert_eq!(coverage.look(&data), Content::Foreign);
            }
        }
        let mut expected = [0; 512];
        Stamp(7).fill(Sector(100), &mut expected);
        for read in [0..511, 1..512] {
            let mut data = expected;
            Coverage::Whole.poison(&mut data);
            data[read.clone()].copy_from_slice(&expected[read]);
            assert!(!Stamp(7).is_in(Sector(100), &data));
        }
    }

    #[test]
    fn a_place_is_that_of_a_stamp_and_makes_a_whole_sector_again() {
        let mut data = [0; 512];
        Stamp(7).fill(Sector(100), &mut data);
        let place = Place::in_front_of(&data).unwrap();
        assert_eq!(place.repeated(), data);
        let mut front = [9; 512];
        place.put(&mut front);
        assert!(Coverage::Front.shows(Stamp(7), Sector(100), &front));
        assert_eq!(front[16..], [9; 496]);
        for other in [[0; 512], [0xff; 512], [0xa5; 512]] {
            assert_eq!(Place::in_front_of(&other), None);
        }
        assert_eq!(Place::in_front_of(&data[..8]), None);
        // A sector that no device has is no stamp's.
        data[15] = 1;
        assert_eq!(Place::in_front_of(&data), None);
        assert_eq!(size_of::<Option<Place>>(), Place::LEN);
    }
}
