//! The move within the file while requests are served: what they wait.

use driver::open::{OpenOptions, open};
use hdrhistogram::Histogram;
use userhelper::image::open::close;
use userhelper::planner::plan;
use userhelper::real_files::RealHost;
use userhelper::reflow::Windows;
use userhelper::resize::{PlannedResize, surroundings};

use super::case::Case;
use super::image::remove;
use super::live_client::{Client, Latencies};
use super::reflow::wish;
use super::{BenchError, specification};
use crate::bench::programs::{cp, settle};
use crate::bench::{Row, Unit};
use crate::clock;
use crate::device::{BlockDevice, Io, SharedDevice, Stepped, Taken};

pub(super) const WHAT: &str = "live reflow";

/// No request is to wait longer.
const LONGEST_MS: f64 = 50.0;

/// The 99th percentile of the requests that no window is over is to be at most twice that of all
/// before the move.
const BESIDE_BEFORE: f64 = 0.5;

/// Requests that are served before the move, to compare with.
const BEFORE: u64 = 2000;

/// The most operations under way at once.
const DEPTH: usize = 32;

/// What a move gave, with its operations carried out in one way.
struct Moved {
    taken: Taken,
    before: Latencies,
    during: Latencies,
    windows: Windows,
    syncs: u64,
    seconds: f64,
}

/// The move with all operations carried out on the device's thread, and with an executor; or only
/// as asked for.
pub(super) fn measure(case: &Case<'_>) -> Result<Vec<Row>, BenchError> {
    let mut rows = Vec::new();
    let both = [Io::Inline, Io::Auto];
    let asked = case.settings.io;
    for io in asked.as_ref().map_or(&both[..], std::slice::from_ref) {
        case.settings.check_stop()?;
        rows.extend(rows_of(case, &moved(case, *io)?));
    }
    Ok(rows)
}

fn moved(case: &Case<'_>, io: Io) -> Result<Moved, BenchError> {
    let names = &case.names;
    remove(&names.device)?;
    cp(case.settings, &names.kept, &names.device)?;
    settle(case.settings, &names.device);
    let failed = |error: String| BenchError::Device(error);
    let spec = specification(&names.device);
    let device = open(&RealHost, &spec, OpenOptions::default())?.device;
    let syncs_before = device.statistics().syncs;
    let planned = surroundings(&RealHost, &names.device, &device)
        .map_err(|error| failed(error.to_string()))
        .and_then(|known| {
            plan(&device, wish(case.new_size(), true), known)
                .map_err(|error| failed(error.to_string()))
        })
        .and_then(|plan| {
            PlannedResize::new(&plan, RealHost, &names.device, &device)
                .map_err(|error| failed(error.to_string()))
        })?;
    let progress = planned.progress();

    let chosen = io.choose(DEPTH);
    let chosen = chosen.map_err(|error| failed(error.to_string()))?;
    let executor = chosen.executor();
    let stepped = match executor.map_err(|error| failed(error.to_string()))? {
        None => Stepped::new(device),
        Some(executor) => Stepped::on(device, executor),
    };
    let shared = SharedDevice::start(stepped).map_err(|error| failed(error.to_string()))?;
    let mut live = shared.handle();
    let mut client = Client::new(&case.layout, progress.clone());
    let mut before = Latencies::new();
    client.run(&mut live, &mut before, |_, served| served < BEFORE)?;
    live.resize(Box::new(planned))
        .map_err(|error| failed(error.to_string()))?;
    let mut during = Latencies::new();
    let started = clock::start();
    let mut outcome = None;
    client.run(&mut live, &mut during, |live, _| {
        if outcome.is_none() {
            // A device that does not go on takes no more requests either, and says why.
            outcome = live.resized(false).ok().flatten();
        }
        outcome.is_none() && case.settings.check_stop().is_ok()
    })?;
    let time = started.elapsed();
    drop(live);
    let device = (shared.stop().map_err(|error| failed(error.to_string()))?).driver;
    case.settings.check_stop()?;
    match outcome {
        Some(Ok(_)) => {}
        Some(Err(error)) => return Err(failed(error.to_string())),
        None => return Err(failed("the resize gave no result".into())),
    }
    let syncs = device.statistics().syncs - syncs_before;
    close(device, &names.device)?;
    remove(&names.device)?;
    Ok(Moved {
        taken: chosen.taken(),
        before,
        during,
        windows: progress.windows(),
        syncs,
        seconds: time.as_secs_f64(),
    })
}

fn rows_of(case: &Case<'_>, moved: &Moved) -> Vec<Row> {
    let (before, during) = (&moved.before, &moved.during);
    let name = format!("{}, {}", case.name(WHAT), moved.taken.name());
    let row = |what: &str, value: f64, unit: Unit| Row::new(format!("{name}: {what}"), value, unit);
    let ms = |what: &str, ns: u64| row(what, ns as f64 / 1e6, Unit::Milliseconds);
    let beside = |what: &str, times: &Histogram<u64>, quantile: f64| {
        let quiet = before.all.value_at_quantile(quantile) as f64 / 1e6;
        ms(what, times.value_at_quantile(quantile)).against("before the move", quiet)
    };
    let count = |what: &str, count: u64| row(what, count as f64, Unit::Count);
    let rate = case.rate(moved.seconds);
    let rows = [
        beside("median", &during.all, 0.5),
        beside("99 %", &during.all, 0.99),
        beside("99.9 %", &during.all, 0.999),
        beside("99 % outside the window", &during.outside, 0.99).target(BESIDE_BEFORE),
        ms("longest", during.all.max()).target(LONGEST_MS),
        ms("longest window", moved.windows.longest_ns),
        count("windows", moved.windows.count),
        count("syncs", moved.syncs),
        count("requests during the move", during.all.len()),
        count("of these outside the window", during.outside.len()),
        row("data moved", rate, Unit::GigabytesPerSecond),
    ];
    rows.map(|row| row.by(moved.taken)).into()
}
