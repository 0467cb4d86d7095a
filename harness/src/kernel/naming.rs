//! Which of the known defects a finding shows. Nothing in a kernel can be switched off. So its
//! recording is mended instead: with the sync that a flush should have been, with the one that
//! should have come before a word of the bitmap, or without what reads have brought after a segment
//! with sectors of both files, or with zeros past the end of the bitmap. A violation that goes with
//! one of these is that defect's. Two defects are known by where it is: what they show depends on
//! the kernel's memory. Two are known by what the host has said to requests that have ended well:
//! that it wrote nothing, or that it has failed. For the others the model of the driver runs the
//! same case with one defect at a time.

use driver::linux::{Defect, Defects};
use driver::units::{Sector, SectorCount, SectorRange};

use crate::fuzz::build::layout;
use crate::fuzz::case::{Case, Image};
use crate::fuzz::defect::CaseDefect;
use crate::fuzz::explore::Search;
use crate::fuzz::recorded::{
    GuestOperation, GuestWord, Recording, Witnessed, numbered_after, requests_after,
};
use crate::fuzz::running_kernel::{OnKernel, on_kernel};
use crate::fuzz::violation::{Kind, Violation};
use crate::fuzz::world::{Mending, NotRelived};

use super::taken_for_done::taken_for_done;

/// How often a mended recording is searched. What survives a crash is drawn where there is much of
/// it, so that one search may miss what is still there.
const ATTEMPTS: u64 = 4;

/// Bytes of a word of the kernel's bitmap.
const WORD: u64 = 8;

/// The defects that a recording can be mended of.
const MENDED: [Defect; 4] = [
    Defect::FlushNoop,
    Defect::UnorderedPublish,
    Defect::LastRunOffset,
    Defect::MemoryPastTheBitmap,
];

/// What explains a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Explained {
    /// The violation is not there in a recording that is mended so.
    Mended(Vec<Defect>),
    /// The violation is where this defect acts.
    Placed(Defect),
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
            Explained::Placed(defect) | Explained::Modelled(defect) => vec![*defect],
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
            Explained::Placed(_) => "it is where this defect acts",
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
        (mending.memory, Defect::MemoryPastTheBitmap),
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
    let placed =
        placed(&case.image, violation).or_else(|| taken_for_done(case, recordings, violation));
    if let Some(defect) = placed {
        return Ok(Explained::Placed(defect));
    }
    let others = MENDED
        .into_iter()
        .fold(Defects::LINUX_6_12, Defects::without);
    let can_show = |defect: &Defect| {
        let seen = on_kernel(*defect);
        !matches!(seen, OnKernel::CannotShow(_) | OnKernel::SeenAgainst)
    };
    let shows = |&defect: &Defect| model_shows(case, defect, violation, seed);
    let shown = others.iter().filter(can_show).find(shows);
    let shown = shown.map(Explained::Modelled);
    let or_left = || left_by_failure(case, recordings, violation).map(Explained::Placed);
    Ok(shown.or_else(or_left).unwrap_or(Explained::Unknown))
}

/// The defect that acts where this violation is, among those of which the model shows something
/// else than the kernel: zeros, where the kernel has what its memory held.
fn placed(image: &Image, violation: &Violation) -> Option<Defect> {
    let layout = layout(image)?;
    let is_one_word = layout.bitmap_len.div_ceil(WORD) == 1;
    // The kernel has no page before its bitmap: its access there never ends.
    if violation.kind == Kind::DoesNotEnd && is_one_word {
        return Some(Defect::OneWordUnderflow);
    }
    let is_without_bit = |sector| (layout.with_bit..layout.sectors).contains(&sector);
    (violation.sector.is_some_and(is_without_bit)).then_some(Defect::V1V2ShortBitmap)
}

/// The defect that acts where this violation is, among those that leave bits set when a request has
/// failed. The model may show none of them: its own operations are in another order, so that the
/// same faults hit others.
fn left_by_failure(case: &Case, recordings: &[Recording], violation: &Violation) -> Option<Defect> {
    use GuestOperation::{Discard, Write, WriteWithFua, WriteZeroes};
    let sector = SectorRange::new(Sector(violation.sector?), SectorCount(1));
    let mut failed = None;
    let mut is_written_since = false;
    for (at, (life, recording)) in case.lives.iter().zip(recordings).enumerate() {
        let sectors = case.image.sectors;
        let requests = requests_after(numbered_after(at), life, sectors, recording.longest);
        for word in &recording.witnessed {
            let Witnessed::Guest(GuestWord::Ended { number, errno, .. }) = word else {
                continue;
            };
            let Some(request) = requests.get(number) else {
                continue;
            };
            if request.operation().is_change() && request.range().overlaps(sector) {
                is_written_since = errno.is_none() && failed.is_some();
                failed = errno.map_or(failed, |_| Some(request.what));
            }
        }
    }
    match (failed?, violation.kind) {
        (_, Kind::LostWrite) if is_written_since => Some(Defect::BitmapWriteNeverRetried),
        (Write | WriteWithFua, Kind::Zeros) => Some(Defect::ErrorLeavesBit),
        (Discard | WriteZeroes, Kind::Zeros) => Some(Defect::FailedDiscardLeavesBits),
        _ => None,
    }
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
        // A finding's file does not tell the two apart.
        Explained::Placed(defect) | Explained::Modelled(defect) => {
            let by_place = placed(&case.image, violation)
                .or_else(|| taken_for_done(case, recordings, violation))
                .or_else(|| left_by_failure(case, recordings, violation));
            // A model that mishears each failure shows more than a kernel that mishears a few.
            let may_model = *defect != Defect::SharedErrno;
            let is_modelled = || may_model && model_shows(case, *defect, violation, seed);
            Ok(by_place == Some(*defect) || is_modelled())
        }
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
        Defect::MemoryPastTheBitmap => Mending {
            memory: true,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::case::{ImageVersion, Stimulus};
    use crate::kernel::taken_for_done::tests::{case_with, ended, recording_with};

    #[test]
    fn what_depends_on_the_kernels_memory_is_known_by_its_place() {
        let image = |sectors, version| Image::sound(sectors, version, 4096);
        let hang = Violation::new(Kind::DoesNotEnd, "then", "nothing happens any more");
        let underflow = Some(Defect::OneWordUnderflow);
        // V1 and V2 round down: 71 sectors have eight bytes of bitmap, 72 have nine.
        for (sectors, version, expected) in [
            (64, ImageVersion::V3, underflow),
            (65, ImageVersion::V3, None),
            (71, ImageVersion::V2, underflow),
            (72, ImageVersion::V2, None),
        ] {
            assert_eq!(
                placed(&image(sectors, version), &hang),
                expected,
                "{sectors}"
            );
        }
        let zeros = |sector| Violation::new(Kind::Zeros, "then", "zeros").of_sector(sector);
        let short = Some(Defect::V1V2ShortBitmap);
        assert_eq!(placed(&image(129, ImageVersion::V2), &zeros(128)), short);
        assert_eq!(placed(&image(129, ImageVersion::V2), &zeros(127)), None);
        assert_eq!(placed(&image(129, ImageVersion::V3), &zeros(128)), None);
    }

    #[test]
    fn what_a_failed_request_has_left_is_known_by_its_sectors() {
        use Stimulus::{Discard, Write};
        let write = |start| Write {
            start,
            count: 2,
            fua: false,
        };
        let discard = Discard {
            start: 80,
            count: 8,
        };
        let case = case_with(vec![write(70), write(70), discard]);
        // The requests come after one that reads all of the device.
        let ended = |number, errno| ended(number, errno, Vec::new());
        let failed = recording_with(vec![ended(1002, Some(5)), ended(1004, Some(5))]);
        let again = recording_with(vec![ended(1002, Some(5)), ended(1003, None)]);
        let left = |recording: &Recording, kind, sector| {
            let violation = Violation::new(kind, "then", "what").of_sector(sector);
            left_by_failure(&case, std::slice::from_ref(recording), &violation)
        };
        let zeros = |sector| left(&failed, Kind::Zeros, sector);
        assert_eq!(zeros(71), Some(Defect::ErrorLeavesBit));
        assert_eq!(zeros(72), None);
        assert_eq!(zeros(87), Some(Defect::FailedDiscardLeavesBits));
        assert_eq!(left(&failed, Kind::LostWrite, 71), None);
        let never = Some(Defect::BitmapWriteNeverRetried);
        assert_eq!(left(&again, Kind::LostWrite, 70), never);
    }
}
