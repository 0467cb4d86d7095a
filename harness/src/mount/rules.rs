//! Rules for what is to fail on a mount, as a user writes them: those of the simulator, less what
//! no mount is ever asked for and what could never fail.

use driver::host::OperationKind;
use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::sim::{Fault, FaultRule, FileMatch, Occurrence};

/// The kinds of operations that a mount is asked for, and so a rule can be about.
pub fn asked_kinds() -> impl Iterator<Item = OperationKind> {
    OperationKind::ALL
        .into_iter()
        .filter(|kind| is_asked(*kind))
}

fn is_asked(kind: OperationKind) -> bool {
    use OperationKind::*;
    match kind {
        Read | Write | SyncData | SetLen | PunchHole | ZeroRange | NextData => true,
        Open | CreateNew | Metadata | Rename | Remove | SyncDirectory => true,
        Allocate | CopyRange | MakeDirectory | Link | SetAttributes => true,
        // A length comes with a `stat`, modes and times are attributes, extents are not shared, and
        // locks stay with the kernel.
        Len | CloneRange | GiveMode | CopyAttributes | SetModified | Lock => false,
    }
}

/// Whether operations of the kind are about bytes of a file.
fn has_bytes(kind: OperationKind) -> bool {
    use OperationKind::*;
    matches!(
        kind,
        Read | Write | SetLen | PunchHole | ZeroRange | NextData | Allocate | CopyRange
    )
}

/// A rule as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    file: FileMatch,
    kind: Option<AskedKind>,
    bytes: Option<(u64, u64)>,
    occurrence: Occurrence,
    fault: Fault,
}

struct AskedKind(OperationKind);

impl<'de> Deserialize<'de> for AskedKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<AskedKind, D::Error> {
        let name = String::deserialize(deserializer)?;
        let kind = OperationKind::from_name(&name).filter(|kind| is_asked(*kind));
        kind.map(AskedKind).ok_or_else(|| {
            let expected = format!("one of {}", listed(asked_kinds().map(OperationKind::name)));
            Error::invalid_value(Unexpected::Str(&name), &expected.as_str())
        })
    }
}

/// The rule that this JSON is.
///
/// # Errors
/// What is wrong with it.
pub fn parse_fault_rule(text: &str) -> Result<FaultRule, String> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| format!("found no JSON: {error}"))?;
    if let Some(wrong) = wrong_form(&value) {
        return Err(wrong);
    }
    let written: Written = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let Written {
        file,
        kind,
        bytes,
        occurrence,
        fault,
    } = written;
    let kind = kind.map(|AskedKind(kind)| kind);
    if let Some((from, to)) = bytes.filter(|(from, to)| from >= to) {
        return Err(format!(
            "bytes: found [{from}, {to}], expected the first one and the one after the last"
        ));
    }
    if bytes.is_some() && kind.is_none() {
        return Err(format!(
            "bytes: found some without a kind, expected one of {}",
            listed(
                asked_kinds()
                    .filter(|kind| has_bytes(*kind))
                    .map(OperationKind::name)
            )
        ));
    }
    if let Some(kind) = kind {
        let name = kind.name();
        if bytes.is_some() && !has_bytes(kind) {
            return Err(format!(
                "bytes: found some for \"{name}\", which is about no bytes of a file, expected none"
            ));
        }
        if !fault.fits(kind) {
            let fitting = Fault::EACH.into_iter().filter(|fault| fault.fits(kind));
            return Err(format!(
                "fault: found {}, which \"{name}\" cannot suffer, expected one of {}",
                fault.name(),
                listed(fitting.map(Fault::name))
            ));
        }
    }
    Ok(FaultRule {
        file,
        kind,
        bytes,
        occurrence,
        fault,
    })
}

/// What is wrong with the form of a rule, in the words of whoever writes one, but for names.
fn wrong_form(value: &Value) -> Option<String> {
    let Some(parts) = value.as_object() else {
        return Some(format!(
            "found {value}, expected an object with \"file\", \"occurrence\" and \"fault\""
        ));
    };
    // What has one name, and what is said with that.
    let one = |value: &'_ Value| -> Option<(String, Value)> {
        let object = value.as_object().filter(|object| object.len() == 1)?;
        let (name, value) = object.iter().next()?;
        Some((name.clone(), value.clone()))
    };
    let is_right = |part: &str, value: &Value| match (part, one(value)) {
        ("file", Some((name, value))) => {
            matches!(name.as_str(), "path" | "suffix") && value.is_string()
        }
        ("file", None) => value == "any",
        ("occurrence", said) => said
            .is_some_and(|(name, value)| matches!(name.as_str(), "nth" | "from") && value.is_u64()),
        ("kind", _) => value.is_string() || value.is_null(),
        ("bytes", _) => {
            let ends = value.as_array();
            let are_two = |ends: &Vec<Value>| ends.len() == 2 && ends.iter().all(Value::is_u64);
            value.is_null() || ends.is_some_and(are_two)
        }
        _ => true,
    };
    let expected = [
        ("file", r#""any", {"path": P} or {"suffix": S}"#),
        ("occurrence", r#"{"nth": N} or {"from": N}, counted from 0"#),
        ("kind", "the name of one"),
        ("bytes", "[FROM, TO]"),
    ];
    let wrong = expected.into_iter().find_map(|(part, expected)| {
        let found = parts.get(part).filter(|found| !is_right(part, found))?;
        Some(format!("{part}: found {found}, expected {expected}"))
    });
    wrong.or_else(|| {
        let found = parts.get("fault")?;
        let (name, number) = match (found.as_str(), one(found)) {
            (Some(name), _) => (name.to_owned(), None),
            (None, Some((name, number))) => (name, Some(number)),
            (None, None) => {
                let plain = "the name of a fault, or {NAME: N} of one that has a number";
                return Some(format!("fault: found {found}, expected {plain}"));
            }
        };
        let fault = Fault::EACH.into_iter().find(|fault| fault.name() == name)?;
        let expected = match (fault.has_number(), number) {
            (true, Some(number)) if number.is_u64() => return None,
            (false, None) => return None,
            (true, _) => format!("{{\"{name}\": N}}, with a number of bytes"),
            (false, Some(_)) => format!("\"{name}\" alone"),
        };
        Some(format!("fault: found {found}, expected {expected}"))
    })
}

fn listed(names: impl Iterator<Item = &'static str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
