//! The sectors that requests have under way.
//!
//! There are few enough of them to look at all, side by side in memory. What tells whether two
//! ranges overlap could not be predicted, and a wrong guess takes longer than several looks. So
//! nothing is skipped.

use crate::units::SectorRange;

use super::begun::Slot;

/// The sectors of requests, by the places of these.
#[derive(Debug)]
pub(super) struct Occupied {
    /// None, of a place whose request is not here.
    ranges: Vec<SectorRange>,
    count: usize,
}

impl Occupied {
    pub(super) fn with_capacity(depth: usize) -> Occupied {
        Occupied {
            ranges: Vec::with_capacity(depth),
            count: 0,
        }
    }

    /// The request in this place, which is not here, has these sectors.
    #[inline]
    pub(super) fn put(&mut self, slot: Slot, range: SectorRange) {
        let index = slot as usize;
        if index >= self.ranges.len() {
            self.ranges.resize(index + 1, SectorRange::default());
        }
        self.ranges[index] = range;
        self.count += 1;
    }

    /// The request in this place, which is here, has none any more.
    #[inline]
    pub(super) fn remove(&mut self, slot: Slot) {
        self.ranges[slot as usize] = SectorRange::default();
        self.count -= 1;
    }

    /// Whether a request here has one of these sectors.
    #[inline]
    pub(super) fn overlaps(&self, range: SectorRange) -> bool {
        if self.count == 0 {
            return false;
        }
        let (start, end) = (range.start, range.end());
        let common = |other: &SectorRange| (other.start < end) & (start < other.end());
        let all = self.ranges.iter();
        all.fold(false, |any, other| any | common(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Sector, SectorCount};

    fn range(start: u64, count: u64) -> SectorRange {
        SectorRange::new(Sector(start), SectorCount(count))
    }

    #[test]
    fn sectors_are_occupied_until_the_last_request_that_has_them_is_gone() {
        let mut occupied = Occupied::with_capacity(4);
        occupied.put(2, range(8, 8));
        occupied.put(0, range(12, 8));
        let free = [range(0, 8), range(20, 100)];
        for request in [2, 0] {
            assert!(occupied.overlaps(range(15, 1)) && occupied.overlaps(range(0, 100)));
            assert!(!free.iter().any(|&free| occupied.overlaps(free)));
            occupied.remove(request);
        }
        assert!(!occupied.overlaps(range(0, 100)));
        // A place that was given up has no sectors, not even the first.
        occupied.put(1, range(50, 1));
        assert!(!occupied.overlaps(range(0, 50)));
    }
}
