//! What a bare ring gains by files, and by files and buffers, that the kernel is told of before the
//! first read. A device's executor tells it of neither.

use bare::Registered;

use super::super::device::SetUpError;
use super::Turns;
use super::cases::{Cache, WARM_DEPTH};
use super::times::rate;
use super::without_device::Bare;
use crate::bench::{Only, Row, Unit};

/// A row, and what the kernel is told of.
pub(super) type Wanted = (&'static str, Registered);

const ROWS: [Wanted; 2] = [
    (
        "io/warm 4 KiB read, a bare io_uring loop, depth 32, registered files",
        Registered::Files,
    ),
    (
        "io/warm 4 KiB read, a bare io_uring loop, depth 32, registered files and buffers",
        Registered::FilesAndBuffers,
    ),
];

/// The rows that are asked for.
pub(super) fn wanted(only: &Only) -> Vec<Wanted> {
    let rows = ROWS.into_iter();
    rows.filter(|(name, _)| only.wanted(name)).collect()
}

/// Measures these rows.
pub(super) fn measure(turns: &Turns, rows: &[Wanted]) -> Result<Vec<Row>, SetUpError> {
    let places = turns.places(Cache::Warm);
    let timed = |way: Bare| turns.bare(Cache::Warm, way, WARM_DEPTH, &places);
    // The first turn does not wait for the disk either.
    timed(Bare::InTurn)?;
    let mut nothing = Vec::new();
    let mut others = vec![Vec::new(); rows.len()];
    for _ in 0..turns.scale.runs {
        let kinds = rows.iter().map(|(_, registered)| *registered);
        let each = [Registered::Nothing].into_iter().chain(kinds);
        let all = std::iter::once(&mut nothing).chain(&mut others);
        for (registered, seconds) in each.zip(all) {
            let time = timed(Bare::RingKnowing(registered))?;
            seconds.extend(time.map(|time| time.as_secs_f64()));
        }
    }
    let rate = |seconds: &[f64]| rate(turns.scale.reads, seconds);
    let row = |(name, seconds): (&str, &Vec<f64>)| match nothing.is_empty() || seconds.is_empty() {
        true => Row::skipped(name, Unit::PerSecond, "io_uring"),
        false => Row::new(name, rate(seconds), Unit::PerSecond)
            .against("with nothing registered", rate(&nothing)),
    };
    let names = rows.iter().map(|(name, _)| *name);
    Ok(names.zip(&others).map(row).collect())
}
