//! Rules for what is to fail on a mount, as a user writes them: those of the simulator, less what
//! no mount is ever asked for and what could never fail.

use driver::host::OperationKind;
use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer};

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

fn listed(names: impl Iterator<Item = &'static str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
