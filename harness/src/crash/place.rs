//! Where commands run: a view of the file system in which a simulated directory lies over the real
//! one, and the processes there. A command names its files as it always does, by absolute paths or
//! by others. No process outlives the mount: it would find the real directory in its place, and
//! write there.
//!
//! The thread that serves the mount is in the view, too. From the mount on it opens no file and
//! starts no program: what lies on the mount it would have to bring itself.

use std::fs::File;
use std::path::Path;

use crossbeam_channel::Receiver;
use driver::{shown, system_words};
use rustix::fs::{FsWord, PROC_SUPER_MAGIC, statfs};

use super::processes::Processes;
use crate::mount::{Come, MountedTree, TreeMount, own_view};

/// The list of what is mounted, in the view of the thread that opens it.
const MOUNTS: &str = "/proc/thread-self/mountinfo";

/// What `statfs` calls the file system that is mounted on `/sys`.
const SYSFS_MAGIC: FsWord = 0x6265_6572;

/// The view of a thread, with what runs in it.
#[derive(Debug)]
pub(super) struct View {
    pub(super) processes: Processes,
    /// It is there as long as the view is.
    mount: Option<TreeMount>,
}

impl View {
    /// One for the calling thread, with a mount over `directory`.
    ///
    /// # Errors
    /// As [`check`] and [`own_view::enter`], also of the processes and the mount.
    pub(super) fn over(directory: &Path) -> Result<View, String> {
        check(directory)?;
        let outside =
            File::open(MOUNTS).map_err(|error| format!("{MOUNTS}: {}", system_words(error)))?;
        own_view::enter()?;
        let processes = Processes::begin();
        let processes = processes
            .map_err(|error| own_view::what_failed("a PID namespace of its own", &error))?;
        let mut view = View {
            processes,
            mount: None,
        };
        view.mount = Some(own_view::mount(directory)?);
        let noted = view.processes.note_mounts(directory, outside);
        noted.map_err(|error| format!("{MOUNTS}: {}", system_words(error)))?;
        Ok(view)
    }

    /// As [`TreeMount::serve`].
    pub(super) fn serve<T, A>(
        &self,
        tree: &mut MountedTree,
        until: &Receiver<T>,
        also: &Receiver<A>,
    ) -> Option<Come<T, A>> {
        self.mount.as_ref()?.serve(tree, until, also)
    }

    /// As [`TreeMount::serve_waiting`].
    pub(super) fn serve_waiting(&self, tree: &mut MountedTree) {
        if let Some(mount) = &self.mount {
            mount.serve_waiting(tree);
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // What a process still waits for comes as an error, and so it can end.
        if let Some(mount) = &mut self.mount {
            mount.answer_no_more();
        }
        if !self.processes.end() {
            // The mount stays for what does not end, and goes with it.
            std::mem::forget(self.mount.take());
        }
    }
}

/// Whether a simulated directory can lie over this one.
///
/// # Errors
/// Why not.
pub(super) fn check(directory: &Path) -> Result<(), String> {
    let wrong = |found: &str, expected: &str| {
        let directory = shown(directory);
        Err(format!("{directory}: found {found}, expected {expected}"))
    };
    if !directory.is_dir() {
        return wrong("no directory", "one");
    }
    if directory.parent().is_none() {
        return wrong(
            "the root of all files, over which no mount can lie",
            "a directory in it",
        );
    }
    let kind = statfs(directory).map_err(|error| {
        let (directory, words) = (shown(directory), system_words(error));
        format!("{directory}: {words}")
    })?;
    match kind.f_type {
        PROC_SUPER_MAGIC | SYSFS_MAGIC => wrong(
            "what the kernel shows of itself, which is no copy of anything",
            "files of a program",
        ),
        _ => Ok(()),
    }
}
