//! The names that `--defect` takes, and who has which.

use clap::builder::{PossibleValue, PossibleValuesParser};

use crate::cli::driver_arg::{NONE, listed, names_of_drivers};
use crate::fuzz::case::DriverName;
use crate::fuzz::defect::CaseDefect;
use crate::fuzz::doubles;
use crate::fuzz::procedure_2003::ResizeDefect;

/// The resize as it was in 2003: the catalogue has a row of this name, which is no defect.
const RESIZER: &str = "spillner-2003";

/// All names, for shells to complete and for the message about another one.
pub(super) fn names() -> PossibleValuesParser {
    let names = names_of_drivers().chain(of_resizes()).chain(of_doubles());
    let names = names.chain([NONE]).map(PossibleValue::new);
    // What to give in its place is said where it is refused.
    names.chain([PossibleValue::new(RESIZER).hide(true)]).into()
}

/// All names, by the drivers that have them, for the end of the long help.
pub(super) fn all_listed() -> String {
    [
        listed(
            "Defects of --driver linux-6.12 and linux-2.6",
            names_of_drivers(),
        ),
        listed("Defects of resizes under --driver ordered", of_resizes()),
        listed("Doubles of --driver ordered", of_doubles()),
    ]
    .join("\n\n")
}

fn of_resizes() -> impl Iterator<Item = &'static str> {
    ResizeDefect::ALL.iter().map(|defect| defect.name())
}

fn of_doubles() -> impl Iterator<Item = &'static str> {
    doubles::all().map(|double| double.name)
}

/// Whether the driver can have this defect.
///
/// # Errors
/// Which ones it can have.
pub(super) fn check(driver: DriverName, name: &str) -> Result<CaseDefect, String> {
    if name == RESIZER {
        return Err(format!(
            "--defect {name}: this is a resize, not a defect: --resizer {name}"
        ));
    }
    let defect = name.parse().ok();
    defect
        .filter(|defect| driver.can_have(*defect))
        .ok_or_else(|| {
            let has: Vec<&str> = match driver {
                DriverName::Ordered => of_resizes().chain(of_doubles()).collect(),
                DriverName::Linux612 | DriverName::Linux26 => names_of_drivers().collect(),
            };
            let driver = driver.name();
            format!(
                "--defect {name}: no defect of --driver {driver}, which can have {}",
                has.join(", ")
            )
        })
}
