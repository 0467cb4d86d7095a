//! `ubdlab trace stat`, for people.

use driver::plural;
use std::fmt;

use crate::figures::{counted, grouped, size, time};
use crate::trace::Statistics;
use crate::trace::stat::Lengths;

use super::output::InLines;

/// Statistics as text.
pub(super) struct Shown<'a>(pub(super) &'a Statistics);

impl InLines for Shown<'_> {}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statistics = self.0;
        requests(f, statistics)?;
        lengths(f, "read sizes", &statistics.read_sizes)?;
        lengths(f, "write sizes", &statistics.write_sizes)?;
        working_set(f, statistics)?;
        flushes(f, statistics)?;
        hot_regions(f, statistics)
    }
}

/// A share, in percent.
fn of(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

fn bytes(sectors: u64) -> String {
    size(sectors.saturating_mul(512))
}

fn requests(f: &mut fmt::Formatter<'_>, statistics: &Statistics) -> fmt::Result {
    let summary = &statistics.summary;
    writeln!(
        f,
        "requests    {} in {}: {:.1} a second",
        grouped(summary.requests),
        summary.duration_ns,
        statistics.requests_per_second
    )?;
    for (name, count, sectors) in [
        ("reads", summary.reads, summary.sectors_read),
        ("writes", summary.writes, summary.sectors_written),
        ("flushes", summary.flushes, 0),
        ("discards", summary.discards, summary.sectors_discarded),
        ("zeroes", summary.write_zeroes, summary.sectors_zeroed),
    ] {
        if count > 0 {
            let (count, share) = (grouped(count), of(count, summary.requests));
            writeln!(
                f,
                "  {name:<9} {count:>12} {share:5.1} %  {}",
                bytes(sectors)
            )?;
        }
    }
    writeln!(
        f,
        "  of writes {} with preflush, {} FUA",
        grouped(summary.preflush_writes),
        grouped(summary.fua_writes)
    )
}

fn working_set(f: &mut fmt::Formatter<'_>, statistics: &Statistics) -> fmt::Result {
    let summary = &statistics.summary;
    writeln!(
        f,
        "sequential  {:.1} % of reads, {:.1} % of writes",
        of(statistics.sequential_reads, summary.reads),
        of(statistics.sequential_writes, summary.writes)
    )?;
    let set = &statistics.working_set;
    writeln!(
        f,
        "working set {} of which {} read, {} written (counted in blocks of {})",
        size(set.touched_bytes),
        size(set.read_bytes),
        size(set.written_bytes),
        size(set.block_bytes)
    )?;
    writeln!(
        f,
        "overwritten {}, {:.1} % of what was written",
        bytes(statistics.sectors_overwritten),
        statistics.overwrite_share * 100.0
    )
}

fn flushes(f: &mut fmt::Formatter<'_>, statistics: &Statistics) -> fmt::Result {
    let flushes = &statistics.flush_intervals;
    if flushes.count == 0 {
        return Ok(());
    }
    writeln!(
        f,
        "flushes     every {} (median; 99 %: {}, longest {}), every {} (99 %: {}, most {})",
        time(flushes.p50_ns),
        time(flushes.p99_ns),
        time(flushes.max_ns),
        counted(flushes.p50_writes, "write"),
        grouped(flushes.p99_writes),
        grouped(flushes.max_writes)
    )
}

fn hot_regions(f: &mut fmt::Formatter<'_>, statistics: &Statistics) -> fmt::Result {
    writeln!(
        f,
        "hot regions of {}, {} of them touched",
        size(statistics.hot_region_bytes),
        grouped(statistics.regions_touched)
    )?;
    for region in &statistics.hot_regions {
        writeln!(
            f,
            "  at {:>12} {:>12} {:<8} {:5.1} %  {}",
            size(region.start_byte),
            grouped(region.requests),
            plural(region.requests, "request"),
            of(region.requests, statistics.summary.requests),
            bytes(region.sectors)
        )?;
    }
    Ok(())
}

fn lengths(f: &mut fmt::Formatter<'_>, name: &str, lengths: &Lengths) -> fmt::Result {
    if lengths.classes.is_empty() {
        return Ok(());
    }
    writeln!(
        f,
        "{name:<11} {} to {}, mean {}",
        size(lengths.min_bytes),
        size(lengths.max_bytes),
        size(lengths.mean_bytes as u64)
    )?;
    let most = lengths.classes.iter().map(|class| class.requests).max();
    for class in &lengths.classes {
        // A bar of at most 40, at least 1 where there is anything.
        let bar = u128::from(class.requests) * 40 / u128::from(most.unwrap_or(1).max(1));
        writeln!(
            f,
            "  up to {:>10} {:>12} {}",
            size(class.up_to_bytes),
            grouped(class.requests),
            "#".repeat((bar as usize).max(1))
        )?;
    }
    Ok(())
}
