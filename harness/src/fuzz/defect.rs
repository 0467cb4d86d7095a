//! What can be switched on that is wrong: a defect of a kernel's driver, one of a resize, or a
//! double of `ordered`. A case has them by their names, and knows what they are from then on.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use driver::linux;
use serde::{Deserialize, Serialize};

use super::doubles::{self, Double};
use super::procedure_2003::ResizeDefect;

/// Something wrong that a case has switched on. In a file it is its name.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum CaseDefect {
    /// Of the model of a kernel's driver.
    Kernel(linux::Defect),
    /// Of the model of 2003's resize.
    Resize(ResizeDefect),
    /// A double of `ordered`, or of its resizes.
    Double(&'static Double),
}

/// There is no defect and no double of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "defects: found {found:?}, expected names of defects or doubles, which `ubdlab fuzz \
     --catalogue` lists"
)]
pub struct UnknownCaseDefect {
    /// The name.
    pub found: String,
}

impl CaseDefect {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            CaseDefect::Kernel(defect) => defect.name(),
            CaseDefect::Resize(defect) => defect.name(),
            CaseDefect::Double(double) => double.name,
        }
    }

    /// Their names.
    pub fn names(defects: &[CaseDefect]) -> Vec<String> {
        let names = defects.iter().map(|defect| defect.name().to_owned());
        names.collect()
    }

    /// Their names in a sentence; `none` if there is none.
    pub fn listed(defects: &[CaseDefect]) -> String {
        match defects.is_empty() {
            true => "none".to_owned(),
            false => CaseDefect::names(defects).join(", "),
        }
    }
}

impl FromStr for CaseDefect {
    type Err = UnknownCaseDefect;

    fn from_str(name: &str) -> Result<CaseDefect, UnknownCaseDefect> {
        if let Ok(defect) = name.parse() {
            return Ok(CaseDefect::Kernel(defect));
        }
        if let Ok(defect) = name.parse() {
            return Ok(CaseDefect::Resize(defect));
        }
        let double = doubles::named(name).map(CaseDefect::Double);
        double.ok_or_else(|| UnknownCaseDefect {
            found: name.to_owned(),
        })
    }
}

impl TryFrom<String> for CaseDefect {
    type Error = UnknownCaseDefect;

    fn try_from(name: String) -> Result<CaseDefect, UnknownCaseDefect> {
        name.parse()
    }
}

impl From<CaseDefect> for String {
    fn from(defect: CaseDefect) -> String {
        defect.name().to_owned()
    }
}

impl fmt::Display for CaseDefect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for CaseDefect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// By their names, of which each is one thing's.
impl PartialEq for CaseDefect {
    fn eq(&self, other: &CaseDefect) -> bool {
        self.name() == other.name()
    }
}

impl Eq for CaseDefect {}

/// By their names.
impl Ord for CaseDefect {
    fn cmp(&self, other: &CaseDefect) -> Ordering {
        self.name().cmp(other.name())
    }
}

impl PartialOrd for CaseDefect {
    fn partial_cmp(&self, other: &CaseDefect) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_it_is_the_name_of() {
        for defect in linux::Defect::ALL {
            let named = defect.name().parse();
            assert!(matches!(named, Ok(CaseDefect::Kernel(named)) if named == *defect));
        }
        for defect in ResizeDefect::ALL {
            let named = defect.name().parse();
            assert!(matches!(named, Ok(CaseDefect::Resize(named)) if named == *defect));
        }
        for double in doubles::all() {
            let named = double.name.parse();
            assert!(matches!(named, Ok(CaseDefect::Double(named)) if named.name == double.name));
        }
    }

    #[test]
    fn in_a_file_it_is_its_name() {
        let text = r#"["flush-noop","forward-copy","failed-opening-empties"]"#;
        let read: Vec<CaseDefect> = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }

    #[test]
    fn a_name_of_nothing_is_refused() {
        let read = serde_json::from_str::<Vec<CaseDefect>>(r#"["flush-nop"]"#);
        let told = read.unwrap_err().to_string();
        assert!(
            told.starts_with(r#"defects: found "flush-nop", expected "#),
            "{told}"
        );
    }
}
