//! Which cases of a shard are finished. Several threads finish them nearly in order: a frontier
//! before which all are, and the few beyond it. It stays small, whatever the number of cases.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// The finished cases, by their index in the shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Finished {
    /// All before this one are.
    frontier: u64,
    /// And these, of which none is the frontier.
    beyond: BTreeSet<u64>,
}

/// As it stands in a file.
#[derive(Deserialize)]
struct Written {
    frontier: u64,
    beyond: BTreeSet<u64>,
}

impl TryFrom<Written> for Finished {
    type Error = String;

    fn try_from(Written { frontier, beyond }: Written) -> Result<Finished, String> {
        match beyond.first() {
            Some(&first) if first <= frontier => Err(format!(
                "beyond: found {first}, expected numbers above the frontier, which is {frontier}"
            )),
            _ => Ok(Finished { frontier, beyond }),
        }
    }
}

impl Finished {
    /// The first case that is not finished.
    pub fn frontier(&self) -> u64 {
        self.frontier
    }

    /// Those that are, past the frontier.
    pub fn beyond(&self) -> &BTreeSet<u64> {
        &self.beyond
    }

    /// Whether this one is.
    pub fn contains(&self, index: u64) -> bool {
        index < self.frontier || self.beyond.contains(&index)
    }

    /// How many are.
    pub fn count(&self) -> u64 {
        self.frontier + self.beyond.len() as u64
    }

    /// This one is.
    pub(super) fn add(&mut self, index: u64) {
        self.beyond.insert(index);
        while self.beyond.remove(&self.frontier) {
            self.frontier += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frontier_goes_past_what_came_early() {
        let mut finished = Finished::default();
        for (index, frontier, beyond) in [(2, 0, 1), (0, 1, 1), (3, 1, 2), (1, 4, 0), (4, 5, 0)] {
            finished.add(index);
            assert_eq!(
                (finished.frontier(), finished.beyond().len()),
                (frontier, beyond)
            );
        }
        assert_eq!(finished.count(), 5);
    }

    #[test]
    fn what_a_file_says_has_to_fit() {
        let read = serde_json::from_str::<Finished>;
        let written = r#"{"frontier":3,"beyond":[5,9]}"#;
        assert_eq!(
            serde_json::to_string(&read(written).unwrap()).unwrap(),
            written
        );
        let refused = read(r#"{"frontier":3,"beyond":[3]}"#)
            .unwrap_err()
            .to_string();
        assert!(
            refused.starts_with("beyond: found 3, expected numbers above"),
            "{refused}"
        );
    }
}
