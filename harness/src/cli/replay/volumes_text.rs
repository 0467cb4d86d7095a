//! What became of each volume of a trace, as text.

use std::fmt;

use driver::OneLine;

use crate::figures::{counted, grouped, size, time};
use crate::replay::report::latency_time;
use crate::replay::volumes::{Outcome, Volume, VolumeReport, VolumesResult};

use super::super::output::InLines;

/// A result, for a reader. What was read from a file may say anything in its words.
pub(super) struct Text<'a>(pub(super) &'a VolumesResult);

impl InLines for Text<'_> {}

/// The width of a volume's name in the table.
const NAME: usize = 20;

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Text(result) = self;
        let replay = &result.replay;
        writeln!(
            f,
            "trace      {}: {} to {}",
            OneLine(&replay.trace),
            counted(replay.trace_requests, "request"),
            counted(replay.trace_volumes, "volume")
        )?;
        if !replay.options.is_empty() {
            writeln!(f, "options    {}", OneLine(&replay.options))?;
        }
        if let Some(shard) = result.shards.single() {
            writeln!(f, "shard      {shard} of the volumes")?;
        }
        writeln!(
            f,
            "replayed   {} with {} in {}",
            counted(result.reports().count() as u64, "volume"),
            counted(result.sum(|report| report.requests), "request"),
            time(result.elapsed_ns)
        )?;
        writeln!(
            f,
            "           {} read, {} written, {}, {}",
            size(result.sum(|report| report.sectors_read).saturating_mul(512)),
            size(
                result
                    .sum(|report| report.sectors_written)
                    .saturating_mul(512)
            ),
            counted(result.sum(|report| report.flushes), "flush"),
            counted(result.sum(|report| report.discards), "discard"),
        )?;
        writeln!(
            f,
            "verified   {} against the models: {}",
            counted(result.sum(|report| report.sectors_verified), "sector"),
            counted(result.sum(|report| report.mismatches), "mismatch")
        )?;
        for (name, count, what) in [
            (
                "wrong",
                result
                    .volumes
                    .iter()
                    .filter(|volume| volume.is_wrong())
                    .count(),
                "shows what it should not",
            ),
            (
                "failed",
                result
                    .volumes
                    .iter()
                    .filter(|volume| volume.has_failed())
                    .count(),
                "could not be replayed",
            ),
        ] {
            if count > 0 {
                let what = match (name, count) {
                    ("wrong", 2..) => "show what they should not",
                    _ => what,
                };
                writeln!(f, "{name:<10} {} {what}", counted(count as u64, "volume"))?;
            }
        }
        writeln!(
            f,
            "\n{:<NAME$} {:>12} {:>12} {:>12} {:>12}  slowest 1 %",
            "volume", "requests", "a second", "read", "written"
        )?;
        let volumes = result.worst_first();
        volumes.into_iter().try_for_each(|volume| row(f, volume))
    }
}

fn row(f: &mut fmt::Formatter<'_>, volume: &Volume) -> fmt::Result {
    // Longer names push the rest of their row to the right.
    let name = OneLine(&volume.volume).to_string();
    match &volume.outcome {
        Outcome::Replayed(report) => {
            write!(f, "{name:<NAME$} ")?;
            numbers(f, report)?;
            wrong(f, report)
        }
        Outcome::NothingTaken { why } => {
            writeln!(f, "{name:<NAME$} nothing taken: {}", OneLine(why))
        }
        Outcome::Failed { error } => writeln!(f, "{name:<NAME$} FAILED: {}", OneLine(error)),
    }
}

fn numbers(f: &mut fmt::Formatter<'_>, report: &VolumeReport) -> fmt::Result {
    let (kind, latency) = report.slowest_kind();
    let slowest = match latency.p99_ns {
        0 => latency_time(0),
        ns => format!("{} ({kind})", latency_time(ns)),
    };
    writeln!(
        f,
        "{:>12} {:>12} {:>12} {:>12}  {slowest}",
        grouped(report.requests),
        grouped(report.requests_per_second()),
        size(report.sectors_read.saturating_mul(512)),
        size(report.sectors_written.saturating_mul(512)),
    )
}

/// What is wrong, under the volume's row.
fn wrong(f: &mut fmt::Formatter<'_>, report: &VolumeReport) -> fmt::Result {
    if let Some(what) = report.what_is_wrong() {
        writeln!(f, "  WRONG    {what}")?;
    }
    for example in &report.mismatch_examples {
        writeln!(f, "           {}", OneLine(example))?;
    }
    match report.mismatch_examples_left_out {
        0 => Ok(()),
        more => writeln!(
            f,
            "           and {} that went wrong",
            counted(more, "more comparison")
        ),
    }
}
