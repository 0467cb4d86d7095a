//! The kernel half: what a request means for the two files, decided when it is submitted.
//!
//! A request is cut into segments at the pages of memory, and each gets a mask of 64 bits:
//! for a read the bitmap's bits as they are now, otherwise ones. A write sets its bits in
//! memory at once; if one of them was clear, the two words of the bitmap that are to be
//! written later are copied now. As requests are carried out in the order of submission, such a
//! plan goes stale only when a request before it fails: then the bits that were set too early
//! have to be cleared, and the requests queued after it planned again. Linux does not.

use crate::blk::{Limits, Operation, Request, Status};
use crate::units::{SECTOR_SIZE, Sector, SectorCount, SectorRange};

use super::layout::Layout;
use super::{Death, Defect, Defects, Kernel};

/// The sectors for which a mask has a bit.
const MASK_BITS: u64 = 64;

/// A request, planned.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) request: Request,
    pub(super) segments: Vec<PlannedSegment>,
    /// The status with which the request ends at once.
    pub(super) refused: Option<Status>,
    /// Nobody waits for it: a part of a request that was handed over twice.
    pub(super) orphan: bool,
}

/// A piece of a request within one page of memory; of a discard, all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlannedSegment {
    /// The request's segment that holds its buffer, and the first byte there.
    pub(super) buffer: (usize, usize),
    /// The sectors that it is about; at most 64.
    pub(super) range: SectorRange,
    /// Which of them are in the COW file, the first lowest.
    pub(super) mask: u64,
    /// Which bits this plan has set in memory, and can clear again.
    pub(super) fresh: u64,
    /// What to write to the bitmap when the data is written.
    pub(super) words: Option<BitmapWords>,
}

/// A part of the bitmap as it was at submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BitmapWords {
    /// Where in the COW file.
    pub(super) at: u64,
    bytes: [u8; 16],
    len: usize,
}

impl BitmapWords {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The state of the kernel half.
#[derive(Clone, Debug)]
pub(super) struct KernelHalf {
    pub(super) kernel: Kernel,
    pub(super) defects: Defects,
    pub(super) limits: Limits,
    pub(super) layout: Layout,
    /// The end of the device.
    pub(super) end: Sector,
    /// The end of the sectors that may be written.
    pub(super) writable_end: Sector,
    /// The bitmap in memory, with two words after it that stand for what memory holds there.
    pub(super) bitmap: Vec<u64>,
    /// Bits of the device's sectors that are set in it.
    pub(super) dirty: SectorCount,
}

/// How many of the sectors before `end` have their bits set.
pub(super) fn count_dirty(bitmap: &[u64], end: SectorCount) -> SectorCount {
    let whole = (end.0 / 64) as usize;
    let rest = match (end.0 % 64, bitmap.get(whole)) {
        (0, _) | (_, None) => 0,
        (bits, Some(word)) => word & ((1 << bits) - 1),
    };
    let words = bitmap.iter().take(whole).copied().chain([rest]);
    SectorCount(words.map(|word| u64::from(word.count_ones())).sum())
}

impl KernelHalf {
    /// Whether the device takes `request`; if not, the status that it ends with.
    pub(super) fn check(&self, request: &Request) -> Result<(), Status> {
        let longest = match request.operation {
            Operation::Flush if request.segments.is_empty() => return Ok(()),
            Operation::Flush => return Err(Status::Invalid),
            Operation::Read | Operation::Write { .. } => {
                let whole = |data: &[u8], sectors: u64| {
                    sectors.checked_mul(SECTOR_SIZE) == Some(data.len() as u64)
                };
                if !request.segments.iter().all(|s| whole(&s.data, s.sectors.0)) {
                    return Err(Status::Invalid);
                }
                self.limits.max_transfer
            }
            Operation::Discard | Operation::WriteZeroes if self.kernel == Kernel::Linux2_6 => {
                return Err(Status::NotSupported);
            }
            Operation::Discard | Operation::WriteZeroes => self.limits.max_discard,
        };
        let range = request.range();
        if range.is_empty()
            || range.count > longest
            || request.segments.len() > self.limits.max_segments
        {
            return Err(Status::Invalid);
        }
        let limit = match request.operation {
            Operation::Read => self.end,
            _ => self.writable_end,
        };
        match range.start.0.checked_add(range.count.0) {
            Some(end) if end <= limit.0 => Ok(()),
            _ => Err(Status::IoError),
        }
    }

    /// Plans a request that was checked.
    ///
    /// # Errors
    /// A segment that its mask cannot hold; nothing is planned then.
    pub(super) fn plan(&mut self, request: &Request) -> Result<Vec<PlannedSegment>, Death> {
        let pieces = self.cut(request);
        for piece in &pieces {
            if piece.range.count.0 > MASK_BITS {
                return Err(Death::MaskOverflow {
                    sectors: piece.range.count,
                });
            }
        }
        let mut segments = pieces;
        for segment in &mut segments {
            self.plan_segment(request.operation, segment);
        }
        Ok(segments)
    }

    /// Plans again what was planned before and taken back.
    pub(super) fn plan_again(&mut self, plan: &mut Plan) {
        for segment in &mut plan.segments {
            self.plan_segment(plan.request.operation, segment);
        }
    }

    /// Clears the bits that this plan has set and not made good.
    pub(super) fn take_back(&mut self, segments: &mut [PlannedSegment]) {
        for segment in segments {
            for index in 0..segment.range.count.0 {
                if segment.fresh >> index & 1 == 1 {
                    let sector = segment.range.start.0 + index;
                    self.dirty.0 -= u64::from(self.is_dirty(sector));
                    self.bitmap[(sector / 64) as usize] &= !(1 << (sector % 64));
                }
            }
            segment.fresh = 0;
        }
    }

    pub(super) fn is_dirty(&self, sector: u64) -> bool {
        self.bitmap[(sector / 64) as usize] >> (sector % 64) & 1 == 1
    }

    /// The front of `range` whose bits are all like the first. The range is not empty, and lies
    /// within the device.
    pub(super) fn alike(&self, range: SectorRange) -> SectorRange {
        let (start, end) = (range.start.0, range.end().0);
        let same = match self.is_dirty(start) {
            true => u64::MAX,
            false => 0,
        };
        let mut at = start;
        while at < end {
            let others = (self.bitmap[(at / 64) as usize] ^ same) >> (at % 64);
            if others != 0 {
                at += u64::from(others.trailing_zeros());
                break;
            }
            at = (at / 64 + 1) * 64;
        }
        SectorRange::between(range.start..Sector(at.min(end)))
    }

    fn cut(&self, request: &Request) -> Vec<PlannedSegment> {
        let boundary = match (self.limits.segment_boundary, request.operation) {
            (Some(boundary), Operation::Read | Operation::Write { .. }) => {
                boundary.whole_sectors().0.max(1)
            }
            _ => u64::MAX,
        };
        let mut pieces = Vec::with_capacity(request.segments.len());
        let mut start = request.start;
        for (index, segment) in request.segments.iter().enumerate() {
            let mut done = SectorCount(0);
            while done < segment.sectors {
                let count = SectorCount((segment.sectors - done).0.min(boundary));
                pieces.push(PlannedSegment {
                    buffer: (index, done.bytes().0 as usize),
                    range: SectorRange::new(start, count),
                    mask: 0,
                    fresh: 0,
                    words: None,
                });
                start += count;
                done += count;
            }
        }
        pieces
    }

    fn plan_segment(&mut self, operation: Operation, segment: &mut PlannedSegment) {
        let (start, count) = (segment.range.start.0, segment.range.count.0);
        segment.fresh = 0;
        segment.words = None;
        if operation == Operation::Read {
            let bits = (0..count).map(|index| u64::from(self.is_dirty(start + index)) << index);
            segment.mask = bits.fold(0, |mask, bit| mask | bit);
            return;
        }
        segment.mask = u64::MAX >> (MASK_BITS - count);
        for index in 0..count {
            let sector = start + index;
            if !self.is_dirty(sector) {
                self.bitmap[(sector / 64) as usize] |= 1 << (sector % 64);
                self.dirty.0 += 1;
                segment.fresh |= 1 << index;
            }
        }
        if segment.fresh != 0 {
            segment.words = Some(self.words_of(start));
        }
    }

    /// The word of `sector` and the next, or the two last words.
    fn words_of(&self, sector: u64) -> BitmapWords {
        let word = sector / 64;
        let at = |word: u64| self.layout.bitmap_offset.wrapping_add(word * 8);
        let content = |word: u64| self.bitmap[word as usize];
        let is_last = word.checked_add(1) == Some(self.layout.bitmap_len.div_ceil(8));
        if !is_last || self.defects.contains(Defect::EndOfMapOverrun) {
            two_words(at(word), content(word), content(word + 1))
        } else if word > 0 {
            two_words(at(word - 1), content(word - 1), content(word))
        } else if self.defects.contains(Defect::OneWordUnderflow) {
            two_words(at(0).wrapping_sub(8), 0, content(0))
        } else {
            BitmapWords {
                len: 8,
                ..two_words(at(0), content(0), 0)
            }
        }
    }
}

fn two_words(at: u64, first: u64, second: u64) -> BitmapWords {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&first.to_le_bytes());
    bytes[8..].copy_from_slice(&second.to_le_bytes());
    BitmapWords { at, bytes, len: 16 }
}
