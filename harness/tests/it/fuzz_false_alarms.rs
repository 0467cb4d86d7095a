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
