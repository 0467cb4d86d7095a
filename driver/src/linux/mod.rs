//! Models of Linux's own ubd driver, defects included: what the test bed has to catch.
//!
//! [`LinuxUbd`] has the two halves of the original, and gives one host operation at a time as a
//! value, as the one thread of the original carries one out at a time. With
//! [`Defects::LINUX_6_12`] (or [`Defects::LINUX_2_6`]) it performs the same host operations in the
//! same order as that kernel; with [`Defects::none`] it keeps the promises of any honest disk: a
//! read returns the last acknowledged write, what was flushed survives, statuses are right. Every
//! [`Defect`] is a switch, so that each can be the only one.
//!
//! Where the kernel would use memory that it does not own, the model has zeros. Words of the
//! bitmap are 64 bits, as on a 64-bit host.
//!
//! Entries of the catalogue that have no switch here:
//! - 11, completion-overrun: completions are values that a step returns, one at a time;
//!   there is no pipe of bytes for a batch of them that could be written in part.
//! - 12 and 23 are not in use.
//! - The half of 22 that is about a change within one second: neither the format nor the
//!   seam to the host has fractions of one.
//! - 27, memory-past-the-bitmap: two whole words are written where the bitmap ends within one. Up
//!   to seven bytes of the kernel's memory go to the file with them, into the gap before the data.
//!   Seen on 6.1: they were a guest's data. Nobody reads them there. The model has zeros.
//! - With the COW file alone named and no readable header, Linux takes the file for a raw
//!   disk. The model has no raw disks, and refuses it.

mod create;
mod defects;
mod error;
mod host_half;
mod kernel_half;
mod layout;
mod open;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::blk::{self, Completion, HostFailure, Limits, Request, Status, Tag, Zeroing};
use crate::executor::{Executor, Files};
use crate::host::{Action, FileRole, Finished, HostFile, Operation, Waiter};
use crate::ordered::{CloseError, Statistics};
use crate::read_place::ReadPlace;
use crate::units::{FileOffset, Sector, SectorCount, SectorRange};

pub use create::create;
pub use defects::{Defect, Defects, UnknownDefect, first_sentence};
pub use error::{Death, LinuxOpenError, MAX_SECTORS};
pub use open::{OpenSpec, bring_up};

use host_half::{AskedOfHost, Failed, FailedPart, HostHalf, Work};
use kernel_half::{KernelHalf, Plan, PlannedSegment};

/// Whose driver is modelled: its limits, and whether it knows discards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kernel {
    /// Linux 5.11 to 6.12: [`Limits::LINUX_6_12`].
    Linux6_12,
    /// Linux 2.6.0: [`Limits::LINUX_2_6`].
    Linux2_6,
}

/// What one step came to: at most one host operation was done.
pub type Step = crate::step::Step<Death>;

/// A device run by a model of Linux's driver.
#[derive(Debug)]
pub struct LinuxUbd<F> {
    files: Files<F>,
    kernel_half: KernelHalf,
    host_half: HostHalf,
    /// The pipe between the halves.
    pipe: VecDeque<Plan>,
    pipe_capacity: usize,
    work: Option<Work>,
    /// For requests that went down the pipe in part: how many segments did.
    handed_over: BTreeMap<Tag, usize>,
    death: Option<Death>,
    /// The number of the latest host operation.
    operations: u64,
    /// That operation has not ended.
    under_way: bool,
    /// Completions that no step has returned.
    completed: VecDeque<Completion>,
    closing: Option<Closing>,
    statistics: Statistics,
}

/// A device that is being closed.
#[derive(Clone, Debug)]
enum Closing {
    /// What it syncs at last.
    Syncs(FileRole),
    /// All is done, or has failed.
    Ended(Option<HostFailure>),
}

/// What the next piece of work is.
enum Next {
    Idle,
    /// A host operation has to be carried out.
    Operation(Operation),
    /// It needed no host operation, and was this.
    Done(Step),
}

impl<F: HostFile> LinuxUbd<F> {
    fn of(
        files: Files<F>,
        kernel_half: KernelHalf,
        host_half: HostHalf,
        pipe_capacity: usize,
    ) -> LinuxUbd<F> {
        LinuxUbd {
            files,
            kernel_half,
            host_half,
            pipe: VecDeque::new(),
            pipe_capacity: pipe_capacity.max(1),
            work: None,
            handed_over: BTreeMap::new(),
            death: None,
            operations: 0,
            under_way: false,
            completed: VecDeque::new(),
            closing: None,
            statistics: Statistics::default(),
        }
    }

    /// The limits that a request has to keep.
    pub fn limits(&self) -> Limits {
        self.kernel_half.limits
    }

    /// What it does with discards and writes of zeros: Linux 2.6.0 had neither.
    pub fn zeroing(&self) -> Zeroing {
        match self.kernel_half.kernel {
            Kernel::Linux2_6 => Zeroing::Neither,
            Kernel::Linux6_12 => Zeroing::AsHost,
        }
    }

    /// The sectors that the device offers.
    pub fn capacity(&self) -> SectorCount {
        self.kernel_half.end - Sector(0)
    }

    /// The sectors that can be written, from the first on: all, but where a V1 or V2 bitmap
    /// is short.
    pub fn writable(&self) -> SectorCount {
        self.kernel_half.writable_end - Sector(0)
    }

    /// The defects that it has.
    pub fn defects(&self) -> Defects {
        self.kernel_half.defects
    }

    /// Whether the bitmap in memory has a sector in the COW file, a write in flight included.
    /// A sector past the device's end is nowhere.
    pub fn is_dirty(&self, sector: Sector) -> bool {
        sector < self.kernel_half.end && self.kernel_half.is_dirty(sector.0)
    }

    /// How many sectors the bitmap in memory has in the COW file.
    pub fn dirty_count(&self) -> SectorCount {
        self.kernel_half.dirty
    }

    /// The open COW file.
    pub fn cow(&self) -> &F {
        &self.files.cow
    }

    /// Where the sectors from the start of `range` on, which is not empty and lies within the
    /// device, would be read now: as many of them as their bits say the same of. No file has
    /// the place if it is one that the host refuses.
    pub fn read_place(&self, range: SectorRange) -> ReadPlace<'_, F> {
        let KernelHalf { layout, .. } = &self.kernel_half;
        let sectors = self.kernel_half.alike(range);
        let (role, base) = match self.is_dirty(range.start) {
            true => (FileRole::Cow, layout.data_offset),
            false => (FileRole::Backing, 0),
        };
        let at = layout::position(base.wrapping_add(range.start.bytes().0));
        let file = self.files.of(role).filter(|_| at.is_ok());
        ReadPlace {
            role,
            file: file.map(Arc::as_ref),
            at: at.unwrap_or(FileOffset(0)),
            sectors,
        }
    }

    /// What the kernel died of.
    pub fn death(&self) -> Option<Death> {
        self.death
    }

    /// Requests that were submitted and are not completed.
    pub fn in_flight(&self) -> usize {
        let working = self.work.as_ref().map(|work| &work.plan);
        let plans = self.pipe.iter().chain(working);
        plans.filter(|plan| !plan.orphan).count()
    }

    /// Whether another request can be in flight. The pipe may be full nevertheless.
    pub fn has_room(&self) -> bool {
        self.in_flight() < self.kernel_half.limits.queue_depth
    }

    /// Submits a request: plans it against the bitmap as it is now, and puts it into the
    /// pipe. One that the device cannot have completes with an error, in its turn.
    ///
    /// # Errors
    /// The request itself: too many are in flight, or the pipe is full; step, and submit it
    /// again. (The tag tells that it is the same.) Or the kernel is dead.
    pub fn submit(&mut self, request: Request) -> Result<(), Request> {
        if self.death.is_some() || !self.has_room() {
            return Err(request);
        }
        if let Err(status) = self.kernel_half.check(&request) {
            self.pipe.push_back(Plan {
                request,
                segments: Vec::new(),
                refused: Some(status),
                orphan: false,
            });
            return Ok(());
        }
        let segments = match self.kernel_half.plan(&request) {
            Ok(segments) => segments,
            Err(death) => {
                self.death = Some(death);
                return Err(request);
            }
        };
        let plan = Plan {
            request,
            segments,
            refused: None,
            orphan: false,
        };
        if self.partly() {
            return self.hand_over_in_parts(plan);
        }
        if self.pipe.len() >= self.pipe_capacity {
            return Err(self.requeue(plan));
        }
        self.pipe.push_back(plan);
        Ok(())
    }

    fn partly(&self) -> bool {
        let defects = self.kernel_half.defects;
        defects.contains(Defect::PartialRequeueDuplicates)
    }

    /// The pipe had no room: the block layer will submit the request again.
    fn requeue(&mut self, mut plan: Plan) -> Request {
        let defects = self.kernel_half.defects;
        if !defects.contains(Defect::RequeueLosesBitmap) {
            self.kernel_half.take_back(&mut plan.segments);
        }
        plan.request
    }

    /// Each segment goes down the pipe by itself, as far as there is room.
    fn hand_over_in_parts(&mut self, mut plan: Plan) -> Result<(), Request> {
        let taken: usize = self
            .pipe
            .iter()
            .map(|plan| plan.segments.len().max(1))
            .sum();
        let room = self.pipe_capacity.saturating_sub(taken);
        let needed = plan.segments.len().max(1);
        let early = self
            .handed_over
            .get(&plan.request.tag)
            .copied()
            .unwrap_or(0);
        if room < needed && early < needed {
            let behind = plan.segments.split_off(room.min(plan.segments.len()));
            let (tag, parts) = (plan.request.tag, plan.segments.len());
            if parts > 0 {
                *self.handed_over.entry(tag).or_insert(0) += parts;
                let front = std::mem::replace(&mut plan.segments, behind);
                let request = plan.request.clone();
                self.pipe.push_back(orphan(request, front));
            } else {
                plan.segments = behind;
            }
            return Err(self.requeue(plan));
        }
        self.handed_over.remove(&plan.request.tag);
        // The parts that were handed over before count as if this submission had made them. The
        // request completes with up to `early` segments still to be done; the thread does those
        // afterwards.
        let awaited = plan.segments.len() - early.min(plan.segments.len());
        let late = plan.segments.split_off(awaited);
        let rest = (!late.is_empty()).then(|| orphan(plan.request.clone(), late));
        self.pipe.push_back(plan);
        self.pipe.extend(rest);
        Ok(())
    }

    /// A copy of what it knows, to learn what it would ask of its host for a request. The device
    /// has the same files. So none of the copy's operations is to be carried out on them.
    pub fn forecast(&self) -> LinuxUbd<F> {
        LinuxUbd {
            files: self.files.clone(),
            kernel_half: self.kernel_half.clone(),
            host_half: self.host_half.clone(),
            pipe: self.pipe.clone(),
            pipe_capacity: self.pipe_capacity,
            work: self.work.clone(),
            handed_over: self.handed_over.clone(),
            death: self.death,
            operations: self.operations,
            under_way: self.under_way,
            completed: self.completed.clone(),
            closing: self.closing.clone(),
            statistics: self.statistics,
        }
    }

    /// Whether there is something in the pipe, or being carried out.
    pub fn is_busy(&self) -> bool {
        self.work.is_some() || !self.pipe.is_empty()
    }

    /// What the device has done so far.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Does one host operation, or completes a request that needs none. Requests are carried
    /// out in the order of submission. Nothing is done while an operation is under way that
    /// [`LinuxUbd::next_operation`] gave.
    pub fn step(&mut self) -> Step {
        if let Some(completion) = self.completed.pop_front() {
            return Step::Completed(completion);
        }
        if let Some(death) = self.death {
            return Step::Died(death);
        }
        match self.next() {
            Next::Idle => Step::Idle,
            Next::Done(step) => step,
            Next::Operation(operation) => {
                let finished = self.carry_out(operation);
                self.ended(finished)
            }
        }
    }

    /// The next host operation, if none is under way: there is one at a time. While a request is
    /// complete and [`LinuxUbd::next_completion`] has not given it, none begins.
    pub fn next_operation(&mut self) -> Option<Operation> {
        while self.completed.is_empty() && self.death.is_none() {
            match self.next() {
                Next::Idle => return None,
                Next::Operation(operation) => return Some(operation),
                Next::Done(step) => self.note(step),
            }
        }
        None
    }

    /// Takes note of how the operation under way has ended.
    pub fn finish(&mut self, finished: Finished) {
        let step = self.ended(finished);
        self.note(step);
    }

    /// The next completion, if a request is complete.
    pub fn next_completion(&mut self) -> Option<Completion> {
        self.completed.pop_front()
    }

    /// Begins the next host operation on `executor`, if it has room.
    pub fn begin_on(&mut self, executor: &mut (impl Executor<F> + ?Sized)) {
        if executor.room() > 0
            && let Some(operation) = self.next_operation()
        {
            executor.begin(operation, &self.files);
        }
    }

    fn note(&mut self, step: Step) {
        if let Step::Completed(completion) = step {
            self.completed.push_back(completion);
        }
    }

    fn carry_out(&self, operation: Operation) -> Finished {
        self.files.carry_out(operation)
    }

    fn next(&mut self) -> Next {
        if self.under_way {
            return Next::Idle;
        }
        if let Some(closing) = &self.closing {
            return match *closing {
                Closing::Ended(_) => Next::Idle,
                Closing::Syncs(role) => match self.host_half.sync(role) {
                    Ok(asked) => Next::Operation(self.operation(asked)),
                    Err(failed) => {
                        self.closing = Some(Closing::Ended(Some(failed.failure)));
                        Next::Idle
                    }
                },
            };
        }
        let mut work = match self.work.take() {
            Some(work) => work,
            None => match self.pipe.pop_front() {
                Some(plan) => self.host_half.begin(plan),
                None => return Next::Idle,
            },
        };
        if !work.is_done() {
            match self.host_half.next(&mut work) {
                Ok(Some(asked)) => {
                    self.work = Some(work);
                    return Next::Operation(self.operation(asked));
                }
                Ok(None) => {}
                Err(failed) => return Next::Done(self.fail(work, failed)),
            }
        }
        Next::Done(self.go_on(work))
    }

    fn operation(&mut self, (file, action): AskedOfHost) -> Operation {
        self.operations += 1;
        self.under_way = true;
        let publishes = self.work.as_ref().is_some_and(Work::writes_words);
        self.statistics.bitmap_writes += u64::from(publishes);
        let syncs = file == FileRole::Cow && action == Action::SyncData;
        self.statistics.syncs += u64::from(syncs);
        Operation {
            waiter: Waiter(self.operations),
            file,
            action,
        }
    }

    fn ended(&mut self, finished: Finished) -> Step {
        let Finished { operation, result } = finished;
        // The device may have begun to close meanwhile.
        if !self.under_way || operation.waiter != Waiter(self.operations) {
            return Step::Working;
        }
        self.under_way = false;
        if let Some(Closing::Syncs(role)) = self.closing {
            let synced = self.host_half.synced(role, result);
            self.closing = Some(Closing::Ended(synced.err().map(|failed| failed.failure)));
            return Step::Working;
        }
        let Some(mut work) = self.work.take() else {
            return Step::Working;
        };
        match self.host_half.ended(&mut work, operation.action, result) {
            Ok(()) => self.go_on(work),
            Err(failed) => self.fail(work, failed),
        }
    }

    /// Goes on with work of which a part is done.
    fn go_on(&mut self, work: Work) -> Step {
        if !work.is_done() {
            self.work = Some(work);
            return Step::Working;
        }
        let status = work.plan.refused.unwrap_or(Status::Ok);
        self.complete(work.plan, status, None)
    }

    /// Ends a request that failed; what of its bits stays set is a matter of defects.
    fn fail(&mut self, work: Work, failed: Failed) -> Step {
        let Work {
            mut plan, segment, ..
        } = work;
        let defects = self.kernel_half.defects;
        let after_data = match plan.request.operation {
            blk::Operation::Discard => defects.contains(Defect::FailedDiscardLeavesBits),
            _ => defects.contains(Defect::ErrorLeavesBit),
        };
        let here = match failed.what {
            FailedPart::Data => after_data,
            FailedPart::Bitmap => defects.contains(Defect::BitmapWriteNeverRetried),
            FailedPart::Sync => false,
        };
        for (index, planned) in plan.segments.iter_mut().enumerate() {
            // Of the segments after it, none was begun.
            let stays = if index == segment { here } else { after_data };
            if stays {
                planned.fresh = 0;
            }
        }
        self.take_back(&mut plan.segments);
        let status = Status::from(&failed.failure.error);
        self.complete(plan, status, Some(Box::new(failed.failure)))
    }

    /// Clears bits that were set too early, and plans again what was planned with them.
    fn take_back(&mut self, segments: &mut [PlannedSegment]) {
        if segments.iter().all(|segment| segment.fresh == 0) {
            return;
        }
        self.kernel_half.take_back(segments);
        for plan in &mut self.pipe {
            self.kernel_half.take_back(&mut plan.segments);
        }
        for plan in &mut self.pipe {
            self.kernel_half.plan_again(plan);
        }
    }

    /// From now on nothing is carried out but the sync of what a flush syncs (with
    /// [`Defect::FlushNoop`], as in Linux, nothing). Requests in flight are dropped, never
    /// acknowledged.
    pub fn begin_closing(&mut self) {
        if self.closing.is_some() {
            return;
        }
        self.pipe.clear();
        self.work = None;
        self.under_way = false;
        self.closing = Some(match self.host_half.flushed_file() {
            Some(role) => Closing::Syncs(role),
            None => Closing::Ended(None),
        });
    }

    /// Closes the device ([`LinuxUbd::begin_closing`]), carries out what is left of that, and gives
    /// the files back.
    ///
    /// # Errors
    /// [`CloseError::Busy`] while a host operation is under way: a sync would not cover it. The
    /// sync's failure now; an I/O error on the COW file if one of it failed before.
    pub fn close(mut self) -> Result<Files<F>, CloseError> {
        if self.under_way {
            return Err(CloseError::Busy);
        }
        self.begin_closing();
        while let Next::Operation(operation) = self.next() {
            let finished = self.carry_out(operation);
            self.ended(finished);
        }
        match self.closing {
            Some(Closing::Ended(Some(failure))) => Err(CloseError::Host(failure)),
            _ => Ok(self.files),
        }
    }

    fn complete(&mut self, plan: Plan, status: Status, failure: Option<Box<HostFailure>>) -> Step {
        if plan.orphan {
            return Step::Working;
        }
        self.statistics.requests += 1;
        Step::Completed(Completion {
            request: plan.request,
            status,
            failure,
        })
    }
}

fn orphan(request: Request, segments: Vec<PlannedSegment>) -> Plan {
    Plan {
        request,
        segments,
        refused: None,
        orphan: true,
    }
}
