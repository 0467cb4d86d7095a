//! The kind of a finding: what those have in common of which one is told. It goes by what is shown
//! of a finding, so that two that are told do not look alike.

use super::command::Ran;

/// The most lines of what a check has said that are shown.
pub const MOST_LINES: usize = 6;

/// The most letters of a line that a kind goes by.
const MOST_LETTERS: usize = 1000;

/// How the check ended, and its last lines but for numbers, blanks and repetitions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    end: String,
    said: Vec<String>,
}

impl Kind {
    /// That of an image of which the check has said this.
    pub(super) fn of(ran: &Ran) -> Kind {
        let lines = said_lines(&ran.said);
        let last = &lines[lines.len().saturating_sub(MOST_LINES)..];
        let mut said: Vec<String> = last.iter().map(|line| without_numbers(line)).collect();
        // Of one thing after the other a check says the same.
        said.dedup();
        Kind {
            end: ran.end.to_string(),
            said,
        }
    }
}

/// The lines that say something.
pub fn said_lines(said: &[u8]) -> Vec<String> {
    let said = String::from_utf8_lossy(said);
    let lines = said.lines().map(str::trim_end).filter(|it| !it.is_empty());
    lines.map(str::to_owned).collect()
}

/// With each number as 0, and one blank for several.
fn without_numbers(line: &str) -> String {
    let mut words = String::new();
    for character in line.trim().chars().take(MOST_LETTERS) {
        let becomes = match character {
            digit if digit.is_ascii_digit() => '0',
            blank if blank.is_whitespace() => ' ',
            other => other,
        };
        if !(matches!(becomes, '0' | ' ') && words.ends_with(becomes)) {
            words.push(becomes);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::super::command::End;
    use super::*;

    fn kind(said: &str) -> Kind {
        Kind::of(&Ran {
            end: End::Exited(ExitStatus::from_raw(1 << 8)),
            said: said.into(),
            reached: BTreeSet::new(),
        })
    }

    #[test]
    fn numbers_blanks_and_repetitions_make_no_kind() {
        for (one, other) in [
            ("row 4 missing", "row 12345 missing\n"),
            ("      8 1", "     24 1"),
            ("row 4 missing\nrow 5 missing", "row 9 missing"),
            // What is not shown.
            ("once\na\nb\nc\nd\ne\nf", "a\nb\nc\nd\ne\nf"),
        ] {
            assert_eq!(kind(one), kind(other));
        }
        for (one, other) in [
            ("row 4 missing", "row missing"),
            ("a\nb\na", "a\nb"),
            ("1 x", "1x"),
        ] {
            assert_ne!(kind(one), kind(other));
        }
    }
}
