//! What an earlier run has left in the directory for findings. This run replaces those that have
//! the names of its own. The others stay, because somebody may still need them, and are told of:
//! they are not what this run has found.

use std::path::Path;

use driver::{exact_count, shown};

/// The numbers of the findings that are in the directory, in order.
pub(super) fn numbers_in(directory: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut numbers: Vec<u64> = entries
        .filter_map(|entry| number_of(entry.file_name().to_str()?))
        .collect();
    numbers.sort_unstable();
    numbers
}

/// The name of a finding in the directory.
pub(super) fn name_of(number: u64) -> String {
    format!("finding-{number}.json")
}

fn number_of(name: &str) -> Option<u64> {
    let number = name.strip_prefix("finding-")?.strip_suffix(".json")?;
    let number = number.parse().ok()?;
    // What only looks like one is none: `finding-+1.json`, `finding-01.json`.
    (name_of(number) == name).then_some(number)
}

/// What is said of those of an earlier run, if there were any, where this run has written these.
pub(super) fn told(directory: &Path, earlier: &[u64], written: &[u64]) -> Option<String> {
    let (replaced, left): (Vec<u64>, Vec<u64>) =
        earlier.iter().partition(|number| written.contains(number));
    let replaced = match replaced.len() as u64 {
        0 => None,
        some => Some(format!("replaced {}", exact_count(some, "finding"))),
    };
    let left = match left.as_slice() {
        [] => None,
        [one] => Some(format!("{} is not of this run", name_of(*one))),
        [first, others @ ..] => Some(format!(
            "{} and {} are not of this run",
            name_of(*first),
            exact_count(others.len() as u64, "further finding")
        )),
    };
    let both: Vec<String> = replaced.into_iter().chain(left).collect();
    let place = shown(directory);
    (!both.is_empty()).then(|| format!("{place}: of an earlier run: {}", both.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_is_told_from_what_was_written() {
        let said = |earlier: &[u64], written: &[u64]| told(Path::new("d"), earlier, written);
        assert_eq!(said(&[], &[1, 2]), None);
        let expected = "d: of an earlier run: replaced 1 finding";
        assert_eq!(said(&[1], &[1, 2]).as_deref(), Some(expected));
        let expected = "d: of an earlier run: finding-7.json is not of this run";
        assert_eq!(said(&[7], &[1]).as_deref(), Some(expected));
        let expected = "d: of an earlier run: replaced 2 findings; finding-3.json and 1 further \
                        finding are not of this run";
        assert_eq!(said(&[1, 2, 3, 9], &[1, 2]).as_deref(), Some(expected));
    }

    #[test]
    fn only_what_has_the_name_of_a_finding_is_one() {
        assert_eq!(number_of("finding-12.json"), Some(12));
        for name in [
            "finding-.json",
            "finding-+1.json",
            "finding-01.json",
            "finding-1",
        ] {
            assert_eq!(number_of(name), None, "{name}");
        }
    }
}
