//! Other programs that tests compare with, where they are installed.

use std::path::PathBuf;

/// The program of this name, if it is installed. A test without it says so and ends well,
/// but for where `UBDLAB_REQUIRE_PEERS` says that all of them are there.
///
/// # Panics
/// If it is required and not there.
pub(crate) fn peer(name: &str) -> Option<PathBuf> {
    let found = optional_peer(name);
    assert!(
        found.is_some() || std::env::var_os("UBDLAB_REQUIRE_PEERS").is_none(),
        "{name} is not installed, and UBDLAB_REQUIRE_PEERS is set"
    );
    found
}

/// The program of this name, if it is installed, and a word about it if not: one that is too much
/// to ask for.
pub(crate) fn optional_peer(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Where Debian has mkfs and the like, which only root has in the path.
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let found = std::env::split_paths(&path)
        .chain(system)
        .map(|directory| directory.join(name))
        .find(|program| program.is_file());
    if found.is_none() {
        eprintln!("skipped: {name} is not installed");
    }
    found
}
