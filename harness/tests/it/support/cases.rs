//! Cases of the fuzzer, written by hand.

use harness::fuzz::case::Case;

/// The case in this JSON, which has to be one.
pub(crate) fn case(value: serde_json::Value) -> Case {
    let case: Case = serde_json::from_value(value).unwrap();
    case.check().unwrap();
    case
}
