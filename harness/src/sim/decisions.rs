//! An order of what goes side by side, as a list of decisions: what could happen next, each time,
//! and what of it did. A case that gives the list repeats the order; a search that looks at what
//! else could have happened finds all of them.
//!
//! Two events *commute* if whichever comes first, the device does the same afterwards, the host
//! holds the same, and every image that a crash between the two can leave is also left by a crash
//! before or after both. Orders that differ only in such neighbours show the same, and the search
//! runs one of them.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::rc::Rc;

use driver::host::{FileRole, Operation, OperationKind};
use driver::units::FileRange;

/// What an operation asks for, on which bytes of which file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footprint {
    file: FileRole,
    kind: OperationKind,
    range: FileRange,
}

impl Footprint {
    pub(super) fn of(operation: &Operation) -> Footprint {
        Footprint {
            file: operation.file,
            kind: operation.action.kind(),
            range: operation.action.range(),
        }
    }

    /// Whether it commutes with what does not overlap it. What is about the whole file, or about
    /// two of them, commutes with nothing. A sync commutes with whatever changes nothing.
    fn is_bounded(self) -> bool {
        use OperationKind::{PunchHole, Read, SyncData, Write, ZeroRange};
        matches!(self.kind, Read | Write | ZeroRange | PunchHole | SyncData)
    }

    fn commutes_with(self, other: Footprint) -> bool {
        use OperationKind::{Read, SyncData};
        match (self.kind, other.kind) {
            _ if !self.is_bounded() || !other.is_bounded() => false,
            _ if self.file != other.file => true,
            (Read | SyncData, Read | SyncData) => true,
            // What a sync covers is what has been changed before it.
            (SyncData, _) | (_, SyncData) => false,
            _ => !self.range.overlaps(other.range),
        }
    }
}

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Whoever uses the device does what comes next.
    GoOn {
        /// That is more than submitting a request: it may ask something of the host itself.
        acts: bool,
    },
    /// An operation takes effect, or a part of it does.
    Effect {
        /// The number of the operation, in the order of their beginnings.
        number: u32,
        /// Which part, counted from 0.
        part: u8,
        /// On what.
        on: Footprint,
    },
    /// The device is told that an operation has ended.
    End {
        /// Its number.
        number: u32,
    },
}

impl Event {
    /// Whether the order of two events that may both come next makes no difference.
    fn commutes_with(self, other: Event) -> bool {
        match (self, other) {
            (
                Event::Effect { number, on, .. },
                Event::Effect {
                    number: other,
                    on: beside,
                    ..
                },
            ) => number != other && on.commutes_with(beside),
            // What is acknowledged before a sync takes effect has more to lose in a crash.
            (Event::Effect { number, on, .. }, Event::End { number: other })
            | (Event::End { number: other }, Event::Effect { number, on, .. }) => {
                number != other && on.kind != OperationKind::SyncData
            }
            (Event::Effect { .. }, Event::GoOn { acts })
            | (Event::GoOn { acts }, Event::Effect { .. }) => !acts,
            // Both reach the device.
            _ => false,
        }
    }
}

/// One decision.
#[derive(Clone, Debug)]
pub(crate) struct Decision {
    /// What could have happened.
    events: Vec<Event>,
    /// Those of them that lead to nothing which another order does not show.
    asleep: Vec<Event>,
    /// Those whose orders were run before.
    done: Vec<Event>,
    /// What happened, counted among the events from 0.
    chosen: usize,
}

impl Decision {
    /// What is asleep after it.
    fn asleep_after(&self) -> Vec<Event> {
        let event = self.events[self.chosen];
        let known = self.asleep.iter().chain(&self.done);
        let asleep = known.filter(|other| other.commutes_with(event));
        asleep.copied().collect()
    }
}

/// Who decides, in one run. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decisions(Rc<RefCell<Script>>);

#[derive(Debug, Default)]
struct Script {
    /// What is decided beforehand, as in [`Decision::chosen`].
    given: Vec<usize>,
    /// What is asleep after that.
    asleep_after_given: Vec<Event>,
    made: Vec<Decision>,
    asleep: Vec<Event>,
    /// Another order shows all that comes.
    is_in_vain: bool,
}

impl Decisions {
    /// These come first, each counted among what can happen then, where a number past the last of
    /// that counts as the last. After them, the first of what can happen does.
    pub(crate) fn given(choices: &[u16]) -> Decisions {
        let given = choices.iter().map(|&chosen| chosen.into()).collect();
        Decisions::of(given, Vec::new())
    }

    fn of(given: Vec<usize>, asleep_after_given: Vec<Event>) -> Decisions {
        Decisions(Rc::new(RefCell::new(Script {
            given,
            asleep_after_given,
            ..Script::default()
        })))
    }

    /// Decides which of these events comes next; there is at least one.
    pub(super) fn choose(&self, events: Vec<Event>) -> usize {
        self.0.borrow_mut().choose(events)
    }

    /// How many decisions have been made.
    pub(crate) fn made(&self) -> usize {
        self.0.borrow().made.len()
    }

    /// Whether another order shows all that comes.
    pub(crate) fn is_in_vain(&self) -> bool {
        self.0.borrow().is_in_vain
    }

    /// What was decided.
    pub(crate) fn choices(&self) -> Vec<u16> {
        let made = &self.0.borrow().made;
        made.iter().map(|decision| decision.chosen as u16).collect()
    }
}

impl Script {
    fn choose(&mut self, events: Vec<Event>) -> usize {
        let mut all = events.iter();
        let chosen = match self.given.get(self.made.len()) {
            Some(&chosen) => chosen.min(events.len() - 1),
            None => {
                let awake = all.position(|event| !self.asleep.contains(event));
                self.is_in_vain |= awake.is_none();
                awake.unwrap_or(0)
            }
        };
        if self.is_in_vain {
            return chosen;
        }
        let decision = Decision {
            asleep: std::mem::take(&mut self.asleep),
            done: Vec::new(),
            chosen,
            events,
        };
        let number = self.made.len() + 1;
        self.asleep = match number.cmp(&self.given.len()) {
            // Whoever gave these has run what lies beside them.
            Ordering::Less => Vec::new(),
            Ordering::Equal => std::mem::take(&mut self.asleep_after_given),
            Ordering::Greater => decision.asleep_after(),
        };
        self.made.push(decision);
        chosen
    }
}

/// All orders, one after the other: a search in depth that keeps nothing but the decisions of the
/// last run. Sleep sets keep it from running two orders that show the same (Godefroid, *Partial-
/// Order Methods for the Verification of Concurrent Systems*, 1996).
#[derive(Debug)]
pub(crate) struct Search {
    reduces: bool,
    path: Vec<Decision>,
    is_over: bool,
}

impl Search {
    /// Through all orders; or, where it `reduces`, through one of those that show the same.
    pub(crate) fn new(reduces: bool) -> Search {
        Search {
            reduces,
            path: Vec::new(),
            is_over: false,
        }
    }

    /// Who decides in the next run. `None` if all orders have been run.
    pub(crate) fn next(&self) -> Option<Decisions> {
        let given = self.path.iter().map(|decision| decision.chosen).collect();
        let last = self.path.last();
        let asleep = last.map_or(Vec::new(), Decision::asleep_after);
        (!self.is_over).then(|| Decisions::of(given, asleep))
    }

    /// What comes after as many decisions is new in the next run; `None` if all of it is.
    pub(crate) fn known(&self) -> Option<usize> {
        self.path.len().checked_sub(1)
    }

    /// Takes note of the run that [`Search::next`] was for.
    pub(crate) fn ran(&mut self, decisions: &Decisions) {
        let made = std::mem::take(&mut decisions.0.borrow_mut().made);
        let new = made.into_iter().skip(self.path.len());
        self.path.extend(new);
        while let Some(last) = self.path.last_mut() {
            if self.reduces {
                last.done.push(last.events[last.chosen]);
            }
            let tried = last.chosen + 1;
            let mut left = last.events[tried..].iter();
            if let Some(next) = left.position(|event| !last.asleep.contains(event)) {
                last.chosen = tried + next;
                return;
            }
            self.path.pop();
        }
        self.is_over = true;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use driver::host::{Action, Buffer, Waiter};
    use driver::units::{Bytes, FileOffset};

    use super::*;

    fn footprint(action: Action) -> Footprint {
        Footprint::of(&Operation {
            waiter: Waiter(0),
            file: FileRole::Cow,
            action,
        })
    }

    fn write(at: u64) -> Footprint {
        let buffer = Buffer::whole(vec![0; 512]);
        let at = FileOffset(at);
        footprint(Action::Write { at, buffer })
    }

    /// Runs operations that do this, each of which takes effect and then ends, in all orders; how
    /// many were run, how many of them in vain, and the orders of those effects that do not
    /// commute.
    fn all(search: &mut Search, operations: &[Footprint]) -> (u64, u64, BTreeSet<Vec<u32>>) {
        let (mut run, mut vain, mut seen) = (0, 0, BTreeSet::new());
        while let Some(decisions) = search.next() {
            let mut left: Vec<Event> = (0..)
                .zip(operations)
                .map(|(number, &on)| Event::Effect {
                    number,
                    part: 0,
                    on,
                })
                .collect();
            let mut effects = Vec::new();
            while !left.is_empty() && !decisions.is_in_vain() {
                let chosen = decisions.choose(left.clone());
                match left.remove(chosen) {
                    Event::Effect { number, on, .. } => {
                        left.push(Event::End { number });
                        effects.push((number, on));
                    }
                    Event::End { .. } | Event::GoOn { .. } => {}
                }
            }
            match decisions.is_in_vain() {
                true => vain += 1,
                false => run += 1,
            }
            // The first operation does not commute with any other, or all commute.
            let first = effects.iter().position(|(number, _)| *number == 0);
            let before = effects[..first.unwrap_or(0)].iter();
            let before = before.filter(|(_, on)| !on.commutes_with(operations[0]));
            let mut before: Vec<u32> = before.map(|(number, _)| *number).collect();
            before.sort_unstable();
            if !decisions.is_in_vain() {
                seen.insert(before);
            }
            search.ran(&decisions);
        }
        (run, vain, seen)
    }

    #[test]
    fn without_a_reduction_every_order_is_run() {
        // Of six events in pairs that keep their order: 6! / 2^3.
        let operations = [write(0), write(512), write(1024)];
        let (run, vain, _) = all(&mut Search::new(false), &operations);
        assert_eq!((run, vain), (90, 0));
    }

    #[test]
    fn a_reduction_leaves_no_order_out_that_shows_something_else() {
        let sync = footprint(Action::SyncData);
        let hole = footprint(Action::PunchHole(FileRange::new(FileOffset(0), Bytes(512))));
        for operations in [
            vec![sync, write(0), write(512)],
            vec![hole, write(0), write(512)],
            vec![write(0), sync, hole],
        ] {
            let (every, _, expected) = all(&mut Search::new(false), &operations);
            let (run, _, seen) = all(&mut Search::new(true), &operations);
            assert_eq!(seen, expected);
            assert!(run < every, "{run} of {every}");
        }
    }

    #[test]
    fn of_what_commutes_one_order_is_run_for_each_order_of_the_ends() {
        let operations = [write(0), write(512), write(1024)];
        assert_eq!(all(&mut Search::new(true), &operations).0, 6);
    }
}
