//! A fault that seldom meets what shows its consequences, together with that: zeros that the host
//! writes in part, and a sync that fails before one that succeeds.

use driver::host::OperationKind;

use crate::sim::{Fault, FaultRule, FileMatch, Occurrence};
use crate::streams::{Stream, below, chance, weighted};

use super::case::{Life, Stimulus};
use super::paths::COW;

/// What a story is about.
#[derive(Clone, Copy)]
enum About {
    ZerosInPart,
    SyncOnceMore,
}

/// Puts such a story before all that a life does, on a device of `sectors` sectors.
pub(super) fn insert(rng: &mut Stream, sectors: u64, life: &mut Life) {
    let about = weighted(rng, &[(2, About::ZerosInPart), (3, About::SyncOnceMore)]);
    let (story, kind, nth, fault) = match about {
        About::ZerosInPart => {
            let done = 512 * below(rng, 4);
            let story = zeros_in_part(rng, sectors);
            let fault = Fault::InPart(done);
            (story, OperationKind::ZeroRange, below(rng, 2), fault)
        }
        About::SyncOnceMore => {
            let story = sync_once_more(rng, sectors);
            // Opening syncs once, a flush the data and most likely the bitmap.
            let nth = 1 + below(rng, 4);
            (story, OperationKind::SyncData, nth, Fault::FailedSync)
        }
    };
    life.actions.splice(0..0, story);
    let rule = FaultRule {
        file: FileMatch::Path(COW.into()),
        kind: Some(kind),
        bytes: None,
        occurrence: Occurrence::Nth(nth),
        fault,
    };
    life.faults.insert(0, rule);
}

/// Zeros over what was written, and a look at them.
fn zeros_in_part(rng: &mut Stream, sectors: u64) -> Vec<Stimulus> {
    let start = below(rng, sectors);
    let count = (2 + below(rng, 8)).min(sectors - start);
    let write = Stimulus::Write {
        start,
        count,
        fua: chance(rng, 30),
    };
    let zeros = Stimulus::WriteZeroes { start, count };
    let mut story = vec![write, Stimulus::Drain, zeros, Stimulus::Drain];
    if chance(rng, 50) {
        story.extend([zeros, Stimulus::Drain]);
    }
    story.extend([
        Stimulus::Read { start, count },
        Stimulus::Flush,
        Stimulus::Drain,
    ]);
    story
}

/// Some sectors, written and flushed again and again.
fn sync_once_more(rng: &mut Stream, sectors: u64) -> Vec<Stimulus> {
    let start = below(rng, sectors);
    let count = (1 + below(rng, 4)).min(sectors - start);
    let write = Stimulus::Write {
        start,
        count,
        fua: false,
    };
    let mut story = Vec::new();
    for _ in 0..3 {
        story.extend([write, Stimulus::Flush, Stimulus::Drain]);
        if chance(rng, 30) {
            story.extend([Stimulus::Flush, Stimulus::Drain]);
        }
    }
    story
}
