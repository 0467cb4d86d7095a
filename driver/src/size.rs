//! Sizes as people write them: `400M`, `2.5G`, `1TiB`. The suffixes are powers of 1024, as the
//! kernel's are. `2GB` is refused: it is powers of 1000 to some, and of 1024 to others.

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
        found: Unexpected,
    },
    /// Something other than a suffix follows the number.
    #[error(
        "at byte {at}: found {found}, expected one of the suffixes K, M, G, T, P, E or nothing"
    )]
    NotASuffix {
        /// Where the suffix would be.
        at: usize,
        /// What is there instead.
        found: Unexpected,
    },
    /// Something follows the suffix.
    #[error("at byte {at}: found {found}, expected nothing after the suffix")]
    AfterSuffix {
        /// Where it follows.
        at: usize,
        /// What follows.
        found: Unexpected,
    },
    /// A suffix of two readings, such as GB.
    #[error(
        "at byte {at}: found {found}, which is {decimal} bytes to some and {binary} to others, expected \
         {unambiguous} (powers of 1024) or a number of bytes"
    )]
    TwoReadings {
        /// Where the size starts.
        at: usize,
        /// The size.
        found: Unexpected,
        /// Its bytes if the suffix is a power of 1000.
        decimal: u128,
        /// Its bytes if the suffix is a power of 1024.
        binary: u128,
        /// How the latter is written.
        unambiguous: String,
    },
    /// A fraction that is no whole number of bytes.
    #[error(
        "at byte {at}: found {found}, expected a whole number of bytes{}",
        nearest(*.below, *.above)
    )]
    NotWholeBytes {
        /// Where the size starts.
        at: usize,
        /// The size.
        found: Unexpected,
        /// The largest size of whole sectors below it, in bytes.
        below: u64,
        /// The smallest above it.
        above: u64,
    },
    /// More than [`MAX_SIZE`].
    #[error("at byte {at}: found {found}, expected at most {} bytes", MAX_SIZE.0)]
    TooLarge {
        /// Where the size starts.
        at: usize,
        /// The size.
        found: Unexpected,
    },
    /// A device of no size.
    #[error("at byte {at}: found {found}, expected the size of a device, which is not zero")]
    Zero {
        /// Where the size starts.
        at: usize,
        /// The size.
        found: Unexpected,
    },
    /// The size of a device that ends within a sector.
    #[error(
        "at byte {at}: found {found}, expected a multiple of {SECTOR_SIZE} bytes{}",
        nearest(*.below, *.above)
    )]
    NotWholeSectors {
        /// Where the size starts.
        at: usize,
        /// The size.
        found: Unexpected,
        /// The largest size of whole sectors below it, in bytes.
        below: u64,
        /// The smallest above it.
        above: u64,
    },
}

/// The two sizes as the end of a message. A device of no size is none.
fn nearest(below: u64, above: u64) -> String {
    match below {
        0 => format!(": the nearest size of whole sectors is {above}"),
        below => format!(": the nearest sizes of whole sectors are {below} and {above}"),
    }
}

/// The sizes of whole sectors below and above a size that is none, of which these are the whole
/// bytes.
fn around(bytes: u64) -> (u64, u64) {
    let below = bytes / SECTOR_SIZE * SECTOR_SIZE;
    (below, below.saturating_add(SECTOR_SIZE))
}

impl SizeError {
    /// This error where the text is part of a longer one, `by` bytes from its start.
    pub(crate) fn shifted(mut self, by: usize) -> Self {
        match &mut self {
            Self::NotANumber { at, .. }
            | Self::NotASuffix { at, .. }
            | Self::AfterSuffix { at, .. }
            | Self::TwoReadings { at, .. }
            | Self::NotWholeBytes { at, .. }
            | Self::TooLarge { at, .. }
            | Self::Zero { at, .. }
            | Self::NotWholeSectors { at, .. } => *at += by,
        }
        self
    }
}

/// What a parser found in place of what it expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unexpected {
    /// One character.
    Char(char),
    /// A word.
    Text(String),
    /// The end of the text.
    End,
}

impl Unexpected {
    /// The first character of `rest`, or the end.
    pub(crate) fn first_of(rest: &str) -> Self {
        rest.chars().next().map_or(Self::End, Self::Char)
    }
}

impl fmt::Display for Unexpected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Char(found) => write!(f, "{found:?}"),
            Self::Text(found) => write!(f, "{found:?}"),
            Self::End => f.write_str("the end"),
        }
    }
}

/// The suffixes; the first is 1024, each further one 1024 of those before it.
const SUFFIXES: [u8; 6] = *b"KMGTPE";

/// The most digits of a fraction that are read. Further ones would be less than a byte of the
/// largest unit.
const MAX_FRACTION_DIGITS: usize = 18;

/// Parses a number with a suffix `K`, `M`, `G`, `T`, `P` or `E` in either case, possibly with `iB`
/// after it, or none or `B` for bytes. The number may have a fraction. Any length is a size here, 0
/// as well; see [`parse_device_size`].
///
/// # Errors
/// See [`SizeError`].
pub fn parse_size(text: &str) -> Result<Bytes, SizeError> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = text.split_at(digits(text));
    if whole.is_empty() {
        let found = Unexpected::first_of(text);
        return Err(SizeError::NotANumber { at: 0, found });
    }
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) if digits(rest) > 0 => rest.split_at(digits(rest)),
        _ => ("", rest),
    };
    let at = text.len() - suffix.len();
    let all = || Unexpected::Text(text.to_owned());
    let power = match suffix.bytes().next().map(|byte| byte.to_ascii_uppercase()) {
        None => 0,
        Some(b'B') => 0,
        Some(letter) => match SUFFIXES.iter().position(|&suffix| suffix == letter) {
            Some(position) => position as u32 + 1,
            None => {
                let found = Unexpected::first_of(suffix);
                return Err(SizeError::NotASuffix { at, found });
            }
        },
    };
    let scaled = |unit: u128| scaled(whole, fraction, unit);
    match suffix.get(1..).unwrap_or_default() {
        "" => {}
        "iB" if power > 0 => {}
        "B" | "b" if power > 0 => {
            let reading = |base: u128| scaled(base.pow(power)).unwrap_or(u128::MAX);
            return Err(SizeError::TwoReadings {
                at: 0,
                found: all(),
                decimal: reading(1000),
                binary: reading(1024),
                unambiguous: text[..=at].to_owned(),
            });
        }
        rest => {
            let found = Unexpected::first_of(rest);
            return Err(SizeError::AfterSuffix { at: at + 1, found });
        }
    }
    let too_large = || SizeError::TooLarge {
        at: 0,
        found: all(),
    };
    let size = match scaled(1024_u128.pow(power)) {
        Some(size) => size,
        None if is_too_large(whole) => return Err(too_large()),
        None => {
            let whole = whole_bytes(whole, fraction, 1024_u128.pow(power));
            let (below, above) = around(u64::try_from(whole).map_err(|_| too_large())?);
            return Err(SizeError::NotWholeBytes {
                at: 0,
                found: all(),
                below,
                above,
            });
        }
    };
    let size = u64::try_from(size).map_err(|_| too_large())?;
    Some(Bytes(size))
        .filter(|&size| size <= MAX_SIZE)
        .ok_or_else(too_large)
}

/// `whole.fraction` units, if that is a whole number.
fn scaled(whole: &str, fraction: &str, unit: u128) -> Option<u128> {
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > MAX_FRACTION_DIGITS {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?;
    let parts = 10_u128.pow(fraction.len() as u32);
    let numerator = match fraction {
        "" => 0,
        digits => digits.parse::<u128>().ok()? * unit,
    };
    let rest = (numerator % parts == 0).then_some(numerator / parts)?;
    u128::from(whole).checked_mul(unit)?.checked_add(rest)
}

/// The whole bytes of `whole.fraction` units, of a fraction of any length.
fn whole_bytes(whole: &str, fraction: &str, unit: u128) -> u128 {
    let fraction = &fraction[..fraction.len().min(MAX_FRACTION_DIGITS)];
    let parts = 10_u128.pow(fraction.len() as u32);
    let numerator = fraction.parse::<u128>().unwrap_or(0) * unit;
    let whole = whole.parse::<u128>().unwrap_or(0);
    whole.saturating_mul(unit).saturating_add(numerator / parts)
}

fn is_too_large(whole: &str) -> bool {
    whole.parse::<u64>().is_err()
}

/// Parses the size of a device: as [`parse_size`], and not zero, and whole sectors.
pub fn parse_device_size(text: &str) -> Result<Bytes, SizeError> {
    let size = parse_size(text)?;
    let found = || Unexpected::Text(text.to_owned());
    if size == Bytes(0) {
        return Err(SizeError::Zero {
            at: 0,
            found: found(),
        });
    }
    if !size.0.is_multiple_of(SECTOR_SIZE) {
        let (below, above) = around(size.0);
        return Err(SizeError::NotWholeSectors {
            at: 0,
            found: found(),
            below,
            above,
        });
    }
    Ok(size)
}

/// Writes a size as [`parse_size`] reads it, with the largest suffix that keeps it
/// exact: `400M`.
pub fn format_size(size: Bytes) -> String {
    let (mut value, mut suffixes) = (size.0, ["K", "M", "G", "T", "P", "E"].iter());
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
            ("2.5G", 5 << 29),
            ("0.5K", 512),
            ("1.50m", 3 << 19),
            ("1TiB", 1 << 40),
            ("4KiB", 4096),
            ("1P", 1 << 50),
            ("7E", 7 << 60),
            ("512B", 512),
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
                "1.G",
                "at byte 1: found '.', expected one of the suffixes K, M, G, T, P, E or nothing",
            ),
            (
                "1.1K",
                "at byte 0: found \"1.1K\", expected a whole number of bytes: the nearest sizes of \
                 whole sectors are 1024 and 1536",
            ),
            (
                "2.7G",
                "at byte 0: found \"2.7G\", expected a whole number of bytes: the nearest sizes of \
                 whole sectors are 2899102720 and 2899103232",
            ),
            (
                "0.1K",
                "at byte 0: found \"0.1K\", expected a whole number of bytes: the nearest size of \
                 whole sectors is 512",
            ),
            (
                "12é",
                "at byte 2: found 'é', expected one of the suffixes K, M, G, T, P, E or nothing",
            ),
            (
                "2GB",
                "at byte 0: found \"2GB\", which is 2000000000 bytes to some and 2147483648 to others, \
                 expected 2G (powers of 1024) or a number of bytes",
            ),
            (
                "2gb",
                "at byte 0: found \"2gb\", which is 2000000000 bytes to some and 2147483648 to others, \
                 expected 2g (powers of 1024) or a number of bytes",
            ),
            (
                "4Kib",
                "at byte 2: found 'i', expected nothing after the suffix",
            ),
            (
                "4Ké",
                "at byte 2: found 'é', expected nothing after the suffix",
            ),
            (
                "512BB",
                "at byte 4: found 'B', expected nothing after the suffix",
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
                "at byte 0: found \"1000\", expected a multiple of 512 bytes: the nearest sizes of \
                 whole sectors are 512 and 1024",
            ),
        ] {
            let error = parse_device_size(text).expect_err(text);
            assert_eq!(error.to_string(), message);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_size_or_an_error(text in "\\PC*|[0-9]{1,22}([.][0-9]{1,20})?[kKmMgGtTpPeE]?(iB|B|.)?") {
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
