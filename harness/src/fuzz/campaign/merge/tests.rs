//! Results add up to the same in any order and any grouping, and what does not fit is named.

use std::path::PathBuf;

use driver::linux::Defect;
use proptest::prelude::*;

use super::super::identity::{Identity, Until};
use super::*;
use crate::fuzz::case::DriverName;
use crate::fuzz::coverage::Coverage;
use crate::fuzz::defect::CaseDefect;
use crate::fuzz::finding::Finding;
use crate::fuzz::generate::generate;
use crate::fuzz::subject::Subject;
use crate::fuzz::violation::{Kind, Violation};
use crate::shard::Shard;
use crate::shard::merge::{add, merge};

const CASES: u64 = 100;

fn subject() -> Subject {
    Subject {
        defects: vec![
            CaseDefect::Kernel(Defect::FlushNoop),
            CaseDefect::Kernel(Defect::UnorderedPublish),
        ],
        ..Subject::healthy(DriverName::Linux612)
    }
}

/// A finding of the case of this number, one of a few that there are.
fn finding(number: u64, which: usize) -> FindingRecord {
    let subject = subject();
    let kind = [Kind::LostWrite, Kind::Zeros, Kind::Foreign][which % 3];
    let mut case = generate(number, &subject);
    // Some are not traced.
    let traced_to = match which {
        0..=5 => vec![subject.defects[which / 3]],
        _ => Vec::new(),
    };
    if which <= 5 {
        case.defects.clone_from(&traced_to);
    }
    FindingRecord::of(Finding {
        number,
        seed: number,
        switched_off: Vec::new(),
        traced_to,
        case,
        violation: Violation::new(kind, "then", format!("in case {number}")),
        is_stuck: false,
        is_untraced: which > 5,
    })
}

/// What a shard came to, with a finding of each of these kinds, at this index of its cases.
fn result(shard: Shard, found: &[(usize, u64)]) -> CampaignResult {
    let cases = shard.share_of(CASES);
    let mut coverage = Coverage::default();
    coverage.add("crash_kill", 3 * cases);
    let findings = found
        .iter()
        .map(|&(which, index)| finding(shard.case_at(index), which));
    let mut result = CampaignResult {
        format: FORMAT.to_owned(),
        campaign: Identity {
            version: "9.8.7".into(),
            cases_crc32c: 654,
            subject: subject(),
            seed: 0,
            until: Until::Cases(CASES),
        },
        shards: Shards {
            of: shard.of(),
            numbers: vec![shard.number()],
        },
        jobs: shard.number() as usize,
        cases,
        host_operations: 1000 * cases,
        crash_images: 17 * cases,
        elapsed_ns: 5 * cases,
        job_ns: 7 * cases,
        crash_images_per_second_and_job: 0.0,
        cases_with_findings: found.len() as u64,
        ended_by_signal: None,
        findings: earliest(findings),
        coverage,
    };
    result.compute_rate();
    result
}

fn text(result: &CampaignResult) -> String {
    serde_json::to_string_pretty(result).unwrap()
}

/// What the shards of a campaign find.
fn campaign() -> impl Strategy<Value = Vec<CampaignResult>> {
    let of_shard = prop::collection::vec((0..9_usize, 0..10_u64), 0..5);
    prop::collection::vec(of_shard, 1..8).prop_map(|found| {
        let of = found.len() as u32;
        let shards = (1..).zip(found);
        shards
            .map(|(number, found)| result(Shard::new(number, of).unwrap(), &found))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    /// A heap of results, of which two are put together again and again, in any order.
    #[test]
    fn shards_add_up_to_the_same_in_any_order_and_grouping(
        shards in campaign(),
        choices in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 8),
    ) {
        let in_turn = shards.iter().cloned().reduce(|mut sum, other| {
            add(&mut sum, other).unwrap();
            sum
        });
        let mut heap = shards.clone();
        for (one, other) in choices {
            if heap.len() == 1 {
                break;
            }
            let mut sum = heap.swap_remove(one.index(heap.len()));
            let other = heap.swap_remove(other.index(heap.len()));
            add(&mut sum, other).unwrap();
            heap.push(sum);
        }
        // One shard alone has not been added to anything, and keeps where its findings are.
        prop_assert_eq!(heap.len(), 1);
        prop_assert_eq!(text(&heap[0]), text(&in_turn.unwrap()));
    }

    #[test]
    fn the_earliest_of_each_finding_is_kept(shards in campaign()) {
        let found = |result: &CampaignResult| -> Vec<Finding> {
            result.findings.iter().cloned().map(Finding::from).collect()
        };
        let all: Vec<Finding> = shards.iter().flat_map(found).collect();
        let files = (0..).map(|n: u32| PathBuf::from(n.to_string()));
        let merged = merge(files.zip(shards)).unwrap();
        let merged_findings = found(&merged);
        for finding in &all {
            let kept = merged_findings.iter().find(|kept| kept.key() == finding.key());
            let is_traced = |it: &&Finding| {
                !it.is_untraced && it.violation.cause() == finding.violation.cause()
            };
            match kept {
                Some(kept) => prop_assert!(kept.rank() <= finding.rank()),
                // What it was traced to is there, or something else with its cause.
                None => prop_assert!(finding.is_untraced && merged_findings.iter().any(|it| is_traced(&it))),
            }
        }
        prop_assert_eq!(merged.shards, Shards { of: 1, numbers: vec![1] });
        prop_assert_eq!(merged.cases, CASES);
    }
}

fn named(numbers: &[u32], of: u32) -> Vec<(PathBuf, CampaignResult)> {
    let shards = numbers
        .iter()
        .map(|&number| Shard::new(number, of).unwrap());
    shards
        .map(|shard| {
            (
                format!("{}.json", shard.number()).into(),
                result(shard, &[]),
            )
        })
        .collect()
}

#[test]
fn what_is_missing_doubled_or_foreign_is_named() {
    let refused = |results: Vec<_>| merge(results).unwrap_err().to_string();
    assert_eq!(
        refused(Vec::new()),
        "found no result, expected those of all shards of a campaign"
    );
    assert_eq!(
        refused(named(&[1, 4], 4)),
        "found 2 of 4 shards, expected all: shards 2, 3 are missing"
    );
    assert_eq!(
        refused(named(&[1, 2], 3)),
        "found 2 of 3 shards, expected all: shard 3 is missing"
    );
    assert!(refused(named(&[1], 100)).ends_with(", 16, 17 and 83 more are missing"));
    let twice = [
        named(&[1, 2], 3),
        vec![("again.json".into(), result(Shard::new(2, 3).unwrap(), &[]))],
    ];
    assert_eq!(
        refused(twice.concat()),
        "again.json: found shard 2/3, which is in 2.json too"
    );
    assert_eq!(
        refused([named(&[1, 2], 3), named(&[3], 4)].concat()),
        "3.json: a result of another campaign than 1.json: found one in 4 shards, expected 3"
    );
    let differs = |change: fn(&mut Identity)| {
        let mut results = named(&[1, 2], 2);
        change(&mut results[1].1.campaign);
        refused(results)
    };
    for (change, what) in [
        (
            (|it| it.seed = 7) as fn(&mut Identity),
            "seed: found 7, expected 0",
        ),
        (
            |it| it.version = "1.0".into(),
            "version: found 1.0, expected 9.8.7",
        ),
        (
            |it| it.cases_crc32c = 3,
            "cases_crc32c, in which builds of the program differ: found 3, expected 654",
        ),
        (
            |it| it.subject.driver = DriverName::Linux26,
            "driver: found linux-2.6, expected linux-6.12",
        ),
        (
            |it| _ = it.subject.defects.pop(),
            "defects: found flush-noop, expected flush-noop, unordered-publish",
        ),
        (
            |it| it.subject.faults = true,
            "faults: found true, expected false",
        ),
        (
            |it| it.until = Until::Cases(5),
            "until: found {\"cases\":5}, expected {\"cases\":100}",
        ),
    ] {
        assert_eq!(
            differs(change),
            format!("2.json: a result of another campaign than 1.json: {what}")
        );
    }
}

#[test]
fn what_was_not_run_to_its_end_is_no_result() {
    let whole = || result(Shard::new(2, 3).unwrap(), &[]);
    assert_eq!(check(&whole()), Ok(()));
    let refused = |change: fn(&mut CampaignResult)| {
        let mut result = whole();
        change(&mut result);
        check(&result).unwrap_err().to_string()
    };
    assert_eq!(
        refused(|it| (it.cases, it.ended_by_signal) = (20, Some(15))),
        "found 20 cases of 33, ended by signal 15: the same command with its --checkpoint goes on from \
         there"
    );
    assert_eq!(refused(|it| it.cases = 20), "cases: found 20, expected 33");
    let format = "found format \"ubdlab fuzz result 2\", expected \"ubdlab fuzz result 1\"";
    assert_eq!(
        refused(|it| it.format = "ubdlab fuzz result 2".into()),
        format
    );
    for numbers in [vec![], vec![0], vec![4], vec![2, 1], vec![1, 1]] {
        let mut result = whole();
        result.shards.numbers = numbers;
        assert!(matches!(check(&result), Err(NoResult::Shards(_))));
    }
}

#[test]
fn a_finding_that_the_campaign_cannot_have_is_refused() {
    let whole = || result(Shard::new(2, 3).unwrap(), &[(0, 3)]);
    assert_eq!(check(&whole()), Ok(()));
    let refused = |change: fn(&mut FindingRecord)| {
        let mut result = whole();
        change(&mut result.findings[0]);
        check(&result).unwrap_err().to_string()
    };
    // It is the fourth case of the shard: cases are 1, 4, 7, 10.
    for (change, message) in [
        (
            (|it| it.number = 9) as fn(&mut FindingRecord),
            "findings, seed 10: number: found 9, expected that of a case of these shards of 3",
        ),
        (
            |it| (it.number, it.seed) = (100, 100),
            "findings, seed 100: number: found 100, expected one below 100",
        ),
        (
            |it| it.seed = 11,
            "findings, seed 11: seed: found 11, expected 10",
        ),
        (
            |it| it.case.image.sectors = 1 << 63,
            "findings, seed 10: image.sectors: found 9223372036854775808, expected from 1 to 1048576",
        ),
        (
            |it| it.case.driver = DriverName::Linux26,
            "findings, seed 10: case.driver: found linux-2.6, expected linux-6.12",
        ),
        (
            |it| it.defects.clear(),
            "findings, seed 10: defects: found none, expected flush-noop",
        ),
        (
            |it| it.switched_off = vec![CaseDefect::Kernel(Defect::LastRunOffset)],
            "findings, seed 10: defects: found last-run-offset, expected those of the campaign",
        ),
    ] {
        assert_eq!(refused(change), message);
    }
    let requests = refused(|it| it.requests += 1);
    assert!(
        requests.starts_with("findings, seed 10: requests: found "),
        "{requests}"
    );
}

/// Documents may say anything.
#[test]
fn the_largest_numbers_are_added_up() {
    let largest = |number| {
        let mut result = result(Shard::new(number, 2).unwrap(), &[]);
        let numbers = [
            &mut result.cases,
            &mut result.host_operations,
            &mut result.crash_images,
            &mut result.elapsed_ns,
            &mut result.job_ns,
            &mut result.cases_with_findings,
        ];
        for number in numbers {
            *number = u64::MAX;
        }
        let counts = serde_json::json!({ "crash_kill": u64::MAX });
        result.coverage = serde_json::from_value(counts).unwrap();
        (PathBuf::from(number.to_string()), result)
    };
    let merged = merge([largest(1), largest(2)]).unwrap();
    assert_eq!(merged.job_ns, u64::MAX);
    assert_eq!(merged.coverage.count("crash_kill"), u64::MAX);
}

/// One that a later version has written, with more in it, and one of an earlier one, with less.
#[test]
fn fields_and_counters_that_are_not_known_are_passed_over() {
    let shard = Shard::new(1, 1).unwrap();
    let written = result(shard, &[(0, 3), (4, 5)]);
    let mut value = serde_json::to_value(&written).unwrap();
    value["later"] = serde_json::json!({ "a": [1, 2] });
    value["findings"][0]["later"] = 5.into();
    value["coverage"]["what_a_later_version_counts"] = 7.into();
    let read: CampaignResult = serde_json::from_value(value.clone()).unwrap();
    assert_eq!(read.coverage.count("what_a_later_version_counts"), 7);
    assert_eq!(read.coverage.count("crash_kill"), 300);
    assert_eq!(read.findings.len(), 2);
    value["coverage"] = serde_json::json!({ "crash_kill": 300 });
    let fields = value.as_object_mut().unwrap();
    fields.remove("crash_images_per_second_and_job");
    let read: CampaignResult = serde_json::from_value(value).unwrap();
    let merged = merge([("old".into(), read)]).unwrap();
    assert_eq!(
        serde_json::to_value(&merged.coverage).unwrap(),
        serde_json::json!({ "crash_kill": 300 })
    );
    // What is read is written as it was.
    let text = text(&written);
    let read: CampaignResult = serde_json::from_str(&text).unwrap();
    assert_eq!(super::tests::text(&read), text);
}
