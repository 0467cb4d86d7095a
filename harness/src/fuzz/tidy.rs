//! Whether a COW file is tidy: nothing is in it that no reader looks at and that the next work on
//! it would have to get along with. A crash or a failed host may leave some of that, and then it is
//! harmless. Work that ends well on a healthy host leaves none that was not there before.

use driver::exact_count;
use driver::units::{FileOffset, SECTOR_SIZE};

use crate::plain_format::{CowFile, Extension, Header, JOURNAL_END, Version, Wrong};
use crate::sim::FileContent;

/// The blocks that a host gives a file its space in.
const BLOCK: u64 = 4096;

/// Some of what is untidy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places {
    /// Where the first of it is.
    at: u64,
    /// Bits, bytes or blocks.
    count: u64,
}

impl Places {
    fn of(places: impl IntoIterator<Item = u64>) -> Option<Places> {
        let mut places = places.into_iter();
        let at = places.next()?;
        let count = 1 + places.count() as u64;
        Some(Places { at, count })
    }
}

/// What is untidy in a COW file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Untidy {
    /// Bits past that of the last sector; from the bitmap to the data, bytes that are not zero.
    pub(super) bit: Option<Places>,
    /// Bytes past the end of the data area.
    pub(super) too_long: Option<Places>,
    /// Blocks with space in which nothing is. The one that the file ends within does not count: no
    /// new length alone gives that back.
    pub(super) leak: Option<Places>,
    /// How many there are where that one does count.
    pub(super) leaks: u64,
    /// Of the bytes from the bitmap to the data that are not zero, those that are looked at alone.
    pub(super) past_bitmap: Option<Places>,
}

impl Untidy {
    /// Looks at a file that a reader accepts.
    ///
    /// # Errors
    /// What a reader refuses.
    pub(super) fn of(file: &FileContent) -> Result<Untidy, Wrong> {
        let cow = CowFile::open(file)?;
        let leaks = leaks(&cow, file);
        let len = file.length().0;
        let whole = leaks.iter().copied().filter(|block| block + BLOCK <= len);
        Ok(Untidy {
            leak: Places::of(whole),
            leaks: leaks.len() as u64,
            ..Untidy::but_leaks_in(&cow, file)
        })
    }

    /// Looks at a file whose blocks may have nothing in them yet, or not any more: bits may come
    /// later, what is left of a move is a documented leak, and a block of zeros does no harm.
    ///
    /// # Errors
    /// What a reader refuses.
    pub(super) fn but_leaks(file: &FileContent) -> Result<Untidy, Wrong> {
        Ok(Untidy::but_leaks_in(&CowFile::open(file)?, file))
    }

    /// As [`Untidy::but_leaks`], of a file that is open already.
    pub(super) fn but_leaks_in(cow: &CowFile<&FileContent>, file: &FileContent) -> Untidy {
        let (len, end) = (file.length().0, cow.layout.end);
        let past = cow.bits_past_end().into_iter();
        Untidy {
            bit: Places::of(past.chain(bytes_before_data(cow, file))),
            too_long: (len > end).then(|| Places {
                at: end,
                count: len - end,
            }),
            ..Untidy::default()
        }
    }

    /// Looks at nothing but the bytes from the bitmap to the data, and of these at none in which a
    /// sector has its bit: the bitmap of V1 and V2 may lack the byte for the last sectors, and
    /// Linux has it there. Of a file that no reader accepts nothing is known.
    pub(super) fn past_bitmap(file: &FileContent) -> Untidy {
        let past = CowFile::open(file).map(|cow| {
            let bits_end = cow.layout.bits_end();
            let past = bytes_before_data(&cow, file).into_iter();
            Places::of(past.filter(|&at| at >= bits_end))
        });
        Untidy {
            past_bitmap: past.unwrap_or_default(),
            ..Untidy::default()
        }
    }

    /// What is untidy here, and was less so `before`.
    ///
    /// # Errors
    /// The first of it.
    pub(super) fn no_more_than(self, before: Untidy) -> Result<(), Wrong> {
        let count = |found: Option<Places>| found.map_or(0, |found| found.count);
        let kinds = [
            (
                (self.bit, count(before.bit)),
                "bit past the last sector's",
                "found one",
            ),
            (
                (self.too_long, count(before.too_long)),
                "length",
                "the data area ends here, the file does not",
            ),
            (
                (self.leak, before.leaks),
                "space",
                "a block has space here, and nothing is in it",
            ),
            (
                (self.past_bitmap, count(before.past_bitmap)),
                "gap before the data",
                "a byte past the bitmap is not zero",
            ),
        ];
        let found = kinds.into_iter().find_map(|((here, before), what, found)| {
            let here = here.filter(|here| here.count > before)?;
            let found = match before {
                0 => found.into(),
                _ => format!("{found}: {} in all, {before} before", here.count),
            };
            let at = here.at;
            Some(Wrong { at, what, found })
        });
        found.map_or(Ok(()), Err)
    }
}

/// The bytes between the bitmap and the data that are not zero: a longer bitmap would have its
/// bits there.
fn bytes_before_data(cow: &CowFile<&FileContent>, file: &FileContent) -> Vec<u64> {
    let layout = &cow.layout;
    let mut found = Vec::new();
    let mut at = layout.bitmap + layout.bitmap_len;
    while let Some(data) = file.next_data(FileOffset(at)) {
        let start = data.start.0;
        if start >= layout.data {
            break;
        }
        let end = data.end().0.min(layout.data);
        let mut bytes = vec![0; (end - start) as usize];
        file.read_at(&mut bytes, FileOffset(start));
        found.extend(
            (start..end)
                .zip(bytes)
                .filter(|(_, byte)| *byte != 0)
                .map(|(at, _)| at),
        );
        at = end;
    }
    found
}

/// The blocks that take space and have nothing of the header, the bitmap or dirty data.
fn leaks(cow: &CowFile<&FileContent>, file: &FileContent) -> Vec<u64> {
    let layout = &cow.layout;
    let header_end = match cow.header.version {
        Version::V3 => JOURNAL_END.min(layout.bitmap),
        version => version.fields().header_len,
    };
    let bitmap_end = layout.bitmap + layout.bitmap_len;
    let is_used = |block: u64| {
        let end = block + BLOCK;
        if block < header_end || block < bitmap_end && end > layout.bitmap {
            return true;
        }
        let first = block.saturating_sub(layout.data) / SECTOR_SIZE;
        let past = end.saturating_sub(layout.data).div_ceil(SECTOR_SIZE);
        (first..past.min(layout.sectors)).any(|sector| cow.is_dirty(sector))
    };
    let (mut at, mut seen, mut found) = (0, 0, Vec::new());
    while let Some(data) = file.next_data(FileOffset(at)) {
        let blocks = seen.max(data.start.0 / BLOCK)..data.end().0.div_ceil(BLOCK);
        (at, seen) = (data.end().0, blocks.end);
        let blocks = blocks.map(|number| number * BLOCK);
        found.extend(blocks.filter(|&block| !is_used(block)));
    }
    found
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

#[cfg(test)]
mod tests {
    use super::super::build::build;
    use super::super::case::{DriverName, Image, ImageVersion};
    use super::super::generate::{Subject, generate};
    use super::super::paths::COW;
    use super::*;

    /// An image of 61 sectors, and where its bitmap is, and its end.
    fn image() -> (FileContent, u64, u64) {
        let mut case = generate(1, &Subject::healthy(DriverName::Ordered));
        case.image = Image {
            dirty: vec![(0, 4)],
            ..Image::sound(61, ImageVersion::V3, 4096)
        };
        let file = build(&case).host.content(COW).unwrap();
        let layout = CowFile::open(&file).unwrap().layout;
        (file, layout.bitmap, layout.end)
    }

    #[test]
    fn what_was_untidy_before_excuses_no_more_than_that() {
        let (file, bitmap, end) = image();
        let clean = Untidy::of(&file).unwrap();
        assert_eq!(clean, Untidy::default());
        // Three bits of the last byte are past the last sector's; so are all of the next byte.
        let cases = [
            ([(bitmap + 7, vec![1 << 7])], [(bitmap + 7, vec![3 << 6])]),
            ([(bitmap + 8, vec![1])], [(bitmap + 8, vec![1, 1])]),
            ([(end, vec![7])], [(end, vec![7; 2])]),
            (
                [(end - 2 * BLOCK, vec![7; 9])],
                [(end - 3 * BLOCK, vec![7; BLOCK as usize + 9])],
            ),
        ];
        for (some, more) in cases {
            let untidy = |left: [(u64, Vec<u8>); 1]| {
                let mut file = file.clone();
                for (at, bytes) in left {
                    file.write_at(&bytes, FileOffset(at));
                }
                Untidy::of(&file).unwrap()
            };
            let (some, more) = (untidy(some), untidy(more));
            assert!(some.no_more_than(clean).is_err(), "{some:?}");
            assert_eq!(some.no_more_than(some), Ok(()));
            assert!(more.no_more_than(some).is_err(), "{some:?} {more:?}");
        }
    }

    #[test]
    fn what_is_past_the_bitmap_is_told_from_the_bits_that_it_lacks() {
        // 100 sectors: V2 has 12 bytes for them, V3 13.
        for (version, first) in [(ImageVersion::V2, 13), (ImageVersion::V3, 13)] {
            let mut case = generate(1, &Subject::healthy(DriverName::Linux612));
            case.image = Image::sound(100, version, 4096);
            let file = build(&case).host.content(COW).unwrap();
            let bitmap = CowFile::open(&file).unwrap().layout.bitmap;
            let clean = Untidy::past_bitmap(&file);
            assert_eq!(clean, Untidy::default());
            for byte in 0..24 {
                let mut file = file.clone();
                file.write_at(&[0xf0], FileOffset(bitmap + byte));
                let found = Untidy::past_bitmap(&file).no_more_than(clean);
                assert_eq!(found.is_err(), byte >= first, "{version:?}, byte {byte}");
                let at = found.map_or_else(|wrong| wrong.at, |()| bitmap + byte);
                assert_eq!(at, bitmap + byte);
            }
        }
    }
}
