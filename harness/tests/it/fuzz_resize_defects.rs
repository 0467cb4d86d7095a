//! Every defect that a resize can have is found, by the fuzzer's own search, as the kind of
//! violation that it is; and without them it finds nothing.
use harness::fuzz::campaign::{Campaign, CampaignOutcome, Finding, run};
use harness::fuzz::case::{DriverName, Resizer};
use harness::fuzz::defect::CaseDefect;
use harness::fuzz::generate::Subject;
use harness::fuzz::procedure_2003::ResizeDefect;
use harness::fuzz::violation::Kind;

const SEED: u64 = 5000;
const CASES: u64 = 400;

/// What each defect shows as. A device is read whole, so that new sectors that the backing
/// file does not have are an error of the read.
const SHOWS_AS: &[(ResizeDefect, &[Kind])] = &[
    (ResizeDefect::ForwardCopy, &[Kind::Misplaced, Kind::Zeros]),
    (
        ResizeDefect::HeaderBeforeData,
        &[
            Kind::WrongStatus,
            Kind::LostWrite,
            Kind::Misplaced,
            Kind::DoesNotOpen,
        ],
    ),
    (
        ResizeDefect::NoSyncBeforeRename,
        &[
            Kind::Zeros,
            Kind::DoesNotOpen,
            Kind::Inconsistent,
            Kind::WrongStatus,
        ],
    ),
    (ResizeDefect::NoDirectorySync, &[Kind::WrongSize]),
    (
        ResizeDefect::TailLeftClean,
        &[Kind::WrongStatus, Kind::LostWrite],
    ),
    (
        ResizeDefect::StaleBitsAfterShrinkThenGrow,
        &[Kind::LostWrite, Kind::Misplaced],
    ),
    (ResizeDefect::ProgressNotDurable, &[Kind::Misplaced]),
    (
        ResizeDefect::BitmapNotMoved,
        &[Kind::LostWrite, Kind::WrongStatus],
    ),
    (
        ResizeDefect::IoToOldLocationDuringMove,
        &[
            Kind::LostWrite,
            Kind::Misplaced,
            Kind::Zeros,
            Kind::StaleRead,
        ],
    ),
];

fn subject(resizer: Resizer, defects: &[ResizeDefect]) -> Subject {
    Subject {
        defects: defects.iter().map(|d| CaseDefect::Resize(*d)).collect(),
        resizer,
        ..Subject::healthy(DriverName::Ordered)
    }
}

fn campaign(subject: Subject, seed: u64, cases: u64) -> CampaignOutcome {
    let campaign = Campaign::of_cases(subject, seed, cases, 2);
    run(&campaign, &|_| {}).unwrap()
}

/// Searches a few cases at a time, up to [`CASES`]: the earliest finding, and of which case,
/// from 1.
fn first_finding(subject: &Subject) -> Option<(u64, Finding)> {
    const AT_ONCE: u64 = 20;
    (0..CASES / AT_ONCE).find_map(|piece| {
        let seed = SEED + piece * AT_ONCE;
        let found = campaign(subject.clone(), seed, AT_ONCE).findings;
        let first = found.into_iter().next()?;
        Some((first.seed - SEED + 1, first))
    })
}

#[test]
fn every_defect_is_found_as_what_it_is() {
    let listed: Vec<ResizeDefect> = SHOWS_AS.iter().map(|(defect, _)| *defect).collect();
    assert_eq!(listed, ResizeDefect::ALL);
    for (defect, kinds) in SHOWS_AS {
        // The defect by itself asks for the model.
        let subject = subject(Resizer::Userhelper, &[*defect]);
        let (case, finding) = first_finding(&subject)
            .unwrap_or_else(|| panic!("{defect}: not found in {CASES} cases"));
        println!("{defect}: case {case}, {}", finding.violation);
        let kind = finding.violation.kind;
        assert!(kinds.contains(&kind), "{defect}: {}", finding.violation);
    }
}

#[test]
fn the_model_without_defects_loses_nothing() {
    let outcome = campaign(subject(Resizer::Procedure2003, &[]), SEED, CASES / 2);
    assert!(outcome.findings.is_empty(), "{}", tell(&outcome));
    for name in [
        "strategy_procedure_2003",
        "resize_grow",
        "resize_shrink",
        "recovered_reflow",
        "write_into_the_window_being_moved",
        "flush_between_steps_of_a_move",
        "grow_then_shrink_then_grow",
    ] {
        assert!(outcome.coverage.count(name) > 0, "{name} never came up");
    }
}

#[test]
fn spillner_2003_is_caught_losing_data() {
    let outcome = campaign(subject(Resizer::Spillner2003, &[]), SEED, 60);
    let kinds: Vec<Kind> = outcome.findings.iter().map(|f| f.violation.kind).collect();
    for kind in [Kind::Misplaced, Kind::LostWrite] {
        assert!(kinds.contains(&kind), "{kind:?}: {}", tell(&outcome));
    }
    assert!(outcome.coverage.count("strategy_spillner_2003") > 0);
}

fn tell(outcome: &CampaignOutcome) -> String {
    let lines = outcome.findings.iter();
    let lines = lines.map(|f| format!("seed {}: {}", f.seed, f.violation));
    lines.collect::<Vec<_>>().join("\n")
}
