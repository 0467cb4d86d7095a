//! Making a finding small by letting the kernel live smaller cases, as long as one shows the same.
//! The recording that is kept is the one of the smallest case.

use crate::fuzz::campaign::StopSign;
use crate::fuzz::case::Case;
use crate::fuzz::recorded::Recording;
use crate::fuzz::shrink::{Trial, shrink_by};
use crate::fuzz::violation::{Kind, Violation};

use super::CannotFuzz;
use super::case::can_be_lived;
use super::finding::Finding;
use super::laboratory::Laboratory;
use super::wanted::Wanted;

/// The most cases that are lived to make one smaller.
const ATTEMPTS: u32 = 120;

/// The most where the kernel dies, hangs or is killed of each that shows it.
const DEADLY_ATTEMPTS: u32 = 6;

/// The smallest finding that shows the same which is found until `stop` says so, or until something
/// keeps the kernel from living cases, which is left in `error`.
pub fn make_smaller(
    finding: Finding,
    laboratory: &mut Laboratory,
    stop: &StopSign,
    error: &mut Option<CannotFuzz>,
) -> Finding {
    let mut trial = OnKernel {
        longest: finding.recordings.first().map_or(1, |first| first.longest),
        wanted: Wanted::of(&finding),
        kind: finding.violation.kind,
        seed: finding.seed,
        best: finding.recordings.clone(),
        laboratory,
        stop,
        failed: error,
    };
    let (case, violation) = shrink_by(&finding.case, &finding.violation, &mut trial);
    Finding {
        case,
        recordings: trial.best,
        violation: violation.without_content(),
        ..finding
    }
}

/// Lets the kernel live candidates.
struct OnKernel<'a> {
    wanted: Wanted,
    kind: Kind,
    seed: u64,
    longest: u64,
    /// What was witnessed of the smallest case so far.
    best: Vec<Recording>,
    laboratory: &'a mut Laboratory,
    stop: &'a StopSign,
    /// What keeps it from going on.
    failed: &'a mut Option<CannotFuzz>,
}

impl OnKernel<'_> {
    fn try_search(&mut self, candidate: &Case) -> Result<Option<(Case, Violation)>, CannotFuzz> {
        let recordings = self.laboratory.live_all(candidate, self.longest)?;
        let mut lived = candidate.clone();
        lived.lives.truncate(recordings.len());
        let found = self.wanted.search(&lived, &recordings);
        let seed = self.seed;
        let found = found.map_err(|error| CannotFuzz::Recording { seed, error })?;
        if let Some((found, _)) = &found {
            self.best = recordings;
            self.best.truncate(found.lives.len());
        }
        Ok(found)
    }
}

impl Trial for OnKernel<'_> {
    fn most(&self) -> u32 {
        match self.kind {
            Kind::Died | Kind::DoesNotEnd | Kind::GuestAstray => DEADLY_ATTEMPTS,
            _ => ATTEMPTS,
        }
    }

    fn is_stopped(&self) -> bool {
        self.failed.is_some() || (self.stop)()
    }

    fn search(&mut self, candidate: &Case) -> Option<(Case, Violation)> {
        if !can_be_lived(candidate) {
            return None;
        }
        match self.try_search(candidate) {
            Ok(found) => found,
            // What was found so far is as small as it gets.
            Err(CannotFuzz::Stopped) => None,
            Err(error) => {
                *self.failed = Some(error);
                None
            }
        }
    }

    /// The same life, with another crash.
    fn exactly(&mut self, candidate: &Case) -> Option<Violation> {
        self.wanted.exactly(candidate, &self.best)
    }
}
