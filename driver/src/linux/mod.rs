//! Models of Linux's own ubd driver, defects included: what the test bed has to catch.
//!
//! [`LinuxUbd`] has the two halves of the original, and gives one host operation at a time as a
//! value, as the one thread of the original carries one out at a time. With
//! [`Defects::LINUX_6_12`] (or [`Defects::LINUX_2_6`]) it performs the same host operations in the
//! same order as that kernel; with [`Defects::none`] it keeps the promises of any honest disk: a
//! read returns the last acknowledged write, what was flushed survives, statuses are right. Every
//! [`Defect`] is a switch, so that each can be the only one.
//!
//! A request goes down through this folder: `kernel_half` plans it, the `pipe` takes it, and
//! `working` gives one host operation of it after the other, as `host_half` says.
//!
//! Where the kernel would use memory that it does not own, the model has zeros, but for the bytes
//! of [`Defect::MemoryPastTheBitmap`], which are [`FOREIGN_MEMORY`]. Words of the bitmap are 64
//! bits, as on a 64-bit host.
//!
//! Entries of the catalogue that have no switch here:
//! - 11, completion-overrun: completions are values that a step returns, one at a time;
//!   there is no pipe of bytes for a batch of them that could be written in part.
//! - 12 and 23 are not in use.
//! - The half of 22 that is about a change within one second: neither the format nor the
//!   seam to the host has fractions of one.
//! - With the COW file alone named and no readable header, Linux takes the file for a raw
//!   disk. The model has no raw disks, and refuses it.

mod create;
mod defects;
mod error;
mod host_half;
mod kernel_half;
mod layout;
mod open;
mod pipe;
mod working;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::blk::{Completion, HostFailure, Limits, Tag, Zeroing};
use crate::executor::{Executor, Files};
use crate::host::{FileRole, Finished, HostFile, Operation};
use crate::ordered::{CloseError, Statistics};
use crate::read_place::ReadPlace;
use crate::units::{FileOffset, Sector, SectorCount, SectorRange};

pub use create::create;
pub use defects::{Defect, Defects, FOREIGN_MEMORY, UnknownDefect, first_sentence};
pub use error::{Death, LinuxOpenError, MAX_SECTORS};
pub use open::{OpenSpec, bring_up};

use host_half::{HostHalf, Work};
use kernel_half::{KernelHalf, Plan};
use working::Next;

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
}
