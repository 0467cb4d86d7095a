//! Files in memory: the host for tests, and for runs whose speed is to be the
//! driver's own. It behaves as a Linux file system without faults, without a clock
//! and without limits of space; what a machine does at a crash is the harness's
//! simulated disk, not this.
//!
//! What differs from a real host: there is no tree of directories, so the directory
//! of any path exists; paths are compared as they are written, but for `.` and
//! doubled slashes; nobody but a test changes the time of a file
//! ([`MemoryHost::set_modified`]); there are no owners and no modes.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::host::{
    Access, FileIdentity, FileKind, HostError, HostFile, HostNames, HostResult, LockKind, Metadata,
    Replace, beneath, names_a_directory,
};
use crate::units::{Bytes, FileOffset, FileRange};

mod sparse;

use sparse::SparseBytes;

/// What Linux answers to one who uses a directory as a file (EISDIR).
const IS_A_DIRECTORY: HostError = HostError::Os(21);

/// The names of a host in memory. A clone is another handle to the same names.
#[derive(Clone, Default)]
pub struct MemoryHost {
    names: Arc<Mutex<Names>>,
}

#[derive(Default)]
struct Names {
    inodes: BTreeMap<PathBuf, Arc<Inode>>,
    last_number: u64,
}

/// An open file in memory. A clone shares its locks, as a duplicated descriptor
/// does; they end when the last clone is dropped.
#[derive(Clone)]
pub struct MemoryFile {
    description: Arc<Description>,
}

/// What Linux calls an open file description: one `open`, the owner of locks.
struct Description {
    inode: Arc<Inode>,
    access: Access,
    lock_owner: u64,
}

struct Inode {
    number: u64,
    kind: FileKind,
    content: Mutex<SparseBytes>,
    modified_seconds: AtomicI64,
    locks: Mutex<Locks>,
}

#[derive(Default)]
struct Locks {
    held: BTreeMap<u64, LockKind>,
    last_owner: u64,
}

impl MemoryHost {
    /// A host without files.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a new file with this content under `path`, in place of what was there,
    /// and opens it for reading and writing.
    pub fn file(&self, path: impl AsRef<Path>, content: &[u8]) -> MemoryFile {
        let inode = self.add(path.as_ref(), FileKind::Regular);
        locked(&inode.content).write(content, 0);
        MemoryFile::new(inode, Access::ReadWrite)
    }

    /// Puts a directory under `path`, for tests that mistake one for a file. It can
    /// be opened for reading and has no content.
    pub fn add_directory(&self, path: impl AsRef<Path>) {
        self.add(path.as_ref(), FileKind::Directory);
    }

    /// The whole content of a file, holes as zeros; `None` if there is no such file.
    pub fn contents(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let inode = locked(&self.names).find(path.as_ref()).ok()?;
        if inode.kind != FileKind::Regular {
            return None;
        }
        let content = locked(&inode.content);
        let mut bytes = vec![0; content.len() as usize];
        content.read(&mut bytes, 0);
        Some(bytes)
    }

    /// Sets the time of the last modification, in whole seconds since 1970. It is 0
    /// for a new file, and no write changes it.
    pub fn set_modified(&self, path: impl AsRef<Path>, seconds: i64) -> HostResult<()> {
        let inode = locked(&self.names).find(path.as_ref())?;
        inode.modified_seconds.store(seconds, Ordering::Relaxed);
        Ok(())
    }

    fn add(&self, path: &Path, kind: FileKind) -> Arc<Inode> {
        let mut names = locked(&self.names);
        let inode = names.new_inode(kind);
        names.inodes.insert(cleaned(path), Arc::clone(&inode));
        inode
    }
}

impl Names {
    fn find(&self, path: &Path) -> HostResult<Arc<Inode>> {
        let found = self.inodes.get(&cleaned(path));
        found.cloned().ok_or(HostError::NotFound)
    }

    fn new_inode(&mut self, kind: FileKind) -> Arc<Inode> {
        self.last_number += 1;
        Arc::new(Inode {
            number: self.last_number,
            kind,
            content: Mutex::default(),
            modified_seconds: AtomicI64::new(0),
            locks: Mutex::default(),
        })
    }
}

impl HostNames for MemoryHost {
    type File = MemoryFile;

    fn open(&self, path: &Path, access: Access) -> HostResult<MemoryFile> {
        let inode = locked(&self.names).find(path)?;
        if inode.kind == FileKind::Directory && access == Access::ReadWrite {
            return Err(IS_A_DIRECTORY);
        }
        Ok(MemoryFile::new(inode, access))
    }

    /// There are no symbolic links here.
    fn open_beneath(
        &self,
        directory: &Path,
        path: &Path,
        access: Access,
    ) -> HostResult<MemoryFile> {
        let names = beneath(path)?;
        let file = self.open(&directory.join(&names), access)?;
        match names_a_directory(&names) && file.inode().kind != FileKind::Directory {
            true => Err(HostError::NOT_A_DIRECTORY),
            false => Ok(file),
        }
    }

    fn create_new(&self, path: &Path) -> HostResult<MemoryFile> {
        let mut names = locked(&self.names);
        let path = cleaned(path);
        if names.inodes.contains_key(&path) {
            return Err(HostError::AlreadyExists);
        }
        let inode = names.new_inode(FileKind::Regular);
        names.inodes.insert(path, Arc::clone(&inode));
        Ok(MemoryFile::new(inode, Access::ReadWrite))
    }

    /// Nothing: there are no modes.
    fn give_mode(&self, _: &Path, _: &MemoryFile, _: &[&MemoryFile]) -> HostResult<()> {
        Ok(())
    }

    fn metadata(&self, file: &MemoryFile) -> HostResult<Metadata> {
        let inode = file.inode();
        Ok(Metadata {
            kind: inode.kind,
            identity: FileIdentity {
                device: 0,
                inode: inode.number,
            },
            len: Bytes(locked(&inode.content).len()),
            modified_seconds: inode.modified_seconds.load(Ordering::Relaxed),
        })
    }

    /// Files have neither owner nor mode here.
    fn copy_attributes(&self, _from: &MemoryFile, _to: &MemoryFile) -> HostResult<()> {
        Ok(())
    }

    fn lock(&self, file: &MemoryFile, kind: LockKind) -> HostResult<()> {
        if kind == LockKind::Exclusive {
            file.writable()?;
        }
        let owner = file.description.lock_owner;
        let mut locks = locked(&file.inode().locks);
        let excluded = locks.held.iter().any(|(&holder, &held)| {
            holder != owner && (kind == LockKind::Exclusive || held == LockKind::Exclusive)
        });
        if excluded {
            return Err(HostError::Locked);
        }
        locks.held.insert(owner, kind);
        Ok(())
    }

    /// Directories are not renamed here ([`HostError::Unsupported`]).
    fn rename(&self, from: &Path, to: &Path, replace: Replace) -> HostResult<()> {
        let mut names = locked(&self.names);
        let inode = names.find(from)?;
        match names.find(to) {
            Ok(_) if replace == Replace::Nothing => return Err(HostError::AlreadyExists),
            _ if inode.kind == FileKind::Directory => return Err(HostError::Unsupported),
            Ok(target) if target.kind == FileKind::Directory => return Err(IS_A_DIRECTORY),
            _ => {}
        }
        names.inodes.remove(&cleaned(from));
        names.inodes.insert(cleaned(to), inode);
        Ok(())
    }

    fn remove(&self, path: &Path) -> HostResult<()> {
        let mut names = locked(&self.names);
        if names.find(path)?.kind == FileKind::Directory {
            return Err(IS_A_DIRECTORY);
        }
        names.inodes.remove(&cleaned(path));
        Ok(())
    }

    fn sync_directory_of(&self, _path: &Path) -> HostResult<()> {
        Ok(())
    }
}

impl MemoryFile {
    fn new(inode: Arc<Inode>, access: Access) -> Self {
        let lock_owner = {
            let mut locks = locked(&inode.locks);
            locks.last_owner += 1;
            locks.last_owner
        };
        Self {
            description: Arc::new(Description {
                inode,
                access,
                lock_owner,
            }),
        }
    }

    fn inode(&self) -> &Inode {
        &self.description.inode
    }

    fn writable(&self) -> HostResult<()> {
        match self.description.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(HostError::PermissionDenied),
        }
    }

    /// As [`MemoryHost::set_modified`], of an open file.
    pub fn set_modified(&self, seconds: i64) {
        let time = &self.inode().modified_seconds;
        time.store(seconds, Ordering::Relaxed);
    }

    fn content(&self) -> HostResult<MutexGuard<'_, SparseBytes>> {
        match self.inode().kind {
            FileKind::Regular => Ok(locked(&self.inode().content)),
            _ => Err(IS_A_DIRECTORY),
        }
    }

    fn content_for_writing(&self) -> HostResult<MutexGuard<'_, SparseBytes>> {
        self.writable()?;
        self.content()
    }
}

impl HostFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], at: FileOffset) -> HostResult<usize> {
        end_of(at, buffer.len() as u64)?;
        Ok(self.content()?.read(buffer, at.0))
    }

    fn write_at(&self, data: &[u8], at: FileOffset) -> HostResult<usize> {
        let mut content = self.content_for_writing()?;
        end_of(at, data.len() as u64)?;
        content.write(data, at.0);
        Ok(data.len())
    }

    /// Memory is as durable as it will ever be.
    fn sync_data(&self) -> HostResult<()> {
        Ok(())
    }

    fn len(&self) -> HostResult<Bytes> {
        Ok(Bytes(locked(&self.inode().content).len()))
    }

    fn set_len(&self, len: Bytes) -> HostResult<()> {
        let mut content = self.content_for_writing()?;
        end_of(FileOffset(0), len.0)?;
        content.set_len(len.0);
        Ok(())
    }

    fn punch_hole(&self, range: FileRange) -> HostResult<()> {
        let mut content = self.content_for_writing()?;
        let end = end_of(range.start, range.len.0)?;
        content.erase(range.start.0..end);
        Ok(())
    }

    /// Memory reserves no space, so the range becomes a hole.
    fn zero_range(&self, range: FileRange) -> HostResult<()> {
        let mut content = self.content_for_writing()?;
        let end = end_of(range.start, range.len.0)?;
        content.erase(range.start.0..end);
        if range.len != Bytes(0) && end > content.len() {
            content.set_len(end);
        }
        Ok(())
    }

    fn next_data(&self, from: FileOffset) -> HostResult<Option<FileRange>> {
        end_of(from, 0)?;
        let run = self.content()?.next_data(from.0);
        Ok(run.map(|run| FileRange::between(FileOffset(run.start)..FileOffset(run.end))))
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        locked(&self.inode.locks).held.remove(&self.lock_owner);
    }
}

impl fmt::Debug for MemoryHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = locked(&self.names);
        f.debug_set().entries(names.inodes.keys()).finish()
    }
}

impl fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryFile")
            .field("inode", &self.inode().number)
            .field("kind", &self.inode().kind)
            .field("access", &self.description.access)
            .finish_non_exhaustive()
    }
}

/// The end of a range, as far as Linux can express it.
fn end_of(at: FileOffset, len: u64) -> HostResult<u64> {
    let end = at.0.checked_add(len);
    end.filter(|&end| end <= i64::MAX as u64)
        .ok_or(HostError::TooLarge)
}

fn cleaned(path: &Path) -> PathBuf {
    let parts = path.components();
    parts.filter(|part| *part != Component::CurDir).collect()
}

/// A panic elsewhere leaves no content half changed: every change is one call.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_belong_to_one_open_and_end_with_its_last_clone() {
        let host = MemoryHost::new();
        let first = host.file("cow", b"");
        let second = host.open(Path::new("cow"), Access::ReadWrite).unwrap();
        let clone = first.clone();
        host.lock(&first, LockKind::Exclusive).unwrap();
        host.lock(&clone, LockKind::Exclusive).unwrap();
        assert_eq!(host.lock(&second, LockKind::Shared), Err(HostError::Locked));
        drop(first);
        assert_eq!(host.lock(&second, LockKind::Shared), Err(HostError::Locked));
        drop(clone);
        host.lock(&second, LockKind::Exclusive).unwrap();
    }

    #[test]
    fn an_open_file_outlives_its_name() {
        let host = MemoryHost::new();
        let file = host.file("./dir//cow", b"content");
        host.remove(Path::new("dir/cow")).unwrap();
        assert_eq!(host.contents("dir/cow"), None);
        let mut buffer = [0; 7];
        file.read_exact_at(&mut buffer, FileOffset(0)).unwrap();
        assert_eq!(&buffer, b"content");
    }

    #[test]
    fn no_write_changes_the_time() {
        let host = MemoryHost::new();
        let file = host.file("cow", b"");
        host.set_modified("cow", 1_060_000_000).unwrap();
        file.write_all_at(b"x", FileOffset(0)).unwrap();
        let metadata = host.metadata(&file).unwrap();
        assert_eq!(metadata.modified_seconds, 1_060_000_000);
        let copy = host.file("copy", b"");
        host.copy_attributes(&file, &copy).unwrap();
        let copied = host.metadata(&copy).unwrap();
        assert_eq!(copied.modified_seconds, 0);
        assert_ne!(copied.identity, metadata.identity);
    }

    #[test]
    fn a_directory_is_no_disk() {
        let host = MemoryHost::new();
        host.add_directory("images");
        let path = Path::new("images");
        let directory = host.open(path, Access::ReadOnly).unwrap();
        assert_eq!(host.metadata(&directory).unwrap().kind, FileKind::Directory);
        assert_eq!(
            directory.read_at(&mut [0], FileOffset(0)),
            Err(IS_A_DIRECTORY)
        );
        assert_eq!(
            host.open(path, Access::ReadWrite).map(drop),
            Err(IS_A_DIRECTORY)
        );
        assert_eq!(host.remove(path), Err(IS_A_DIRECTORY));
    }

    #[test]
    fn a_position_that_linux_cannot_express_is_an_error() {
        let file = MemoryHost::new().file("cow", b"");
        let beyond = FileOffset(i64::MAX as u64);
        assert_eq!(file.write_at(b"x", beyond), Err(HostError::TooLarge));
        assert_eq!(file.set_len(Bytes(u64::MAX)), Err(HostError::TooLarge));
        file.set_len(Bytes(i64::MAX as u64)).unwrap();
        file.punch_hole(FileRange::new(FileOffset(0), Bytes(i64::MAX as u64)))
            .unwrap();
        assert_eq!(file.next_data(FileOffset(0)), Ok(None));
    }

    #[test]
    fn a_file_can_be_given_to_another_thread() {
        fn sendable<T: Send + Sync + Clone>(_: &T) {}
        let host = MemoryHost::new();
        sendable(&host);
        sendable(&host.file("cow", b""));
    }
}
