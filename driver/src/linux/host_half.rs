//! The host half: the I/O thread, which carries out what the kernel half has planned. One
//! operation on one host file is one step; nothing is merged and nothing overtakes.

use crate::blk::{HostFailure, Operation};
use crate::host::{FileRole, HostError, HostFile};
use crate::units::{Bytes, FileOffset, FileRange, SECTOR_SIZE};

use super::kernel_half::Plan;
use super::layout::{Layout, position};
use super::{Defect, Defects};

/// The two files, and what is known of them.
#[derive(Debug)]
pub(super) struct HostHalf<F> {
    pub(super) cow: F,
    pub(super) backing: F,
    pub(super) layout: Layout,
    pub(super) defects: Defects,
    /// A sync of the COW file has failed: nothing can be made durable any more.
    pub(super) sync_failed: bool,
}

/// A plan being carried out.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) plan: Plan,
    /// The segment that is next.
    pub(super) segment: usize,
    /// Where the I/O thread believes that segment to be on the device, in bytes.
    offset: u64,
    stage: Stage,
    sync_at_end: Option<FileRole>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The run that begins at sector `from` of the segment. Of its buffer `filled` bytes are
    /// done. The file is read or written `advanced` bytes after the run's start.
    Data {
        from: u64,
        filled: usize,
        advanced: u64,
    },
    SyncBeforeWords,
    Words {
        done: usize,
    },
}

const FIRST_RUN: Stage = Stage::Data {
    from: 0,
    filled: 0,
    advanced: 0,
};

/// What failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) what: FailedPart,
    pub(super) failure: HostFailure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailedPart {
    Data,
    Bitmap,
    Sync,
}

/// How a transfer that the host did not do in one piece goes on.
enum Transferred {
    All,
    Part(usize),
    GivenUp,
}

impl Work {
    /// Whether nothing is left to do.
    pub(super) fn is_done(&self) -> bool {
        self.segment >= self.plan.segments.len() && self.sync_at_end.is_none()
    }
}

impl<F: HostFile> HostHalf<F> {
    /// Takes a plan from the pipe.
    pub(super) fn begin(&self, plan: Plan) -> Work {
        let sync_at_end = match plan.request.operation {
            _ if plan.orphan || plan.refused.is_some() => None,
            Operation::Flush | Operation::Write { fua: true } => self.flushed_file(),
            _ => None,
        };
        Work {
            offset: plan.request.start.0.wrapping_mul(SECTOR_SIZE),
            plan,
            segment: 0,
            stage: FIRST_RUN,
            sync_at_end,
        }
    }

    /// The file that a flush syncs, if it syncs one.
    pub(super) fn flushed_file(&self) -> Option<FileRole> {
        if self.defects.contains(Defect::FlushNoop) {
            None
        } else if self.defects.contains(Defect::FlushWrongFile) {
            Some(FileRole::Backing)
        } else {
            Some(FileRole::Cow)
        }
    }

    /// Does one host operation of work that is not done.
    pub(super) fn step(&mut self, work: &mut Work) -> Result<(), Failed> {
        if work.segment >= work.plan.segments.len() {
            return match work.sync_at_end.take() {
                Some(role) => self.sync(role),
                None => Ok(()),
            };
        }
        match work.stage {
            Stage::Data {
                from,
                filled,
                advanced,
            } => self.run(work, from, filled, advanced),
            Stage::SyncBeforeWords => {
                self.sync(FileRole::Cow)?;
                work.stage = Stage::Words { done: 0 };
                Ok(())
            }
            Stage::Words { done } => self.words(work, done),
        }
    }

    /// Syncs a file. After a failure the COW file's never succeeds again.
    pub(super) fn sync(&mut self, role: FileRole) -> Result<(), Failed> {
        let result = match role {
            FileRole::Cow if self.sync_failed => Err(HostError::Io),
            FileRole::Cow => self.cow.sync_data(),
            FileRole::Backing => self.backing.sync_data(),
        };
        result.map_err(|error| {
            self.sync_failed |= role == FileRole::Cow;
            failed(FailedPart::Sync, role, 0, error)
        })
    }

    fn run(
        &mut self,
        work: &mut Work,
        from: u64,
        filled: usize,
        advanced: u64,
    ) -> Result<(), Failed> {
        let segment = work.plan.segments[work.segment];
        let sectors = segment.range.count.0;
        let bit = |index: u64| segment.mask >> index & 1;
        let end = (from..sectors)
            .find(|&index| bit(index) != bit(from))
            .unwrap_or(sectors);
        let (role, base) = match bit(from) {
            1 => (FileRole::Cow, self.layout.data_offset),
            _ => (FileRole::Backing, 0),
        };
        let len = ((end - from) * SECTOR_SIZE) as usize;
        let within = work.offset.wrapping_add(from * SECTOR_SIZE + advanced);
        let at = base.wrapping_add(within);
        let (index, first) = segment.buffer;
        let buffer_start = first + (from * SECTOR_SIZE) as usize;
        let operation = work.plan.request.operation;
        let buffer = &mut work.plan.request.segments[index].data;
        let range = buffer_start + filled..buffer_start + len;
        let file = match role {
            FileRole::Cow => &self.cow,
            FileRole::Backing => &self.backing,
        };
        let transferred = position(at)
            .and_then(|position| match operation {
                Operation::Read => read(file, &mut buffer[range], position),
                Operation::Write { .. } => write(file, &buffer[range], position, self.defects),
                Operation::Discard => {
                    let range = FileRange::new(position, Bytes(len as u64));
                    file.punch_hole(range).map(|()| Transferred::All)
                }
                Operation::WriteZeroes => {
                    let range = FileRange::new(position, Bytes(len as u64));
                    file.zero_range(range).map(|()| Transferred::All)
                }
                Operation::Flush => Ok(Transferred::All),
            })
            .map_err(|error| failed(FailedPart::Data, role, at, error))?;
        match transferred {
            Transferred::Part(count) => {
                let restarts =
                    operation == Operation::Read && self.defects.contains(Defect::ShortReadRestart);
                let step = if restarts { 0 } else { count as u64 };
                work.stage = Stage::Data {
                    from,
                    filled: filled + count,
                    advanced: advanced + step,
                };
            }
            Transferred::All if end < sectors => {
                work.stage = Stage::Data {
                    from: end,
                    filled: 0,
                    advanced: 0,
                };
            }
            Transferred::All => {
                let step = match self.defects.contains(Defect::LastRunOffset) {
                    true => len as u64,
                    false => sectors * SECTOR_SIZE,
                };
                work.offset = work.offset.wrapping_add(step);
                self.after_data(work);
            }
            Transferred::GivenUp => {
                // The thread leaves the segment where it is, and its offset with it.
                if !self.defects.contains(Defect::LastRunOffset) {
                    work.offset = work.offset.wrapping_add(sectors * SECTOR_SIZE);
                }
                end_segment(work);
            }
        }
        Ok(())
    }

    fn after_data(&self, work: &mut Work) {
        let ordered = !self.defects.contains(Defect::UnorderedPublish);
        match work.plan.segments[work.segment].words {
            // What cannot be made durable any more must not be pointed to.
            Some(_) if ordered && self.sync_failed => end_segment(work),
            Some(_) if ordered => work.stage = Stage::SyncBeforeWords,
            Some(_) => work.stage = Stage::Words { done: 0 },
            None => end_segment(work),
        }
    }

    fn words(&mut self, work: &mut Work, done: usize) -> Result<(), Failed> {
        let Some(words) = &work.plan.segments[work.segment].words else {
            end_segment(work);
            return Ok(());
        };
        let at = words.at.wrapping_add(done as u64);
        let written = position(at)
            .and_then(|at| write(&self.cow, &words.bytes()[done..], at, self.defects))
            .map_err(|error| failed(FailedPart::Bitmap, FileRole::Cow, at, error))?;
        match written {
            Transferred::Part(count) => work.stage = Stage::Words { done: done + count },
            Transferred::All | Transferred::GivenUp => end_segment(work),
        }
        Ok(())
    }
}

/// The segment is done, and the bits that were set for it are to stay.
fn end_segment(work: &mut Work) {
    work.plan.segments[work.segment].fresh = 0;
    work.segment += 1;
    work.stage = FIRST_RUN;
}

/// One read. Past the end of the file there are zeros: a COW file may end within a hole.
fn read<F: HostFile>(
    file: &F,
    buffer: &mut [u8],
    at: FileOffset,
) -> Result<Transferred, HostError> {
    match file.read_at(buffer, at)? {
        0 => {
            buffer.fill(0);
            Ok(Transferred::All)
        }
        count if count < buffer.len() => Ok(Transferred::Part(count)),
        _ => Ok(Transferred::All),
    }
}

/// One write.
fn write<F: HostFile>(
    file: &F,
    data: &[u8],
    at: FileOffset,
    defects: Defects,
) -> Result<Transferred, HostError> {
    let careless = defects.contains(Defect::ZeroWriteIsSuccess);
    match file.write_at(data, at)? {
        0 if careless => Ok(Transferred::GivenUp),
        0 => Err(HostError::WroteNothing),
        count if count < data.len() && careless => Err(HostError::Io),
        count if count < data.len() => Ok(Transferred::Part(count)),
        _ => Ok(Transferred::All),
    }
}

fn failed(what: FailedPart, role: FileRole, at: u64, error: HostError) -> Failed {
    Failed {
        what,
        failure: HostFailure {
            role,
            at: FileOffset(at),
            error,
        },
    }
}
