//! The mount of a simulated directory, from the kernel's call to the end.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, select};
use fuser::{BackgroundSession, Config, SessionACL};

use super::mounted_tree::MountedTree;
use super::tree_filesystem::TreeFilesystem;
use crate::mountpoint::{Missing, Mount, Mounting, why_not};

/// What the owner of the directory does for the kernel.
pub type ForOwner = Box<dyn FnOnce(&mut MountedTree) + Send>;

/// The requests that wait for the owner; more wait in the kernel.
const MOST_WAITING: usize = 256;

/// A mount, which answers as long as somebody [serves](TreeMount::serve) it. It goes when it is
/// dropped, in use or not. It is in the mount namespace of the thread that has made it, which has
/// to be the one that drops it.
#[derive(Debug)]
pub struct TreeMount {
    mount: Arc<Mount>,
    session: Option<BackgroundSession>,
    asked: Receiver<ForOwner>,
}

/// What has come while a mount was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Come<T, A> {
    /// What was waited for.
    Awaited(T),
    /// Something that may come beside it, as the tick of a clock.
    Beside(A),
    /// Somebody else has unmounted it.
    Unmounted,
}

/// Something lies over a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Covered;

/// Why a simulated directory is not mounted.
#[derive(Debug, thiserror::Error)]
#[error("mounting on {}: {why}", driver::shown(directory))]
pub struct CannotMountTree {
    directory: PathBuf,
    why: String,
    /// What it takes that is not there.
    pub(crate) missing: Option<Missing>,
}

impl TreeMount {
    /// Mounts over `directory`; what is in it is hidden by the mount.
    ///
    /// # Errors
    /// Why not.
    pub fn on(directory: &Path) -> Result<TreeMount, CannotMountTree> {
        let cannot = |error: io::Error| CannotMountTree {
            directory: directory.to_owned(),
            why: why_not(&error),
            missing: Missing::for_a_mount(&error),
        };
        let (asks, asked) = bounded(MOST_WAITING);
        let filesystem = TreeFilesystem { asked: asks };
        let mounted = mounting().mount(filesystem, directory, Config::default());
        let (session, mount) = mounted.map_err(cannot)?;
        let mut mounted = TreeMount {
            mount: Arc::new(mount),
            session: None,
            asked,
        };
        mounted.session = Some(session.spawn().map_err(cannot)?);
        Ok(mounted)
    }

    /// What takes the mount away before the process ends, and tells whether it was there.
    pub(crate) fn undo(&self) -> impl FnOnce() -> bool + Send + use<> {
        let mount = Arc::clone(&self.mount);
        move || mount.take_away().is_some()
    }

    /// Takes the mount away. It does not wait for the end of what was asked.
    ///
    /// # Errors
    /// Somebody else has mounted something over it, which stays, and so does this.
    pub(crate) fn take_away(&self) -> Result<(), Covered> {
        // Afterwards there may be what it lay over, while somebody still has a file of it open.
        if self.mount.is_covered() {
            return Err(Covered);
        }
        self.mount.take_away();
        Ok(())
    }

    /// Answers the kernel from `tree` until `until` or `also` has something, which is returned, or
    /// until the mount has gone. `None` if nothing can come of `until` any more.
    pub fn serve<T, A>(
        &self,
        tree: &mut MountedTree,
        until: &Receiver<T>,
        also: &Receiver<A>,
    ) -> Option<Come<T, A>> {
        loop {
            select! {
                recv(self.asked) -> asked => match asked {
                    Ok(answer) => answer(tree),
                    Err(_) => return Some(Come::Unmounted),
                },
                recv(until) -> come => return come.ok().map(Come::Awaited),
                recv(also) -> come => return come.ok().map(Come::Beside),
            }
        }
    }

    /// What the kernel asks next, if that comes within `time`. The kernel waits until it has been
    /// answered, so that whoever serves the mount can look at something else before.
    pub fn next(&self, time: Duration) -> Option<ForOwner> {
        self.asked.recv_timeout(time).ok()
    }

    /// What is asked for from now on, or has not been answered, ends with EIO.
    pub(crate) fn answer_no_more(&mut self) {
        let (_, nothing) = bounded(0);
        drop(std::mem::replace(&mut self.asked, nothing));
    }

    /// Answers what has come already.
    pub fn serve_waiting(&self, tree: &mut MountedTree) {
        for answer in self.asked.try_iter() {
            answer(tree);
        }
    }
}

impl Drop for TreeMount {
    fn drop(&mut self) {
        // What is in flight ends with the connection, without an answer from us.
        self.mount.take_away();
        // What waits to be answered is dropped, which lets the session go on to its end.
        self.answer_no_more();
        let session = self.session.take();
        // Where somebody else has mounted something over it, or has a file of it open while it is
        // only detached, the connection ends with the process.
        if let Some(session) = session.filter(|_| self.mount.has_ended()) {
            let _ = session.join();
        }
    }
}

fn mounting() -> Mounting {
    Mounting {
        // A command may act for several users; without root the kernel allows only its own.
        for_whom: match rustix::process::geteuid().is_root() {
            true => SessionACL::All,
            false => SessionACL::Owner,
        },
        read_only: false,
        executable: true,
    }
}
