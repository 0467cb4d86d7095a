//! What a sector may hold.

use driver::exact_count;
use driver::units::{SECTOR_SIZE, Sector};

use crate::stamp::{Content, Stamp, is_zero};

/// What a sector may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Zeros.
    Zeros,
    /// What a stamp made of it.
    Stamp(Stamp),
    /// The first bytes of what a stamp made of it, and how many they are; then zeros. This was
    /// the partial last sector of a smaller device.
    Front(Stamp, u16),
}

impl Held {
    /// Whether `content` is what `sector` holds then.
    #[inline]
    pub(super) fn is_in(self, sector: Sector, content: &[u8]) -> bool {
        match self {
            Held::Stamp(stamp) => stamp.is_in(sector, content),
            Held::Zeros => is_zero(content),
            Held::Front(stamp, bytes) => is_front(stamp, bytes, sector, content),
        }
    }

    /// Whether a sector has it in which `found` was found.
    #[inline]
    pub(super) fn was_found(self, sector: Sector, content: &[u8], found: Content) -> bool {
        match self.content(sector) {
            Some(expected) => found == expected,
            None => self.is_in(sector, content),
        }
    }

    /// What a look at the sector calls it; a part of a write has no name.
    pub(super) fn content(self, sector: Sector) -> Option<Content> {
        match self {
            Held::Zeros => Some(Content::Zeros),
            Held::Stamp(stamp) => Some(Content::Stamped(stamp, sector)),
            Held::Front(..) => None,
        }
    }

    /// What it is in words.
    pub(super) fn describe(self, sector: Sector) -> String {
        match (self.content(sector), self) {
            (None, Held::Front(stamp, bytes)) => {
                let stamped = Content::Stamped(stamp, sector);
                format!(
                    "the first {} of {stamped}, and zeros",
                    exact_count(bytes.into(), "byte")
                )
            }
            (content, _) => content.unwrap_or(Content::Foreign).to_string(),
        }
    }
}

/// Few sectors need this, and it is kept out of the way of the others.
#[cold]
#[inline(never)]
fn is_front(stamp: Stamp, bytes: u16, sector: Sector, content: &[u8]) -> bool {
    content == front(stamp, bytes, sector)
}

/// The first bytes of what a stamp makes of a sector, and zeros.
pub fn front(stamp: Stamp, bytes: u16, sector: Sector) -> [u8; SECTOR_SIZE as usize] {
    let mut content = [0; SECTOR_SIZE as usize];
    stamp.fill(sector, &mut content);
    content[usize::from(bytes).min(SECTOR_SIZE as usize)..].fill(0);
    content
}
