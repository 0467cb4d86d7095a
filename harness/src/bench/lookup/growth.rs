//! How the map's costs grow with the device.

use std::hint::black_box;

use driver::cow::SectorMap;
use driver::units::SectorCount;

use super::candidate::{Candidate, REQUEST};
use super::content::{Content, GIB};
use super::{timed, timed_again_and_again};
use crate::bench::rounds::rounds;
use crate::bench::{Growth, Only, Order, Row, Unit};
use crate::random::SplitMix64;

/// Three decades.
const DEVICES: [(&str, u64); 4] = [
    ("1 GiB", GIB),
    ("16 GiB", 16 * GIB),
    ("128 GiB", 128 * GIB),
    ("1 TiB", 1024 * GIB),
];

/// Lookups and marks of a pass.
const IN_A_PASS: usize = 1 << 16;

/// The maps of one device.
struct Maps {
    sectors: u64,
    empty: SectorMap,
    extents: SectorMap,
    /// A GiB in one piece dirty, and the rest clean.
    one_piece: SectorMap,
}

/// What is measured: its name, its unit, how it is to grow, and one pass's cost.
struct Question {
    name: &'static str,
    unit: Unit,
    order: Order,
    cost: fn(&Maps) -> f64,
}

const QUESTIONS: [Question; 7] = [
    Question {
        name: "lookup/growth/run in 4 KiB, all over 1 GiB of the device",
        unit: Unit::Nanoseconds,
        order: Order::Constant,
        cost: |maps| lookups(&maps.extents, GIB),
    },
    Question {
        name: "lookup/growth/run in 4 KiB, all over the device",
        unit: Unit::Nanoseconds,
        order: Order::CachesOnly,
        cost: |maps| lookups(&maps.extents, maps.sectors),
    },
    Question {
        name: "lookup/growth/mark 4 KiB, all over 1 GiB of the device",
        unit: Unit::Nanoseconds,
        order: Order::Constant,
        cost: marks,
    },
    Question {
        name: "lookup/growth/next dirty, all, empty",
        unit: Unit::Nanoseconds,
        order: Order::Constant,
        cost: |maps| scan(&maps.empty),
    },
    Question {
        name: "lookup/growth/next dirty, all, 1 GiB in one piece",
        unit: Unit::Nanoseconds,
        order: Order::Linear,
        cost: |maps| scan(&maps.one_piece),
    },
    Question {
        name: "lookup/growth/next dirty, all, 1 % in 4 KiB",
        unit: Unit::Milliseconds,
        order: Order::Linear,
        cost: |maps| scan(&maps.extents) / 1e6,
    },
    Question {
        name: "lookup/growth/memory, 1 GiB in one piece",
        unit: Unit::Mebibytes,
        order: Order::Linear,
        cost: |maps| maps.one_piece.memory_bytes().0 as f64 / f64::from(1 << 20),
    },
];

/// Measures the rows.
pub(super) fn measure(only: &Only, each: &mut impl FnMut(Vec<Row>)) {
    let wanted = |question: &&Question| only.wanted(question.name);
    let questions: Vec<_> = QUESTIONS.iter().filter(wanted).collect();
    if questions.is_empty() {
        return;
    }
    let mut growths: Vec<_> = questions
        .iter()
        .map(|question| Growth::new(question.name, question.unit))
        .collect();
    for (device, sectors) in DEVICES {
        let Some(maps) = Maps::new(sectors) else {
            continue;
        };
        for (question, growth) in questions.iter().zip(&mut growths) {
            growth.point(device, sectors as f64, (question.cost)(&maps));
        }
    }
    for (question, growth) in questions.iter().zip(&growths) {
        each(growth.rows(question.order));
    }
}

impl Maps {
    fn new(sectors: u64) -> Option<Maps> {
        let bitmap = Content::Extents.bitmap(SectorCount(sectors));
        let mut one_piece = vec![0; bitmap.len()];
        one_piece[..(GIB / 64) as usize].fill(u64::MAX);
        Some(Maps {
            sectors,
            empty: SectorMap::empty(sectors)?,
            extents: SectorMap::build(&bitmap)?,
            one_piece: SectorMap::build(&one_piece)?,
        })
    }
}

/// Random requests in the first `within` sectors.
fn requests(within: u64) -> Vec<u64> {
    let mut random = SplitMix64(5);
    (0..IN_A_PASS)
        .map(|_| random.below(within / REQUEST) * REQUEST)
        .collect()
}

fn lookups(map: &SectorMap, within: u64) -> f64 {
    let requests = requests(within);
    let pass = || {
        timed(|| {
            for &at in &requests {
                black_box(map.run(black_box(at), at + REQUEST));
            }
        })
    };
    rounds(&mut [Box::new(pass)])[0] / requests.len() as f64
}

fn marks(maps: &Maps) -> f64 {
    let requests = requests(GIB);
    let pass = || {
        let mut map = maps.extents.clone();
        timed(|| {
            for &at in &requests {
                map.mark(at);
            }
            black_box(&mut map);
        })
    };
    rounds(&mut [Box::new(pass)])[0] / requests.len() as f64
}

fn scan(map: &SectorMap) -> f64 {
    let pass = || {
        timed_again_and_again(|| {
            black_box(black_box(map).scan_dirty(map.sectors().0));
        })
    };
    rounds(&mut [Box::new(pass)])[0]
}
