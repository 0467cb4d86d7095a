//! Which change may begin when: one that reads before it writes keeps others off its sectors.

use std::collections::{BTreeMap, VecDeque};

use driver::units::SectorRange;

/// A change that keeps others off its sectors.
pub(super) type Ticket = u64;

/// A change whose turn it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Turn<T> {
    /// The change.
    pub(super) change: T,
    /// For [`Turns::leave`], if it keeps others off its sectors.
    pub(super) ticket: Option<Ticket>,
}

/// The changes that wait, and the sectors that they wait for.
#[derive(Debug)]
pub(super) struct Turns<T> {
    next: Ticket,
    kept: BTreeMap<Ticket, SectorRange>,
    /// In the order in which they came.
    waiting: VecDeque<Waiting<T>>,
}

#[derive(Debug)]
struct Waiting<T> {
    sectors: SectorRange,
    keeps: bool,
    change: T,
}

impl<T> Turns<T> {
    pub(super) fn new() -> Turns<T> {
        Turns {
            next: 0,
            kept: BTreeMap::new(),
            waiting: VecDeque::new(),
        }
    }

    /// A change of these sectors has come. With `keeps`, no other one that touches them begins from
    /// when it begins until it leaves. It is given back if it may begin.
    pub(super) fn come(&mut self, sectors: SectorRange, keeps: bool, change: T) -> Option<Turn<T>> {
        let came = Waiting {
            sectors,
            keeps,
            change,
        };
        let is_before = |waiting: &Waiting<T>| waiting.sectors.overlaps(sectors);
        if self.is_kept(sectors) || self.waiting.iter().any(is_before) {
            self.waiting.push_back(came);
            return None;
        }
        Some(self.begin(came))
    }

    /// Lets others at the sectors of this change; those that may begin now, in the order in which
    /// they came.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Vec<Turn<T>> {
        self.kept.remove(&ticket);
        let mut begun = Vec::new();
        let mut stay: VecDeque<Waiting<T>> = VecDeque::new();
        for waiting in std::mem::take(&mut self.waiting) {
            let is_before = |other: &Waiting<T>| other.sectors.overlaps(waiting.sectors);
            if self.is_kept(waiting.sectors) || stay.iter().any(is_before) {
                stay.push_back(waiting);
            } else {
                begun.push(self.begin(waiting));
            }
        }
        self.waiting = stay;
        begun
    }

    fn is_kept(&self, sectors: SectorRange) -> bool {
        self.kept.values().any(|kept| kept.overlaps(sectors))
    }

    fn begin(&mut self, waiting: Waiting<T>) -> Turn<T> {
        let ticket = waiting.keeps.then(|| {
            self.next += 1;
            self.kept.insert(self.next, waiting.sectors);
            self.next
        });
        Turn {
            change: waiting.change,
            ticket,
        }
    }
}

#[cfg(test)]
mod tests {
    use driver::units::{Sector, SectorCount};

    use super::*;

    fn sectors(start: u64, count: u64) -> SectorRange {
        SectorRange::new(Sector(start), SectorCount(count))
    }

    fn names<'a>(begun: &[Turn<&'a str>]) -> Vec<&'a str> {
        begun.iter().map(|begun| begun.change).collect()
    }

    #[test]
    fn what_touches_a_sector_that_is_read_first_waits_and_nothing_else_does() {
        let mut turns = Turns::new();
        let first = turns.come(sectors(0, 2), true, "partial").unwrap();
        assert_eq!(turns.come(sectors(1, 1), false, "within"), None);
        let beside = turns.come(sectors(2, 8), false, "beside").unwrap();
        assert_eq!(beside.ticket, None);
        assert_eq!(names(&turns.leave(first.ticket.unwrap())), ["within"]);
        assert!(turns.come(sectors(0, 2), false, "later").is_some());
    }

    #[test]
    fn those_that_wait_begin_in_their_order() {
        let mut turns = Turns::new();
        let first = turns.come(sectors(0, 1), true, "first").unwrap();
        assert_eq!(turns.come(sectors(0, 4), true, "second"), None);
        // It touches nothing that is kept, but must not overtake one that came before.
        assert_eq!(turns.come(sectors(3, 1), false, "third"), None);
        assert_eq!(turns.come(sectors(3, 2), true, "fourth"), None);
        let begun = turns.leave(first.ticket.unwrap());
        assert_eq!(names(&begun), ["second"]);
        let begun = turns.leave(begun[0].ticket.unwrap());
        assert_eq!(names(&begun), ["third", "fourth"]);
        assert_eq!(turns.come(sectors(4, 1), false, "fifth"), None);
        let begun = turns.leave(begun[1].ticket.unwrap());
        assert_eq!(names(&begun), ["fifth"]);
        assert!(turns.kept.is_empty() && turns.waiting.is_empty());
    }
}
