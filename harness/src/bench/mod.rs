//! Measuring: the hot paths against what they are made of and against other programs, in
//! one run, so that the ratios mean something on a machine that has other things to do.
//!
//! Nothing here decides anything, and no test depends on it: `ubdlab bench` prints what it
//! measured, targets missed included, and ends well.

pub mod fuzz;
mod growth;
pub mod io;
pub mod lookup;
mod only;
mod programs;
pub mod replay;
pub mod resize;
mod rounds;
pub mod serve;
mod settings;
mod table;

use serde::Serialize;

use crate::device::Taken;

pub use growth::{Growth, Order};
pub use only::Only;
pub use rounds::{Contender, Elapsed, median, rounds};
pub use settings::{BenchError, Settings};
pub use table::Table;

/// What a value is counted in, and so whether less of it is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Unit {
    /// Nanoseconds for one operation.
    #[serde(rename = "ns")]
    Nanoseconds,
    /// Microseconds for one operation.
    #[serde(rename = "us")]
    Microseconds,
    /// Milliseconds for one operation.
    #[serde(rename = "ms")]
    Milliseconds,
    /// 1,000,000,000 bytes in a second.
    #[serde(rename = "GB/s")]
    GigabytesPerSecond,
    /// Requests, images, or whatever the row counts, in a second.
    #[serde(rename = "1/s")]
    PerSecond,
    /// 1024 * 1024 bytes.
    #[serde(rename = "MiB")]
    Mebibytes,
    /// A number of things.
    #[serde(rename = "")]
    Count,
    /// Hundredths of the whole.
    #[serde(rename = "%")]
    Percent,
}

impl Unit {
    /// Whether a larger value is the better one.
    pub fn more_is_better(self) -> bool {
        matches!(self, Unit::GigabytesPerSecond | Unit::PerSecond)
    }
}

/// One measured figure, and what it is to be compared with.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What was measured: `lookup/run/half at random/1 GiB`.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// Its unit.
    pub unit: Unit,
    /// What was measured beside it, if anything.
    pub baseline: Option<String>,
    /// The baseline's figure, in the same unit.
    pub baseline_value: Option<f64>,
    /// How many times as good as the baseline the value is: more than 1 is better, also
    /// where less of the unit is.
    pub ratio: Option<f64>,
    /// Where there is a baseline, the least ratio asked for. Elsewhere the worst value.
    pub target: Option<f64>,
    /// Whether the target was met.
    pub met: Option<bool>,
    /// Who carried out what the device asked of its files, where that can be chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io: Option<Taken>,
}

impl Row {
    /// A figure by itself.
    pub fn new(name: impl Into<String>, value: f64, unit: Unit) -> Row {
        Row {
            name: name.into(),
            value,
            unit,
            baseline: None,
            baseline_value: None,
            ratio: None,
            target: None,
            met: None,
            io: None,
        }
    }

    /// A figure that could not be measured, and what is missing.
    pub(in crate::bench) fn skipped(name: impl Into<String>, unit: Unit, needs: &str) -> Row {
        let mut row = Row::new(name, f64::NAN, unit);
        row.baseline = Some(format!("skipped, needs {needs}"));
        row
    }

    /// This figure of a device whose operations were carried out so.
    #[must_use]
    pub fn by(mut self, io: Taken) -> Row {
        self.io = Some(io);
        self
    }

    /// This figure beside that of something else.
    #[must_use]
    pub fn against(mut self, baseline: impl Into<String>, value: f64) -> Row {
        let (better, worse) = if self.unit.more_is_better() {
            (self.value, value)
        } else {
            (value, self.value)
        };
        self.baseline = Some(baseline.into());
        self.baseline_value = Some(value);
        self.ratio = (worse > 0.0).then(|| better / worse);
        self
    }

    /// This figure with what was asked for: a ratio if there is a baseline, else a value.
    #[must_use]
    pub fn target(mut self, target: f64) -> Row {
        self.target = Some(target);
        self.met = match (&self.baseline, self.ratio) {
            (Some(_), ratio) => ratio.map(|ratio| ratio >= target),
            (None, _) if self.unit.more_is_better() => Some(self.value >= target),
            (None, _) => Some(self.value <= target),
        };
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_says_how_many_times_as_good() {
        let time = Row::new("t", 2.0, Unit::Nanoseconds).against("peer", 4.0);
        let rate = Row::new("r", 2.0, Unit::PerSecond).against("peer", 4.0);
        assert_eq!((time.ratio, rate.ratio), (Some(2.0), Some(0.5)));
        assert_eq!(time.target(1.0).met, Some(true));
        assert_eq!(rate.target(0.9).met, Some(false));
    }

    #[test]
    fn without_a_baseline_the_target_is_the_worst_value() {
        let time = |value| Row::new("t", value, Unit::Nanoseconds).target(4.0);
        assert_eq!((time(4.0).met, time(4.1).met), (Some(true), Some(false)));
        let rate = Row::new("r", 3.0, Unit::PerSecond).target(2.0);
        assert_eq!(rate.met, Some(true));
    }

    #[test]
    fn as_json_a_row_has_these_fields_and_nulls_where_nothing_is() {
        let row = Row::new("a", 1.5, Unit::Nanoseconds);
        assert_eq!(
            serde_json::to_string(&row).expect("it is plain"),
            r#"{"name":"a","value":1.5,"unit":"ns","baseline":null,"baseline_value":null,"#
                .to_owned()
                + r#""ratio":null,"target":null,"met":null}"#
        );
    }
}
