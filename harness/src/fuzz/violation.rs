//! What can be wrong, by name, and a violation: what kind it is, what tells its cause from another,
//! and what there is to say of it.

use std::fmt;

use serde::de::IntoDeserializer;
use serde::de::value::{self, StrDeserializer};
use serde::{Deserialize, Serialize};

use crate::plain_format::Wrong;
use crate::stamp::Content;

use super::signature::{Act, Phase, Promise, Signature, without_numbers};

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
    /// The driver, a resize or a recovery takes more steps than it can need.
    DoesNotEnd,
    /// The host is asked for a file, or for a piece of one, that is larger than can be needed.
    TooLarge,
    /// A read brought fewer or more bytes than it was asked for.
    WrongLength,
    /// A completion never came, came twice, or is not that of a request that was submitted.
    WrongCompletion,
    /// The guest of a running kernel says what it cannot have to say.
    GuestAstray,
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
            Kind::DoesNotEnd => "does-not-end",
            Kind::TooLarge => "too-large",
            Kind::WrongLength => "wrong-length",
            Kind::WrongCompletion => "wrong-completion",
            Kind::GuestAstray => "guest-astray",
        }
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Kind> {
        let name: StrDeserializer<'_, value::Error> = name.into_deserializer();
        Kind::deserialize(name).ok()
    }

    /// The promise that such a violation breaks, where nobody says more.
    fn promise(self) -> Promise {
        match self {
            Kind::LostWrite | Kind::Zeros | Kind::Misplaced | Kind::Foreign => {
                Promise::FlushedContentSurvives
            }
            Kind::StaleRead | Kind::WrongLength => Promise::ReadsShowTheLatest,
            Kind::DoesNotOpen => Promise::GoodImagesOpen,
            Kind::DoesNotRecover | Kind::RecoveryNotFinal => Promise::RecoveryFinishes,
            Kind::WrongSize => Promise::SizeIsOldOrNew,
            Kind::BackingChanged => Promise::BackingFileIsNotWritten,
            Kind::Inconsistent => Promise::FilesFollowTheFormat,
            Kind::WrongStatus => Promise::HealthyHostNoError,
            Kind::Died | Kind::DoesNotEnd | Kind::WrongCompletion | Kind::GuestAstray => {
                Promise::WorkComesToAnEnd
            }
            Kind::TooLarge => Promise::HostIsAskedForLittle,
            Kind::AcceptedBadImage => Promise::BadImagesAreRefused,
            Kind::NotExcluded => Promise::OneUserAtATime,
        }
    }
}

/// A violation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written")]
pub struct Violation {
    /// What kind.
    pub kind: Kind,
    /// What tells it from others of its kind.
    pub signature: Signature,
    /// The sector, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sector: Option<u64>,
    /// What was found and what was expected, in words.
    pub what: String,
    /// When it was seen.
    pub when: String,
    /// What the sector showed and what it might have shown, where that is what is wrong. It is
    /// not kept in files: running the case again brings it back.
    #[serde(skip)]
    pub shown: Option<Box<Shown>>,
}

/// What a sector showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// What was found.
    pub found: Content,
    /// What was expected, any of these, the newest last. Parts of writes are not among them.
    pub allowed: Vec<Content>,
}

/// A violation as it stands in a file. Older ones have no signature.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    kind: Kind,
    #[serde(default)]
    signature: Option<Signature>,
    #[serde(default)]
    sector: Option<u64>,
    what: String,
    when: String,
}

impl From<Written> for Violation {
    fn from(written: Written) -> Violation {
        let violation = Violation::new(written.kind, &written.when, written.what);
        Violation {
            signature: written.signature.unwrap_or(violation.signature),
            sector: written.sector,
            ..violation
        }
    }
}

/// What two violations of one cause have in common: campaigns keep one finding for each, and a
/// case that is made smaller has to keep it.
pub type Cause = (Kind, Signature);

impl Violation {
    /// A violation of no sector and no operation, seen while a request was served.
    pub fn new(kind: Kind, when: &str, what: impl fmt::Display) -> Violation {
        Violation {
            kind,
            signature: Signature {
                promise: kind.promise(),
                phase: Phase::Request,
                operation: None,
                error: None,
            },
            sector: None,
            what: what.to_string(),
            when: when.to_string(),
            shown: None,
        }
    }

    /// What it has in common with all of its cause.
    pub fn cause(&self) -> Cause {
        (self.kind, self.signature.clone())
    }

    /// It is about this sector.
    pub fn of_sector(self, sector: u64) -> Violation {
        Violation {
            sector: Some(sector),
            ..self
        }
    }

    /// Its sector showed this.
    pub fn showing(self, shown: Shown) -> Violation {
        Violation {
            shown: Some(Box::new(shown)),
            ..self
        }
    }

    /// As a file has it.
    pub fn without_content(self) -> Violation {
        Violation {
            shown: None,
            ..self
        }
    }

    /// It breaks this promise.
    pub fn breaking(mut self, promise: Promise) -> Violation {
        self.signature.promise = promise;
        self
    }

    /// It was seen by who opens the device, after a crash or with none before: without one, what
    /// was to be seen is the last content that was written.
    pub(super) fn promised(self, has_crashed: bool) -> Violation {
        match self.signature.promise {
            Promise::FlushedContentSurvives if !has_crashed => {
                self.breaking(Promise::ReadsShowTheLatest)
            }
            _ => self,
        }
    }

    /// It was seen, or the crash came, in this phase.
    pub fn in_phase(mut self, phase: Phase) -> Violation {
        self.signature.phase = phase;
        self
    }

    /// For `map_err`: a file is not as it has to be.
    pub(super) fn of_file(kind: Kind, when: &str, by: Act) -> impl FnOnce(Wrong) -> Violation {
        move |wrong| {
            let violation = Violation::new(kind, when, &wrong);
            violation.by(by).with_error(wrong.what)
        }
    }

    /// This went wrong or showed it.
    pub fn by(mut self, act: Act) -> Violation {
        self.signature.operation = Some(act);
        self
    }

    /// It is about this error.
    pub fn with_error(mut self, error: impl fmt::Display) -> Violation {
        self.signature.error = Some(without_numbers(&error.to_string()));
        self
    }

    /// It was seen then.
    pub fn seen(mut self, when: &str) -> Violation {
        self.when = when.to_string();
        self
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_is_named_in_the_promise_only_after_one() {
        let wrong = Violation::new(Kind::Misplaced, "after opening", "w");
        assert_eq!(wrong.signature.promise, Promise::FlushedContentSurvives);
        assert_eq!(wrong.clone().promised(true), wrong);
        let before = wrong.promised(false);
        assert_eq!(before.signature.promise, Promise::ReadsShowTheLatest);
        // What is about something else stays so.
        let size = Violation::new(Kind::WrongSize, "after opening", "w");
        assert_eq!(size.clone().promised(false), size);
    }

    #[test]
    fn a_finding_from_before_there_were_signatures_is_read() {
        let old = r#"{"kind": "wrong-status", "sector": 3, "what": "w", "when": "t"}"#;
        let old: Violation = serde_json::from_str(old).unwrap();
        assert_eq!(
            old,
            Violation::new(Kind::WrongStatus, "t", "w").of_sector(3)
        );
        let new = old.by(Act::Flush).with_error("I/O error 5");
        let text = serde_json::to_string(&new).unwrap();
        assert_eq!(serde_json::from_str::<Violation>(&text).unwrap(), new);
    }
}
