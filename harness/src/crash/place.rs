//! Where commands run: a view of the file system in which a simulated directory lies over the real
//! one, and the processes there. A command names its files as it always does, by absolute paths or
//! by others. No process outlives the mount: it would find the real directory in its place, and
//! write there.

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
    /// One for the calling thread, with a mount over `directory`.
    ///
    /// # Errors
    /// As [`own_view::over`], also of the processes.
    pub(super) fn over(directory: &Path) -> Result<View, String> {
        let mount = own_view::over(directory)?;
        let processes = Processes::begin();
        let processes = processes
            .map_err(|error| own_view::what_failed("a PID namespace of its own", &error))?;
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
