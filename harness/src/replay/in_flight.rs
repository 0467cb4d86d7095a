//! The requests that are under way: what each is about, until it comes back. Tags are numbers
//! in a row and nearly always come back in that order, so that a queue finds each at once.

use std::collections::VecDeque;

use driver::blk::Tag;
use driver::units::{Sector, SectorCount, SectorRange};

use crate::oracle::Written;
use crate::stamp::{Coverage, Stamp};

/// A request on its way.
pub(super) struct InFlight {
    /// Its number in the trace, from 1.
    pub(super) request: u64,
    /// Its sectors; none of a flush.
    pub(super) range: SectorRange,
    /// What it writes.
    pub(super) content: Content,
    /// When it was submitted.
    pub(super) started_ns: u64,
}

/// What a request in flight writes.
pub(super) enum Content {
    /// It is no write.
    None,
    /// Our stamp.
    Stamp(Stamp),
    /// The trace's own data, as the CRC-32C of each sector.
    Data(Vec<u32>),
}

impl Content {
    pub(super) fn written(&self) -> Option<Written<'_>> {
        match self {
            Content::None => None,
            Content::Stamp(stamp) => Some(Written::Stamp(*stamp)),
            Content::Data(checksums) => Some(Written::Data(checksums)),
        }
    }
}

/// All requests under way.
#[derive(Default)]
pub(super) struct Flights {
    /// The tag of the first slot.
    first: u64,
    /// One for each tag from there on; empty where the request has come back already.
    slots: VecDeque<Option<InFlight>>,
    count: usize,
}

impl Flights {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Takes note of a request; the tag that it is to have.
    pub(super) fn add(&mut self, flight: InFlight) -> Tag {
        let tag = self.first + self.slots.len() as u64;
        self.slots.push_back(Some(flight));
        self.count += 1;
        Tag(tag)
    }

    /// The request with this tag has come back; `None` if there is none.
    pub(super) fn remove(&mut self, tag: Tag) -> Option<InFlight> {
        let slot = usize::try_from(tag.0.checked_sub(self.first)?).ok()?;
        let flight = self.slots.get_mut(slot)?.take()?;
        self.count -= 1;
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.first += 1;
        }
        Some(flight)
    }

    /// Whether `sector` may show `content` because a write under way put it there.
    pub(super) fn may_show(&self, sector: Sector, content: &[u8], coverage: Coverage) -> bool {
        let one = SectorRange::new(sector, SectorCount(1));
        let is_in = |flight: &InFlight| {
            let written = flight.content.written();
            written.is_some_and(|w| w.is_in(flight.range, sector, content, coverage))
        };
        let flights = self.slots.iter().flatten();
        flights
            .filter(|flight| flight.range.overlaps(one))
            .any(is_in)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(request: u64) -> InFlight {
        InFlight {
            request,
            range: SectorRange::new(Sector(request * 8), SectorCount(8)),
            content: Content::Stamp(Stamp(request as u32)),
            started_ns: 0,
        }
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
        let next = flights.add(flight(5));
        assert_eq!(next, Tag(4));
        assert!(flights.remove(tags[2]).is_some() && flights.remove(next).is_some());
        assert!(flights.is_empty());
    }

    #[test]
    fn a_write_under_way_may_show_and_only_where_it_goes() {
        let mut flights = Flights::default();
        let tag = flights.add(flight(1));
        let content = |at| {
            let mut content = [0; 512];
            Stamp(1).fill(Sector(at), &mut content);
            content
        };
        assert!(flights.may_show(Sector(15), &content(15), Coverage::Whole));
        assert!(!flights.may_show(Sector(15), &content(14), Coverage::Whole));
        assert!(!flights.may_show(Sector(16), &content(16), Coverage::Whole));
        flights.remove(tag);
        assert!(!flights.may_show(Sector(15), &content(15), Coverage::Whole));
    }
}
