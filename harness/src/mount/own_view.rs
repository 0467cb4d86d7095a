//! A mount that only one thread, and what it starts, can see: it is in a mount namespace of the
//! thread's own, and goes with the last process that is in that.

use std::io;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, mount_change};

use super::TreeMount;
use crate::mountpoint::Missing;

/// Gives the calling thread a view of its own, which the threads and processes that it starts
/// share.
///
/// # Errors
/// What is missing, and what would help.
pub(crate) fn enter() -> Result<(), String> {
    let cannot = |error: io::Error| what_failed("a mount namespace of its own", &error);
    unshare(CloneFlags::CLONE_NEWNS).map_err(|error| cannot(error.into()))?;
    // What is mounted in this view is not to show in any other. What others unmount goes here too:
    // a disk that somebody takes out meanwhile would stay in use.
    let below = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", below).map_err(|error| cannot(error.into()))
}

/// Mounts over `directory` in the view of the calling thread.
///
/// # Errors
/// As [`enter`].
pub(crate) fn mount(directory: &Path) -> Result<TreeMount, String> {
    TreeMount::on(directory).map_err(|error| {
        let way_out = error.missing.map_or("", Missing::way_out);
        format!("{error}{way_out}")
    })
}

/// What is said where something for a view of one's own cannot be had.
pub(crate) fn what_failed(what: &str, error: &io::Error) -> String {
    let way_out = Missing::for_a_namespace(error).map_or("", Missing::way_out);
    format!("{what}: {}{way_out}", driver::system_words(error))
}
