//! The COW file format once more, written from `docs/format.md` alone and as slow as it likes to
//! be. What the driver's code and this one agree on is the format; a mistake in one of them shows
//! as a difference. So nothing here comes from the driver, nor from userhelper: not a constant,
//! not a rounding, not a type. A test sees to it.
//!
//! [`layout`] has the tables of the page, [`header`] and [`extension`] the two blocks that a
//! reader needs, [`reader`] the disk that a file shows.

pub mod extension;
pub mod header;
pub mod layout;
pub mod reader;
mod source;
mod wrong;

pub use extension::Extension;
pub use header::{ByteOrder, Header};
pub use layout::{Layout, Version};
pub use reader::CowFile;
pub use source::{Shown, Source};
pub use wrong::Wrong;

/// Bytes in a sector, everywhere.
pub const SECTOR: u64 = 512;

/// The byte of a V3 header that has the mark of a reflow in its highest bit: the first of the size.
pub const MARK_BYTE: u64 = 12;

/// Where the slots of the journal begin, of a sector each.
const RECORDS: [u64; 2] = [4608, 5120];

/// Where a journal record has its checksum, in each of the slots.
pub const RECORD_CHECKSUMS: [u64; 2] = [RECORDS[0] + 12, RECORDS[1] + 12];

/// The first byte after the journal, which a V3 file has once it was reflowed.
pub const JOURNAL_END: u64 = RECORDS[1] + SECTOR;

#[cfg(test)]
mod tests {
    /// Every `use` is of the standard library or of a sibling, and no path leads elsewhere.
    #[test]
    fn it_shares_no_code_with_what_it_checks() {
        for (name, text) in [
            ("extension", include_str!("extension.rs")),
            ("header", include_str!("header.rs")),
            ("layout", include_str!("layout.rs")),
            ("reader", include_str!("reader.rs")),
            ("source", include_str!("source.rs")),
            ("wrong", include_str!("wrong.rs")),
        ] {
            for line in text.lines().map(str::trim_start) {
                let imports = line.strip_prefix("use ").or(line.strip_prefix("pub use "));
                let is_own = |path: &str| path.starts_with("std::") || path.starts_with("super::");
                assert!(imports.is_none_or(is_own), "{name}: {line}");
                for foreign in ["driver::", "userhelper::", "crate::"] {
                    assert!(!line.contains(foreign), "{name}: {line}");
                }
            }
        }
    }
}
