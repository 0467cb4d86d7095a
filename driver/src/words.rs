//! Numbers of things, and errors of the operating system, in words.

use std::fmt;

/// The noun, or its plural where there is not one of them. `noun` is one of them, and may name two
/// things: `line or record`.
pub fn plural(number: u64, noun: &str) -> String {
    if number == 1 {
        return noun.to_owned();
    }
    let ending = |noun: &str| match noun.ends_with("sh") || noun.ends_with("ch") {
        true => "es",
        false => "s",
    };
    let plurals = noun.split(" or ");
    let plurals: Vec<_> = plurals.map(|noun| noun.to_owned() + ending(noun)).collect();
    plurals.join(" or ")
}

/// A number of things as errors tell it, without commas: it will be compared with another.
pub fn exact_count(number: u64, noun: &str) -> String {
    format!("{number} {}", plural(number, noun))
}

/// A length for reading, not for comparing: `2.24 GiB`. What is a whole number of units reads as
/// [`crate::units::Bytes`] has it: `4 MiB`.
pub fn rounded_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => exact_count(bytes, "byte"),
        _ if value.fract() == 0.0 => format!("{value} {}", UNITS[unit]),
        _ => format!("{value:.2} {}", UNITS[unit]),
    }
}

/// These numbers as alternatives: `1`, `1 or 2`, `1, 2 or 3`; without commas in each.
pub fn any_of(numbers: &[u64]) -> String {
    let words: Vec<String> = numbers.iter().map(u64::to_string).collect();
    match &*words {
        [] => "none".to_owned(),
        [only] => only.clone(),
        [before @ .., last] => format!("{} or {last}", before.join(", ")),
    }
}

/// What the operating system says of an error, without the number that it has for it. It begins
/// with a small letter, as errors that come after a colon do here, unless its first word is a name.
pub fn system_words(error: impl fmt::Display) -> String {
    let text = error.to_string();
    let numbered = text.strip_suffix(')');
    let numbered = numbered.and_then(|text| text.rsplit_once(" (os error "));
    match numbered {
        Some((words, number)) if number.parse::<i32>().is_ok() => uncapitalised(words),
        _ => text,
    }
}

/// `Too many open files` as `too many open files`; `RFS specific error` as it is.
fn uncapitalised(words: &str) -> String {
    let mut letters = words.chars();
    let first = letters.next().filter(char::is_ascii_uppercase);
    match first {
        Some(first)
            if letters
                .next()
                .is_some_and(|second| second.is_ascii_lowercase()) =>
        {
            first.to_ascii_lowercase().to_string() + &words[1..]
        }
        _ => words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn an_error_of_the_system_is_told_without_its_number() {
        let of_system = io::Error::from_raw_os_error(2);
        assert_eq!(system_words(&of_system), "no such file or directory");
        let others = io::Error::other("a guest (os error of mine)");
        assert_eq!(system_words(&others), "a guest (os error of mine)");
    }

    /// The errors of a host that have names of their own are in small letters, and stand beside
    /// those that have only numbers.
    #[test]
    fn no_error_of_the_system_begins_with_a_capital_but_a_name() {
        let told = |number| system_words(io::Error::from_raw_os_error(number));
        for (number, words) in [
            (5, "input/output error"),
            (11, "resource temporarily unavailable"),
            (24, "too many open files"),
            // An abbreviation stays one.
            (73, "RFS specific error"),
        ] {
            assert_eq!(told(number), words);
        }
        for words in (1..134).map(told).filter(|words| !words.starts_with("RFS")) {
            assert!(!words.starts_with(char::is_uppercase), "{words}");
        }
    }

    #[test]
    fn alternatives_are_told_as_such() {
        assert_eq!(any_of(&[]), "none");
        assert_eq!(any_of(&[1]), "1");
        assert_eq!(any_of(&[1, 2]), "1 or 2");
        assert_eq!(any_of(&[1, 2, 1000]), "1, 2 or 1000");
    }

    #[test]
    fn one_thing_is_no_plural() {
        assert_eq!(exact_count(0, "sector"), "0 sectors");
        assert_eq!(exact_count(1, "sector"), "1 sector");
        assert_eq!(exact_count(1_000, "sector"), "1000 sectors");
        assert_eq!(exact_count(1, "mismatch"), "1 mismatch");
        assert_eq!(exact_count(2, "mismatch"), "2 mismatches");
        assert_eq!(exact_count(2, "line or record"), "2 lines or records");
    }

    #[test]
    fn a_size_for_reading_is_rounded_where_it_is_no_whole_number_of_units() {
        assert_eq!(rounded_size(1), "1 byte");
        assert_eq!(rounded_size(512), "512 bytes");
        assert_eq!(rounded_size(4 << 20), "4 MiB");
        assert_eq!(rounded_size((4 << 20) + 1), "4.00 MiB");
        assert_eq!(rounded_size(2_405_000_000), "2.24 GiB");
    }
}
