//! Other programs that tests compare with, where they are installed.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The program of this name, if it is installed. A test without it says so and ends well,
/// but for where `UBDLAB_REQUIRE_PEERS` says that all of them are there.
///
/// # Panics
/// If it is required and not there.
pub(crate) fn peer(name: &str) -> Option<PathBuf> {
    let found = find(name);
    if found.is_none() {
        skip(&format!("{name} is not installed"));
    }
    found
}

/// Says why a test is skipped.
///
/// # Panics
/// Where `UBDLAB_REQUIRE_PEERS` says that none is.
pub(crate) fn skip(why: &str) {
    let is_required = std::env::var_os("UBDLAB_REQUIRE_PEERS").is_some();
    assert!(!is_required, "{why}, and UBDLAB_REQUIRE_PEERS is set");
    eprintln!("skipped: {why}");
}

/// Whether fio has this engine. A test without it is skipped.
pub(crate) fn has_engine(fio: &Path, engine: &str) -> bool {
    let engines = super::cli::output(Command::new(fio).arg("--enghelp")).stdout;
    let engines = String::from_utf8_lossy(&engines);
    let has_it = engines.lines().any(|line| line.trim() == engine);
    if !has_it {
        skip(&format!("fio has no engine {engine}"));
    }
    has_it
}

/// The program of this name, if it is installed, and a word about it if not: one that is too much
/// to ask for.
pub(crate) fn optional_peer(name: &str) -> Option<PathBuf> {
    let found = find(name);
    if found.is_none() {
        eprintln!("skipped: {name} is not installed");
    }
    found
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Where Debian has mkfs and the like, which only root has in the path.
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
}
