//! Generated traces: what was asked for is what comes, the same on every machine; and what the
//! statistics say about them is true, by counting naively.

use std::collections::BTreeSet;
use std::path::Path;

use driver::units::Bytes;
use harness::trace::generate::Access;
use harness::trace::stat::{Counter, Statistics};
use harness::trace::write::{CsvWriter, RecordWriter};
use harness::trace::{Generator, Record, TraceOperation, Workload};
use proptest::prelude::*;

fn records(workload: &Workload) -> Vec<Record> {
    Generator::new(workload.clone())
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

fn counted(records: &[Record]) -> Statistics {
    let mut counter = Counter::default();
    records.iter().for_each(|record| counter.add(record));
    counter.finish()
}

fn mixed() -> Workload {
    Workload {
        seed: 42,
        requests: 50_000,
        device: Bytes(256 << 20),
        reads: 30,
        writes: 50,
        discards: 10,
        write_zeroes: 10,
        sizes: vec![(3, Bytes(4096)), (1, Bytes(65536))],
        access: Access::Zipf { theta_64ths: 63 },
        sequential_percent: 20,
        writes_per_flush: 10,
        preflush_percent: 50,
        fua_percent: 5,
        rate: 1000,
    }
}

/// If this changes, traces that others generated from a seed are not the same any more.
#[test]
fn one_seed_gives_these_bytes_on_every_machine() {
    let hot = Access::HotSpot {
        space_percent: 10,
        requests_percent: 90,
    };
    let zipf = Access::Zipf { theta_64ths: 63 };
    let checksum = |access| {
        let workload = Workload { access, ..mixed() };
        let mut csv = CsvWriter::create(Path::new("csv"), Vec::new()).unwrap();
        for record in records(&workload) {
            csv.push(&record).unwrap();
        }
        format!("{:08x}", crc32c::crc32c(&csv.finish().unwrap()))
    };
    assert_eq!(
        [Access::Sequential, Access::Random, zipf, hot].map(checksum),
        ["9c6fe95f", "39643da8", "116b0cf7", "31aec37d"]
    );
}

#[test]
fn what_was_asked_for_is_what_comes() {
    let records = records(&mixed());
    assert_eq!(records.len(), 50_000);
    let statistics = counted(&records);
    let summary = &statistics.summary;
    let share = |count: u64| count * 100 / (summary.requests - summary.flushes);
    assert!((29..=31).contains(&share(summary.reads)), "{summary:?}");
    assert!((49..=51).contains(&share(summary.writes)));
    assert!((9..=11).contains(&share(summary.discards)));
    assert!((9..=11).contains(&share(summary.write_zeroes)));
    let flushes = summary.flushes + summary.preflush_writes;
    assert!(flushes.abs_diff(summary.writes / 10) <= 1, "{summary:?}");
    assert!((40..=60).contains(&(summary.preflush_writes * 100 / flushes)));
    assert!((4..=6).contains(&(summary.fua_writes * 100 / summary.writes)));
    assert!((900.0..1100.0).contains(&statistics.requests_per_second));
    assert!(summary.max_end_sector <= (256 << 20) / 512);
    let sequential = statistics.sequential_writes * 100 / summary.writes;
    assert!((15..=30).contains(&sequential), "{sequential}");
    assert_eq!(statistics.flush_intervals.p50_writes, 10);
    let classes: Vec<_> = statistics
        .read_sizes
        .classes
        .iter()
        .map(|c| c.up_to_bytes)
        .collect();
    assert_eq!(classes, [4096, 65536]);
}

#[test]
fn a_hot_spot_is_hot_and_a_sequence_is_one() {
    let hot = Workload {
        access: Access::HotSpot {
            space_percent: 10,
            requests_percent: 90,
        },
        sequential_percent: 0,
        ..mixed()
    };
    let statistics = counted(&records(&hot));
    let ten: u64 = statistics
        .hot_regions
        .iter()
        .map(|region| region.requests)
        .sum();
    // Ten of some 26 hot megabytes.
    let share = ten * 100 / statistics.summary.requests;
    assert!((25..=45).contains(&share), "{share}");

    let sequence = Workload {
        access: Access::Sequential,
        reads: 0,
        discards: 0,
        write_zeroes: 0,
        ..mixed()
    };
    let statistics = counted(&records(&sequence));
    let summary = &statistics.summary;
    assert!(
        statistics.sequential_writes * 100 / summary.writes >= 98,
        "{statistics:?}"
    );
}

#[test]
fn what_cannot_be_generated_is_refused() {
    for workload in [
        Workload {
            device: Bytes(0),
            ..mixed()
        },
        Workload {
            reads: 0,
            writes: 0,
            discards: 0,
            write_zeroes: 0,
            ..mixed()
        },
        Workload {
            sizes: vec![],
            ..mixed()
        },
        Workload {
            sizes: vec![(0, Bytes(4096))],
            ..mixed()
        },
        Workload {
            sizes: vec![(1, Bytes(1 << 40))],
            ..mixed()
        },
        Workload {
            fua_percent: 101,
            ..mixed()
        },
        Workload { rate: 0, ..mixed() },
        Workload {
            access: Access::Zipf { theta_64ths: 257 },
            ..mixed()
        },
    ] {
        assert!(Generator::new(workload.clone()).is_err(), "{workload:?}");
    }
}

/// The figures of the statistics, block by block and with all of them in memory.
fn naive(records: &[Record]) -> (u64, u64, u64, u64) {
    let (mut read, mut written, mut overwritten) = (BTreeSet::new(), BTreeSet::new(), 0);
    for record in records {
        let blocks = record.start.0 / 8..record.end().0.div_ceil(8);
        match record.operation {
            TraceOperation::Read => read.extend(blocks),
            TraceOperation::Write | TraceOperation::WriteZeroes => {
                let again = blocks.filter(|block| !written.insert(*block)).count() as u64;
                overwritten += (again * 8).min(record.count.0);
            }
            TraceOperation::Flush | TraceOperation::Discard => {}
        }
    }
    let both = read.union(&written).count() as u64;
    (
        both * 4096,
        read.len() as u64 * 4096,
        written.len() as u64 * 4096,
        overwritten,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn statistics_are_those_of_a_naive_count(
        seed in any::<u64>(),
        size in 1..200_u64,
        device in 1_u64 << 12..1 << 34,
        zipf in any::<bool>(),
    ) {
        let access = match zipf {
            true => Access::Zipf { theta_64ths: 70 },
            false => Access::Random,
        };
        let size = Bytes((size * 512).min(device / 512 * 512));
        let workload = Workload {
            seed,
            requests: 2000,
            device: Bytes(device),
            sizes: vec![(1, size), (2, Bytes(512))],
            access,
            ..mixed()
        };
        let records = records(&workload);
        for record in &records {
            record.check().unwrap();
            prop_assert!(record.end().0 <= device / 512);
        }
        let set = counted(&records);
        let found = (
            set.working_set.touched_bytes,
            set.working_set.read_bytes,
            set.working_set.written_bytes,
            set.sectors_overwritten,
        );
        prop_assert_eq!(set.working_set.block_bytes, 4096);
        prop_assert_eq!(found, naive(&records));
    }
}
