//! The content of a file at one moment: its pages and its length. What a file holds
//! now, what of it is durable, and what a test kept for comparison are all of this
//! type, and share the pages that they have in common.

use std::fmt;
use std::sync::Arc;

use driver::units::{Bytes, FileOffset, FileRange, SECTOR_SIZE};

use crate::plain_format::Source;
use crate::stamp::Content;

use super::page::{PAGE_SIZE, SECTORS_A_PAGE};
use super::pages::Pages;

/// A file's content. Clones are cheap and share pages.
#[derive(Clone, Default)]
pub struct FileContent {
    pages: Pages,
    len: u64,
}

impl FileContent {
    /// A file of exactly these bytes. Pages of nothing but zeros become holes.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut content = Self::default();
        for (index, page) in bytes.chunks(PAGE_SIZE as usize).enumerate() {
            if page.iter().any(|&byte| byte != 0) {
                content.pages.write(page, index as u64 * PAGE_SIZE);
            }
        }
        content.len = bytes.len() as u64;
        content
    }

    /// A file of this length that is one hole.
    pub fn hole(len: Bytes) -> Self {
        Self {
            pages: Pages::default(),
            len: len.0,
        }
    }

    /// The length of the file.
    pub fn length(&self) -> Bytes {
        Bytes(self.len)
    }

    /// The space that the file takes on the host.
    pub fn allocated(&self) -> Bytes {
        Bytes(self.pages.allocated() * PAGE_SIZE)
    }

    /// All bytes of the file. For small files: holes are written out as zeros.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        self.pages.read(&mut bytes, 0);
        bytes
    }

    /// Reads up to the end of the file; the number of bytes read.
    pub fn read_at(&self, buffer: &mut [u8], at: FileOffset) -> usize {
        let count = self.len.saturating_sub(at.0).min(buffer.len() as u64) as usize;
        self.pages.read(&mut buffer[..count], at.0);
        count
    }

    /// Whether the bytes from `at` on are `expected`, without a copy of what the file holds. What
    /// lies past its end reads as zeros.
    pub fn holds(&self, expected: &[u8], at: FileOffset) -> bool {
        let count = self.len.saturating_sub(at.0).min(expected.len() as u64) as usize;
        let (within, behind) = expected.split_at(count);
        self.pages.holds(within, at.0) && crate::stamp::is_zero(behind)
    }

    /// Whether the whole sectors from `at` on hold what was found in others: `bytes`, in which
    /// `found` was found. Bytes are compared only where that does not say all about them.
    pub(crate) fn holds_found(&self, found: &[Content], bytes: &[u8], at: FileOffset) -> bool {
        let end = at.0 + bytes.len() as u64;
        if !at.0.is_multiple_of(SECTOR_SIZE) || end > self.len {
            return self.holds(bytes, at);
        }
        let (mut found, mut sector) = (found, at.0 / SECTOR_SIZE);
        while !found.is_empty() {
            let (page, within) = (
                sector / SECTORS_A_PAGE as u64,
                (sector % SECTORS_A_PAGE as u64) as usize,
            );
            let here = &self.pages.found(page)[within..];
            let (expected, rest) = found.split_at(found.len().min(here.len()));
            // Of foreign content nothing is known but that it is neither.
            if here[..expected.len()] != *expected || expected.contains(&Content::Foreign) {
                return self.holds(bytes, at);
            }
            (found, sector) = (rest, sector + expected.len() as u64);
        }
        true
    }

    /// Whether it is the other one also in where its holes are.
    pub(crate) fn is_stored_like(&self, other: &FileContent) -> bool {
        self.len == other.len && self.pages.same_pages(&other.pages)
    }

    /// Whether it is a clone of the other one that nobody has changed since.
    pub(crate) fn is_same_as(&self, other: &FileContent) -> bool {
        self.len == other.len && self.pages.is_same_as(&other.pages)
    }

    /// A number that a file which reads otherwise does not have, as far as chance goes. Where the
    /// holes are makes no difference.
    pub(crate) fn digest(&self) -> (u64, u128) {
        (self.len, self.pages.digest())
    }

    /// Writes all of `data`, and extends the file if need be.
    pub fn write_at(&mut self, data: &[u8], at: FileOffset) {
        self.pages.write(data, at.0);
        if !data.is_empty() {
            self.extend_to(at.0 + data.len() as u64);
        }
    }

    /// As [`FileContent::write_at`]. Pages that are written whole share the bytes of `data`.
    pub(crate) fn write_listed(&mut self, data: &Arc<[u8]>, at: FileOffset) {
        self.pages.write_listed(data, at.0);
        if !data.is_empty() {
            self.extend_to(at.0 + data.len() as u64);
        }
    }

    /// Takes whole pages over from another file: where that has zeros, there is a hole.
    pub(crate) fn share(&mut self, data: &[u8], at: FileOffset) {
        let mut at = at;
        for page in data.chunks(PAGE_SIZE as usize) {
            let range = FileRange::new(at, Bytes(page.len() as u64));
            match crate::stamp::is_zero(page) {
                true => self.punch_hole(range),
                false => self.write_at(page, at),
            }
            at = range.end();
        }
        self.extend_to(at.0);
    }

    /// Cuts the file or extends it with a hole.
    pub fn set_len(&mut self, len: Bytes) {
        if len.0 < self.len {
            self.discard_past(len);
        }
        self.len = len.0;
    }

    /// Frees the range, which then reads as zeros.
    pub fn punch_hole(&mut self, range: FileRange) {
        self.pages.punch(range.start.0, range.len.0);
    }

    /// Makes the range zeros with its space allocated, and extends the file if need be.
    pub fn zero_range(&mut self, range: FileRange) {
        self.pages.zero(range.start.0, range.len.0);
        if range.len != Bytes(0) {
            self.extend_to(range.end().0);
        }
    }

    /// Allocates the space of the range, without a change of bytes or length.
    pub(crate) fn reserve(&mut self, range: FileRange) {
        self.pages.reserve(range.start.0, range.len.0);
    }

    /// The first run of written pages that ends after `from`, cut to start there or
    /// later and to end with the file.
    pub fn next_data(&self, from: FileOffset) -> Option<FileRange> {
        self.next_data_up_to(from, Bytes(u64::MAX))
    }

    /// As [`FileContent::next_data`], cut to `most` bytes. Pages past them are not looked at:
    /// whoever goes through a file piece by piece looks at each page once.
    pub(crate) fn next_data_up_to(&self, from: FileOffset, most: Bytes) -> Option<FileRange> {
        let first = self.pages.next_written(from.0 / PAGE_SIZE)?;
        let start = from.0.max(first * PAGE_SIZE);
        if start >= self.len {
            return None;
        }
        let end = self.len.min(start.saturating_add(most.0));
        let mut past = first + 1;
        while past * PAGE_SIZE < end && self.pages.is_written(past) {
            past += 1;
        }
        let end = end.min(past * PAGE_SIZE);
        Some(FileRange::between(FileOffset(start)..FileOffset(end)))
    }

    /// How many of the first `range.len` bytes of the range can be written when at
    /// most `spare` pages may be added.
    pub(crate) fn fitting(&self, range: FileRange, spare: u64) -> Bytes {
        let (start, end) = (range.start.0, range.end().0);
        let mut left = spare;
        for index in start / PAGE_SIZE..end.div_ceil(PAGE_SIZE) {
            if !self.pages.is_allocated(index) {
                if left == 0 {
                    return Bytes((index * PAGE_SIZE).max(start) - start);
                }
                left -= 1;
            }
        }
        range.len
    }

    /// Drops what lies past `len`, without a change of the length.
    pub(crate) fn discard_past(&mut self, len: Bytes) {
        self.pages.punch(len.0, u64::MAX);
    }

    /// Lengthens the file if it is shorter, and never drops anything.
    pub(crate) fn extend_to(&mut self, len: u64) {
        self.len = self.len.max(len);
    }

    /// Sets the length and keeps what lies past it.
    pub(crate) fn set_length_only(&mut self, len: Bytes) {
        self.len = len.0;
    }
}

impl Source for FileContent {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, at: u64, into: &mut [u8]) {
        let count = self.read_at(into, FileOffset(at));
        into[count..].fill(0);
    }

    fn holds(&self, at: u64, expected: &[u8]) -> bool {
        FileContent::holds(self, expected, FileOffset(at))
    }
}

/// Equal if they read the same; where the holes are makes no difference.
impl PartialEq for FileContent {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.pages.same_bytes(&other.pages)
    }
}

impl Eq for FileContent {}

impl fmt::Debug for FileContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} long, {} allocated", self.length(), self.allocated())
    }
}

#[cfg(test)]
mod tests {
    use driver::units::Sector;

    use super::*;
    use crate::stamp::Stamp;

    fn range(start: u64, len: u64) -> FileRange {
        FileRange::new(FileOffset(start), Bytes(len))
    }

    #[test]
    fn what_was_cut_off_is_zero_when_the_file_grows_again() {
        let mut content = FileContent::from_bytes(&[5; 1000]);
        content.set_len(Bytes(10));
        content.set_len(Bytes(20));
        assert_eq!(content.to_bytes(), [[5; 10], [0; 10]].concat());
    }

    #[test]
    fn data_runs_are_whole_pages_cut_to_the_question_and_to_the_file() {
        let mut content = FileContent::hole(Bytes(50_000));
        content.write_at(&[1; 4096], FileOffset(8000));
        content.write_at(&[1], FileOffset(49_999));
        assert_eq!(content.next_data(FileOffset(0)), Some(range(4096, 8192)));
        assert_eq!(content.next_data(FileOffset(5000)), Some(range(5000, 7288)));
        assert_eq!(
            content.next_data(FileOffset(12_288)),
            Some(range(49_152, 848))
        );
        assert_eq!(content.next_data(FileOffset(50_000)), None);
    }

    #[test]
    fn a_run_is_cut_to_the_piece_that_is_asked_for() {
        let mut content = FileContent::hole(Bytes(50_000));
        content.write_at(&[1; 20_000], FileOffset(8000));
        let piece = |from, most| content.next_data_up_to(FileOffset(from), Bytes(most));
        assert_eq!(piece(0, 4096), Some(range(4096, 4096)));
        assert_eq!(piece(0, 5000), Some(range(4096, 5000)));
        assert_eq!(piece(5000, 1), Some(range(5000, 1)));
        assert_eq!(piece(20_000, 50_000), Some(range(20_000, 8672)));
        assert_eq!(piece(28_672, 4096), None);
        let (mut at, mut pieces) = (0, Vec::new());
        while let Some(piece) = piece(at, 8192) {
            at = piece.end().0;
            pieces.push((piece.start.0, piece.len.0));
        }
        assert_eq!(pieces, [(4096, 8192), (12_288, 8192), (20_480, 8192)]);
    }

    #[test]
    fn what_it_holds_is_told_without_reading_it() {
        let mut content = FileContent::hole(Bytes(20_000));
        content.write_at(&[5; 5000], FileOffset(4000));
        let bytes = [content.to_bytes(), vec![0; 100]].concat();
        for (at, len) in [
            (0, 20_100),
            (3999, 2),
            (4096, 4904),
            (9000, 1),
            (19_999, 50),
        ] {
            let expected = &mut bytes[at..at + len].to_vec();
            assert!(content.holds(expected, FileOffset(at as u64)), "{at}+{len}");
            expected[len - 1] ^= 1;
            assert!(
                !content.holds(expected, FileOffset(at as u64)),
                "{at}+{len}"
            );
        }
        assert!(content.holds(&[0], FileOffset(30_000)));
    }

    /// Whatever was found, the answer is that of a comparison of all bytes.
    #[test]
    fn what_was_found_elsewhere_is_compared_like_its_bytes() {
        let (sector, sectors) = (512, 20);
        let mut disk = vec![0; sectors * sector];
        Stamp(7).fill(Sector(0), &mut disk[..12 * sector]);
        disk[3 * sector..4 * sector].fill(9);
        disk[5 * sector..6 * sector].fill(0);
        disk[11 * sector + 100] ^= 1;
        for at in [0, sector, 9 * sector, 100] {
            let mut content = FileContent::hole(Bytes(50_000));
            content.write_at(&disk, FileOffset(at as u64));
            let holds = |content: &FileContent, shown: &[u8]| {
                let found: Vec<_> = shown.chunks(sector).map(Content::of).collect();
                content.holds_found(&found, shown, FileOffset(at as u64))
            };
            assert!(holds(&content, &disk), "{at}");
            for byte in (0..disk.len()).step_by(97) {
                let mut shown = disk.clone();
                shown[byte] ^= 4;
                assert!(!holds(&content, &shown), "{at}, byte {byte}");
            }
            for changed in (0..disk.len()).step_by(sector) {
                let mut shown = disk.clone();
                Stamp(8).fill(Sector(1), &mut shown[changed..changed + sector]);
                assert!(!holds(&content, &shown), "{at}, sector at {changed}");
            }
            // What lies past the end reads as zeros, whatever was there.
            content.set_length_only(Bytes((at + 11 * sector) as u64));
            assert!(!holds(&content, &disk), "{at}");
            let cut = [&disk[..11 * sector], &[0; 9 * 512]].concat();
            assert!(holds(&content, &cut), "{at}");
        }
    }

    #[test]
    fn a_zeroed_range_keeps_its_space_and_extends_the_file() {
        let mut content = FileContent::from_bytes(&[5; 4096]);
        content.zero_range(range(2048, 4096));
        assert_eq!(content.length(), Bytes(6144));
        assert_eq!(content.allocated(), Bytes(8192));
        content.punch_hole(range(0, 1 << 40));
        assert_eq!(content.length(), Bytes(6144));
        assert_eq!(content.allocated(), Bytes(0));
    }

    #[test]
    fn only_so_much_of_a_write_fits_as_there_are_pages_to_spare() {
        let content = FileContent::from_bytes(&[5; 4096]);
        assert_eq!(content.fitting(range(100, 10_000), 0), Bytes(3996));
        assert_eq!(content.fitting(range(100, 10_000), 1), Bytes(8092));
        assert_eq!(content.fitting(range(100, 10_000), 2), Bytes(10_000));
        assert_eq!(content.fitting(range(9000, 10), 0), Bytes(0));
    }
}
