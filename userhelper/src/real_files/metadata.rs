//! What the system says of a file, as the seams have it.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use driver::host::{FileIdentity, FileKind, Metadata};
use driver::units::Bytes;

/// What the system says of a file that need not be open. Of a block device that is not its
/// length: it is 0 here.
pub(super) fn known(metadata: &std::fs::Metadata) -> Metadata {
    let kind = kind_of(metadata.file_type());
    let (device, inode) = identity_of(kind, metadata);
    Metadata {
        kind,
        identity: FileIdentity { device, inode },
        len: match kind {
            FileKind::Regular => Bytes(metadata.len()),
            _ => Bytes(0),
        },
        modified_seconds: metadata.mtime(),
    }
}

pub(super) fn kind_of(file_type: std::fs::FileType) -> FileKind {
    match file_type {
        kind if kind.is_file() => FileKind::Regular,
        kind if kind.is_block_device() => FileKind::BlockDevice,
        kind if kind.is_dir() => FileKind::Directory,
        _ => FileKind::Other,
    }
}

/// The numbers that tell a file from every other.
pub(super) fn identity_of(kind: FileKind, metadata: &std::fs::Metadata) -> (u64, u64) {
    match kind {
        FileKind::BlockDevice => (0, metadata.rdev()),
        _ => (metadata.dev(), metadata.ino()),
    }
}
