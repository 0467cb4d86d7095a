//! Making a finding small by letting the kernel live smaller cases, as long as one shows the same.
//! The kernel's scheduling is its own. So that what is kept does not show once and then hardly ever
//! again, a smaller case has to show it each time that it is lived. The recording that is kept is
//! the first one of the smallest case.

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

/// The most cases that are tried to make one smaller.
const ATTEMPTS: u32 = 120;

/// How often a smaller case is lived. Each time it has to show the same.
const TIMES: u32 = 2;

/// The most where the kernel dies, hangs or is killed of each that shows it.
const DEADLY_ATTEMPTS: u32 = 6;

/// Who lets a kernel live cases.
trait LivesCases {
    /// See [`Laboratory::live_all`].
    fn live_all(&mut self, case: &Case, longest: u64) -> Result<Vec<Recording>, CannotFuzz>;
}

impl LivesCases for Laboratory {
    fn live_all(&mut self, case: &Case, longest: u64) -> Result<Vec<Recording>, CannotFuzz> {
        Laboratory::live_all(self, case, longest)
    }
}

/// The smallest finding that shows the same which is found until `stop` says so, or until something
/// keeps the kernel from living cases, which is left in `error`.
pub fn make_smaller(
    finding: Finding,
    laboratory: &mut Laboratory,
    stop: &StopSign,
    error: &mut Option<CannotFuzz>,
) -> Finding {
    make_smaller_in(finding, laboratory, stop, error)
}

fn make_smaller_in(
    finding: Finding,
    laboratory: &mut dyn LivesCases,
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

/// A case that shows what is wanted, and the recordings of its lives.
type Shown = ((Case, Violation), Vec<Recording>);

/// Lets the kernel live candidates.
struct OnKernel<'a> {
    wanted: Wanted,
    kind: Kind,
    seed: u64,
    longest: u64,
    /// What was witnessed of the smallest case so far.
    best: Vec<Recording>,
    laboratory: &'a mut dyn LivesCases,
    stop: &'a StopSign,
    /// What keeps it from going on.
    failed: &'a mut Option<CannotFuzz>,
}

impl OnKernel<'_> {
    fn try_search(&mut self, candidate: &Case) -> Result<Option<(Case, Violation)>, CannotFuzz> {
        let Some((found, recordings)) = self.try_once(candidate)? else {
            return Ok(None);
        };
        for _ in 1..TIMES {
            if self.try_once(candidate)?.is_none() {
                return Ok(None);
            }
        }
        self.best = recordings;
        self.best.truncate(found.0.lives.len());
        Ok(Some(found))
    }

    /// Has a case lived. If it shows what is wanted: with the end that does, and what was recorded.
    fn try_once(&mut self, candidate: &Case) -> Result<Option<Shown>, CannotFuzz> {
        let recordings = self.laboratory.live_all(candidate, self.longest)?;
        let mut lived = candidate.clone();
        lived.lives.truncate(recordings.len());
        let found = self.wanted.search(&lived, &recordings);
        let seed = self.seed;
        let found = found.map_err(|error| CannotFuzz::Recording { seed, error })?;
        Ok(found.map(|found| (found, recordings)))
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

    /// Judges another crash of the smallest case's life.
    fn exactly(&mut self, candidate: &Case) -> Option<Violation> {
        self.wanted.exactly(candidate, &self.best)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::fuzz::case::{BackingFile, Image, ImageVersion, Stimulus};
    use crate::fuzz::explore::Search;
    use crate::fuzz::recorded::Ending;
    use crate::fuzz::world::Mending;
    use crate::kernel::case::case_of;
    use crate::kernel::naming::Explained;
    use crate::sim::Assumptions;

    use super::*;

    fn is_discard(action: &Stimulus) -> bool {
        matches!(action, Stimulus::Discard { .. })
    }

    /// A kernel whose guest goes astray in each case that has a discard. In one that has nothing
    /// else it does so every other time.
    struct Double {
        /// How often it has lived such a one.
        alone: u32,
    }

    impl LivesCases for Double {
        fn live_all(&mut self, case: &Case, longest: u64) -> Result<Vec<Recording>, CannotFuzz> {
            let actions = &case.lives[0].actions;
            let goes_astray = match &actions[..] {
                [only] if is_discard(only) => {
                    self.alone += 1;
                    self.alone % 2 == 1
                }
                all => all.iter().any(is_discard),
            };
            let why = format!("with {} actions", actions.len());
            Ok(vec![recording(goes_astray, why, longest)])
        }
    }

    fn recording(goes_astray: bool, console: String, longest: u64) -> Recording {
        Recording {
            kernel: "a test's".into(),
            longest,
            witnessed: Vec::new(),
            ending: match goes_astray {
                true => Ending::Astray {
                    why: "found this".into(),
                    console,
                },
                false => Ending::Whole,
            },
        }
    }

    #[test]
    fn a_smaller_case_that_shows_it_now_and_then_is_not_kept() {
        let mut case = case_of(1, false, Assumptions::default());
        case.image = Image::sound(128, ImageVersion::V3, 4096);
        case.lives[0].backing = BackingFile::AsItWas;
        let discard = Stimulus::Discard { start: 8, count: 8 };
        case.lives[0].actions = vec![Stimulus::Flush, discard, Stimulus::Drain];
        let recordings = vec![recording(true, "with 3 actions".into(), 8)];
        let mending = Mending::default();
        let explored = Search::for_anything(1).of_recorded(&case, &recordings, mending);
        let (case, violation) = explored.unwrap().finding.expect("it shows");
        let finding = Finding {
            seed: 1,
            case: *case,
            recordings,
            mending,
            explained: Explained::Unknown,
            violation,
        };
        let mut double = Double { alone: 0 };
        let stop: StopSign = Arc::new(|| false);
        let mut error = None;
        let small = make_smaller_in(finding, &mut double, &stop, &mut error);
        assert!(error.is_none());
        assert!(double.alone >= 2, "the discard alone was tried");
        assert_eq!(small.case.lives[0].actions.len(), 2);
        assert!(small.case.lives[0].actions.iter().any(is_discard));
        let last = small.recordings.last().map(|it| &it.ending);
        let expected = recording(true, "with 2 actions".into(), 8).ending;
        assert_eq!(last, Some(&expected));
    }
}
