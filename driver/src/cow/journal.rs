//! The journal of a reflow: two slots of a sector each in the header's slack, written
//! in turn. A record says from which sector on the data has been moved (the frontier)
//! and between which two layouts. Because the slots take turns, a write that the power
//! cut short leaves the record before it whole.

use crate::units::{Bytes, FileOffset, SECTOR_SIZE, Sector};

use super::extension::{is_sealed, seal};
use super::fields::{u32_at, u64_at};
use super::geometry::{FileTooLarge, Geometry};
use super::header::{check_alignment, check_size};
use super::{Extension, Version};

const MAGIC: &[u8; 8] = b"ubdlabJ\n";
const FORMAT: u32 = 1;
const CHECKSUM: std::ops::Range<usize> = 12..16;
const SLOT_LEN: usize = SECTOR_SIZE as usize;

/// One record of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalRecord {
    /// Counts up from 1, to [`JournalRecord::highest_sequence`] at most; the highest valid record
    /// counts.
    pub sequence: u64,
    /// The sectors from this one on are at their new place, those before at the old.
    pub frontier: Sector,
    /// The layout that the move began with.
    pub old_size: Bytes,
    /// Its alignment.
    pub old_alignment: u32,
    /// The layout that it leads to.
    pub new_size: Bytes,
    /// Its alignment.
    pub new_alignment: u32,
}

impl JournalRecord {
    /// The length of both slots together.
    pub const SLOTS_LEN: usize = 2 * SLOT_LEN;

    /// Where the slots start: the sector after the extension block's.
    pub const fn slots_offset() -> FileOffset {
        FileOffset(Extension::OFFSET.0 + Extension::LEN as u64)
    }

    /// Whether a file laid out like this has room for the slots.
    pub fn fits(geometry: &Geometry) -> bool {
        geometry.bitmap_offset >= Self::slots_offset() + Bytes(Self::SLOTS_LEN as u64)
    }

    /// Where this record goes: even and odd sequence numbers take turns.
    pub fn slot_offset(&self) -> FileOffset {
        Self::slots_offset() + Bytes(self.sequence % 2 * SLOT_LEN as u64)
    }

    /// The highest number that a record of a move can have: each one after the first says that at
    /// least a sector more has been moved.
    pub fn highest_sequence(&self) -> u64 {
        self.old_size.whole_sectors().0.saturating_add(1)
    }

    /// The record that follows this one when the frontier has come down to `frontier`; `None` after
    /// the highest number, which only a record that somebody made up can have reached.
    pub fn next(&self, frontier: Sector) -> Option<JournalRecord> {
        let sequence = self.sequence.checked_add(1)?;
        (sequence <= self.highest_sequence()).then_some(JournalRecord {
            sequence,
            frontier,
            ..*self
        })
    }

    /// The record's sector.
    pub fn encode(&self) -> [u8; SLOT_LEN] {
        let mut slot = [0; SLOT_LEN];
        slot[..8].copy_from_slice(MAGIC);
        slot[8..12].copy_from_slice(&FORMAT.to_be_bytes());
        slot[16..24].copy_from_slice(&self.sequence.to_be_bytes());
        slot[24..32].copy_from_slice(&self.frontier.0.to_be_bytes());
        slot[32..40].copy_from_slice(&self.old_size.0.to_be_bytes());
        slot[40..48].copy_from_slice(&self.new_size.0.to_be_bytes());
        slot[48..52].copy_from_slice(&self.old_alignment.to_be_bytes());
        slot[52..56].copy_from_slice(&self.new_alignment.to_be_bytes());
        seal(&mut slot, CHECKSUM);
        slot
    }

    /// The latest valid record of the two slots, if any. In the other's slot a record is void: the
    /// next one would be written over it.
    pub fn latest(slots: &[u8; Self::SLOTS_LEN]) -> Option<JournalRecord> {
        let (even, odd) = slots.split_at(SLOT_LEN);
        let in_slot = |slot, parity| {
            Self::decode(slot).filter(|record: &JournalRecord| record.sequence % 2 == parity)
        };
        let records = [in_slot(even, 0), in_slot(odd, 1)];
        records.into_iter().flatten().max_by_key(|r| r.sequence)
    }

    fn decode(slot: &[u8]) -> Option<JournalRecord> {
        let known = &slot[..8] == MAGIC && slot[8..12] == FORMAT.to_be_bytes();
        if !known || !is_sealed(slot, CHECKSUM) {
            return None;
        }
        let u64_at = |at: usize| u64_at(slot, at..at + 8);
        let u32_at = |at: usize| u32_at(slot, at..at + 4);
        // A checksum says that nothing was spoilt, not that nobody made it up.
        let possible = |size, alignment| {
            check_size(u64_at(size), size).is_ok()
                && check_alignment(u32_at(alignment), alignment).is_ok()
        };
        (possible(32, 48) && possible(40, 52)).then(|| JournalRecord {
            sequence: u64_at(16),
            frontier: Sector(u64_at(24)),
            old_size: Bytes(u64_at(32)),
            new_size: Bytes(u64_at(40)),
            old_alignment: u32_at(48),
            new_alignment: u32_at(52),
        })
    }

    /// The layout that the move leads to.
    ///
    /// # Errors
    /// As [`Geometry::new`].
    pub fn new_geometry(&self) -> Result<Geometry, FileTooLarge> {
        Geometry::new(Version::V3, self.new_size, self.new_alignment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(sequence: u64) -> JournalRecord {
        JournalRecord {
            sequence,
            frontier: Sector(77),
            old_size: Bytes(1 << 20),
            old_alignment: 4096,
            new_size: Bytes(1 << 21),
            new_alignment: 1 << 22,
        }
    }

    fn slots(records: &[JournalRecord]) -> [u8; JournalRecord::SLOTS_LEN] {
        let mut slots = [0; JournalRecord::SLOTS_LEN];
        for record in records {
            let at = (record.slot_offset() - JournalRecord::slots_offset()).0 as usize;
            slots[at..at + SLOT_LEN].copy_from_slice(&record.encode());
        }
        slots
    }

    #[test]
    fn the_later_of_two_valid_records_counts() {
        assert_eq!(JournalRecord::latest(&slots(&[])), None);
        let both = slots(&[record(4), record(5)]);
        assert_eq!(JournalRecord::latest(&both), Some(record(5)));
        let both = slots(&[record(5), record(6)]);
        assert_eq!(JournalRecord::latest(&both), Some(record(6)));
    }

    #[test]
    fn a_record_in_the_wrong_slot_is_void() {
        let mut both = slots(&[record(4)]);
        both[SLOT_LEN..].copy_from_slice(&record(6).encode());
        assert_eq!(JournalRecord::latest(&both), Some(record(4)));
    }

    #[test]
    fn numbers_end_with_the_sectors_that_there_are_to_move() {
        let mut last = record(1);
        while let Some(next) = last.next(Sector(0)) {
            assert_eq!(next.sequence, last.sequence + 1);
            last = next;
        }
        assert_eq!(last.sequence, 2049);
        assert_eq!(record(u64::MAX).next(Sector(0)), None);
    }

    #[test]
    fn a_spoilt_record_leaves_the_one_before_it() {
        for bit in 0..SLOT_LEN * 8 {
            let mut both = slots(&[record(4), record(5)]);
            both[SLOT_LEN + bit / 8] ^= 1 << (bit % 8);
            assert_eq!(JournalRecord::latest(&both), Some(record(4)), "bit {bit}");
        }
    }
}
