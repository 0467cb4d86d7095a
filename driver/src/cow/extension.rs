//! The extension block: what ubdlab keeps in the slack between a V3 header and its
//! bitmap, where every known reader looks away. It records the size that the backing
//! file had when the COW file was made, because after a grow the header's size is the
//! device's and no longer the backing file's.
//!
//! The block fills the rest of the header's last sector; the journal's two slots
//! ([`super::JournalRecord`]) have the two sectors behind it.

use crate::units::{Bytes, FileOffset};

use super::geometry::Geometry;

const MAGIC: &[u8; 8] = b"ubdlabX\n";
const VERSION: u32 = 1;
const CHECKSUM: std::ops::Range<usize> = 12..16;
const BACKING_SIZE: std::ops::Range<usize> = 16..24;
const FLAGS: std::ops::Range<usize> = 24..28;

/// The one flag there is.
const CHANGING_BACKING: u32 = 1;

/// What the extension block says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension {
    /// The size in bytes that the backing file has.
    pub backing_size: Bytes,
    /// A tool is changing the backing file, or changing to another: until it is done the
    /// size and the time of the backing file say nothing. What it changes is arranged such
    /// that the device's content stays what it is meanwhile.
    pub changing_backing: bool,
}

/// What was found where the extension block would be.
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
    /// Where the block starts: right behind a V3 header.
    pub const OFFSET: FileOffset = FileOffset(4128);
    /// Its length: up to the end of the sector.
    pub const LEN: usize = 480;

    /// The block of a file over a backing file of this size that nobody is changing.
    pub const fn new(backing_size: Bytes) -> Extension {
        Extension {
            backing_size,
            changing_backing: false,
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
        block[8..12].copy_from_slice(&VERSION.to_be_bytes());
        block[BACKING_SIZE].copy_from_slice(&self.backing_size.0.to_be_bytes());
        let flags = if self.changing_backing {
            CHANGING_BACKING
        } else {
            0
        };
        block[FLAGS].copy_from_slice(&flags.to_be_bytes());
        seal(&mut block, CHECKSUM);
        block
    }

    /// What `block` holds.
    pub fn decode(block: &[u8; Self::LEN]) -> ExtensionState {
        if &block[..8] != MAGIC {
            return ExtensionState::Absent;
        }
        let u32_at = |range| u32::from_be_bytes(bytes_at(block, range));
        let flags = u32_at(FLAGS);
        // A flag that is not known here may mean anything.
        if u32_at(8..12) != VERSION || flags > CHANGING_BACKING || !is_sealed(block, CHECKSUM) {
            return ExtensionState::Damaged;
        }
        ExtensionState::Valid(Extension {
            backing_size: Bytes(u64::from_be_bytes(bytes_at(block, BACKING_SIZE))),
            changing_backing: flags == CHANGING_BACKING,
        })
    }
}

fn bytes_at<const N: usize>(block: &[u8], range: std::ops::Range<usize>) -> [u8; N] {
    block[range].try_into().unwrap_or([0; N])
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
    use super::*;

    #[test]
    fn a_block_survives_the_way_there_and_back() {
        for changing_backing in [false, true] {
            let extension = Extension {
                backing_size: Bytes(210_819_584),
                changing_backing,
            };
            let block = extension.encode();
            assert_eq!(Extension::decode(&block), ExtensionState::Valid(extension));
        }
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let block = Extension::new(Bytes(4096)).encode();
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

    #[test]
    fn a_flag_of_tomorrow_is_not_guessed_at() {
        let mut block = Extension::new(Bytes(4096)).encode();
        block[27] = 2;
        seal(&mut block, CHECKSUM);
        assert_eq!(Extension::decode(&block), ExtensionState::Damaged);
    }

    #[test]
    fn zeros_are_no_block() {
        assert_eq!(
            Extension::decode(&[0; Extension::LEN]),
            ExtensionState::Absent
        );
    }
}
