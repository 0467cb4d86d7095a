//! The stamps of one file, by sector. What was never stamped takes next to no memory, and
//! where stamps are those of sectors in a row, as they are wherever nothing went wrong, four
//! bytes stand for each.

use std::ops::Range;

use driver::units::Sector;

use crate::sparse::Sparse;
use crate::stamp::{Place, Stamp};

/// Sectors that share an allocation.
const PAGE: u64 = 2048;

/// Which sectors of a file are kept as stamps, and which stamps.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    pages: Sparse<Page>,
    /// The file is known to have at least this many bytes.
    pub(super) known_len: u64,
}

#[derive(Debug)]
enum Page {
    /// Each stamp is that of the sector `behind` sectors before the one that it lies in. Its
    /// number is kept plus 1, and 0 where there is none.
    InARow { behind: u64, numbers: Box<[u32]> },
    /// Any stamps anywhere.
    Any(Box<[Option<Place>]>),
}

impl Page {
    fn new(behind: u64) -> Page {
        Page::InARow {
            behind,
            numbers: vec![0; PAGE as usize].into_boxed_slice(),
        }
    }

    /// What lies at `sector` of the file.
    #[inline]
    fn get(&self, sector: u64) -> Option<Place> {
        let index = (sector % PAGE) as usize;
        match self {
            Page::InARow { behind, numbers } => {
                let number = numbers[index].checked_sub(1)?;
                Some(Place::of(Stamp(number), Sector(sector - behind)))
            }
            Page::Any(places) => places[index],
        }
    }

    #[inline]
    fn set(&mut self, sector: u64, place: Place) {
        let index = (sector % PAGE) as usize;
        if let Page::InARow { behind, numbers } = self
            && sector.wrapping_sub(place.sector().0) == *behind
            && let Some(number) = place.stamp().0.checked_add(1)
        {
            numbers[index] = number;
            return;
        }
        self.set_any(sector, place);
    }

    #[cold]
    fn set_any(&mut self, sector: u64, place: Place) {
        let base = sector - sector % PAGE;
        if let Page::InARow { .. } = self {
            let places = (base..base + PAGE).map(|sector| self.get(sector));
            *self = Page::Any(places.collect());
        }
        if let Page::Any(places) = self {
            places[(sector % PAGE) as usize] = Some(place);
        }
    }

    fn clear(&mut self, range: Range<usize>) {
        match self {
            Page::InARow { numbers, .. } => numbers[range].fill(0),
            Page::Any(places) => places[range].fill(None),
        }
    }

    /// Makes an empty page one for stamps of the sectors `wanted` before their own.
    #[inline]
    fn prepare(&mut self, wanted: u64) {
        match self {
            Page::InARow { behind, .. } if *behind == wanted => {}
            _ => self.renew(wanted),
        }
    }

    #[cold]
    fn renew(&mut self, wanted: u64) {
        if self.is_empty() {
            *self = Page::new(wanted);
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Page::InARow { numbers, .. } => numbers.iter().all(|&number| number == 0),
            Page::Any(places) => places.iter().all(Option::is_none),
        }
    }
}

/// Sectors that follow each other in one page.
pub(super) struct Run<'a> {
    page: Option<&'a Page>,
    sectors: Range<u64>,
}

impl Run<'_> {
    /// How many sectors there are.
    pub(super) fn len(&self) -> usize {
        (self.sectors.end - self.sectors.start) as usize
    }

    /// The stamps of the sectors, one by one.
    #[inline]
    pub(super) fn places(&self) -> impl Iterator<Item = Option<Place>> {
        self.sectors
            .clone()
            .map(|sector| self.page.and_then(|page| page.get(sector)))
    }
}

impl Stamps {
    pub(super) fn get(&self, sector: u64) -> Option<Place> {
        self.pages.get(sector / PAGE)?.get(sector)
    }

    pub(super) fn clear(&mut self, sectors: Range<u64>) {
        let Range { start, end } = sectors;
        if start >= end {
            return;
        }
        let (first, last) = (start / PAGE, end / PAGE);
        self.pages.remove(start.div_ceil(PAGE)..last);
        // The pages at the ends, which are cleared in part, and may be one.
        let mut clear = |page: u64, from: u64, until: u64| {
            let within = |sector: u64| (sector - page * PAGE).min(PAGE) as usize;
            if let Some(page) = self.pages.get_mut(page) {
                page.clear(within(from)..within(until));
            }
        };
        if start % PAGE > 0 {
            clear(first, start, end);
        }
        if end % PAGE > 0 && (last > first || start % PAGE == 0) {
            clear(last, last * PAGE, end);
        }
    }

    /// The sectors from `sector` on, at most `count`, as far as they share a page.
    pub(super) fn run(&self, sector: u64, count: u64) -> Run<'_> {
        let page_end = (sector / PAGE + 1) * PAGE;
        Run {
            page: self.pages.get(sector / PAGE),
            sectors: sector..page_end.min(sector + count),
        }
    }

    /// Stamps the sectors from `sector` on, as far as they share a page; how many.
    pub(super) fn put(&mut self, sector: u64, places: impl Iterator<Item = Place>) -> usize {
        let page_end = (sector / PAGE + 1) * PAGE;
        let mut places = (sector..page_end).zip(places);
        let Some((first, place)) = places.next() else {
            return 0;
        };
        let behind = first.wrapping_sub(place.sector().0);
        let page = self
            .pages
            .get_or_insert_with(sector / PAGE, || Page::new(behind));
        page.prepare(behind);
        page.set(first, place);
        let mut done = 1;
        for (sector, place) in places {
            page.set(sector, place);
            done += 1;
        }
        done
    }

    /// The first run of stamped sectors that ends after `from`, cut to start there. One that
    /// crosses pages comes in parts.
    pub(super) fn next_run(&self, from: u64) -> Option<Range<u64>> {
        let mut next = from / PAGE;
        while let Some((index, page)) = self.pages.next(next) {
            let base = index * PAGE;
            let mut sectors = from.max(base)..base + PAGE;
            let is_stamped = |sector: &u64| page.get(*sector).is_some();
            if let Some(start) = sectors.find(is_stamped) {
                let end = sectors.find(|sector| !is_stamped(sector));
                return Some(start..end.unwrap_or(base + PAGE));
            }
            next = index + 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(stamp: u32, sector: u64) -> Place {
        Place::of(Stamp(stamp), Sector(sector))
    }

    #[test]
    fn stamps_in_a_row_and_others_are_kept_alike() {
        let mut stamps = Stamps::default();
        let row = (0..4).map(|n| place(7, 1000 + n));
        assert_eq!(stamps.put(3000, row.clone()), 4);
        // Of another row, of a number that has no room, and of a sector further on.
        for (at, other) in [
            (3002, place(8, 1)),
            (3004, place(u32::MAX, 1004)),
            (3005, place(9, 4000)),
        ] {
            assert_eq!(stamps.put(at, std::iter::once(other)), 1);
            assert_eq!(stamps.get(at), Some(other));
        }
        assert_eq!(stamps.get(3003), Some(place(7, 1003)));
        assert_eq!(stamps.get(3006), None);
        assert_eq!(stamps.next_run(0), Some(3000..3006));
        assert_eq!(stamps.next_run(3003), Some(3003..3006));
        stamps.clear(3001..3005);
        assert_eq!(stamps.next_run(3001), Some(3005..3006));
        stamps.clear(3005..3006);
        assert_eq!(stamps.next_run(3001), None);
    }

    #[test]
    fn a_range_is_cleared_and_nothing_beside_it() {
        for (start, end) in [
            (PAGE - 4, PAGE - 2),
            (PAGE - 4, PAGE),
            (PAGE, PAGE + 3),
            (PAGE - 4, 3 * PAGE + 5),
            (PAGE + 1, 2 * PAGE + 1),
            (0, u64::MAX / 512),
        ] {
            let mut stamps = Stamps::default();
            for page in 0..4 {
                let row = (page * PAGE..).map(|at| place(7, at));
                stamps.put(page * PAGE, row.take(PAGE as usize));
            }
            stamps.clear(start..end);
            for at in 0..4 * PAGE {
                let is_left = !(start..end).contains(&at);
                assert_eq!(stamps.get(at).is_some(), is_left, "{start}..{end}: {at}");
            }
        }
    }

    /// It aborts where memory follows the place.
    #[test]
    fn the_last_sector_of_all_costs_no_more_than_the_first() {
        let last = u64::MAX / 512;
        let mut stamps = Stamps::default();
        stamps.put(last, std::iter::once(place(7, 0)));
        assert_eq!(stamps.next_run(0), Some(last..last + 1));
        stamps.clear(0..last + 1);
        assert_eq!(stamps.next_run(0), None);
    }

    #[test]
    fn a_run_ends_with_its_page() {
        let mut stamps = Stamps::default();
        let row = (0..10).map(|n| place(7, n));
        assert_eq!(stamps.put(PAGE - 4, row), 4);
        let run = stamps.run(PAGE - 5, 20);
        assert_eq!(run.len(), 5);
        let found: Vec<_> = run.places().map(|place| place.is_some()).collect();
        assert_eq!(found, [false, true, true, true, true]);
        assert_eq!(stamps.run(PAGE, 20).len(), 20);
        assert!(stamps.run(PAGE, 20).places().all(|place| place.is_none()));
    }
}
