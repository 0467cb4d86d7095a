//! The real host, with what is asked of it counted: how many system calls something takes is
//! a figure like any other, and one that no other program can disturb.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use driver::host::{
    Access, HostFile, HostNames, HostResult, LockKind, Metadata, OperationKind, Replace,
};
use driver::units::{Bytes, FileOffset, FileRange};
use userhelper::real_files::{RealFile, RealHost};

/// The real host, counting.
#[derive(Debug, Default)]
pub(super) struct Counting {
    calls: Arc<Calls>,
}

/// How often each kind of operation has been asked of the files of a [`Counting`] host.
#[derive(Debug, Default)]
struct Calls([AtomicU64; OperationKind::ALL.len()]);

impl Calls {
    fn count(&self, kind: OperationKind) {
        self.0[kind as usize].fetch_add(1, Ordering::Relaxed);
    }
}

impl Counting {
    /// How often this was asked for since the last [`Counting::begin`].
    pub(super) fn count(&self, kind: OperationKind) -> u64 {
        self.calls.0[kind as usize].load(Ordering::Relaxed)
    }

    /// How often the content of a file was asked for, or for it to be made durable.
    pub(super) fn transfers_and_syncs(&self) -> u64 {
        use OperationKind::{Read, SyncData, Write};
        [Read, Write, SyncData]
            .map(|kind| self.count(kind))
            .iter()
            .sum()
    }

    /// Counts from here on.
    pub(super) fn begin(&self) {
        for count in &self.calls.0 {
            count.store(0, Ordering::Relaxed);
        }
    }

    fn counted(&self, file: RealFile) -> CountedFile {
        CountedFile {
            file,
            calls: self.calls.clone(),
        }
    }
}

/// A file of the host that counts.
#[derive(Debug)]
pub(super) struct CountedFile {
    file: RealFile,
    calls: Arc<Calls>,
}

impl HostFile for CountedFile {
    fn read_at(&self, buffer: &mut [u8], at: FileOffset) -> HostResult<usize> {
        self.calls.count(OperationKind::Read);
        self.file.read_at(buffer, at)
    }

    fn write_at(&self, data: &[u8], at: FileOffset) -> HostResult<usize> {
        self.calls.count(OperationKind::Write);
        self.file.write_at(data, at)
    }

    fn sync_data(&self) -> HostResult<()> {
        self.calls.count(OperationKind::SyncData);
        self.file.sync_data()
    }

    fn len(&self) -> HostResult<Bytes> {
        self.calls.count(OperationKind::Len);
        self.file.len()
    }

    fn set_len(&self, len: Bytes) -> HostResult<()> {
        self.calls.count(OperationKind::SetLen);
        self.file.set_len(len)
    }

    fn punch_hole(&self, range: FileRange) -> HostResult<()> {
        self.calls.count(OperationKind::PunchHole);
        self.file.punch_hole(range)
    }

    fn zero_range(&self, range: FileRange) -> HostResult<()> {
        self.calls.count(OperationKind::ZeroRange);
        self.file.zero_range(range)
    }

    fn next_data(&self, from: FileOffset) -> HostResult<Option<FileRange>> {
        self.calls.count(OperationKind::NextData);
        self.file.next_data(from)
    }
}

impl HostNames for Counting {
    type File = CountedFile;

    fn open(&self, path: &Path, access: Access) -> HostResult<CountedFile> {
        RealHost.open(path, access).map(|file| self.counted(file))
    }

    fn open_beneath(
        &self,
        directory: &Path,
        path: &Path,
        access: Access,
    ) -> HostResult<CountedFile> {
        let file = RealHost.open_beneath(directory, path, access)?;
        Ok(self.counted(file))
    }

    fn create_new(&self, path: &Path) -> HostResult<CountedFile> {
        RealHost.create_new(path).map(|file| self.counted(file))
    }

    fn give_mode(
        &self,
        path: &Path,
        file: &CountedFile,
        sources: &[&CountedFile],
    ) -> HostResult<()> {
        let sources: Vec<_> = sources.iter().map(|source| &source.file).collect();
        RealHost.give_mode(path, &file.file, &sources)
    }

    fn metadata(&self, file: &CountedFile) -> HostResult<Metadata> {
        RealHost.metadata(&file.file)
    }

    fn copy_attributes(&self, from: &CountedFile, to: &CountedFile) -> HostResult<()> {
        RealHost.copy_attributes(&from.file, &to.file)
    }

    fn lock(&self, file: &CountedFile, kind: LockKind) -> HostResult<()> {
        RealHost.lock(&file.file, kind)
    }

    fn rename(&self, from: &Path, to: &Path, replace: Replace) -> HostResult<()> {
        RealHost.rename(from, to, replace)
    }

    fn remove(&self, path: &Path) -> HostResult<()> {
        RealHost.remove(path)
    }

    fn sync_directory_of(&self, path: &Path) -> HostResult<()> {
        RealHost.sync_directory_of(path)
    }
}
