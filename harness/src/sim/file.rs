//! An open file of the simulated host.

use std::fmt;
use std::path::Path;
use std::rc::Rc;

use driver::host::{Access, HostError, HostFile, HostResult, OperationKind};
use driver::units::{Bytes, FileOffset, FileRange};

use super::call::Call;
use super::change::Change;
use super::faults::Fault;
use super::host::SimHost;
use super::page::PAGE_SIZE;
use super::state::{LateWrite, State};
use super::survivors::InodeNumber;

/// The longest file, as on Linux: positions are signed there.
const MAX_LENGTH: u64 = i64::MAX as u64;

/// One open description of a file on a [`SimHost`]. Its lock goes with it.
pub struct SimFile {
    host: SimHost,
    inode: InodeNumber,
    description: u64,
    path: Rc<Path>,
    access: Access,
}

impl SimFile {
    pub(crate) fn new(
        host: &SimHost,
        inode: InodeNumber,
        description: u64,
        path: &Rc<Path>,
        access: Access,
    ) -> Self {
        Self {
            host: host.clone(),
            inode,
            description,
            path: Rc::clone(path),
            access,
        }
    }

    /// The name by which it was opened.
    pub fn path(&self) -> &Rc<Path> {
        &self.path
    }

    /// Which file it is.
    pub fn inode(&self) -> InodeNumber {
        self.inode
    }

    pub(crate) fn description(&self) -> u64 {
        self.description
    }

    pub(crate) fn check_writable(&self) -> HostResult<()> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(HostError::PermissionDenied),
        }
    }

    fn call(&self, kind: OperationKind) -> Call {
        Call::new(kind, &self.path).of(self.inode)
    }

    fn change(&self, state: &mut State, index: u64, change: Change) {
        if state.leaves_out(&self.path, self.inode, &change) {
            return;
        }
        state.note_in_flight(self.inode, &change);
        state.change(self.inode, index, change);
        state.touch(self.inode);
    }

    /// Makes content and length durable, and the time too if told so.
    pub(crate) fn sync(&self, with_time: bool) -> HostResult<()> {
        let call = self.call(OperationKind::SyncData);
        self.host.perform(
            call,
            |()| 0,
            |state, _, fault| {
                let persists = state.assumptions.sync_persists;
                let keeps_content = state.assumptions.failed_sync_keeps_content;
                let left_out = state.leaves_out_sync(&self.path);
                let inode = state.inode_mut(self.inode);
                match fault {
                    Some(fault @ (Fault::FailedSync | Fault::FailedSyncForSpace)) => {
                        inode.fail_sync(keeps_content);
                        return Err(match fault {
                            Fault::FailedSync => HostError::Io,
                            _ => HostError::NoSpace,
                        });
                    }
                    Some(Fault::LyingSync) => {}
                    _ if persists && !left_out => {
                        inode.sync();
                        if with_time {
                            inode.times.settle();
                        }
                    }
                    _ => {}
                }
                Ok(())
            },
        )
    }
}

/// The part of a range that is carried out, and what is said then.
fn first_part(range: FileRange, fault: Option<Fault>) -> (FileRange, HostResult<()>) {
    match fault {
        Some(Fault::InPart(count)) => {
            let len = range.len.min(Bytes(count));
            (FileRange::new(range.start, len), Err(HostError::Io))
        }
        _ => (range, Ok(())),
    }
}

/// The range's end, if a file may have that length.
fn checked_end(start: FileOffset, len: Bytes) -> HostResult<u64> {
    let end = start.0.checked_add(len.0).filter(|&end| end <= MAX_LENGTH);
    end.ok_or(HostError::TooLarge)
}

impl HostFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], at: FileOffset) -> HostResult<usize> {
        let len = Bytes(buffer.len() as u64);
        let call = self.call(OperationKind::Read).on(at, len);
        let number = |count: &usize| *count as u64;
        self.host.perform(call, number, |state, _, fault| {
            checked_end(at, len)?;
            let most = match fault {
                Some(Fault::ShortRead(count)) => len.0.min(count.max(1)) as usize,
                _ => buffer.len(),
            };
            Ok((state.inode(self.inode).current()).read_at(&mut buffer[..most], at))
        })
    }

    fn write_at(&self, data: &[u8], at: FileOffset) -> HostResult<usize> {
        let len = Bytes(data.len() as u64);
        let call = self.call(OperationKind::Write).on(at, len);
        let number = |count: &usize| *count as u64;
        self.host.perform(call, number, |state, index, fault| {
            self.check_writable()?;
            checked_end(at, len)?;
            let wanted = match fault {
                Some(Fault::ShortWrite(count)) => len.min(Bytes(count)),
                _ => len,
            };
            let count = state.fitting(self.inode, FileRange::new(at, wanted));
            if wanted != Bytes(0) && count == Bytes(0) {
                return Err(HostError::NoSpace);
            }
            let data = &data[..count.0 as usize];
            if !data.is_empty() {
                let data = data.into();
                let write = Change::Write { at, data };
                match fault {
                    Some(Fault::IoAfter) if !state.assumptions.errors_are_final => {
                        let inode = self.inode;
                        state.late_writes.push(LateWrite {
                            inode,
                            index,
                            write,
                        });
                    }
                    _ => self.change(state, index, write),
                }
            }
            Ok(data.len())
        })
    }

    fn sync_data(&self) -> HostResult<()> {
        self.sync(false)
    }

    fn len(&self) -> HostResult<Bytes> {
        let call = self.call(OperationKind::Len);
        self.host.perform(
            call,
            |len: &Bytes| len.0,
            |state, _, _| Ok(state.inode(self.inode).current().length()),
        )
    }

    fn set_len(&self, len: Bytes) -> HostResult<()> {
        let at = FileOffset(len.0);
        let call = self.call(OperationKind::SetLen).on(at, Bytes(0));
        self.host.perform(
            call,
            |()| 0,
            |state, index, _| {
                self.check_writable()?;
                checked_end(at, Bytes(0))?;
                if state.inode(self.inode).current().length() != len {
                    self.change(state, index, Change::SetLen(len));
                }
                Ok(())
            },
        )
    }

    fn punch_hole(&self, range: FileRange) -> HostResult<()> {
        let call = self.call(OperationKind::PunchHole);
        let call = call.on(range.start, range.len);
        let done = self.host.perform(
            call,
            |()| 0,
            |state, index, fault| {
                self.check_writable()?;
                checked_end(range.start, range.len)?;
                let (range, result) = first_part(range, fault);
                if range.len > Bytes(0) {
                    self.change(state, index, Change::PunchHole(range));
                }
                result
            },
        );
        self.host.heard(done)
    }

    fn zero_range(&self, range: FileRange) -> HostResult<()> {
        let call = self.call(OperationKind::ZeroRange);
        let call = call.on(range.start, range.len);
        let done = self.host.perform(
            call,
            |()| 0,
            |state, index, fault| {
                self.check_writable()?;
                checked_end(range.start, range.len)?;
                let (range, result) = first_part(range, fault);
                if range.len == Bytes(0) {
                    return result;
                }
                if state.assumptions.no_zero_range {
                    return Err(HostError::Unsupported);
                }
                if state.fitting(self.inode, range) != range.len {
                    return Err(HostError::NoSpace);
                }
                self.change(state, index, Change::ZeroRange(range));
                result
            },
        );
        self.host.heard(done)
    }

    fn next_data(&self, from: FileOffset) -> HostResult<Option<FileRange>> {
        let call = self.call(OperationKind::NextData).on(from, Bytes(0));
        let number = |run: &Option<FileRange>| run.map_or(0, |run| run.start.0);
        self.host.perform(call, number, |state, _, _| {
            checked_end(from, Bytes(0))?;
            let content = state.inode(self.inode).current();
            if !state.assumptions.tells_holes {
                let end = FileOffset(content.length().0);
                return Ok((from < end).then(|| FileRange::between(from..end)));
            }
            Ok(content.next_data(from))
        })
    }

    /// Both files lie on the same host. A range can be shared if it starts at a border of a page in
    /// both files, and ends at a border within the source or at the end of the source.
    fn clone_range(&self, source: &Self, from: FileRange, to: FileOffset) -> HostResult<()> {
        if !self.host.assumptions().shares_extents {
            // Not even asked for: a crash before it would be one before what comes next.
            return Err(HostError::Unsupported);
        }
        let call = self.call(OperationKind::CloneRange).on(to, from.len);
        self.host.perform(
            call,
            |()| 0,
            |state, index, _| {
                self.check_writable()?;
                checked_end(from.start, from.len)?;
                checked_end(to, from.len)?;
                let source = state.inode(source.inode).current();
                let (end, len) = (from.end().0, source.length().0);
                let is_border = |at: u64| at.is_multiple_of(PAGE_SIZE);
                if !is_border(from.start.0)
                    || !is_border(to.0)
                    || end > len
                    || !(is_border(end) || end == len)
                {
                    return Err(HostError::Unsupported);
                }
                if from.len == Bytes(0) {
                    return Ok(());
                }
                let mut data = vec![0; from.len.0 as usize];
                source.read_at(&mut data, from.start);
                let data = data.into();
                self.change(state, index, Change::Clone { at: to, data });
                Ok(())
            },
        )
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.host.close(self.inode, self.description);
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile")
            .field("path", &self.path)
            .field("inode", &self.inode)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}
