//! What those took that have turns, and the rows of it.

use std::time::Duration;

use super::cases::Cache;
use crate::bench::{Row, Unit, median};
use crate::device::Taken;

/// The seconds of each turn, by the name of whoever had it.
type Turns = Vec<(&'static str, Vec<f64>)>;

/// The least share of the rate of the best without a device.
const BESIDE_BARE: f64 = 0.9;

/// How many times the rate of the best way of qcow2 is asked for.
const TIMES_QCOW2: f64 = 1.0;

/// What the turns of a row took.
#[derive(Default)]
pub(super) struct Times {
    pub(super) device: Turns,
    pub(super) bare: Turns,
    pub(super) qemu: Turns,
}

pub(super) fn note(turns: &mut Turns, name: &'static str, time: Duration) {
    let seconds = time.as_secs_f64();
    match turns.iter_mut().find(|(of, _)| *of == name) {
        Some((_, turns)) => turns.push(seconds),
        None => turns.push((name, vec![seconds])),
    }
}

/// The reads a second: those of a turn, divided by the median of what the turns took.
pub(super) fn rate(reads: u64, seconds: &[f64]) -> f64 {
    reads as f64 / median(seconds)
}

impl Times {
    /// The rows of turns of `reads` reads: the fastest device beside the best of the others, and
    /// beside each of them.
    pub(super) fn rows(&self, name: &str, cache: Cache, reads: u64) -> Vec<Row> {
        let rates = |turns: &Turns| -> Vec<(&'static str, f64)> {
            let rates = turns.iter();
            rates
                .map(|(name, seconds)| (*name, rate(reads, seconds)))
                .collect()
        };
        let [device, bare, qemu] = [&self.device, &self.bare, &self.qemu].map(rates);
        let Some((own, own_rate)) = best(&device) else {
            return Vec::new();
        };
        let row = Row::new(name, own_rate, Unit::PerSecond);
        let row = Taken::named(own).into_iter().fold(row, Row::by);
        let beside = |baseline: String, rate: f64| row.clone().against(baseline, rate);
        let mut rows = Vec::new();
        if let Some((way, rate)) = best(&bare) {
            let baseline = format!("{own}; without a device, best of all ways, {way}");
            rows.push(beside(baseline, rate).target(BESIDE_BARE));
        }
        match best(&qemu) {
            Some((mode, rate)) => {
                let baseline = format!("{own}; qemu-img bench, qcow2, best of all modes, {mode}");
                rows.push(beside(baseline, rate).target(TIMES_QCOW2));
            }
            None if cache == Cache::Warm => {}
            None => {
                let mut row = row.clone();
                row.baseline = Some("qemu-img bench, qcow2: skipped, needs qemu-img".into());
                rows.push(row);
            }
        }
        let others = device.iter().filter(|(name, _)| *name != own);
        rows.extend(others.map(|(name, rate)| beside(format!("the same, {name}"), *rate)));
        for (what, rates) in [
            ("without a device", &bare),
            ("qemu-img bench, qcow2", &qemu),
        ] {
            let each = rates.iter();
            rows.extend(each.map(|(name, rate)| beside(format!("{what}, {name}"), *rate)));
        }
        rows
    }
}

/// The fastest, and its rate.
fn best(rates: &[(&'static str, f64)]) -> Option<(&'static str, f64)> {
    let rates = rates.iter().copied();
    rates.max_by(|one, other| one.1.total_cmp(&other.1))
}
