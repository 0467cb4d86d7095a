//! What a device showed of its disk. Each sector is looked at once, all bytes of it; what was found
//! is then compared with the history, and with the files underneath, as often as need be.

use std::ops::Range;

use driver::units::{FileOffset, SECTOR_SIZE};

use crate::plain_format::Shown;
use crate::sim::FileContent;
use crate::stamp::Content;

/// Whole sectors from the first one on, and what was found in them.
#[derive(Clone, Copy, Debug)]
pub struct DiskContents<'a> {
    bytes: &'a [u8],
    found: &'a [Content],
}

impl<'a> DiskContents<'a> {
    /// Looks at `bytes`, of which a rest that is no sector is no part of what was seen. `found` is
    /// a buffer, whatever is in it.
    pub fn of(bytes: &'a [u8], found: &'a mut Vec<Content>) -> DiskContents<'a> {
        let sectors = bytes.chunks_exact(SECTOR_SIZE as usize);
        found.clear();
        found.extend(sectors.map(Content::of));
        DiskContents { bytes, found }
    }

    /// The bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The bytes of each sector, and what was found in it.
    pub fn sectors(&self) -> impl Iterator<Item = (&'a [u8], Content)> {
        let sectors = self.bytes.chunks_exact(SECTOR_SIZE as usize);
        sectors.zip(self.found.iter().copied())
    }
}

impl Shown<FileContent> for DiskContents<'_> {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn is_in(&self, file: &FileContent, at: u64, sectors: Range<u64>) -> bool {
        let sectors = sectors.start as usize..sectors.end as usize;
        let sector = SECTOR_SIZE as usize;
        let bytes = &self.bytes[sectors.start * sector..sectors.end * sector];
        file.holds_found(&self.found[sectors], bytes, FileOffset(at))
    }
}

impl Shown<&FileContent> for DiskContents<'_> {
    fn len(&self) -> u64 {
        Shown::<FileContent>::len(self)
    }

    fn is_in(&self, file: &&FileContent, at: u64, sectors: Range<u64>) -> bool {
        Shown::<FileContent>::is_in(self, file, at, sectors)
    }
}
