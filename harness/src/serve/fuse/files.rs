//! What the kernel asks, and what each request means for the device.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Sender;
use driver::units::SECTOR_SIZE;
use fuser::{
    BsdFileFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use rustix::fs::FallocateFlags;

use crate::open_flags::is_durable;

use super::super::shares::Share;
use super::change::{Answer, Change, Content};
use super::document::document;
use super::inodes::{ATTRIBUTES_FOR, ENTRIES, Inode, NAMES_FOR};
use super::requests::{ForDevice, Reads};
use super::seek::{Sought, seek};
use super::shared::Shared;
use super::span::Span;

/// The longest transfer that the kernel is let ask for, in bytes.
const LONGEST_TRANSFER: u32 = 1 << 20;

/// The most asynchronous requests that the kernel sends before it waits for answers.
const MOST_IN_BACKGROUND: u16 = 256;

/// `whence` of `lseek` for data, in Linux's numbers.
const SEEK_DATA: i32 = 3;

/// `whence` of `lseek` for holes, in Linux's numbers.
const SEEK_HOLE: i32 = 4;

/// The handle of `disk` opened with `O_SYNC` or `O_DSYNC`: what changes is durable when answered.
const DURABLE: FileHandle = FileHandle(1);

/// What takes a look at the device, on a thread that may wait for it.
pub(super) type Look = Box<dyn FnOnce() + Send>;

/// The directory, as the kernel sees it.
pub(super) struct Files {
    /// What looks at the device need too.
    pub(super) shared: Arc<Shared>,
    /// Where reads go.
    pub(super) reads: Reads,
    /// Where all else goes that is asked of the device.
    pub(super) asked: Sender<ForDevice>,
    /// Where requests take their memory from.
    pub(super) share: Share,
    /// Where looks go.
    pub(super) looks: Sender<Option<Look>>,
}

impl Files {
    fn ask(&self, asked: ForDevice) {
        // Where nobody takes it any more, what is dropped answers itself with EIO.
        let _ = self.asked.send(asked);
    }

    /// Looks at the device, elsewhere. What is dropped answers itself with EIO.
    fn look(&self, look: impl FnOnce(&Shared) + Send + 'static) {
        let Some(slot) = self.shared.slot() else {
            return;
        };
        let shared = Arc::clone(&self.shared);
        let look = move || {
            look(&shared);
            drop(slot);
        };
        let _ = self.looks.send(Some(Box::new(look)));
    }

    /// Takes a change of `disk`, or says why not.
    fn change(&self, span: Span, content: Content, fua: bool, answer: Answer) {
        let bytes = match &content {
            Content::Data(data) => data.len() as u64,
            Content::Zeros => 0,
        };
        let Some(slot) = self.shared.slot() else {
            return;
        };
        let permit = (bytes > 0).then(|| self.share.take(bytes));
        self.ask(ForDevice::Change(Change {
            span,
            content,
            fua,
            answer,
            permit,
            slot,
        }));
    }
}

/// The length of the document in a file's attributes: that of one that is open, or of a new one.
fn status_size(shared: &Shared) -> Result<u64, Errno> {
    let len = shared.documents.latest_len();
    let len = len.or_else(|| document(&shared.export).map(|text| text.len()));
    len.map(|len| len as u64).ok_or(Errno::EIO)
}

impl Filesystem for Files {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // Each of these the kernel may not know, or allow less of; then it is slower.
        let _ = config.add_capabilities(InitFlags::FUSE_ASYNC_DIO);
        let _ = config.set_max_write(LONGEST_TRANSFER);
        let _ = config.set_max_background(MOST_IN_BACKGROUND);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let owner = self.shared.owner;
        let entry = move |reply: ReplyEntry, inode: Inode, size: u64| {
            let attributes = owner.attributes(inode, size);
            reply.entry_with_ttls(&ATTRIBUTES_FOR, &NAMES_FOR, &attributes, Generation(0));
        };
        match Inode::named(name).filter(|_| parent == INodeNo::ROOT) {
            None => reply.error(Errno::ENOENT),
            Some(Inode::Status) => self.look(move |shared| match status_size(shared) {
                Ok(size) => entry(reply, Inode::Status, size),
                Err(error) => reply.error(error),
            }),
            Some(inode) => entry(reply, inode, self.shared.size()),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let owner = self.shared.owner;
        match Inode::numbered(ino) {
            None => reply.error(Errno::ENOENT),
            Some(Inode::Root) => reply.attr(&ATTRIBUTES_FOR, &owner.attributes(Inode::Root, 0)),
            Some(Inode::Disk) => {
                let attributes = owner.attributes(Inode::Disk, self.shared.size());
                reply.attr(&ATTRIBUTES_FOR, &attributes);
            }
            Some(Inode::Status) => self.look(move |shared| match status_size(shared) {
                Ok(size) => reply.attr(&ATTRIBUTES_FOR, &owner.attributes(Inode::Status, size)),
                Err(error) => reply.error(error),
            }),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<std::time::SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<std::time::SystemTime>,
        _chgtime: Option<std::time::SystemTime>,
        _bkuptime: Option<std::time::SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        if mode.is_some() || uid.is_some() || gid.is_some() {
            return reply.error(Errno::EPERM);
        }
        // Times come along with a truncate. They are not kept, and setting them hurts nobody.
        let Some(size) = size else {
            return self.getattr(request, ino, handle, reply);
        };
        if ino != Inode::Disk.number() {
            return reply.error(Errno::EPERM);
        }
        if self.shared.is_ending.load(Ordering::SeqCst) {
            return reply.error(Errno::EIO);
        }
        // It takes as long as the resize. It has no slot: who ends the endpoint does not wait for
        // it, but gives it up when the device is closed.
        let shared = Arc::clone(&self.shared);
        let truncate = move || match shared.resize(size) {
            Ok(()) => {
                let attributes = shared.owner.attributes(Inode::Disk, shared.size());
                reply.attr(&ATTRIBUTES_FOR, &attributes);
            }
            Err(error) => reply.error(error),
        };
        // Without a thread the reply is dropped, and answers itself with EIO.
        let thread = std::thread::Builder::new().name("fuse-truncate".into());
        let _ = thread.spawn(truncate);
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let writes = flags.acc_mode() != OpenAccMode::O_RDONLY;
        let direct = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NOFLUSH;
        match Inode::numbered(ino) {
            Some(Inode::Disk) if writes && self.shared.owner.read_only => {
                reply.error(Errno::EROFS);
            }
            Some(Inode::Disk) => {
                let handle = match is_durable(flags.0) {
                    true => DURABLE,
                    false => FileHandle(0),
                };
                reply.opened(handle, direct | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES);
            }
            Some(Inode::Status) if writes => reply.error(Errno::EACCES),
            Some(Inode::Status) => self.look(move |shared| {
                let Some(text) = document(&shared.export) else {
                    return reply.error(Errno::EIO);
                };
                match shared.documents.enter(text) {
                    Some(number) => reply.opened(FileHandle(number), direct),
                    None => reply.error(Errno::ENFILE),
                }
            }),
            Some(Inode::Root) | None => reply.error(Errno::EISDIR),
        }
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        if ino == Inode::Status.number() {
            self.shared.documents.close(handle.0);
        }
        reply.ok();
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if ino == Inode::Status.number() {
            let Some(text) = self.shared.documents.get(handle.0) else {
                return reply.error(Errno::EBADF);
            };
            let from = usize::try_from(offset)
                .unwrap_or(usize::MAX)
                .min(text.len());
            let to = from.saturating_add(size as usize).min(text.len());
            return reply.data(&text[from..to]);
        }
        let size = size.min(LONGEST_TRANSFER);
        let Some(span) = Span::within(offset, u64::from(size), self.shared.size()) else {
            return reply.data(&[]);
        };
        let Some(slot) = self.shared.slot() else {
            return reply.error(Errno::EIO);
        };
        let bytes = span.sectors().count.bytes().0;
        let permit = self.share.take(bytes);
        self.reads.read(span, reply, permit, slot);
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        if ino != Inode::Disk.number() {
            return reply.error(Errno::EBADF);
        }
        if self.shared.owner.read_only {
            return reply.error(Errno::EROFS);
        }
        if data.is_empty() {
            return reply.written(0);
        }
        // As of a block device, which does not grow by being written to.
        let Some(span) = Span::within(offset, data.len() as u64, self.shared.size()) else {
            return reply.error(Errno::ENOSPC);
        };
        let data = data[..span.len() as usize].to_vec();
        let answer = Answer::Written(reply, data.len() as u32);
        self.change(span, Content::Data(data), is_durable(flags.0), answer);
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let mode = FallocateFlags::from_bits_retain(mode as u32);
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let zeros = [
            punch,
            FallocateFlags::ZERO_RANGE,
            FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
        ];
        // Space that is promised and not written is nothing that a COW file has.
        if ino != Inode::Disk.number() || !zeros.contains(&mode) {
            return reply.error(Errno::EOPNOTSUPP);
        }
        if self.shared.owner.read_only {
            return reply.error(Errno::EROFS);
        }
        let size = self.shared.size();
        let is_past_end = offset.checked_add(length).is_none_or(|end| end > size);
        if is_past_end && !mode.contains(FallocateFlags::KEEP_SIZE) {
            return reply.error(Errno::ENOSPC);
        }
        // Of what lies past the end, nothing is to be done.
        let Some(span) = Span::within(offset, length, size) else {
            return reply.ok();
        };
        self.change(span, Content::Zeros, handle == DURABLE, Answer::Done(reply));
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        if ino != Inode::Disk.number() {
            return reply.ok();
        }
        let Some(slot) = self.shared.slot() else {
            return reply.error(Errno::EIO);
        };
        self.ask(ForDevice::Sync { reply, slot });
    }

    fn lseek(
        &self,
        _: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let sought = match whence {
            SEEK_DATA => Sought::Data,
            SEEK_HOLE => Sought::Hole,
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(offset) = u64::try_from(offset) else {
            return reply.error(Errno::ENXIO);
        };
        if ino != Inode::Disk.number() {
            return reply.error(Errno::EINVAL);
        }
        self.look(move |shared| match seek(&shared.export, offset, sought) {
            Ok(Some(found)) => match i64::try_from(found) {
                Ok(found) => reply.offset(found),
                Err(_) => reply.error(Errno::EOVERFLOW),
            },
            Ok(None) => reply.error(Errno::ENXIO),
            Err(_) => reply.error(Errno::EIO),
        });
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        if ino != INodeNo::ROOT {
            return reply.error(Errno::ENOTDIR);
        }
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (n, (name, inode)) in ENTRIES.iter().enumerate().skip(from) {
            let is_full = reply.add(inode.number(), n as u64 + 1, inode.kind(), name);
            if is_full {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let sectors = self.shared.export.capacity().0;
        let sector = SECTOR_SIZE as u32;
        reply.statfs(sectors, 0, 0, 3, 0, sector, 255, sector);
    }

    // The directory has its two files, and no others.

    fn create(
        &self,
        _: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        reply.error(Errno::EPERM);
    }

    fn mknod(
        &self,
        _: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        reply.error(Errno::EPERM);
    }

    fn mkdir(
        &self,
        _: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        reply.error(Errno::EPERM);
    }

    fn unlink(&self, _: &Request, _parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EPERM);
    }

    fn rmdir(&self, _: &Request, _parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EPERM);
    }

    fn rename(
        &self,
        _: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _new_parent: INodeNo,
        _new_name: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EPERM);
    }

    fn symlink(
        &self,
        _: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _target: &Path,
        reply: ReplyEntry,
    ) {
        reply.error(Errno::EPERM);
    }
}
