//! Carrying operations out on a simulated host side by side. Each takes effect at some moment
//! between its begin and its end, and they end in any order: as the numbers of a seed say, the
//! same each time, or as a list of decisions does.
//!
//! A long write may take effect in two parts. A sync covers what had taken effect when it did so
//! itself, at its begin or at any later moment until its end. A crash can come between any two
//! effects, and so with operations under way of which it leaves all, a part or nothing.

use std::sync::Arc;

use driver::executor::{Died, Executor, Files, Wait};
use driver::host::{Action, Finished, HostFile, HostResult, Operation};
use driver::units::{Bytes, SECTOR_SIZE};

use super::decisions::{Decisions, Event, Footprint};
use super::file::SimFile;
use crate::random::SplitMix64;

/// Operations under way on a simulated host.
#[derive(Debug)]
pub struct SideBySide {
    order: Order,
    most: usize,
    /// How many have begun.
    begun: u32,
    under_way: Vec<(u32, UnderWay)>,
}

/// Who decides on moments and order.
#[derive(Debug)]
enum Order {
    Seed(SplitMix64),
    /// And what comes next, where that has been decided and has not happened.
    Decided(Decisions, Option<usize>),
}

#[derive(Debug)]
enum UnderWay {
    /// It has taken no effect. The file that it is on, and the one that it shares a range of.
    Begun(Operation, [Option<Arc<SimFile>>; 2]),
    /// This many bytes of a write have been written.
    Halved(Operation, Arc<SimFile>, usize),
    /// It has, or has failed, and nobody has been told.
    Effective(Finished),
}

/// What has happened.
#[derive(Debug)]
pub enum Happened {
    /// Nothing: none is under way.
    Nothing,
    /// One has taken effect, or a part of it has.
    Effect,
    /// One has ended.
    End(Finished),
}

/// More are never under way: a device has no more requests, of no more segments.
const MOST_DECIDED: usize = 1 << 16;

impl SideBySide {
    /// At most `most` under way, at least 1; `seed` decides on moments and order.
    pub fn new(seed: u64, most: usize) -> SideBySide {
        SideBySide::of(Order::Seed(SplitMix64(seed)), most.max(1))
    }

    /// All that the device has are under way, and these decide on moments and order.
    pub(crate) fn decided(decisions: Decisions) -> SideBySide {
        SideBySide::of(Order::Decided(decisions, None), MOST_DECIDED)
    }

    fn of(order: Order, most: usize) -> SideBySide {
        SideBySide {
            order,
            most,
            begun: 0,
            under_way: Vec::new(),
        }
    }

    /// Whether the next thing to happen is the end of one, rather than the begin of another.
    pub fn ends_next(&mut self) -> bool {
        let has_room = self.room() > 0;
        match &mut self.order {
            _ if self.under_way.is_empty() => false,
            Order::Seed(choices) => !has_room || choices.below(3) == 0,
            Order::Decided(..) => !has_room,
        }
    }

    /// Whether decisions say when what comes beside the operations happens, too.
    pub(crate) fn is_decided(&self) -> bool {
        matches!(self.order, Order::Decided(..))
    }

    /// Decides whether whoever uses the device goes on, rather than that something happens. It
    /// `acts` if that may ask something of the host itself.
    pub(crate) fn goes_on(&mut self, acts: bool) -> bool {
        let events = self.events();
        let last = events.len();
        let Order::Decided(decisions, next) = &mut self.order else {
            return true;
        };
        let go_on = Event::GoOn { acts };
        let chosen = decisions.choose([events, vec![go_on]].concat());
        *next = (chosen < last).then_some(chosen);
        next.is_none()
    }

    /// Lets something happen, if any is under way.
    pub fn happen(&mut self) -> Happened {
        if self.under_way.is_empty() {
            return Happened::Nothing;
        }
        let events = match self.order {
            Order::Seed(_) => Vec::new(),
            Order::Decided(..) => self.events(),
        };
        match &mut self.order {
            Order::Seed(choices) => {
                if choices.below(2) == 0 {
                    self.let_one_take_effect();
                }
                self.end_one()
            }
            Order::Decided(decisions, next) => {
                let chosen = next.take().unwrap_or_else(|| decisions.choose(events));
                self.go_on_with(chosen)
            }
        }
    }

    /// What may happen next: one event of each that is under way.
    fn events(&self) -> Vec<Event> {
        let all = self.under_way.iter();
        let event = |(number, one): &(u32, UnderWay)| one.event(*number);
        all.map(event).collect()
    }

    fn go_on_with(&mut self, index: usize) -> Happened {
        let (number, one) = self.under_way.remove(index);
        let next = match one {
            UnderWay::Effective(finished) => return Happened::End(finished),
            UnderWay::Begun(operation, [Some(file), _]) if long_write(&operation) > 1 => {
                front_written(operation, file, SECTOR_SIZE)
            }
            one => UnderWay::Effective(one.finished()),
        };
        self.under_way.insert(index, (number, next));
        Happened::Effect
    }

    /// One that is under way, chosen by chance, takes effect.
    fn let_one_take_effect(&mut self) {
        if let Some((number, one)) = self.take_one() {
            let effective = UnderWay::Effective(one.finished());
            self.under_way.push((number, effective));
        }
    }

    /// One that is under way, chosen by chance, ends.
    fn end_one(&mut self) -> Happened {
        match self.take_one() {
            Some((_, one)) => Happened::End(one.finished()),
            None => Happened::Nothing,
        }
    }

    fn take_one(&mut self) -> Option<(u32, UnderWay)> {
        let count = self.under_way.len();
        let index = match &mut self.order {
            _ if count == 0 => return None,
            Order::Seed(choices) => choices.below(count as u64) as usize,
            Order::Decided(..) => 0,
        };
        Some(self.under_way.swap_remove(index))
    }
}

impl UnderWay {
    fn finished(self) -> Finished {
        match self {
            UnderWay::Begun(operation, [file, source]) => {
                operation.carry_out(file.as_deref(), source.as_deref())
            }
            UnderWay::Halved(operation, file, done) => {
                let result = write(&operation, &file, done..usize::MAX);
                Finished { operation, result }
            }
            UnderWay::Effective(finished) => finished,
        }
    }

    fn event(&self, number: u32) -> Event {
        let effect = |operation, part| Event::Effect {
            number,
            part,
            on: Footprint::of(operation),
        };
        match self {
            UnderWay::Begun(operation, _) => effect(operation, 0),
            UnderWay::Halved(operation, ..) => effect(operation, 1),
            UnderWay::Effective(_) => Event::End { number },
        }
    }
}

/// The sectors of an operation if it is a write, which may take effect in two parts; otherwise 0.
fn long_write(operation: &Operation) -> u64 {
    match operation.action {
        Action::Write { .. } => operation.action.range().len.whole_sectors().0,
        _ => 0,
    }
}

/// The first bytes of a write take effect.
fn front_written(operation: Operation, file: Arc<SimFile>, bytes: u64) -> UnderWay {
    match write(&operation, &file, 0..bytes as usize) {
        Ok(()) => UnderWay::Halved(operation, file, bytes as usize),
        Err(error) => UnderWay::Effective(Finished {
            operation,
            result: Err(error),
        }),
    }
}

/// Writes these bytes of a write's buffer, as far as there are any.
fn write(operation: &Operation, file: &SimFile, bytes: std::ops::Range<usize>) -> HostResult<()> {
    let Action::Write { at, buffer } = &operation.action else {
        return Ok(());
    };
    let data = &buffer.data[buffer.part.clone()];
    let bytes = bytes.start.min(data.len())..bytes.end.min(data.len());
    let at = *at + Bytes(bytes.start as u64);
    file.write_all_at(&data[bytes], at)
}

impl Executor<SimFile> for SideBySide {
    /// One at a time, so that something can happen between two begins.
    fn room(&self) -> usize {
        usize::from(self.under_way.len() < self.most)
    }

    fn under_way(&self) -> usize {
        self.under_way.len()
    }

    fn begin(&mut self, operation: Operation, files: &Files<SimFile>) {
        let file = files.of(operation.file).cloned();
        let source = files.source_of(&operation).cloned();
        let sectors = long_write(&operation);
        let begun = match &mut self.order {
            Order::Decided(..) => UnderWay::Begun(operation, [file, source]),
            Order::Seed(choices) => match (choices.below(4), file) {
                (0 | 1, _) => UnderWay::Effective(files.carry_out(operation)),
                (2, Some(file)) if sectors > 1 => {
                    let front = (1 + choices.below(sectors - 1)) * SECTOR_SIZE;
                    front_written(operation, file, front)
                }
                (_, file) => UnderWay::Begun(operation, [file, source]),
            },
        };
        self.under_way.push((self.begun, begun));
        self.begun = self.begun.wrapping_add(1);
    }

    fn finished(&mut self, wait: Wait) -> Result<Option<Finished>, Died> {
        if wait == Wait::No && self.is_decided() {
            return Ok(None);
        }
        if wait == Wait::No {
            if let Order::Seed(choices) = &mut self.order
                && !self.under_way.is_empty()
                && choices.below(2) == 0
            {
                self.let_one_take_effect();
            }
            return Ok(None);
        }
        loop {
            match self.happen() {
                Happened::Nothing => return Ok(None),
                Happened::Effect => {}
                Happened::End(finished) => return Ok(Some(finished)),
            }
        }
    }
}
