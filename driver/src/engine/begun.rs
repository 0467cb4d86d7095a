//! A request that has begun: which of its parts are under way.
//!
//! The segments of a read or a write go side by side. Within a segment one run comes after the
//! other, because a segment has one buffer, and nothing is copied on its way to the host and back.

use crate::blk::{HostFailure, Operation, Request};
use crate::host::{Action, Buffer, FileRole};
use crate::units::{Bytes, FileRange, SECTOR_SIZE, Sector, SectorCount, SectorRange};

use super::plan::{Run, Where, read_run, write_run};

/// The place of a request that has begun, among those that have.
pub(super) type Slot = u32;

/// A request that has begun.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) request: Request,
    pub(super) range: SectorRange,
    /// The first part that has not begun: of a request with data, a segment; any other has one.
    next_part: u32,
    /// Where it starts.
    next_start: Sector,
    /// Parts that have begun and have not ended.
    under_way: u32,
    /// The first operation that failed.
    pub(super) failure: Option<Box<HostFailure>>,
    effective: bool,
}

impl Begun {
    pub(super) fn new(request: Request, range: SectorRange) -> Begun {
        Begun {
            request,
            range,
            next_part: 0,
            next_start: range.start,
            under_way: 0,
            failure: None,
            effective: false,
        }
    }

    /// Whether it changes its sectors.
    #[inline]
    pub(super) fn changes(&self) -> bool {
        self.request.operation.is_change()
    }

    /// Whether others that overlap with it have to wait.
    #[inline]
    pub(super) fn keeps_back(&self) -> bool {
        !self.effective
    }

    /// Whether it had not taken effect before.
    #[inline]
    pub(super) fn take_effect(&mut self) -> bool {
        !std::mem::replace(&mut self.effective, true)
    }

    #[inline]
    fn has_data(&self) -> bool {
        matches!(
            self.request.operation,
            Operation::Read | Operation::Write { .. }
        )
    }

    #[inline]
    fn parts(&self) -> u32 {
        match self.request.operation {
            Operation::Flush => 0,
            _ if self.has_data() => self.request.segments.len() as u32,
            _ => 1,
        }
    }

    /// Whether a part has not begun.
    #[inline]
    pub(super) fn has_more_parts(&self) -> bool {
        self.next_part < self.parts() && self.failure.is_none()
    }

    /// Whether nothing of it is under way, nor will be.
    #[inline]
    pub(super) fn is_done(&self) -> bool {
        self.under_way == 0 && !self.has_more_parts()
    }

    /// Begins the next part: its number, and its first operation, if it needs one.
    #[inline]
    pub(super) fn begin_part(&mut self, place: Where<'_>) -> Option<(u32, FileRole, Action)> {
        while self.has_more_parts() {
            let (part, start) = (self.next_part, self.next_start);
            let range = match self.has_data() {
                true => SectorRange::new(start, self.request.segments[part as usize].sectors),
                false => self.range,
            };
            self.next_part += 1;
            self.next_start = range.end();
            if let Some((file, action)) = self.next_run(part, 0, range, place) {
                self.under_way += 1;
                return Some((part, file, action));
            }
        }
        None
    }

    /// An operation of a part has ended: what comes next of that part, if anything does.
    #[inline]
    pub(super) fn go_on(
        &mut self,
        part: u32,
        ended: Action,
        failure: Option<Box<HostFailure>>,
        place: Where<'_>,
    ) -> Option<(FileRole, Action)> {
        let failed = failure.is_some();
        if self.failure.is_none() {
            self.failure = failure;
        }
        let next = match ended {
            Action::Read { buffer, .. } | Action::Write { buffer, .. } => {
                let done = buffer.part.end;
                let segment = &mut self.request.segments[part as usize];
                segment.data = buffer.data;
                match failed || done >= segment.data.len() {
                    true => None,
                    false => self.after(part, done, place),
                }
            }
            Action::ZeroRange(range) | Action::WriteZeros(range) | Action::PunchHole(range)
                if !failed =>
            {
                self.after_range(range, place)
            }
            _ => None,
        };
        if next.is_none() {
            self.under_way -= 1;
        }
        next
    }

    /// The next run of a segment of which `done` bytes are done.
    fn after(&mut self, part: u32, done: usize, place: Where<'_>) -> Option<(FileRole, Action)> {
        let segments = &self.request.segments;
        let before: u64 = segments[..part as usize].iter().map(|s| s.sectors.0).sum();
        let start = self.range.start + SectorCount(before);
        let whole = SectorRange::new(start, segments[part as usize].sectors);
        let rest = start + Bytes(done as u64).whole_sectors()..whole.end();
        self.next_run(part, done, SectorRange::between(rest), place)
    }

    /// The next run of a request without data, after the one that this range of the file was.
    fn after_range(&mut self, ended: FileRange, place: Where<'_>) -> Option<(FileRole, Action)> {
        let done = self.next_start + ended.len.whole_sectors();
        self.next_start = done;
        let rest = SectorRange::between(done..self.range.end());
        self.next_run(0, 0, rest, place)
    }

    /// The operation for the first run of `range`, whose data is in the segment from `done` on.
    #[inline]
    fn next_run(
        &mut self,
        part: u32,
        done: usize,
        range: SectorRange,
        place: Where<'_>,
    ) -> Option<(FileRole, Action)> {
        if range.is_empty() {
            return None;
        }
        let operation = self.request.operation;
        let run = match operation {
            Operation::Read => read_run(place, range),
            Operation::Write { .. } => write_run(place.placement, range),
            Operation::Discard => {
                return self.next_zeroing(first_dirty(range, place)?, Action::PunchHole);
            }
            Operation::WriteZeroes => {
                return self.next_zeroing(write_run(place.placement, range), Action::ZeroRange);
            }
            Operation::Flush => return None,
        };
        let data = std::mem::take(&mut self.request.segments[part as usize].data);
        let len = (run.range.count.0 * SECTOR_SIZE) as usize;
        let buffer = Buffer {
            data,
            part: done..done + len,
        };
        let at = run.at;
        let action = match operation {
            Operation::Read => Action::Read { at, buffer },
            _ => Action::Write { at, buffer },
        };
        Some((run.role, action))
    }

    /// Zeros or holes over a run. The part after it is found from where the run starts.
    fn next_zeroing(
        &mut self,
        run: Run,
        action: fn(FileRange) -> Action,
    ) -> Option<(FileRole, Action)> {
        self.next_start = run.range.start;
        let range = FileRange::new(run.at, run.range.count.bytes());
        Some((run.role, action(range)))
    }
}

/// The first run of `range` that is in the COW file. A discard punches out what is dirty: a clean
/// sector keeps what the backing file has, because a discard promises nothing, and a set bit would
/// only cost.
fn first_dirty(range: SectorRange, place: Where<'_>) -> Option<Run> {
    let dirty = place.map.next_dirty(range.start, range.end())?;
    Some(write_run(place.placement, dirty))
}
