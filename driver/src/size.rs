//! Sizes as people write them: `400M`. The suffixes are powers of 1024, as the
//! kernel's are.

use std::fmt;

use crate::units::{Bytes, SECTOR_SIZE};

/// The largest size: what a file's length can be on the host.
pub const MAX_SIZE: Bytes = Bytes(i64::MAX as u64);

/// Why a text is not a size. Positions are bytes from the start of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// The text does not begin with a digit.
    #[error("at byte {at}: found {found}, expected a size such as 400M")]
    NotANumber {
        /// Where the digit is missing.
        at: usize,
        /// What is there instead.
        found: Found,
    },
    /// Something other than a suffix follows the number.
    #[error("at byte {at}: found {found}, expected one of the suffixes K, M, G, T or nothing")]
    NotASuffix {
        /// Where the suffix would be.
        at: usize,
        /// What is there instead.
        found: Found,
    },
    /// Something follows the suffix.
    #[error("at byte {at}: found {found}, expected nothing behind the suffix")]
    BehindSuffix {
        /// Where it follows.
        at: usize,
        /// What follows.
        found: Found,
    },
    /// More than [`MAX_SIZE`].
    #[error("at byte {at}: found {found}, expected at most {} bytes", MAX_SIZE.0)]
    TooLarge {
        /// Where the size starts.
        at: usize,
        /// The size.
        found: Found,
    },
    /// A device of no size.
    #[error("at byte {at}: found {found}, expected the size of a device, which is not zero")]
    Zero {
        /// Where the size starts.
        at: usize,
        /// The size.
        found: Found,
    },
    /// The size of a device that ends within a sector.
    #[error("at byte {at}: found {found}, expected a multiple of {SECTOR_SIZE} bytes")]
    NotWholeSectors {
        /// Where the size starts.
        at: usize,
        /// The size.
        found: Found,
    },
}

impl SizeError {
    /// The same error where the text is part of a longer one, `by` bytes from its start.
    pub(crate) fn shifted(mut self, by: usize) -> Self {
        match &mut self {
            Self::NotANumber { at, .. }
            | Self::NotASuffix { at, .. }
            | Self::BehindSuffix { at, .. }
            | Self::TooLarge { at, .. }
            | Self::Zero { at, .. }
            | Self::NotWholeSectors { at, .. } => *at += by,
        }
        self
    }
}

/// What a parser found in place of what it expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// One character.
    Char(char),
    /// A word.
    Text(String),
    /// The end of the text.
    End,
}

impl Found {
    /// The first character of `rest`, or the end.
    pub(crate) fn first_of(rest: &str) -> Self {
        rest.chars().next().map_or(Self::End, Self::Char)
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Char(found) => write!(f, "{found:?}"),
            Self::Text(found) => write!(f, "{found:?}"),
            Self::End => f.write_str("the end"),
        }
    }
}

/// Parses a number with a suffix `K`, `M`, `G` or `T` in either case, or none for
/// bytes. Any length is a size here, 0 as well; see [`parse_device_size`].
pub fn parse_size(text: &str) -> Result<Bytes, SizeError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at(digits);
    if number.is_empty() {
        let found = Found::first_of(text);
        return Err(SizeError::NotANumber { at: 0, found });
    }
    let shift = match suffix.bytes().next() {
        None => 0,
        Some(b'k' | b'K') => 10,
        Some(b'm' | b'M') => 20,
        Some(b'g' | b'G') => 30,
        Some(b't' | b'T') => 40,
        Some(_) => {
            let found = Found::first_of(suffix);
            return Err(SizeError::NotASuffix { at: digits, found });
        }
    };
    if suffix.len() > 1 {
        let found = Found::first_of(&suffix[1..]);
        return Err(SizeError::BehindSuffix {
            at: digits + 1,
            found,
        });
    }
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .map(Bytes)
        .filter(|&size| size <= MAX_SIZE)
        .ok_or_else(|| SizeError::TooLarge {
            at: 0,
            found: Found::Text(text.to_owned()),
        })
}

/// Parses the size of a device: as [`parse_size`], and not zero, and whole sectors.
pub fn parse_device_size(text: &str) -> Result<Bytes, SizeError> {
    let size = parse_size(text)?;
    let found = || Found::Text(text.to_owned());
    if size == Bytes(0) {
        return Err(SizeError::Zero {
            at: 0,
            found: found(),
        });
    }
    if !size.0.is_multiple_of(SECTOR_SIZE) {
        return Err(SizeError::NotWholeSectors {
            at: 0,
            found: found(),
        });
    }
    Ok(size)
}

/// Writes a size as [`parse_size`] reads it, with the largest suffix that keeps it
/// exact: `400M`.
pub fn format_size(size: Bytes) -> String {
    let (mut value, mut suffixes) = (size.0, ["K", "M", "G", "T"].iter());
    let mut suffix = "";
    while value != 0 && value.is_multiple_of(1024) {
        let Some(next) = suffixes.next() else { break };
        (value, suffix) = (value / 1024, next);
    }
    format!("{value}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_take_suffixes_in_either_case() {
        for (text, size) in [
            ("0", 0),
            ("1", 1),
            ("512", 512),
            ("007", 7),
            ("4k", 4096),
            ("4K", 4096),
            ("400M", 400 << 20),
            ("3g", 3 << 30),
            ("2T", 2 << 40),
            ("9223372036854775807", i64::MAX as u64),
            ("8388607T", 8_388_607 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(Bytes(size)), "{text}");
        }
    }

    #[test]
    fn every_error_says_where_and_what_was_found() {
        for (text, message) in [
            ("", "at byte 0: found the end, expected a size such as 400M"),
            ("-1", "at byte 0: found '-', expected a size such as 400M"),
            ("M", "at byte 0: found 'M', expected a size such as 400M"),
            (
                "1.5G",
                "at byte 1: found '.', expected one of the suffixes K, M, G, T or nothing",
            ),
            (
                "12é",
                "at byte 2: found 'é', expected one of the suffixes K, M, G, T or nothing",
            ),
            (
                "4KiB",
                "at byte 2: found 'i', expected nothing behind the suffix",
            ),
            (
                "4Ké",
                "at byte 2: found 'é', expected nothing behind the suffix",
            ),
            (
                "9223372036854775808",
                "at byte 0: found \"9223372036854775808\", expected at most 9223372036854775807 bytes",
            ),
            (
                "8388608T",
                "at byte 0: found \"8388608T\", expected at most 9223372036854775807 bytes",
            ),
            (
                "99999999999999999999999",
                "at byte 0: found \"99999999999999999999999\", expected at most \
                 9223372036854775807 bytes",
            ),
            (
                "0M",
                "at byte 0: found \"0M\", expected the size of a device, which is not zero",
            ),
            (
                "1000",
                "at byte 0: found \"1000\", expected a multiple of 512 bytes",
            ),
        ] {
            let error = parse_device_size(text).expect_err(text);
            assert_eq!(error.to_string(), message);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_size_or_an_error(text in "\\PC*|[0-9]{1,22}[kKmMgGtT]?.?") {
            if let Ok(size) = parse_size(&text) {
                prop_assert_eq!(parse_size(&format_size(size)), Ok(size));
            }
        }

        #[test]
        fn a_size_written_is_read_again(number in 0..=u64::MAX, shift in 1..64_u32) {
            let size = Bytes(number >> shift << (shift - 1));
            prop_assert_eq!(parse_size(&format_size(size)), Ok(size));
        }
    }
}
