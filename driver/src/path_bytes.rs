//! Paths of bytes. A header holds a path as bytes of any kind, and the standard library makes a
//! path of such bytes only in what it has for Unix, or in unsafe code, which is forbidden here. So
//! this is the one place of the crate that names an operating system.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The path with these bytes.
pub(crate) fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// The bytes of a path.
pub(crate) fn bytes_of(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_any_kind_come_back_as_they_were() {
        let bytes: Vec<u8> = (1..=255).collect();
        assert_eq!(bytes_of(path_of(&bytes)), bytes);
    }
}
