//! What a fault does not excuse: a defective double is refused on a host on which something has
//! happened that explains nothing of what it does wrong, as it is on one that works.

use std::collections::BTreeSet;

use harness::fuzz::case::{Case, DriverName};
use harness::fuzz::exactly::{NotRight, run_exactly};
use harness::fuzz::explore::explore_watched;
use harness::fuzz::generate::Subject;
use harness::fuzz::parts::Unwatched;
use harness::fuzz::violation::Kind;
use serde_json::{Value, json};

use crate::support::cases::case;

/// Some operation of a kind, in any file, and what it suffers.
fn fault(kind: &str, nth: u64, fault: Value) -> Value {
    json!({
        "file": "any", "kind": kind, "bytes": null, "occurrence": { "nth": nth }, "fault": fault,
    })
}

/// A device with a few dirty sectors; these things happen in its life.
fn one_life(double: Option<&str>, life: &Value) -> Case {
    let mut lived = json!({ "actions": [], "faults": [], "end": "close" });
    let fields = lived.as_object_mut().unwrap();
    fields.extend(life.as_object().unwrap().clone());
    case(json!({
        "format": "ubdlab case 1",
        "driver": "ordered",
        "defects": Vec::from_iter(double),
        "assumptions": {},
        "image": {
            "sectors": 64, "version": "v3", "alignment": 4096, "extension": true,
            "dirty": [[3, 2], [40, 1]],
        },
        "lives": [lived],
    }))
}

fn kind_of(case: &Case) -> Option<Kind> {
    match run_exactly(case) {
        Ok(()) => None,
        Err(NotRight::Violated(violation)) => Some(violation.kind),
        Err(NotRight::DoesNotFit(error)) => panic!("{error}"),
    }
}

/// The double is refused without the fault and with it, and the device as it is with neither.
fn is_refused(double: &str, life: &Value, fault: &Value, kind: Kind) {
    let mut failing = life.clone();
    failing["faults"] = json!([fault]);
    for (named, life, expected) in [
        (None, life, None),
        (None, &failing, None),
        (Some(double), life, Some(kind)),
        (Some(double), &failing, Some(kind)),
    ] {
        let found = kind_of(&one_life(named, life));
        assert_eq!(found, expected, "{named:?}: {life}");
    }
}

fn short_read() -> Value {
    fault("read", 0, json!({ "short_read": 700 }))
}

fn write() -> Value {
    json!({ "write": { "start": 10, "count": 4, "fua": false } })
}

#[test]
fn what_closing_leaves_is_of_no_fault_that_has_not_hit_it() {
    let life = json!({ "actions": [write(), "drain"] });
    let faults = [
        short_read(),
        fault("write", 0, json!("no_space")),
        fault("write", 0, json!({ "short_write": 1024 })),
    ];
    for fault in faults {
        is_refused("close-leaves-a-file", &life, &fault, Kind::Inconsistent);
    }
}

#[test]
fn what_a_resize_leaves_is_of_no_fault_before_it() {
    let resize = json!({
        "resize": { "sectors": 80, "strategy": "headroom", "window": 1000, "alignment": 0 },
    });
    let life = json!({ "actions": [write(), "drain", resize, "finish-resize"] });
    for double in [
        "resize-leaves-the-file-too-long",
        "resize-leaves-a-bit-before-the-data",
    ] {
        for fault in [short_read(), fault("write", 0, json!("no_space"))] {
            is_refused(double, &life, &fault, Kind::Inconsistent);
        }
    }
}

#[test]
fn what_a_tool_leaves_is_of_no_short_read() {
    let tools = [
        "merge",
        "convert-to-raw",
        "convert-to-cow",
        "repair",
        "rebase",
        "recover",
    ];
    for tool in tools {
        let life = json!({ "tool": tool });
        let double = "tool-leaves-a-temporary-file";
        is_refused(double, &life, &short_read(), Kind::Inconsistent);
    }
}

/// What the double takes back is there until the power is cut, before anybody has opened the
/// device: another fault keeps that from happening.
#[test]
fn what_a_tool_has_made_durable_is_not_lost_to_a_short_read() {
    let subject = Subject::healthy(DriverName::Ordered);
    for (double, tool) in [
        ("convert-is-not-durable", "convert-to-raw"),
        ("repair-is-not-durable", "repair"),
        ("tool-done-is-not-durable", "rebase"),
    ] {
        let found = |named: Option<&str>| {
            let kinds = (0..READS).filter_map(|nth| {
                let short = fault("read", 0, json!({ "short_read": 5 }));
                let fails = fault("read", nth, json!("io"));
                let case = one_life(named, &json!({ "tool": tool, "faults": [short, fails] }));
                let explored = explore_watched(&case, 1, &subject, &mut Unwatched);
                explored.finding.map(|(_, violation)| violation.kind)
            });
            kinds.collect::<BTreeSet<_>>()
        };
        assert_eq!(found(None), BTreeSet::new(), "{tool}");
        assert_eq!(
            found(Some(double)),
            BTreeSet::from([Kind::LostWrite]),
            "{double}"
        );
    }
}

/// More than a tool and an opening take, of a device as small as these.
const READS: u64 = 40;

/// A read that was short is no second fault: the rebuild still has to be undone.
#[test]
fn a_resize_that_one_fault_has_ended_is_undone_whatever_reads_were_short() {
    let resize = json!({
        "resize": { "sectors": 80, "strategy": "rebuild", "window": 1000, "alignment": 0 },
    });
    let actions = json!([write(), "drain", resize, "finish-resize"]);
    let mut fails = fault("sync_data", 0, json!("failed_sync"));
    fails["file"] = json!({ "path": "/disk/.cow.ubdlab-new" });
    let short = fault("read", 0, json!({ "short_read": 5 }));
    for faults in [json!([fails]), json!([fails, short])] {
        let life = json!({ "actions": actions, "resize_faults": faults });
        assert_eq!(kind_of(&one_life(None, &life)), None);
        let double = Some("failed-resize-leaves-a-longer-file");
        let found = kind_of(&one_life(double, &life));
        assert_eq!(found, Some(Kind::Inconsistent), "{faults}");
    }
}
