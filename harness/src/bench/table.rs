//! Rows as a table for people.

use std::fmt;

use driver::OneLine;

use super::{Row, Unit};
use crate::figures::in_groups;

/// Shows rows as a table, one line each.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a>(pub &'a [Row]);

const TITLES: [&str; 7] = [
    "what",
    "value",
    "unit",
    "beside it",
    "its value",
    "ratio",
    "target",
];

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.0.iter().map(cells).collect();
        let mut widths = TITLES.map(str::len);
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let titles = TITLES.map(String::from);
        for line in std::iter::once(&titles).chain(&lines) {
            let [name, value, unit, baseline, baseline_value, ratio, target] = line;
            let [w0, w1, w2, w3, w4, w5, _] = widths;
            let text = format!(
                "{name:w0$}  {value:>w1$} {unit:w2$}  {baseline:w3$}  {baseline_value:>w4$}  {ratio:>w5$}  {target}"
            );
            // A row may be called by the name of a file.
            writeln!(f, "{}", OneLine(text.trim_end()))?;
        }
        Ok(())
    }
}

fn cells(row: &Row) -> [String; 7] {
    let target = match (row.target, row.met) {
        (Some(target), Some(true)) => format!("{} met", figure(target)),
        (Some(target), _) => format!("{} MISSED", figure(target)),
        (None, _) => String::new(),
    };
    [
        row.name.clone(),
        figure(row.value),
        unit_name(row.unit).to_owned(),
        row.baseline.clone().unwrap_or_default(),
        row.baseline_value.map(figure).unwrap_or_default(),
        row.ratio.map(figure).unwrap_or_default(),
        target,
    ]
}

fn unit_name(unit: Unit) -> &'static str {
    match unit {
        Unit::Nanoseconds => "ns",
        Unit::Microseconds => "us",
        Unit::Milliseconds => "ms",
        Unit::GigabytesPerSecond => "GB/s",
        Unit::PerSecond => "1/s",
        Unit::Mebibytes => "MiB",
        Unit::Count => "",
        Unit::Percent => "%",
    }
}

/// As many digits as the figure is good for.
fn figure(value: f64) -> String {
    match value.abs() {
        // It was not measured.
        _ if value.is_nan() => "-".to_owned(),
        0.0 => "0".to_owned(),
        // Whole numbers of some size are read in groups of three digits.
        100.0.. => in_groups(&format!("{value:.0}")),
        10.0.. => format!("{value:.1}"),
        0.01.. => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_says_what_was_missed() {
        let rows = [
            Row::new("short", 1.0, Unit::Nanoseconds).target(2.0),
            Row::new("longer name", 12_345.6, Unit::PerSecond)
                .against("peer", 20_000.0)
                .target(0.9),
        ];
        assert_eq!(
            Table(&rows).to_string(),
            "what          value unit  beside it  its value  ratio  target\n\
             short          1.00 ns                                 2.00 met\n\
             longer name  12,346 1/s   peer          20,000   0.62  0.90 MISSED\n"
        );
    }
}
