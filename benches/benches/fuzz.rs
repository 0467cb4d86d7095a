//! The fuzzer: cases with all their crash images, on one thread. `ubdlab bench fuzz` also says
//! where the time goes.

use std::time::Duration;

use criterion::{Criterion, Throughput};
use harness::fuzz::campaign::one;
use harness::fuzz::case::{DriverName, Resizer};
use harness::fuzz::generate::Subject;
use harness::sim::Assumptions;

const SEEDS: std::ops::RangeInclusive<u64> = 1..=100;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    let subject = Subject {
        driver: DriverName::Ordered,
        defects: Vec::new(),
        resizer: Resizer::Userhelper,
        assumptions: Assumptions::default(),
        faults: true,
        lying_syncs: false,
    };
    let images = || -> u64 { SEEDS.map(|seed| one(seed, &subject).crash_images).sum() };
    let mut group = criterion.benchmark_group("crash images of ordered");
    group.throughput(Throughput::Elements(images()));
    group.bench_function("100 cases", |bencher| bencher.iter(images));
    group.finish();
    criterion.final_summary();
}
