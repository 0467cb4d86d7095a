//! The fuzzer over the correct driver and the resizes that are used: it finds nothing, its
//! result does not depend on the number of threads, and it notices a host that does not keep
//! what a driver has to rely on.
use harness::fuzz::campaign::{Campaign, CampaignOutcome, run};
use harness::fuzz::case::{Case, DriverName, FORMAT};
use harness::fuzz::explore::Search;
use harness::fuzz::generate::Subject;
use harness::fuzz::violation::Kind;
use harness::sim::Assumptions;

use crate::support::share::share;

fn subject() -> Subject {
    Subject::healthy(DriverName::Ordered)
}

fn campaign(subject: Subject, cases: u64, jobs: usize) -> CampaignOutcome {
    campaign_from(1, subject, cases, jobs)
}

fn campaign_from(seed: u64, subject: Subject, cases: u64, jobs: usize) -> CampaignOutcome {
    let campaign = Campaign::of_cases(subject, seed, cases, jobs);
    run(&campaign, &|_| {}).unwrap()
}

fn kinds(outcome: &CampaignOutcome) -> Vec<Kind> {
    let findings = outcome.findings.iter();
    findings.map(|finding| finding.violation.kind).collect()
}

fn assert_nothing_found(outcome: &CampaignOutcome, what: &str) {
    let findings = outcome.findings.iter();
    let lines = findings.map(|f| format!("seed {}: {}", f.seed, f.violation));
    let lines: Vec<String> = lines.collect();
    assert!(lines.is_empty(), "{what}:\n{}", lines.join("\n"));
}

#[test]
fn nothing_is_found_on_a_healthy_host() {
    let outcome = campaign(subject(), 300, 2);
    assert_nothing_found(&outcome, "healthy");
    for name in [
        "strategy_headroom",
        "strategy_rebuild",
        "strategy_reflow",
        "resize_shrink",
        "crash_in_resize",
        "crash_in_recovery",
        "crash_torn",
        "recovered_reflow",
        "write_into_the_window_being_moved",
    ] {
        assert!(outcome.coverage.count(name) > 0, "{name} never came up");
    }
}

/// What a campaign of `ordered` does not bring up: syncs that lie void every promise, and the
/// models of 2003's procedure are another subject.
const ELSEWHERE: [&str; 3] = [
    "fault_lying_sync",
    "strategy_procedure_2003",
    "strategy_spillner_2003",
];

/// On a failing host: nothing is found, and everything comes up. The rarest comes up once in some
/// 1500 cases; from this seed on it takes fewer.
#[test]
fn everything_that_is_counted_comes_up_in_a_bounded_campaign() {
    let faults = Subject {
        faults: true,
        ..subject()
    };
    let outcome = campaign_from(3301, faults, 500, 2);
    assert_nothing_found(&outcome, "with faults");
    let never: Vec<_> = outcome.coverage.blind_spots().collect();
    assert_eq!(never, ELSEWHERE);
    let count = |name: &str| outcome.coverage.count(name);
    assert_eq!(
        count("crash_point_torn"),
        count("crash_point_that_can_tear"),
        "every crash point that is looked at, and where something can tear, has a torn image"
    );
    let selected = ["each_tear", "each_subset", "drawn"];
    let selected = selected.map(|name| count(&format!("crash_point_{name}")));
    assert_eq!(selected.iter().sum::<u64>(), count("crash_kill"));
}

/// Everything of an outcome but the time it took.
fn serialised(outcome: &CampaignOutcome) -> String {
    let findings = outcome.findings.iter();
    let findings: Vec<_> = findings
        .map(|f| serde_json::json!([f.seed, f.case, f.violation]))
        .collect();
    serde_json::json!({
        "cases": outcome.cases,
        "host_operations": outcome.host_operations,
        "crash_images": outcome.crash_images,
        "cases_with_findings": outcome.cases_with_findings,
        "coverage": outcome.coverage,
        "findings": findings,
    })
    .to_string()
}

#[test]
fn the_result_does_not_depend_on_the_number_of_jobs() {
    // One without findings, and one that is full of them.
    let healthy = subject();
    let broken = Subject {
        lying_syncs: true,
        ..subject()
    };
    for (subject, found) in [(healthy, false), (broken, true)] {
        let alone = campaign(subject.clone(), 60, 1);
        let together = campaign(subject, 60, 3);
        assert_eq!(alone.cases_with_findings > 0, found);
        assert_eq!(serialised(&alone), serialised(&together));
    }
}

#[test]
fn syncs_that_lie_are_noticed() {
    let lying = Subject {
        lying_syncs: true,
        ..subject()
    };
    let outcome = campaign(lying, 40, 2);
    assert!(outcome.coverage.count("fault_lying_sync") > 0);
    assert!(kinds(&outcome).contains(&Kind::LostWrite));
}

/// What a promise rests on shows when it is taken away.
#[test]
fn assumptions_that_the_promises_rest_on_are_noticed_when_they_fail() {
    let usual = Assumptions::default();
    for (what, assumptions, kind) in [
        // A sector that tears is neither the old one nor the new.
        (
            "sectors tear at eight bytes",
            Assumptions {
                atomic_unit: 8,
                ..usual
            },
            Kind::Foreign,
        ),
        (
            "sectors tear anywhere",
            Assumptions {
                atomic_unit: 1,
                ..usual
            },
            Kind::Foreign,
        ),
        (
            "no sync persists",
            Assumptions {
                sync_persists: false,
                ..usual
            },
            Kind::LostWrite,
        ),
        (
            "a kill leaves a part of a sector",
            Assumptions {
                kill_unit: 8,
                ..usual
            },
            Kind::Foreign,
        ),
    ] {
        let weakened = Subject {
            assumptions,
            ..subject()
        };
        let outcome = campaign(weakened, 40, 2);
        assert!(kinds(&outcome).contains(&kind), "{what}: {outcome:?}");
    }
}

/// It has nothing but its length to commit with.
#[test]
fn the_shrink_of_a_raw_disk_rests_on_a_cut_that_survives_whole_or_not_at_all() {
    for (atomic, kind) in [(true, None), (false, Some(Kind::Zeros))] {
        let case = serde_json::json!({
            "format": FORMAT,
            "driver": "ordered",
            "assumptions": { "atomic_set_len": atomic },
            "image": {
                "sectors": 8, "version": "v3", "alignment": 4096, "extension": false, "dirty": [],
                "raw": true,
            },
            "lives": [{
                "actions": [
                    { "resize": { "sectors": 1, "strategy": "auto", "window": 1, "alignment": 0 } },
                    "finish-resize",
                ],
                "end": "close",
            }],
        });
        let case: Case = serde_json::from_value(case).unwrap();
        assert_eq!(case.check(), Ok(()));
        let found = Search::for_anything(1).of(&case).unwrap();
        assert_eq!(found.map(|(_, violation)| violation.kind), kind);
    }
}

/// The driver does not rest on these. Names: every name changes once between two syncs of its
/// directory that matter. A cut: what may come back lies past the end, and the next grow cuts
/// again and syncs before it commits; a raw disk is another matter. A length that comes without
/// its data: a bit is written only when a sync has brought both. Whole pages of a write that a kill
/// cuts short: what commits is one sector.
#[test]
fn assumptions_that_no_promise_rests_on_change_nothing_when_they_fail() {
    let usual = Assumptions::default();
    for (what, assumptions) in [
        (
            "whole pages are atomic",
            Assumptions {
                atomic_unit: 4096,
                ..usual
            },
        ),
        (
            "a kill leaves a part of a page",
            Assumptions {
                kill_unit: 512,
                ..usual
            },
        ),
        (
            "names survive in any order",
            Assumptions {
                ordered_names: false,
                ..usual
            },
        ),
        (
            "a cut survives in part",
            Assumptions {
                atomic_set_len: false,
                ..usual
            },
        ),
        (
            "a length survives without its data",
            Assumptions {
                length_follows_data: false,
                ..usual
            },
        ),
    ] {
        let weakened = Subject {
            assumptions,
            ..subject()
        };
        assert_nothing_found(&campaign(weakened, share(100, 30), 2), what);
    }
}
