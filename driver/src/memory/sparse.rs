//! The content of one file in memory. Pages of 4 KiB are data or hole, as on a real file system.
//! Their memory comes in chunks of 32 KiB, so that a large transfer is few copies. The chunks
//! hang in tables that exist only where something was written. A device of 2 TiB with little in
//! it costs little.
//!
//! Two invariants carry everything: the bytes of a page that is a hole are zero wherever its
//! chunk exists, and so are the bytes of a page past the end of the file. Reading therefore never
//! looks at the page bits, and growing touches nothing.

use std::collections::BTreeMap;
use std::ops::Range;

const PAGE: u64 = 4096;
const CHUNK: usize = 32 * 1024;
const PAGES_PER_CHUNK: u64 = CHUNK as u64 / PAGE;
const CHUNKS_PER_TABLE: usize = 256;
const TABLE: u64 = (CHUNK * CHUNKS_PER_TABLE) as u64;

/// One bit for each page of a chunk, the lowest for the first.
type PageBits = u8;
const _: () = assert!(PageBits::BITS as u64 == PAGES_PER_CHUNK);

/// A sparse sequence of bytes.
#[derive(Default)]
pub(super) struct SparseBytes {
    tables: BTreeMap<u64, Table>,
    len: u64,
}

/// Chunks that lie next to each other. A table without chunks is not kept.
struct Table {
    chunks: Box<[Option<Chunk>]>,
    in_use: usize,
}

/// `CHUNK` bytes, with one bit for each page that is data.
struct Chunk {
    data_pages: PageBits,
    bytes: Box<[u8]>,
}

impl SparseBytes {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Copies what lies at `at`; the number of bytes that there were.
    pub(super) fn read(&self, buffer: &mut [u8], at: u64) -> usize {
        let available = self.len.saturating_sub(at);
        let len = available.min(buffer.len() as u64) as usize;
        let mut rest = &mut buffer[..len];
        for piece in pieces(at..at.saturating_add(len as u64)) {
            let (part, behind) = rest.split_at_mut(piece.within.len());
            match self.chunk(piece.chunk) {
                Some(chunk) => part.copy_from_slice(&chunk.bytes[piece.within]),
                None => part.fill(0),
            }
            rest = behind;
        }
        len
    }

    /// Writes `data` at `at`, growing the file if need be. The caller has made sure
    /// that the end can be expressed. Nothing written grows nothing.
    pub(super) fn write(&mut self, data: &[u8], at: u64) {
        let mut rest = data;
        let end = at + data.len() as u64;
        for piece in pieces(at..end) {
            let (part, behind) = rest.split_at(piece.within.len());
            let chunk = self.chunk_for_writing(piece.chunk);
            chunk.data_pages |= pages_touched(&piece.within);
            chunk.bytes[piece.within].copy_from_slice(part);
            rest = behind;
        }
        if !data.is_empty() {
            self.len = self.len.max(end);
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.erase(len..self.len);
        }
        self.len = len;
    }

    /// Makes a range read as zeros and frees the pages that lie in it whole.
    pub(super) fn erase(&mut self, range: Range<u64>) {
        // The page that the file ends in holds nothing past the end, so it is freed with the
        // bytes before it.
        let end = match range.end {
            end if end >= self.len => self.len.next_multiple_of(PAGE),
            end => end,
        };
        if range.start >= end {
            return;
        }
        let range = range.start..end;
        let tables = range.start / TABLE..=(range.end - 1) / TABLE;
        let found: Vec<u64> = self.tables.range(tables).map(|(&index, _)| index).collect();
        for index in found {
            let start = index * TABLE;
            let whole = range.start <= start && start + TABLE <= range.end;
            let emptied = whole
                || self.tables.get_mut(&index).is_some_and(|table| {
                    let within = range.start.max(start)..range.end.min(start + TABLE);
                    table.erase(within.start - start..within.end - start);
                    table.in_use == 0
                });
            if emptied {
                self.tables.remove(&index);
            }
        }
    }

    /// The first run of pages with data that ends after `from`, cut to start there and to end
    /// with the file.
    pub(super) fn next_data(&self, from: u64) -> Option<Range<u64>> {
        let first = self.first_data_page(from / PAGE)?;
        let run = (first * PAGE).max(from)..(self.first_hole_page(first) * PAGE).min(self.len);
        // A position past the end can lie in the page that the file ends in.
        (run.start < run.end).then_some(run)
    }

    fn first_data_page(&self, from: u64) -> Option<u64> {
        let (first_chunk, first_page) = (from / PAGES_PER_CHUNK, from % PAGES_PER_CHUNK);
        let first_table = first_chunk / CHUNKS_PER_TABLE as u64;
        for (&index, table) in self.tables.range(first_table..) {
            let base = index * CHUNKS_PER_TABLE as u64;
            let skipped = first_chunk.saturating_sub(base) as usize;
            for (position, chunk) in table.chunks.iter().enumerate().skip(skipped) {
                let Some(chunk) = chunk else { continue };
                let number = base + position as u64;
                let wanted = match number == first_chunk {
                    true => PageBits::MAX << first_page,
                    false => PageBits::MAX,
                };
                let found = chunk.data_pages & wanted;
                if found != 0 {
                    return Some(number * PAGES_PER_CHUNK + u64::from(found.trailing_zeros()));
                }
            }
        }
        None
    }

    fn first_hole_page(&self, from: u64) -> u64 {
        let mut page = from;
        loop {
            let base = page - page % PAGES_PER_CHUNK;
            let Some(chunk) = self.chunk(page / PAGES_PER_CHUNK) else {
                return page;
            };
            let holes = !chunk.data_pages & (PageBits::MAX << (page - base));
            if holes != 0 {
                return base + u64::from(holes.trailing_zeros());
            }
            page = base + PAGES_PER_CHUNK;
        }
    }

    fn chunk(&self, number: u64) -> Option<&Chunk> {
        let (table, position) = place(number);
        self.tables.get(&table)?.chunks[position].as_ref()
    }

    fn chunk_for_writing(&mut self, number: u64) -> &mut Chunk {
        let (table, position) = place(number);
        let table = self.tables.entry(table).or_insert_with(Table::new);
        table.chunks[position].get_or_insert_with(|| {
            table.in_use += 1;
            Chunk::new()
        })
    }
}

impl Table {
    fn new() -> Self {
        let mut chunks = Vec::new();
        chunks.resize_with(CHUNKS_PER_TABLE, || None);
        Self {
            chunks: chunks.into_boxed_slice(),
            in_use: 0,
        }
    }

    fn erase(&mut self, range: Range<u64>) {
        for piece in pieces(range) {
            let slot = &mut self.chunks[piece.chunk as usize];
            let Some(chunk) = slot else { continue };
            chunk.data_pages &= !pages_covered(&piece.within);
            if chunk.data_pages == 0 {
                *slot = None;
                self.in_use -= 1;
            } else {
                chunk.bytes[piece.within].fill(0);
            }
        }
    }
}

impl Chunk {
    fn new() -> Self {
        Self {
            data_pages: 0,
            bytes: vec![0; CHUNK].into_boxed_slice(),
        }
    }
}

/// The part of a range that lies in one chunk.
struct InChunk {
    chunk: u64,
    within: Range<usize>,
}

fn pieces(range: Range<u64>) -> impl Iterator<Item = InChunk> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        let left = range.end.checked_sub(at).filter(|&left| left > 0)?;
        let chunk = at / CHUNK as u64;
        let start = (at % CHUNK as u64) as usize;
        let len = left.min((CHUNK - start) as u64) as usize;
        at += len as u64;
        Some(InChunk {
            chunk,
            within: start..start + len,
        })
    })
}

/// The table that holds a chunk, and the chunk's position in it.
fn place(chunk: u64) -> (u64, usize) {
    let per_table = CHUNKS_PER_TABLE as u64;
    (chunk / per_table, (chunk % per_table) as usize)
}

/// One bit for each page that has a byte in the range, which is not empty.
fn pages_touched(within: &Range<usize>) -> PageBits {
    page_bits(within.start / PAGE as usize..within.end.div_ceil(PAGE as usize))
}

/// One bit for each page that lies in the range whole.
fn pages_covered(within: &Range<usize>) -> PageBits {
    page_bits(within.start.div_ceil(PAGE as usize)..within.end / PAGE as usize)
}

fn page_bits(pages: Range<usize>) -> PageBits {
    if pages.is_empty() {
        return 0;
    }
    let below_end = PageBits::MAX >> (PAGES_PER_CHUNK as usize - pages.end);
    below_end & (PageBits::MAX << pages.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl SparseBytes {
        fn chunks_in_use(&self) -> usize {
            self.tables.values().map(|table| table.in_use).sum()
        }
    }

    #[test]
    fn a_huge_file_costs_only_what_was_written() {
        let mut file = SparseBytes::default();
        file.set_len(1 << 62);
        file.write(&[7], (1 << 62) - 1);
        file.write(&[8; 512], 1 << 41);
        assert_eq!(file.chunks_in_use(), 2);
        assert_eq!(file.next_data(0), Some(1 << 41..(1 << 41) + PAGE));
        assert_eq!(
            file.next_data((1 << 41) + PAGE),
            Some((1 << 62) - PAGE..1 << 62)
        );
        file.erase(0..1 << 62);
        assert!(file.tables.is_empty());
        assert_eq!(file.next_data(0), None);
        assert_eq!(file.len(), 1 << 62);
    }

    #[test]
    fn a_cut_file_grows_again_with_zeros() {
        let mut file = SparseBytes::default();
        file.write(&[1; 10_000], 0);
        file.set_len(5000);
        file.set_len(20_000);
        let mut buffer = [9; 20_000];
        assert_eq!(file.read(&mut buffer, 0), 20_000);
        assert!(buffer[..5000].iter().all(|&byte| byte == 1));
        assert!(buffer[5000..].iter().all(|&byte| byte == 0));
        assert_eq!(file.next_data(0), Some(0..8192));
        file.set_len(4096);
        file.set_len(4097);
        assert_eq!(file.next_data(0), Some(0..4096));
    }

    #[test]
    fn a_run_crosses_chunks_and_tables_and_starts_where_asked() {
        let mut file = SparseBytes::default();
        let at = TABLE - CHUNK as u64;
        file.write(&vec![1; 2 * CHUNK], at);
        assert_eq!(file.next_data(0), Some(at..at + 2 * CHUNK as u64));
        assert_eq!(
            file.next_data(TABLE + 5),
            Some(TABLE + 5..TABLE + CHUNK as u64)
        );
        file.erase(TABLE - PAGE..TABLE + 1);
        assert_eq!(file.next_data(0), Some(at..TABLE - PAGE));
        assert_eq!(
            file.next_data(TABLE - PAGE),
            Some(TABLE..TABLE + CHUNK as u64)
        );
    }

    #[test]
    fn the_page_that_the_file_ends_in_has_no_data_past_the_end() {
        let mut file = SparseBytes::default();
        file.write(b"abc", 0);
        assert_eq!(file.next_data(2), Some(2..3));
        assert_eq!(file.next_data(3), None);
        file.erase(0..3);
        assert_eq!(file.chunks_in_use(), 0);
        assert_eq!(file.len(), 3);
    }

    #[test]
    fn erasing_part_of_a_page_keeps_the_rest() {
        let mut file = SparseBytes::default();
        file.write(&[5; 3 * 4096], 0);
        file.erase(4000..8300);
        let mut buffer = [9; 3 * 4096];
        file.read(&mut buffer, 0);
        for (position, &byte) in buffer.iter().enumerate() {
            assert_eq!(byte == 0, (4000..8300).contains(&position), "at {position}");
        }
        assert_eq!(file.next_data(0), Some(0..4096));
        assert_eq!(file.next_data(4096), Some(8192..3 * 4096));
    }
}
