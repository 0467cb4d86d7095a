//! What `ubdlab crash` can assume less of.

use clap::ValueEnum;
use clap::builder::PossibleValue;

use super::super::fuzz::Weakening;
use crate::crash::Model;
use crate::sim::Assumptions;

/// A weakening that makes a difference to a simulated directory. It is one of those of the fuzzer,
/// by the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OfADirectory(Weakening);

impl OfADirectory {
    pub(super) fn apply(self, assumptions: &mut Assumptions) {
        self.0.apply(assumptions);
    }

    /// What has to be asked for beside it, so that it makes a difference, and is not.
    pub(super) fn lacks(self, model: Model, has_faults: bool) -> Option<&'static str> {
        match self.0 {
            Weakening::WholePagesAtKill | Weakening::WholeSectorsAtKill => {
                (model != Model::Kill).then_some("--model kill")
            }
            // A kill leaves all that was done, in the order in which it was.
            Weakening::AtomicSector
            | Weakening::OrderedNames
            | Weakening::AtomicSetLen
            | Weakening::LengthFollowsData
            | Weakening::SyncPersists => (model != Model::Power).then_some("--model power"),
            Weakening::FailedSyncKeepsContent => (!has_faults).then_some("--fault"),
            Weakening::RestartAfterFailedSync | Weakening::ErrorsAreFinal => None,
        }
    }

    /// Its name on the command line.
    pub(super) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Not among them are `restart-after-failed-sync`, because nothing outlives a crash here in which
/// only a process ends, and `errors-are-final`: a program is told of an error when all is done.
impl ValueEnum for OfADirectory {
    fn value_variants<'a>() -> &'a [OfADirectory] {
        const {
            &[
                OfADirectory(Weakening::AtomicSector),
                OfADirectory(Weakening::OrderedNames),
                OfADirectory(Weakening::AtomicSetLen),
                OfADirectory(Weakening::LengthFollowsData),
                OfADirectory(Weakening::SyncPersists),
                OfADirectory(Weakening::FailedSyncKeepsContent),
                OfADirectory(Weakening::WholePagesAtKill),
                OfADirectory(Weakening::WholeSectorsAtKill),
            ]
        }
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        self.0.to_possible_value()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_page_has_each_of_them_and_no_other() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/crash.md");
        let page = std::fs::read_to_string(page).unwrap();
        let named = page.split("`--weaken ").skip(1).map(|rest| {
            let end = rest.find('`').unwrap();
            rest[..end].to_owned()
        });
        let named: BTreeSet<String> = named.filter(|name| name != "ASSUMPTION").collect();
        let names = OfADirectory::value_variants().iter().map(|it| {
            let value = it.to_possible_value().unwrap();
            value.get_name().to_owned()
        });
        assert_eq!(named, names.collect());
    }
}
