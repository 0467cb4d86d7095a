//! A finding has a signature, finer than its kind: which promise is broken, what was going on,
//! what showed it, with which error. The shrinker keeps it, and a campaign keeps one finding for
//! each.

use std::collections::{BTreeMap, BTreeSet};

use driver::linux::Defects;
use harness::fuzz::campaign::{Campaign, CampaignOutcome, run};
use harness::fuzz::case::{Case, DriverName};
use harness::fuzz::defect::CaseDefect;
use harness::fuzz::exactly::{NotRight, run_exactly};
use harness::fuzz::generate::Subject;
use harness::fuzz::shrink::shrink;
use harness::fuzz::signature::Phase;
use harness::fuzz::violation::Kind;

/// A driver with all the defects of its kernel.
fn campaign(cases: u64) -> CampaignOutcome {
    let names = Defects::LINUX_6_12.iter().map(CaseDefect::Kernel);
    let subject = Subject {
        defects: names.collect(),
        faults: true,
        ..Subject::healthy(DriverName::Linux612)
    };
    let campaign = Campaign::of_cases(subject, 1, cases, 2);
    run(&campaign, &|_| {}).unwrap()
}

#[test]
fn a_campaign_keeps_one_finding_for_each_cause_and_the_shrinker_keeps_the_cause() {
    let outcome = campaign(40);
    let mut causes = BTreeSet::new();
    let mut of_kind: BTreeMap<Kind, u32> = BTreeMap::new();
    for finding in &outcome.findings {
        let cause = finding.violation.cause();
        let is_new = causes.insert((cause.clone(), finding.case.defects.clone()));
        assert!(is_new, "seed {}: {}", finding.seed, finding.violation);
        *of_kind.entry(finding.violation.kind).or_default() += 1;
        let (small, violation) = shrink(&finding.case, &finding.violation, finding.seed);
        assert_eq!(violation.cause(), cause, "seed {}", finding.seed);
        assert!(small.requests() <= finding.case.requests());
        // What is written down shows it, and says so.
        let shown = run_exactly(&small);
        assert_eq!(
            shown,
            Err(NotRight::Violated(violation)),
            "seed {}",
            finding.seed
        );
        assert_eq!(small.found.map(|found| found.cause()), Some(cause));
    }
    // What one kind would have lumped together.
    assert!(
        of_kind.values().any(|&findings| findings > 1),
        "{of_kind:?}"
    );
}

/// The defective double is the finding itself, told to be about something else of its kind.
#[test]
fn the_shrinker_does_not_end_at_another_cause_of_the_same_kind() {
    let outcome = campaign(8);
    let finding = &outcome.findings[0];
    let shown = finding.violation.clone();
    let elsewhere = match shown.signature.phase {
        Phase::Resize => Phase::Request,
        _ => Phase::Resize,
    };
    let other = shown.clone().in_phase(elsewhere);
    let (case, violation) = shrink(&finding.case, &other, finding.seed);
    let as_it_was = Case {
        found: Some(other.clone()),
        ..finding.case.clone()
    };
    assert_eq!((case, violation), (as_it_was, other));
    let (small, _) = shrink(&finding.case, &shown, finding.seed);
    assert_ne!(small.lives, finding.case.lives);
}
