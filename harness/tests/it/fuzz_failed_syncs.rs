//! What `ordered` takes for granted of a host on which a sync or a write has failed, and which
//! promise rests on it.

use harness::fuzz::case::{Case, DriverName};
use harness::fuzz::catalogue::first_finding;
use harness::fuzz::exactly::{NotRight, run_exactly};
use harness::fuzz::explore::Search;
use harness::fuzz::generate::Subject;
use harness::fuzz::violation::Kind;
use serde_json::json;

use crate::support::cases::case;

/// A write and a flush of which the sync with this number fails, and then these further lives.
/// Opening syncs first, then the flush syncs the data and after that the bitmap.
fn failing(sync: u64, further: &serde_json::Value, assumptions: &serde_json::Value) -> Case {
    let write = json!({ "write": { "start": 5, "count": 1, "fua": false } });
    let mut lives = vec![json!({
        "actions": [write, "flush", "drain"],
        "faults": [{
            "file": "any", "kind": "sync_data", "bytes": null,
            "occurrence": { "nth": sync }, "fault": "failed_sync",
        }],
        // When it is about to be closed.
        "end": { "kill": { "position": 4, "change": 0 } },
    })];
    lives.extend(further.as_array().unwrap().iter().cloned());
    case(json!({
        "format": "ubdlab case 1",
        "driver": "ordered",
        "assumptions": assumptions,
        "image": {
            "sectors": 64, "version": "v3", "alignment": 4096, "extension": false, "dirty": [],
        },
        "lives": lives,
    }))
}

/// The file is opened again while the host remembers what it gave up: the bit is read and counts,
/// a flush has nothing to do, and a power cut takes the bit.
#[test]
fn promise_2_rests_on_a_new_start_of_the_host_after_a_failed_sync() {
    let flushed = json!([{ "actions": ["flush", "drain"], "end": "close" }]);
    let search = |assumptions| {
        let case = failing(2, &flushed, &assumptions);
        let found = Search::for_anything(1).of(&case).unwrap();
        found.map(|(_, violation)| violation.kind)
    };
    assert_eq!(search(json!({})), None);
    let without = json!({ "restart_after_failed_sync": false });
    assert_eq!(search(without), Some(Kind::LostWrite));
}

/// Where contents go back, so does a read.
#[test]
fn promise_1_rests_on_contents_that_stay_after_a_failed_sync() {
    let run = |assumptions| match run_exactly(&failing(1, &json!([]), &assumptions)) {
        Ok(()) => None,
        Err(NotRight::Violated(violation)) => Some(violation.kind),
        Err(NotRight::DoesNotFit(error)) => panic!("{error}"),
    };
    assert_eq!(run(json!({})), None);
    let without = json!({ "failed_sync_keeps_content": false });
    assert!(matches!(run(without), Some(Kind::StaleRead | Kind::Zeros)));
}

/// The generator makes such cases too.
#[test]
fn a_search_without_a_new_start_after_a_failed_sync_finds_what_rests_on_it() {
    let mut subject = Subject::healthy(DriverName::Ordered);
    subject.faults = true;
    subject.assumptions.restart_after_failed_sync = false;
    let found = first_finding(&subject, 1, 2000).expect("none within 2000 cases");
    assert_eq!(found.violation.kind, Kind::LostWrite, "{}", found.violation);
}

/// A write of a sector that fails, and another, followed by a flush where `flushes`.
fn written_twice(flushes: bool, assumptions: &serde_json::Value) -> Case {
    let write = json!({ "write": { "start": 5, "count": 1, "fua": false } });
    let mut actions = vec![write.clone(), json!("drain"), write, json!("drain")];
    if flushes {
        actions.extend([json!("flush"), json!("drain")]);
    } else {
        actions.extend([
            json!({ "read": { "start": 5, "count": 1 } }),
            json!("drain"),
        ]);
    }
    case(json!({
        "format": "ubdlab case 1",
        "driver": "ordered",
        "assumptions": assumptions,
        "image": {
            "sectors": 64, "version": "v3", "alignment": 4096, "extension": false, "dirty": [],
        },
        "lives": [{
            "actions": actions,
            "faults": [{
                "file": "any", "kind": "write", "bytes": null,
                "occurrence": { "nth": 0 }, "fault": "io_after",
            }],
            "end": "close",
        }],
    }))
}

/// A write that has failed, and arrives later, goes over one that was acknowledged after it.
#[test]
fn promises_1_and_2_rest_on_writes_that_have_failed_for_good() {
    for (flushes, kind) in [(false, Kind::StaleRead), (true, Kind::LostWrite)] {
        let search = |assumptions| {
            let case = written_twice(flushes, &assumptions);
            let found = Search::for_anything(1).of(&case).unwrap();
            found.map(|(_, violation)| violation.kind)
        };
        assert_eq!(search(json!({})), None);
        let without = json!({ "errors_are_final": false });
        assert_eq!(search(without), Some(kind));
    }
}
