//! The extension block, which ubdlab keeps in the slack after a V3 header.

use super::source::Source;
use super::wrong::Wrong;

/// Where it is, in bytes from the start of the file.
const AT: u64 = 4128;
/// Bytes of it.
const LEN: usize = 480;

const MAGIC: &[u8; 8] = b"ubdlabX\n";

/// The version of a block, and that while the backing file is being changed.
const AT_REST: u32 = 1;
const UNDER_CHANGE: u32 = 2;

/// The flag that earlier versions of ubdlab set while they changed the backing file, and the two
/// of a block that is under change.
const CHANGING: u32 = 1;
const CHANGES: u32 = 3;

/// What the block says to a reader of a file in which no change is under way. What a block of
/// version 2 says about its change is not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension {
    /// The size of the backing file in bytes.
    pub backing_size: u64,
    /// Whether the backing file is being changed.
    pub changing: bool,
}

impl Extension {
    /// Where the block is, in bytes from the start of the file.
    pub const AT: u64 = AT;

    /// The block of a V3 file, if it has one.
    ///
    /// # Errors
    /// A block that is there, by its magic, and damaged.
    pub fn read(file: &(impl Source + ?Sized)) -> Result<Option<Extension>, Wrong> {
        let mut block = [0; LEN];
        // Most files have none, or nothing after its first fields.
        file.read(AT, &mut block[..8]);
        if &block[..8] != MAGIC {
            return Ok(None);
        }
        file.read(AT, &mut block);
        let u32_at = |at: usize| u32::from_be_bytes(first(&block[at..]));
        let wrong = |at: u64, what, found: u32, expected: u32| {
            let found = format_args!("found {found:#x}, expected {expected:#x}");
            Err(Wrong::new(AT + at, what, found))
        };
        let most_flags = match u32_at(8) {
            AT_REST => CHANGING,
            UNDER_CHANGE => CHANGES,
            found => return wrong(8, "version of the extension block", found, AT_REST),
        };
        let checksum = checksum(block);
        if u32_at(12) != checksum {
            return wrong(12, "checksum of the extension block", u32_at(12), checksum);
        }
        if u32_at(24) & !most_flags != 0 {
            return wrong(24, "flags of the extension block", u32_at(24), most_flags);
        }
        Ok(Some(Extension {
            backing_size: u64::from_be_bytes(first(&block[16..])),
            changing: u32_at(8) == UNDER_CHANGE || u32_at(24) & CHANGING != 0,
        }))
    }

    /// The bytes of a block of version 1.
    pub fn bytes(&self) -> [u8; LEN] {
        let mut block = [0; LEN];
        block[..8].copy_from_slice(MAGIC);
        block[8..12].copy_from_slice(&AT_REST.to_be_bytes());
        block[16..24].copy_from_slice(&self.backing_size.to_be_bytes());
        block[24..28].copy_from_slice(&u32::from(self.changing).to_be_bytes());
        let checksum = checksum(block);
        block[12..16].copy_from_slice(&checksum.to_be_bytes());
        block
    }
}

fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut first = [0; N];
    first.copy_from_slice(&bytes[..N]);
    first
}

/// CRC-32C of the whole block with the checksum field zero.
fn checksum(mut block: [u8; LEN]) -> u32 {
    block[12..16].fill(0);
    match block[FRONT..] == [0; LEN - FRONT] {
        true => !after_zeros(!crc_32c(&block[..FRONT])),
        false => crc_32c(&block),
    }
}

/// Bytes of a block after which one of version 1 has nothing but zeros.
const FRONT: usize = 32;

/// `AFTER_ZEROS[n][byte]` is what becomes of a remainder that has `byte` as its byte `n` and is
/// zero otherwise when the zeros after [`FRONT`] follow.
static AFTER_ZEROS: [[u32; 256]; 4] = {
    let mut after = [[0; 256]; 4];
    let mut bit = 0;
    while bit < 32 {
        let (mut remainder, mut zeros) = (1u32 << bit, 0);
        while zeros < (LEN - FRONT) * 8 {
            remainder = (remainder >> 1) ^ ((remainder & 1) * POLYNOMIAL);
            zeros += 1;
        }
        // Remainders add up: that of a byte is the sum of those of its bits.
        let mut byte = 0;
        while byte < 256 {
            if byte >> (bit % 8) & 1 == 1 {
                after[bit / 8][byte] ^= remainder;
            }
            byte += 1;
        }
        bit += 1;
    }
    after
};

fn after_zeros(remainder: u32) -> u32 {
    let bytes = remainder.to_le_bytes();
    let places = bytes.iter().zip(&AFTER_ZEROS);
    places.fold(0, |sum, (byte, table)| sum ^ table[usize::from(*byte)])
}

/// The polynomial of Castagnoli, reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Bytes that are taken together.
const TOGETHER: usize = 8;

/// `REMAINDERS[n][byte]` is the remainder, by [`POLYNOMIAL`], of a byte that `n` zero bytes follow.
static REMAINDERS: [[u32; 256]; TOGETHER] = {
    let mut remainders = [[0; 256]; TOGETHER];
    let mut byte = 0;
    while byte < 256 {
        let (mut remainder, mut followed) = (byte as u32, 0);
        while followed < TOGETHER {
            let mut bit = 0;
            while bit < 8 {
                remainder = (remainder >> 1) ^ ((remainder & 1) * POLYNOMIAL);
                bit += 1;
            }
            remainders[followed][byte] = remainder;
            followed += 1;
        }
        byte += 1;
    }
    remainders
};

fn crc_32c(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<TOGETHER>();
    let crc = words.iter().fold(u32::MAX, |crc, word| {
        let word = (u64::from_le_bytes(*word) ^ u64::from(crc)).to_le_bytes();
        let places = word.iter().zip(REMAINDERS.iter().rev());
        places.fold(0, |crc, (byte, table)| crc ^ table[usize::from(*byte)])
    });
    let add = |crc: u32, byte: &u8| {
        REMAINDERS[0][((crc ^ u32::from(*byte)) & 0xff) as usize] ^ (crc >> 8)
    };
    !rest.iter().fold(crc, add)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of the catalogues of CRCs.
    #[test]
    fn the_checksum_is_crc_32c() {
        assert_eq!(crc_32c(b"123456789"), 0xe306_9283);
        // From the specification of iSCSI.
        assert_eq!(crc_32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc_32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn zeros_at_the_end_make_no_difference_to_the_checksum() {
        for at in [0, 5, FRONT - 1, FRONT, FRONT + 1, LEN - 1] {
            for byte in [1, 0x80, 0xff] {
                let mut block = [0; LEN];
                block[at] = byte;
                assert_eq!(checksum(block), crc_32c(&block), "{byte:#x} at {at}");
            }
        }
        assert_eq!(checksum([0; LEN]), crc_32c(&[0; LEN]));
    }

    #[test]
    fn a_block_is_read_as_it_was_written_and_damage_is_seen() {
        let extension = Extension {
            backing_size: 210_819_584,
            changing: true,
        };
        let mut file = vec![0; AT as usize];
        assert_eq!(Extension::read(&file[..]), Ok(None));
        file.extend(extension.bytes());
        assert_eq!(Extension::read(&file[..]), Ok(Some(extension)));
        for at in 8..LEN {
            let mut damaged = file.clone();
            damaged[AT as usize + at] ^= 4;
            assert!(Extension::read(&damaged[..]).is_err(), "byte {at}");
        }
    }
}
