//! The page of a trace whose volumes were replayed each by itself: all of them, worst first.

use crate::figures::{counted, grouped, size, time};
use crate::replay::report::latency_time;
use crate::replay::volumes::{Outcome, Volume, VolumeReport, VolumesResult};

use super::page::{Page, Verdict};

/// The page.
pub fn volumes_page(result: &VolumesResult) -> String {
    let mut page = head(result);
    let bytes = |sectors: fn(&VolumeReport) -> u64| size(result.sum(sectors).saturating_mul(512));
    page.figures(&[
        ("volumes", grouped(result.volumes.len() as u64)),
        ("requests", grouped(result.sum(|report| report.requests))),
        ("time", time(result.elapsed_ns)),
        ("read", bytes(|report| report.sectors_read)),
        ("written", bytes(|report| report.sectors_written)),
        ("flushes", grouped(result.sum(|report| report.flushes))),
        ("discards", grouped(result.sum(|report| report.discards))),
        (
            "sectors compared",
            grouped(result.sum(|report| report.sectors_verified)),
        ),
        (
            "of them zeros",
            grouped(result.sum(|report| report.sectors_verified_zeros)),
        ),
        (
            "sectors in holes",
            grouped(result.sum(|report| report.sectors_in_holes)),
        ),
        (
            "mismatches",
            grouped(result.sum(|report| report.mismatches)),
        ),
    ]);
    let volumes = result.worst_first();
    troubles(&mut page, &volumes);
    table(&mut page, &volumes);
    let replay = &result.replay;
    page.section("trace", "The trace");
    page.paragraph(format_args!(
        "{}: {} to {}.",
        replay.trace,
        counted(replay.trace_requests, "request"),
        counted(replay.trace_volumes, "volume")
    ));
    page.paragraph(match &replay.options[..] {
        "" => "Replayed with the usual options.".to_owned(),
        options => format!("Replayed with {options}."),
    });
    page.paragraph(format_args!("By ubdlab {}.", replay.version));
    page.end_section();
    page.finish()
}

fn head(result: &VolumesResult) -> Page {
    let title = format!("Volumes of {}", result.replay.trace);
    let count = |is: fn(&Volume) -> bool| {
        let those = result.volumes.iter().filter(|volume| is(volume));
        those.count() as u64
    };
    let (wrong, failed) = (count(Volume::is_wrong), count(Volume::has_failed));
    let shard = match result.shards.single() {
        Some(shard) => format!(" These are the volumes of shard {shard}."),
        None => String::new(),
    };
    let replayed = counted(result.reports().count() as u64, "volume");
    let compared = grouped(result.sum(|report| report.sectors_verified));
    let not_replayed = match failed {
        0 => String::new(),
        failed => format!(" {} could not be replayed.", counted(failed, "volume")),
    };
    let (verdict, headline, meaning) = match (wrong, failed) {
        (0, 0) => (
            Verdict::Good,
            "Nothing was lost".to_owned(),
            format!(
                "{replayed} replayed, each on a device of its own. Each of the {compared} sectors \
                 compared with independent models shows what it should.{shard}"
            ),
        ),
        (0, _) => (
            Verdict::Open,
            "Nothing was lost in what was replayed".to_owned(),
            format!(
                "{replayed} replayed: each of the {compared} sectors compared shows what it \
                 should.{not_replayed}{shard}"
            ),
        ),
        (wrong, _) => {
            let mismatches = grouped(result.sum(|report| report.mismatches));
            (
                Verdict::Bad,
                format!("Not all is well with {}", counted(wrong, "volume")),
                format!(
                    "{replayed} replayed. Of {compared} sectors compared, {mismatches} show not \
                     what is right.{not_replayed}{shard}"
                ),
            )
        }
    };
    Page::new(&title, verdict, &headline, &meaning)
}

/// What is wrong with volumes, and why others were not replayed, in words.
fn troubles(page: &mut Page, volumes: &[&Volume]) {
    let is_troubled = |volume: &&&Volume| volume.is_wrong() || volume.has_failed();
    let mut troubled = volumes.iter().filter(is_troubled).peekable();
    if troubled.peek().is_none() {
        return;
    }
    page.section("wrong", "What is wrong");
    for volume in troubled {
        let name = &volume.volume;
        match &volume.outcome {
            Outcome::Replayed(report) => {
                let what = report.what_is_wrong().unwrap_or_default();
                page.paragraph(format_args!("{name}: {what}"));
                report
                    .mismatch_examples
                    .iter()
                    .for_each(|example| page.paragraph(example));
            }
            Outcome::Failed { error } => {
                page.paragraph(format_args!("{name}: not replayed: {error}"));
            }
            Outcome::NothingTaken { .. } => {}
        }
    }
    page.end_section();
}

fn table(page: &mut Page, volumes: &[&Volume]) {
    page.section("volumes", "The volumes");
    page.paragraph(
        "The worst first: those with most that is wrong, those that could not be replayed, those of \
         which no request was taken, then those of which the slowest hundredth of reads, writes or \
         flushes is slowest.",
    );
    let head = [
        "volume",
        "what became of it",
        "device",
        "requests",
        "a second",
        "read",
        "written",
        "flushes",
        "99 %",
        "slowest",
    ];
    let mut rows = vec![head.map(String::from).to_vec()];
    rows.extend(volumes.iter().map(|volume| row(volume)));
    page.table(&rows);
    page.end_section();
}

fn row(volume: &Volume) -> Vec<String> {
    let name = volume.volume.clone();
    let report = match &volume.outcome {
        Outcome::Replayed(report) => report,
        Outcome::NothingTaken { .. } => return vec![name, "no request was taken".to_owned()],
        Outcome::Failed { .. } => return vec![name, "not replayed".to_owned()],
    };
    let bytes = |sectors: u64| size(sectors.saturating_mul(512));
    let (kind, latency) = report.slowest_kind();
    let p99 = match latency.p99_ns {
        0 => latency_time(0),
        ns => format!("{} ({kind})", latency_time(ns)),
    };
    vec![
        name,
        report
            .what_is_wrong()
            .unwrap_or_else(|| "all well".to_owned()),
        bytes(report.device_sectors),
        grouped(report.requests),
        grouped(report.requests_per_second()),
        bytes(report.sectors_read),
        bytes(report.sectors_written),
        grouped(report.flushes),
        p99,
        latency_time(latency.max_ns),
    ]
}
