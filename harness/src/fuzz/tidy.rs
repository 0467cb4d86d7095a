//! Whether a COW file is tidy: nothing is in it that no reader looks at and that the next work on
//! it would have to get along with. A crash or a failed host may leave some of that, and then it is
//! harmless. Work that ends well on a healthy host leaves none that was not there before.

use driver::exact_count;
use driver::units::{FileOffset, SECTOR_SIZE};

use crate::plain_format::{CowFile, Extension, Header, Version, Wrong};
use crate::sim::FileContent;

/// The blocks that a host gives a file its space in.
const BLOCK: u64 = 4096;

/// The first byte after the journal, which a V3 file has once it was reflowed.
pub(super) const JOURNAL_END: u64 = 5632;

/// What is untidy in a COW file: where each kind of it begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Untidy {
    /// A bit past that of the last sector, up to the data.
    pub(super) bit: Option<u64>,
    /// Bytes past the end of the data area.
    pub(super) too_long: Option<u64>,
    /// A block with space in which nothing is. The one that the file ends within does not count: no
    /// new length alone gives that back.
    pub(super) leak: Option<u64>,
    /// There is one, and that one does count.
    pub(super) leaks: bool,
}

impl Untidy {
    /// Looks at a file that a reader accepts.
    ///
    /// # Errors
    /// What a reader refuses.
    pub(super) fn of(file: &FileContent) -> Result<Untidy, Wrong> {
        let cow = CowFile::open(file)?;
        let (len, end) = (file.length().0, cow.layout.end);
        Ok(Untidy {
            bit: cow.bit_past_end().or_else(|| byte_before_data(&cow, file)),
            too_long: (len > end).then_some(end),
            leak: leak(&cow, file, len),
            leaks: leak(&cow, file, u64::MAX).is_some(),
        })
    }

    /// What is untidy here and was not `before`.
    ///
    /// # Errors
    /// The first of it.
    pub(super) fn no_more_than(self, before: Untidy) -> Result<(), Wrong> {
        let kinds = [
            (
                self.bit.filter(|_| before.bit.is_none()),
                "bit past the last sector's",
                "found one",
            ),
            (
                self.too_long.filter(|_| before.too_long.is_none()),
                "length",
                "the data area ends here, the file does not",
            ),
            (
                self.leak.filter(|_| !before.leaks),
                "space",
                "a block has space here, and nothing is in it",
            ),
        ];
        let found = kinds.into_iter().find_map(|(at, what, found)| {
            at.map(|at| Wrong {
                at,
                what,
                found: found.into(),
            })
        });
        found.map_or(Ok(()), Err)
    }
}

/// The first byte between the bitmap and the data that is not zero: a longer bitmap would have its
/// bits there.
fn byte_before_data(cow: &CowFile<&FileContent>, file: &FileContent) -> Option<u64> {
    let layout = &cow.layout;
    let mut at = layout.bitmap + layout.bitmap_len;
    while let Some(data) = file.next_data(FileOffset(at)) {
        let start = data.start.0;
        if start >= layout.data {
            return None;
        }
        let end = data.end().0.min(layout.data);
        let mut bytes = vec![0; (end - start) as usize];
        file.read_at(&mut bytes, FileOffset(start));
        if let Some(byte) = bytes.iter().position(|&byte| byte != 0) {
            return Some(start + byte as u64);
        }
        at = end;
    }
    None
}

/// The first block, of those that end by `most`, that takes space and has nothing of the header,
/// the bitmap or dirty data.
fn leak(cow: &CowFile<&FileContent>, file: &FileContent, most: u64) -> Option<u64> {
    let layout = &cow.layout;
    let header_end = match cow.header.version {
        Version::V3 => JOURNAL_END.min(layout.bitmap),
        version => version.fields().header_len,
    };
    let bitmap_end = layout.bitmap + layout.bitmap_len;
    let is_used = |block: u64| {
        let end = block + BLOCK;
        if end > most || block < header_end || block < bitmap_end && end > layout.bitmap {
            return true;
        }
        let first = block.saturating_sub(layout.data) / SECTOR_SIZE;
        let past = end.saturating_sub(layout.data).div_ceil(SECTOR_SIZE);
        (first..past.min(layout.sectors)).any(|sector| cow.is_dirty(sector))
    };
    let mut at = 0;
    while let Some(data) = file.next_data(FileOffset(at)) {
        let blocks = data.start.0 / BLOCK..data.end().0.div_ceil(BLOCK);
        let mut blocks = blocks.map(|number| number * BLOCK);
        if let Some(block) = blocks.find(|&block| !is_used(block)) {
            return Some(block);
        }
        at = data.end().0;
    }
    None
}

/// What a resize that has succeeded has to leave of a COW file.
#[derive(Clone, Debug)]
pub(super) struct Before {
    header: Header,
    backing_size: u64,
    data: u64,
}

/// What is known of how a device was resized.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resized {
    /// The size that was asked for in bytes.
    pub(super) size: u64,
    /// Nothing was to be moved.
    pub(super) stays: bool,
    /// The alignment that was asked for, if one was.
    pub(super) alignment: Option<u32>,
}

impl Before {
    /// Looks at the file before; `None` if it is none that a reader accepts.
    pub(super) fn of(file: &FileContent) -> Option<Before> {
        let cow = CowFile::open(file).ok()?;
        let backing_size = backing_size(&cow.header, cow.extension);
        Some(Before {
            backing_size,
            data: cow.layout.data,
            header: cow.header,
        })
    }

    /// Looks at what a resize has made of it.
    ///
    /// # Errors
    /// What is not as it has to be.
    pub(super) fn check(&self, file: &FileContent, resized: Resized) -> Result<(), Wrong> {
        let cow = CowFile::open(file)?;
        let (header, fields) = (&cow.header, cow.header.version.fields());
        let wrong = |at, what, found: String| Err(Wrong { at, what, found });
        let unequal = |found: u64, expected: u64| format!("found {found}, expected {expected}");
        if header.size != resized.size {
            return wrong(fields.size, "size", unequal(header.size, resized.size));
        }
        if header.marked {
            return wrong(fields.size, "mark", "a reflow is still under way".into());
        }
        if header.version != Version::V3 {
            return wrong(4, "version", "found another than 3".into());
        }
        if header.path != self.header.path {
            return wrong(fields.path, "path", "it has changed".into());
        }
        if header.time != self.header.time {
            let (found, expected) = (header.time.into(), self.header.time.into());
            return wrong(fields.time, "time", unequal(found, expected));
        }
        let backing_size = backing_size(header, cow.extension);
        if backing_size != self.backing_size {
            let found = unequal(backing_size, self.backing_size);
            return wrong(Extension::AT, "size of the backing file", found);
        }
        let alignment = match resized.stays {
            true => Some(self.header.alignment),
            false => resized.alignment,
        };
        if let Some(expected) = alignment.filter(|&expected| expected != header.alignment) {
            let found = unequal(header.alignment.into(), expected.into());
            return wrong(24, "alignment", found);
        }
        if resized.stays && cow.layout.data != self.data {
            return wrong(24, "data", unequal(cow.layout.data, self.data));
        }
        let (len, end) = (file.length().0, cow.layout.end);
        if len != end {
            let found = format!(
                "the file has {}, its data ends at byte {end}",
                exact_count(len, "byte")
            );
            return wrong(len, "length", found);
        }
        Ok(())
    }
}

/// The size that the backing file has by what the COW file says.
fn backing_size(header: &Header, extension: Option<Extension>) -> u64 {
    extension.map_or(header.size, |extension| extension.backing_size)
}
