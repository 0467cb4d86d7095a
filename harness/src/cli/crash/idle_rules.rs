//! Rules as they were written, and what is said of those that have failed nothing.

use driver::host::OperationKind;
use serde::Serialize;

use crate::figures::counted;
use crate::sim::{Fault, FaultRule, FileMatch, Idle, Occurrence, RuleMet};

/// A rule with the parts that it has.
#[derive(Debug, Serialize)]
pub(super) struct AsWritten {
    file: FileMatch,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<(u64, u64)>,
    occurrence: Occurrence,
    fault: Fault,
}

impl AsWritten {
    pub(super) fn of(rule: &FaultRule) -> AsWritten {
        AsWritten {
            file: rule.file.clone(),
            kind: rule.kind.map(OperationKind::name),
            bytes: rule.bytes,
            occurrence: rule.occurrence,
            fault: rule.fault,
        }
    }
}

/// A sentence for each of them.
pub(super) fn idle_rules(rules: &[RuleMet]) -> Vec<String> {
    let rules = (1_u64..).zip(rules);
    rules
        .filter_map(|(number, met)| told(number, met))
        .collect()
}

fn told(number: u64, met: &RuleMet) -> Option<String> {
    let why = match met.idle()? {
        Idle::NothingMatched => match met.rule.file {
            FileMatch::Path(_) => "matched nothing; files are named as from DIR".to_owned(),
            FileMatch::Any | FileMatch::Suffix(_) => "matched nothing".to_owned(),
        },
        Idle::NotReached => {
            let fails = match met.rule.occurrence {
                Occurrence::Nth(n) => format!("the one with number {n}"),
                Occurrence::From(n) => format!("those from number {n} on"),
            };
            let matched = counted(met.matched, "operation");
            format!("failed nothing: it matched {matched}, and fails {fails}, counted from 0")
        }
        Idle::Unfit => "failed nothing: what it was to fail cannot suffer its fault".to_owned(),
        Idle::AnotherFirst => {
            "failed nothing: an earlier rule has failed what it was to fail".to_owned()
        }
    };
    // A rule came as JSON, and so it can be said as such.
    let rule = serde_json::to_string(&AsWritten::of(&met.rule)).unwrap_or_default();
    Some(format!("rule {number} ({rule}) {why}"))
}
