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
