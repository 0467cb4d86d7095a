//! Scanning 64 MiB of bitmap, beside reading as much memory.

use std::hint::black_box;

use driver::cow::{SECTORS_PER_PAGE, SectorMap};
use driver::units::{Sector, SectorCount, SectorRange};

use super::candidate::Candidate;
use super::{BITMAP_OF_64_MIB, timed, timed_again_and_again};
use crate::bench::rounds::rounds;
use crate::bench::{Only, Row, Unit};

/// The GB/s that scanning a mixed bitmap is asked to reach, unless the memory gives less.
const GIGABYTES_PER_SECOND: f64 = 20.0;

/// A whole map known to be uniform is asked to take microseconds.
const UNIFORM_US: f64 = 1000.0;

const BYTES: f64 = (BITMAP_OF_64_MIB.0 / 8) as f64;

/// Measures the rows about 64 MiB of bitmap.
pub(super) fn measure(only: &Only, each: &mut impl FnMut(Vec<Row>)) {
    let name = |what: &str| format!("lookup/scan 64 MiB/{what}");
    let wanted = |what: &str| only.wanted(&name(what));
    for (what, map) in [
        ("empty", SectorMap::new(BITMAP_OF_64_MIB)),
        ("full", SectorMap::all_dirty(BITMAP_OF_64_MIB)),
    ] {
        let (true, Ok(map)) = (wanted(what), map) else {
            continue;
        };
        let time = rounds(&mut [Box::new(|| scan(&map))])[0];
        each(vec![
            Row::new(name(what), time / 1e3, Unit::Microseconds).target(UNIFORM_US),
        ]);
    }
    if wanted("mixed") {
        mixed(&name("mixed"), each);
    }
}

fn scan(map: &SectorMap) -> f64 {
    timed_again_and_again(|| {
        black_box(black_box(map).scan_dirty(map.sectors().0));
    })
}

/// A request's worth of dirty sectors in each page, so that none is known whole and all of
/// their words have to be read.
fn mixed(name: &str, each: &mut impl FnMut(Vec<Row>)) {
    let Ok(mut map) = SectorMap::new(BITMAP_OF_64_MIB) else {
        return;
    };
    for page in 0..map.pages() as u64 {
        let at = Sector(page * SECTORS_PER_PAGE.0 + page * 8 % SECTORS_PER_PAGE.0);
        map.mark_dirty(SectorRange::new(at, SectorCount(8)));
    }
    let memory = vec![1_u64; BYTES as usize / 8];
    let times = rounds(&mut [
        Box::new(|| scan(&map)),
        Box::new(|| {
            timed(|| {
                let all = black_box(&memory[..]).iter();
                black_box(all.fold(0, |sum, &word| sum | word));
            })
        }),
    ]);
    let rate = |time: f64| BYTES / time;
    let row = Row::new(name, rate(times[0]), Unit::GigabytesPerSecond)
        .against("reading as much memory", rate(times[1]));
    // Either is enough.
    let least = (GIGABYTES_PER_SECOND / rate(times[1])).min(1.0);
    each(vec![row.target(least)]);
}
