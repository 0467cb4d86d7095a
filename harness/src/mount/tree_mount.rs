//! The mount of a simulated directory, from the kernel's call to the end.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, select};
use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};

use super::mounted_tree::MountedTree;
use super::tree_filesystem::TreeFilesystem;
use crate::mountpoint::{unmount_at_once, why_not};

/// What the owner of the directory does for the kernel.
pub type ForOwner = Box<dyn FnOnce(&mut MountedTree) + Send>;

/// The requests that wait for the owner; more wait in the kernel.
const MOST_WAITING: usize = 256;

/// A mount, which answers as long as somebody [serves](TreeMount::serve) it. It goes when it is
/// dropped, in use or not. It is in the mount namespace of the thread that has made it, which has
/// to be the one that drops it.
#[derive(Debug)]
pub struct TreeMount {
    directory: PathBuf,
    session: Option<BackgroundSession>,
    asked: Receiver<ForOwner>,
    /// Somebody else has unmounted it: what may be mounted there now is not ours.
    is_gone: Cell<bool>,
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

/// Why a simulated directory is not mounted.
#[derive(Debug, thiserror::Error)]
#[error("mounting on {}: {why}", driver::shown(directory))]
pub struct CannotMountTree {
    directory: PathBuf,
    why: String,
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
        };
        let (asks, asked) = bounded(MOST_WAITING);
        let session = Session::new(TreeFilesystem { asked: asks }, directory, &config());
        let session = session.map_err(cannot)?;
        Ok(TreeMount {
            directory: directory.to_owned(),
            session: Some(session.spawn().map_err(cannot)?),
            asked,
            is_gone: Cell::new(false),
        })
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
                    Err(_) => {
                        self.is_gone.set(true);
                        return Some(Come::Unmounted);
                    }
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
        if !self.is_gone.get() {
            unmount_at_once(&self.directory);
        }
        // What waits to be answered is dropped, which lets the session go on to its end.
        let (_, nothing) = bounded(0);
        drop(std::mem::replace(&mut self.asked, nothing));
        if let Some(session) = self.session.take() {
            let _ = session.join();
        }
    }
}

fn config() -> Config {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("ubdlab".into()),
        MountOption::DefaultPermissions,
        MountOption::RW,
    ];
    // A command may act for several users; without root the kernel allows only its own.
    config.acl = match rustix::process::geteuid().is_root() {
        true => SessionACL::All,
        false => SessionACL::Owner,
    };
    config
}
