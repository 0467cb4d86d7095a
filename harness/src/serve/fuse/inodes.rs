//! What the kernel is told of the directory and its two files.

use std::ffi::OsStr;
use std::time::{Duration, SystemTime};

use driver::units::SECTOR_SIZE;
use fuser::{FileAttr, FileType, INodeNo};

/// How long the kernel may rely on what a file is: not at all, because other clients change it.
pub(super) const ATTRIBUTES_FOR: Duration = Duration::ZERO;

/// How long it may rely on the names, which never change.
pub(super) const NAMES_FOR: Duration = Duration::from_secs(3600);

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inode {
    /// The directory.
    Root,
    /// The device.
    Disk,
    /// How it is doing.
    Status,
}

/// The entries of the directory, in the order in which they are listed.
pub(super) const ENTRIES: [(&str, Inode); 4] = [
    (".", Inode::Root),
    ("..", Inode::Root),
    ("disk", Inode::Disk),
    ("status.json", Inode::Status),
];

impl Inode {
    /// What the kernel means by this number.
    pub(super) fn numbered(number: INodeNo) -> Option<Inode> {
        let all = [Inode::Root, Inode::Disk, Inode::Status];
        all.into_iter().find(|inode| inode.number() == number)
    }

    /// What has this name in the directory.
    pub(super) fn named(name: &OsStr) -> Option<Inode> {
        let entry = ENTRIES.iter().skip(2).find(|(entry, _)| name == *entry);
        entry.map(|(_, inode)| *inode)
    }

    /// Its number; the directory has to have the first one.
    pub(super) fn number(self) -> INodeNo {
        match self {
            Inode::Root => INodeNo::ROOT,
            Inode::Disk => INodeNo(2),
            Inode::Status => INodeNo(3),
        }
    }

    /// What kind of file it is.
    pub(super) fn kind(self) -> FileType {
        match self {
            Inode::Root => FileType::Directory,
            Inode::Disk | Inode::Status => FileType::RegularFile,
        }
    }
}

/// Whose the files are, and since when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub(super) user: u32,
    pub(super) group: u32,
    /// The device takes no writes.
    pub(super) read_only: bool,
    pub(super) since: SystemTime,
}

impl Owner {
    /// The attributes of a file of `size` bytes.
    pub(super) fn attributes(&self, inode: Inode, size: u64) -> FileAttr {
        let mode = match inode {
            Inode::Root => 0o500,
            Inode::Disk if !self.read_only => 0o600,
            Inode::Disk | Inode::Status => 0o400,
        };
        FileAttr {
            ino: inode.number(),
            size,
            blocks: size.div_ceil(SECTOR_SIZE),
            atime: self.since,
            mtime: self.since,
            ctime: self.since,
            crtime: self.since,
            kind: inode.kind(),
            perm: mode,
            nlink: if inode == Inode::Root { 2 } else { 1 },
            uid: self.user,
            gid: self.group,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}
