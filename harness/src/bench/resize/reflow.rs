//! The move within the file, offline, beside a copy of it.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use driver::resize::Strategy;
use driver::units::Bytes;
use userhelper::image::open::{Trust, close};
use userhelper::image::resize::{carry_out, open_for_resize, plan_resize};
use userhelper::planner::{Shrink, Wish};
use userhelper::real_files::RealHost;

use super::case::Case;
use super::image::remove;
use super::{BenchError, Settings, turns};
use crate::bench::programs::{cp, settle};
use crate::bench::{Row, Unit};
use crate::clock;

pub(super) const WHAT: &str = "offline reflow";

const TURNS: usize = 3;

/// The least share of the copy's throughput.
const SHARE: f64 = 0.5;

pub(super) fn measure(case: &Case<'_>) -> Result<Vec<Row>, BenchError> {
    let names = &case.names;
    let mut syncs = 0;
    remove(&names.device)?;
    let [ours, theirs, freed] = turns(case.settings, TURNS, || {
        settle(case.settings, &names.kept);
        let [_, theirs] = cp(case.settings, &names.kept, &names.device)?;
        settle(case.settings, &names.device);
        let moved = reflow(case.settings, &names.device, case.new_size())?;
        syncs = moved.syncs;
        let started = clock::start();
        remove(&names.device)?;
        Ok([moved.time, theirs, started.elapsed()])
    })?;
    let name = case.name(WHAT);
    Ok(vec![
        Row::new(name.clone(), case.rate(ours), Unit::GigabytesPerSecond)
            .against("cp --sparse=always, fsync", case.rate(theirs))
            .target(SHARE),
        // A reflow has given the old places back when it ends.
        Row::new(
            format!("{name}, old space given back"),
            case.rate(ours),
            Unit::GigabytesPerSecond,
        )
        .against(
            "cp --sparse=always, fsync, rm of the old",
            case.rate(theirs + freed),
        ),
        Row::new(format!("{name}: syncs"), syncs as f64, Unit::Count),
    ])
}

/// A reflow that was done.
pub(super) struct Moved {
    pub(super) time: Duration,
    pub(super) syncs: u64,
}

/// Opens the COW file, moves its data, and closes it. Ends early when the measuring is to end.
pub(super) fn reflow(
    settings: Settings<'_>,
    cow: &Path,
    new_size: Bytes,
) -> Result<Moved, BenchError> {
    let started = clock::start();
    let mut image = open_for_resize(&RealHost, cow, Trust::Follow, false)?;
    let plan = plan_resize(&RealHost, &image, wish(new_size, false))?;
    let moved = carry_out(
        &RealHost,
        &mut image,
        &plan,
        &mut |_, _| match settings.check_stop() {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        },
    );
    settings.check_stop()?;
    moved?;
    let syncs = image.device.statistics().syncs;
    close(image.device, cow)?;
    let time = started.elapsed();
    Ok(Moved { time, syncs })
}

pub(super) fn wish(new_size: Bytes, online: bool) -> Wish {
    Wish {
        new_size,
        strategy: Some(Strategy::Reflow),
        shrink: Shrink::Refuse,
        online,
    }
}
