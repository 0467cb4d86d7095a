//! Cases of the fuzzer, written by hand.

use harness::fuzz::case::{Case, DriverName, Resizer};
use harness::fuzz::generate::Subject;
use harness::sim::Assumptions;

/// The case in this JSON, which has to be one.
pub(crate) fn case(value: serde_json::Value) -> Case {
    let case: Case = serde_json::from_value(value).unwrap();
    case.check().unwrap();
    case
}

/// A driver without defects, on a host that does not fail.
pub(crate) fn healthy(driver: DriverName) -> Subject {
    Subject {
        driver,
        defects: Vec::new(),
        resizer: Resizer::Userhelper,
        assumptions: Assumptions::default(),
        faults: false,
        lying_syncs: false,
    }
}
