//! Figures as people read them: numbers with commas, lengths and times in the unit that suits them.

use driver::plural;

pub use driver::rounded_size as size;

/// A number of things, in words and with commas: `noun` is one of them.
pub fn counted(number: u64, noun: &str) -> String {
    format!("{} {}", grouped(number), plural(number, noun))
}

/// The beginning of a sentence on what became of a number of things: `2 requests were`.
pub fn were(number: u64, noun: &str) -> String {
    let verb = if number == 1 { "was" } else { "were" };
    format!("{} {verb}", counted(number, noun))
}

/// 1234567 as `1,234,567`.
pub fn grouped(number: u64) -> String {
    in_groups(&number.to_string())
}

/// Digits in groups of three.
pub(crate) fn in_groups(digits: &str) -> String {
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time for reading: `1.25 ms`.
pub fn time(ns: u64) -> String {
    let value = ns as f64;
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.2} us", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", value / 1e6),
        _ => format!("{:.2} s", value / 1e9),
    }
}

/// These names, with commas between them, in lines of at most `width` characters.
pub fn in_lines<N: AsRef<str>>(names: &[N], width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for (index, name) in names.iter().enumerate() {
        let comma = if index + 1 < names.len() { "," } else { "" };
        let name = format!("{}{comma}", name.as_ref());
        match lines.last_mut() {
            Some(line) if line.is_empty() => *line = name,
            Some(line) if line.len() + 1 + name.len() <= width => *line += &format!(" {name}"),
            _ => lines.push(name),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_easy_to_read() {
        assert_eq!(grouped(7), "7");
        assert_eq!(counted(1, "request"), "1 request");
        assert_eq!(counted(1_000, "request"), "1,000 requests");
        assert_eq!(counted(1, "mismatch"), "1 mismatch");
        assert_eq!(counted(0, "mismatch"), "0 mismatches");
        assert_eq!(grouped(113_872), "113,872");
        assert_eq!(grouped(1_000_000), "1,000,000");
        assert_eq!(time(999), "999 ns");
        assert_eq!(time(1_250_000), "1.25 ms");
        assert_eq!(time(61_000_000_000), "61.00 s");
    }
}
