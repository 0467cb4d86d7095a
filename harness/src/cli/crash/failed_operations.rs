//! What is said of operations that have failed as they were asked to: a line each, but for what a
//! program has tried again and again.

use std::collections::BTreeMap;

use crate::figures::{counted, grouped};

/// The most lines.
const MOST_LINES: usize = 50;

/// Sentences for these operations, in their order, those that are told alike counted.
pub(super) fn failed_operations(injected: &[String]) -> Vec<String> {
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    let mut counts: Vec<(&str, u64)> = Vec::new();
    for told in injected {
        match *places.entry(told).or_insert(counts.len()) {
            place if place < counts.len() => counts[place].1 += 1,
            _ => counts.push((told, 1)),
        }
    }
    let (said, unsaid) = counts.split_at(counts.len().min(MOST_LINES));
    let said = said.iter().map(|(told, count)| match count {
        1 => format!("failed as asked for: {told}"),
        _ => format!("failed as asked for: {told} ({} times)", grouped(*count)),
    });
    let unsaid: u64 = unsaid.iter().map(|(_, count)| count).sum();
    let unsaid = (unsaid > 0).then(|| {
        let operations = counted(unsaid, "further operation");
        format!("failed as asked for: {operations}")
    });
    said.chain(unsaid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_alike_is_counted_and_what_is_much_is_cut() {
        let told = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            failed_operations(&words)
        };
        assert!(told(&[]).is_empty());
        assert_eq!(
            told(&["a", "b", "a"]),
            ["failed as asked for: a (2 times)", "failed as asked for: b"]
        );
        let many: Vec<String> = (0..60).map(|number| number.to_string()).collect();
        let told = failed_operations(&many);
        assert_eq!(told.len(), 51);
        assert_eq!(told[50], "failed as asked for: 10 further operations");
    }
}
