//! What can be wrong, by name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Kinds of violations, as a disk's user would see them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Flushed content is gone; what is there is older.
    LostWrite,
    /// Zeros, where there were none to be.
    Zeros,
    /// Another sector's content.
    Misplaced,
    /// A read shows what had been overwritten before it was submitted.
    StaleRead,
    /// Content that no write made, or parts of several.
    Foreign,
    /// The image does not open any more.
    DoesNotOpen,
    /// The interrupted resize cannot be finished.
    DoesNotRecover,
    /// The device has a size that it should not have.
    WrongSize,
    /// The backing file was changed.
    BackingChanged,
    /// The image opens, and is not consistent.
    Inconsistent,
    /// Recovering twice is not the same as once.
    RecoveryNotFinal,
    /// A request failed though nothing was wrong, or the other way round.
    WrongStatus,
    /// The driver died of a request.
    Died,
    /// An image was opened that must be refused: it is damaged, or its backing file is not
    /// the one that it was made for.
    AcceptedBadImage,
    /// Two processes had the device open at the same time.
    NotExcluded,
}

impl Kind {
    /// As in the JSON.
    pub fn name(self) -> &'static str {
        match self {
            Kind::LostWrite => "lost-write",
            Kind::Zeros => "zeros",
            Kind::Misplaced => "misplaced",
            Kind::StaleRead => "stale-read",
            Kind::Foreign => "foreign",
            Kind::DoesNotOpen => "does-not-open",
            Kind::DoesNotRecover => "does-not-recover",
            Kind::WrongSize => "wrong-size",
            Kind::BackingChanged => "backing-changed",
            Kind::Inconsistent => "inconsistent",
            Kind::RecoveryNotFinal => "recovery-not-final",
            Kind::WrongStatus => "wrong-status",
            Kind::Died => "died",
            Kind::AcceptedBadImage => "accepted-bad-image",
            Kind::NotExcluded => "not-excluded",
        }
    }
}

/// A violation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Violation {
    /// What kind.
    pub kind: Kind,
    /// The sector, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sector: Option<u64>,
    /// What was found and what was expected, in words.
    pub what: String,
    /// When it was seen.
    pub when: String,
}

impl Violation {
    /// One that is not about a sector.
    pub fn new(kind: Kind, when: &str, what: impl fmt::Display) -> Violation {
        Violation {
            kind,
            sector: None,
            what: what.to_string(),
            when: when.to_string(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.when)?;
        if let Some(sector) = self.sector {
            write!(f, ", sector {sector}")?;
        }
        write!(f, ": {}", self.what)
    }
}
