//! The requests that are under way: what each is about, until it comes back. Tags are numbers
//! in a row and nearly always come back in that order, so that a queue finds each at once.
//!
//! Where two of them overlap, the one submitted later counts, in whichever order they come
//! back: a driver keeps the order of requests that overlap. So what came back before an
//! earlier request is kept until that is back too.

use std::collections::VecDeque;

use driver::blk::{Operation, Request, Tag};
use driver::units::{Sector, SectorCount, SectorRange};

use crate::oracle::{Initial, Oracle, Written};
use crate::stamp::{Coverage, Stamp, is_zero};

/// A request on its way.
pub(super) struct InFlight {
    /// Its number in the trace, from 1.
    pub(super) request: u64,
    /// What it asks for.
    pub(super) operation: Operation,
    /// Its sectors; none of a flush.
    pub(super) range: SectorRange,
    /// What it writes.
    pub(super) content: Content,
    /// When it was submitted.
    pub(super) started_ns: u64,
    /// The sectors where a read has shown what it writes.
    pub(super) seen: Vec<Sector>,
}

/// What a request in flight writes.
pub(super) enum Content {
    /// It is a read or a flush.
    None,
    /// Our stamp.
    Stamp(Stamp),
    /// The trace's own data, as the CRC-32C of each sector.
    Data(Vec<u32>),
    /// Zeros.
    Zeros,
    /// Zeros, or nothing.
    Discard,
}

impl InFlight {
    /// Whether `request`, which came back with its tag, is what was submitted.
    pub(super) fn is_of(&self, request: &Request) -> bool {
        let flush = self.operation == Operation::Flush;
        self.operation == request.operation && (flush || self.range == request.range())
    }

    /// What it writes into `range`, which is a part of its own.
    fn written(&self, range: SectorRange) -> Option<Written<'_>> {
        match &self.content {
            Content::None | Content::Discard => None,
            Content::Stamp(stamp) => Some(Written::Stamp(*stamp)),
            Content::Data(checksums) => {
                let first = (range.start - self.range.start).0 as usize;
                let part = checksums.get(first..first + range.count.0 as usize);
                Some(Written::Data(part.unwrap_or_default()))
            }
            Content::Zeros => Some(Written::Zeros),
        }
    }

    /// Whether `sector` may show `content` because of it.
    fn is_in(&self, sector: Sector, content: &[u8], coverage: Coverage) -> bool {
        match (self.written(self.range), &self.content) {
            (Some(written), _) => written.is_in(self.range, sector, content, coverage),
            (None, Content::Discard) => is_zero(content),
            (None, _) => false,
        }
    }

    /// Tells the model that it is done.
    fn apply<I: Initial>(&self, oracle: &mut Oracle<I>) {
        match (self.written(self.range), &self.content) {
            (Some(written), _) => oracle.wrote(self.range, written),
            (None, Content::Discard) => oracle.discarded(self.range),
            (None, _) => {}
        }
    }

    /// Tells the model that a read has shown what it writes, in `sector`.
    fn apply_to<I: Initial>(&self, sector: Sector, oracle: &mut Oracle<I>) {
        let one = SectorRange::new(sector, SectorCount(1));
        // Of a discard, zeros were seen.
        oracle.wrote(one, self.written(one).unwrap_or(Written::Zeros));
    }
}

enum Slot {
    Flying(InFlight),
    /// It has come back, with success, and an earlier one has not.
    Done(InFlight),
    /// It has come back, and there is nothing to remember.
    Gone,
}

/// All requests under way.
#[derive(Default)]
pub(super) struct Flights {
    /// The tag of the first slot.
    first: u64,
    /// One for each tag from there on.
    slots: VecDeque<Slot>,
    count: usize,
    /// Slots that have more to tell than that a request is under way: of one that is done, or
    /// seen. Nearly always none.
    telling: usize,
}

impl Flights {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The one that was submitted first.
    pub(super) fn first(&self) -> Option<&InFlight> {
        self.slots.iter().find_map(|slot| match slot {
            Slot::Flying(flight) => Some(flight),
            Slot::Done(_) | Slot::Gone => None,
        })
    }

    /// Takes note of a request; the tag that it is to have.
    pub(super) fn add(&mut self, flight: InFlight) -> Tag {
        self.forget();
        let tag = self.first + self.slots.len() as u64;
        self.slots.push_back(Slot::Flying(flight));
        self.count += 1;
        Tag(tag)
    }

    fn slot(&self, tag: Tag) -> Option<usize> {
        let slot = usize::try_from(tag.0.checked_sub(self.first)?).ok()?;
        (slot < self.slots.len()).then_some(slot)
    }

    /// Drops the slots of requests that are back, from the first on. Nothing that is still under
    /// way was submitted before them.
    fn forget(&mut self) {
        while let Some(front @ (Slot::Done(_) | Slot::Gone)) = self.slots.front() {
            self.telling -= usize::from(matches!(front, Slot::Done(_)));
            self.slots.pop_front();
            self.first += 1;
        }
    }

    /// The request with this tag has come back; `None` if there is none.
    pub(super) fn remove(&mut self, tag: Tag) -> Option<InFlight> {
        self.forget();
        let slot = self.slot(tag)?;
        let flight = match std::mem::replace(&mut self.slots[slot], Slot::Gone) {
            Slot::Flying(flight) => flight,
            other => {
                self.slots[slot] = other;
                return None;
            }
        };
        self.count -= 1;
        self.telling -= usize::from(!flight.seen.is_empty());
        Some(flight)
    }

    /// The request that had this tag, and has come back last, was acknowledged: tells the model
    /// what its sectors show now, unless they show what was submitted later.
    pub(super) fn acknowledge<I: Initial>(
        &mut self,
        tag: Tag,
        flight: InFlight,
        oracle: &mut Oracle<I>,
    ) {
        flight.apply(oracle);
        let Some(slot) = self.slot(tag) else {
            return;
        };
        self.apply_later(slot + 1, oracle);
        let is_flying = |slot: &Slot| matches!(slot, Slot::Flying(_));
        if self.slots.range(..slot).any(is_flying) {
            self.slots[slot] = Slot::Done(flight);
            self.telling += 1;
        }
    }

    /// Tells the model once more of what is known of the requests from this slot on.
    fn apply_later<I: Initial>(&self, slot: usize, oracle: &mut Oracle<I>) {
        if self.telling == 0 {
            return;
        }
        for later in self.slots.range(slot..) {
            match later {
                Slot::Done(done) => done.apply(oracle),
                Slot::Flying(flight) => {
                    for &sector in &flight.seen {
                        flight.apply_to(sector, oracle);
                    }
                }
                Slot::Gone => {}
            }
        }
    }

    /// The request under way that lets `sector` show `content`, if one does. None does that was
    /// submitted before another that is known to have written there.
    pub(super) fn shows(&self, sector: Sector, content: &[u8], coverage: Coverage) -> Option<Tag> {
        let one = SectorRange::new(sector, SectorCount(1));
        for (slot, later) in self.slots.iter().enumerate().rev() {
            match later {
                Slot::Flying(flight) if flight.range.overlaps(one) => {
                    if flight.is_in(sector, content, coverage) {
                        return Some(Tag(self.first + slot as u64));
                    }
                    if flight.seen.contains(&sector) {
                        return None;
                    }
                }
                Slot::Done(done) if done.range.overlaps(one) => {
                    if done.written(done.range).is_some() {
                        return None;
                    }
                }
                Slot::Flying(_) | Slot::Done(_) | Slot::Gone => {}
            }
        }
        None
    }

    /// A read has shown that `sector` holds what the request with this tag writes: from now on
    /// it holds that, or what was submitted later.
    pub(super) fn saw<I: Initial>(&mut self, tag: Tag, sector: Sector, oracle: &mut Oracle<I>) {
        let slot = self.slot(tag).and_then(|slot| self.slots.get_mut(slot));
        if let Some(Slot::Flying(flight)) = slot {
            flight.apply_to(sector, oracle);
            self.telling += usize::from(flight.seen.is_empty());
            flight.seen.push(sector);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Backing;

    impl Initial for Backing {
        fn is_in(&mut self, sector: Sector, content: &[u8]) -> bool {
            Stamp::BACKING.is_in(sector, content)
        }
        fn describe(&self, _: Sector) -> String {
            "the backing file's".into()
        }
    }

    fn flight(request: u64) -> InFlight {
        flight_at(request, request * 8)
    }

    fn flight_at(request: u64, start: u64) -> InFlight {
        InFlight {
            request,
            operation: Operation::Write { fua: false },
            range: SectorRange::new(Sector(start), SectorCount(8)),
            content: Content::Stamp(Stamp(request as u32)),
            started_ns: 0,
            seen: Vec::new(),
        }
    }

    fn content(stamp: u32, at: u64) -> [u8; 512] {
        let mut content = [0; 512];
        Stamp(stamp).fill(Sector(at), &mut content);
        content
    }

    #[test]
    fn requests_come_back_in_any_order_and_once() {
        let mut flights = Flights::default();
        let tags = [1, 2, 3, 4].map(|request| flights.add(flight(request)));
        let mut back = |tag| flights.remove(tag).map(|flight| flight.request);
        assert_eq!(back(tags[1]), Some(2));
        assert_eq!(back(tags[1]), None);
        assert_eq!(back(tags[0]), Some(1));
        assert_eq!(back(tags[0]), None);
        assert_eq!(back(tags[3]), Some(4));
        assert_eq!(back(Tag(99)), None);
        assert_eq!(flights.len(), 1);
        assert_eq!(flights.first().map(|flight| flight.request), Some(3));
        let next = flights.add(flight(5));
        assert_eq!(next, Tag(4));
        assert!(flights.remove(tags[2]).is_some() && flights.remove(next).is_some());
        assert!(flights.is_empty());
    }

    #[test]
    fn a_write_under_way_may_show_and_only_where_it_goes() {
        let mut flights = Flights::default();
        let tag = flights.add(flight(1));
        let shows = |flights: &Flights, at, stamped| {
            flights.shows(Sector(at), &content(1, stamped), Coverage::Whole)
        };
        assert_eq!(shows(&flights, 15, 15), Some(tag));
        assert_eq!(shows(&flights, 15, 14), None);
        assert_eq!(shows(&flights, 16, 16), None);
        flights.remove(tag);
        assert_eq!(shows(&flights, 15, 15), None);
    }

    #[test]
    fn of_two_that_overlap_the_one_submitted_later_counts_in_whichever_order_they_come_back() {
        let orders = [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]];
        for (order, between) in orders.into_iter().flat_map(|o| [(o, false), (o, true)]) {
            let mut oracle = Oracle::new(SectorCount(100), Backing);
            let mut flights = Flights::default();
            let tags = [(1, 0), (2, 4), (3, 8)].map(|(request, start)| {
                let tag = flights.add(flight_at(request, start));
                if between {
                    // Does not overlap, and does not come back.
                    flights.add(flight_at(9, 80));
                }
                tag
            });
            for number in order {
                let flight = flights.remove(tags[number]).unwrap();
                flights.acknowledge(tags[number], flight, &mut oracle);
            }
            for (at, stamp) in [(0, 1), (3, 1), (4, 2), (7, 2), (8, 3), (15, 3)] {
                let one = SectorRange::new(Sector(at), SectorCount(1));
                let right = content(stamp, at);
                let compared = oracle.check(one, &right, |_, _| false).unwrap();
                assert_eq!(compared.wrong, 0, "sector {at}, {order:?}");
            }
        }
    }

    #[test]
    fn what_a_read_has_shown_does_not_give_way_to_what_is_older() {
        let mut oracle = Oracle::new(SectorCount(100), Backing);
        let mut flights = Flights::default();
        let (first, second) = (flights.add(flight_at(1, 0)), flights.add(flight_at(2, 0)));
        let shows = |flights: &Flights, stamp| {
            flights.shows(Sector(3), &content(stamp, 3), Coverage::Whole)
        };
        assert_eq!(shows(&flights, 1), Some(first));
        assert_eq!(shows(&flights, 2), Some(second));
        flights.saw(second, Sector(3), &mut oracle);
        assert_eq!(shows(&flights, 1), None);
        let right = |oracle: &mut Oracle<Backing>, stamp| {
            let one = SectorRange::new(Sector(3), SectorCount(1));
            oracle
                .check(one, &content(stamp, 3), |_, _| false)
                .unwrap()
                .wrong
                == 0
        };
        assert!(right(&mut oracle, 2) && !right(&mut oracle, 0));
        // The acknowledgement of the first does not bring it back.
        let flight = flights.remove(first).unwrap();
        flights.acknowledge(first, flight, &mut oracle);
        assert!(right(&mut oracle, 2) && !right(&mut oracle, 1));
    }
}
