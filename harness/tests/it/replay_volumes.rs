//! The results of shards of a replay of many volumes come to the same in any order and grouping,
//! and what does not fit is named.

use std::collections::BTreeMap;
use std::path::PathBuf;

use harness::replay::volumes::{FORMAT, Identity, Outcome, Volume, VolumeReport, VolumesResult};
use harness::shard::Shard;
use harness::shard::merge::{add, merge};
use harness::trace::Device;
use harness::trace::notes::DeviceCounts;
use proptest::prelude::*;

/// The volumes of a trace, with requests as a seed says.
fn listing(volumes: u64, seed: u64) -> BTreeMap<Device, DeviceCounts> {
    let counts = |id: u64| DeviceCounts {
        requests: 1 + (id * seed) % 7,
        sectors: 8 * id,
        max_end_sector: 100 + id,
    };
    (0..volumes)
        .map(|id| (Device::Id(id), counts(id)))
        .collect()
}

fn outcome(number: u64) -> Outcome {
    match number % 5 {
        3 => Outcome::Failed {
            error: format!("volume {number}: no"),
        },
        4 => Outcome::NothingTaken {
            why: "nothing".into(),
        },
        kind => Outcome::Replayed(Box::new(VolumeReport {
            requests: number,
            mismatches: match kind {
                2 => number,
                _ => 0,
            },
            ..VolumeReport::default()
        })),
    }
}

/// What a shard of a trace with this number of volumes came to.
fn result(shard: Shard, volumes: u64) -> VolumesResult {
    let own = (0..shard.share_of(volumes)).map(|index| shard.case_at(index));
    let own = own.map(|number| Volume {
        number,
        volume: number.to_string(),
        outcome: outcome(number),
    });
    VolumesResult {
        format: FORMAT.to_owned(),
        replay: Identity::of("t.csv".into(), &listing(volumes, 3), "--memory".into()),
        shards: shard.into(),
        jobs: u64::from(shard.number()),
        elapsed_ns: 10,
        volumes: own.collect(),
    }
}

fn shards(of: u32, volumes: u64) -> Vec<VolumesResult> {
    let shards = (1..=of).map(|number| Shard::new(number, of).unwrap());
    shards.map(|shard| result(shard, volumes)).collect()
}

fn named(results: Vec<VolumesResult>) -> Vec<(PathBuf, VolumesResult)> {
    let numbered = (1..).zip(results);
    numbered
        .map(|(number, result): (u32, _)| (format!("{number}.json").into(), result))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    /// Two of a heap of results are added again and again, until one is left.
    #[test]
    fn the_order_and_grouping_of_results_make_no_difference(
        of in 1_u32..9,
        volumes in 0_u64..40,
        choices in prop::collection::vec(any::<[prop::sample::Index; 2]>(), 8),
    ) {
        let mut heap = shards(of, volumes);
        for [one, other] in choices {
            if heap.len() == 1 {
                break;
            }
            let mut sum = heap.swap_remove(one.index(heap.len()));
            let other = heap.swap_remove(other.index(heap.len()));
            add(&mut sum, other).unwrap();
            prop_assert_eq!(sum.check(), Ok(()));
            heap.push(sum);
        }
        prop_assert_eq!(heap.len(), 1);
        let merged = merge(named(heap)).unwrap();
        let whole = result(Shard::WHOLE, volumes);
        prop_assert_eq!((merged.jobs, merged.elapsed_ns), (u64::from(of), 10 * u64::from(of)));
        prop_assert_eq!(VolumesResult { jobs: 1, elapsed_ns: 10, ..merged }, whole);
    }
}

#[test]
fn what_is_missing_doubled_or_foreign_is_named() {
    let refused = |results: Vec<VolumesResult>| merge(named(results)).unwrap_err().to_string();
    let without = |of, left_out: &[usize]| {
        let all = shards(of, 20).into_iter().enumerate();
        let some = all.filter(|(index, _)| !left_out.contains(&(index + 1)));
        some.map(|(_, result)| result).collect::<Vec<_>>()
    };
    assert_eq!(
        refused(Vec::new()),
        "found no result, expected those of all shards of a replay"
    );
    assert_eq!(
        refused(without(3, &[2])),
        "found 2 of 3 shards, expected all: shard 2 is missing"
    );
    assert_eq!(
        refused(without(4, &[2, 3])),
        "found 2 of 4 shards, expected all: shards 2, 3 are missing"
    );
    assert!(
        refused(without(40, &(2..=40).collect::<Vec<_>>()))
            .ends_with("16, 17 and 23 more are missing")
    );
    assert_eq!(
        refused([without(3, &[]), without(3, &[1, 3])].concat()),
        "4.json: found shard 2/3, which is in 2.json too"
    );
    assert_eq!(
        refused([without(3, &[]), without(4, &[1, 2, 3])].concat()),
        "4.json: a result of another replay than 1.json: found one in 4 shards, expected 3"
    );
    let foreign = |change: fn(&mut Identity)| {
        let mut results = shards(2, 20);
        change(&mut results[1].replay);
        refused(results)
    };
    type Change = (fn(&mut Identity), &'static str);
    let changes: [Change; 4] = [
        (
            |it| it.version = "9.9".into(),
            concat!("version: found 9.9, expected ", env!("CARGO_PKG_VERSION")),
        ),
        (
            |it| it.trace = "u.csv".into(),
            "trace: found u.csv, expected t.csv",
        ),
        (
            |it| it.options.clear(),
            "options: found none, expected \"--memory\"",
        ),
        (
            |it| it.trace_requests = 5,
            "trace_requests: found 5, expected 79",
        ),
    ];
    for (change, what) in changes {
        assert_eq!(
            foreign(change),
            format!("2.json: a result of another replay than 1.json: {what}")
        );
    }
    let other_trace =
        foreign(|it| *it = Identity::of("t.csv".into(), &listing(20, 4), it.options.clone()));
    assert!(other_trace.contains(": trace_"), "{other_trace}");
}

#[test]
fn a_result_has_the_volumes_of_its_shards() {
    let good = || result(Shard::new(2, 3).unwrap(), 8);
    assert_eq!(good().check(), Ok(()));
    let refused = |change: fn(&mut VolumesResult)| {
        let mut result = good();
        change(&mut result);
        result.check().unwrap_err().to_string()
    };
    assert_eq!(
        refused(|it| _ = it.volumes.pop()),
        "volumes: found 2, expected the 3 of its shards, by number and each once"
    );
    for change in [
        (|it| it.volumes[0].number = 3) as fn(&mut VolumesResult),
        |it| it.volumes[2].number = 10,
        |it| it.volumes.swap(0, 1),
        |it| it.volumes[1].number = 1,
    ] {
        assert!(refused(change).starts_with("volumes: found 3, "));
    }
    for numbers in [vec![], vec![0], vec![4], vec![2, 2], vec![3, 2]] {
        let mut result = good();
        result.shards.numbers = numbers;
        let why = result.check().unwrap_err().to_string();
        assert!(why.starts_with("shards: found ["), "{why}");
    }
}

#[test]
fn the_worst_volumes_come_first() {
    let mut whole = result(Shard::WHOLE, 12);
    let slow = |report: &mut VolumeReport| report.latency.flush.p99_ns = 1000;
    if let Outcome::Replayed(report) = &mut whole.volumes[6].outcome {
        slow(report);
        assert_eq!(report.slowest_kind().0, "flushes");
    }
    let order: Vec<u64> = whole.worst_first().iter().map(|it| it.number).collect();
    assert_eq!(order, [7, 2, 3, 8, 4, 9, 6, 0, 1, 5, 10, 11]);
}

#[test]
fn what_a_later_version_adds_is_passed_over_and_what_is_read_is_written_as_it_was() {
    let written = result(Shard::new(1, 2).unwrap(), 9);
    let mut value = serde_json::to_value(&written).unwrap();
    value["later"] = 7.into();
    value["volumes"][0]["later"] = "x".into();
    let read: VolumesResult = serde_json::from_value(value).unwrap();
    assert_eq!(read, written);
}
