//! Limits of a queue, what it does with requests without data, and the cutting of longer
//! transfers, as Linux's block layer applies them before a driver sees a request.

use crate::units::{Bytes, SectorCount, SectorRange};

/// What a driver tells the block layer about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest read or write (`max_sectors`).
    pub max_transfer: SectorCount,
    /// The longest discard or write-zeroes.
    pub max_discard: SectorCount,
    /// Segments in one request at most (`max_segments`).
    pub max_segments: usize,
    /// No segment crosses a multiple of this many bytes of memory
    /// (`seg_boundary_mask` + 1); `None` without such a limit.
    pub segment_boundary: Option<Bytes>,
    /// Requests in flight at most (`nr_requests` of the tag set).
    pub queue_depth: usize,
}

impl Limits {
    /// What `ordered` takes: transfers of up to 4 MiB in one piece.
    pub const ORDERED: Limits = Limits {
        max_transfer: SectorCount(8192),
        max_discard: SectorCount(1 << 22),
        max_segments: 128,
        segment_boundary: None,
        queue_depth: 64,
    };

    /// Linux 6.12's ubd with a COW file: 64 requests in flight, 32 KiB in at most
    /// 64 segments, none across a page of memory.
    pub const LINUX_6_12: Limits = Limits {
        max_transfer: SectorCount(64),
        max_discard: SectorCount(64),
        max_segments: 64,
        segment_boundary: Some(Bytes(4096)),
        queue_depth: 64,
    };

    /// Linux 6.9 to 6.12 with a COW file of which it does not know yet that it is one: the
    /// block layer's default of 255 sectors.
    pub const LINUX_6_12_WITHOUT_COW: Limits = Limits {
        max_transfer: SectorCount(255),
        max_discard: SectorCount(255),
        ..Limits::LINUX_6_12
    };

    /// Linux 2.6.0's ubd: one request at a time, one page of memory in it. There are no
    /// discards; one that is submitted is not supported, whatever its length.
    pub const LINUX_2_6: Limits = Limits {
        max_transfer: SectorCount(8),
        max_discard: SectorCount(8),
        max_segments: 1,
        segment_boundary: Some(Bytes(4096)),
        queue_depth: 1,
    };
}

/// What a driver does with discards and writes of zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zeroing {
    /// It has neither: they end as not supported.
    Neither,
    /// It asks the host for what they need. Where the host cannot do that, they end as not
    /// supported.
    AsHost,
    /// Likewise, but where the host cannot make zeros it writes them.
    Always,
}

/// Cuts `range` into consecutive pieces of at most `longest` sectors, in order.
///
/// # Panics
/// If `longest` is 0: no driver has such a limit.
pub fn split(range: SectorRange, longest: SectorCount) -> impl Iterator<Item = SectorRange> {
    assert!(longest > SectorCount(0), "a limit of 0 sectors");
    let mut rest = range;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let piece = SectorRange::new(rest.start, rest.count.min(longest));
        rest = SectorRange::between(piece.end()..rest.end());
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Sector;

    fn pieces(start: u64, count: u64, longest: u64) -> Vec<(u64, u64)> {
        split(
            SectorRange::new(Sector(start), SectorCount(count)),
            SectorCount(longest),
        )
        .map(|piece| (piece.start.0, piece.count.0))
        .collect()
    }

    #[test]
    fn a_transfer_is_cut_into_pieces_of_the_limit_and_a_rest() {
        assert_eq!(pieces(10, 130, 64), [(10, 64), (74, 64), (138, 2)]);
        assert_eq!(pieces(10, 64, 64), [(10, 64)]);
        assert_eq!(pieces(10, 0, 64), []);
    }
}
