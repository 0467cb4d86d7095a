//! Requests over time: where on the device they went, and how long they took. The memory is
//! bounded: when the columns are used up, two become one, and each stands for twice the time.

use driver::units::{SectorCount, SectorRange};

/// Columns of time at most.
const COLUMNS: usize = 240;

/// Rows of the device.
pub const ROWS: usize = 64;

/// What a column stands for at first.
const FIRST_COLUMN_NS: u64 = 100_000;

/// Buckets of latencies: four to each power of two.
const BUCKETS: usize = 4 * 44;

/// What a request does, as far as the picture is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reads.
    Read,
    /// Writes, and writes of zeros.
    Write,
    /// Discards.
    Discard,
    /// Flushes, which are nowhere on the device.
    Flush,
}

/// What happened in a stretch of time.
#[derive(Clone, Debug)]
pub struct Column {
    /// Requests that touched each row of the device: reads, writes, discards.
    pub touched: [[u32; ROWS]; 3],
    /// Latencies of all requests, flushes too.
    pub latency: LatencyCounts,
}

/// How many requests took how long.
#[derive(Clone, Debug)]
pub struct LatencyCounts([u32; BUCKETS]);

impl Default for LatencyCounts {
    fn default() -> Self {
        LatencyCounts([0; BUCKETS])
    }
}

impl LatencyCounts {
    fn bucket(ns: u64) -> usize {
        let ns = ns.max(4);
        let power = ns.ilog2();
        let quarter = (ns >> (power - 2)) & 3;
        (4 * (power as usize - 2) + quarter as usize).min(BUCKETS - 1)
    }

    /// The shortest time that falls into a bucket, in nanoseconds.
    pub fn floor_ns(bucket: usize) -> u64 {
        let (power, quarter) = (bucket / 4, bucket as u64 % 4);
        (4 + quarter) << power
    }

    /// The floor of the bucket after the one with this floor.
    pub fn next_floor_ns(floor_ns: u64) -> u64 {
        Self::floor_ns(Self::bucket(floor_ns) + 1)
    }

    /// Several together.
    pub fn sum<'a>(parts: impl IntoIterator<Item = &'a LatencyCounts>) -> LatencyCounts {
        let mut sum = LatencyCounts::default();
        for part in parts {
            sum.add(part);
        }
        sum
    }

    fn record(&mut self, ns: u64) {
        let count = &mut self.0[Self::bucket(ns)];
        *count = count.saturating_add(1);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|&count| u64::from(count)).sum()
    }

    /// The time in nanoseconds that this share of the requests did not exceed, to a quarter of
    /// a power of two; `None` if there are none.
    pub fn quantile_ns(&self, share: f64) -> Option<u64> {
        let wanted = (share * self.count() as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let bucket = self.0.iter().position(|&count| {
            seen += u64::from(count);
            seen >= wanted
        });
        bucket.map(Self::floor_ns)
    }

    /// The buckets from the first that is not empty to the last, each with its floor.
    pub fn histogram(&self) -> Vec<(u64, u64)> {
        let used = |bucket: &usize| self.0[*bucket] > 0;
        let Some(first) = (0..BUCKETS).find(used) else {
            return Vec::new();
        };
        let last = (0..BUCKETS).rev().find(used).unwrap_or(first);
        let pair = |bucket: usize| (Self::floor_ns(bucket), u64::from(self.0[bucket]));
        (first..=last).map(pair).collect()
    }

    fn add(&mut self, other: &LatencyCounts) {
        for (count, more) in self.0.iter_mut().zip(&other.0) {
            *count = count.saturating_add(*more);
        }
    }
}

impl Default for Column {
    fn default() -> Self {
        Column {
            touched: [[0; ROWS]; 3],
            latency: LatencyCounts::default(),
        }
    }
}

/// Requests over time.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// The sectors that the rows stand for: those of the largest device that is shown.
    pub sectors: u64,
    /// The time that a column stands for.
    pub column_ns: u64,
    /// From the start of the replay.
    pub columns: Vec<Column>,
}

impl Default for Timeline {
    fn default() -> Self {
        Timeline::new(SectorCount(0))
    }
}

impl Timeline {
    /// An empty one of a device that has, or will have, `sectors` sectors.
    pub fn new(sectors: SectorCount) -> Timeline {
        Timeline {
            sectors: sectors.0,
            column_ns: FIRST_COLUMN_NS,
            columns: Vec::new(),
        }
    }

    /// Takes in a request that began at `began_ns` of the replay and took `took_ns`.
    pub fn record(&mut self, began_ns: u64, took_ns: u64, kind: Kind, range: SectorRange) {
        let mut column = began_ns / self.column_ns;
        while column >= COLUMNS as u64 {
            self.halve();
            column = began_ns / self.column_ns;
        }
        let column = column as usize;
        if column >= self.columns.len() {
            self.columns.resize_with(column + 1, Column::default);
        }
        let column = &mut self.columns[column];
        column.latency.record(took_ns);
        let touched = match kind {
            Kind::Read => &mut column.touched[0],
            Kind::Write => &mut column.touched[1],
            Kind::Discard => &mut column.touched[2],
            Kind::Flush => return,
        };
        let row = |sector: u64| {
            let sectors = self.sectors.max(1);
            // The short division suffices for all but the largest devices.
            let row = match sector.checked_mul(ROWS as u64) {
                Some(product) => product / sectors,
                None => (u128::from(sector) * ROWS as u128 / u128::from(sectors)) as u64,
            };
            (row as usize).min(ROWS - 1)
        };
        let last = range.start.0 + range.count.0.max(1) - 1;
        for count in &mut touched[row(range.start.0)..=row(last)] {
            *count = count.saturating_add(1);
        }
    }

    /// Goes on until `end_ns` of the replay, with columns in which no request began.
    pub fn reach(&mut self, end_ns: u64) {
        while end_ns.div_ceil(self.column_ns) > COLUMNS as u64 {
            self.halve();
        }
        let columns = end_ns.div_ceil(self.column_ns) as usize;
        let columns = columns.max(self.columns.len());
        self.columns.resize_with(columns, Column::default);
    }

    fn halve(&mut self) {
        self.column_ns *= 2;
        let merged = self.columns.chunks(2).map(|pair| {
            let mut column = pair[0].clone();
            for other in &pair[1..] {
                column.latency.add(&other.latency);
                let counts = column.touched.iter_mut().flatten();
                for (count, more) in counts.zip(other.touched.iter().flatten()) {
                    *count = count.saturating_add(*more);
                }
            }
            column
        });
        self.columns = merged.collect();
    }

    /// Latencies of the whole replay.
    pub fn latency(&self) -> LatencyCounts {
        LatencyCounts::sum(self.columns.iter().map(|column| &column.latency))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driver::units::Sector;

    #[test]
    fn buckets_are_quarters_of_powers_of_two() {
        for (ns, floor) in [
            (0, 4),
            (4, 4),
            (5, 5),
            (8, 8),
            (9, 8),
            (1000, 896),
            (1024, 1024),
        ] {
            assert_eq!(
                LatencyCounts::floor_ns(LatencyCounts::bucket(ns)),
                floor,
                "of {ns}"
            );
        }
        assert_eq!(LatencyCounts::bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_long_replay_takes_no_more_memory_and_loses_no_request() {
        let mut timeline = Timeline::new(SectorCount(6400));
        for n in 0..100_000 {
            let range = SectorRange::new(Sector(n % 6400), SectorCount(1));
            timeline.record(n * 1_000_000, 100 + n % 7, Kind::Write, range);
        }
        assert!(timeline.columns.len() <= COLUMNS);
        assert_eq!(timeline.latency().count(), 100_000);
        let written: u64 = (timeline.columns.iter())
            .flat_map(|column| column.touched[1])
            .map(u64::from)
            .sum();
        assert_eq!(written, 100_000);
    }

    #[test]
    fn a_resize_that_takes_longer_than_the_requests_is_on_the_axis() {
        let mut timeline = Timeline::new(SectorCount(64));
        let range = SectorRange::new(Sector(0), SectorCount(1));
        timeline.record(0, 1, Kind::Write, range);
        for end_ns in [1, 3 * FIRST_COLUMN_NS + 1, 1_000_000_000_000] {
            timeline.reach(end_ns);
            let end = timeline.column_ns * timeline.columns.len() as u64;
            assert!(
                end >= end_ns && end - end_ns < timeline.column_ns,
                "{end_ns}"
            );
            assert!(timeline.columns.len() <= COLUMNS);
        }
        assert_eq!(timeline.latency().count(), 1);
    }

    #[test]
    fn a_request_touches_every_row_that_it_lies_in() {
        let mut timeline = Timeline::new(SectorCount(640));
        let range = SectorRange::new(Sector(15), SectorCount(10));
        timeline.record(0, 1, Kind::Read, range);
        let rows: Vec<u32> = timeline.columns[0].touched[0][..4].to_vec();
        assert_eq!(rows, [0, 1, 1, 0]);
        timeline.record(0, 1, Kind::Flush, SectorRange::default());
        assert_eq!(timeline.latency().quantile_ns(0.5), Some(4));
    }
}
