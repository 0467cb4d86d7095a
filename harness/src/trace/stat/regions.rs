//! Which parts of a device are hot. Regions begin at 1 MiB and double when there are too many
//! of them to count each.

use std::collections::BTreeMap;

use driver::units::SECTOR_SIZE;
use serde::Serialize;

use super::super::Record;

/// The most regions that are counted.
const MAX_REGIONS: usize = 4096;

/// The size of a region at first.
const FIRST_SECTORS: u64 = (1 << 20) / SECTOR_SIZE;

/// A region of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HotRegion {
    /// Where it begins.
    pub start_byte: u64,
    /// Requests that begin in it.
    pub requests: u64,
    /// Sectors of those requests.
    pub sectors: u64,
}

/// Counts requests by region.
#[derive(Debug)]
pub(super) struct Regions {
    sectors: u64,
    /// Requests and sectors of each region.
    counts: BTreeMap<u64, (u64, u64)>,
}

impl Default for Regions {
    fn default() -> Regions {
        Regions {
            sectors: FIRST_SECTORS,
            counts: BTreeMap::new(),
        }
    }
}

impl Regions {
    pub(super) fn add(&mut self, record: &Record) {
        let counts = self
            .counts
            .entry(record.start.0 / self.sectors)
            .or_default();
        *counts = (counts.0 + 1, counts.1.saturating_add(record.count.0));
        while self.counts.len() > MAX_REGIONS {
            self.sectors *= 2;
            let mut folded = BTreeMap::<u64, (u64, u64)>::new();
            for (region, (requests, sectors)) in std::mem::take(&mut self.counts) {
                let counts = folded.entry(region / 2).or_default();
                *counts = (counts.0 + requests, counts.1.saturating_add(sectors));
            }
            self.counts = folded;
        }
    }

    pub(super) fn region_bytes(&self) -> u64 {
        self.sectors * SECTOR_SIZE
    }

    /// The `most` regions with the most requests, and how many regions there are.
    pub(super) fn hottest(&self, most: usize) -> (Vec<HotRegion>, u64) {
        let region = |(region, (requests, sectors)): (&u64, &(u64, u64))| HotRegion {
            start_byte: region * self.region_bytes(),
            requests: *requests,
            sectors: *sectors,
        };
        let mut all: Vec<_> = self.counts.iter().map(region).collect();
        // Of equal ones the first on the device, so that the order is always the same.
        all.sort_by_key(|region| (std::cmp::Reverse(region.requests), region.start_byte));
        all.truncate(most);
        (all, self.counts.len() as u64)
    }
}
