//! Why a file is no COW file, or shows something else than it has.

use std::fmt;

/// Something in a file that is not as the format wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Where, in bytes from the start of the file.
    pub at: u64,
    /// What it is about.
    pub what: &'static str,
    /// What was found and what was expected, in words.
    pub found: String,
}

impl Wrong {
    pub(super) fn new(at: u64, what: &'static str, found: impl fmt::Display) -> Wrong {
        Wrong {
            at,
            what,
            found: found.to_string(),
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: {}: {}", self.at, self.what, self.found)
    }
}

impl std::error::Error for Wrong {}
