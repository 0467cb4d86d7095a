//! A simulated directory, mounted in a sandbox and served by a thread of its own.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};
use harness::mount::{Come, ForOwner, Limits, MountedTree, TreeMount};
use harness::sim::Assumptions;
use harness::sim::tree::{Recorded, Tree};

use super::cli::Sandbox;
use super::fuse::Directory;

/// The mount. It goes when this is dropped.
pub(crate) struct MountedDirectory {
    directory: Directory,
    asks: Sender<ForOwner>,
    ends: Option<Sender<()>>,
    thread: Option<JoinHandle<Vec<Recorded>>>,
}

impl MountedDirectory {
    /// An empty one. `None`, and a word, where nothing can be mounted.
    pub(crate) fn new(sandbox: &Sandbox, name: &str, limits: Limits) -> Option<MountedDirectory> {
        let directory = Directory::new(sandbox, name)?;
        let (ends, ended) = bounded::<()>(0);
        let (says, is_mounted) = bounded(1);
        let (asks, asked) = bounded::<ForOwner>(0);
        let path = directory.path().to_owned();
        let thread = std::thread::spawn(move || {
            let mount = TreeMount::on(&path).unwrap();
            let mut tree = MountedTree::new(Tree::new(Assumptions::default()), limits);
            tree.record_after(Vec::new());
            says.send(()).unwrap();
            while let Some(come) = mount.serve(&mut tree, &ended, &asked) {
                if let Come::Beside(does) = come {
                    does(&mut tree);
                }
            }
            tree.take_log()
        });
        is_mounted.recv().unwrap();
        Some(MountedDirectory {
            directory,
            asks,
            ends: Some(ends),
            thread: Some(thread),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Does this with the directory that is shown.
    pub(crate) fn with(&self, does: impl FnOnce(&mut MountedTree) + Send + 'static) {
        let (says, is_done) = bounded(1);
        let does = move |tree: &mut MountedTree| {
            does(tree);
            says.send(()).unwrap();
        };
        self.asks.send(Box::new(does)).unwrap();
        is_done.recv().unwrap();
    }

    /// Takes the mount away; all that was changed on it.
    pub(crate) fn end(mut self) -> Vec<Recorded> {
        drop(self.ends.take());
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for MountedDirectory {
    fn drop(&mut self) {
        drop(self.ends.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
