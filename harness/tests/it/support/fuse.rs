//! Directories on which a server mounts its device.

use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};

use super::cli::Sandbox;
use super::peers::skip;

/// Whether this user can mount a FUSE file system here; a word if not.
///
/// # Panics
/// If it cannot be, and `UBDLAB_REQUIRE_PEERS` says that everything is there.
pub(crate) fn can_mount() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    let can = is_root && Path::new("/dev/fuse").exists();
    if !can {
        skip("not root, or no /dev/fuse");
    }
    can
}

/// A directory in a sandbox. What is mounted there when it is dropped goes with it, also what a
/// server has left that was killed.
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// A new one, empty. `None`, and a word, where a device cannot be mounted.
    ///
    /// # Panics
    /// If it cannot, and `UBDLAB_REQUIRE_PEERS` says that everything is there.
    pub(crate) fn new(sandbox: &Sandbox, name: &str) -> Option<Directory> {
        if !can_mount() {
            return None;
        }
        let path = sandbox.path(name);
        std::fs::create_dir(&path).unwrap();
        Some(Directory(path))
    }

    /// The device, while a server has it mounted here.
    pub(crate) fn disk(&self) -> PathBuf {
        self.0.join("disk")
    }

    /// How the device is doing, likewise.
    pub(crate) fn status(&self) -> PathBuf {
        self.0.join("status.json")
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Whether something is mounted here.
    pub(crate) fn is_mounted(&self) -> bool {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let path = self.0.canonicalize().unwrap_or_else(|_| self.0.clone());
        let path = path.to_str().unwrap();
        mounts
            .lines()
            .any(|line| line.split(' ').nth(4) == Some(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Mostly there is nothing.
        let _ = unmount(&self.0, UnmountFlags::FORCE | UnmountFlags::DETACH);
    }
}
