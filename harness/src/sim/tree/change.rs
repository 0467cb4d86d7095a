//! Every change of a simulated directory as a value: what a log keeps, what a crash image is built
//! from, and what a finding holds. It can be sent from one thread to another.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use driver::host::OperationKind;
use driver::units::{Bytes, FileOffset, FileRange};

use super::super::survivors::InodeNumber;

/// A moment on the clock of whoever runs the tree, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub i64);

impl Moment {
    /// The moment, as near as it can be said.
    pub fn of(time: SystemTime) -> Moment {
        let nanoseconds = |duration: Duration| i64::try_from(duration.as_nanos());
        Moment(match time.duration_since(UNIX_EPOCH) {
            Ok(after) => nanoseconds(after).unwrap_or(i64::MAX),
            Err(before) => nanoseconds(before.duration()).map_or(i64::MIN, |before| -before),
        })
    }

    /// As the system has it.
    pub fn time(self) -> SystemTime {
        let distance = Duration::from_nanos(self.0.unsigned_abs());
        match self.0 < 0 {
            true => UNIX_EPOCH - distance,
            false => UNIX_EPOCH + distance,
        }
    }
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryName {
    /// The directory.
    pub directory: InodeNumber,
    /// The name there: one component of a path.
    pub name: OsString,
}

/// What is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewNode {
    /// An empty file.
    File,
    /// An empty directory.
    Directory,
    /// A symbolic link that leads there.
    SymbolicLink(PathBuf),
}

/// Owner, mode and times. What is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// The bits of permission.
    pub mode: Option<u32>,
    /// The owner.
    pub user: Option<u32>,
    /// The owner's group.
    pub group: Option<u32>,
    /// When it was read last.
    pub accessed: Option<Moment>,
    /// When its content changed last.
    pub modified: Option<Moment>,
}

/// One change of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeChange {
    /// Bytes of a file become these.
    Write {
        /// The file.
        file: InodeNumber,
        /// Where they begin.
        at: FileOffset,
        /// The bytes.
        data: Arc<[u8]>,
    },
    /// A file is cut, or extended with a hole.
    SetLen {
        /// The file.
        file: InodeNumber,
        /// Its length then.
        len: Bytes,
    },
    /// Bytes of a file read as zeros from then on, and take no space.
    PunchHole {
        /// The file.
        file: InodeNumber,
        /// Which bytes.
        range: FileRange,
    },
    /// Space is allocated for bytes of a file, which stay as they are.
    Reserve {
        /// The file.
        file: InodeNumber,
        /// Which bytes.
        range: FileRange,
    },
    /// Something new gets a name.
    Create {
        /// The name.
        name: EntryName,
        /// Its number, which nothing had before.
        node: InodeNumber,
        /// What it is.
        what: NewNode,
        /// Whose it is.
        attributes: Attributes,
    },
    /// A file gets another name.
    Link {
        /// The file.
        node: InodeNumber,
        /// The name.
        name: EntryName,
    },
    /// A name goes, of a file or of an empty directory.
    Remove(EntryName),
    /// A name becomes another one, whose file loses it.
    Rename {
        /// The old name.
        from: EntryName,
        /// The new one.
        to: EntryName,
        /// The files exchange their names instead.
        exchange: bool,
    },
    /// Owner, mode or times.
    SetAttributes {
        /// Of what.
        node: InodeNumber,
        /// What they become.
        attributes: Attributes,
    },
    /// Content and length of a file become durable.
    SyncFile(InodeNumber),
    /// A sync of a file fails: what it should have made durable no later one will.
    FailSync(InodeNumber),
    /// The names in a directory become durable.
    SyncDirectory(InodeNumber),
    /// Everything becomes durable: the machine has been idle.
    Settle,
}

impl TreeChange {
    /// The bytes that its list has to keep for it: of a file, of names and of where links lead.
    pub fn payload(&self) -> u64 {
        let len = |name: &EntryName| name.name.len() as u64;
        match self {
            TreeChange::Write { data, .. } => data.len() as u64,
            TreeChange::Create { name, what, .. } => {
                let target = match what {
                    NewNode::SymbolicLink(target) => target.as_os_str().len() as u64,
                    NewNode::File | NewNode::Directory => 0,
                };
                len(name) + target
            }
            TreeChange::Link { name, .. } | TreeChange::Remove(name) => len(name),
            TreeChange::Rename { from, to, .. } => len(from) + len(to),
            TreeChange::SetLen { .. }
            | TreeChange::PunchHole { .. }
            | TreeChange::Reserve { .. }
            | TreeChange::SetAttributes { .. }
            | TreeChange::SyncFile(_)
            | TreeChange::FailSync(_)
            | TreeChange::SyncDirectory(_)
            | TreeChange::Settle => 0,
        }
    }

    /// The bytes of space that it may take.
    pub fn space(&self) -> u64 {
        match self {
            TreeChange::Reserve { range, .. } => range.len.0,
            _ => self.payload(),
        }
    }

    /// The bytes of a file that it changes; a new length is the empty range there.
    pub fn range(&self) -> Option<FileRange> {
        match self {
            TreeChange::Write { at, data, .. } => {
                Some(FileRange::new(*at, Bytes(data.len() as u64)))
            }
            TreeChange::SetLen { len, .. } => Some(FileRange::new(FileOffset(len.0), Bytes(0))),
            TreeChange::PunchHole { range, .. } | TreeChange::Reserve { range, .. } => Some(*range),
            _ => None,
        }
    }

    /// The nodes that have to be there for it.
    pub fn needs(&self) -> impl Iterator<Item = InodeNumber> {
        let needed = match self {
            TreeChange::Create { name, .. } | TreeChange::Remove(name) => {
                [Some(name.directory), None]
            }
            TreeChange::Link { node, name } => [Some(*node), Some(name.directory)],
            TreeChange::Rename { from, to, .. } => [Some(from.directory), Some(to.directory)],
            other => [other.subject(), None],
        };
        needed.into_iter().flatten()
    }

    /// Whether names may be durable after it that were not before.
    pub fn makes_names_durable(&self) -> bool {
        matches!(self, TreeChange::SyncDirectory(_) | TreeChange::Settle)
    }

    /// What it is about: a file, or the directory whose names it changes.
    pub fn subject(&self) -> Option<InodeNumber> {
        match self {
            TreeChange::Write { file, .. }
            | TreeChange::SetLen { file, .. }
            | TreeChange::PunchHole { file, .. }
            | TreeChange::Reserve { file, .. } => Some(*file),
            TreeChange::SetAttributes { node, .. } => Some(*node),
            TreeChange::SyncFile(node)
            | TreeChange::FailSync(node)
            | TreeChange::SyncDirectory(node) => Some(*node),
            TreeChange::Create { .. }
            | TreeChange::Link { .. }
            | TreeChange::Remove(_)
            | TreeChange::Rename { .. }
            | TreeChange::Settle => None,
        }
    }
}

/// A change that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// What was asked for, of which this is all or a part.
    pub kind: OperationKind,
    /// When.
    pub at: Moment,
    /// The change.
    pub change: TreeChange,
}

impl Recorded {
    /// In words, with names as `name` knows them: `write disk.qcow2 4096+512`.
    pub fn told(&self, name: &dyn Fn(InodeNumber) -> String) -> String {
        let entry = |entry: &EntryName| {
            let (directory, name) = (name(entry.directory), entry.name.to_string_lossy());
            match directory.as_str() {
                "." => name.into_owned(),
                directory => format!("{directory}/{name}"),
            }
        };
        let kind = self.kind;
        match &self.change {
            TreeChange::Write { file, at, data } => {
                format!("{kind} {} {at}+{}", name(*file), data.len())
            }
            TreeChange::SetLen { file, len } => format!("{kind} {} {}", name(*file), len.0),
            TreeChange::PunchHole { file, range } | TreeChange::Reserve { file, range } => {
                format!("{kind} {} {}+{}", name(*file), range.start, range.len.0)
            }
            TreeChange::Create { name, .. } | TreeChange::Remove(name) => {
                format!("{kind} {}", entry(name))
            }
            TreeChange::Link { node, name: new } => {
                format!("{kind} {} as {}", name(*node), entry(new))
            }
            TreeChange::Rename { from, to, exchange } => match exchange {
                true => format!("exchange {} with {}", entry(from), entry(to)),
                false => format!("{kind} {} to {}", entry(from), entry(to)),
            },
            TreeChange::SetAttributes { node, .. }
            | TreeChange::SyncFile(node)
            | TreeChange::SyncDirectory(node) => format!("{kind} {}", name(*node)),
            TreeChange::FailSync(node) => format!("failed {kind} {}", name(*node)),
            TreeChange::Settle => "everything durable".to_owned(),
        }
    }
}

/// Without the bytes.
impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told(&|node| format!("node {}", node.0)))
    }
}
