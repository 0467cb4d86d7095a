//! The sector lookup: on empty, full and fragmented maps, beside the bit-by-bit loop
//! of the original driver.
//!
//! Positions are drawn from a fixed seed and are as many as it takes for the lookups
//! to leave the caches on the large device. The times of whole scans are per scan, all
//! others per operation.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput};
use driver::cow::SectorMap;
use driver::cow::{PAGE_BYTES, SECTORS_PER_PAGE};
use driver::units::{Sector, SectorCount, SectorRange};

const GIB: u64 = 1 << 21;
/// The device whose bitmap is 64 MiB long.
const BITMAP_OF_64_MIB: SectorCount = SectorCount(256 * GIB);
const DEVICES: [(&str, SectorCount); 2] = [
    ("1 GiB", SectorCount(GIB)),
    ("2 TiB", SectorCount(2048 * GIB)),
];
const CONTENTS: [(&str, Content); 4] = [
    ("empty", Content::Empty),
    ("full", Content::Full),
    ("1 % in 4 KiB extents", Content::Extents),
    ("50 % random", Content::Random),
];

/// A request of 4 KiB.
const REQUEST: SectorCount = SectorCount(8);

#[derive(Clone, Copy)]
enum Content {
    Empty,
    Full,
    Extents,
    Random,
}

/// Small, seeded, and good enough to scatter bits.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn new_map(sectors: SectorCount) -> SectorMap {
    SectorMap::new(sectors).expect("within the maximum")
}

fn map_with(content: Content, sectors: SectorCount) -> SectorMap {
    let mut map = new_map(sectors);
    let mut random = SplitMix64(1);
    let mut bitmap = [0; PAGE_BYTES];
    for page in 0..map.pages() {
        match content {
            Content::Empty => return map,
            Content::Full => bitmap.fill(0xff),
            // A byte of bitmap is an extent of 4 KiB.
            Content::Extents => {
                bitmap.fill(0);
                for _ in 0..PAGE_BYTES / 100 {
                    bitmap[random.next() as usize % PAGE_BYTES] = 0xff;
                }
            }
            Content::Random => {
                for word in bitmap.chunks_exact_mut(8) {
                    word.copy_from_slice(&random.next().to_le_bytes());
                }
            }
        }
        map.load_page(page, &bitmap);
    }
    map
}

/// Sectors where an aligned request of 4 KiB starts.
fn positions(sectors: SectorCount) -> Vec<Sector> {
    let mut random = SplitMix64(2);
    (0..1 << 20)
        .map(|_| Sector(random.next() % sectors.0 / REQUEST.0 * REQUEST.0))
        .collect()
}

/// Calls `lookup` with one position after another, around in a circle.
fn bench_at<T>(
    criterion: &mut Criterion,
    id: &str,
    positions: &[Sector],
    mut lookup: impl FnMut(Sector) -> T,
) {
    criterion.bench_function(id, |bencher| {
        let mut next = positions.iter().cycle();
        bencher.iter(|| lookup(*next.next().expect("it never ends")));
    });
}

fn lookups(criterion: &mut Criterion) {
    for (device, sectors) in DEVICES {
        let positions = positions(sectors);
        for (name, content) in CONTENTS {
            let map = map_with(content, sectors);
            let id = |what: &str| format!("{what}/{device}, {name}");
            bench_at(criterion, &id("run_at"), &positions, |at| map.run_at(at));
            bench_at(criterion, &id("run_within 8"), &positions, |at| {
                map.run_within(at, at + REQUEST)
            });
        }
    }
}

/// The whole bitmap in one piece of memory, as the original driver has it.
fn flat_bitmap(map: &SectorMap) -> Vec<u8> {
    let mut bitmap = vec![0; map.pages() * PAGE_BYTES];
    for (page, bytes) in bitmap.chunks_exact_mut(PAGE_BYTES).enumerate() {
        map.page_bytes(page, bytes);
    }
    bitmap
}

/// The original driver's way: from the first sector on, bit by bit, to the first that
/// differs or to the end of the request.
fn run_bit_by_bit(bitmap: &[u8], start: Sector, end: Sector) -> (bool, SectorCount) {
    let bit = |sector: u64| bitmap[(sector / 8) as usize] >> (sector % 8) & 1 != 0;
    let first = bit(start.0);
    let mut at = start.0 + 1;
    while at < end.0 && bit(at) == first {
        at += 1;
    }
    (first, Sector(at) - start)
}

fn bit_by_bit(criterion: &mut Criterion) {
    let (device, sectors) = DEVICES[0];
    let positions = positions(sectors);
    for (name, content) in CONTENTS {
        let bitmap = flat_bitmap(&map_with(content, sectors));
        let id = format!("bit by bit, 8/{device}, {name}");
        bench_at(criterion, &id, &positions, |at| {
            run_bit_by_bit(&bitmap, at, at + REQUEST)
        });
        let id = format!("bit by bit, scan/{device}, {name}");
        criterion.bench_function(&id, |bencher| {
            bencher.iter(|| {
                let (mut at, mut runs) = (Sector(0), 0_u64);
                while at.0 < sectors.0 {
                    let (dirty, count) = run_bit_by_bit(&bitmap, at, Sector(sectors.0));
                    at += count;
                    runs += u64::from(dirty);
                }
                runs
            });
        });
    }
}

fn scans(criterion: &mut Criterion) {
    let [small, large] = DEVICES;
    let middle = ("64 MiB of bitmap", BITMAP_OF_64_MIB);
    let [empty, full, extents, random] = CONTENTS;
    for ((device, sectors), (name, content)) in [
        (small, empty),
        (small, full),
        (small, extents),
        (small, random),
        (middle, empty),
        (middle, full),
        (large, empty),
        (large, full),
    ] {
        let map = map_with(content, sectors);
        let whole = SectorRange::new(Sector(0), sectors);
        let id = format!("next_dirty, scan/{device}, {name}");
        criterion.bench_function(&id, |bencher| {
            bencher.iter(|| black_box(&map).dirty_runs(whole).count());
        });
    }
}

fn marks(criterion: &mut Criterion) {
    for (device, sectors) in DEVICES {
        let positions = positions(sectors);
        let mut map = map_with(Content::Empty, sectors);
        for &at in &positions {
            map.mark_dirty(SectorRange::new(at, REQUEST));
        }
        let id = format!("mark_dirty 8, again/{device}");
        bench_at(criterion, &id, &positions, |at| {
            map.mark_dirty(SectorRange::new(at, REQUEST));
        });
    }

    // Each 4 KiB of 1 GiB for the first time, in two orders; the time is per mark. A
    // multiplier that is odd permutes the requests.
    let sectors = DEVICES[0].1;
    let requests = sectors.0 / REQUEST.0;
    let mut group = criterion.benchmark_group("mark_dirty 8, first");
    group.throughput(Throughput::Elements(requests));
    for (order, step) in [("ascending", 1), ("scattered", 0x9e37_79b1)] {
        group.bench_function(order, |bencher| {
            let mark_all = |mut map: SectorMap| {
                for request in 0..requests {
                    let at = request * step % requests * REQUEST.0;
                    map.mark_dirty(SectorRange::new(Sector(at), REQUEST));
                }
                map
            };
            bencher.iter_batched(|| new_map(sectors), mark_all, BatchSize::LargeInput);
        });
    }
    group.finish();

    // The first write to a page also makes it mixed.
    let sectors = DEVICES[1].1;
    let pages = sectors.0 / SECTORS_PER_PAGE.0;
    let mut group = criterion.benchmark_group("mark_dirty 8, first in each page");
    group.throughput(Throughput::Elements(pages));
    group.bench_function("2 TiB", |bencher| {
        let mark_all = |mut map: SectorMap| {
            for page in 0..pages {
                let at = page * SECTORS_PER_PAGE.0;
                map.mark_dirty(SectorRange::new(Sector(at), REQUEST));
            }
            map
        };
        bencher.iter_batched(|| new_map(sectors), mark_all, BatchSize::PerIteration);
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .nresamples(2000)
        .warm_up_time(Duration::from_millis(150))
        .measurement_time(Duration::from_millis(400))
        .configure_from_args();
    lookups(&mut criterion);
    bit_by_bit(&mut criterion);
    scans(&mut criterion);
    marks(&mut criterion);
    criterion.final_summary();
}
