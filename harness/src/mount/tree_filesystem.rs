//! The file system as the kernel asks it: each request goes to the owner of the directory, with its
//! reply.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crossbeam_channel::Sender;
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, INodeNo,
    InitFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite,
    Request, TimeOrNow, WriteFlags,
};

use super::mounted_tree::MountedTree;
use super::translation::{
    direct, empty, entry, file_type, is_regular, made, moment, number, space, written,
};
use super::tree_mount::ForOwner;
use crate::open_flags::is_durable;
use crate::sim::tree::{Attributes, EntryName, NewNode};

/// The longest transfer that the kernel is let ask for, in bytes.
const LONGEST_TRANSFER: u32 = 1 << 20;

/// How long the kernel may rely on what it was told: not at all.
const NO_TIME: Duration = Duration::ZERO;

/// What the kernel takes for a file system: a way to the owner of the directory.
pub(super) struct TreeFilesystem {
    /// Where requests go.
    pub(super) asked: Sender<ForOwner>,
}

impl TreeFilesystem {
    /// Lets the owner of the directory do this. What is dropped answers itself with EIO.
    fn ask(&self, answer: impl FnOnce(&mut MountedTree) + Send + 'static) {
        let _ = self.asked.send(Box::new(answer));
    }

    fn make(
        &self,
        request: &Request,
        name: EntryName,
        what: NewNode,
        mode: u32,
        reply: ReplyEntry,
    ) {
        let made = made(request, what, mode);
        self.ask(move |tree| match tree.make(name, made) {
            Ok(attributes) => reply.entry(&NO_TIME, &attributes, tree.generation()),
            Err(error) => reply.error(error),
        });
    }

    fn close(&self, handle: FileHandle, reply: ReplyEmpty) {
        self.ask(move |tree| {
            tree.close(handle.0);
            reply.ok();
        });
    }
}

impl Filesystem for TreeFilesystem {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // Each of these the kernel may not know, or allow less of.
        let _ = config.add_capabilities(InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP);
        let _ = config.add_capabilities(InitFlags::FUSE_ASYNC_DIO);
        let _ = config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS);
        let _ = config.set_max_write(LONGEST_TRANSFER);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.to_owned();
        self.ask(move |tree| match tree.look_up(number(parent), &name) {
            Ok(attributes) => reply.entry(&NO_TIME, &attributes, tree.generation()),
            Err(error) => reply.error(error),
        });
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.ask(move |tree| match tree.look_at(number(ino)) {
            Ok(attributes) => reply.attr(&NO_TIME, &attributes),
            Err(error) => reply.error(error),
        });
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let attributes = Attributes {
            mode: mode.map(|mode| mode & 0o7777),
            user: uid,
            group: gid,
            accessed: atime.map(moment),
            modified: mtime.map(moment),
        };
        self.ask(move |tree| {
            let node = number(ino);
            let cut = size.map_or(Ok(()), |size| tree.set_len(node, size));
            let given = cut.and_then(|()| tree.give(node, attributes));
            match given.and_then(|()| tree.attributes(node)) {
                Ok(attributes) => reply.attr(&NO_TIME, &attributes),
                Err(error) => reply.error(error),
            }
        });
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        self.ask(move |tree| match tree.target(number(ino)) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(error),
        });
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        match is_regular(mode) {
            true => self.make(request, entry(parent, name), NewNode::File, mode, reply),
            false => reply.error(Errno::EOPNOTSUPP),
        }
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let name = entry(parent, name);
        self.make(request, name, NewNode::Directory, mode, reply);
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let what = NewNode::SymbolicLink(target.to_owned());
        self.make(request, entry(parent, name), what, 0o777, reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = entry(parent, name);
        self.ask(move |tree| empty(reply, tree.remove(name, false)));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = entry(parent, name);
        self.ask(move |tree| empty(reply, tree.remove(name, true)));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (from, to) = (entry(parent, name), entry(new_parent, new_name));
        self.ask(move |tree| empty(reply, tree.rename(from, to, flags)));
    }

    fn link(
        &self,
        _: &Request,
        ino: INodeNo,
        new_parent: INodeNo,
        new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        let name = entry(new_parent, new_name);
        self.ask(move |tree| match tree.link(number(ino), name) {
            Ok(attributes) => reply.entry(&NO_TIME, &attributes, tree.generation()),
            Err(error) => reply.error(error),
        });
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let durable = is_durable(flags.0);
        self.ask(move |tree| match tree.open_named(number(ino), durable) {
            Ok(handle) => reply.opened(FileHandle(handle), direct()),
            Err(error) => reply.error(error),
        });
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (name, durable) = (entry(parent, name), is_durable(flags));
        let made = made(request, NewNode::File, mode);
        self.ask(move |tree| {
            let created = tree.make(name, made).and_then(|attributes| {
                let handle = tree.open(number(attributes.ino), durable)?;
                Ok((attributes, handle))
            });
            match created {
                Ok((attributes, handle)) => {
                    let (generation, handle) = (tree.generation(), FileHandle(handle));
                    reply.created(&NO_TIME, &attributes, generation, handle, direct());
                }
                Err(error) => reply.error(error),
            }
        });
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.ask(move |tree| match tree.read(number(ino), offset, size) {
            Ok(data) => reply.data(&data),
            Err(error) => reply.error(error),
        });
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
        let data: Arc<[u8]> = data.into();
        // Those of the open file, and what this write alone asks for (`RWF_DSYNC`).
        let durable = is_durable(flags.0);
        self.ask(move |tree| {
            written(reply, tree.write(number(ino), offset, data, durable));
        });
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.close(handle, reply);
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.ask(move |tree| empty(reply, tree.sync(number(ino))));
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.ask(move |tree| match tree.open_named(number(ino), false) {
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::empty()),
            Err(error) => reply.error(error),
        });
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        self.ask(move |tree| {
            match tree.entries(number(ino), handle.0, offset) {
                Ok(entries) => {
                    for (next, (name, node, kind)) in (offset + 1..).zip(entries) {
                        if reply.add(INodeNo(node.0), next, file_type(*kind), name) {
                            break;
                        }
                    }
                    reply.ok();
                }
                Err(error) => reply.error(error),
            };
        });
    }

    fn releasedir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.close(handle, reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.ask(move |tree| empty(reply, tree.sync_directory(number(ino))));
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        self.ask(move |tree| space(reply, tree));
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
        self.ask(move |tree| {
            let range = (offset, length);
            let mode = mode as u32;
            empty(reply, tree.allocate(number(ino), handle.0, range, mode));
        });
    }

    fn lseek(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        self.ask(move |tree| match tree.seek(number(ino), offset, whence) {
            Ok(found) => reply.offset(found),
            Err(error) => reply.error(error),
        });
    }

    fn copy_file_range(
        &self,
        _: &Request,
        ino_in: INodeNo,
        _: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        handle: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        self.ask(move |tree| {
            let source = (number(ino_in), offset_in);
            let target = (number(ino_out), handle.0, offset_out);
            written(reply, tree.copy_range(source, target, len));
        });
    }
}
