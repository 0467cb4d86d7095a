//! The extension block: what ubdlab keeps in the slack between a V3 header and its
//! bitmap, where every known reader looks away. It records the size that the backing
//! file had when the COW file was made, because after a grow the header's size is the
//! device's and no longer the backing file's.
//!
//! The block fills the rest of the header's last sector. The journal's two slots
//! ([`super::JournalRecord`]) are the two sectors after it.

use crate::units::{Bytes, FileOffset};

use super::backing_change::{BackingChange, IN_PLACE, OTHER};
use super::fields::{Version, u32_at, u64_at};
use super::geometry::Geometry;

const MAGIC: &[u8; 8] = b"ubdlabX\n";
/// The block of a file whose backing file nobody is changing, and of one on which an earlier
/// ubdlab was interrupted.
const VERSION_1: u32 = 1;
/// The block that says which change of the backing file is under way.
const VERSION_2: u32 = 2;
const CHECKSUM: std::ops::Range<usize> = 12..16;
const BACKING_SIZE: std::ops::Range<usize> = 16..24;
const FLAGS: std::ops::Range<usize> = 24..28;

/// The one flag of version 1.
const CHANGING_BACKING: u32 = 1;

/// What the extension block says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension {
    /// The size in bytes that the backing file has; where it is being changed, the one that it
    /// had when the change began.
    pub backing_size: Bytes,
    /// The change that a tool is making, of the backing file or to another: until it is done the
    /// header's time of the backing file may be an old one. What the tool does is arranged such
    /// that the device's content stays what it is meanwhile.
    pub change: Option<BackingChange>,
}

/// What was found where the extension block would be.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one a file, and it is copied seldom"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtensionState {
    /// Nothing of ours: a file that only stock tools have written.
    Absent,
    /// A block with a wrong checksum or of a version not known here.
    Damaged,
    /// A good one.
    Valid(Extension),
}

impl Extension {
    /// Where the block starts: right after a V3 header.
    pub const OFFSET: FileOffset = FileOffset(Version::V3.header_len().0);
    /// Its length: up to the end of the sector.
    pub const LEN: usize = 480;

    /// The block of a file over a backing file of this size that nobody is changing.
    pub const fn new(backing_size: Bytes) -> Extension {
        Extension {
            backing_size,
            change: None,
        }
    }

    /// Whether a file laid out like this has room for the block.
    pub fn fits(geometry: &Geometry) -> bool {
        geometry.bitmap_offset >= Self::OFFSET + Bytes(Self::LEN as u64)
    }

    /// The block's bytes.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut block = [0; Self::LEN];
        block[..8].copy_from_slice(MAGIC);
        let (version, flags) = match &self.change {
            None => (VERSION_1, 0),
            Some(change) if *change == BackingChange::default() => (VERSION_1, CHANGING_BACKING),
            Some(change) => {
                change.encode_into(&mut block);
                (VERSION_2, change.flags())
            }
        };
        block[8..12].copy_from_slice(&version.to_be_bytes());
        block[BACKING_SIZE].copy_from_slice(&self.backing_size.0.to_be_bytes());
        block[FLAGS].copy_from_slice(&flags.to_be_bytes());
        seal(&mut block, CHECKSUM);
        block
    }

    /// What `block` holds.
    pub fn decode(block: &[u8; Self::LEN]) -> ExtensionState {
        if &block[..8] != MAGIC {
            return ExtensionState::Absent;
        }
        if !is_sealed(block, CHECKSUM) {
            return ExtensionState::Damaged;
        }
        let backing_size = Bytes(u64_at(block, BACKING_SIZE));
        // A flag that is not known here may mean anything.
        let change = match (u32_at(block, 8..12), u32_at(block, FLAGS)) {
            (VERSION_1, 0) => None,
            (VERSION_1, CHANGING_BACKING) => Some(BackingChange::default()),
            (VERSION_2, flags) if flags != 0 && flags <= IN_PLACE | OTHER => {
                match BackingChange::decode(block, flags, backing_size) {
                    None => return ExtensionState::Damaged,
                    change => change,
                }
            }
            _ => return ExtensionState::Damaged,
        };
        let extension = Extension {
            backing_size,
            change,
        };
        // Version 2 leaves no byte to chance: one that means nothing here means something to
        // somebody else.
        match u32_at(block, 8..12) == VERSION_1 || extension.encode() == *block {
            true => ExtensionState::Valid(extension),
            false => ExtensionState::Damaged,
        }
    }
}

/// The CRC-32C of the block with its checksum field zero.
fn checksum(block: &[u8], field: &std::ops::Range<usize>) -> [u8; 4] {
    let crc = crc32c::crc32c(&block[..field.start]);
    let crc = crc32c::crc32c_append(crc, &[0; 4]);
    crc32c::crc32c_append(crc, &block[field.end..]).to_be_bytes()
}

/// Writes the checksum of `block` into its field.
pub(super) fn seal(block: &mut [u8], field: std::ops::Range<usize>) {
    let sum = checksum(block, &field);
    block[field].copy_from_slice(&sum);
}

/// Whether the checksum in its field is that of `block`.
pub(super) fn is_sealed(block: &[u8], field: std::ops::Range<usize>) -> bool {
    block[field.clone()] == checksum(block, &field)
}

#[cfg(test)]
mod tests {
    use super::super::backing_change::{
        InPlace, MOST_SAMPLED_RANGES, OtherBacking, Sample, SampledRange,
    };
    use super::*;
    use crate::units::{Sector, SectorCount, SectorRange};

    const SIZE: Bytes = Bytes(210_819_584);

    fn sample(places: usize) -> Sample {
        let mut sample = Sample::new();
        for n in 0..places as u64 {
            sample.push(SampledRange {
                range: SectorRange::new(Sector(n * 1000), SectorCount(1 + n * 127 % 128)),
                before: 0xbbbb_0000 + n as u32,
                after: 0xaaaa_0000 + n as u32,
            });
        }
        sample
    }

    /// Every kind of change.
    fn changes() -> Vec<Option<BackingChange>> {
        let in_place = |places| {
            Some(InPlace {
                len: SIZE + Bytes(512),
                latest: -1_060_000_000,
                sample: sample(places),
            })
        };
        let other = Some(OtherBacking {
            len: Bytes(4096),
            mtime: 1_060_000_000,
        });
        let change = |in_place, other| Some(BackingChange { in_place, other });
        vec![
            None,
            change(None, None),
            change(None, other),
            change(in_place(1), None),
            change(in_place(MOST_SAMPLED_RANGES), None),
            change(in_place(3), other),
        ]
    }

    #[test]
    fn a_block_survives_the_way_there_and_back() {
        for change in changes() {
            let extension = Extension {
                backing_size: SIZE,
                change,
            };
            let block = extension.encode();
            assert_eq!(Extension::decode(&block), ExtensionState::Valid(extension));
        }
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        for change in changes() {
            let block = Extension {
                backing_size: SIZE,
                change,
            }
            .encode();
            for bit in 0..Extension::LEN * 8 {
                let mut changed = block;
                changed[bit / 8] ^= 1 << (bit % 8);
                let expected = if bit < 64 {
                    ExtensionState::Absent
                } else {
                    ExtensionState::Damaged
                };
                assert_eq!(Extension::decode(&changed), expected, "bit {bit}");
            }
        }
    }

    /// A block with these bytes and a good checksum.
    fn patched(change: Option<BackingChange>, at: usize, bytes: &[u8]) -> ExtensionState {
        let mut block = Extension {
            backing_size: SIZE,
            change,
        }
        .encode();
        block[at..at + bytes.len()].copy_from_slice(bytes);
        seal(&mut block, CHECKSUM);
        Extension::decode(&block)
    }

    #[test]
    fn a_flag_or_a_version_of_tomorrow_is_not_guessed_at() {
        assert_eq!(patched(None, 27, &[2]), ExtensionState::Damaged);
        for change in changes().into_iter().skip(2) {
            for (at, byte) in [(27, 4), (27, 0), (24, 1), (11, 3), (479, 1), (456, 1)] {
                assert_eq!(
                    patched(change, at, &[byte]),
                    ExtensionState::Damaged,
                    "{at}"
                );
            }
        }
    }

    /// A change that names no place would be believed of any file.
    #[test]
    fn places_that_cannot_be() {
        let change = changes()[3];
        let last = SIZE.whole_sectors().0;
        for (what, start, count) in [
            ("none", 0, 0_u32),
            ("too long", 0, 129),
            ("past the end", last, 1),
            ("across the end", last - 1, 2),
            ("past all numbers", u64::MAX, 1),
        ] {
            let mut bytes = start.to_be_bytes().to_vec();
            bytes.extend(count.to_be_bytes());
            assert_eq!(
                patched(change, 56, &bytes),
                ExtensionState::Damaged,
                "{what}"
            );
        }
        let fits = [&(last - 128).to_be_bytes()[..], &128_u32.to_be_bytes()].concat();
        assert!(matches!(
            patched(change, 56, &fits),
            ExtensionState::Valid(_)
        ));
        let shorter = (SIZE.0 - 1).to_be_bytes();
        assert_eq!(patched(change, 40, &shorter), ExtensionState::Damaged);
        // A gap among the places, and something after the last one.
        assert_eq!(patched(change, 56 + 20 + 15, &[1]), ExtensionState::Damaged);
        assert_eq!(patched(change, 56 + 40 + 11, &[1]), ExtensionState::Damaged);
    }

    #[test]
    fn zeros_are_no_block() {
        assert_eq!(
            Extension::decode(&[0; Extension::LEN]),
            ExtensionState::Absent
        );
    }
}
