//! A thread's own view of the file system, in which a simulated directory lies over the real one.
//!
//! The view is a mount namespace. The command names its files as it always does, by absolute paths
//! or by others, and nobody else sees the mount. It goes with the last process that is in it,
//! however the program ends.

use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, mount_change};

use super::TreeMount;

/// What gives a user who is not root the right to mount for himself.
const FOR_USERS: &str = "unshare --user --map-root-user --mount";

/// Gives the calling thread a view of its own, with a mount over `directory` in it. Threads and
/// processes that it starts share the view.
///
/// # Errors
/// What is missing, and what would help.
pub(crate) fn over(directory: &Path) -> Result<TreeMount, String> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|error| {
        format!(
            "a mount namespace of its own: {}: it takes root, or `{FOR_USERS}` before the command",
            driver::system_words(std::io::Error::from(error))
        )
    })?;
    // What is mounted in this view is not to show in any other. What others unmount goes here too:
    // a disk that somebody takes out meanwhile would stay in use.
    let below = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", below).map_err(|error| {
        format!(
            "a mount namespace of its own: {}",
            driver::system_words(error)
        )
    })?;
    TreeMount::on(directory).map_err(|error| {
        format!("{error}; it takes the kernel's FUSE (modprobe fuse) and the right to mount")
    })
}
