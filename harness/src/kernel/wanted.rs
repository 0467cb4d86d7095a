//! What is looked for when a finding is tried again on the kernel, or made smaller there: a
//! violation of its cause that its defects explain too. A kernel's scheduling is its own, so that
//! another one may come up instead.

use crate::fuzz::case::Case;
use crate::fuzz::explore::Search;
use crate::fuzz::recorded::Recording;
use crate::fuzz::story::tell_recorded;
use crate::fuzz::violation::{Cause, Violation};
use crate::fuzz::world::{Mending, NotRelived};

use super::finding::{Finding, FindingFile};
use super::naming::{Explained, is_explained};

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    cause: Cause,
    explained: Explained,
    mending: Mending,
    /// What is drawn of the crashes depends on it.
    seed: u64,
}

impl Wanted {
    /// What a finding has shown.
    pub fn of(finding: &Finding) -> Wanted {
        Wanted {
            cause: finding.violation.cause(),
            explained: finding.explained.clone(),
            mending: finding.mending,
            seed: finding.seed,
        }
    }

    /// What the finding in a file has shown.
    ///
    /// # Errors
    /// If the file does not say.
    pub fn of_file(file: &FindingFile) -> Result<Wanted, String> {
        let found = file.case.found.as_ref();
        let found = found.ok_or("case.found: found nothing, expected what was wrong")?;
        Ok(Wanted {
            cause: found.cause(),
            explained: file.explained()?,
            mending: file.mending(),
            seed: 0,
        })
    }

    /// If recordings of a case show it: the case up to the life and the crash that do.
    ///
    /// # Errors
    /// If they are not of the case.
    pub fn search(
        &self,
        case: &Case,
        recordings: &[Recording],
    ) -> Result<Option<(Case, Violation)>, NotRelived> {
        let search = Search {
            wanted: Some(&self.cause),
            ..Search::for_anything(self.seed)
        };
        let found = search.of_recorded(case, recordings, self.mending)?.finding;
        let Some((found, violation)) = found else {
            return Ok(None);
        };
        let (explained, seed) = (&self.explained, self.seed);
        let recordings = recordings.get(..found.lives.len()).unwrap_or(recordings);
        let is_it = is_explained(
            explained,
            &found,
            recordings,
            &violation,
            self.mending,
            seed,
        )?;
        Ok(is_it.then_some((*found, violation)))
    }

    /// What a recorded case shows that crashes as it says, if it is that.
    pub fn exactly(&self, case: &Case, recordings: &[Recording]) -> Option<Violation> {
        let told = tell_recorded(case, recordings, self.mending).ok()?;
        told.violation.filter(|it| it.cause() == self.cause)
    }
}
