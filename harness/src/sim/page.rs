//! A page of a file, and what was found in it. It is a file of its own so that nobody changes the
//! bytes and keeps what was found in them before.

use std::cell::OnceCell;
use std::hash::Hash;
use std::sync::Arc;

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

/// Where the bytes of a page are.
#[derive(Clone)]
enum Held {
    Own(Box<Bytes>),
    /// In those of a write, from this one on: a whole page of them.
    OfWrite(Arc<[u8]>, usize),
}

#[derive(Clone)]
pub(super) struct Page {
    bytes: Held,
    /// It is more than space.
    is_written: bool,
    found: OnceCell<[Content; SECTORS_A_PAGE]>,
    digest: OnceCell<u128>,
}

impl Page {
    pub(super) fn new(bytes: Bytes) -> Page {
        Page::holding(Held::Own(Box::new(bytes)))
    }

    /// The page whose bytes are those of a write from `from` on, without a copy of them. `None` if
    /// these are fewer than a page has.
    pub(super) fn of_write(data: &Arc<[u8]>, from: usize) -> Option<Page> {
        data.get(from..)?.first_chunk::<{ PAGE_SIZE as usize }>()?;
        Some(Page::holding(Held::OfWrite(Arc::clone(data), from)))
    }

    fn holding(bytes: Held) -> Page {
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
        match &self.bytes {
            Held::Own(bytes) => bytes,
            Held::OfWrite(data, from) => data[*from..]
                .first_chunk()
                .expect("a page of a write is whole when it is made"),
        }
    }

    /// The bytes, to be changed: what was found in them is forgotten.
    pub(super) fn bytes_mut(&mut self) -> &mut Bytes {
        self.is_written = true;
        self.found.take();
        self.digest.take();
        if let Held::OfWrite(..) = self.bytes {
            self.bytes = Held::Own(Box::new(*self.bytes()));
        }
        match &mut self.bytes {
            Held::Own(bytes) => bytes,
            Held::OfWrite(..) => unreachable!("it has just got bytes of its own"),
        }
    }

    /// A number that other bytes do not have, as far as chance goes; 0 of nothing but zeros.
    pub(super) fn digest(&self) -> u128 {
        *self.digest.get_or_init(|| {
            if *self.bytes() == ZEROS {
                return 0;
            }
            let mut hasher = WideHasher::new();
            self.bytes().hash(&mut hasher);
            hasher.wide()
        })
    }

    /// What its sectors hold. Every byte is looked at when this is asked first.
    pub(super) fn found(&self) -> &[Content; SECTORS_A_PAGE] {
        self.found.get_or_init(|| {
            let sectors = self.bytes().as_chunks::<{ SECTOR_SIZE as usize }>().0;
            std::array::from_fn(|sector| Content::of(&sectors[sector]))
        })
    }
}
