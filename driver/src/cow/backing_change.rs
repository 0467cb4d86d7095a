//! What identifies a change of a backing file that is under way, so that another file in its
//! place is not taken for it: see [`Extension`](super::Extension), which holds this.
//!
//! While the file itself is changed its time says nothing, and its length may be the old or the
//! new one. What says that it is the file is its content: a few [`SampledRange`]s, noted when the
//! change began. Where the image goes over to another file, neither of the two changes, and
//! length and time tell them, as they always do.

use crate::units::{Bytes, Sector, SectorCount, SectorRange};

use super::fields::{u32_at, u64_at};

/// The most sampled ranges that a block has room for.
pub const MOST_SAMPLED_RANGES: usize = 20;

/// The longest sampled range, 64 KiB: what a reader reads for one is bounded.
pub const LONGEST_SAMPLED_RANGE: SectorCount = SectorCount(128);

/// The bytes of one sampled range in the block.
const RANGE_LEN: usize = 20;

/// Where the fields are in the extension block.
const OTHER_MTIME: std::ops::Range<usize> = 28..32;
const OTHER_LEN: std::ops::Range<usize> = 32..40;
const LEN: std::ops::Range<usize> = 40..48;
const LATEST: std::ops::Range<usize> = 48..56;
const RANGES: usize = 56;

/// The flags: the file itself is being changed; the image goes over to another file.
pub(super) const IN_PLACE: u32 = 1;
pub(super) const OTHER: u32 = 2;

/// Some sectors of a backing file, and the digests of what they hold before and after the change:
/// the same two of what the change leaves alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampledRange {
    /// Which sectors: at least one and at most [`LONGEST_SAMPLED_RANGE`]. A range that the change
    /// writes is a single sector, because sectors may be there one by one.
    pub range: SectorRange,
    /// The digest of what they held when the change began.
    pub before: u32,
    /// The digest of what they are to hold.
    pub after: u32,
}

impl SampledRange {
    /// The digest of a content: its CRC-32C.
    pub fn digest(content: &[u8]) -> u32 {
        crc32c::crc32c(content)
    }

    /// Whether it may have this content.
    pub fn may_hold(&self, content: &[u8]) -> bool {
        let found = SampledRange::digest(content);
        found == self.before || found == self.after
    }
}

/// The sampled ranges of one change: at most [`MOST_SAMPLED_RANGES`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    ranges: [SampledRange; MOST_SAMPLED_RANGES],
    count: usize,
}

impl Sample {
    /// None yet. A block needs one at least.
    pub const fn new() -> Sample {
        let nowhere = SampledRange {
            range: SectorRange::new(Sector(0), SectorCount(0)),
            before: 0,
            after: 0,
        };
        Sample {
            ranges: [nowhere; MOST_SAMPLED_RANGES],
            count: 0,
        }
    }

    /// Adds a range, if there is room for one more.
    ///
    /// # Panics
    /// If it is empty or longer than [`LONGEST_SAMPLED_RANGE`].
    pub fn push(&mut self, place: SampledRange) {
        let count = place.range.count;
        assert!(SectorCount(0) < count && count <= LONGEST_SAMPLED_RANGE);
        if let Some(free) = self.ranges.get_mut(self.count) {
            *free = place;
            self.count += 1;
        }
    }

    /// Them all.
    pub fn ranges(&self) -> &[SampledRange] {
        &self.ranges[..self.count]
    }
}

impl Default for Sample {
    fn default() -> Sample {
        Sample::new()
    }
}

impl std::fmt::Debug for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.ranges()).finish()
    }
}

/// A change of the backing file itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InPlace {
    /// The length that the file is to have, not below the one that it had.
    pub len: Bytes,
    /// A time that is later than every one that the file had before, in seconds since 1970: the
    /// file is given it before anything else changes.
    pub latest: i64,
    /// What the file is known by.
    pub sample: Sample,
}

/// Another backing file, which does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherBacking {
    /// Its length.
    pub len: Bytes,
    /// When it was modified last, as a header holds it.
    pub mtime: u32,
}

/// A change of the backing file that is under way. With neither of the two it is the mark that
/// earlier versions of ubdlab made, which says nothing about the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackingChange {
    /// The file itself is being changed.
    pub in_place: Option<InPlace>,
    /// The image goes over to another file; until then it has the one that it had.
    pub other: Option<OtherBacking>,
}

impl BackingChange {
    pub(super) fn flags(&self) -> u32 {
        let in_place = self.in_place.map_or(0, |_| IN_PLACE);
        in_place | self.other.map_or(0, |_| OTHER)
    }

    pub(super) fn encode_into(&self, block: &mut [u8]) {
        if let Some(other) = self.other {
            block[OTHER_MTIME].copy_from_slice(&other.mtime.to_be_bytes());
            block[OTHER_LEN].copy_from_slice(&other.len.0.to_be_bytes());
        }
        let Some(in_place) = self.in_place else {
            return;
        };
        block[LEN].copy_from_slice(&in_place.len.0.to_be_bytes());
        block[LATEST].copy_from_slice(&in_place.latest.to_be_bytes());
        let fields = block[RANGES..].chunks_exact_mut(RANGE_LEN);
        for (field, place) in fields.zip(in_place.sample.ranges()) {
            field[..8].copy_from_slice(&place.range.start.0.to_be_bytes());
            let count = place.range.count.0 as u32;
            field[8..12].copy_from_slice(&count.to_be_bytes());
            field[12..16].copy_from_slice(&place.before.to_be_bytes());
            field[16..20].copy_from_slice(&place.after.to_be_bytes());
        }
    }

    /// What the block of a backing file of `backing_size` bytes says, if it can be so. Whether
    /// every byte is as [`BackingChange::encode_into`] writes it is for the caller to compare.
    pub(super) fn decode(block: &[u8], flags: u32, backing_size: Bytes) -> Option<BackingChange> {
        let mut change = BackingChange::default();
        if flags & OTHER != 0 {
            change.other = Some(OtherBacking {
                len: Bytes(u64_at(block, OTHER_LEN)),
                mtime: u32_at(block, OTHER_MTIME),
            });
        }
        if flags & IN_PLACE != 0 {
            let len = Bytes(u64_at(block, LEN));
            let sample = decode_sample(&block[RANGES..], backing_size)?;
            if len < backing_size || sample.ranges().is_empty() {
                return None;
            }
            change.in_place = Some(InPlace {
                len,
                latest: u64_at(block, LATEST) as i64,
                sample,
            });
        }
        Some(change)
    }
}

/// The places, all of which lie within the file.
fn decode_sample(fields: &[u8], backing_size: Bytes) -> Option<Sample> {
    let mut sample = Sample::new();
    for field in fields.chunks_exact(RANGE_LEN).take(MOST_SAMPLED_RANGES) {
        let (start, count) = (u64_at(field, 0..8), u32_at(field, 8..12));
        if count == 0 {
            break;
        }
        let count = SectorCount(u64::from(count));
        let end = start.checked_add(count.0)?;
        if count > LONGEST_SAMPLED_RANGE || end > backing_size.whole_sectors().0 {
            return None;
        }
        sample.push(SampledRange {
            range: SectorRange::new(Sector(start), count),
            before: u32_at(field, 12..16),
            after: u32_at(field, 16..20),
        });
    }
    Some(sample)
}
