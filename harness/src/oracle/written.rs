//! What a write puts into its sectors.

use driver::units::{SECTOR_SIZE, Sector, SectorRange};

use crate::stamp::{Coverage, Stamp, is_zero};

/// What a write puts into its sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written<'a> {
    /// This stamp, everywhere.
    Stamp(Stamp),
    /// Data of the trace's own, of which this is each sector's CRC-32C.
    Data(&'a [u32]),
    /// Zeros.
    Zeros,
}

impl Written<'_> {
    /// Whether `content` is what a write of `range` put into `sector`, which is in it.
    pub fn is_in(
        self,
        range: SectorRange,
        sector: Sector,
        content: &[u8],
        coverage: Coverage,
    ) -> bool {
        match self {
            Written::Stamp(stamp) => coverage.shows(stamp, sector, content),
            Written::Data(checksums) => {
                let at = (sector - range.start).0 as usize;
                checksums.get(at) == Some(&crc32c::crc32c(content))
            }
            Written::Zeros => is_zero(content),
        }
    }
}

/// The CRC-32C of each sector of `data`.
pub fn checksums(data: &[u8]) -> Vec<u32> {
    let sectors = data.chunks_exact(SECTOR_SIZE as usize);
    sectors.map(crc32c::crc32c).collect()
}
