//! Recorded traces: those that are part of the program, and given files.

use std::path::Path;

use driver::units::SECTOR_SIZE;

use super::{Plan, ReplayBenchError, in_memory, on_files};
use crate::bench::{Row, Unit, median};
use crate::clock;
use crate::replay::Report;
use crate::replay::options::OpenTrace;
use crate::stamp::Coverage;
use crate::trace::{self, Bundled, ReadOptions};

/// What a replay with full payload should reach of a given file, in GB/s.
const PAYLOAD_TARGET: f64 = 2.0;

/// A trace is replayed so often, or until it has taken this long.
const MOST_ROUNDS: usize = 9;
const ENOUGH_NS: u64 = 8_000_000_000;

/// The fewest rounds.
const FEWEST_ROUNDS: usize = 3;

/// Measures the rows.
pub(super) fn measure(
    plan: &Plan<'_>,
    each: &mut impl FnMut(Vec<Row>),
) -> Result<(), ReplayBenchError> {
    for bundled in Bundled::ALL {
        rows(plan, bundled.name, &|| bundled.open(), None, each)?;
    }
    for path in plan.files {
        let name = match path.file_name() {
            Some(name) => name.to_string_lossy(),
            None => path.to_string_lossy(),
        };
        let open = || open_file(path);
        rows(
            plan,
            &driver::shown(Path::new(&*name)),
            &open,
            Some(PAYLOAD_TARGET),
            each,
        )?;
    }
    Ok(())
}

fn open_file(path: &Path) -> Result<Box<dyn trace::TraceSource>, trace::TraceError> {
    trace::open(path, &ReadOptions::default())
}

fn rows(
    plan: &Plan<'_>,
    name: &str,
    open: OpenTrace<'_>,
    target: Option<f64>,
    each: &mut impl FnMut(Vec<Row>),
) -> Result<(), ReplayBenchError> {
    let [payload, requests, whole, stamps] = [
        "payload",
        "requests",
        "payload, comparisons of the whole device included",
        "stamps only",
    ]
    .map(|what| format!("replay/{name}/{what}"));
    let is_wanted = |name: &str| plan.only.wanted(name);
    if [&payload, &requests, &whole]
        .iter()
        .any(|name| is_wanted(name))
    {
        let reports = replays(name, open, Coverage::Whole)?;
        let of = |figure: fn(&Report) -> f64| figures(&reports, figure);
        let speed = Row::new(&payload, of(gigabytes_a_second), Unit::GigabytesPerSecond);
        let speed = match target {
            Some(target) => speed.target(target),
            None => speed,
        };
        let all = [
            speed,
            Row::new(
                &requests,
                of(|report| report.requests_per_second),
                Unit::PerSecond,
            ),
            Row::new(
                &whole,
                of(gigabytes_a_second_in_all),
                Unit::GigabytesPerSecond,
            ),
        ];
        each(all.into_iter().filter(|row| is_wanted(&row.name)).collect());
    }
    let files = format!("replay/{name}/requests, on files");
    if let Some((io, directory)) = plan.on_files
        && is_wanted(&files)
    {
        let reports = (0..FEWEST_ROUNDS).map(|_| on_files(name, open, io, directory));
        let reports: Vec<_> = reports.collect::<Result<_, _>>()?;
        let row = Row::new(
            files,
            figures(&reports, |report| report.requests_per_second),
            Unit::PerSecond,
        );
        let taken = reports.first().and_then(|report| report.io);
        each(vec![taken.into_iter().fold(row, Row::by)]);
    }
    if is_wanted(&stamps) {
        let reports = replays(name, open, Coverage::Front)?;
        let value = figures(&reports, |report| report.requests_per_second);
        each(vec![Row::new(stamps, value, Unit::PerSecond)]);
    }
    Ok(())
}

/// Replays it several times.
fn replays(
    name: &str,
    open: OpenTrace<'_>,
    coverage: Coverage,
) -> Result<Vec<Report>, ReplayBenchError> {
    let (mut reports, started) = (Vec::new(), clock::start());
    while reports.len() < FEWEST_ROUNDS
        || reports.len() < MOST_ROUNDS && started.elapsed_ns() < ENOUGH_NS
    {
        reports.push(in_memory(name, open, coverage)?);
    }
    Ok(reports)
}

fn figures(reports: &[Report], figure: fn(&Report) -> f64) -> f64 {
    let values: Vec<_> = reports.iter().map(figure).collect();
    median(&values)
}

/// Payload that was read and written, and compared where it was read.
fn payload(report: &Report) -> f64 {
    ((report.sectors_read + report.sectors_written) * SECTOR_SIZE) as f64
}

fn gigabytes_a_second(report: &Report) -> f64 {
    payload(report) / report.elapsed_ns.max(1) as f64
}

/// The replay's payload over the time of the replay and of the comparisons of the whole device.
fn gigabytes_a_second_in_all(report: &Report) -> f64 {
    payload(report) / (report.elapsed_ns + report.verify_elapsed_ns).max(1) as f64
}
