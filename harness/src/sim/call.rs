//! An operation as it arrives at the simulated host, one call of a method of the seams: as it is
//! counted, planned for faults and crashes, and recorded. It is what the tests pin and a finding's
//! story is told with. What it asks for is in the words of [`driver::host`].

use std::fmt;
use std::path::Path;
use std::rc::Rc;

use driver::host::{HostError, OperationKind};
use driver::units::{Bytes, FileOffset, FileRange};

use super::survivors::InodeNumber;

/// One call as it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its number on this host, counted from 0.
    pub index: u64,
    /// What it asks for.
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

impl Call {
    /// A call about a whole file or a name. Its number is given by the host.
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

    /// The call, on this open file.
    pub(crate) fn of(self, inode: InodeNumber) -> Self {
        Self {
            inode: Some(inode),
            ..self
        }
    }

    /// The call, about a range of the file.
    pub(crate) fn on(self, start: FileOffset, len: Bytes) -> Self {
        Self {
            range: FileRange::new(start, len),
            ..self
        }
    }
}

impl Call {
    /// Without its number: `write disk.cow 4096+512`.
    pub(crate) fn told(&self) -> String {
        let what = format!("{} {}", self.kind, self.path.display());
        match (&self.to, self.kind) {
            (Some(to), _) => format!("{what} to {}", to.display()),
            (None, OperationKind::SetLen) => format!("{what} {}", self.range.start),
            (None, _) if self.range == FileRange::default() => what,
            (None, _) => format!("{what} {}+{}", self.range.start, self.range.len.0),
        }
    }
}

/// `#17 write disk.cow 4096+512`
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} {}", self.index, self.told())
    }
}

/// A call that was made, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedCall {
    /// What was asked for.
    pub call: Call,
    /// The number of bytes read or written or the length found, 0 for operations without
    /// a number; or the error.
    pub result: Result<u64, HostError>,
}

impl fmt::Display for LoggedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.result {
            Ok(number) => write!(f, "{} = {number}", self.call),
            Err(error) => write!(f, "{}: {error}", self.call),
        }
    }
}
