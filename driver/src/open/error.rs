//! Why a device does not come up. Each message names the file, the place in it where there
//! is one, what was found and what was expected.

use std::path::{Path, PathBuf};

use crate::cow::{FileTooLarge, HeaderError, MapTooLarge, OtherBacking};
use crate::host::{FileKind, HostError, OperationKind};
use crate::shown::{shell_path, shown};
use crate::units::{Bytes, FileOffset};
use crate::{exact_count, since_1970};

use super::image_format::ImageFormat;
use super::named::Unfollowed;

/// Why a device does not come up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// A host operation failed.
    #[error("{}: {doing}: {error}", shown(.path))]
    Host {
        /// On which file.
        path: PathBuf,
        /// What the host was asked for.
        kind: OperationKind,
        /// Doing what.
        doing: &'static str,
        /// What the host said.
        error: HostError,
    },
    /// Another process has the file open as a disk.
    #[error("{}: locked: a running UML or another ubdlab has it open", shown(.path))]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// A raw disk and a COW file at once.
    #[error("{}: the flag d says that it is a raw disk, which has no backing file, but {} is named as one",
        shown(.path), shown(.backing))]
    RawWithBacking {
        /// The file.
        path: PathBuf,
        /// The backing file named.
        backing: PathBuf,
    },
    /// The name is another file's now.
    #[error("{}: replaced or removed by another process while it was opened: try again", shown(.path))]
    Replaced {
        /// The file.
        path: PathBuf,
    },
    /// A name that leads to no disk.
    #[error("{}: found {}, expected a regular file or a block device", shown(.path), kind_name(*.kind))]
    NotADisk {
        /// The file.
        path: PathBuf,
        /// What it is.
        kind: FileKind,
    },
    /// No header, or a wrong one. Never taken for a raw disk: the flag `d` says that.
    #[error("{}: {error}{}", shown(.path), way_out_of(.error, .path))]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: HeaderError,
    },
    /// A layout that no file can have.
    #[error("{}: byte {at}: {error}", shown(.path))]
    Layout {
        /// The file.
        path: PathBuf,
        /// Where its header has the size.
        at: FileOffset,
        /// What is wrong.
        error: FileTooLarge,
    },
    /// A device larger than the sector map supports.
    #[error("{}: {error}", shown(.path))]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: MapTooLarge,
    },
    /// The file ends within its bitmap.
    #[error("{}: byte {}: the file ends here, its bitmap goes on up to byte {expected}", shown(.path), .found.0)]
    BitmapCutShort {
        /// The file.
        path: PathBuf,
        /// Its length.
        found: Bytes,
        /// The end of the bitmap.
        expected: FileOffset,
    },
    /// The file ends before data that its bitmap or journal says is in it.
    #[error("{}: byte {}: the file ends here, its data goes on up to byte {expected}", shown(.path), .found.0)]
    DataCutShort {
        /// The file.
        path: PathBuf,
        /// Its length.
        found: Bytes,
        /// Up to where there is data.
        expected: FileOffset,
    },
    /// The extension block has a wrong checksum, and the backing file is not there to tell
    /// what it said.
    #[error("{}: byte {}: found an extension block with a wrong checksum or version",
        shown(.path), crate::cow::Extension::OFFSET)]
    ExtensionDamaged {
        /// The file.
        path: PathBuf,
    },
    /// The header says that a reflow is under way, and the journal does not say how far.
    #[error("{}: byte {at}: an interrupted resize is recorded, but {problem}", shown(.path))]
    Journal {
        /// The file.
        path: PathBuf,
        /// Where the record should be.
        at: FileOffset,
        /// What is wrong with it.
        problem: String,
    },
    /// The COW file names itself as its backing file.
    #[error("{}: its backing file {} is the COW file itself", shown(.path), shown(.backing))]
    BacksItself {
        /// The file.
        path: PathBuf,
        /// As what it is named.
        backing: PathBuf,
    },
    /// A relative path that does not lead from the COW file to the backing file.
    #[error("{}: no relative path from its directory to the backing file {} is known: \
        give an absolute one", shown(.path), shown(.backing))]
    NotFromThere {
        /// The COW file.
        path: PathBuf,
        /// The backing file.
        backing: PathBuf,
    },
    /// The header's path leaves the directory, and that was not to be followed.
    #[error("{}: byte {at}: the backing path {} {why}, where --confine-backing does not follow it",
        shown(.path), shown(.backing))]
    BackingNotFollowed {
        /// The COW file.
        path: PathBuf,
        /// Where its header has the path.
        at: FileOffset,
        /// The path.
        backing: PathBuf,
        /// Why it is not followed.
        why: Unfollowed,
    },
    /// The file was only guessed to be a COW file, and its header's path is not one to be
    /// followed then.
    #[error("{}: byte {at}: begins like a COW file, and its header names the backing path {}, \
        which {why}. It is not opened: nobody has said that this is a COW file, and a guest can write \
        such a header to its raw disk. --format cow if it is a COW file that you trust, \
        --format raw if it is the raw disk of a guest", shown(.path), shown(.backing))]
    GuessedCow {
        /// The file.
        path: PathBuf,
        /// Where its header has the path.
        at: FileOffset,
        /// The path.
        backing: PathBuf,
        /// Why it is not followed.
        why: Unfollowed,
    },
    /// The command line and the header name different backing files.
    #[error("{}: its header names the backing file {}, {} was asked for: \
        --switch-backing writes it into the header", shown(.path), shown(.found), shown(.asked))]
    OtherBacking {
        /// The COW file.
        path: PathBuf,
        /// The header's.
        found: PathBuf,
        /// The command line's.
        asked: PathBuf,
    },
    /// The backing file has another size than when the COW file was made.
    #[error("{}: found {}, but the COW file {} was made for {}",
        shown(.path), exact_count(.found.0, "byte"), shown(.cow), exact_count(.expected.0, "byte"))]
    BackingSize {
        /// The backing file.
        path: PathBuf,
        /// The COW file.
        cow: PathBuf,
        /// Its size.
        found: Bytes,
        /// The size it should have.
        expected: Bytes,
    },
    /// The backing file was changed since the COW file was made.
    #[error("{}. {}", modified(.path, .cow, *.found, *.expected), ways_out(.path, .cow, *.expected))]
    BackingModified {
        /// The backing file.
        path: PathBuf,
        /// The COW file.
        cow: PathBuf,
        /// When it was modified last, in seconds since 1970.
        found: i64,
        /// What the header says, modulo 2^32.
        expected: u32,
    },
    /// A change of the backing file was interrupted, and this is another file than it was about.
    #[error("{}: {problem}, so it is not the backing file that an interrupted change of the COW \
        file {} was about. Put that one there; if this is the right one all the same: \
        ubdlab image rebase --unsafe", shown(.path), shown(.cow))]
    NotInChange {
        /// The backing file.
        path: PathBuf,
        /// The COW file.
        cow: PathBuf,
        /// What is different about it.
        problem: NotInChange,
    },
    /// There is no COW file, and nothing to make one from.
    #[error("{}: no such file; name the backing file to have it created", shown(.path))]
    NothingToCreateFrom {
        /// The file.
        path: PathBuf,
    },
    /// An image that is no raw disk was chosen as backing file.
    #[error("{}: {}, and a backing file is a raw disk: its {} would be taken for the disk's {}. \
        {}; --backing-format raw if it is a raw disk all the same",
        shown(.path), .format.looks(), .format.more(), .format.misread_as(), .format.to_raw())]
    BackingIsImage {
        /// The file.
        path: PathBuf,
        /// What it begins like.
        format: ImageFormat,
    },
    /// A backing file that no device can be made of.
    #[error(
        "{}: found {}, a backing file needs at least a sector of 512 bytes",
        shown(.path), exact_count(.found.0, "byte")
    )]
    BackingTooSmall {
        /// The file.
        path: PathBuf,
        /// Its size.
        found: Bytes,
    },
}

impl OpenError {
    /// Whether what the files hold is wrong: header, layout, bitmap, journal, or how they fit
    /// together. False of what the host fails to do, of what other processes do meanwhile, and of
    /// what was asked for.
    pub fn is_about_content(&self) -> bool {
        match self {
            OpenError::Header { .. }
            | OpenError::Layout { .. }
            | OpenError::TooLarge { .. }
            | OpenError::BitmapCutShort { .. }
            | OpenError::DataCutShort { .. }
            | OpenError::ExtensionDamaged { .. }
            | OpenError::Journal { .. }
            | OpenError::BacksItself { .. }
            | OpenError::OtherBacking { .. }
            | OpenError::BackingSize { .. }
            | OpenError::BackingModified { .. }
            | OpenError::NotInChange { .. } => true,
            OpenError::Host { .. }
            | OpenError::Locked { .. }
            | OpenError::RawWithBacking { .. }
            | OpenError::Replaced { .. }
            | OpenError::NotADisk { .. }
            | OpenError::NotFromThere { .. }
            | OpenError::BackingNotFollowed { .. }
            | OpenError::GuessedCow { .. }
            | OpenError::NothingToCreateFrom { .. }
            | OpenError::BackingIsImage { .. }
            | OpenError::BackingTooSmall { .. } => false,
        }
    }

    /// What is wrong, without a command to be given about it: for a file that nobody has said is a
    /// COW file. Path and time would be what a guest wrote into its raw disk.
    pub fn without_ways_out(&self) -> String {
        match self {
            OpenError::BackingModified {
                path,
                cow,
                found,
                expected,
            } => modified(path, cow, *found, *expected),
            OpenError::Header { path, error } => format!("{}: {error}", shown(path)),
            error => error.to_string(),
        }
    }
}

/// What ends a change of the header that was interrupted.
fn way_out_of(error: &HeaderError, path: &Path) -> String {
    match error {
        HeaderError::HalfChanged { .. } => {
            format!(": ubdlab image recover {} finishes that", shell_path(path))
        }
        _ => String::new(),
    }
}

fn modified(backing: &Path, cow: &Path, found: i64, expected: u32) -> String {
    format!(
        "{}: modified at {found}, but the COW file {} was made for the content of {expected} {}",
        shown(backing),
        shown(cow),
        since_1970(&[found, expected.into()])
    )
}

/// What to do about a backing file whose time has changed since the COW file was made.
pub fn ways_out(backing: &Path, cow: &Path, expected: u32) -> String {
    let (backing, cow) = (shell_path(backing), shell_path(cow));
    format!(
        "If nothing but its time has changed, `touch -d @{expected} {backing}` sets that back. If it is \
         another file with the same content, `ubdlab image rebase {cow} --backing {backing} \
         --unsafe` takes it. Where the content has changed, both are wrong: the file system on the \
         disk would be damaged"
    )
}

/// How a backing file differs from the one that an interrupted change was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotInChange {
    /// It has neither of the two lengths.
    #[error("found {}, expected {} as before the change or {} as after it",
        exact_count(.found.0, "byte"), .before.0, .after.0)]
    Length {
        /// Its length.
        found: Bytes,
        /// The length before the change.
        before: Bytes,
        /// The length that the change was to end with.
        after: Bytes,
    },
    /// It has another content.
    #[error("byte {at}: found another content than the change found or was to write")]
    Content {
        /// Where the place begins in which it differs.
        at: FileOffset,
    },
    /// It has neither the length and time of the old backing file nor those of the new one.
    #[error("found {}, expected {}{}", facts(*.found, *.modified_seconds),
        facts(.before.len, .before.mtime.into()), or_facts(.other.as_ref()))]
    Facts {
        /// Its own length.
        found: Bytes,
        /// When it was modified last, in seconds since 1970.
        modified_seconds: i64,
        /// Those of the old one.
        before: OtherBacking,
        /// Those of the new one, if that is noted.
        other: Option<OtherBacking>,
    },
}

fn facts(len: Bytes, modified_seconds: i64) -> String {
    format!(
        "{} modified at {modified_seconds} {}",
        exact_count(len.0, "byte"),
        since_1970(&[modified_seconds])
    )
}

fn or_facts(other: Option<&OtherBacking>) -> String {
    other.map_or(String::new(), |other| {
        format!(" or {}", facts(other.len, other.mtime.into()))
    })
}

fn kind_name(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Regular => "a regular file",
        FileKind::BlockDevice => "a block device",
        FileKind::Directory => "a directory",
        FileKind::Other => "a FIFO, socket or character device",
    }
}
