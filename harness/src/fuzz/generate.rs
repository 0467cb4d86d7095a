//! From a seed to a case. The weights of things differ from case to case, so that rare
//! combinations come up: a case without flushes, one that is all flushes, one that only
//! touches the sectors around the end.

use driver::host::OperationKind;

use crate::sim::{Fault, FaultRule, FileMatch, Occurrence};
use crate::streams::{Stream, below, chance, stream, weighted};

use super::case::{
    BackingFile, Case, DriverName, End, FORMAT, Image, ImageVersion, KernelSetup, Life, Patch,
    ResizeStrategy, Stimulus,
};
use super::failing_resize;
use super::failing_story;
use super::paths::COW;
use super::rarities;

pub use super::subject::Subject;

/// The case that `seed` gives for `subject`: its first life, without a crash.
pub fn generate(seed: u64, subject: &Subject) -> Case {
    let mut rng = stream(seed, "image");
    let resizes = subject.driver == DriverName::Ordered;
    let mut image = image(&mut rng);
    let backing = odd(&mut stream(seed, "oddities"), &mut image, subject);
    // A kernel marks sectors dirty that its file ends before.
    image.ends_with_data = subject.driver == DriverName::Ordered
        && !subject.resizes_by_model()
        && !image.missing
        && image.bitmap_cut.is_none()
        && chance(&mut stream(seed, "length"), 12);
    let mut assumptions = subject.assumptions;
    rarities::of_image(seed, subject, &mut image, &mut assumptions);
    let mut rng = stream(seed, "actions");
    let small = chance(&mut rng, 20);
    let mut actions = Stimuli::draw(&mut rng, image.sectors, resizes, small).all(&mut rng);
    if subject.resizes_by_model() {
        season(
            &mut stream(seed, "procedure 2003"),
            &mut image,
            &mut actions,
        );
    }
    let mut rng = stream(seed, "faults");
    let faults = faults(&mut rng, subject);
    let mut rng = stream(seed, "failing resize");
    let may_fail = subject.faults && resizes && !subject.resizes_by_model();
    // A file that is shorter than its data area gets a length that the undoing has to take back.
    let percent = if image.ends_with_data { 45 } else { 20 };
    let resize_faults = match may_fail && chance(&mut rng, percent) {
        true => failing_resize::insert(&mut rng, image.sectors, &mut actions),
        false => Vec::new(),
    };
    let mut life = Life {
        backing,
        tool: None,
        synchronous: false,
        pending_words: None,
        side_by_side: None,
        order: None,
        segments_of: None,
        keeps_asking: false,
        half_merged: false,
        at_once: None,
        actions,
        faults: bearable(faults, image.sectors),
        resize_faults,
        end: End::Close,
    };
    rarities::of_life(seed, 0, subject, image.sectors, &mut life);
    let rng = &mut stream(seed, "failing story");
    // What rests on a new start after a failed sync shows only after one.
    let percent = match assumptions.restart_after_failed_sync {
        true => 5,
        false => 30,
    };
    if may_fail && life.resize_faults.is_empty() && chance(rng, percent) {
        failing_story::insert(rng, image.sectors, &mut life);
    }
    let is_plain = subject.driver == DriverName::Ordered && !subject.resizes_by_model();
    if is_plain && image.sectors <= 256 && chance(&mut stream(seed, "few requests"), 2) {
        rarities::few_requests(seed, image.sectors, &mut life);
    }
    Case {
        format: FORMAT.into(),
        driver: subject.driver,
        defects: subject.defects.clone(),
        resizer: subject.resizer,
        kernel: kernel(&mut stream(seed, "kernel"), subject),
        retries: chance(&mut stream(seed, "guest"), 40),
        assumptions,
        image,
        lives: vec![life],
        found: None,
    }
}

fn kernel(rng: &mut Stream, subject: &Subject) -> KernelSetup {
    match subject.driver {
        DriverName::Ordered => KernelSetup::default(),
        DriverName::Linux612 | DriverName::Linux26 => KernelSetup {
            cow_alone: chance(rng, 20),
            pipe_capacity: weighted(rng, &[(3, 64), (1, 1), (1, 2), (1, 4)]),
        },
    }
}

/// Makes a case worth running with the model of 2003's procedure: more data than the distance
/// that it moves, a resize in every case, and often a shrink before the grow.
fn season(rng: &mut Stream, image: &mut Image, actions: &mut Vec<Stimulus>) {
    if chance(rng, 90) {
        (image.version, image.alignment) = (ImageVersion::V3, 4096);
    }
    let sectors = image.sectors;
    let count = (20 + below(rng, 50)).min(sectors);
    image.dirty.push((below(rng, sectors - count + 1), count));
    let strategy = weighted(
        rng,
        &[
            (4, ResizeStrategy::Reflow),
            (2, ResizeStrategy::Rebuild),
            (2, ResizeStrategy::Headroom),
        ],
    );
    let window = weighted(rng, &[(1, 4), (1, 16), (2, 1000)]);
    let resize = |sectors| Stimulus::Resize {
        sectors,
        strategy,
        window,
        alignment: 0,
        odd: 0,
    };
    let at = below(rng, actions.len() as u64 + 1) as usize;
    let mut more = Vec::new();
    if chance(rng, 30) {
        let smaller = 1 + below(rng, sectors);
        more.extend([Stimulus::Drain, resize(smaller), Stimulus::FinishResize]);
    }
    more.push(resize(sectors + 1 + below(rng, 40)));
    if chance(rng, 50) {
        // The guest works on between the steps, also above the frontier.
        for _ in 0..4 + below(rng, 12) {
            let start = below(rng, sectors);
            let count = 1 + below(rng, 4);
            more.push(weighted(
                rng,
                &[
                    (6, Stimulus::StepResize),
                    (
                        3,
                        Stimulus::Write {
                            start,
                            count,
                            fua: false,
                        },
                    ),
                    (1, Stimulus::Read { start, count }),
                    (1, Stimulus::Flush),
                    (3, Stimulus::Drain),
                ],
            ));
        }
    }
    actions.splice(at..at, more);
    if chance(rng, 70) {
        actions.extend([
            Stimulus::FinishResize,
            Stimulus::Drain,
            Stimulus::FinishResize,
        ]);
    }
}

/// Another life for a device of about this size, after a crash. `recovers` if a resize is likely
/// to be finished first.
pub fn another_life(
    seed: u64,
    number: usize,
    sectors: u64,
    recovers: bool,
    subject: &Subject,
) -> Life {
    let mut rng = stream(seed, &format!("actions of life {number}"));
    let resizes = subject.driver == DriverName::Ordered;
    let odd = &mut stream(seed, &format!("oddities of life {number}"));
    let faults = &mut stream(seed, &format!("faults of life {number}"));
    let mut life = Life {
        backing: match chance(odd, 8) {
            true => other_backing(odd, subject),
            false => BackingFile::AsItWas,
        },
        tool: None,
        synchronous: false,
        pending_words: None,
        side_by_side: None,
        order: None,
        segments_of: None,
        keeps_asking: false,
        half_merged: false,
        at_once: None,
        actions: Stimuli::draw(&mut rng, sectors, resizes, true).all(&mut rng),
        faults: bearable(early_faults(faults, subject, recovers), sectors),
        resize_faults: Vec::new(),
        end: End::Close,
    };
    rarities::of_life(seed, number, subject, sectors, &mut life);
    // What was read after a failed sync is acknowledged as durable by the first flush.
    let rng = &mut stream(seed, &format!("restart of life {number}"));
    if !subject.assumptions.restart_after_failed_sync && chance(rng, 50) {
        let flushed = [
            Stimulus::Flush,
            Stimulus::Drain,
            Stimulus::Flush,
            Stimulus::Drain,
        ];
        life.actions.splice(0..0, flushed);
    }
    life
}

fn image(rng: &mut Stream) -> Image {
    if chance(rng, 1) {
        return full_bitmap(rng);
    }
    // Around the borders of bytes, words and sixty-four sectors, and in between.
    let border = weighted(rng, &[(3, 0), (2, 8), (2, 64), (2, 128), (1, 192)]);
    let sectors = match border {
        0 => 16 + below(rng, 180),
        border => border + below(rng, 9).saturating_sub(4).max(1),
    };
    let version = weighted(
        rng,
        &[
            (12, ImageVersion::V3),
            (2, ImageVersion::V2),
            (2, ImageVersion::V1),
            (1, ImageVersion::V3Wide),
        ],
    );
    // With a page the bitmap's slot is full at once; with more there is headroom.
    // With a GiB the data lies where 32 bits with a sign do not reach.
    let alignments = [(24, 4096), (4, 512), (4, 8192), (12, 1 << 16), (1, 1 << 30)];
    let alignment = weighted(rng, &alignments);
    let mut dirty = Vec::new();
    for _ in 0..below(rng, 5) {
        let start = below(rng, sectors);
        dirty.push((start, 1 + below(rng, (sectors - start).min(40))));
    }
    Image {
        extension: chance(rng, 60),
        dirty,
        ..Image::sound(sectors, version, alignment)
    }
}

/// An image whose bitmap goes right up to its data.
fn full_bitmap(rng: &mut Stream) -> Image {
    let (version, sectors) = weighted(
        rng,
        &[
            (3, (ImageVersion::V1, 1856)),
            (1, (ImageVersion::V2, 3904)),
            (1, (ImageVersion::V3, 4096)),
        ],
    );
    Image {
        // The first sector lies next to the bitmap.
        dirty: vec![(0, 1 + below(rng, 8))],
        ..Image::sound(sectors, version, 512)
    }
}

/// Now and then something is out of the ordinary: with the image, or with the backing file.
fn odd(rng: &mut Stream, image: &mut Image, subject: &Subject) -> BackingFile {
    #[derive(Clone, Copy)]
    enum Oddity {
        Missing,
        Cut,
        Patched(Patch),
        Backing,
    }
    if !chance(rng, 10) {
        return BackingFile::AsItWas;
    }
    let oddity = weighted(
        rng,
        &[
            (8, Oddity::Missing),
            (4, Oddity::Cut),
            (1, Oddity::Patched(Patch::SectorSize(0))),
            (1, Oddity::Patched(Patch::SectorSize(1024))),
            (1, Oddity::Patched(Patch::Alignment(0))),
            (1, Oddity::Patched(Patch::Alignment(384))),
            (8, Oddity::Backing),
        ],
    );
    match oddity {
        Oddity::Missing => {
            image.missing = true;
            image.version = ImageVersion::V3;
            image.dirty.clear();
        }
        Oddity::Cut => image.bitmap_cut = Some(below(rng, image.sectors.div_ceil(8))),
        // V1 and V2 have no alignment to be wrong.
        Oddity::Patched(Patch::Alignment(_))
            if matches!(image.version, ImageVersion::V1 | ImageVersion::V2) => {}
        Oddity::Patched(patch) => image.patched = Some(patch),
        Oddity::Backing => return other_backing(rng, subject),
    }
    BackingFile::AsItWas
}

fn other_backing(rng: &mut Stream, subject: &Subject) -> BackingFile {
    // The header has 32 bits of the time. That `ordered` goes by those is its documented limit;
    // without its defect, the model of the kernels' does not.
    let wraps = match subject.driver {
        DriverName::Ordered => 0,
        DriverName::Linux612 | DriverName::Linux26 => 2,
    };
    weighted(
        rng,
        &[
            (3, BackingFile::Switched),
            (1, BackingFile::Modified { seconds: 1 }),
            (1, BackingFile::Modified { seconds: -1 }),
            (wraps, BackingFile::Modified { seconds: 1 << 32 }),
        ],
    )
}

/// The weights of one case's actions.
struct Stimuli {
    sectors: u64,
    count: u64,
    longest: u64,
    /// Requests stay around here, if there is such a place.
    focus: Option<u64>,
    /// How often a discard, or a write of zeros, is of far more sectors than that.
    long_discard_percent: u64,
    /// How often a request is for the same sectors as the one before it.
    same_percent: u64,
    read: u64,
    write: u64,
    flush: u64,
    discard: u64,
    zeroes: u64,
    step: u64,
    drain: u64,
    again: u64,
    fua_percent: u64,
    resize: u64,
    step_resize: u64,
    strategy: ResizeStrategy,
}

impl Stimuli {
    fn draw(rng: &mut Stream, sectors: u64, resizes: bool, small: bool) -> Stimuli {
        // Each kind is rare, usual, frequent or absent, by itself.
        let mut weight = |usual: u64| usual * weighted(rng, &[(1, 0), (4, 1), (2, 4)]);
        let (read, write, flush) = (weight(3), 4 + weight(8), weight(4));
        let (discard, zeroes) = (weight(2), weight(1));
        let (step, drain) = (4 + weight(8), 1 + weight(2));
        let resize = if resizes { weight(2) } else { 0 };
        Stimuli {
            sectors,
            count: match small {
                true => 3 + below(rng, 8),
                false => 8 + below(rng, 40),
            },
            longest: weighted(rng, &[(8, 1), (12, 4), (12, 16), (4, 64)]),
            long_discard_percent: weighted(rng, &[(2, 0), (1, 30)]),
            same_percent: weighted(rng, &[(2, 0), (1, 20), (1, 60)]),
            focus: chance(rng, 30).then(|| match chance(rng, 30) {
                true => sectors - 1 - below(rng, sectors.min(12)),
                false => below(rng, sectors),
            }),
            read,
            write,
            flush,
            discard,
            zeroes,
            step,
            drain,
            again: if chance(rng, 20) { 1 } else { 0 },
            fua_percent: weighted(rng, &[(3, 0), (2, 20), (1, 80)]),
            resize,
            step_resize: if resize > 0 { 4 + below(rng, 20) } else { 0 },
            strategy: weighted(
                rng,
                &[
                    (1, ResizeStrategy::Auto),
                    (2, ResizeStrategy::Headroom),
                    (2, ResizeStrategy::Rebuild),
                    (4, ResizeStrategy::Reflow),
                ],
            ),
        }
    }

    fn all(&self, rng: &mut Stream) -> Vec<Stimulus> {
        let mut actions: Vec<Stimulus> = {
            let mut last = None;
            (0..self.count).map(|_| self.one(rng, &mut last)).collect()
        };
        if chance(rng, 2) {
            // More than a queue takes.
            let at = below(rng, actions.len() as u64) as usize;
            let burst: Vec<Stimulus> = (0..70).map(|_| self.write_one(rng)).collect();
            actions.splice(at..at, burst);
        }
        if self.resize > 0 && chance(rng, 60) {
            // Most of what can go wrong comes after the middle of a resize.
            let at = below(rng, actions.len() as u64) as usize;
            actions.insert(at, self.resize(rng));
            if chance(rng, 70) {
                actions.push(Stimulus::FinishResize);
                actions.push(Stimulus::Drain);
                actions.push(Stimulus::FinishResize);
            }
        }
        actions
    }

    fn one(&self, rng: &mut Stream, last: &mut Option<(u64, u64)>) -> Stimulus {
        #[derive(Clone, Copy)]
        enum Kind {
            Read,
            Write,
            Flush,
            Discard,
            Zeroes,
            Step,
            Drain,
            Again,
            Resize,
            StepResize,
        }
        let kind = weighted(
            rng,
            &[
                (self.read, Kind::Read),
                (self.write, Kind::Write),
                (self.flush, Kind::Flush),
                (self.discard, Kind::Discard),
                (self.zeroes, Kind::Zeroes),
                (self.step, Kind::Step),
                (self.drain, Kind::Drain),
                (self.again, Kind::Again),
                (self.resize, Kind::Resize),
                (self.step_resize, Kind::StepResize),
            ],
        );
        let drawn = self.range(rng);
        let (start, count) = match *last {
            Some(last) if chance(rng, self.same_percent) => last,
            _ => drawn,
        };
        *last = Some((start, count));
        match kind {
            Kind::Read => Stimulus::Read { start, count },
            Kind::Write => {
                let fua = chance(rng, self.fua_percent);
                Stimulus::Write { start, count, fua }
            }
            Kind::Flush => Stimulus::Flush,
            Kind::Discard | Kind::Zeroes => {
                let (start, count) = match chance(rng, self.long_discard_percent) {
                    true => self.long_range(rng),
                    false => (start, count),
                };
                *last = Some((start, count));
                match kind {
                    Kind::Discard => Stimulus::Discard { start, count },
                    _ => Stimulus::WriteZeroes { start, count },
                }
            }
            Kind::Step => Stimulus::Step,
            Kind::Drain => Stimulus::Drain,
            Kind::Again => Stimulus::OpenAgain,
            Kind::Resize => self.resize(rng),
            Kind::StepResize => match chance(rng, 10) {
                true => Stimulus::FinishResize,
                false => Stimulus::StepResize,
            },
        }
    }

    fn write_one(&self, rng: &mut Stream) -> Stimulus {
        let (start, _) = self.range(rng);
        Stimulus::Write {
            start,
            count: 1,
            fua: false,
        }
    }

    fn range(&self, rng: &mut Stream) -> (u64, u64) {
        let start = match self.focus {
            Some(focus) if chance(rng, 80) => (focus + below(rng, 8)).min(self.sectors - 1),
            // The last sectors share their word with new ones.
            _ if chance(rng, 10) => self.sectors - 1 - below(rng, self.sectors.min(4)),
            // Beyond the old end, once the device has grown.
            _ if chance(rng, 15) => self.sectors + below(rng, 32),
            _ => below(rng, self.sectors),
        };
        let count = 1 + below(rng, self.longest);
        match start < self.sectors && chance(rng, 70) {
            true => (start, count.min(self.sectors - start)),
            false => (start, count),
        }
    }

    fn long_range(&self, rng: &mut Stream) -> (u64, u64) {
        let start = below(rng, self.sectors.min(8));
        (start, 1 + below(rng, (self.sectors - start).min(255)))
    }

    fn resize(&self, rng: &mut Stream) -> Stimulus {
        let sectors = match weighted(rng, &[(3, 0), (2, 1), (1, 2), (1, 3)]) {
            0 => self.sectors + 1 + below(rng, 64),
            1 => self.sectors + 1 + below(rng, 8),
            // Past what one page of bitmap has bits for.
            2 => 32768 + below(rng, 16),
            _ => 1 + below(rng, self.sectors),
        };
        let sectors = match sectors {
            // A large device costs a hundred times the time: only now and then.
            32768.. if below(rng, 100) > 0 => self.sectors + 13,
            sectors => sectors,
        };
        Stimulus::Resize {
            sectors,
            strategy: match chance(rng, 80) {
                true => self.strategy,
                false => ResizeStrategy::Auto,
            },
            window: weighted(rng, &[(2, 1), (3, 4), (3, 16), (1, 1000)]),
            alignment: weighted(rng, &[(1, 0), (3, 16384), (1, 32768)]),
            odd: 0,
        }
    }
}

/// Faults that are likely to hit opening and recovery, in some of the lives after a crash. A
/// kernel's driver has none: what it does then is not documented.
fn early_faults(rng: &mut Stream, subject: &Subject, recovers: bool) -> Vec<FaultRule> {
    let may_fail =
        subject.faults && subject.driver == DriverName::Ordered && !subject.resizes_by_model();
    let percent = if recovers { 80 } else { 30 };
    if !may_fail || !chance(rng, percent) {
        return Vec::new();
    }
    // The weight, the operation, among how many such operations the first to be hit is drawn, and
    // the fault.
    let usual = [
        (3, (OperationKind::SyncData, 4, Fault::FailedSync)),
        (2, (OperationKind::SyncData, 4, Fault::Io)),
        (1, (OperationKind::SyncData, 4, Fault::IoAfter)),
        (1, (OperationKind::SyncDirectory, 1, Fault::Io)),
        (3, (OperationKind::Read, 12, Fault::Io)),
        (1, (OperationKind::Read, 6, Fault::ShortRead(5))),
        (3, (OperationKind::Write, 8, Fault::Io)),
        (2, (OperationKind::Write, 8, Fault::NoSpace)),
        (2, (OperationKind::Write, 8, Fault::IoAfter)),
        (1, (OperationKind::Write, 8, Fault::ShortWrite(0))),
        (1, (OperationKind::SetLen, 2, Fault::Io)),
        (1, (OperationKind::SetLen, 2, Fault::IoAfter)),
        (1, (OperationKind::PunchHole, 2, Fault::Io)),
    ];
    // Opening syncs once, and writes nothing.
    let in_recovery = [
        (3, (OperationKind::SyncData, 4, Fault::FailedSync)),
        (3, (OperationKind::SyncData, 4, Fault::Io)),
        (1, (OperationKind::SyncData, 4, Fault::IoAfter)),
        (2, (OperationKind::Read, 12, Fault::Io)),
        (5, (OperationKind::Write, 5, Fault::Io)),
        (2, (OperationKind::Write, 5, Fault::NoSpace)),
        (1, (OperationKind::Write, 5, Fault::IoAfter)),
    ];
    let hits_recovery = recovers && chance(rng, 70);
    let (kind, among, fault) = match hits_recovery {
        true => weighted(rng, &in_recovery),
        false => weighted(rng, &usual),
    };
    let nth = match (hits_recovery, kind) {
        (true, OperationKind::SyncData) => 1 + below(rng, among),
        (true, OperationKind::Read) => 4 + below(rng, among),
        _ => below(rng, among),
    };
    let rule = FaultRule {
        file: FileMatch::Any,
        kind: Some(kind),
        bytes: None,
        occurrence: match chance(rng, 25) {
            true => Occurrence::From(nth),
            false => Occurrence::Nth(nth),
        },
        fault,
    };
    vec![rule]
}

/// A device with more sectors than this is read in minutes where each read brings five bytes.
const SHORT_READS: u64 = 4096;

/// Of short reads without end on a device that large, one is left.
fn bearable(mut faults: Vec<FaultRule>, sectors: u64) -> Vec<FaultRule> {
    for rule in &mut faults {
        if let (Fault::ShortRead(_), Occurrence::From(nth), true) =
            (rule.fault, rule.occurrence, sectors > SHORT_READS)
        {
            rule.occurrence = Occurrence::Nth(nth);
        }
    }
    faults
}

/// None for most cases: what a driver does on a healthy host is worth the most.
fn faults(rng: &mut Stream, subject: &Subject) -> Vec<FaultRule> {
    let mut faults = Vec::new();
    if subject.lying_syncs {
        faults.push(FaultRule {
            file: FileMatch::Any,
            kind: Some(OperationKind::SyncData),
            bytes: None,
            occurrence: Occurrence::From(below(rng, 4)),
            fault: Fault::LyingSync,
        });
    }
    // What only `ordered` answers for, and more of it, because there are more kinds.
    let ordered = u64::from(subject.driver == DriverName::Ordered);
    if !subject.faults || !chance(rng, 30 + 8 * ordered) {
        return faults;
    }
    for _ in 0..1 + below(rng, 2) {
        let (kind, fault) = weighted(
            rng,
            &[
                (2, (OperationKind::Write, Fault::Io)),
                (2, (OperationKind::Write, Fault::NoSpace)),
                (2, (OperationKind::Write, Fault::ShortWrite(0))),
                // Whole sectors: a disk's sector does not tear, whoever stops in its middle.
                (2, (OperationKind::Write, Fault::ShortWrite(1024))),
                (2, (OperationKind::SyncData, Fault::FailedSync)),
                (
                    ordered,
                    (OperationKind::SyncData, Fault::FailedSyncForSpace),
                ),
                (1, (OperationKind::SyncData, Fault::Io)),
                (1, (OperationKind::Read, Fault::Io)),
                (2, (OperationKind::Read, Fault::ShortRead(700))),
                // Within a small bitmap.
                (1, (OperationKind::Read, Fault::ShortRead(5))),
                (4, (OperationKind::PunchHole, Fault::Io)),
                (1 + ordered, (OperationKind::PunchHole, Fault::Unsupported)),
                (1, (OperationKind::ZeroRange, Fault::Io)),
                (1 + ordered, (OperationKind::ZeroRange, Fault::Unsupported)),
                (1, (OperationKind::SetLen, Fault::NoSpace)),
                (ordered, (OperationKind::PunchHole, Fault::InPart(1024))),
                (ordered, (OperationKind::ZeroRange, Fault::InPart(512))),
                (1, (OperationKind::Rename, Fault::Io)),
                (ordered, (OperationKind::Rename, Fault::IoAfter)),
                (ordered, (OperationKind::Remove, Fault::IoAfter)),
                (2 * ordered, (OperationKind::Write, Fault::IoAfter)),
                (ordered, (OperationKind::SyncData, Fault::IoAfter)),
                (ordered, (OperationKind::SyncDirectory, Fault::IoAfter)),
                (ordered, (OperationKind::SetLen, Fault::IoAfter)),
                (ordered, (OperationKind::PunchHole, Fault::IoAfter)),
                (ordered, (OperationKind::ZeroRange, Fault::IoAfter)),
                (1, (OperationKind::SyncDirectory, Fault::Io)),
                (1, (OperationKind::CreateNew, Fault::NoSpace)),
            ],
        );
        // Header and bitmap, as most cases have them.
        let front = kind == OperationKind::Write && chance(rng, 40);
        // The rarer an operation is, the earlier one of it has to fail.
        let nth = match kind {
            OperationKind::Write | OperationKind::Read if !front => below(rng, 12),
            _ => below(rng, 4),
        };
        faults.push(FaultRule {
            file: match kind == OperationKind::Write && (front || chance(rng, 80)) {
                true => FileMatch::Path(COW.into()),
                false => FileMatch::Any,
            },
            kind: Some(kind),
            bytes: front.then_some((0, 12288)),
            occurrence: match chance(rng, 25) {
                true => Occurrence::From(nth),
                false => Occurrence::Nth(nth),
            },
            fault,
        });
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_device_is_not_read_five_bytes_at_a_time() {
        let rule = |fault, occurrence| FaultRule {
            file: FileMatch::Any,
            kind: Some(OperationKind::Read),
            bytes: None,
            occurrence,
            fault,
        };
        let faults = vec![
            rule(Fault::ShortRead(5), Occurrence::From(1)),
            rule(Fault::Io, Occurrence::From(2)),
        ];
        assert_eq!(bearable(faults.clone(), SHORT_READS), faults);
        let bearable = bearable(faults, SHORT_READS + 1);
        assert_eq!(bearable[0].occurrence, Occurrence::Nth(1));
        assert_eq!(bearable[1].occurrence, Occurrence::From(2));
    }
}
