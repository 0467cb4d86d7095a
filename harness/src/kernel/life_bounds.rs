//! How much a life may come to. A driver that goes on asking its host for something is a finding,
//! and all that it asks for is kept in memory. So it is counted, and nothing is timed: a life that
//! is too long on one machine is too long on all.
//!
//! The bounds are linear in what the guest is to do. They are far above what that takes: a host
//! that returns its reads in pieces of five bytes is asked some 103 times for a sector.

use driver::units::SECTOR_SIZE;

use crate::fuzz::recorded::{Deed, GuestWord, Piece, Witnessed};

/// Operations of the host that a life may take whatever is in it.
const LEAST_OPERATIONS: u64 = 4_000;

/// Those for each sector that a request names.
const OPERATIONS_A_SECTOR: u64 = 256;

/// Those for each deed of the guest.
const OPERATIONS_A_DEED: u64 = 16;

/// Bytes that a recording may have whatever is in its life.
const LEAST_BYTES: u64 = 1 << 20;

/// Bytes for each that a request names: they are kept in base64, and some are written twice.
const BYTES_A_BYTE: u64 = 8;

/// The operations that are kept of a life without end, from its last word on.
const KEPT: usize = 1_000;

/// What a life has come to, and what it may.
#[derive(Debug)]
pub(super) struct Extent {
    operations_left: u64,
    bytes_left: u64,
    is_exceeded: bool,
}

impl Extent {
    /// That of a guest that is to do this, and has done nothing.
    pub(super) fn of(deeds: &[Deed]) -> Extent {
        let sectors = deeds.iter().map(|deed| match deed {
            Deed::Submit(asked) => asked.count,
            Deed::WaitForOldest | Deed::WaitForAll => 0,
        });
        let sectors = sectors.fold(0, u64::saturating_add);
        let bytes = sectors.saturating_mul(SECTOR_SIZE * BYTES_A_BYTE);
        Extent {
            operations_left: LEAST_OPERATIONS
                .saturating_add(sectors.saturating_mul(OPERATIONS_A_SECTOR))
                .saturating_add((deeds.len() as u64).saturating_mul(OPERATIONS_A_DEED)),
            bytes_left: LEAST_BYTES.saturating_add(bytes),
            is_exceeded: false,
        }
    }

    /// This was witnessed too. Of words there are no more than deeds: see
    /// [`Words`](super::words::Words).
    pub(super) fn add(&mut self, witnessed: &Witnessed) {
        let (operations, bytes) = match witnessed {
            Witnessed::Host(record) => (1, record.data.as_ref().map_or(0, String::len)),
            Witnessed::Guest(GuestWord::Ended { brought, .. }) => {
                (0, brought.iter().map(length).sum())
            }
            Witnessed::Guest(_) => (0, 0),
        };
        let left = |left: u64, taken: u64| left.checked_sub(taken);
        match (
            left(self.operations_left, operations),
            left(self.bytes_left, bytes as u64),
        ) {
            (Some(operations), Some(bytes)) => {
                (self.operations_left, self.bytes_left) = (operations, bytes);
            }
            _ => self.is_exceeded = true,
        }
    }

    /// Whether that is more than it may come to.
    pub(super) fn is_exceeded(&self) -> bool {
        self.is_exceeded
    }
}

fn length(piece: &Piece) -> usize {
    match piece {
        Piece::Zeros(_) | Piece::Stamped { .. } => 0,
        Piece::Bytes(text) => text.len(),
    }
}

/// Drops what nobody needs of a life without end: to judge the crashes of all of it would take
/// about as long.
pub(super) fn keep_beginning(witnessed: &mut Vec<Witnessed>) {
    let is_word = |it: &Witnessed| matches!(it, Witnessed::Guest(_));
    let last_word = witnessed.iter().rposition(is_word).map_or(0, |at| at + 1);
    witnessed.truncate(last_word + KEPT);
}
