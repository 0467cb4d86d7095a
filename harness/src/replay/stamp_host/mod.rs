//! A host in memory for replays without payload: of a sector that begins with a stamp it keeps
//! the stamp, 16 bytes or fewer instead of 512, and when such a sector is read whole it gives just
//! those 16 bytes back. Everything else, headers and bitmaps among it, is kept and given
//! whole, by [`MemoryHost`]. The driver above knows nothing of it: what it plans, splits,
//! moves and completes is the same.
//!
//! A request's buffer is as long as ever, because the driver insists on that; but of each
//! sector only the first 16 bytes are touched, by anyone.

mod file;
mod stamps;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use driver::host::{Access, HostFile, HostNames, HostResult, LockKind, Metadata, Replace};
use driver::memory::MemoryHost;
use userhelper::image_host::{FreeSpace, ImageHost};

use crate::locked::locked;

pub use file::StampFile;
use stamps::Stamps;

/// The stamps of one file, whoever has it open.
type SharedStamps = Arc<Mutex<Stamps>>;

/// The names of such a host. A clone is another handle to the same names.
#[derive(Clone, Debug, Default)]
pub struct StampHost {
    memory: MemoryHost,
    /// By the file's inode number.
    stamps: Arc<Mutex<BTreeMap<u64, SharedStamps>>>,
}

impl StampHost {
    /// A host without files.
    pub fn new() -> StampHost {
        StampHost::default()
    }

    fn with_stamps(
        &self,
        file: driver::memory::MemoryFile,
        access: Access,
    ) -> HostResult<StampFile> {
        let inode = self.memory.metadata(&file)?.identity.inode;
        let stamps = Arc::clone(locked(&self.stamps).entry(inode).or_default());
        Ok(StampFile::new(file, access == Access::ReadWrite, stamps))
    }

    /// Which file has this name, if one has.
    fn inode(&self, path: &Path) -> Option<u64> {
        let file = self.memory.open(path, Access::ReadOnly).ok()?;
        let metadata = self.memory.metadata(&file).ok()?;
        Some(metadata.identity.inode)
    }

    /// A file has lost its name: its stamps end with whoever still has it open.
    fn forget(&self, inode: Option<u64>) {
        if let Some(inode) = inode {
            locked(&self.stamps).remove(&inode);
        }
    }
}

impl HostNames for StampHost {
    type File = StampFile;

    fn open(&self, path: &Path, access: Access) -> HostResult<StampFile> {
        self.with_stamps(self.memory.open(path, access)?, access)
    }

    fn open_beneath(&self, directory: &Path, path: &Path, access: Access) -> HostResult<StampFile> {
        let file = self.memory.open_beneath(directory, path, access)?;
        self.with_stamps(file, access)
    }

    fn create_new(&self, path: &Path) -> HostResult<StampFile> {
        self.with_stamps(self.memory.create_new(path)?, Access::ReadWrite)
    }

    fn give_mode(&self, path: &Path, file: &StampFile, sources: &[&StampFile]) -> HostResult<()> {
        let sources: Vec<_> = sources.iter().map(|source| source.memory()).collect();
        self.memory.give_mode(path, file.memory(), &sources)
    }

    fn metadata(&self, file: &StampFile) -> HostResult<Metadata> {
        self.memory.metadata(file.memory())
    }

    fn copy_attributes(&self, from: &StampFile, to: &StampFile) -> HostResult<()> {
        self.memory.copy_attributes(from.memory(), to.memory())
    }

    fn lock(&self, file: &StampFile, kind: LockKind) -> HostResult<()> {
        self.memory.lock(file.memory(), kind)
    }

    fn rename(&self, from: &Path, to: &Path, replace: Replace) -> HostResult<()> {
        let (moved, replaced) = (self.inode(from), self.inode(to));
        self.memory.rename(from, to, replace)?;
        if replaced != moved {
            self.forget(replaced);
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> HostResult<()> {
        let removed = self.inode(path);
        self.memory.remove(path)?;
        self.forget(removed);
        Ok(())
    }

    fn sync_directory_of(&self, path: &Path) -> HostResult<()> {
        self.memory.sync_directory_of(path)
    }
}

impl ImageHost for StampHost {
    fn free_space_beside(&self, path: &Path) -> HostResult<Option<FreeSpace>> {
        self.memory.free_space_beside(path)
    }

    fn set_modified(&self, file: &StampFile, seconds: i64) -> HostResult<()> {
        ImageHost::set_modified(&self.memory, file.memory(), seconds)
    }

    fn sync_all(&self, file: &StampFile) -> HostResult<()> {
        file.sync_data()
    }

    fn now_ns(&self) -> u64 {
        self.memory.now_ns()
    }

    fn now_seconds(&self) -> i64 {
        self.memory.now_seconds()
    }

    fn wait_until(
        &self,
        seconds: i64,
        goes_on: &mut dyn FnMut() -> std::ops::ControlFlow<()>,
    ) -> std::ops::ControlFlow<()> {
        self.memory.wait_until(seconds, goes_on)
    }
}
