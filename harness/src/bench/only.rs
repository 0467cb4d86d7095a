//! Which rows are asked for: those whose names contain a text, or none, to learn the names.

use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::locked::locked;

/// The rows that are asked for, and the names of those that were not.
#[derive(Debug, Default)]
pub struct Only {
    wants: Wants,
    refused: Mutex<BTreeSet<String>>,
}

#[derive(Debug, Default)]
enum Wants {
    #[default]
    All,
    Containing(String),
    None,
}

impl Only {
    /// The rows whose names contain `text`; without one, all.
    pub fn containing(text: Option<&str>) -> Only {
        let wants = match text {
            Some(text) => Wants::Containing(text.to_owned()),
            None => Wants::All,
        };
        Only {
            wants,
            refused: Mutex::default(),
        }
    }

    /// No row: their names are those of all that were not asked for.
    pub fn none() -> Only {
        Only {
            wants: Wants::None,
            refused: Mutex::default(),
        }
    }

    /// Whether the row of this name is asked for.
    pub fn wanted(&self, name: &str) -> bool {
        let is_wanted = match &self.wants {
            Wants::All => return true,
            Wants::Containing(text) => name.contains(text),
            Wants::None => false,
        };
        if !is_wanted {
            locked(&self.refused).insert(name.to_owned());
        }
        is_wanted
    }

    /// The names of the rows that were not asked for, in order. A text that fits no row was most
    /// likely meant for one of these.
    pub fn refused(&self) -> Vec<String> {
        locked(&self.refused).iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Only;

    #[test]
    fn names_without_the_text_are_kept_for_a_message() {
        let only = Only::containing(Some("warm"));
        assert!(only.wanted("io/warm, depth 1"));
        assert!(!only.wanted("io/cold, depth 32"));
        assert!(!only.wanted("io/cold, depth 1"));
        assert!(!only.wanted("io/cold, depth 1"));
        assert_eq!(only.refused(), ["io/cold, depth 1", "io/cold, depth 32"]);
    }

    #[test]
    fn the_names_are_learnt_without_a_row() {
        let only = Only::none();
        assert!(!only.wanted("io/warm, depth 1"));
        assert_eq!(only.refused(), ["io/warm, depth 1"]);
    }

    #[test]
    fn without_a_text_all_rows_are_asked_for() {
        let only = Only::containing(None);
        assert!(only.wanted("io/warm, depth 1"));
        assert!(only.refused().is_empty());
    }
}
