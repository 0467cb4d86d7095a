//! Space as file systems give it out: in blocks, however little is in one, and with a record of
//! where each extent is. A single dirty sector takes a block of 4 KiB on most hosts.

pub(crate) use driver::host::BLOCK;
use driver::units::{Bytes, FileRange, SectorCount};

/// Extents whose places stand in one block of the file system's own records, if it is half full:
/// ext4 and XFS take 12 and 16 bytes for each.
const EXTENTS_A_BLOCK: u64 = 128;

/// The blocks that ranges of a file lie in. Ranges are added in the order of the file, and a block
/// counts once.
#[derive(Clone, Debug)]
pub(crate) struct Blocks {
    block: u64,
    count: u64,
    extents: u64,
    /// Blocks before this one are counted.
    end: u64,
}

impl Blocks {
    /// None yet, of this length in bytes, at least 1.
    pub(crate) fn of(block: u64) -> Blocks {
        Blocks {
            block: block.max(1),
            count: 0,
            extents: 0,
            end: 0,
        }
    }

    /// The length of a block in bytes.
    pub(crate) fn block(&self) -> u64 {
        self.block
    }

    /// Adds the blocks of a range. Returns the bytes of those that were not counted yet.
    pub(crate) fn add(&mut self, range: FileRange) -> Bytes {
        let first = range.start.0 / self.block;
        let end = range.end().0.div_ceil(self.block);
        if range.len == Bytes(0) || end <= self.end {
            return Bytes(0);
        }
        self.extents += u64::from(first > self.end || self.extents == 0);
        let new = end - first.max(self.end);
        self.count += new;
        self.end = end;
        Bytes(new.saturating_mul(self.block))
    }

    /// Adds sectors that lie anywhere in a range of which nothing was added: each may be in a block
    /// and an extent of its own.
    pub(crate) fn add_scattered(&mut self, sectors: SectorCount, range: FileRange) {
        let first = (range.start.0 / self.block).max(self.end);
        let end = range.end().0.div_ceil(self.block);
        let most = end.saturating_sub(first).min(sectors.0);
        self.count += most;
        self.extents += most;
        self.end = self.end.max(end);
    }

    /// What a file system gives for all of them, its own records with it.
    pub(crate) fn space(&self) -> Bytes {
        let records = self.extents.div_ceil(EXTENTS_A_BLOCK);
        Bytes((self.count + records).saturating_mul(self.block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driver::units::FileOffset;

    /// The bytes of blocks, and the space, of ranges given as first byte and length.
    fn counted(block: u64, ranges: &[(u64, u64)]) -> (u64, u64) {
        let mut blocks = Blocks::of(block);
        let added = ranges.iter().map(|&(start, len)| {
            let range = FileRange::new(FileOffset(start), Bytes(len));
            blocks.add(range).0
        });
        (added.sum(), blocks.space().0)
    }

    #[test]
    fn a_sector_takes_a_block_and_a_block_counts_once() {
        assert_eq!(counted(4096, &[]), (0, 0));
        assert_eq!(counted(4096, &[(512, 0)]), (0, 0));
        assert_eq!(counted(4096, &[(512, 512)]), (4096, 8192));
        // Eight in one block, and one across a border.
        let sectors: Vec<_> = (0..8).map(|sector| (4096 + sector * 512, 512)).collect();
        assert_eq!(counted(4096, &sectors), (4096, 8192));
        assert_eq!(counted(4096, &[(4000, 200), (4300, 5)]), (8192, 3 * 4096));
        assert_eq!(counted(512, &[(512, 512), (2048, 1)]), (1024, 1536));
    }

    #[test]
    fn scattered_sectors_take_a_block_each_as_far_as_there_are_blocks() {
        let counted = |sectors, blocks: u64| {
            let mut all = Blocks::of(4096);
            all.add(FileRange::new(FileOffset(4096), Bytes(512)));
            let range = FileRange::new(FileOffset(4608), Bytes(blocks * 4096));
            all.add_scattered(SectorCount(sectors), range);
            all.space().0 / 4096
        };
        // The first one's block is counted, and there is one of records.
        assert_eq!(counted(0, 10), 2);
        assert_eq!(counted(7, 10), 9);
        assert_eq!(counted(80, 10), 12);
    }

    #[test]
    fn many_extents_take_records_of_their_own() {
        let apart: Vec<_> = (0..1280).map(|extent| (extent * 8192, 1)).collect();
        assert_eq!(counted(4096, &apart), (1280 * 4096, 1290 * 4096));
        let together: Vec<_> = (0..1280).map(|extent| (extent * 4096, 1)).collect();
        assert_eq!(counted(4096, &together), (1280 * 4096, 1281 * 4096));
    }
}
