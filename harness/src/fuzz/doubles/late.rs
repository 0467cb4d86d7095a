//! Operations that a device takes for ended, and that are not: what doubles have in common that
//! lose sight of what is under way.

use std::collections::VecDeque;

use driver::executor::{Executor, Files};
use driver::host::{Action, FileRole, Finished, Operation, Waiter};
use driver::units::FileRange;

use crate::sim::{Happened, SideBySide, SimFile};

/// Such an operation is carried out again as often as this if it fails: nobody would be told.
const TRIES: u32 = 4;

/// Operations that have been told as ended, and those that wait for them.
#[derive(Debug, Default)]
pub(super) struct Late {
    to_tell: VecDeque<Finished>,
    /// Told as ended, and not begun.
    held: Vec<(Operation, Files<SimFile>)>,
    /// Told as ended, and begun.
    begun: Vec<ToldEarly>,
    /// Not told, and not begun.
    waiting: VecDeque<(Operation, Files<SimFile>)>,
    count: u64,
}

#[derive(Debug)]
struct ToldEarly {
    waiter: Waiter,
    file: FileRole,
    range: FileRange,
    files: Files<SimFile>,
    tries: u32,
}

/// The waiter of such an operation. No device has as many requests as these numbers stand for.
fn own(number: u64) -> Waiter {
    Waiter(u64::MAX / 2 + number)
}

impl Late {
    /// Whether the device is to be told of an end.
    pub(super) fn has_news(&self) -> bool {
        !self.to_tell.is_empty()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.begun.is_empty()
    }

    /// Tells the device that this operation has ended, and holds it back.
    pub(super) fn tell(&mut self, mut operation: Operation, files: &Files<SimFile>) {
        let told = operation.clone();
        self.to_tell.push_back(Finished {
            operation: told,
            result: Ok(()),
        });
        operation.waiter = own(self.count);
        self.count += 1;
        self.held.push((operation, files.clone()));
    }

    /// Tells the device that this operation has ended, and never carries it out.
    pub(super) fn drop_it(&mut self, operation: Operation) {
        self.to_tell.push_back(Finished {
            operation,
            result: Ok(()),
        });
    }

    /// Whether an operation is about the same bytes as one of these.
    pub(super) fn overlaps(&self, operation: &Operation) -> bool {
        let range = operation.action.range();
        let held = self.held.iter();
        let held = held.map(|(held, _)| (held.file, held.action.range()));
        let begun = self.begun.iter().map(|begun| (begun.file, begun.range));
        let mut all = held.chain(begun);
        all.any(|(file, other)| file == operation.file && range.overlaps(other))
    }

    /// Whether an operation, which is a sync perhaps, would have to come after these.
    pub(super) fn concerns(&self, operation: &Operation) -> bool {
        let syncs = operation.action == Action::SyncData && !self.is_empty();
        syncs || self.overlaps(operation)
    }

    /// Begins what has been held back.
    pub(super) fn release(&mut self, under_way: &mut SideBySide) {
        for (operation, files) in self.held.drain(..) {
            self.begun.push(ToldEarly {
                waiter: operation.waiter,
                file: operation.file,
                range: operation.action.range(),
                files: files.clone(),
                tries: TRIES,
            });
            under_way.begin(operation, &files);
        }
    }

    /// Begins this one when all of these have ended.
    pub(super) fn wait(
        &mut self,
        operation: Operation,
        files: &Files<SimFile>,
        under_way: &mut SideBySide,
    ) {
        self.release(under_way);
        self.waiting.push_back((operation, files.clone()));
    }

    /// Lets something happen. What is held back begins when nothing else can.
    pub(super) fn happen(&mut self, under_way: &mut SideBySide) -> Happened {
        loop {
            match self.happen_unless_held(under_way) {
                Happened::Nothing if !self.held.is_empty() => self.release(under_way),
                happened => return happened,
            }
        }
    }

    /// Lets something happen that is not held back.
    pub(super) fn happen_unless_held(&mut self, under_way: &mut SideBySide) -> Happened {
        if let Some(told) = self.to_tell.pop_front() {
            return Happened::End(told);
        }
        if self.begun.is_empty() {
            for (operation, files) in self.waiting.drain(..) {
                under_way.begin(operation, &files);
            }
        }
        let finished = match under_way.happen() {
            Happened::End(finished) => finished,
            happened => return happened,
        };
        let waiter = finished.operation.waiter;
        let of = |begun: &ToldEarly| begun.waiter == waiter;
        let Some(index) = self.begun.iter().position(of) else {
            return Happened::End(finished);
        };
        let begun = &mut self.begun[index];
        if finished.result.is_err() && begun.tries > 0 {
            begun.tries -= 1;
            under_way.begin(finished.operation, &begun.files);
        } else {
            self.begun.remove(index);
        }
        Happened::Effect
    }
}
