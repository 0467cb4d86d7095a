//! Other programs of this machine.

use std::path::PathBuf;

/// Where Debian has mkfs and the like, which only root has in the path.
const OF_THE_SYSTEM: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Where the program of this name is.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(OF_THE_SYSTEM.map(PathBuf::from));
    let mut programs = directories.map(|directory| directory.join(program));
    programs.find(|path| path.is_file())
}
