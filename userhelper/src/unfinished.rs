//! What goes when the process is ended before it is done with it: files, directories, and what else
//! a function undoes.
//!
//! A signal ends a process wherever it is, and no destructor runs. What is temporary is therefore
//! entered here, in one step with its creation, and taken out in one step with the rename that
//! gives it its own name, or with its removal. Whoever ends the process calls [`remove_all`]
//! first.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Attempts to remove a directory into which another thread still puts files.
const MOST_ATTEMPTS: u32 = 1000;

static UNFINISHED: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

enum Entry {
    Name(Named),
    Done {
        number: u64,
        undo: Box<dyn FnOnce() -> bool + Send>,
    },
}

#[derive(Debug)]
struct Named {
    path: PathBuf,
    /// Device and inode: another process may have made a file of that name since.
    identity: Option<(u64, u64)>,
}

/// What was entered by [`do_undoably`].
#[derive(Debug, PartialEq, Eq)]
pub struct Undoable(u64);

/// The number of the next [`Undoable`].
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Does what has to be undone before the process ends, by `act`, and enters what `act` gives beside
/// its result. That undoes it, and tells whether there was something to undo. It has to be quick,
/// and must not wait for other threads.
///
/// # Errors
/// What `act` says; nothing is entered then.
pub fn do_undoably<T, U: FnOnce() -> bool + Send + 'static, E>(
    act: impl FnOnce() -> Result<(T, U), E>,
) -> Result<(T, Undoable), E> {
    let mut entries = entries();
    let (done, undo) = act()?;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    entries.push(Entry::Done {
        number,
        undo: Box::new(undo),
    });
    Ok((done, Undoable(number)))
}

/// Undoes it by `act` instead, and takes it out.
pub fn undo<T>(undoable: Undoable, act: impl FnOnce() -> T) -> T {
    let mut entries = entries();
    let undone = act();
    let is_it =
        |entry: &Entry| matches!(entry, Entry::Done { number, .. } if *number == undoable.0);
    entries.retain(|entry| !is_it(entry));
    undone
}

/// Creates a file or directory by `create`, and enters the path that `path` tells of it.
///
/// # Errors
/// What `create` says; nothing is entered then.
pub fn create<T, E>(
    create: impl FnOnce() -> Result<T, E>,
    path: impl FnOnce(&T) -> PathBuf,
) -> Result<T, E> {
    let mut entries = entries();
    let created = create()?;
    let path = path(&created);
    entries.push(Entry::Name(Named {
        identity: identity(&path),
        path,
    }));
    Ok(created)
}

/// Gives `path` another name or removes it by `act`, and takes it out if that succeeds.
///
/// # Errors
/// What `act` says; it stays entered then.
pub fn finish<T, E>(path: &Path, act: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let mut entries = entries();
    let done = act()?;
    entries.retain(|entry| !matches!(entry, Entry::Name(named) if named.path == path));
    Ok(done)
}

/// As long as this is there, [`create`] and [`finish`] wait.
pub struct Ending {
    _entries: MutexGuard<'static, Vec<Entry>>,
    has_removed: bool,
}

impl Ending {
    /// Whether a file or directory was removed, or something else undone.
    pub fn has_removed(&self) -> bool {
        self.has_removed
    }
}

/// Removes all that is entered, for a process that is about to end.
pub fn remove_all() -> Ending {
    let mut entries = entries();
    let mut has_removed = false;
    for entry in entries.drain(..) {
        has_removed |= match entry {
            Entry::Name(named) => named.remove(),
            Entry::Done { undo, .. } => undo(),
        };
    }
    Ending {
        _entries: entries,
        has_removed,
    }
}

/// Returns at once, or never where the process is being ended.
pub fn wait_if_ending() {
    drop(entries());
}

impl Named {
    /// Whether it has gone by this. Of a failure there is nobody left to tell more.
    fn remove(&self) -> bool {
        if self.identity.is_none() || identity(&self.path) != self.identity {
            return false;
        }
        if self.path.is_dir() {
            let removed = || std::fs::remove_dir_all(&self.path);
            return (0..MOST_ATTEMPTS).any(|_| removed().is_ok() || !self.path.exists());
        }
        std::fs::remove_file(&self.path).is_ok()
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let of = |metadata: Metadata| (metadata.dev(), metadata.ino());
    std::fs::symlink_metadata(path).map(of).ok()
}

/// A panic in the middle leaves a list that is as good as any.
fn entries() -> MutexGuard<'static, Vec<Entry>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_removed_counts_as_removed() {
        let directory = tempfile::tempdir().unwrap();
        let entry = |name: &str| {
            let path = directory.path().join(name);
            let identity = identity(&path);
            Named { path, identity }
        };
        std::fs::write(directory.path().join("file"), "").unwrap();
        std::fs::create_dir(directory.path().join("directory")).unwrap();
        let entries = [entry("file"), entry("directory")];
        assert!(entries.iter().all(Named::remove));
        // By now they are gone, and a file that was never there cannot go.
        assert!(!entries.iter().any(Named::remove));
        assert!(!entry("nothing").remove());
    }

    /// The name of a temporary file can be taken by somebody else when that file has gone.
    #[test]
    fn what_another_has_put_under_the_name_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "ours").unwrap();
        let identity = identity(&path);
        // It keeps its inode, so that the other file has another.
        std::fs::rename(&path, directory.path().join("renamed")).unwrap();
        std::fs::write(&path, "another's").unwrap();
        let entry = Named {
            path: path.clone(),
            identity,
        };
        assert!(!entry.remove());
        assert_eq!(std::fs::read(&path).unwrap(), b"another's");
    }
}
