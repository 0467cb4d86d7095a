//! The story of a finding explains itself: what was arranged is told in words, and what is wrong
//! says from where it was read and where the right content is. A known defect of each kind, as a
//! snapshot; `UPDATE_EXPECT=1` writes them anew.

use std::path::Path;

use expect_test::expect_file;
use harness::fuzz::case::Case;
use harness::fuzz::signature::Promise;
use harness::fuzz::story::{Told, tell};
use serde_json::{Value, json};

use crate::support::cases::case;

/// A case with one write of two sectors, and what the image has dirty before it.
fn made(driver: &str, defects: &[&str], lives: Value) -> Case {
    case(json!({
        "format": "ubdlab case 1",
        "driver": driver,
        "defects": defects,
        "assumptions": {},
        "image": {
            "sectors": 64, "version": "v3", "alignment": 4096, "extension": driver == "ordered",
            "dirty": [[20, 4]],
        },
        "lives": lives,
    }))
}

fn write() -> Value {
    json!({ "write": { "start": 5, "count": 2, "fua": false } })
}

/// The power goes before anything is done at `position`, and only what `files` says survives.
fn power_cut(position: usize, change: usize, files: &Value) -> Value {
    json!({ "power-cut": {
        "position": position, "change": change, "survivors": { "files": files },
    } })
}

#[track_caller]
fn told(case: &Case, name: &str) -> Told {
    let told = tell(case).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    expect_file![path.join(format!("story-{name}.txt"))].assert_eq(&told.to_string());
    told
}

/// What the last lines of a story say under a name.
fn said(told: &Told, name: &str) -> String {
    let text = told.to_string();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.expect(&text).trim().to_string()
}

#[test]
fn a_flush_of_linux_that_makes_nothing_durable() {
    let actions = json!([write(), "drain", "flush", "drain"]);
    let end = power_cut(5, 0, &json!({}));
    let case = made(
        "linux-6.12",
        &["flush-noop"],
        json!([{ "actions": actions, "end": end }]),
    );
    let told = told(&case, "linux-flush");
    assert_eq!(told.strip.unwrap().wrong_sector, Some(5));
}

#[test]
fn a_bit_of_linux_that_reached_the_disk_before_its_data() {
    let actions = json!([write(), "drain"]);
    let end = power_cut(3, 0, &json!({ "3": [{ "torn": [[0, 1]] }, "whole"] }));
    let case = made(
        "linux-6.12",
        &["unordered-publish"],
        json!([{ "actions": actions, "end": end }]),
    );
    told(&case, "linux-publish");
}

#[test]
fn a_double_that_shows_the_neighbour() {
    let actions = json!([{ "read": { "start": 20, "count": 2 } }, "drain"]);
    let lives = json!([{ "actions": actions, "end": "close" }]);
    let case = made("ordered", &["read-of-the-neighbour"], lives);
    let told = told(&case, "double-neighbour");
    assert_eq!(told.violation.as_ref().unwrap().sector, Some(0));
    // The neighbour's place, and the right one beside it.
    assert!(said(&told, "read from").starts_with("/disk/backing at byte 512,"));
    assert!(said(&told, "right one").starts_with("/disk/backing at byte 0,"));
}

#[test]
fn a_double_that_shows_what_it_has_kept() {
    let read = json!({ "read": { "start": 5, "count": 2 } });
    let actions = json!([
        read,
        "drain",
        write(),
        "drain",
        read,
        "drain",
        read,
        "drain"
    ]);
    let lives = json!([{ "actions": actions, "end": "close" }]);
    let case = made("ordered", &["read-goes-back"], lives);
    let told = told(&case, "double-goes-back");
    // It comes from the backing file, and the COW file has been read since.
    let read_from = said(&told, "read from");
    assert!(read_from.starts_with("/disk/backing at byte 2560,"));
    assert!(read_from.ends_with("since: that is not what was shown"));
}

/// In the middle of a reflow some data is at its new place. The story says where the right content
/// is, and not where one layout or the other has the sector.
#[test]
fn in_the_middle_of_a_reflow_no_layout_is_believed() {
    let read = json!({ "read": { "start": 5, "count": 2 } });
    let resize = json!({ "resize": {
        "sectors": 40_000, "strategy": "reflow", "window": 8, "alignment": 0,
    } });
    let before = [
        read.clone(),
        "drain".into(),
        write(),
        "drain".into(),
        read.clone(),
    ];
    let begin = ["drain".into(), "flush".into(), "drain".into(), resize];
    let steps = vec![json!("step-resize"); 6];
    let actions = [&before[..], &begin, &steps, &[read, "drain".into()]].concat();
    let lives = json!([{ "actions": actions, "end": "close" }]);
    let case = made("ordered", &["read-goes-back"], lives);
    let told = tell(&case).unwrap();
    assert_eq!(told.violation.as_ref().unwrap().sector, Some(5), "{told}");
    let right = said(&told, "right one");
    assert!(right.starts_with("/disk/cow at byte "), "{told}");
    assert!(right.ends_with("wrote to sector 5"), "{told}");
}

#[test]
fn a_sync_that_lies_and_a_backing_file_that_is_another() {
    let actions = json!([write(), "drain", "flush", "drain"]);
    let lies = json!({
        "file": { "suffix": "cow" }, "kind": "sync_data", "bytes": null,
        "occurrence": { "from": 0 }, "fault": "lying_sync",
    });
    let end = power_cut(5, 0, &json!({}));
    let case = made(
        "ordered",
        &[],
        json!([{ "backing": "switched", "faults": [lies], "actions": actions, "end": end }]),
    );
    told(&case, "fault-lying-sync");
}

#[test]
fn how_the_device_is_opened_is_told() {
    let life = json!({
        "synchronous": true, "pending_words": 1, "actions": [write(), "drain"], "end": "close",
    });
    let told = tell(&made("ordered", &[], json!([life])))
        .unwrap()
        .to_string();
    for line in [
        "the device is opened with flag s",
        "at most 1 word of the bitmap may wait",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
}

/// No name of a type or of a field of this program is in what people read.
#[test]
fn no_rust_struct_is_in_a_story() {
    let faults: Vec<Value> = ["io", "no_space", "unsupported", "failed_sync"]
        .map(|fault| {
            json!({
                "file": { "path": "/disk/cow" }, "kind": "read", "bytes": [0, 512],
                "occurrence": { "nth": 1000 }, "fault": fault,
            })
        })
        .into();
    let actions = json!([write(), "drain", "flush", "drain"]);
    let life = json!({
        "backing": { "modified": { "seconds": 7 } }, "faults": faults, "resize_faults": faults,
        "actions": actions, "end": "close",
    });
    let case = made("ordered", &[], json!([life]));
    let told = tell(&case).unwrap().to_string();
    for part in ["{", "}", "Some(", "None", "Nth", "::", "FaultRule"] {
        assert!(!told.contains(part), "{part}: {told}");
    }
    assert!(told.contains("fails with an I/O error"), "{told}");
}

/// How a resize goes is told in words, and a size that may be one of several as that.
#[test]
fn no_rust_value_of_a_resize_is_in_a_story() {
    for (strategy, words) in [
        ("auto", "as the planner chooses"),
        ("headroom", "into the headroom, where nothing moves"),
        ("rebuild", "by a rebuild into a new file"),
        ("reflow", "by a reflow within the file"),
    ] {
        let resize = json!({ "resize": {
            "sectors": 128, "strategy": strategy, "window": 8, "alignment": 0,
        } });
        let life = json!({ "actions": [resize, "finish-resize"], "end": "close" });
        let told = tell(&made("ordered", &[], json!([life])))
            .unwrap()
            .to_string();
        let line = format!("begin a resize to 128 sectors, {words}\n");
        assert!(told.contains(&line), "{line}: {told}");
    }
}

/// Without a crash nothing is lost by one: what was to be seen is what was written last.
#[test]
fn the_promise_that_is_named_fits_the_moment() {
    let read = json!({ "read": { "start": 20, "count": 2 } });
    let close = json!({ "actions": [read.clone(), "drain"], "end": "close" });
    let case = made("ordered", &["read-of-the-neighbour"], json!([close]));
    let told = tell(&case).unwrap();
    let violation = told.violation.clone().unwrap();
    assert_eq!(violation.when, "after opening");
    assert_eq!(said(&told, "promise"), "a read shows the last write");
    assert_eq!(violation.signature.promise, Promise::ReadsShowTheLatest);
}
