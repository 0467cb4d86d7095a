//! What was arranged for a case or a life, in words: faults, a changed backing file, a damaged
//! header, and what of an operation a power cut left.

use driver::{exact_count, plural};
use std::fmt::{self, Display};

use crate::fuzz::case::{BackingFile, ImageVersion, Life, Patch};
use crate::sim::{Fault, FaultRule, FileMatch, NameChange, Occurrence, Survival};

/// What has become of the backing file before a life, if anything has.
pub(super) fn backing(backing: BackingFile) -> Option<String> {
    match backing {
        BackingFile::AsItWas => None,
        BackingFile::Modified { seconds } => Some(format!(
            "the backing file was written to, and its time changed by {seconds} {}",
            plural(seconds.unsigned_abs(), "second")
        )),
        BackingFile::Switched => Some(
            "the device is opened with another backing file of the same size, time and content"
                .into(),
        ),
    }
}

/// How the device of a life is opened, where that is not as usual.
pub(super) fn flags(life: &Life) -> impl Iterator<Item = String> {
    let synchronous = life
        .synchronous
        .then(|| "the device is opened with flag s: what is acknowledged is durable".to_string());
    let pending = life.pending_words.map(|words| {
        let words = Count(words, "word");
        format!("at most {words} of the bitmap may wait to be written")
    });
    let order = life.side_by_side.map(|_| {
        "operations of the device go side by side: each takes effect at some moment, and ends at \
         another"
            .to_string()
    });
    let pieces = life
        .at_once
        .map(|len| format!("a resize reads and writes {} at once", Count(len, "byte")));
    let usual = synchronous.into_iter().chain(pending);
    usual.chain(order).chain(pieces)
}

/// The version of a header.
pub(super) fn version(version: ImageVersion) -> &'static str {
    match version {
        ImageVersion::V1 => "V1",
        ImageVersion::V2 => "V2",
        ImageVersion::V3 => "V3",
        ImageVersion::V3Wide => "V3 as 64-bit hosts wrote it",
    }
}

/// What a field of the header was set to.
pub(super) fn patch(patch: Patch) -> String {
    match patch {
        Patch::SectorSize(size) => format!(
            "its header says sectors of {}",
            exact_count(size.into(), "byte")
        ),
        Patch::Alignment(alignment) => format!("its header says an alignment of {alignment}"),
    }
}

/// A planned fault: `the 3rd write of /disk/cow fails with an I/O error and has no effect`.
pub(super) struct PlannedFault<'a>(pub(super) &'a FaultRule);

impl Display for PlannedFault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FaultRule {
            file,
            kind,
            bytes,
            occurrence,
            fault,
        } = self.0;
        let number = match occurrence {
            Occurrence::Nth(number) => {
                write!(f, "the {} ", Ordinal(number.saturating_add(1)))?;
                None
            }
            Occurrence::From(number) => {
                f.write_str("every ")?;
                Some(number.saturating_add(1))
            }
        };
        match kind {
            Some(kind) => write!(f, "{kind}")?,
            None => f.write_str("operation of the host")?,
        }
        match file {
            FileMatch::Any => {}
            FileMatch::Path(path) => write!(f, " of {}", path.display())?,
            FileMatch::Suffix(end) => write!(f, " of a file whose path ends in \"{end}\"")?,
        }
        if let Some((from, to)) = bytes {
            write!(f, " that touches bytes {from} to {}", to.saturating_sub(1))?;
        }
        match number {
            Some(0 | 1) | None => {}
            Some(number) => write!(f, ", from the {} on,", Ordinal(number))?,
        }
        match fault {
            Fault::Io => f.write_str(" fails with an I/O error and has no effect"),
            Fault::NoSpace => f.write_str(" fails for want of space and has no effect"),
            Fault::Unsupported => f.write_str(" is not supported by the host"),
            Fault::ShortRead(most) => write!(f, " brings at most {}", Count(*most, "byte")),
            Fault::ShortWrite(most) => write!(f, " writes at most {}", Count(*most, "byte")),
            Fault::InPart(most) => write!(
                f,
                " changes at most {} and fails with an I/O error",
                Count(*most, "byte")
            ),
            Fault::IoAfter => f.write_str(" takes effect and reports an I/O error"),
            Fault::FailedSync => f.write_str(
                " fails with an I/O error, and no later one makes durable what it should have",
            ),
            Fault::FailedSyncForSpace => f.write_str(
                " fails for want of space, and no later one makes durable what it should have",
            ),
            Fault::LyingSync => f.write_str(" reports success and makes nothing durable"),
        }
    }
}

/// What became of an operation that begins at byte `start` of its file. A power cut tears it
/// between atoms of `unit` bytes.
pub(super) fn fate(survival: Option<&Survival>, start: u64, unit: u64) -> String {
    match survival {
        None | Some(Survival::Lost) => "lost".into(),
        Some(Survival::Whole) => "reached the disk".into(),
        Some(Survival::Torn(runs)) if runs.is_empty() => {
            "the length reached the disk, the content did not".into()
        }
        Some(Survival::Torn(runs)) => {
            let begin = start / unit * unit;
            let place = |atom: u64| begin.saturating_add(atom.saturating_mul(unit));
            let run = |&(from, to): &(u64, u64)| {
                format!(
                    "{} to {}",
                    place(from).max(start),
                    place(to).saturating_sub(1)
                )
            };
            let runs: Vec<String> = runs.iter().map(run).collect();
            format!("torn: only bytes {} reached the disk", runs.join(", "))
        }
    }
}

/// A change of a name.
pub(super) fn name_change(change: &NameChange) -> String {
    match change {
        NameChange::Create { path, .. } => format!("create {}", path.display()),
        NameChange::Rename { from, to, .. } => {
            format!("rename {} to {}", from.display(), to.display())
        }
        NameChange::Remove { path, .. } => format!("remove {}", path.display()),
    }
}

/// `1st`, `2nd`, `11th`.
struct Ordinal(u64);

impl Display for Ordinal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ending = match (self.0 % 100, self.0 % 10) {
            (11..=13, _) => "th",
            (_, 1) => "st",
            (_, 2) => "nd",
            (_, 3) => "rd",
            _ => "th",
        };
        write!(f, "{}{ending}", self.0)
    }
}

/// `1 byte`, `2 bytes`.
struct Count(u64, &'static str);

impl Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ending = if self.0 == 1 { "" } else { "s" };
        write!(f, "{} {}{ending}", self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use driver::host::OperationKind;

    use super::*;

    #[test]
    fn each_fault_is_told_in_words() {
        let rule = |occurrence, fault| FaultRule {
            file: FileMatch::Path("/disk/cow".into()),
            kind: Some(OperationKind::Write),
            bytes: None,
            occurrence,
            fault,
        };
        let words = |rule: FaultRule| PlannedFault(&rule).to_string();
        assert_eq!(
            words(rule(Occurrence::Nth(2), Fault::NoSpace)),
            "the 3rd write of /disk/cow fails for want of space and has no effect"
        );
        assert_eq!(
            words(rule(Occurrence::From(0), Fault::ShortWrite(1))),
            "every write of /disk/cow writes at most 1 byte"
        );
        assert_eq!(
            words(rule(Occurrence::From(10), Fault::Io)),
            "every write of /disk/cow, from the 11th on, fails with an I/O error and has no effect"
        );
        assert_eq!(
            words(FaultRule {
                file: FileMatch::Suffix(".cow".into()),
                kind: Some(OperationKind::SyncData),
                bytes: Some((4096, 8192)),
                ..rule(Occurrence::Nth(0), Fault::FailedSync)
            }),
            "the 1st sync data of a file whose path ends in \".cow\" that touches bytes 4096 to \
             8191 fails with an I/O error, and no later one makes durable what it should have"
        );
        assert_eq!(
            words(FaultRule::at_operation(21, Fault::LyingSync)),
            "the 22nd operation of the host reports success and makes nothing durable"
        );
        assert_eq!(
            words(FaultRule::at_operation(111, Fault::ShortRead(512))),
            "the 112th operation of the host brings at most 512 bytes"
        );
    }

    #[test]
    fn a_torn_operation_is_told_in_bytes() {
        let torn = |runs: &[(u64, u64)]| fate(Some(&Survival::Torn(runs.to_vec())), 4128, 512);
        assert_eq!(
            torn(&[(0, 1), (3, 5)]),
            "torn: only bytes 4128 to 4607, 5632 to 6655 reached the disk"
        );
        assert_eq!(
            torn(&[]),
            "the length reached the disk, the content did not"
        );
    }
}
