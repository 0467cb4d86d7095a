//! The options of a campaign, from what is fuzzed.

use clap::ValueEnum;

use crate::fuzz::case::{DriverName, Resizer};
use crate::fuzz::subject::Subject;
use crate::sim::Assumptions;

use super::{ResizerArg, Weakening};

/// The options that say what is fuzzed, but for seeds, numbers of cases and defects.
pub(super) fn of(subject: &Subject) -> String {
    let mut options = Vec::new();
    if subject.driver != DriverName::Ordered {
        options.push(format!("--driver {}", subject.driver.name()));
    }
    let resizer = match subject.resizer {
        Resizer::Userhelper => None,
        Resizer::Procedure2003 => Some(ResizerArg::Procedure2003),
        Resizer::Spillner2003 => Some(ResizerArg::Spillner2003),
    };
    options.extend(resizer.map(|resizer| format!("--resizer {}", name(resizer))));
    options.extend((!subject.faults).then(|| "--no-faults".into()));
    options.extend(subject.lying_syncs.then(|| "--lying-syncs".into()));
    for &weakening in Weakening::value_variants() {
        if is_weakened(&subject.assumptions, weakening) {
            options.push(format!("--weaken {}", name(weakening)));
        }
    }
    options.join(" ")
}

/// Whether nothing would change if it were weakened like this.
fn is_weakened(assumptions: &Assumptions, weakening: Weakening) -> bool {
    let mut weakened = *assumptions;
    weakening.apply(&mut weakened);
    weakened == *assumptions
}

fn name(value: impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or(String::new(), |value| value.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_weakening_is_seen_in_what_it_leaves() {
        let usual = Subject {
            faults: true,
            ..Subject::healthy(DriverName::Ordered)
        };
        assert_eq!(of(&usual), "");
        for &weakening in Weakening::value_variants() {
            let mut subject = usual.clone();
            weakening.apply(&mut subject.assumptions);
            assert_eq!(of(&subject), format!("--weaken {}", name(weakening)));
        }
    }
}
