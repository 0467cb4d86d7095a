//! The host half: the I/O thread, which carries out what the kernel half has planned. It gives one
//! operation on one host file at a time and takes its result; nothing is merged and nothing
//! overtakes.

use crate::blk::{self, HostFailure};
use crate::host::{Action, Buffer, FileRole, HostError, HostResult, OperationKind};
use crate::units::{Bytes, FileOffset, FileRange, SECTOR_SIZE};

use super::kernel_half::Plan;
use super::layout::{Layout, position};
use super::{Defect, Defects};

/// What is known of the two files.
#[derive(Clone, Debug)]
pub(super) struct HostHalf {
    pub(super) layout: Layout,
    pub(super) defects: Defects,
    /// A sync of the COW file has failed: nothing can be made durable any more.
    pub(super) sync_failed: bool,
}

/// A plan being carried out.
#[derive(Clone, Debug)]
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

    /// Whether what comes next is a write to the bitmap.
    pub(super) fn writes_words(&self) -> bool {
        let in_segment = self.segment < self.plan.segments.len();
        in_segment && matches!(self.stage, Stage::Words { .. })
    }
}

/// What is asked of the host next.
pub(super) type AskedOfHost = (FileRole, Action);

impl HostHalf {
    /// Takes a plan from the pipe.
    pub(super) fn begin(&self, plan: Plan) -> Work {
        let sync_at_end = match plan.request.operation {
            _ if plan.orphan || plan.refused.is_some() => None,
            blk::Operation::Flush | blk::Operation::Write { fua: true } => self.flushed_file(),
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

    /// The next host operation of work that is not done. `None` if the host has no part in what
    /// comes next; that is done then.
    pub(super) fn next(&self, work: &mut Work) -> Result<Option<AskedOfHost>, Failed> {
        if work.segment >= work.plan.segments.len() {
            return work.sync_at_end.map(|role| self.sync(role)).transpose();
        }
        match work.stage {
            Stage::Data { from, filled, .. } => self.run(work, from, filled),
            Stage::SyncBeforeWords => self.sync(FileRole::Cow).map(Some),
            Stage::Words { done } => words(work, done),
        }
    }

    /// Takes note of how the operation has ended that [`HostHalf::next`] gave.
    pub(super) fn ended(
        &mut self,
        work: &mut Work,
        mut action: Action,
        result: HostResult<()>,
    ) -> Result<(), Failed> {
        let result = self.heard(&mut action, result);
        if work.segment >= work.plan.segments.len() {
            return match work.sync_at_end.take() {
                Some(role) => self.synced(role, result),
                None => Ok(()),
            };
        }
        match work.stage {
            Stage::Data { from, .. } => self.run_ended(work, from, action, result),
            Stage::SyncBeforeWords => {
                self.synced(FileRole::Cow, result)?;
                work.stage = Stage::Words { done: 0 };
                Ok(())
            }
            Stage::Words { done } => self.words_ended(work, done, &action, result),
        }
    }

    /// What the I/O thread hears of an operation.
    fn heard(&self, action: &mut Action, result: HostResult<()>) -> HostResult<()> {
        if result.is_ok() || !self.defects.contains(Defect::SharedErrno) {
            return result;
        }
        if let Action::ReadOnce { count, .. } | Action::WriteOnce { count, .. } = action {
            *count = 0;
        }
        Ok(())
    }

    /// The sync of a file. After a failure the COW file's never succeeds again.
    pub(super) fn sync(&self, role: FileRole) -> Result<AskedOfHost, Failed> {
        if role == FileRole::Cow && self.sync_failed {
            return Err(failed(
                FailedPart::Sync,
                OperationKind::SyncData,
                (role, 0),
                HostError::Io,
            ));
        }
        Ok((role, Action::SyncData))
    }

    /// Takes note of how a sync has ended.
    pub(super) fn synced(&mut self, role: FileRole, result: HostResult<()>) -> Result<(), Failed> {
        result.map_err(|error| {
            self.sync_failed |= role == FileRole::Cow;
            failed(FailedPart::Sync, OperationKind::SyncData, (role, 0), error)
        })
    }

    /// Where the run is that begins at sector `from` of the segment: its end in the segment, and
    /// the file and the place there, as far as `advanced` bytes after its start.
    fn place(&self, work: &Work, from: u64, advanced: u64) -> (u64, FileRole, u64) {
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
        let within = work.offset.wrapping_add(from * SECTOR_SIZE + advanced);
        (end, role, base.wrapping_add(within))
    }

    fn run(
        &self,
        work: &mut Work,
        from: u64,
        filled: usize,
    ) -> Result<Option<AskedOfHost>, Failed> {
        let (end, role, at) = self.place(work, from, work.stage.advanced());
        let len = ((end - from) * SECTOR_SIZE) as usize;
        let whole = FileRange::new(FileOffset(at), Bytes(len as u64));
        let mut action = match work.plan.request.operation {
            blk::Operation::Read => Action::read_once(whole.start, Buffer::default()),
            blk::Operation::Write { .. } => Action::write_once(whole.start, Buffer::default()),
            blk::Operation::Discard => Action::PunchHole(whole),
            blk::Operation::WriteZeroes => Action::ZeroRange(whole),
            blk::Operation::Flush => {
                end_segment(work);
                return Ok(None);
            }
        };
        position(at).map_err(|error| failed(FailedPart::Data, action.kind(), (role, at), error))?;
        // The buffer leaves the request only with an action that goes to the host.
        if let Action::ReadOnce { buffer, .. } | Action::WriteOnce { buffer, .. } = &mut action {
            let (index, first) = work.plan.segments[work.segment].buffer;
            let start = first + (from * SECTOR_SIZE) as usize;
            *buffer = Buffer {
                data: std::mem::take(&mut work.plan.request.segments[index].data),
                part: start + filled..start + len,
            };
        }
        Ok(Some((role, action)))
    }

    fn run_ended(
        &self,
        work: &mut Work,
        from: u64,
        action: Action,
        result: HostResult<()>,
    ) -> Result<(), Failed> {
        let Stage::Data {
            filled, advanced, ..
        } = work.stage
        else {
            return Ok(());
        };
        let segment = work.plan.segments[work.segment];
        let sectors = segment.range.count.0;
        let (end, role, at) = self.place(work, from, advanced);
        let len = ((end - from) * SECTOR_SIZE) as usize;
        let kind = action.kind();
        let transferred = match action {
            Action::ReadOnce { buffer, count, .. } => {
                let (part, data) = (
                    buffer.part,
                    &mut work.plan.request.segments[segment.buffer.0].data,
                );
                *data = buffer.data;
                result.map(|()| read_ended(&mut data[part], count))
            }
            Action::WriteOnce { buffer, count, .. } => {
                let asked = buffer.part.len();
                work.plan.request.segments[segment.buffer.0].data = buffer.data;
                result.and_then(|()| write_ended(asked, count, self.defects))
            }
            _ => result.map(|()| Transferred::All),
        }
        .map_err(|error| failed(FailedPart::Data, kind, (role, at), error))?;
        match transferred {
            Transferred::Part(count) => {
                let restarts =
                    kind == OperationKind::Read && self.defects.contains(Defect::ShortReadRestart);
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
                let restarted = match self.defects.contains(Defect::ShortReadRestart) {
                    true => filled,
                    false => 0,
                };
                let step = match self.defects.contains(Defect::LastRunOffset) {
                    // What was asked for last: the rest, after a short read.
                    true => (len - restarted) as u64,
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

    fn words_ended(
        &self,
        work: &mut Work,
        done: usize,
        action: &Action,
        result: HostResult<()>,
    ) -> Result<(), Failed> {
        let written = match action {
            Action::WriteOnce { buffer, count, .. } => {
                result.and_then(|()| write_ended(buffer.part.len(), *count, self.defects))
            }
            _ => result.map(|()| Transferred::All),
        };
        let at = words_at(work, done);
        match written.map_err(|error| words_failed(at, error))? {
            Transferred::Part(count) => work.stage = Stage::Words { done: done + count },
            Transferred::All | Transferred::GivenUp => end_segment(work),
        }
        Ok(())
    }
}

impl Stage {
    fn advanced(self) -> u64 {
        match self {
            Stage::Data { advanced, .. } => advanced,
            Stage::SyncBeforeWords | Stage::Words { .. } => 0,
        }
    }
}

/// Where the rest of the segment's words goes, of which `done` bytes are written.
fn words_at(work: &Work, done: usize) -> u64 {
    let words = &work.plan.segments[work.segment].words;
    let at = words.as_ref().map_or(0, |words| words.at);
    at.wrapping_add(done as u64)
}

fn words(work: &mut Work, done: usize) -> Result<Option<AskedOfHost>, Failed> {
    let Some(words) = &work.plan.segments[work.segment].words else {
        end_segment(work);
        return Ok(None);
    };
    let rest = words.bytes()[done..].to_vec();
    let at = words_at(work, done);
    let position = position(at).map_err(|error| words_failed(at, error))?;
    let action = Action::write_once(position, Buffer::whole(rest));
    Ok(Some((FileRole::Cow, action)))
}

fn words_failed(at: u64, error: HostError) -> Failed {
    let place = (FileRole::Cow, at);
    failed(FailedPart::Bitmap, OperationKind::Write, place, error)
}

/// The segment is done, and the bits that were set for it are to stay.
fn end_segment(work: &mut Work) {
    work.plan.segments[work.segment].fresh = 0;
    work.segment += 1;
    work.stage = FIRST_RUN;
}

/// What one read of `part` has brought. Past the end of the file there are zeros: a COW file may
/// end within a hole.
fn read_ended(part: &mut [u8], count: usize) -> Transferred {
    match count {
        0 => {
            part.fill(0);
            Transferred::All
        }
        count if count < part.len() => Transferred::Part(count),
        _ => Transferred::All,
    }
}

/// What one write of `asked` bytes has come to.
fn write_ended(asked: usize, count: usize, defects: Defects) -> HostResult<Transferred> {
    let careless = defects.contains(Defect::ZeroWriteIsSuccess);
    match count {
        0 if careless => Ok(Transferred::GivenUp),
        0 => Err(HostError::WroteNothing),
        count if count < asked && careless => Err(HostError::Io),
        count if count < asked => Ok(Transferred::Part(count)),
        _ => Ok(Transferred::All),
    }
}

fn failed(
    what: FailedPart,
    kind: OperationKind,
    (role, at): (FileRole, u64),
    error: HostError,
) -> Failed {
    Failed {
        what,
        failure: HostFailure {
            kind,
            role,
            at: FileOffset(at),
            error,
        },
    }
}
