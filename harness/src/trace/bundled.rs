//! The recorded traces that are part of the program; `traces/README.md` says how each was
//! recorded.

use std::io::Cursor;
use std::path::Path;

use super::{ReadOptions, TraceError, TraceSource, open_stream};

/// A recorded trace.
#[derive(Clone, Copy, Debug)]
pub struct Bundled {
    /// Its name: `ext4-unpack`.
    pub name: &'static str,
    file: &'static [u8],
}

macro_rules! bundled {
    ($name:literal) => {
        Bundled {
            name: $name,
            file: include_bytes!(concat!("../../../traces/", $name, ".ubdtrace")),
        }
    };
}

impl Bundled {
    /// An ext4 file system being made, filled and unpacked into.
    pub const EXT4_UNPACK: Bundled = bundled!("ext4-unpack");

    /// All of them, some 350 KB.
    pub const ALL: [Bundled; 6] = [
        Bundled::EXT4_UNPACK,
        bundled!("sqlite-wal"),
        bundled!("xfs-copy"),
        bundled!("btrfs-snapshot"),
        bundled!("git-build"),
        bundled!("direct-random"),
    ];

    /// Opens it, from its start.
    ///
    /// # Errors
    /// If the file is damaged, which the program's makers would have noticed.
    pub fn open(&self) -> Result<Box<dyn TraceSource>, TraceError> {
        let name = format!("{}.ubdtrace (part of the program)", self.name);
        let options = ReadOptions::default();
        open_stream(Path::new(&name), Cursor::new(self.file), &options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_opens_and_has_its_records() {
        for bundled in Bundled::ALL {
            let trace = bundled.open().unwrap();
            assert_eq!(trace.description().format, "ubdtrace", "{}", bundled.name);
            let records = trace.map(|record| record.map(drop).unwrap());
            assert!(records.count() > 7000, "{}", bundled.name);
        }
    }
}
