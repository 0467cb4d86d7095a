//! What the driver hears of an operation of its host that has failed. Until Linux 6.14 its I/O
//! thread has one `errno` with the kernel's own thread (shared-errno). Where that thread makes a
//! system call between a failure and the look at its number, the number that is found is that
//! call's: another error, or 0, which the driver takes for none, and for nothing done. A recording
//! has what the host has said. So where kernel and model differ, it is tried whether they agree up
//! to a later place if the driver has misheard one of the failures before that.

use std::collections::BTreeMap;

use driver::host::{Action, HostError, HostResult};

use crate::fuzz::case::Case;
use crate::fuzz::recorded::{HostRecord, Recording, Witnessed};
use crate::fuzz::world::NotRelived;

use super::Compared;
use super::answering::{count_done, result_of};
use super::comparing::Comparing;

/// The most failures before a difference that it is tried with.
const NEAR: usize = 8;

/// What the driver hears in place of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// No error, and that nothing was done.
    NoError,
    /// An error that it has no status of its own for.
    OtherError,
}

/// Where in a recording the driver has misheard, and what it has heard.
pub(super) type Misheard = BTreeMap<usize, Heard>;

/// Compares up to the first difference that stays whatever the driver has misheard.
///
/// # Errors
/// If the recording is not of the case.
pub(super) fn compare_as_heard(case: &Case, recording: &Recording) -> Result<Compared, NotRelived> {
    let compare = |misheard: &Misheard| Comparing::new(case, recording, misheard).compare();
    let mut misheard = Misheard::new();
    let (mut compared, mut end) = compare(&misheard)?;
    while let Some(difference) = &compared.difference {
        let tried = candidates(recording, difference.at, &misheard).filter_map(|(at, heard)| {
            let mut misheard = misheard.clone();
            misheard.insert(at, heard);
            // What makes no sense of the recording was not heard.
            let (compared, end) = compare(&misheard).ok()?;
            Some((end, compared, misheard))
        });
        let Some(best) = tried
            .filter(|(further, ..)| *further > end)
            // Of those that go as far, the first.
            .reduce(|best, next| if next.0 > best.0 { next } else { best })
        else {
            break;
        };
        (end, compared, misheard) = best;
    }
    compared.misheard = misheard.len() as u64;
    Ok(compared)
}

/// What the driver may have heard of the last failures up to a place of a recording.
fn candidates(
    recording: &Recording,
    up_to: usize,
    misheard: &Misheard,
) -> impl Iterator<Item = (usize, Heard)> {
    let before = recording.witnessed.iter().enumerate().take(up_to).rev();
    let failed = before.filter(|(at, witnessed)| {
        let has_failed = matches!(witnessed, Witnessed::Host(record) if record.errno.is_some());
        has_failed && !misheard.contains_key(at)
    });
    failed
        .take(NEAR)
        .flat_map(|(at, _)| [(at, Heard::NoError), (at, Heard::OtherError)])
}

impl Comparing<'_> {
    /// What the driver hears of an operation, which is at this place in the recording.
    pub(super) fn answer(
        &self,
        at: usize,
        action: &mut Action,
        record: &HostRecord,
    ) -> HostResult<()> {
        count_done(action, record);
        match self.misheard.get(&at) {
            None => result_of(record),
            Some(Heard::OtherError) => Err(HostError::Io),
            Some(Heard::NoError) => {
                if let Action::ReadOnce { count, .. } | Action::WriteOnce { count, .. } = action {
                    *count = 0;
                }
                Ok(())
            }
        }
    }
}
