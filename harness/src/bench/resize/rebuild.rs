//! The rebuild into a new file, beside a copy of the old one.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use driver::units::Bytes;

use super::case::Case;
use super::image::{Names, remove};
use super::{BenchError, Settings, turns};
use crate::bench::programs::{cp, run, settle};
use crate::bench::{Row, Unit};
use crate::clock;

pub(super) const WHAT: &str = "rebuild";

const TURNS: usize = 3;

/// The least share of the copy's throughput.
const SHARE: f64 = 0.8;

pub(super) fn measure(case: &Case<'_>) -> Result<Vec<Row>, BenchError> {
    let names = &case.names;
    let [ours, copied, synced, freed] = turns(case.settings, TURNS, || {
        let ours = rebuild(case.settings, names, case.new_size())?;
        remove(&names.other)?;
        settle(case.settings, &names.device);
        let [copied, synced] = cp(case.settings, &names.kept, &names.other)?;
        let started = clock::start();
        remove(&names.other)?;
        settle(case.settings, &names.device);
        Ok([ours, copied, synced, started.elapsed()])
    })?;
    let name = case.name(WHAT);
    let row = |name: String| Row::new(name, case.rate(ours), Unit::GigabytesPerSecond);
    let rows = vec![
        row(name.clone())
            .against("cp --sparse=always, fsync", case.rate(synced))
            .target(SHARE),
        row(format!("{name}, durable"))
            .against("cp --sparse=always, not durable", case.rate(copied)),
        Row::new(
            format!("{name}: rm of such a file"),
            freed * 1e3,
            Unit::Milliseconds,
        ),
    ];
    Ok(rows)
}

/// Rebuilds the device as it was made into one of this size, in a process of its own. The old
/// file stays open meanwhile, so that neither this nor the copy frees what it takes up.
pub(super) fn rebuild(
    settings: Settings<'_>,
    names: &Names,
    new_size: Bytes,
) -> Result<Duration, BenchError> {
    remove(&names.device)?;
    let copy: [OsString; 3] = [
        "--sparse=always".into(),
        names.kept.clone().into(),
        names.device.clone().into(),
    ];
    run(settings, Path::new("cp"), &copy)?;
    let opened = File::open(&names.device);
    let _old = opened.map_err(BenchError::file(&names.device, "opening"))?;
    settle(settings, &names.device);
    run(
        settings,
        settings.program,
        &resize_arguments(names, new_size, "rebuild"),
    )
}

pub(super) fn resize_arguments(names: &Names, size: Bytes, strategy: &str) -> Vec<OsString> {
    let mut words: Vec<OsString> = ["image", "resize", "--strategy", strategy]
        .map(OsString::from)
        .into();
    words.push(names.device.clone().into());
    words.push(format!("{}K", size.0 / 1024).into());
    words
}
