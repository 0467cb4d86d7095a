//! A page of a file, and what was found in it. It is a file of its own so that nobody changes the
//! bytes and keeps what was found in them before.

use std::cell::OnceCell;
use std::hash::Hash;

use driver::units::SECTOR_SIZE;

use crate::stamp::Content;

use super::wide_hash::WideHasher;

/// Bytes in a page; also the granularity of holes.
pub const PAGE_SIZE: u64 = 4096;

/// Sectors in a page.
pub(super) const SECTORS_A_PAGE: usize = (PAGE_SIZE / SECTOR_SIZE) as usize;

pub(super) type Bytes = [u8; PAGE_SIZE as usize];

/// What a page that does not exist reads as.
pub(super) static ZEROS: Bytes = [0; PAGE_SIZE as usize];

/// What was found in the sectors of a page that does not exist.
pub(super) static NOTHING: [Content; SECTORS_A_PAGE] = [Content::Zeros; SECTORS_A_PAGE];

#[derive(Clone)]
pub(super) struct Page {
    bytes: Bytes,
    /// It is more than space.
    is_written: bool,
    found: OnceCell<[Content; SECTORS_A_PAGE]>,
    digest: OnceCell<u128>,
}

impl Page {
    pub(super) fn new(bytes: Bytes) -> Page {
        Page {
            bytes,
            is_written: true,
            found: OnceCell::new(),
            digest: OnceCell::new(),
        }
    }

    /// Space that nothing was written to, which reads as zeros.
    pub(super) fn unwritten() -> Page {
        Page {
            is_written: false,
            ..Page::new(ZEROS)
        }
    }

    pub(super) fn is_written(&self) -> bool {
        self.is_written
    }

    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bytes, to be changed: what was found in them is forgotten.
    pub(super) fn bytes_mut(&mut self) -> &mut Bytes {
        self.is_written = true;
        self.found.take();
        self.digest.take();
        &mut self.bytes
    }

    /// A number that other bytes do not have, as far as chance goes; 0 of nothing but zeros.
    pub(super) fn digest(&self) -> u128 {
        *self.digest.get_or_init(|| {
            if self.bytes == ZEROS {
                return 0;
            }
            let mut hasher = WideHasher::new();
            self.bytes.hash(&mut hasher);
            hasher.wide()
        })
    }

    /// What its sectors hold. Every byte is looked at when this is asked first.
    pub(super) fn found(&self) -> &[Content; SECTORS_A_PAGE] {
        self.found.get_or_init(|| {
            let sectors = self.bytes.as_chunks::<{ SECTOR_SIZE as usize }>().0;
            std::array::from_fn(|sector| Content::of(&sectors[sector]))
        })
    }
}
