//! What the fuzzer has found in userhelper's resizes, each as the case that showed it.
use harness::fuzz::case::Case;
use harness::fuzz::exactly::DoesNotFit;
use harness::fuzz::explore::Search;
use harness::fuzz::violation::Violation;
use serde_json::{Value, json};

use crate::support::cases::case;

type Found = Result<Option<(Case, Violation)>, DoesNotFit>;

/// What is found in these lives of a device of this image.
fn found(image: &Value, lives: &Value) -> Found {
    let case = case(json!({
        "format": "ubdlab case 1",
        "driver": "ordered",
        "assumptions": {},
        "image": image,
        "lives": lives,
    }));
    Search::for_anything(1).of(&case)
}

/// A reflow whose device fails every sync from the one with this number on. After the failure the
/// guest writes to a clean sector, whose old place is the new one of the sector 40 before it.
fn reflow_with_failing_syncs(dirty: &str, window: u64, clean: u64, from: u64) -> Case {
    let text = format!(
        r#"{{
            "format": "ubdlab case 1",
            "driver": "ordered",
            "assumptions": {{}},
            "image": {{
                "sectors": 128, "version": "v3", "alignment": 4096, "extension": true,
                "dirty": {dirty}
            }},
            "lives": [{{
                "actions": [
                    {{"resize": {{
                        "sectors": 160, "strategy": "reflow",
                        "window": {window}, "alignment": 16384
                    }}}},
                    {{"write-zeroes": {{"start": {clean}, "count": 1}}}},
                    "finish-resize",
                    "drain"
                ],
                "faults": [{{
                    "file": "any", "kind": "sync_data", "bytes": null,
                    "occurrence": {{"from": {from}}}, "fault": "io"
                }}],
                "end": "close"
            }}]
        }}"#
    );
    serde_json::from_str(&text).unwrap()
}

/// Syncs 0 to 3: opening, the first record, the mark, the copy. Sync 4 is that of the record,
/// and the one that would take the mark back fails too.
#[test]
fn a_first_record_that_may_be_on_the_disk_lets_no_write_through() {
    for from in 1..9 {
        let case = reflow_with_failing_syncs("[[70, 5]]", 1000, 112, from);
        assert_eq!(
            Search::for_anything(1).of(&case),
            Ok(None),
            "syncs fail from {from} on"
        );
    }
}

/// The record of a later window, which cannot be erased.
#[test]
fn a_later_record_that_may_be_on_the_disk_lets_no_write_through() {
    for from in 1..12 {
        let case = reflow_with_failing_syncs("[[124, 4], [40, 4]]", 4, 82, from);
        assert_eq!(
            Search::for_anything(1).of(&case),
            Ok(None),
            "syncs fail from {from} on"
        );
    }
}

/// A device with room for 1 GiB before its data, on a host that refuses to punch the second hole:
/// a reflow clears its new bitmap, and the room after it, in another way.
#[test]
fn a_large_room_is_cleared_without_one_long_operation_where_no_hole_can_be_punched() {
    let text = r#"{
        "format": "ubdlab case 1",
        "driver": "ordered",
        "assumptions": {},
        "image": {
            "sectors": 8, "version": "v3", "alignment": 1073741824, "extension": false, "dirty": []
        },
        "lives": [{
            "actions": [
                {"write": {"start": 6, "count": 1, "fua": false}},
                {"resize": {"sectors": 9, "strategy": "reflow", "window": 1000, "alignment": 0}},
                {"discard": {"start": 5, "count": 2}},
                "drain",
                "finish-resize"
            ],
            "faults": [{
                "file": "any", "kind": "punch_hole", "bytes": null,
                "occurrence": {"nth": 2}, "fault": "unsupported"
            }],
            "end": "close"
        }]
    }"#;
    let case: Case = serde_json::from_str(text).unwrap();
    assert_eq!(Search::for_anything(1).of(&case), Ok(None));
}

/// The window's copy begins within a block: giving the reflow up frees that block too.
#[test]
fn a_reflow_that_is_given_up_frees_the_block_that_its_copy_begins_within() {
    let text = r#"{
        "format": "ubdlab case 1",
        "driver": "ordered",
        "assumptions": {},
        "image": {
            "sectors": 196, "version": "v3", "alignment": 4096, "extension": false, "dirty": []
        },
        "lives": [{
            "actions": [
                {"resize": {"sectors": 197, "strategy": "reflow", "window": 1000, "alignment": 16384}},
                {"write": {"start": 37, "count": 5, "fua": false}},
                "step-resize", "step", "step-resize", "step-resize", "step-resize"
            ],
            "faults": [],
            "end": "close"
        }]
    }"#;
    let case: Case = serde_json::from_str(text).unwrap();
    assert_eq!(Search::for_anything(1).of(&case), Ok(None));
}

/// The shrink leaves the file's end within a block whose dirty sectors have all gone. The reflow
/// makes the file longer, and has no dirty sector there to look for.
#[test]
fn a_shrink_frees_the_block_that_the_file_ends_within_if_it_holds_nothing() {
    let text = r#"{
        "format": "ubdlab case 1",
        "driver": "ordered",
        "assumptions": {},
        "image": {
            "sectors": 128, "version": "v3", "alignment": 4096, "extension": false, "dirty": []
        },
        "lives": [{
            "actions": [
                {"write": {"start": 116, "count": 1, "fua": false}},
                "step",
                {"resize": {
                    "sectors": 113, "strategy": "headroom", "window": 1000, "alignment": 0
                }},
                "finish-resize",
                {"resize": {
                    "sectors": 114, "strategy": "reflow", "window": 1000, "alignment": 32768
                }},
                "finish-resize"
            ],
            "faults": [],
            "end": "close"
        }]
    }"#;
    let case: Case = serde_json::from_str(text).unwrap();
    assert_eq!(Search::for_anything(1).of(&case), Ok(None));
}

/// Operations side by side: a first write to a sector that has moved already, in the block that a
/// window's source ends within, comes between the look that finds the sector clean and the punch.
#[test]
fn a_first_write_above_the_frontier_is_not_lost_to_the_freeing_of_the_block_that_it_is_in() {
    for step in 0..40 {
        for order in 1..5 {
            let mut actions = vec![json!({ "resize": {
                "sectors": 130, "strategy": "reflow", "window": 1000, "alignment": 16384,
            } })];
            for _ in 0..step {
                actions.extend([json!("drain"), json!("step-resize")]);
            }
            actions.push(json!({ "write": { "start": 92, "count": 1, "fua": false } }));
            let image = json!({
                "sectors": 129, "version": "v3", "alignment": 4096, "extension": false,
                "dirty": [[0, 1], [111, 18]],
            });
            let found = found(
                &image,
                &json!([{
                    "side_by_side": order, "actions": actions, "faults": [], "end": "close",
                }]),
            );
            assert_eq!(found, Ok(None), "after {step} steps, in order {order}");
        }
    }
}

/// The bits of the new sectors reach one byte into another block of the bitmap, or begin in one
/// that has none yet: giving the resize up frees what it has written there, at whatever step.
#[test]
fn a_headroom_resize_that_is_given_up_frees_each_block_of_the_bitmap_that_it_wrote() {
    for (old, new) in [(9, 32_769), (9, 32_768), (32_760, 32_769), (32_768, 32_776)] {
        for step in 0..8 {
            let mut actions = vec![
                json!({ "resize": {
                    "sectors": old, "strategy": "reflow", "window": 1000, "alignment": 16384,
                } }),
                json!("finish-resize"),
                json!({ "resize": {
                    "sectors": new, "strategy": "headroom", "window": 1000, "alignment": 16384,
                } }),
            ];
            actions.extend(vec![json!("step-resize"); step]);
            let image = json!({
                "sectors": 8, "version": "v3", "alignment": 4096, "extension": true, "dirty": [],
            });
            let lives = json!([{ "actions": actions, "faults": [], "end": "close" }]);
            let found = found(&image, &lives);
            assert_eq!(found, Ok(None), "from {old} to {new}, after {step} steps");
        }
    }
}

/// A file that ends in its bitmap: what follows is short of a block, and the shrink goes on.
#[test]
fn a_shrink_of_a_file_that_ends_within_its_bitmap_still_cuts_it_to_its_data() {
    let image = json!({
        "sectors": 8, "version": "v3", "alignment": 4096, "extension": true, "dirty": [],
        "ends_with_data": true,
    });
    let shrink = json!({ "resize": {
        "sectors": 1, "strategy": "headroom", "window": 1000, "alignment": 16384,
    } });
    let lives = json!([{
        "actions": [shrink, "finish-resize"], "faults": [], "end": "close",
    }]);
    assert_eq!(found(&image, &lives), Ok(None));
}

/// What is found in a life that begins with `actions` and gives its reflow up after some number of
/// steps, after a life in which a resize to `earlier` sectors came to this `end`.
fn given_up_after(
    steps: usize,
    image: &Value,
    (earlier, end): (Value, Value),
    (order, mut actions): (u64, Vec<Value>),
) -> Found {
    for _ in 0..steps {
        actions.extend([json!("step-resize"), json!("step")]);
    }
    let lives = json!([
        { "actions": [earlier, "finish-resize"], "faults": [], "end": end },
        { "side_by_side": order, "actions": actions, "faults": [], "end": "close" },
    ]);
    found(image, &lives)
}

/// A reflow that the power cut short has left the file longer than its data. The next one, given up
/// after its copy, frees the block in which the old data ends, which the copy went over.
#[test]
fn a_reflow_that_is_given_up_frees_the_block_that_the_old_data_ends_within() {
    let image = json!({
        "sectors": 130, "version": "v3", "alignment": 4096, "extension": false,
        "dirty": [[20, 39]],
    });
    for step in 0..40 {
        let earlier = json!({ "resize": {
            "sectors": 131, "strategy": "reflow", "window": 1000, "alignment": 0,
        } });
        let end = json!({ "power-cut": {
            "position": 2, "change": 5, "survivors": { "files": {}, "names": {} },
        } });
        let actions = vec![json!({ "resize": {
            "sectors": 131, "strategy": "reflow", "window": 1000, "alignment": 32768,
        } })];
        let found = given_up_after(step, &image, (earlier, end), (1, actions));
        assert_eq!(found, Ok(None), "after {step} steps");
    }
}

/// The copy begins just where the old data ends, within a block that holds nothing else.
#[test]
fn a_reflow_that_is_given_up_frees_the_block_that_its_copy_shares_with_the_end_of_the_old_data() {
    let image = json!({
        "sectors": 193, "version": "v3", "alignment": 4096, "extension": true,
        "dirty": [[124, 1]],
    });
    for step in 0..30 {
        let earlier = json!({ "resize": {
            "sectors": 200, "strategy": "auto", "window": 1000, "alignment": 0,
        } });
        let end = json!({ "kill": { "position": 2, "change": 4 } });
        let actions = vec![
            json!({ "resize": {
                "sectors": 194, "strategy": "reflow", "window": 1000, "alignment": 32768,
            } }),
            json!({ "write": { "start": 89, "count": 1, "fua": false } }),
            json!("drain"),
        ];
        let order = 8_612_127_322_513_801_242;
        let found = given_up_after(step, &image, (earlier, end), (order, actions));
        assert_eq!(found, Ok(None), "after {step} steps");
    }
}
