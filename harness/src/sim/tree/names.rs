//! The names in directories: for each directory those that are durable and those that there are
//! now, and for all of them together the ordered list of the changes between.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::rc::Rc;

use super::super::survivors::InodeNumber;
use super::change::EntryName;

type Table = BTreeMap<OsString, InodeNumber>;

/// One directory. The invariant: `durable`, then all events that are not durable in their order,
/// gives `current`.
#[derive(Clone)]
pub(super) struct Directory {
    /// The directory that it is in.
    pub(super) parent: InodeNumber,
    durable: Rc<Table>,
    current: Rc<Table>,
}

impl Directory {
    /// An empty one, durably.
    pub(super) fn new(parent: InodeNumber) -> Directory {
        Directory {
            parent,
            durable: Rc::default(),
            current: Rc::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.current.len()
    }

    pub(super) fn get(&self, name: &OsStr) -> Option<InodeNumber> {
        self.current.get(name).copied()
    }

    /// The names that there are now, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&OsString, InodeNumber)> {
        self.current.iter().map(|(name, &node)| (name, node))
    }

    /// What may have a name here after a power cut without a survivor.
    pub(super) fn durable(&self) -> impl Iterator<Item = InodeNumber> {
        self.durable.values().copied()
    }

    /// Whether all of it is known to be durable.
    pub(super) fn is_at_rest(&self) -> bool {
        Rc::ptr_eq(&self.durable, &self.current)
    }

    /// Whether it is known to have the names of the other one now.
    pub(super) fn is_now(&self, other: &Directory) -> bool {
        Rc::ptr_eq(&self.current, &other.current)
    }

    pub(super) fn settle(&mut self) {
        self.durable = Rc::clone(&self.current);
    }

    /// As it is durably, and nothing more.
    pub(super) fn at_rest(&self) -> Directory {
        Directory {
            parent: self.parent,
            durable: Rc::clone(&self.durable),
            current: Rc::clone(&self.durable),
        }
    }

    pub(super) fn change(&mut self, edit: &Edit) {
        edit.apply(Rc::make_mut(&mut self.current));
    }

    /// Without this name, of those that there are now.
    pub(super) fn drop_name(&mut self, name: &OsStr) {
        Rc::make_mut(&mut self.current).remove(name);
    }

    pub(super) fn change_durably(&mut self, edit: &Edit) {
        edit.apply(Rc::make_mut(&mut self.durable));
    }
}

/// What a name stands for, before and after.
#[derive(Clone, Debug)]
pub(super) struct Edit {
    pub(super) name: EntryName,
    pub(super) from: Option<InodeNumber>,
    pub(super) to: Option<InodeNumber>,
}

impl Edit {
    /// Where an earlier change did not survive, a name is taken away only from what this change
    /// took it from.
    fn apply(&self, table: &mut Table) {
        match self.to {
            Some(node) => drop(table.insert(self.name.name.clone(), node)),
            None if table.get(&self.name.name).copied() == self.from => {
                table.remove(&self.name.name);
            }
            None => {}
        }
    }
}

/// A change of names that happens as a whole or not at all.
#[derive(Clone, Debug)]
pub(super) struct NameEvent {
    /// The number of the change in its list.
    pub(super) index: u64,
    /// The directories in whose order it has a place.
    pub(super) touches: Vec<InodeNumber>,
    pub(super) edits: Vec<Edit>,
}

/// Which of the events have to be durable with those of `directory`.
pub(super) fn needed_by(events: &[NameEvent], directory: InodeNumber, ordered: bool) -> Vec<bool> {
    let mut directories = BTreeSet::from([directory]);
    let mut needed = vec![false; events.len()];
    for (place, event) in events.iter().enumerate().rev() {
        needed[place] = event.touches.iter().any(|it| directories.contains(it));
        if needed[place] && ordered {
            directories.extend(&event.touches);
        }
    }
    needed
}

/// Of the events that are `kept`, those that can have survived: in each directory first ones.
pub(super) fn in_order(events: &[NameEvent], kept: &[bool]) -> Vec<bool> {
    let mut ended: BTreeSet<InodeNumber> = BTreeSet::new();
    let survives = |(event, &kept): (&NameEvent, &bool)| {
        let survives = kept && !event.touches.iter().any(|it| ended.contains(it));
        if !survives {
            ended.extend(&event.touches);
        }
        survives
    };
    events.iter().zip(kept).map(survives).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(touches: &[&[u64]]) -> Vec<NameEvent> {
        let event = |(index, touches): (u64, &&[u64])| NameEvent {
            index,
            touches: touches.iter().copied().map(InodeNumber).collect(),
            edits: Vec::new(),
        };
        (0..).zip(touches).map(event).collect()
    }

    #[test]
    fn a_sync_takes_what_its_directory_needs_from_others_and_no_more() {
        // Made in 1, moved from 1 to 2, made in 1, made in 3.
        let events = events(&[&[1], &[1, 2], &[1], &[3]]);
        let needed = |directory, ordered| needed_by(&events, InodeNumber(directory), ordered);
        assert_eq!(needed(2, true), [true, true, false, false]);
        assert_eq!(needed(2, false), [false, true, false, false]);
        assert_eq!(needed(1, true), [true, true, true, false]);
        assert_eq!(needed(3, true), [false, false, false, true]);
    }

    #[test]
    fn what_comes_after_a_loss_in_its_directory_is_lost_too() {
        let events = events(&[&[1], &[1, 2], &[2], &[3]]);
        let kept = |kept: &[bool; 4]| in_order(&events, kept);
        assert_eq!(
            kept(&[false, true, true, true]),
            [false, false, false, true]
        );
        assert_eq!(kept(&[true, false, true, true]), [true, false, false, true]);
        assert_eq!(kept(&[true; 4]), [true; 4]);
    }
}
