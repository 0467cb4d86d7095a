//! What a replay came to, put together.

use driver::host::HostFile;
use driver::ordered::Statistics;
use driver::units::SECTOR_SIZE;

use crate::device::BlockDevice;
use crate::oracle::Initial;
use crate::replay::bring_up::ReplayDriver;
use crate::replay::counts::Counts;
use crate::replay::pace::PaceReport;
use crate::replay::report::{Latencies, Report};
use crate::replay::run::Run;
use crate::replay::timeline::Timeline;
use crate::trace::TraceSource;

/// What was counted and measured while a trace was replayed.
pub(super) struct Replayed {
    pub(super) counts: Counts,
    pub(super) latency: Latencies,
    pub(super) timeline: Timeline,
    pub(super) pace: Option<PaceReport>,
    /// Until the last completion, and until the last resize was done.
    pub(super) elapsed_ns: u64,
    /// Until the last completion.
    pub(super) requests_elapsed_ns: u64,
}

impl Replayed {
    /// What `run` has come to, which took `elapsed_ns` nanoseconds.
    pub(super) fn of<F, T, I>(run: &mut Run<'_, F, T, I>, elapsed_ns: u64) -> Replayed
    where
        F: HostFile,
        T: BlockDevice<File = F>,
        I: Initial,
    {
        let mut timeline = std::mem::take(&mut run.measured.timeline);
        timeline.reach(elapsed_ns);
        Replayed {
            counts: run.counts.clone(),
            latency: run.measured.latencies(),
            timeline,
            pace: run.pace_report(),
            elapsed_ns,
            requests_elapsed_ns: run.measured.requests_elapsed_ns.min(elapsed_ns),
        }
    }

    /// The report, without what only the one knows who has brought the device up.
    pub(super) fn report(
        self,
        driver: &ReplayDriver,
        statistics: Statistics,
        verify_elapsed_ns: u64,
        trace: &dyn TraceSource,
    ) -> Report {
        let Replayed {
            counts,
            requests_elapsed_ns,
            ..
        } = self;
        let per_second = |count| count as f64 / (requests_elapsed_ns.max(1) as f64 / 1e9);
        let bytes = (counts.sectors_read + counts.sectors_written) * SECTOR_SIZE;
        let is_told = *driver != ReplayDriver::RealKernel;
        Report {
            requests: counts.requests,
            sectors_read: counts.sectors_read,
            sectors_written: counts.sectors_written,
            sectors_written_with_data: counts.sectors_with_data,
            sectors_verified: counts.sectors_compared,
            sectors_verified_zeros: counts.sectors_zeros,
            sectors_in_holes: counts.sectors_in_holes,
            sectors_sampled: counts.sectors_sampled,
            mismatches: counts.mismatches,
            other_faults: counts.other_faults,
            mismatch_examples: counts.examples,
            mismatch_examples_left_out: counts.examples_left_out,
            flushes: counts.flushes,
            fua_writes: counts.fua_writes,
            discards: counts.discards,
            discards_unsupported: counts.discards_unsupported,
            syncs: is_told.then_some(statistics.syncs),
            bitmap_writes: is_told.then_some(statistics.bitmap_writes),
            resizes: counts.resizes,
            elapsed_ns: self.elapsed_ns,
            requests_elapsed_ns,
            verify_elapsed_ns,
            requests_per_second: per_second(counts.requests),
            bytes_per_second: per_second(bytes),
            latency: self.latency,
            pace: self.pace,
            records_skipped: trace.notes().skipped,
            requests_rounded: trace.notes().rounded,
            requests_unsupported: trace.left_out().unsupported,
            requests_earlier: trace.notes().earlier,
            requests_earlier_by_at_most_ns: trace.notes().earlier_by_at_most.0,
            requests_failed_in_trace: trace.notes().served.failed.values().sum(),
            io: None,
            driver: driver.name(),
            defects: driver.defects(),
            small_pipe_requests: driver.small_pipe(),
            finished_switch: false,
            backing_note: None,
            backing_unchanged: None,
            stamps_only: false,
            timeline: self.timeline,
        }
    }
}
