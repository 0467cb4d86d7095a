//! `ubdlab bench lookup`: the sector map beside the original driver's bit-by-bit loop and
//! beside three crates that hold sets of numbers, on the same bits, in turns.
//!
//! The times of `state`, `run` and `mark` are for one operation, net of reading the position from
//! a list of random ones. The list is long enough that on the large devices most lookups miss the
//! caches. A scan's time is for the whole map.
//!
//! Marking is measured twice: as it is, where the crates only set bits and the map also notes
//! which words it has to write to the disk, and with a second set of the same crate in which
//! that is noted. A map without a dirty sector is a new one in each pass, of every contender,
//! and making it is part of the time.

pub mod candidate;
pub mod content;
mod growth;
mod memory;

use std::hint::black_box;
use std::time::Duration;

use driver::cow::SectorMap;
use driver::units::SectorCount;
use fixedbitset::FixedBitSet;
use roaring::RoaringBitmap;

use super::rounds::{Contender, rounds};
use super::{Only, Row, Unit};
use crate::clock;
use crate::random::SplitMix64;

use candidate::{BitByBit, Candidate, HiSparse, REQUEST};
use content::{Content, DEVICES};

/// The most nanoseconds of a run lookup on the 1 GiB map with half of its sectors dirty.
const RUN_NS: f64 = 4.0;

/// Positions: enough of them that they lie far apart on the largest device.
const POSITIONS: usize = 1 << 20;

/// Those of them that are looked up or marked in one pass: a quarter of the requests of
/// 4 KiB that 1 GiB has.
const IN_A_PASS: usize = 1 << 16;

/// Measures all rows; calls `each` when a few of them are there.
pub fn measure(only: &Only, mut each: impl FnMut(Vec<Row>)) {
    for (device, sectors) in DEVICES {
        for content in Content::ALL {
            let case = Case {
                name: format!("{}/{device}", content.name()),
                sectors: sectors.0,
                only,
            };
            if !OPERATIONS.iter().any(|operation| case.wants(operation)) {
                continue;
            }
            case.measure(&content.bitmap(sectors), &mut each);
        }
    }
    memory::measure(only, &mut each);
    growth::measure(only, &mut each);
}

const STATE: &str = "state";
const RUN: &str = "run";
const REQUEST_RUN: &str = "run in 4 KiB";
const NEXT_DIRTY: &str = "next dirty, all";
const NEXT_CLEAN: &str = "next clean, all";
const MARK: &str = "mark 4 KiB";
const MARK_AND_NOTE: &str = "mark 4 KiB and note";
const OPERATIONS: [&str; 7] = [
    STATE,
    RUN,
    REQUEST_RUN,
    NEXT_DIRTY,
    NEXT_CLEAN,
    MARK,
    MARK_AND_NOTE,
];

/// A map of one content on one device.
struct Case<'a> {
    name: String,
    sectors: u64,
    only: &'a Only,
}

/// What is compared with the map, as far as it can hold the device.
struct All {
    ours: SectorMap,
    bits: BitByBit,
    fixed: FixedBitSet,
    roaring: Option<RoaringBitmap>,
    sparse: Option<HiSparse>,
}

/// A contender: its name, whether it is a peer to be no slower than, and the passes.
struct Entry<'a> {
    name: &'static str,
    is_peer: bool,
    pass: Contender<'a, f64>,
}

impl All {
    /// An entry for each, made by a function that is generic over them.
    fn entries<'a>(&'a self, operation: Operation<'a>) -> Vec<Entry<'a>> {
        let mut entries = vec![
            entry(&self.ours, operation),
            entry(&self.bits, operation),
            entry(&self.fixed, operation),
        ];
        entries.extend(self.roaring.as_ref().map(|set| entry(set, operation)));
        entries.extend(self.sparse.as_ref().map(|set| entry(set, operation)));
        entries
    }
}

/// One pass of an operation.
#[derive(Clone, Copy)]
enum Operation<'a> {
    State(&'a [u32]),
    Run(&'a [u32], u64),
    RequestRun(&'a [u32]),
    NextDirty(u64),
    NextClean(u64),
    Mark(&'a [u32], Start),
    MarkAndNote(&'a [u32], Start),
}

/// What marking begins with.
#[derive(Clone, Copy)]
enum Start {
    /// A copy of the set.
    Copy { sectors: u64 },
    /// A new set, for that is how a map gets to be empty. Making it counts: some contenders
    /// have all their memory written then, and others each piece when it is first marked.
    New { sectors: u64 },
}

impl Start {
    /// The nanoseconds of marking a set, which is given with another one for the words that
    /// change.
    fn timed<C: Candidate>(self, set: &C, mark: impl FnOnce(&mut C, &mut C)) -> f64 {
        let (Start::Copy { sectors } | Start::New { sectors }) = self;
        let noted = C::empty(sectors.div_ceil(64));
        let mut changed = noted.unwrap_or_else(|| set.clone());
        let copy = match self {
            Start::Copy { .. } => Some(set.clone()),
            Start::New { .. } => None,
        };
        let mut marked = None;
        let time = timed(|| {
            if let Some(set) = marked.insert(copy.or_else(|| C::empty(sectors))) {
                mark(set, &mut changed);
            }
        });
        black_box((marked, changed));
        time
    }
}

fn entry<'a, C: Candidate + 'a>(set: &'a C, operation: Operation<'a>) -> Entry<'a> {
    let mut passes = 0;
    let pass = move || {
        passes += 1;
        one_pass(set, operation, passes)
    };
    Entry {
        name: C::NAME,
        is_peer: C::IS_PEER,
        pass: Box::new(pass),
    }
}

/// The positions of one pass.
fn part(positions: &[u32], pass: usize) -> &[u32] {
    let parts = (positions.len() / IN_A_PASS).max(1);
    let from = pass % parts * IN_A_PASS;
    &positions[from..positions.len().min(from + IN_A_PASS)]
}

/// Nanoseconds.
fn one_pass<C: Candidate>(set: &C, operation: Operation<'_>, pass: usize) -> f64 {
    match operation {
        Operation::State(positions) => timed(|| {
            for &at in part(positions, pass) {
                black_box(set.state(u64::from(black_box(at))));
            }
        }),
        Operation::Run(positions, end) => timed(|| {
            for &at in part(positions, pass) {
                black_box(set.run(u64::from(black_box(at)), end));
            }
        }),
        Operation::RequestRun(positions) => timed(|| {
            for &at in part(positions, pass) {
                let at = u64::from(black_box(at)) / REQUEST * REQUEST;
                black_box(set.run(at, at + REQUEST));
            }
        }),
        Operation::NextDirty(end) => timed_again_and_again(|| {
            black_box(black_box(set).scan_dirty(end));
        }),
        Operation::NextClean(end) => timed_again_and_again(|| {
            black_box(black_box(set).scan_clean(end));
        }),
        Operation::Mark(positions, start) => start.timed(set, |set, _| {
            for &at in positions {
                set.mark(u64::from(at) / REQUEST * REQUEST);
            }
        }),
        Operation::MarkAndNote(positions, start) => start.timed(set, |set, changed| {
            for &at in positions {
                set.mark_and_note(changed, u64::from(at) / REQUEST * REQUEST);
            }
        }),
    }
}

/// Nanoseconds.
fn timed(work: impl FnOnce()) -> f64 {
    let started = clock::start();
    work();
    started.elapsed().as_nanos() as f64
}

/// The nanoseconds of one call of something that may take next to none: the mean of enough calls
/// that reading the clock has no weight.
fn timed_again_and_again(mut work: impl FnMut()) -> f64 {
    const LONG_ENOUGH: Duration = Duration::from_micros(200);
    let started = clock::start();
    let mut calls = 0_u32;
    // Asked seldom: reading the clock takes longer than seeing that a map is empty.
    for more in (0..).map(|round| 1 << round) {
        for _ in 0..more {
            work();
        }
        calls += more;
        if started.elapsed() >= LONG_ENOUGH {
            break;
        }
    }
    started.elapsed().as_nanos() as f64 / f64::from(calls)
}

/// What reading the positions of a pass takes, in nanoseconds.
fn overhead(positions: &[u32]) -> f64 {
    let pass = || {
        timed(|| {
            for &at in part(positions, 0) {
                black_box(black_box(at));
            }
        })
    };
    rounds(&mut [Box::new(pass)])[0]
}

impl Case<'_> {
    fn row_name(&self, operation: &str) -> String {
        format!("lookup/{operation}/{}", self.name)
    }

    fn wants(&self, operation: &str) -> bool {
        self.only.wanted(&self.row_name(operation))
    }

    fn measure(&self, bitmap: &[u64], each: &mut impl FnMut(Vec<Row>)) {
        let (Some(ours), Some(bits), Some(fixed)) = (
            SectorMap::build(bitmap),
            BitByBit::build(bitmap),
            FixedBitSet::build(bitmap),
        ) else {
            return;
        };
        let all = All {
            ours,
            bits,
            fixed,
            roaring: RoaringBitmap::build(bitmap),
            sparse: HiSparse::build(bitmap),
        };
        let mut random = SplitMix64(2);
        let positions: Vec<_> = (0..POSITIONS)
            .map(|_| random.below(self.sectors) as u32)
            .collect();
        let (marks, end) = (&positions[..IN_A_PASS], self.sectors);
        // Where the way to the end of a run is long, fewer of them do.
        let few = &positions[..256];
        let uniform = bitmap.iter().all(|&word| word == bitmap[0]);
        let start = match uniform && bitmap[0] == 0 {
            true => Start::New { sectors: end },
            false => Start::Copy { sectors: end },
        };
        let operations = [
            (STATE, Operation::State(&positions), IN_A_PASS),
            match uniform {
                true => (RUN, Operation::Run(few, end), few.len()),
                false => (RUN, Operation::Run(&positions, end), IN_A_PASS),
            },
            (REQUEST_RUN, Operation::RequestRun(&positions), IN_A_PASS),
            (NEXT_DIRTY, Operation::NextDirty(end), 1),
            (NEXT_CLEAN, Operation::NextClean(end), 1),
            (MARK, Operation::Mark(marks, start), marks.len()),
            (
                MARK_AND_NOTE,
                Operation::MarkAndNote(marks, start),
                marks.len(),
            ),
        ];
        let reading = overhead(&positions) / IN_A_PASS as f64;
        for (name, operation, count) in operations {
            if !self.wants(name) {
                continue;
            }
            let mut entries = all.entries(operation);
            if name == RUN && uniform {
                // Bit by bit through a whole device: it would take the day.
                entries.retain(|entry| ![BitByBit::NAME, FixedBitSet::NAME].contains(&entry.name));
                if self.name.starts_with(Content::Full.name()) {
                    entries.retain(|entry| entry.name != HiSparse::NAME);
                }
            }
            let net = if count == 1 { 0.0 } else { reading };
            each(self.rows(name, entries, count, net));
        }
    }

    fn rows(&self, operation: &str, entries: Vec<Entry<'_>>, count: usize, net: f64) -> Vec<Row> {
        let (names, mut passes): (Vec<_>, Vec<_>) = entries
            .into_iter()
            .map(|entry| ((entry.name, entry.is_peer), entry.pass))
            .unzip();
        // What is left of an operation that is all but free is no less than this.
        let each = |time: f64| (time / count as f64 - net).max(0.01);
        let times: Vec<_> = rounds(&mut passes).into_iter().map(each).collect();
        let name = self.row_name(operation);
        let mut rows: Vec<_> = names
            .iter()
            .zip(&times)
            .skip(1)
            .map(|(&(peer, is_peer), &time)| {
                let row = row(&name, times[0]).against(peer, time / scale(times[0]).0);
                if is_peer { row.target(1.0) } else { row }
            })
            .collect();
        if name == "lookup/run/half at random/1 GiB" {
            rows.push(row(&name, times[0]).target(RUN_NS));
        }
        rows
    }
}

/// A row for a time in ns, in the unit that fits it.
fn row(name: &str, time: f64) -> Row {
    let (divisor, unit) = scale(time);
    Row::new(name, time / divisor, unit)
}

fn scale(time: f64) -> (f64, Unit) {
    match time {
        ..1e4 => (1.0, Unit::Nanoseconds),
        ..1e7 => (1e3, Unit::Microseconds),
        _ => (1e6, Unit::Milliseconds),
    }
}

/// The sectors of a device whose bitmap is 64 MiB long.
const BITMAP_OF_64_MIB: SectorCount = SectorCount(64 << 23);
