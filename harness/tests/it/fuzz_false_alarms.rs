//! What the fuzzer has called wrong and is right, each as the case that it was.

use harness::fuzz::case::{Case, DriverName, End};
use harness::fuzz::exactly::run_exactly;
use serde_json::json;

use crate::support::cases::case;

/// A device whose first opening creates the file, whose second switches it to another backing file,
/// and which is opened as it is then.
fn created_and_switched(driver: DriverName) -> Case {
    case(json!({
        "format": "ubdlab case 1",
        "driver": driver,
        "assumptions": {},
        "image": {
            "sectors": 64, "version": "v3", "alignment": 4096, "extension": false, "dirty": [],
            "missing": true,
        },
        "lives": [
            {
                "actions": [
                    { "write": { "start": 5, "count": 1, "fua": false } }, "drain", "flush", "drain",
                ],
                "end": "close",
            },
            { "backing": "switched", "actions": [], "end": "close" },
            { "actions": [{ "read": { "start": 5, "count": 1 } }, "drain"], "end": "close" },
        ],
    }))
}

const DRIVERS: [DriverName; 3] = [
    DriverName::Ordered,
    DriverName::Linux612,
    DriverName::Linux26,
];

/// It was reported as one that does not open: the file that had been created was still opened with
/// the backing file named that it was created for, without a word of switching.
#[test]
fn a_created_file_that_was_switched_opens_with_the_backing_file_that_it_names() {
    for driver in DRIVERS {
        for cow_alone in [false, true] {
            let mut case = created_and_switched(driver);
            case.kernel.cow_alone = cow_alone;
            assert_eq!(run_exactly(&case), Ok(()), "{driver:?}, {cow_alone}");
        }
    }
}

/// Wherever the creation is killed: the next opening creates the file, or finds it.
#[test]
fn a_creation_that_was_killed_is_finished_by_whoever_opens_it_next() {
    for driver in DRIVERS {
        let mut killed = 0;
        for change in 0..20 {
            let mut case = created_and_switched(driver);
            case.lives[0].end = End::Kill {
                position: 0,
                change,
                pages: 0,
            };
            match run_exactly(&case) {
                Ok(()) => killed += 1,
                Err(harness::fuzz::exactly::NotRight::DoesNotFit(_)) => break,
                wrong => panic!("{driver:?}, {change} changes: {wrong:?}"),
            }
        }
        assert!(killed > 3, "{driver:?}: {killed}");
    }
}

/// It was reported as one that leaves the file longer: a resize was refused for a sync that had
/// failed before, and the one fault in its last step hit the putting back, not the resize.
#[test]
fn a_refused_resize_whose_putting_back_fails_need_not_be_undone() {
    let resize = json!({
        "resize": { "sectors": 9, "strategy": "headroom", "window": 1000, "alignment": 0 },
    });
    let write = json!({ "write": { "start": 0, "count": 1, "fua": false } });
    let fault = |kind, nth: u64, fault| {
        json!({
            "file": "any", "kind": kind, "bytes": null, "occurrence": { "nth": nth },
            "fault": fault,
        })
    };
    // The length is cut and set twice: before the sync, and when it is put back.
    for (hit, nth) in [("punch_hole", 0), ("set_length", 2), ("set_length", 3)] {
        let case = case(json!({
            "format": "ubdlab case 1",
            "driver": "ordered",
            "assumptions": {},
            "image": {
                "sectors": 8, "version": "v3", "alignment": 4096, "extension": true, "dirty": [],
            },
            "lives": [{
                "synchronous": true,
                "actions": [
                    resize, "step-resize", write, "drain", "step-resize", "step-resize",
                ],
                "faults": [],
                "resize_faults": [
                    fault("sync_data", 1, "failed_sync_for_space"),
                    fault(hit, nth, "io"),
                ],
                "end": "close",
            }],
        }));
        assert_eq!(run_exactly(&case), Ok(()), "{hit}, {nth}");
    }
}

/// It was reported as one that does not end: on a host that zeroes no range, zeros over a device of
/// 32 MiB are 512 writes, and each crash point had a list of all that had gone before.
#[test]
fn a_large_device_may_be_zeroed_time_and_again_on_a_host_without_zero_range() {
    const SECTORS: u64 = 2 * 32_768 + 64;
    let zeros = json!({ "write-zeroes": { "start": 0, "count": SECTORS } });
    let case = case(json!({
        "format": "ubdlab case 1",
        "driver": "ordered",
        "assumptions": { "no_zero_range": true },
        "image": {
            "sectors": SECTORS, "version": "v3", "alignment": 4096, "extension": false,
            "dirty": [],
        },
        "lives": [{ "actions": vec![zeros; 12], "faults": [], "end": "close" }],
    }));
    assert_eq!(run_exactly(&case), Ok(()));
}

/// It was reported as shorter than its data area: a power cut took back a shrink whose directory
/// could not be synced, and by which the device had lost its partial last sector. The grow after it
/// was killed where the file had been cut to its whole sectors.
#[test]
fn a_grow_may_cut_off_a_partial_sector_that_a_power_cut_has_brought_back() {
    const REACHED_THE_DISK: &str = "\
        101001110011100000011000001110000011100111100010101000101100\
        110001111110100001111010000111110010110010001000001010110";
    let fate = |bit| if bit == '1' { "whole" } else { "lost" };
    let fates: Vec<_> = REACHED_THE_DISK.chars().map(fate).collect();
    let shrink = |sectors, alignment| {
        json!({ "resize": {
            "sectors": sectors, "strategy": "rebuild", "window": 1000, "alignment": alignment,
        } })
    };
    let write = json!({ "write": { "start": 0, "count": 1, "fua": false } });
    let mut actions = vec![shrink(1, 0), json!("finish-resize")];
    actions.resize(64, write);
    actions.push(json!({ "write-zeroes": { "start": 0, "count": 1 } }));
    actions.extend([shrink(2, 16384), json!("drain"), json!("step-resize")]);
    let power_cut = json!({
        "position": 69, "change": 54,
        "survivors": { "files": { "4": fates }, "names": { "/disk": [false, false] } },
    });
    let fails = json!({
        "file": "any", "kind": "sync_directory", "bytes": null, "occurrence": { "from": 0 },
        "fault": "failed_sync",
    });
    let grow = json!({ "sectors": 9, "strategy": "auto", "window": 1000, "alignment": 16384 });
    let case = case(json!({
        "format": "ubdlab case 1",
        "driver": "ordered",
        "assumptions": {},
        "retries": true,
        "image": {
            "sectors": 8, "version": "v3", "alignment": 4096, "extension": false, "dirty": [],
            "partial": 497,
        },
        "lives": [
            {
                "synchronous": true, "actions": actions, "resize_faults": [fails],
                "end": { "power-cut": power_cut },
            },
            {
                "actions": [{ "resize": grow }, "step-resize"],
                "end": { "kill": { "position": 2, "change": 1 } },
            },
        ],
    }));
    assert_eq!(run_exactly(&case), Ok(()));
}
