//! Trims and writes of zeros of any length, served a piece after the other. A client may ask for
//! 4 GiB with each: what is under way of that is one piece, others are served between two, and a
//! server that ends does not finish them.

use std::sync::Arc;

use driver::units::{SECTOR_SIZE, SectorCount, SectorRange};

use super::super::budget::Permit;
use super::super::client::{Job, Submitter};
use super::replies::Context;

/// The longest piece. Where zeros have to be written that takes some milliseconds.
pub(super) const LONGEST_PIECE: SectorCount = SectorCount((8 << 20) / SECTOR_SIZE);

/// The most requests in pieces that are under way for a connection; those that come after wait.
pub(super) const MOST_LONG: u64 = 4;

/// What is left to do of a trim or a write of zeros. It keeps the way to the device open.
pub(super) struct Long {
    rest: SectorRange,
    kind: LongKind,
    submitter: Arc<Submitter<Context>>,
    _turn: Permit,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LongKind {
    Trim { fua: bool },
    Zeroes { fua: bool },
}

impl LongKind {
    /// As one job.
    pub(super) fn job(self, range: SectorRange) -> Job {
        match self {
            LongKind::Trim { fua } => Job::Discard { range, fua },
            LongKind::Zeroes { fua } => Job::WriteZeroes { range, fua },
        }
    }

    /// As a job that others come after: the last one makes all of them durable.
    fn first_job(self, range: SectorRange) -> Job {
        let not_last = match self {
            LongKind::Trim { .. } => LongKind::Trim { fua: false },
            LongKind::Zeroes { .. } => LongKind::Zeroes { fua: false },
        };
        not_last.job(range)
    }
}

impl Long {
    /// The first piece of `range`, which is longer than one, and what is left.
    pub(super) fn begin(
        kind: LongKind,
        range: SectorRange,
        submitter: &Arc<Submitter<Context>>,
        turn: Permit,
    ) -> (Job, Long) {
        let (first, rest) = cut(range);
        let long = Long {
            rest,
            kind,
            submitter: Arc::clone(submitter),
            _turn: turn,
        };
        (kind.first_job(first), long)
    }

    /// The next piece, and who takes it; `None` when all are done.
    pub(super) fn next(&mut self) -> Option<(Job, Arc<Submitter<Context>>)> {
        if self.rest.is_empty() {
            return None;
        }
        let (next, rest) = cut(self.rest);
        self.rest = rest;
        let job = match rest.is_empty() {
            true => self.kind.job(next),
            false => self.kind.first_job(next),
        };
        Some((job, Arc::clone(&self.submitter)))
    }
}

fn cut(range: SectorRange) -> (SectorRange, SectorRange) {
    let first = SectorRange::new(range.start, range.count.min(LONGEST_PIECE));
    (first, SectorRange::between(first.end()..range.end()))
}

#[cfg(test)]
mod tests {
    use driver::units::Sector;

    use super::*;

    #[test]
    fn pieces_follow_each_other_to_the_end() {
        let whole = SectorRange::new(Sector(3), SectorCount(2 * LONGEST_PIECE.0 + 1));
        let (first, rest) = cut(whole);
        assert_eq!(first, SectorRange::new(Sector(3), LONGEST_PIECE));
        let (second, rest) = cut(rest);
        assert_eq!(second.start, first.end());
        let (last, rest) = cut(rest);
        assert_eq!((last.count, last.end()), (SectorCount(1), whole.end()));
        assert!(rest.is_empty());
    }
}
