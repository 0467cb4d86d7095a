//! A thread's own view of the file system, in which a simulated directory lies over the real one.
//!
//! The view is a mount namespace. The command names its files as it always does, by absolute paths
//! or by others, and nobody else sees the mount. It goes with the last process that is in it,
//! however the program ends. No process outlives the mount: it would find the real directory in its
//! place, and write there.

use std::path::Path;

use crossbeam_channel::Receiver;

use super::processes::Processes;
use crate::mount::{Come, MountedTree, TreeMount, own_view};

/// The view of a thread, with what runs in it.
#[derive(Debug)]
pub(super) struct View {
    pub(super) processes: Processes,
    /// It is there as long as the view is.
    mount: Option<TreeMount>,
}

impl View {
    /// Gives the calling thread a view of its own, with a mount over `directory` in it. Threads and
    /// processes that it starts share the view.
    ///
    /// # Errors
    /// What is missing, and what would help.
    pub(super) fn over(directory: &Path) -> Result<View, String> {
        let mount = own_view::over(directory)?;
        let processes = Processes::begin().map_err(|error| {
            let words = driver::system_words(error);
            format!("a PID namespace of its own: {words}; it takes the right to mount")
        })?;
        Ok(View {
            processes,
            mount: Some(mount),
        })
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
        if !self.processes.end() {
            // The mount stays for what does not end, and goes with it.
            std::mem::forget(self.mount.take());
        }
    }
}
