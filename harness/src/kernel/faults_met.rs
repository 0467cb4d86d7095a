//! How often the host has failed the kernel, by what of its files that was about: a campaign that
//! never fails a write of the bitmap says nothing of what comes of one.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::figures::{counted, grouped};
use crate::plain_format::CowFile;
use crate::sim::tree::{ROOT, Tree};
use crate::sim::{Fault, Injected};

use super::files::COW_NAME;

/// A part of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The header of the COW file.
    Header,
    /// Its bitmap.
    Bitmap,
    /// Its data.
    Data,
    /// Another file: the backing file.
    Backing,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Header => "header",
            Part::Bitmap => "bitmap",
            Part::Data => "data",
            Part::Backing => "backing file",
        }
    }
}

/// How the host has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// With an I/O error.
    Error,
    /// For want of space.
    NoSpace,
    /// A read has brought less.
    ShortRead,
    /// A write has taken less.
    ShortWrite,
    /// In another way.
    Other,
}

impl Failure {
    fn of(fault: Fault) -> Failure {
        match fault {
            Fault::Io | Fault::IoAfter => Failure::Error,
            Fault::NoSpace | Fault::FailedSyncForSpace => Failure::NoSpace,
            Fault::ShortRead(_) => Failure::ShortRead,
            Fault::ShortWrite(_) => Failure::ShortWrite,
            Fault::Unsupported | Fault::InPart(_) | Fault::FailedSync | Fault::LyingSync => {
                Failure::Other
            }
        }
    }
}

/// The counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct FaultsMet(BTreeMap<Part, BTreeMap<Failure, u64>>);

impl FaultsMet {
    /// Adds those that were met in a directory, which is `tree` by now.
    pub(super) fn add(&mut self, injected: &[Injected], tree: &Tree) {
        if injected.is_empty() {
            return;
        }
        let cow = tree.lookup(ROOT, COW_NAME.as_ref());
        let cow = cow.and_then(|cow| tree.content(cow));
        let layout = cow.ok().and_then(|cow| CowFile::open(cow).ok());
        let bitmap = layout.map(|cow| cow.layout.bitmap..cow.layout.bitmap + cow.layout.bitmap_len);
        for injected in injected {
            let at = injected.call.range.start.0;
            let part = match &bitmap {
                _ if *injected.call.path != *COW_NAME => Part::Backing,
                Some(bitmap) if bitmap.contains(&at) => Part::Bitmap,
                Some(bitmap) if at >= bitmap.end => Part::Data,
                // What has no bitmap that can be read has a header at most.
                _ => Part::Header,
            };
            let failures = self.0.entry(part).or_default();
            *failures.entry(Failure::of(injected.fault)).or_default() += 1;
        }
    }

    /// How many there were of a part.
    pub fn of(&self, part: Part) -> u64 {
        self.0
            .get(&part)
            .map_or(0, |failures| failures.values().sum())
    }
}

/// As in a report: `12 faults: 3 of the header, 4 of the bitmap, 5 of the data`.
impl fmt::Display for FaultsMet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.0.keys().map(|part| (*part, self.of(*part)));
        let parts: Vec<_> = parts.collect();
        let all = parts.iter().map(|(_, count)| count).sum();
        f.write_str(&counted(all, "fault"))?;
        for (place, (part, count)) in parts.iter().enumerate() {
            let before = if place == 0 { ": " } else { ", " };
            write!(f, "{before}{} of the {}", grouped(*count), part.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::rc::Rc;

    use driver::host::OperationKind;
    use driver::units::{Bytes, FileOffset};

    use super::*;
    use crate::fuzz::case::{DriverName, Image, ImageVersion};
    use crate::fuzz::generate::{Subject, generate};
    use crate::kernel::files::Place;
    use crate::sim::Call;

    #[test]
    fn faults_are_counted_by_what_they_are_about() {
        let mut case = generate(1, &Subject::healthy(DriverName::Linux612));
        case.image = Image::sound(100, ImageVersion::V3, 4096);
        let tree = Place("/disk".into()).tree(&case).unwrap();
        let met = |name: &str, at, fault| Injected {
            call: Call::new(OperationKind::Write, &Rc::from(Path::new(name)))
                .on(FileOffset(at), Bytes(512)),
            fault,
        };
        let mut faults = FaultsMet::default();
        let all = [
            met("cow", 0, Fault::Io),
            met("cow", 8192, Fault::ShortWrite(0)),
            met("cow", 12288, Fault::NoSpace),
            met("cow", 16384, Fault::NoSpace),
            met("backing", 0, Fault::Io),
        ];
        faults.add(&all, &tree);
        assert_eq!(
            faults.to_string(),
            "5 faults: 1 of the header, 1 of the bitmap, 2 of the data, 1 of the backing file"
        );
        assert_eq!(FaultsMet::default().to_string(), "0 faults");
        let json = serde_json::to_string(&faults).unwrap();
        assert!(json.contains(r#""data":{"no-space":2}"#), "{json}");
    }
}
