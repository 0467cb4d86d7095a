//! Statistics of a trace, in one pass and in bounded memory: at most some 80 MiB for the
//! working set and a few hundred KiB for the rest, however long the trace and large the device.
//! What has to become coarser for that says how coarse it is.

mod histogram;
mod regions;
mod working_set;

use std::collections::VecDeque;

use driver::units::SECTOR_SIZE;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::{Record, Summary, TraceError, TraceOperation, TraceSource};
pub use histogram::SizeClass;
use histogram::Sizes;
pub use regions::HotRegion;
use regions::Regions;
use working_set::WorkingSet;

/// Earlier requests of the same kind that are looked at to see whether one goes on with another:
/// streams that are read side by side are sequential too.
const STREAMS: usize = 16;

/// The most hot regions that are told.
const HOT_REGIONS: usize = 10;

/// What a trace is like. Field names carry their units.
#[derive(Clone, Debug, Serialize)]
pub struct Statistics {
    /// The counts of each kind.
    #[serde(flatten)]
    pub summary: Summary,
    /// Requests a second, over the trace's duration; 0 if it has none.
    pub requests_per_second: f64,
    /// Lengths of reads.
    pub read_sizes: Lengths,
    /// Lengths of writes.
    pub write_sizes: Lengths,
    /// Reads that begin where one of the 16 reads before them ended.
    pub sequential_reads: u64,
    /// Writes that begin where one of the 16 writes before them ended.
    pub sequential_writes: u64,
    /// What was touched.
    pub working_set: WorkingSetSizes,
    /// Sectors written where the trace had written before, in whole blocks of
    /// `working_set.block_bytes`.
    pub sectors_overwritten: u64,
    /// Those as a share of all sectors written.
    pub overwrite_share: f64,
    /// What lies between flushes, preflushes among them.
    pub flush_intervals: FlushIntervals,
    /// Regions with the most requests, the most first.
    pub hot_regions: Vec<HotRegion>,
    /// The size of those regions.
    pub hot_region_bytes: u64,
    /// How many such regions any request began in.
    pub regions_touched: u64,
}

/// Lengths of requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Lengths {
    /// The shortest; 0 if there was none.
    pub min_bytes: u64,
    /// Their mean.
    pub mean_bytes: f64,
    /// The longest.
    pub max_bytes: u64,
    /// How many there are of each class, the empty ones left out.
    pub classes: Vec<SizeClass>,
}

/// Space that was touched, counted in blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WorkingSetSizes {
    /// The size of a block: 4 KiB, or more where it would take over 64 MiB of memory to tell the
    /// touched blocks of 4 KiB apart.
    pub block_bytes: u64,
    /// Read or written.
    pub touched_bytes: u64,
    /// Read.
    pub read_bytes: u64,
    /// Written, write-zeroes among them.
    pub written_bytes: u64,
}

/// What lies between two flushes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FlushIntervals {
    /// How many intervals there are.
    pub count: u64,
    /// Their median length.
    pub p50_ns: u64,
    /// 99 of 100 are no longer.
    pub p99_ns: u64,
    /// The longest; an hour at most.
    pub max_ns: u64,
    /// The median number of writes in one.
    pub p50_writes: u64,
    /// 99 of 100 have no more.
    pub p99_writes: u64,
    /// The most.
    pub max_writes: u64,
}

/// Counts a trace, record by record.
#[derive(Debug)]
pub struct Counter {
    summary: Summary,
    sizes: [Sizes; 2],
    ends: [VecDeque<u64>; 2],
    sequential: [u64; 2],
    working_set: WorkingSet,
    regions: Regions,
    last_flush_ns: Option<u64>,
    writes_since_flush: u64,
    flush_ns: Histogram<u64>,
    flush_writes: Histogram<u64>,
}

impl Default for Counter {
    fn default() -> Counter {
        let histogram = |highest| {
            let histogram = Histogram::new_with_bounds(1, highest, 2);
            histogram.expect("these bounds are valid for hdrhistogram")
        };
        Counter {
            summary: Summary::default(),
            sizes: Default::default(),
            ends: Default::default(),
            sequential: [0; 2],
            working_set: WorkingSet::default(),
            regions: Regions::default(),
            last_flush_ns: None,
            writes_since_flush: 0,
            flush_ns: histogram(3_600_000_000_000),
            flush_writes: histogram(1_000_000_000),
        }
    }
}

impl Counter {
    /// Counts one more record, which keeps the rules of [`Record::check`].
    pub fn add(&mut self, record: &Record) {
        self.summary.add(record);
        if record.preflush || record.operation == TraceOperation::Flush {
            self.add_flush(record.time.0);
        }
        let kind = match record.operation {
            TraceOperation::Flush => return,
            TraceOperation::Read => Some(0),
            TraceOperation::Write => Some(1),
            TraceOperation::Discard | TraceOperation::WriteZeroes => None,
        };
        self.regions.add(record);
        match record.operation {
            TraceOperation::Read => self.working_set.read(record),
            TraceOperation::Write | TraceOperation::WriteZeroes => self.working_set.written(record),
            TraceOperation::Discard | TraceOperation::Flush => {}
        }
        let Some(kind) = kind else {
            return;
        };
        self.writes_since_flush += kind as u64;
        self.sizes[kind].add(record.count.0.saturating_mul(SECTOR_SIZE));
        let ends = &mut self.ends[kind];
        let continued = ends.iter().rposition(|end| *end == record.start.0);
        if let Some(stream) = continued {
            self.sequential[kind] += 1;
            ends.remove(stream);
        } else if ends.len() == STREAMS {
            ends.pop_front();
        }
        ends.push_back(record.end().0);
    }

    fn add_flush(&mut self, time_ns: u64) {
        if let Some(last) = self.last_flush_ns {
            self.flush_ns
                .saturating_record(time_ns.saturating_sub(last));
            self.flush_writes.saturating_record(self.writes_since_flush);
        }
        self.last_flush_ns = Some(time_ns);
        self.writes_since_flush = 0;
    }

    /// What it came to.
    pub fn finish(self) -> Statistics {
        let seconds = self.summary.duration_ns.0 as f64 / 1e9;
        let written = self
            .summary
            .sectors_written
            .saturating_add(self.summary.sectors_zeroed);
        let overwritten = self.working_set.sectors_overwritten();
        let (hot_regions, regions_touched) = self.regions.hottest(HOT_REGIONS);
        let [read_sizes, write_sizes] = self.sizes.map(Sizes::finish);
        let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
        Statistics {
            requests_per_second: match seconds > 0.0 {
                true => self.summary.requests as f64 / seconds,
                false => 0.0,
            },
            summary: self.summary,
            read_sizes,
            write_sizes,
            sequential_reads: self.sequential[0],
            sequential_writes: self.sequential[1],
            working_set: self.working_set.sizes(),
            sectors_overwritten: overwritten,
            overwrite_share: share(overwritten, written),
            flush_intervals: FlushIntervals {
                count: self.flush_ns.len(),
                p50_ns: self.flush_ns.value_at_quantile(0.5),
                p99_ns: self.flush_ns.value_at_quantile(0.99),
                max_ns: self.flush_ns.max(),
                p50_writes: self.flush_writes.value_at_quantile(0.5),
                p99_writes: self.flush_writes.value_at_quantile(0.99),
                max_writes: self.flush_writes.max(),
            },
            hot_regions,
            hot_region_bytes: self.regions.region_bytes(),
            regions_touched,
        }
    }
}

/// Reads the rest of `source` and counts.
///
/// # Errors
/// The source's.
pub fn statistics(source: &mut dyn TraceSource) -> Result<Statistics, TraceError> {
    let mut counter = Counter::default();
    for record in source {
        counter.add(&record?);
    }
    Ok(counter.finish())
}
