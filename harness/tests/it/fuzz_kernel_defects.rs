//! The fuzzer finds each defect of the kernels' drivers by its own search, and finds nothing
//! where there is none. It is never told what to look for; the tables say what it has to call
//! it. `docs/defects.md` has how long each search takes in general, and the defects that
//! cannot show in the model, with the reasons.

use std::sync::atomic::{AtomicUsize, Ordering};

use driver::linux::Defect;
use harness::fuzz::case::{BackingFile, DriverName, End};
use harness::fuzz::catalogue::{first_finding, looked_for, of_kernel};
use harness::fuzz::exactly::{DoesNotFit, NotRight, run_exactly};
use harness::fuzz::generate::Subject;
use harness::fuzz::violation::Kind;
use harness::sim::{Assumptions, Survivors};
use serde_json::json;

use crate::support::cases::case;

/// A defect, the first seed, the most cases from there, and what a finding may be called. Where
/// a search takes a thousand cases from most seeds, this is a seed from which it takes fewer.
const TABLE: &[(Defect, u64, u64, &[Kind])] = &[
    (Defect::FlushNoop, 1, 32, &[Kind::LostWrite, Kind::Zeros]),
    (
        Defect::FlushWrongFile,
        1,
        32,
        &[Kind::LostWrite, Kind::Zeros],
    ),
    (Defect::UnorderedPublish, 1, 30, &[Kind::Zeros]),
    (
        Defect::RequeueLosesBitmap,
        1,
        40,
        &[Kind::LostWrite, Kind::Zeros],
    ),
    (
        Defect::ErrorLeavesBit,
        1001,
        50,
        &[Kind::Zeros, Kind::LostWrite],
    ),
    (
        Defect::BitmapWriteNeverRetried,
        700,
        120,
        &[Kind::LostWrite, Kind::Zeros],
    ),
    (
        Defect::ZeroWriteIsSuccess,
        3001,
        42,
        &[Kind::LostWrite, Kind::Zeros, Kind::StaleRead],
    ),
    (
        Defect::LastRunOffset,
        1,
        30,
        &[Kind::Misplaced, Kind::Zeros, Kind::Inconsistent],
    ),
    (Defect::ShortReadRestart, 1, 42, &[Kind::Foreign]),
    (
        Defect::PartialRequeueDuplicates,
        1,
        30,
        &[
            Kind::WrongStatus,
            Kind::LostWrite,
            Kind::Misplaced,
            Kind::Foreign,
            Kind::Zeros,
        ],
    ),
    (Defect::EndOfMapOverrun, 1, 78, &[Kind::Foreign]),
    (Defect::OneWordUnderflow, 1, 118, &[Kind::DoesNotOpen]),
    (Defect::V1V2ShortBitmap, 1, 98, &[Kind::LostWrite]),
    (
        Defect::ShortBitmapRead,
        1,
        58,
        &[Kind::AcceptedBadImage, Kind::LostWrite],
    ),
    (Defect::IntOffsets, 1, 76, &[Kind::WrongStatus]),
    (Defect::LimitBeforeHeader, 1, 224, &[Kind::Died]),
    (Defect::V3WideLayout, 1, 32, &[Kind::DoesNotOpen]),
    (
        Defect::BackingSwitchClobbersV1V2,
        1,
        54,
        &[Kind::LostWrite, Kind::Inconsistent, Kind::DoesNotOpen],
    ),
    (
        Defect::HeaderUnchecked,
        1,
        154,
        &[Kind::AcceptedBadImage, Kind::Died],
    ),
    (Defect::MtimeSeconds, 1, 82, &[Kind::AcceptedBadImage]),
    (
        Defect::CreateNotAtomic,
        1,
        108,
        &[Kind::DoesNotOpen, Kind::Inconsistent, Kind::LostWrite],
    ),
    (Defect::LockLostOnClose, 1, 34, &[Kind::NotExcluded]),
    (Defect::FailedDiscardLeavesBits, 1, 340, &[Kind::LostWrite]),
    (Defect::MemoryPastTheBitmap, 1, 30, &[Kind::Inconsistent]),
    (
        Defect::SharedErrno,
        1,
        60,
        &[Kind::Zeros, Kind::LostWrite, Kind::StaleRead],
    ),
];

#[test]
fn every_defect_is_found_by_search_and_called_by_its_name() {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(&(defect, seed, cases, kinds)) =
            TABLE.get(next.fetch_add(1, Ordering::Relaxed))
        {
            let found = first_finding(&of_kernel(defect).subject, seed, cases);
            let found = found.unwrap_or_else(|| panic!("{defect} not found in {cases} cases"));
            let kind = found.violation.kind;
            assert!(
                kinds.contains(&kind),
                "{defect}, seed {}: {}",
                found.seed,
                found.violation
            );
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
}

#[test]
fn the_table_has_every_defect_that_can_show() {
    let listed: Vec<Defect> = TABLE.iter().map(|row| row.0).collect();
    assert_eq!(listed, looked_for().collect::<Vec<_>>());
}

fn without_defects(driver: DriverName, faults: bool) -> Subject {
    Subject {
        faults,
        ..Subject::healthy(driver)
    }
}

/// For each search above, a quarter of the cases that it may take are run without a defect: by the
/// kernels in turn, each on a healthy host and on one with faults. What the searches find shows
/// that a finding fails this test. CI runs 6,000 such cases with the release build.
#[test]
fn without_defects_nothing_is_found() {
    const KINDS: [(DriverName, bool); 4] = [
        (DriverName::Linux612, true),
        (DriverName::Linux26, true),
        (DriverName::Linux612, false),
        (DriverName::Linux26, false),
    ];
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(&(_, seed, cases, _)) = TABLE.get(number) else {
                return;
            };
            let (driver, faults) = KINDS[number % KINDS.len()];
            let subject = without_defects(driver, faults);
            // Most seeds are the same, and no case is to be run twice.
            let found = first_finding(&subject, seed + 1000 * number as u64, cases / 4);
            assert!(
                found.is_none(),
                "{driver:?}: {:?}",
                found.map(|found| (found.seed, found.violation))
            );
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
}

/// A creator that was killed before its directory was synced: whoever opens the file has to
/// make the name durable, for a flush of the file does not.
#[test]
fn what_is_written_to_a_file_just_created_by_a_killed_process_survives() {
    let write = json!({ "write": { "start": 0, "count": 1, "fua": false } });
    let mut case = case(json!({
        "format": "ubdlab case 1",
        "driver": "linux-6.12",
        "assumptions": Assumptions::default(),
        "image": {
            "sectors": 8, "version": "v3", "alignment": 4096, "extension": false, "dirty": [],
            "missing": true,
        },
        "lives": [
            { "actions": [], "end": "close" },
            { "actions": [write, "drain", "flush", "drain"], "end": "close" },
        ],
    }));
    let mut fitting = 0;
    for created in 0..12 {
        case.lives[0].end = End::Kill {
            position: 0,
            change: created,
            pages: 0,
        };
        // While it is carried out, and when the flush has been acknowledged.
        for (position, change) in [(2, 0), (2, 1), (2, 2), (4, 0), (5, 0)] {
            let survivors = Survivors::default();
            case.lives[1].end = End::PowerCut {
                position,
                change,
                survivors,
            };
            match run_exactly(&case) {
                // Not every creation has that many changes, nor every flush.
                Err(NotRight::DoesNotFit(DoesNotFit::NoSuchChange { .. })) => {}
                result => {
                    assert_eq!(result, Ok(()), "after {created} and {change} changes");
                    fitting += 1;
                }
            }
        }
    }
    assert!(fitting >= 25, "{fitting} of them were run");
}

/// Refusing is right where it has to be, and only there.
#[test]
fn ordered_refuses_what_it_must() {
    let mut case = case(json!({
        "format": "ubdlab case 1",
        "driver": "ordered",
        "assumptions": Assumptions::default(),
        "image": {
            "sectors": 100, "version": "v2", "alignment": 512, "extension": false,
            "dirty": [[3, 5]],
        },
        "lives": [{ "actions": ["open-again"], "end": "close" }],
    }));
    assert_eq!(run_exactly(&case), Ok(()));
    for backing in [BackingFile::Switched, BackingFile::Modified { seconds: 1 }] {
        case.lives[0].backing = backing;
        assert_eq!(run_exactly(&case), Ok(()), "{backing:?}");
    }
    case.lives[0].backing = BackingFile::AsItWas;
    case.image.bitmap_cut = Some(11);
    assert_eq!(run_exactly(&case), Ok(()));
    // Without the cut, a device that opens is what is wanted.
    case.image.bitmap_cut = None;
    case.defects.clear();
    assert_eq!(run_exactly(&case), Ok(()));
}
