//! A resize that is likely to fail, and what the guest does then: it writes where the two sizes
//! differ and flushes. Whether the resize has left the device as it was, shows only after that.

use driver::host::OperationKind;

use crate::sim::{Fault, FaultRule, FileMatch, Occurrence};
use crate::streams::{Stream, below, chance, weighted};

use super::case::{ResizeStrategy, Stimulus};

/// The header's first sector, which commits a resize in place.
const HEADER: (u64, u64) = (0, 512);

/// The two slots of a reflow's journal.
const JOURNAL: (u64, u64) = (4608, 5632);

/// Puts such a resize into `actions`, before any other, for a device of `sectors` sectors. Its
/// faults, which are returned, count operations from where it begins.
pub(super) fn insert(
    rng: &mut Stream,
    sectors: u64,
    actions: &mut Vec<Stimulus>,
) -> Vec<FaultRule> {
    let is_resize = |action: &Stimulus| matches!(action, Stimulus::Resize { .. });
    let before = actions.iter().position(is_resize).unwrap_or(actions.len());
    let at = below(rng, before as u64 + 1) as usize;
    let strategy = weighted(rng, &strategies());
    let story = story(rng, sectors, strategy);
    actions.splice(at..at, story);
    let count = 1 + u64::from(chance(rng, 15));
    (0..count).map(|_| fault(rng, strategy)).collect()
}

fn strategies() -> [(u64, ResizeStrategy); 3] {
    [
        (3, ResizeStrategy::Headroom),
        (2, ResizeStrategy::Rebuild),
        (3, ResizeStrategy::Reflow),
    ]
}

fn story(rng: &mut Stream, sectors: u64, strategy: ResizeStrategy) -> Vec<Stimulus> {
    let shrinks = strategy != ResizeStrategy::Reflow && sectors > 1 && chance(rng, 40);
    let target = match shrinks {
        true => sectors - 1 - below(rng, (sectors - 1).min(40)),
        false => sectors + 1 + below(rng, 40),
    };
    let mut story = Vec::new();
    if chance(rng, 50) {
        // Written and not flushed when it begins.
        story.push(write(rng, sectors));
    }
    if shrinks || chance(rng, 50) {
        story.push(Stimulus::Drain);
    }
    story.push(Stimulus::Resize {
        sectors: target,
        strategy,
        window: weighted(rng, &[(1, 1), (2, 4), (1, 1000)]),
        alignment: weighted(rng, &[(2, 0), (1, 16384)]),
        odd: 0,
    });
    for _ in 0..below(rng, 4) {
        // Between its steps.
        story.extend([Stimulus::StepResize, write(rng, sectors), Stimulus::Step]);
    }
    if !shrinks && chance(rng, 35) {
        // Under way when it is undone.
        story.extend([Stimulus::StepResize, write(rng, sectors)]);
    }
    let end = [Stimulus::FinishResize, Stimulus::Drain];
    story.extend(end);
    story.extend(end);
    if chance(rng, 60) {
        story.push(write(rng, sectors));
    }
    story.extend([Stimulus::Flush, Stimulus::Drain]);
    if chance(rng, 40) {
        story.extend([write(rng, sectors), Stimulus::Flush, Stimulus::Drain]);
    }
    if chance(rng, 40) {
        // Once more, and not as far.
        story.push(Stimulus::Resize {
            sectors: sectors + 1 + below(rng, 8),
            strategy: match chance(rng, 60) {
                true => strategy,
                false => weighted(rng, &strategies()),
            },
            window: 4,
            alignment: 0,
            odd: 0,
        });
        story.extend(end);
    }
    story
}

/// A write to the last sectors of the old size, or anywhere.
fn write(rng: &mut Stream, sectors: u64) -> Stimulus {
    let start = match chance(rng, 70) {
        true => sectors - 1 - below(rng, sectors.min(8)),
        false => below(rng, sectors),
    };
    Stimulus::Write {
        start,
        count: 1 + below(rng, (sectors - start).min(4)),
        fua: false,
    }
}

fn fault(rng: &mut Stream, strategy: ResizeStrategy) -> FaultRule {
    use OperationKind::*;
    // Nothing else renames.
    let renames = match strategy {
        ResizeStrategy::Rebuild => 8,
        _ => 0,
    };
    // The weight, the operation, the bytes that it must touch, among how many such operations the
    // first to be hit is drawn, and the fault. After a failed sync no flush is acknowledged until
    // the device is opened again, so that failed syncs show less.
    let (kind, bytes, among, fault) = weighted(
        rng,
        &[
            (6, (Write, Some(HEADER), 2, Fault::Io)),
            (2, (Write, Some(HEADER), 2, Fault::NoSpace)),
            (2, (Write, Some(HEADER), 2, Fault::IoAfter)),
            (2, (Write, None, 10, Fault::IoAfter)),
            (1, (SyncData, None, 6, Fault::IoAfter)),
            (1, (SetLen, None, 3, Fault::IoAfter)),
            (renames / 2, (SyncData, None, 1, Fault::Io)),
            (renames / 4, (SyncDirectory, None, 1, Fault::IoAfter)),
            (2, (Write, Some(JOURNAL), 4, Fault::IoAfter)),
            (1, (Write, Some(JOURNAL), 4, Fault::Io)),
            (4, (Write, None, 10, Fault::Io)),
            (4, (Write, None, 10, Fault::NoSpace)),
            (1, (Write, None, 10, Fault::ShortWrite(0))),
            (3, (SetLen, None, 3, Fault::NoSpace)),
            (2, (PunchHole, None, 3, Fault::Io)),
            (1, (Read, None, 5, Fault::Io)),
            (2, (SyncData, None, 6, Fault::Io)),
            (2, (SyncData, None, 6, Fault::FailedSync)),
            (1, (SyncData, None, 6, Fault::FailedSyncForSpace)),
            (2, (CreateNew, None, 1, Fault::NoSpace)),
            (2, (PunchHole, None, 3, Fault::InPart(512))),
            (renames / 2, (Rename, None, 1, Fault::Io)),
            (renames, (Rename, None, 1, Fault::IoAfter)),
            (1, (SyncDirectory, None, 1, Fault::FailedSync)),
        ],
    );
    let nth = below(rng, among);
    FaultRule {
        file: FileMatch::Any,
        kind: Some(kind),
        bytes,
        occurrence: match chance(rng, 20) {
            true => Occurrence::From(nth),
            false => Occurrence::Nth(nth),
        },
        fault,
    }
}
