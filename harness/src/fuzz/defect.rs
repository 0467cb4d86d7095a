//! What can be switched on that is wrong: a defect of a kernel's driver, one of a resize, or a
//! double of `ordered`. A case has them by their names, and knows what they are from then on.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use driver::linux;
use serde::{Deserialize, Serialize};

use super::procedure_2003::ResizeDefect;

/// Something wrong that a case has switched on. In a file it is its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum CaseDefect {
    /// Of the model of a kernel's driver.
    Kernel(linux::Defect),
    /// Of the model of 2003's resize.
    Resize(ResizeDefect),
    /// The double of this name, if there is one.
    Double(Arc<str>),
}

impl CaseDefect {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            CaseDefect::Kernel(defect) => defect.name(),
            CaseDefect::Resize(defect) => defect.name(),
            CaseDefect::Double(name) => name,
        }
    }

    /// Their names.
    pub fn names(defects: &[CaseDefect]) -> Vec<String> {
        let names = defects.iter().map(|defect| defect.name().to_owned());
        names.collect()
    }
}

impl From<&str> for CaseDefect {
    fn from(name: &str) -> CaseDefect {
        if let Ok(defect) = name.parse() {
            return CaseDefect::Kernel(defect);
        }
        match name.parse() {
            Ok(defect) => CaseDefect::Resize(defect),
            Err(_) => CaseDefect::Double(name.into()),
        }
    }
}

impl From<String> for CaseDefect {
    fn from(name: String) -> CaseDefect {
        CaseDefect::from(&*name)
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
            assert_eq!(CaseDefect::from(defect.name()), CaseDefect::Kernel(*defect));
        }
        for defect in ResizeDefect::ALL {
            assert_eq!(CaseDefect::from(defect.name()), CaseDefect::Resize(*defect));
        }
        for double in crate::fuzz::doubles::all() {
            let named = CaseDefect::from(double.name);
            assert_eq!(named, CaseDefect::Double(double.name.into()));
        }
    }

    #[test]
    fn in_a_file_it_is_its_name() {
        let defects = ["flush-noop", "forward-copy", "a double"].map(CaseDefect::from);
        let text = serde_json::to_string(&defects).unwrap();
        assert_eq!(text, r#"["flush-noop","forward-copy","a double"]"#);
        let read: Vec<CaseDefect> = serde_json::from_str(&text).unwrap();
        assert_eq!(read, defects);
    }
}
