//! One operation of the host as it is counted, planned for faults and crashes, and
//! recorded: what the tests pin and a finding's story is told with.

use std::fmt;
use std::path::Path;
use std::rc::Rc;

use driver::host::HostError;
use driver::units::{Bytes, FileOffset, FileRange};
use serde::{Deserialize, Serialize};

use super::survivors::InodeNumber;

/// Which operation of the seams it is. Each call is one operation and is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "named as the methods of the seams are")]
pub enum OperationKind {
    Read,
    Write,
    SyncData,
    Length,
    SetLength,
    PunchHole,
    ZeroRange,
    CloneRange,
    NextData,
    Open,
    CreateNew,
    GiveMode,
    Metadata,
    CopyAttributes,
    SetModified,
    Lock,
    Rename,
    Remove,
    SyncDirectory,
}

impl OperationKind {
    /// Whether a crash before and a crash after it can leave different disks. The
    /// others matter for the moment of a crash only by what the process does between.
    pub fn is_change(self) -> bool {
        use OperationKind::*;
        match self {
            Write | SyncData | SetLength | PunchHole | ZeroRange | CloneRange => true,
            CreateNew | CopyAttributes | SetModified | Rename | Remove | SyncDirectory => true,
            Read | Length | NextData | Open | GiveMode | Metadata | Lock => false,
        }
    }
}

impl fmt::Display for OperationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OperationKind::Read => "read",
            OperationKind::Write => "write",
            OperationKind::SyncData => "sync data",
            OperationKind::Length => "length",
            OperationKind::SetLength => "set length",
            OperationKind::PunchHole => "punch hole",
            OperationKind::ZeroRange => "zero range",
            OperationKind::CloneRange => "clone range",
            OperationKind::NextData => "next data",
            OperationKind::Open => "open",
            OperationKind::CreateNew => "create",
            OperationKind::GiveMode => "give mode",
            OperationKind::Metadata => "metadata",
            OperationKind::CopyAttributes => "copy attributes",
            OperationKind::SetModified => "set modified",
            OperationKind::Lock => "lock",
            OperationKind::Rename => "rename",
            OperationKind::Remove => "remove",
            OperationKind::SyncDirectory => "sync directory",
        })
    }
}

/// One operation as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its number on this host, counted from 0.
    pub index: u64,
    /// What it is.
    pub kind: OperationKind,
    /// The open file; none of an operation on names.
    pub inode: Option<InodeNumber>,
    /// The name by which the file was opened; of a change of names, the (old) name.
    pub path: Rc<Path>,
    /// The new name of a rename.
    pub to: Option<Rc<Path>>,
    /// The bytes that it asks for or changes. A new length is the empty range there.
    pub range: FileRange,
}

impl Operation {
    /// An operation on a whole file or on a name. Its number is given by the host.
    pub(crate) fn new(kind: OperationKind, path: &Rc<Path>) -> Self {
        Self {
            index: 0,
            kind,
            inode: None,
            path: Rc::clone(path),
            to: None,
            range: FileRange::default(),
        }
    }

    /// The operation, on this open file.
    pub(crate) fn of(self, inode: InodeNumber) -> Self {
        Self {
            inode: Some(inode),
            ..self
        }
    }

    /// The operation, on a range of the file.
    pub(crate) fn on(self, start: FileOffset, len: Bytes) -> Self {
        Self {
            range: FileRange::new(start, len),
            ..self
        }
    }
}

/// `#17 write disk.cow 4096+512`
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} {} {}", self.index, self.kind, self.path.display())?;
        match (&self.to, self.kind) {
            (Some(to), _) => write!(f, " to {}", to.display()),
            (None, OperationKind::SetLength) => write!(f, " {}", self.range.start),
            (None, _) if self.range == FileRange::default() => Ok(()),
            (None, _) => write!(f, " {}+{}", self.range.start, self.range.len.0),
        }
    }
}

/// An operation that took place, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedOperation {
    /// What was asked for.
    pub operation: Operation,
    /// The number of bytes read or written or the length found, 0 for operations without
    /// a number; or the error.
    pub result: Result<u64, HostError>,
}

impl fmt::Display for LoggedOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.result {
            Ok(number) => write!(f, "{} = {number}", self.operation),
            Err(error) => write!(f, "{}: {error}", self.operation),
        }
    }
}
