//! One thing that a driver asks of the host's open files, as a value, and what came of it. A driver
//! makes operations and waits for none; whoever has the files carries them out, in whatever order
//! they end, and gives each back.

use std::fmt;
use std::ops::Range;

use crate::units::{Bytes, FileOffset, FileRange};

use super::{HostError, HostFile, HostResult, OperationKind};

/// Which of a device's host files an operation is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileRole {
    /// The COW file, or the raw disk that stands in for it.
    Cow,
    /// The backing file.
    Backing,
    /// The file that a rebuild makes, which becomes the COW file.
    New,
    /// The raw disk that stands in for the COW file, where an error names it. Operations on it are
    /// on [`FileRole::Cow`].
    RawDisk,
}

/// As in a message.
impl fmt::Display for FileRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FileRole::Cow => "COW file",
            FileRole::Backing => "backing file",
            FileRole::New => "new COW file",
            FileRole::RawDisk => "disk",
        })
    }
}

/// Who waits for an operation: a number that only the driver that made it can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Waiter(pub u64);

/// A buffer on its way to the host and back, of which the operation is about a part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buffer {
    /// All of it.
    pub data: Vec<u8>,
    /// The part, in bytes; it lies within `data`.
    pub part: Range<usize>,
}

impl Buffer {
    /// All of `data`.
    pub fn whole(data: Vec<u8>) -> Buffer {
        let part = 0..data.len();
        Buffer { data, part }
    }

    /// The length of the part.
    pub fn len(&self) -> Bytes {
        Bytes(self.part.len() as u64)
    }

    /// Whether the part is empty.
    pub fn is_empty(&self) -> bool {
        self.part.is_empty()
    }

    #[inline]
    fn part(&self) -> &[u8] {
        &self.data[self.part.clone()]
    }

    #[inline]
    fn part_mut(&mut self) -> &mut [u8] {
        &mut self.data[self.part.clone()]
    }
}

/// What is asked of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Fill the buffer; the end of the file before its end is [`HostError::UnexpectedEnd`].
    Read {
        /// From where.
        at: FileOffset,
        /// What is filled.
        buffer: Buffer,
    },
    /// Write the buffer.
    Write {
        /// To where.
        at: FileOffset,
        /// What is written.
        buffer: Buffer,
    },
    /// Fill the buffer with one call, which may bring less of it; nothing at the end of the file.
    ReadOnce {
        /// From where.
        at: FileOffset,
        /// What is filled, from its front on.
        buffer: Buffer,
        /// The bytes that came, once it has ended.
        count: usize,
    },
    /// Write the buffer with one call, which may take less of it.
    WriteOnce {
        /// To where.
        at: FileOffset,
        /// What is written, from its front on.
        buffer: Buffer,
        /// The bytes that were taken, once it has ended.
        count: usize,
    },
    /// Write zeros, where the host cannot zero a range.
    WriteZeros(FileRange),
    /// Make the range read as zeros with its space kept.
    ZeroRange(FileRange),
    /// Free the range, which then reads as zeros.
    PunchHole(FileRange),
    /// Make what was written to the file before the operation begins durable.
    SyncData,
    /// Cut the file to this length, or extend it with a hole.
    SetLen(Bytes),
    /// Find out the length of the file, which is here after success.
    Len(Bytes),
    /// Find the first data at or after an offset; see [`HostFile::next_data`].
    NextData {
        /// From where.
        from: FileOffset,
        /// After success, the data, if there is any.
        found: Option<FileRange>,
    },
    /// Share a range of another file; see [`HostFile::clone_range`].
    CloneRange {
        /// Which other file.
        source: FileRole,
        /// The range there.
        from: FileRange,
        /// To where in this file.
        to: FileOffset,
    },
}

impl Action {
    /// One read of `buffer`, which may be short.
    pub fn read_once(at: FileOffset, buffer: Buffer) -> Action {
        Action::ReadOnce {
            at,
            buffer,
            count: 0,
        }
    }

    /// One write of `buffer`, which may be short.
    pub fn write_once(at: FileOffset, buffer: Buffer) -> Action {
        Action::WriteOnce {
            at,
            buffer,
            count: 0,
        }
    }

    /// The bytes that it is about; of a sync, and of what is about the file as a whole, none.
    pub fn range(&self) -> FileRange {
        match self {
            Action::Read { at, buffer }
            | Action::Write { at, buffer }
            | Action::ReadOnce { at, buffer, .. }
            | Action::WriteOnce { at, buffer, .. } => FileRange::new(*at, buffer.len()),
            Action::WriteZeros(range) | Action::ZeroRange(range) | Action::PunchHole(range) => {
                *range
            }
            Action::SetLen(len) => FileRange::new(FileOffset(0) + *len, Bytes(0)),
            Action::NextData { from, .. } => FileRange::new(*from, Bytes(0)),
            Action::CloneRange { from, to, .. } => FileRange::new(*to, from.len),
            Action::SyncData | Action::Len(_) => FileRange::default(),
        }
    }

    /// What the host is called for to carry it out, once or several times.
    #[inline]
    pub fn kind(&self) -> OperationKind {
        match self {
            Action::Read { .. } | Action::ReadOnce { .. } => OperationKind::Read,
            Action::Write { .. } | Action::WriteOnce { .. } | Action::WriteZeros(_) => {
                OperationKind::Write
            }
            Action::ZeroRange(_) => OperationKind::ZeroRange,
            Action::PunchHole(_) => OperationKind::PunchHole,
            Action::SyncData => OperationKind::SyncData,
            Action::SetLen(_) => OperationKind::SetLen,
            Action::Len(_) => OperationKind::Len,
            Action::NextData { .. } => OperationKind::NextData,
            Action::CloneRange { .. } => OperationKind::CloneRange,
        }
    }

    /// Whether it changes the file. A sync changes what is durable, and not the file.
    #[inline]
    pub fn changes(&self) -> bool {
        let kind = self.kind();
        kind.is_change() && kind != OperationKind::SyncData
    }
}

/// One operation on one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who waits for it.
    pub waiter: Waiter,
    /// On which file.
    pub file: FileRole,
    /// What is asked.
    pub action: Action,
}

/// An operation that has ended, with its buffers, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The operation; after success, what it asked for is in its action.
    pub operation: Operation,
    /// How it ended.
    pub result: HostResult<()>,
}

/// An action that has ended.
#[derive(Debug)]
pub struct FinishedAction {
    /// The action, with its buffer; after success, with what it asked for.
    pub action: Action,
    /// How it ended.
    pub result: HostResult<()>,
}

/// Zeros are written from here.
static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

impl Operation {
    /// Carries the operation out on `file`, in as many calls as the host needs, and waits for it.
    /// A file that is not there is [`HostError::NotFound`]. What a [`Action::CloneRange`] shares
    /// comes from `source`.
    #[inline]
    pub fn carry_out<F: HostFile>(mut self, file: Option<&F>, source: Option<&F>) -> Finished {
        let result = match file {
            Some(file) => self.action.carry_out(file, source),
            None => Err(HostError::NotFound),
        };
        Finished {
            operation: self,
            result,
        }
    }
}

impl Action {
    #[inline]
    pub(super) fn carry_out<F: HostFile>(
        &mut self,
        file: &F,
        source: Option<&F>,
    ) -> HostResult<()> {
        match self {
            Action::Read { at, buffer } => file.read_exact_at(buffer.part_mut(), *at),
            Action::Write { at, buffer } => file.write_all_at(buffer.part(), *at),
            Action::ReadOnce { at, buffer, count } => {
                *count = file.read_at(buffer.part_mut(), *at)?;
                Ok(())
            }
            Action::WriteOnce { at, buffer, count } => {
                *count = file.write_at(buffer.part(), *at)?;
                Ok(())
            }
            Action::WriteZeros(range) => write_zeros(file, *range),
            Action::ZeroRange(range) => file.zero_range(*range),
            Action::PunchHole(range) => file.punch_hole(*range),
            Action::SyncData => file.sync_data(),
            Action::SetLen(len) => file.set_len(*len),
            Action::Len(len) => file.len().map(|found| *len = found),
            Action::NextData { from, found } => file.next_data(*from).map(|data| *found = data),
            Action::CloneRange { from, to, .. } => match source {
                Some(source) => file.clone_range(source, *from, *to),
                None => Err(HostError::NotFound),
            },
        }
    }
}

fn write_zeros<F: HostFile>(file: &F, range: FileRange) -> HostResult<()> {
    let mut at = range.start;
    while at < range.end() {
        let len = (range.end() - at).min(Bytes(ZEROS.len() as u64));
        file.write_all_at(&ZEROS[..len.0 as usize], at)?;
        at += len;
    }
    Ok(())
}
