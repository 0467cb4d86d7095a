//! The move within the file while requests are served: what they wait.

use driver::open::{OpenOptions, open};
use userhelper::image::open::close;
use userhelper::planner::plan;
use userhelper::real_files::RealHost;
use userhelper::resize::{PlannedResize, surroundings};

use super::case::Case;
use super::image::remove;
use super::live_client::{Client, Latencies};
use super::programs::{cp, settle};
use super::reflow::wish;
use super::{BenchError, specification};
use crate::bench::{Row, Unit};
use crate::clock;
use crate::device::{BlockDevice, Live, Running};

pub(super) const WHAT: &str = "live reflow";

/// No request is to wait longer.
const LONGEST_MS: f64 = 50.0;

/// Requests that are served before the move, to compare with.
const BEFORE: u64 = 2000;

pub(super) fn measure(case: &Case<'_>) -> Result<Vec<Row>, BenchError> {
    case.settings.check_stop()?;
    let names = &case.names;
    remove(&names.device)?;
    cp(&names.kept, &names.device)?;
    settle(&names.device);
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

    let mut live = Live::start(device).map_err(|error| failed(error.to_string()))?;
    let mut client = Client::new(&case.layout);
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
    let device = (live.stop().map_err(|error| failed(error.to_string()))?).driver;
    case.settings.check_stop()?;
    match outcome {
        Some(Ok(_)) => {}
        Some(Err(error)) => return Err(failed(error.to_string())),
        None => return Err(failed("the resize gave no result".into())),
    }
    let syncs = device.statistics().syncs - syncs_before;
    close(device, &names.device)?;
    remove(&names.device)?;

    let windows = progress.windows();
    let name = |what: &str| format!("{}: {what}", case.name(WHAT));
    let ms = |what: &str, ns: u64| Row::new(name(what), ns as f64 / 1e6, Unit::Milliseconds);
    let mut rows = Vec::new();
    for (what, quantile) in [("median", 0.5), ("99 %", 0.99), ("99.9 %", 0.999)] {
        let quiet = before.at(quantile) as f64 / 1e6;
        rows.push(ms(what, during.at(quantile)).against("before the move", quiet));
    }
    rows.push(ms("longest", during.at(1.0)).target(LONGEST_MS));
    rows.push(ms("longest window", windows.longest_ns));
    let count = |what: &str, count: u64| Row::new(name(what), count as f64, Unit::Count);
    rows.push(count("windows", windows.count));
    rows.push(count("syncs", syncs));
    rows.push(count("requests during the move", during.count()));
    let rate = case.rate(time.as_secs_f64());
    rows.push(Row::new(name("data moved"), rate, Unit::GigabytesPerSecond));
    Ok(rows)
}
