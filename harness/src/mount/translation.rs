//! The kernel's words for what is asked and answered, and ours.

use std::ffi::OsStr;

use driver::host::HostError;
use fuser::{
    Errno, FileAttr, FileType, FopenFlags, INodeNo, ReplyEmpty, ReplyStatfs, ReplyWrite, Request,
    TimeOrNow,
};

use super::mounted_tree::MountedTree;
use super::name_requests::Made;
use crate::clock::time_of_day;
use crate::sim::tree::{EntryName, Found, Moment, NewNode, NodeKind};
use crate::sim::{InodeNumber, PAGE_SIZE};

/// The bits of a mode that say what kind of file it is, and those of a regular one.
const KIND_OF_FILE: u32 = 0o170_000;
const REGULAR_FILE: u32 = 0o100_000;

/// Whether a mode asks for a regular file.
pub(super) fn is_regular(mode: u32) -> bool {
    matches!(mode & KIND_OF_FILE, 0 | REGULAR_FILE)
}

pub(super) fn made(request: &Request, what: NewNode, mode: u32) -> Made {
    Made {
        what,
        mode,
        user: request.uid(),
        group: request.gid(),
    }
}

pub(super) fn number(node: INodeNo) -> InodeNumber {
    InodeNumber(node.0)
}

pub(super) fn entry(directory: INodeNo, name: &OsStr) -> EntryName {
    EntryName {
        directory: number(directory),
        name: name.to_owned(),
    }
}

/// How files are opened: nothing of them is kept.
pub(super) fn direct() -> FopenFlags {
    FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES
}

pub(super) fn empty(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

pub(super) fn written(reply: ReplyWrite, result: Result<u32, Errno>) {
    match result {
        Ok(count) => reply.written(count),
        Err(error) => reply.error(error),
    }
}

/// What `statfs` says: the limits, and how much of them is left.
pub(super) fn space(reply: ReplyStatfs, tree: &MountedTree) {
    let (all, used) = (tree.limits.bytes, tree.tree.allocated());
    let (files, made) = (tree.limits.nodes, tree.tree.node_count());
    let free = all.saturating_sub(used) / PAGE_SIZE;
    let page = PAGE_SIZE as u32;
    let left = files.saturating_sub(made);
    reply.statfs(all / PAGE_SIZE, free, free, files, left, page, 255, page);
}

pub(super) fn moment(time: TimeOrNow) -> Moment {
    match time {
        TimeOrNow::SpecificTime(time) => as_sent(Moment::of(time)),
        TimeOrNow::Now => Moment::of(time_of_day()),
    }
}

/// A time as the kernel has sent it. The kernel counts the fraction of a second forwards, also
/// before 1970, and `fuser` takes it for one that is counted backwards then: -2 s and 0.3 s, which
/// are -1.7 s, come as -2.3 s.
fn as_sent(moment: Moment) -> Moment {
    const SECOND: i64 = 1_000_000_000;
    let fraction = moment.0 % SECOND;
    match fraction < 0 {
        true => Moment(moment.0.saturating_sub(fraction).saturating_sub(fraction)),
        false => moment,
    }
}

/// As the kernel numbers errors.
pub(super) fn errno(error: &HostError) -> Errno {
    match error {
        HostError::NotFound => Errno::ENOENT,
        HostError::AlreadyExists => Errno::EEXIST,
        HostError::PermissionDenied => Errno::EPERM,
        HostError::NoSpace => Errno::ENOSPC,
        HostError::TooLarge => Errno::EFBIG,
        HostError::Unsupported => Errno::EOPNOTSUPP,
        HostError::Os(number) => Errno::from_i32(*number),
        _ => Errno::EIO,
    }
}

pub(super) fn file_type(kind: NodeKind) -> FileType {
    match kind {
        NodeKind::File => FileType::RegularFile,
        NodeKind::Directory => FileType::Directory,
        NodeKind::SymbolicLink => FileType::Symlink,
    }
}

pub(super) fn attributes(node: InodeNumber, found: &Found) -> FileAttr {
    FileAttr {
        ino: INodeNo(node.0),
        size: found.len,
        blocks: found.allocated / 512,
        atime: found.accessed.time(),
        mtime: found.modified.time(),
        ctime: found.changed.time(),
        crtime: found.changed.time(),
        kind: file_type(found.kind),
        perm: (found.mode & 0o7777) as u16,
        nlink: found.links,
        uid: found.user,
        gid: found.group,
        rdev: 0,
        blksize: PAGE_SIZE as u32,
        flags: 0,
    }
}
