//! The requests that a device has been given and has not completed, and which of them may begin.
//!
//! Requests whose sectors overlap keep the order of their submission where one of them changes
//! something. All others go on side by side: one that has to wait, for an overlap or for a
//! relocation, keeps back only those that overlap with it. A flush overlaps with nothing.

use std::collections::VecDeque;

use crate::blk::{Operation, Request};
use crate::units::SectorRange;

use super::Hold;
use super::begun::{Begun, Slot};
use super::occupied::Occupied;

/// A request that has not begun.
#[derive(Debug)]
struct Waiting {
    request: Request,
    range: SectorRange,
}

/// Requests in the order of their submission, and those that have begun.
#[derive(Debug)]
pub(super) struct InOrder {
    waiting: VecDeque<Waiting>,
    begun: Vec<Option<Begun>>,
    free: Vec<Slot>,
    /// The sectors that are being read.
    reading: Occupied,
    /// The sectors that are being changed.
    changing: Occupied,
    /// None of those that wait may begin until something else happens.
    stalled: bool,
}

impl InOrder {
    pub(super) fn with_capacity(depth: usize) -> InOrder {
        InOrder {
            waiting: VecDeque::with_capacity(depth),
            begun: Vec::with_capacity(depth),
            free: Vec::with_capacity(depth),
            reading: Occupied::with_capacity(depth),
            changing: Occupied::with_capacity(depth),
            stalled: false,
        }
    }

    /// How many have begun and are not completed.
    pub(super) fn begun_count(&self) -> usize {
        self.begun.len() - self.free.len()
    }

    /// How many have not begun.
    #[inline]
    pub(super) fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// How many there are in all.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.begun_count()
    }

    #[inline]
    pub(super) fn submit(&mut self, request: Request) {
        let range = request.range();
        // One past every end is refused when it begins, and overlaps with nothing.
        let range = match range.start.0.checked_add(range.count.0) {
            Some(_) => range,
            None => SectorRange::default(),
        };
        self.waiting.push_back(Waiting { request, range });
        self.stalled = false;
    }

    /// Forgets those that have not begun.
    pub(super) fn forget_waiting(&mut self) {
        self.waiting.clear();
    }

    /// Something has ended or changed for which one that waits may have waited.
    pub(super) fn look_again(&mut self) {
        self.stalled = false;
    }

    /// Takes the first request that may begin.
    #[inline]
    pub(super) fn next(&mut self, hold: Hold) -> Option<Request> {
        if self.stalled {
            return None;
        }
        for index in 0..self.waiting.len() {
            if self.may_begin(index, hold) {
                let taken = match index {
                    0 => self.waiting.pop_front(),
                    _ => self.waiting.remove(index),
                };
                return taken.map(|waiting| waiting.request);
            }
        }
        self.stalled = true;
        None
    }

    /// Takes the first request, if `is_wanted`. Nothing has begun, and so nothing keeps it back.
    #[inline]
    pub(super) fn take_first(&mut self, is_wanted: impl Fn(Operation) -> bool) -> Option<Request> {
        let first = self.waiting.front()?;
        match is_wanted(first.request.operation) {
            true => self.waiting.pop_front().map(|waiting| waiting.request),
            false => None,
        }
    }

    #[inline]
    fn may_begin(&self, index: usize, hold: Hold) -> bool {
        let Waiting { request, range } = &self.waiting[index];
        if hold.blocks(request.operation, *range) {
            return false;
        }
        if request.operation == Operation::Flush {
            return true;
        }
        let changes = request.operation.is_change();
        if self.changing.overlaps(*range) || changes && self.reading.overlaps(*range) {
            return false;
        }
        // Every one before it has to wait itself.
        let mut before = self.waiting.range(..index);
        !before.any(|before| {
            (changes || before.request.operation.is_change()) && range.overlaps(before.range)
        })
    }

    /// Gives a request that begins its place.
    #[inline]
    pub(super) fn begin(&mut self, begun: Begun) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.begun.push(None);
            (self.begun.len() - 1) as Slot
        });
        match begun.changes() {
            true => self.changing.put(slot, begun.range),
            false => self.reading.put(slot, begun.range),
        }
        self.begun[slot as usize] = Some(begun);
        slot
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Begun> {
        self.begun.get_mut(slot as usize)?.as_mut()
    }

    /// What the request does to its sectors has taken effect: it keeps nobody back any more,
    /// though it is not completed.
    #[inline]
    pub(super) fn took_effect(&mut self, slot: Slot) {
        if let Some(begun) = self.begun.get_mut(slot as usize).and_then(Option::as_mut)
            && begun.take_effect()
        {
            match begun.changes() {
                true => self.changing.remove(slot),
                false => self.reading.remove(slot),
            }
            self.stalled = false;
        }
    }

    /// Takes a request away that is completed.
    #[inline]
    pub(super) fn end(&mut self, slot: Slot) -> Option<Begun> {
        self.took_effect(slot);
        let ended = self.begun.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(ended)
    }

    /// The requests that have begun and have not taken effect.
    pub(super) fn busy(&self) -> impl Iterator<Item = &Begun> {
        let begun = self.begun.iter().flatten();
        begun.filter(|begun| begun.keeps_back())
    }
}
