//! A new size on the command line, or a change of the old one.

use std::path::Path;
use std::str::FromStr;

use driver::shown;
use driver::size::parse_device_size;
use driver::units::Bytes;

use super::Failure;

/// A new size, or a change of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SizeChange {
    To(Bytes),
    By(Bytes),
    Less(Bytes),
}

impl FromStr for SizeChange {
    type Err = driver::size::SizeError;

    fn from_str(text: &str) -> Result<SizeChange, Self::Err> {
        match text.as_bytes().first() {
            Some(b'+') => parse_device_size(&text[1..]).map(SizeChange::By),
            Some(b'-') => parse_device_size(&text[1..]).map(SizeChange::Less),
            _ => parse_device_size(text).map(SizeChange::To),
        }
    }
}

impl SizeChange {
    /// The new size of the device `path`, which has this old one.
    pub(super) fn new_size(self, old: Bytes, path: &Path) -> Result<Bytes, Failure> {
        let new = match self {
            SizeChange::To(size) => Some(size.0),
            SizeChange::By(more) => old.0.checked_add(more.0),
            SizeChange::Less(less) => old.0.checked_sub(less.0).filter(|&size| size > 0),
        };
        new.map(Bytes).ok_or_else(|| {
            let by = match self {
                SizeChange::Less(less) => format!("-{less}"),
                SizeChange::By(by) | SizeChange::To(by) => format!("+{by}"),
            };
            let text = "the device has no such size";
            Failure(format!("{}: {text}: {old} {by}", shown(path)))
        })
    }
}
