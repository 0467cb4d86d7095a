//! Making a finding small: requests, sizes, schedule, faults and the crash image are taken
//! away or simplified as long as a violation of the same cause shows, until nothing can be taken
//! away any more. A candidate may crash elsewhere than the case did: wherever in its last
//! life the violation shows first.

use crate::sim::Survivors;

use super::case::{BackingFile, Case, End, ImageVersion, KernelSetup, ResizeStrategy, Stimulus};
use super::exactly::{NotRight, run_exactly};
use super::explore::Search;
use super::parts::Until;
use super::thrift::Thrift;
use super::violation::{Cause, Kind, Violation};

/// The most candidates that are run.
const ATTEMPTS: u32 = 6000;

/// The most where work does not end: there each candidate that shows it takes its whole budget.
const ENDLESS_ATTEMPTS: u32 = 300;

/// Who runs candidates.
pub trait Trial {
    /// The most candidates that are run.
    fn most(&self) -> u32;

    /// Whether no more are to be run, whatever else is left to try.
    fn is_stopped(&self) -> bool;

    /// Runs a candidate, and searches its crashes: if it shows the violation, with the end that
    /// shows it.
    fn search(&mut self, candidate: &Case) -> Option<(Case, Violation)>;

    /// Runs a candidate with the end that it has.
    fn exactly(&mut self, candidate: &Case) -> Option<Violation>;
}

/// A smaller case that shows a violation of the same cause.
pub fn shrink(case: &Case, violation: &Violation, seed: u64) -> (Case, Violation) {
    shrink_until(case, violation, seed, &|| false)
}

/// The smallest such case that is found until `stop` says so.
pub fn shrink_until(
    case: &Case,
    violation: &Violation,
    seed: u64,
    stop: &dyn Fn() -> bool,
) -> (Case, Violation) {
    shrink_by(case, violation, &mut InHere::of(violation, seed, stop))
}

/// The smallest case that a trial finds to show it.
pub fn shrink_by(case: &Case, violation: &Violation, trial: &mut dyn Trial) -> (Case, Violation) {
    let mut shrinker = Shrinker::of(case, violation, trial);
    loop {
        let before = shrinker.best.clone();
        shrinker.lives();
        shrinker.faults();
        shrinker.actions();
        shrinker.simpler_actions();
        shrinker.image();
        shrinker.end();
        shrinker.defects();
        if shrinker.best == before || shrinker.is_over() {
            break;
        }
    }
    let mut best = shrinker.best;
    best.found = Some(shrinker.violation.clone());
    (best, shrinker.violation)
}

/// The case with only those defects that its violation needs, and the violation as it shows then:
/// of those that are left, each one left out alone would make it vanish. One that is left alone is
/// taken to be needed if nothing shows without it at the very crash of the case. What `stop` cuts
/// short has some more.
pub(super) fn with_needed_defects(
    case: &Case,
    violation: &Violation,
    seed: u64,
    stop: &dyn Fn() -> bool,
) -> (Case, Violation) {
    let mut trial = InHere::of(violation, seed, stop);
    let mut shrinker = Shrinker::of(case, violation, &mut trial);
    shrinker.defects_exactly();
    if shrinker.best.defects.len() > 1 {
        shrinker.defects();
    }
    (shrinker.best, shrinker.violation)
}

/// Runs them in this program.
struct InHere<'a> {
    cause: Cause,
    seed: u64,
    stop: &'a dyn Fn() -> bool,
}

impl<'a> InHere<'a> {
    fn of(violation: &Violation, seed: u64, stop: &'a dyn Fn() -> bool) -> InHere<'a> {
        InHere {
            cause: violation.cause(),
            seed,
            stop,
        }
    }
}

impl Trial for InHere<'_> {
    fn most(&self) -> u32 {
        match self.cause.0 {
            Kind::DoesNotEnd => ENDLESS_ATTEMPTS,
            _ => ATTEMPTS,
        }
    }

    fn is_stopped(&self) -> bool {
        (self.stop)()
    }

    fn search(&mut self, candidate: &Case) -> Option<(Case, Violation)> {
        if let Some(violation) = self.exactly(candidate) {
            return Some((candidate.clone(), violation));
        }
        let search = Search {
            seed: self.seed,
            wanted: Some(&self.cause),
            thrift: Thrift::new(false),
        };
        // One that does not fit is no case, whatever it would show.
        let watch = &mut Until(self.stop);
        search.of_watched(candidate, watch).ok().flatten()
    }

    fn exactly(&mut self, candidate: &Case) -> Option<Violation> {
        match run_exactly(candidate) {
            Err(NotRight::Violated(violation)) if violation.cause() == self.cause => {
                Some(violation)
            }
            _ => None,
        }
    }
}

struct Shrinker<'a> {
    trial: &'a mut dyn Trial,
    attempts: u32,
    best: Case,
    violation: Violation,
}

impl<'a> Shrinker<'a> {
    fn of(case: &Case, violation: &Violation, trial: &'a mut dyn Trial) -> Shrinker<'a> {
        Shrinker {
            trial,
            attempts: 0,
            best: case.clone(),
            violation: violation.clone(),
        }
    }
}

impl Shrinker<'_> {
    fn is_over(&self) -> bool {
        self.attempts >= self.trial.most() || self.trial.is_stopped()
    }

    /// Takes the candidate over if it shows the violation.
    fn attempt(&mut self, candidate: Case) -> bool {
        if candidate == self.best || self.is_over() {
            return false;
        }
        self.attempts += 1;
        let mut candidate = candidate;
        candidate.found = None;
        let Some((case, violation)) = self.trial.search(&candidate) else {
            return false;
        };
        (self.best, self.violation) = (case, violation);
        true
    }

    /// Takes the candidate over if it shows the violation when it is run exactly, with the end that
    /// it has.
    fn attempt_exactly(&mut self, candidate: Case) -> bool {
        if candidate == self.best || self.is_over() {
            return false;
        }
        self.attempts += 1;
        match self.trial.exactly(&candidate) {
            Some(violation) => {
                (self.best, self.violation) = (candidate, violation);
                true
            }
            None => false,
        }
    }

    fn changed(&self, change: impl FnOnce(&mut Case)) -> Case {
        let mut case = self.best.clone();
        change(&mut case);
        case
    }

    fn lives(&mut self) {
        // A later life alone may do; so may the first.
        let mut keep = self.best.lives.len();
        while keep > 1 {
            keep -= 1;
            let first = self.changed(|case| case.lives.truncate(keep));
            if !self.attempt(first) {
                break;
            }
        }
        let mut at = 0;
        while self.best.lives.len() > 1 && at < self.best.lives.len() {
            let without = self.changed(|case| drop(case.lives.remove(at)));
            if !self.attempt(without) {
                at += 1;
            }
        }
    }

    fn faults(&mut self) {
        for life in 0..self.best.lives.len() {
            let mut at = 0;
            while at < self.best.lives[life].faults.len() {
                let without = self.changed(|case| drop(case.lives[life].faults.remove(at)));
                if !self.attempt(without) {
                    at += 1;
                }
            }
            let mut at = 0;
            while at < self.best.lives[life].resize_faults.len() {
                let without = self.changed(|case| {
                    case.lives[life].resize_faults.remove(at);
                });
                if !self.attempt(without) {
                    at += 1;
                }
            }
        }
    }

    /// Switches defects off until each that is left is needed. Without one of them the crash may
    /// have to come at another moment, and what kept another one on may be gone.
    fn defects(&mut self) {
        // Mostly one is to blame.
        for only in self.best.defects.clone() {
            let alone = self.changed(|case| case.defects.retain(|defect| *defect == only));
            if self.attempt(alone) {
                return;
            }
        }
        loop {
            let before = self.best.defects.len();
            for defect in self.best.defects.clone() {
                let without = self.changed(|case| case.defects.retain(|other| *other != defect));
                self.attempt(without);
            }
            if self.best.defects.len() == before {
                return;
            }
        }
    }

    /// Switches off the defects without which the very crash of the case shows the violation as
    /// well, many at once first. That is cheap, and most often leaves one: a crash is named by the
    /// action that it comes in, and most defects move nothing in that.
    fn defects_exactly(&mut self) {
        let mut len = self.best.defects.len().div_ceil(2);
        while len > 0 {
            let mut at = 0;
            while at < self.best.defects.len() {
                let end = (at + len).min(self.best.defects.len());
                let without = self.changed(|case| drop(case.defects.drain(at..end)));
                if !self.attempt_exactly(without) {
                    at += len;
                }
            }
            len /= 2;
        }
    }

    /// Takes out runs of actions, long ones first.
    fn actions(&mut self) {
        for life in 0..self.best.lives.len() {
            let mut len = self.best.lives[life].actions.len().next_power_of_two();
            while len > 0 {
                let mut at = 0;
                while at < self.best.lives[life].actions.len() {
                    let end = (at + len).min(self.best.lives[life].actions.len());
                    let without = self.changed(|case| case.lives[life].remove_actions(at..end));
                    if !self.attempt(without) {
                        at += len;
                    }
                }
                len /= 2;
            }
        }
    }

    fn simpler_actions(&mut self) {
        for life in 0..self.best.lives.len() {
            let mut at = 0;
            while at < self.best.lives[life].actions.len() {
                let mut progress = true;
                while progress {
                    progress = false;
                    for simpler in simpler(self.best.lives[life].actions[at]) {
                        let candidate = self.changed(|case| case.lives[life].actions[at] = simpler);
                        if self.attempt(candidate) {
                            progress = true;
                            break;
                        }
                    }
                }
                at += 1;
            }
        }
    }

    fn image(&mut self) {
        let mut at = 0;
        while at < self.best.image.dirty.len() {
            let without = self.changed(|case| {
                case.image.dirty.remove(at);
            });
            if self.attempt(without) {
                continue;
            }
            let short = self.changed(|case| case.image.dirty[at].1 = 1);
            self.attempt(short);
            at += 1;
        }
        for life in 0..self.best.lives.len() {
            let same = self.changed(|case| case.lives[life].backing = BackingFile::AsItWas);
            self.attempt(same);
        }
        for life in 0..self.best.lives.len() {
            let without = self.changed(|case| case.lives[life].tool = None);
            self.attempt(without);
            let usual = self.changed(|case| case.lives[life].half_merged = false);
            self.attempt(usual);
            let plain = self.changed(|case| case.lives[life].synchronous = false);
            self.attempt(plain);
            let usual = self.changed(|case| case.lives[life].pending_words = None);
            self.attempt(usual);
            let one_by_one = self.changed(|case| {
                case.lives[life].side_by_side = None;
                case.lives[life].order = None;
            });
            self.attempt(one_by_one);
            let whole = self.changed(|case| case.lives[life].segments_of = None);
            self.attempt(whole);
            let considerate = self.changed(|case| case.lives[life].keeps_asking = false);
            self.attempt(considerate);
            let usual = self.changed(|case| case.lives[life].at_once = None);
            self.attempt(usual);
        }
        let whole = self.changed(|case| case.image.partial = 0);
        self.attempt(whole);
        let usual = self.changed(|case| {
            case.assumptions.shares_extents = false;
            case.assumptions.no_zero_range = false;
        });
        self.attempt(usual);
        let there = self.changed(|case| case.image.missing = false);
        self.attempt(there);
        let whole = self.changed(|case| case.image.bitmap_cut = None);
        self.attempt(whole);
        let whole = self.changed(|case| case.image.data_cut = None);
        self.attempt(whole);
        let long = self.changed(|case| case.image.ends_with_data = false);
        self.attempt(long);
        let right = self.changed(|case| case.image.patched = None);
        self.attempt(right);
        let usual = self.changed(|case| case.kernel = KernelSetup::default());
        self.attempt(usual);
        let once = self.changed(|case| case.retries = false);
        self.attempt(once);
        let plain = self.changed(|case| case.image.version = ImageVersion::V3);
        self.attempt(plain);
        let usual = self.changed(|case| case.image.alignment = 4096);
        self.attempt(usual);
        for sectors in [8, 16, 32, 64, 128, 256, 1024, 1856] {
            let smaller = self.changed(|case| case.image.sectors = sectors);
            if sectors < self.best.image.sectors && self.attempt(smaller) {
                break;
            }
        }
    }

    /// The simplest crash that shows it: none, a kill, or a power cut with as few operations
    /// as can be that fared otherwise than the rest.
    fn end(&mut self) {
        let life = self.best.lives.len() - 1;
        let none = self.changed(|case| case.lives[life].end = End::Close);
        if self.attempt_exactly(none) {
            return;
        }
        let (position, change, survivors) = match self.best.lives[life].end.clone() {
            End::Close | End::Kill { pages: 0, .. } => return,
            End::Kill {
                position, change, ..
            } => (position, change, Survivors::default()),
            End::PowerCut {
                position,
                change,
                survivors,
            } => (position, change, survivors),
        };
        let kill = self.changed(|case| {
            case.lives[life].end = End::Kill {
                position,
                change,
                pages: 0,
            };
        });
        if self.attempt_exactly(kill) {
            return;
        }
        for (&inode, decisions) in &survivors.files {
            for place in 0..decisions.len() {
                for simple in [crate::sim::Survival::Whole, crate::sim::Survival::Lost] {
                    let simpler = self.changed(|case| {
                        if let End::PowerCut { survivors, .. } = &mut case.lives[life].end
                            && let Some(decisions) = survivors.files.get_mut(&inode)
                            && decisions[place] != crate::sim::Survival::Whole
                        {
                            decisions[place] = simple.clone();
                        }
                    });
                    if self.attempt_exactly(simpler) {
                        break;
                    }
                }
            }
        }
    }
}

/// Simpler actions in place of this one, simplest first.
fn simpler(action: Stimulus) -> Vec<Stimulus> {
    let shorter = |count: u64| {
        [1, count / 2]
            .into_iter()
            .filter(move |c| *c > 0 && *c < count)
    };
    let lower = |start: u64| {
        [0, start / 2, start / 8 * 8]
            .into_iter()
            .filter(move |s| *s < start)
    };
    match action {
        Stimulus::Read { start, count } => {
            let shorter = shorter(count).map(|count| Stimulus::Read { start, count });
            let lower = lower(start).map(|start| Stimulus::Read { start, count });
            shorter.chain(lower).collect()
        }
        Stimulus::Write { start, count, fua } => {
            let plain = fua.then_some(Stimulus::Write {
                start,
                count,
                fua: false,
            });
            let shorter = shorter(count).map(|count| Stimulus::Write { start, count, fua });
            let lower = lower(start).map(|start| Stimulus::Write { start, count, fua });
            plain.into_iter().chain(shorter).chain(lower).collect()
        }
        Stimulus::Discard { start, count } => {
            let shorter = shorter(count).map(|count| Stimulus::Discard { start, count });
            let lower = lower(start).map(|start| Stimulus::Discard { start, count });
            shorter.chain(lower).collect()
        }
        Stimulus::WriteZeroes { start, count } => {
            let shorter = shorter(count).map(|count| Stimulus::WriteZeroes { start, count });
            let lower = lower(start).map(|start| Stimulus::WriteZeroes { start, count });
            shorter.chain(lower).collect()
        }
        Stimulus::Flush | Stimulus::Step | Stimulus::OpenAgain => Vec::new(),
        Stimulus::Drain => vec![Stimulus::Step],
        Stimulus::Resize {
            sectors,
            strategy,
            window,
            alignment,
            odd,
        } => {
            let with = |sectors, strategy, window| Stimulus::Resize {
                sectors,
                strategy,
                window,
                alignment,
                odd,
            };
            simpler_resizes(sectors, strategy, window)
                .map(|(sectors, strategy, window)| with(sectors, strategy, window))
                .collect()
        }
        Stimulus::StepResize => Vec::new(),
        Stimulus::FinishResize => vec![Stimulus::StepResize],
    }
}

/// Simpler sizes, strategies and windows than those of a resize, simplest first.
fn simpler_resizes(
    sectors: u64,
    strategy: ResizeStrategy,
    window: u64,
) -> impl Iterator<Item = (u64, ResizeStrategy, u64)> {
    /// Of a window that all of a small device fits into.
    const WIDE: u64 = 1000;
    let is_wide = window == WIDE;
    let wide = (!is_wide).then_some((sectors, strategy, WIDE));
    let smaller = [
        sectors / 2,
        sectors.saturating_sub(8),
        sectors.saturating_sub(1),
    ];
    let smaller = smaller.into_iter().filter(|&fewer| fewer > 0);
    let smaller = smaller.map(move |fewer| (fewer, strategy, window));
    let headroom = (strategy == ResizeStrategy::Auto && !is_wide).then_some((
        sectors,
        ResizeStrategy::Headroom,
        window,
    ));
    wide.into_iter().chain(smaller).chain(headroom)
}
