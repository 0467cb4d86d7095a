//! The sector lookup: on empty, full and fragmented maps, beside the bit-by-bit loop of the
//! original driver and beside three crates that hold sets of numbers.
//!
//! The contenders and the maps are those of `ubdlab bench lookup`, which says which of them
//! was faster in one run; here each is measured by itself, so that a change to one can be
//! followed over time. The times of whole scans are per scan, all others per operation.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion};
use driver::cow::{PAGE_BYTES, SECTORS_PER_PAGE, SectorMap};
use driver::units::{Sector, SectorCount, SectorRange};
use fixedbitset::FixedBitSet;
use harness::bench::lookup::candidate::{BitByBit, Candidate, HiSparse, REQUEST};
use harness::bench::lookup::content::{Content, GIB};
use harness::random::SplitMix64;
use roaring::RoaringBitmap;

/// Random sectors: enough of them that the lookups leave the caches on a large device.
fn positions(sectors: u64) -> Vec<u64> {
    let mut random = SplitMix64(2);
    (0..1 << 20).map(|_| random.below(sectors)).collect()
}

/// What everybody is asked, on one map of 1 GiB.
fn contender<C: Candidate>(criterion: &mut Criterion, content: Content, bitmap: &[u64]) {
    let sectors = bitmap.len() as u64 * 64;
    let Some(set) = C::build(bitmap) else {
        return;
    };
    let positions = positions(sectors);
    let id = |what: &str| format!("{what}/{}, 1 GiB/{}", content.name(), C::NAME);
    criterion.bench_function(&id("state"), |bencher| {
        let mut next = positions.iter().cycle();
        bencher.iter(|| set.state(*next.next().expect("it never ends")));
    });
    criterion.bench_function(&id("run in 4 KiB"), |bencher| {
        let mut next = positions.iter().cycle();
        bencher.iter(|| {
            let at = next.next().expect("it never ends") / REQUEST * REQUEST;
            set.run(at, at + REQUEST)
        });
    });
    criterion.bench_function(&id("next dirty, all"), |bencher| {
        bencher.iter(|| black_box(&set).scan_dirty(sectors));
    });
    criterion.bench_function(&id("mark 4 KiB"), |bencher| {
        let marks = positions.iter().map(|at| at / REQUEST * REQUEST);
        let mut next = marks.cycle();
        bencher.iter_batched_ref(
            || set.clone(),
            |set| set.mark(next.next().expect("it never ends")),
            // One copy serves many marks.
            BatchSize::NumIterations(1 << 14),
        );
    });
}

fn contenders(criterion: &mut Criterion) {
    for content in Content::ALL {
        let bitmap = content.bitmap(SectorCount(GIB));
        contender::<SectorMap>(criterion, content, &bitmap);
        contender::<BitByBit>(criterion, content, &bitmap);
        contender::<FixedBitSet>(criterion, content, &bitmap);
        contender::<RoaringBitmap>(criterion, content, &bitmap);
        contender::<HiSparse>(criterion, content, &bitmap);
    }
}

/// The map alone, on a device whose maps leave the caches.
fn large(criterion: &mut Criterion) {
    let sectors = 2048 * GIB;
    let positions = positions(sectors);
    for content in [Content::Extents, Content::Random] {
        let Some(map) = SectorMap::build(&content.bitmap(SectorCount(sectors))) else {
            return;
        };
        let id = format!("run in 4 KiB/{}, 2 TiB/ubdlab", content.name());
        criterion.bench_function(&id, |bencher| {
            let mut next = positions.iter().cycle();
            bencher.iter(|| {
                let at = next.next().expect("it never ends") / REQUEST * REQUEST;
                map.run(at, at + REQUEST)
            });
        });
    }
}

/// The bitmap's way from the disk into the map and back.
fn bitmap(criterion: &mut Criterion) {
    let bytes = |content: Content| -> Vec<u8> {
        let words = content.bitmap(SECTORS_PER_PAGE);
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    };
    for content in Content::ALL {
        let bytes = bytes(content);
        let mut map = SectorMap::new(SECTORS_PER_PAGE).expect("it is small");
        criterion.bench_function(&format!("load a page/{}", content.name()), |bencher| {
            bencher.iter(|| map.load_page(0, black_box(&bytes)));
        });
    }
    let mut buffer = [0; PAGE_BYTES];
    let mut map = SectorMap::new(SECTORS_PER_PAGE).expect("it is small");
    map.load_page(0, &bytes(Content::Random));
    criterion.bench_function("the bytes of a page/half at random", |bencher| {
        bencher.iter(|| map.page_bytes(0, black_box(&mut buffer)));
    });

    // Each 4 KiB of 1 GiB for the first time, in an order that scatters them (a multiplier
    // that is odd permutes the requests), and all of it taken to be written.
    let requests = GIB / REQUEST;
    criterion.bench_function("mark all 4 KiB of 1 GiB and take the changes", |bencher| {
        let new = || SectorMap::new(SectorCount(GIB)).expect("it is small");
        let mark_all = |mut map: SectorMap| {
            for request in 0..requests {
                let at = Sector(request * 0x9e37_79b1 % requests * REQUEST);
                map.mark_dirty(SectorRange::new(at, SectorCount(REQUEST)));
            }
            map.take_changes(SectorCount(GIB).bytes())
        };
        bencher.iter_batched(new, mark_all, BatchSize::LargeInput);
    });
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .nresamples(2000)
        .warm_up_time(Duration::from_millis(150))
        .measurement_time(Duration::from_millis(400))
        .configure_from_args();
    contenders(&mut criterion);
    large(&mut criterion);
    bitmap(&mut criterion);
    criterion.final_summary();
}
