//! Replays in memory, from the trace to the last comparison: a recorded one with full payload,
//! and a generated one with stamps only. `ubdlab bench replay` measures more of them, and how
//! they grow.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use driver::units::Bytes;
use harness::bench::replay::{Generated, in_memory};
use harness::stamp::Coverage;
use harness::trace::Bundled;

const REQUESTS: u64 = 100_000;
const DEVICE: Bytes = Bytes(64 << 20);

fn replay(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replay");
    group.sample_size(10);
    let bundled = Bundled::EXT4_UNPACK;
    let replayed = |coverage| {
        in_memory(bundled.name, &|| bundled.open(), coverage).expect("a bundled trace replays")
    };
    let report = replayed(Coverage::Whole);
    let sectors = report.sectors_read + report.sectors_written;
    group.throughput(Throughput::Bytes(sectors * 512));
    group.bench_function("ext4-unpack, payload", |bencher| {
        bencher.iter_custom(|rounds| {
            let times = (0..rounds).map(|_| black_box(replayed(Coverage::Whole)).elapsed_ns);
            Duration::from_nanos(times.sum())
        });
    });
    group.throughput(Throughput::Elements(REQUESTS));
    group.bench_function("generated, stamps only", |bencher| {
        bencher.iter_custom(|rounds| {
            let measured = || Generated::measure(REQUESTS, DEVICE).expect("it is a workload");
            Duration::from_nanos((0..rounds).map(|_| measured().elapsed_ns).sum())
        });
    });
    group.finish();
}

criterion_group!(benches, replay);
criterion_main!(benches);
