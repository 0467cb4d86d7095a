//! Numbers in text, strictly: digits and nothing else, and times converted to nanoseconds
//! without a detour over floating point.

use super::Nanoseconds;

/// Digits only: `u64::from_str` would take a plus sign too.
pub(super) fn parse_u64(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// `1286.999735`, or `1286`: seconds, and possibly a fraction of one to nine digits.
pub(super) fn parse_seconds(text: &str) -> Option<Nanoseconds> {
    let (seconds, fraction) = match text.split_once('.') {
        Some((seconds, fraction)) if (1..=9).contains(&fraction.len()) => (seconds, fraction),
        Some(_) => return None,
        None => (text, "0"),
    };
    let scale = 10_u64.pow(9 - fraction.len() as u32);
    let fraction = parse_u64(fraction)? * scale;
    let whole = parse_u64(seconds)?.checked_mul(1_000_000_000)?;
    Some(Nanoseconds(whole.checked_add(fraction)?))
}

/// A number of units of `unit_ns` nanoseconds each.
pub(super) fn parse_time(text: &str, unit_ns: u64) -> Option<Nanoseconds> {
    parse_u64(text)?.checked_mul(unit_ns).map(Nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_digits_and_times_fit() {
        assert_eq!(parse_u64("18446744073709551615"), Some(u64::MAX));
        for text in ["", "+1", "-1", "1 ", "0x1", "1.5", "18446744073709551616"] {
            assert_eq!(parse_u64(text), None, "{text}");
        }
        assert_eq!(parse_seconds("12.5"), Some(Nanoseconds(12_500_000_000)));
        assert_eq!(parse_seconds("0.000000001"), Some(Nanoseconds(1)));
        assert_eq!(parse_seconds("3"), Some(Nanoseconds(3_000_000_000)));
        for text in ["1.", ".5", "1.0000000001", "1.+5", "99999999999999", "1e3"] {
            assert_eq!(parse_seconds(text), None, "{text}");
        }
        assert_eq!(parse_time("7", 100), Some(Nanoseconds(700)));
        assert_eq!(parse_time("18446744073709551615", 2), None);
    }
}
