//! Which of the known defects a finding shows. Nothing in a kernel can be switched off. So its
//! recording is mended instead: with the sync that a flush should have been, with the one that
//! should have come before a word of the bitmap, or without what reads have brought after a segment
//! with sectors of both files. A violation that goes with one of these is that defect's. For the
//! others the model of the driver runs the same case with one defect at a time.

use driver::linux::{Defect, Defects};

use crate::fuzz::case::Case;
use crate::fuzz::defect::CaseDefect;
use crate::fuzz::explore::Search;
use crate::fuzz::recorded::Recording;
use crate::fuzz::violation::{Kind, Violation};
use crate::fuzz::world::{Mending, NotRelived};

/// How often a mended recording is searched. What survives a crash is drawn where there is much of
/// it, so that one search may miss what is still there.
const ATTEMPTS: u64 = 4;

/// The defects that a recording can be mended of.
const MENDED: [Defect; 3] = [
    Defect::FlushNoop,
    Defect::UnorderedPublish,
    Defect::LastRunOffset,
];

/// What explains a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Explained {
    /// The violation is not there in a recording that is mended so.
    Mended(Vec<Defect>),
    /// The model with only this defect shows a violation of this kind in the same case.
    Modelled(Defect),
    /// No known defect.
    Unknown,
}

impl Explained {
    /// The defects.
    pub fn defects(&self) -> Vec<Defect> {
        match self {
            Explained::Mended(defects) => defects.clone(),
            Explained::Modelled(defect) => vec![*defect],
            Explained::Unknown => Vec::new(),
        }
    }

    /// What is known of a finding that these defects were named for.
    pub fn by(defects: &[Defect]) -> Explained {
        match defects {
            [] => Explained::Unknown,
            [only] if !MENDED.contains(only) => Explained::Modelled(*only),
            several => Explained::Mended(several.to_vec()),
        }
    }

    /// How it is known, in words.
    pub fn how(&self) -> &'static str {
        match self {
            Explained::Mended(_) => "in the recording, mended of that, it is gone",
            Explained::Modelled(_) => "the model with only this defect shows the like",
            Explained::Unknown => "no known defect explains it",
        }
    }
}

/// Explains what is wrong in a recording that is mended already as `mending` says.
///
/// # Errors
/// If the recording is not of the case.
pub fn explain(
    case: &Case,
    recordings: &[Recording],
    violation: &Violation,
    mending: Mending,
    seed: u64,
) -> Result<Explained, NotRelived> {
    let mut mends = [
        (mending.flushes, Defect::FlushNoop),
        (mending.order, Defect::UnorderedPublish),
        (mending.offsets, Defect::LastRunOffset),
    ];
    if violation.kind == Kind::Zeros {
        // Zeros are what a bit without its data shows.
        mends.rotate_left(1);
    }
    let missing = mends.into_iter().filter(|(is_mended, _)| !is_mended);
    let missing: Vec<Defect> = missing.map(|(_, defect)| defect).collect();
    let sets = missing.iter().map(|&defect| vec![defect]);
    let all = (missing.len() > 1).then(|| missing.clone());
    for defects in sets.chain(all) {
        if is_gone_without(&defects, case, recordings, violation, mending, seed)? {
            return Ok(Explained::Mended(defects));
        }
    }
    // A flush that does nothing syncs no wrong file either.
    let others = MENDED.into_iter().chain([Defect::FlushWrongFile]);
    let others = others.fold(Defects::LINUX_6_12, Defects::without);
    let shows = |&defect: &Defect| model_shows(case, defect, violation, seed);
    Ok(others
        .iter()
        .find(shows)
        .map_or(Explained::Unknown, Explained::Modelled))
}

/// Whether this explains a violation too.
///
/// # Errors
/// If the recording is not of the case.
pub fn is_explained(
    explained: &Explained,
    case: &Case,
    recordings: &[Recording],
    violation: &Violation,
    mending: Mending,
    seed: u64,
) -> Result<bool, NotRelived> {
    match explained {
        Explained::Mended(defects) => {
            is_gone_without(defects, case, recordings, violation, mending, seed)
        }
        Explained::Modelled(defect) => Ok(model_shows(case, *defect, violation, seed)),
        Explained::Unknown => {
            let explained = explain(case, recordings, violation, mending, seed)?;
            Ok(explained == Explained::Unknown)
        }
    }
}

/// Whether a violation is not there in recordings that are mended of these defects.
fn is_gone_without(
    defects: &[Defect],
    case: &Case,
    recordings: &[Recording],
    violation: &Violation,
    mending: Mending,
    seed: u64,
) -> Result<bool, NotRelived> {
    let cause = violation.cause();
    let mended = |mending, defect: &Defect| mend(mending, *defect);
    let mended = defects.iter().fold(mending, mended);
    for attempt in 0..ATTEMPTS {
        let search = Search {
            wanted: Some(&cause),
            ..Search::for_anything(seed.wrapping_add(attempt))
        };
        let explored = search.of_recorded(case, recordings, mended)?;
        if explored.finding.is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The mending with that of this defect, if it has one.
pub fn mend(mending: Mending, defect: Defect) -> Mending {
    match defect {
        Defect::FlushNoop => Mending {
            flushes: true,
            ..mending
        },
        Defect::UnorderedPublish => Mending {
            order: true,
            ..mending
        },
        Defect::LastRunOffset => Mending {
            offsets: true,
            ..mending
        },
        _ => mending,
    }
}

/// Whether the model with only this defect breaks the promise that is broken, in this way.
fn model_shows(case: &Case, defect: Defect, violation: &Violation, seed: u64) -> bool {
    let mut case = case.clone();
    case.defects = vec![CaseDefect::Kernel(defect)];
    case.found = None;
    let promise = violation.signature.promise;
    let is_it = |it: &Violation| it.kind == violation.kind && it.signature.promise == promise;
    let found = Search::for_anything(seed).of(&case);
    matches!(found, Ok(Some((_, shown))) if is_it(&shown))
}
