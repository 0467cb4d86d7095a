//! What a replay came to, for people and as JSON.

mod text;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::device::Taken;
use crate::figures::{counted, time};

use super::bring_up::{Pipe, ReplayDriver};
use super::observe::Sight;
use super::pace::PaceReport;
use super::timeline::Timeline;

/// Everything that a replay counted and measured. Field names carry their units.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The driver that served the requests, as on the command line.
    pub driver: &'static str,
    /// The defects that it has, by their names.
    pub defects: Vec<String>,
    /// The requests that fit into the pipe of a kernel's driver, where it is smaller than the real
    /// one, so that it fills.
    pub small_pipe_requests: Option<usize>,
    /// Requests of the trace that were replayed.
    pub requests: u64,
    /// Sectors that they read, each compared with the model.
    pub sectors_read: u64,
    /// Sectors that they wrote.
    pub sectors_written: u64,
    /// Those of them that were written with the data that the trace carries.
    pub sectors_written_with_data: u64,
    /// Sectors that were read and compared with the model: those of the trace's reads, and the
    /// device at the end and once more after it was reopened, but for `sectors_in_holes`.
    pub sectors_verified: u64,
    /// Those of them that showed zeros, and rightly. All other content tells which sector it
    /// belongs to; where zeros are right, a read from a wrong place can show them too.
    pub sectors_verified_zeros: u64,
    /// Sectors that were not read, at the end and after the device was reopened together: nothing
    /// but zeros went there, and the bitmap leads to holes of the files.
    pub sectors_in_holes: u64,
    /// Sectors of such holes that were read as a sample, and are among `sectors_verified`.
    pub sectors_sampled: u64,
    /// Sectors that showed what they should not.
    pub mismatches: u64,
    /// What else was wrong, and is no sector: a driver that died or did not complete what it was
    /// given, a device that did not come up again or had another size.
    pub other_faults: u64,
    /// The first few of both, in words.
    pub mismatch_examples: Vec<String>,
    /// Requests, and pieces of the device when all of it was compared, that are wrong too and have
    /// no example.
    pub mismatch_examples_left_out: u64,
    /// Flush requests, those before writes with preflush among them.
    pub flushes: u64,
    /// Writes with forced unit access.
    pub fua_writes: u64,
    /// Discards.
    pub discards: u64,
    /// Discards that the host could not do; they do not count as failures.
    pub discards_unsupported: u64,
    /// Syncs of the COW file; not known of a running kernel.
    pub syncs: Option<u64>,
    /// Writes into the bitmap; likewise.
    pub bitmap_writes: Option<u64>,
    /// The resizes, in their order.
    pub resizes: Vec<ResizeReport>,
    /// From the first request to the last completion, and until the last resize is done.
    pub elapsed_ns: u64,
    /// From the first request to the last completion of one: no more than `elapsed_ns`.
    pub requests_elapsed_ns: u64,
    /// The comparison of the whole device, both times.
    pub verify_elapsed_ns: u64,
    /// Requests of the trace a second of `requests_elapsed_ns`.
    pub requests_per_second: f64,
    /// Bytes read and written a second of it.
    pub bytes_per_second: f64,
    /// Latencies of single requests, as the device saw them.
    pub latency: Latencies,
    /// What keeping the trace's pace came to, if that was asked for.
    pub pace: Option<PaceReport>,
    /// Lines or records of the trace that were wrong, and left out as asked for.
    pub records_skipped: u64,
    /// Requests whose offset or end was not a multiple of 512 bytes, and was rounded outward.
    pub requests_rounded: u64,
    /// Requests that were left out as asked for, because the driver does not know them.
    pub requests_unsupported: u64,
    /// Requests of the trace with a time before that of the request that they follow; they are
    /// submitted in the order of the trace.
    pub requests_earlier: u64,
    /// By how much at most.
    pub requests_earlier_by_at_most_ns: u64,
    /// Requests that had failed when they were recorded; they are asked for like all others.
    pub requests_failed_in_trace: u64,
    /// Who carried out what was asked of real files; `None` with a device in memory.
    pub io: Option<Taken>,
    /// Whether the COW file's header was found half changed to another backing file, and that
    /// change was finished before the first request.
    pub finished_switch: bool,
    /// What is worth a note about the backing file of a given device: that it begins like an image.
    pub backing_note: Option<String>,
    /// Whether the backing file is byte for byte what it was; not known of a given one.
    pub backing_unchanged: Option<bool>,
    /// Whether requests carried one stamp a sector instead of payload: then `bytes_per_second`
    /// is what they asked for, not what was moved, and of a stamped sector 16 bytes were
    /// compared.
    pub stamps_only: bool,
    /// Requests over time; for pages.
    #[serde(skip)]
    pub timeline: Timeline,
}

/// One resize.
#[derive(Clone, Debug, Serialize)]
pub struct ResizeReport {
    /// Before which request of the trace it began, from 0.
    pub at_request: u64,
    /// How it was done.
    pub strategy: String,
    /// The size before.
    pub old_bytes: u64,
    /// The size after.
    pub new_bytes: u64,
    /// Bytes of data read and written elsewhere.
    pub moved_bytes: u64,
    /// From asking for it to having it.
    pub elapsed_ns: u64,
    /// Requests of the trace that were submitted meanwhile.
    pub requests_meanwhile: u64,
    /// When it began, from the start of the replay.
    pub began_ns: u64,
    /// Where the data starts in the file, if the resize put it past the 2 GiB that stock Linux can
    /// reach.
    pub data_out_of_stock_reach_at_byte: Option<u64>,
    /// The device before, on the way, and after.
    pub sights: Vec<Sight>,
}

impl ResizeReport {
    /// What is to be said where the file cannot be used with stock UML any more.
    pub fn out_of_stock_reach(&self) -> Option<String> {
        let at = self.data_out_of_stock_reach_at_byte?;
        Some(format!(
            "its data starts at byte {at} now, past the 2 GiB that stock UML can reach: only \
             ubdlab can use the file"
        ))
    }
}

/// Latency percentiles, a set for each kind of request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latencies {
    /// Reads.
    pub read: Percentiles,
    /// Writes, discards and write-zeroes.
    pub write: Percentiles,
    /// Flushes.
    pub flush: Percentiles,
    /// All of them, while a resize was under way.
    pub during_resize: Percentiles,
}

/// Percentiles in nanoseconds; zeros when there was nothing to measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many were measured.
    pub count: u64,
    /// The median.
    pub p50_ns: u64,
    /// 90 of 100 are no slower.
    pub p90_ns: u64,
    /// 99 of 100.
    pub p99_ns: u64,
    /// 999 of 1000.
    pub p999_ns: u64,
    /// The slowest.
    pub max_ns: u64,
}

impl Percentiles {
    /// Of what a histogram has recorded, in nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Percentiles {
        Percentiles {
            count: histogram.len(),
            p50_ns: histogram.value_at_quantile(0.5),
            p90_ns: histogram.value_at_quantile(0.9),
            p99_ns: histogram.value_at_quantile(0.99),
            p999_ns: histogram.value_at_quantile(0.999),
            max_ns: histogram.max(),
        }
    }
}

impl Report {
    /// Whether a resize went on after the last request for more than 2 % of the replay.
    pub fn went_on(&self) -> bool {
        !self.resizes.is_empty()
            && self.elapsed_ns - self.requests_elapsed_ns > self.elapsed_ns / 50
    }

    /// Whether the model of a kernel's driver served the requests, and not the right driver.
    pub fn is_of_model(&self) -> bool {
        self.driver != ReplayDriver::Ordered.name() && !self.is_of_real_kernel()
    }

    /// Whether the driver of a running kernel served the requests.
    pub fn is_of_real_kernel(&self) -> bool {
        self.driver == ReplayDriver::RealKernel.name()
    }

    /// That the pipe of a kernel's driver was smaller than the real one, and why.
    pub fn small_pipe(&self) -> Option<String> {
        self.small_pipe_requests.map(|requests| {
            format!(
                "with a pipe of {}: requeue-loses-bitmap shows only where it fills, and the real \
                 one, of {}, does not with one device",
                counted(requests as u64, "request"),
                Pipe::REAL_REQUESTS
            )
        })
    }

    /// That there is more wrong than the examples.
    pub fn more_examples(&self) -> Option<String> {
        let more = self.mismatch_examples_left_out;
        (more > 0).then(|| format!("and {} that went wrong", counted(more, "more comparison")))
    }

    /// Why a model with defects may have shown none.
    pub fn why_nothing_shows(&self) -> Option<String> {
        let silent = self.is_of_model() && !self.defects.is_empty() && self.is_good();
        silent.then(|| {
            format!(
                "most defects show only after a crash, with a failing host or on a damaged file, of \
                 which a replay has none: ubdlab fuzz --driver {} has all of them",
                self.driver
            )
        })
    }

    /// What is worth a word about what came out of the trace, a line each.
    pub fn of_the_trace(&self) -> Vec<String> {
        let earlier = format!(
            "with a time before that of the one before, by at most {}, in the order of the trace",
            time(self.requests_earlier_by_at_most_ns)
        );
        let all = [
            (
                self.sectors_written_with_data,
                "sector",
                "written with the trace's own data",
            ),
            (
                self.records_skipped,
                "bad line or record",
                "of the trace left out",
            ),
            (
                self.requests_unsupported,
                "request",
                "left out: this driver knows neither discards nor writes of zeros",
            ),
            (
                self.requests_rounded,
                "request",
                "rounded outward to whole sectors",
            ),
            (self.requests_earlier, "request", &earlier),
            (
                self.requests_failed_in_trace,
                "request",
                "asked for that failed when the trace was recorded",
            ),
        ];
        let some = all.into_iter().filter(|(number, ..)| *number > 0);
        some.map(|(number, noun, what)| format!("{} {what}", counted(number, noun)))
            .collect()
    }

    /// Whether nothing was lost and nothing changed that should not.
    pub fn is_good(&self) -> bool {
        self.mismatches == 0 && self.other_faults == 0 && self.backing_unchanged != Some(false)
    }
}

/// A latency for people: with a clock that is looked at for many requests together, some take no
/// time that it shows.
pub fn latency_time(ns: u64) -> String {
    match ns {
        0 => "-".to_owned(),
        ns => time(ns),
    }
}
