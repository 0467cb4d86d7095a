//! Charts: a plot drawn as SVG that stretches with the page, and its labels as text around it,
//! which does not.

use std::fmt::Write;

use crate::figures::{counted, size, time};
use crate::replay::timeline::{LatencyCounts, ROWS, Timeline};
use crate::strip::Strip;

use super::page::Escaped;

/// The width and the height of a plot, in units of its own.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 400.0;

/// Columns and rows of a plot of requests: nobody can see, or point at, anything finer.
const PLOT_COLUMNS: usize = 120;
const PLOT_ROWS: usize = ROWS / 2;

/// A stretch of time that is marked, with a short name.
pub(super) struct Band {
    pub(super) name: String,
    pub(super) from_ns: u64,
    pub(super) to_ns: u64,
    /// What it was, for the pointer.
    pub(super) what: String,
}

/// The frame around a plot.
struct Frame<'a> {
    id: &'a str,
    /// What can be seen, in words.
    label: &'a str,
    height_rem: f64,
    y: [String; 3],
    x: [String; 3],
}

impl Frame<'_> {
    fn around(&self, top: &str, svg: &str) -> String {
        let [high, middle, low] = &self.y;
        let [left, center, right] = &self.x;
        format!(
            "<div class=\"chart\" id=\"{id}\">{top}\
             <div class=\"y\"><span style=\"top:0\">{high}</span><span style=\"top:50%\">{middle}</span>\
             <span style=\"top:100%\">{low}</span></div>\n\
             <div class=\"plot\"><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" \
             style=\"height:{height}rem\" role=\"img\" aria-label=\"{label}\">\n{svg}</svg></div>\n\
             <div class=\"x\"><span>{left}</span><span>{center}</span><span>{right}</span></div></div>\n",
            id = self.id,
            label = Escaped(self.label),
            height = self.height_rem,
        )
    }
}

/// The marks above a plot and the bands in it.
fn marks(bands: &[Band], end_ns: u64) -> (String, String) {
    if bands.is_empty() {
        return (String::new(), String::new());
    }
    let share = |ns: u64| ns.min(end_ns) as f64 / end_ns.max(1) as f64;
    let (mut top, mut svg) = (String::from("<div class=\"top\">"), String::new());
    for band in bands {
        let (from, to) = (share(band.from_ns), share(band.to_ns));
        let _ = write!(
            top,
            "<b style=\"left:{:.2}%\" title=\"{}\">{}</b>",
            50.0 * (from + to),
            Escaped(&band.what),
            Escaped(&band.name)
        );
        let _ = writeln!(
            svg,
            "<rect class=\"band\" x=\"{:.1}\" y=\"0\" width=\"{:.1}\" height=\"{HEIGHT}\"><title>{}</title></rect>",
            WIDTH * from,
            (WIDTH * (to - from)).max(2.0),
            Escaped(&band.what)
        );
    }
    top.push_str("</div>");
    (top, svg)
}

/// Which requests a plot shows.
#[derive(Clone, Copy)]
pub(super) enum Touched {
    Reads,
    Writes,
    Discards,
}

impl Touched {
    fn index(self) -> usize {
        match self {
            Touched::Reads => 0,
            Touched::Writes => 1,
            Touched::Discards => 2,
        }
    }

    pub(super) fn name(self) -> &'static str {
        ["reads", "writes", "discards"][self.index()]
    }

    fn class(self) -> &'static str {
        ["read", "write", "discard"][self.index()]
    }
}

/// Whether there were any of these.
pub(super) fn any(timeline: &Timeline, touched: Touched) -> bool {
    let mut counts = (timeline.columns.iter()).flat_map(|column| &column.touched[touched.index()]);
    counts.any(|&count| count > 0)
}

/// Requests of one kind over time and position.
pub(super) fn requests(timeline: &Timeline, touched: Touched, bands: &[Band]) -> String {
    let width = timeline.columns.len().div_ceil(PLOT_COLUMNS).max(1);
    let column_ns = timeline.column_ns * width as u64;
    let end_ns = timeline.column_ns * timeline.columns.len() as u64;
    let cells: Vec<[u64; PLOT_ROWS]> = (timeline.columns.chunks(width))
        .map(|columns| {
            let mut cells = [0; PLOT_ROWS];
            for column in columns {
                for (row, &count) in column.touched[touched.index()].iter().enumerate() {
                    cells[row * PLOT_ROWS / ROWS] += u64::from(count);
                }
            }
            cells
        })
        .collect();
    let most = cells.iter().flatten().copied().max().unwrap_or(0).max(1);
    let bytes = |row: usize| timeline.sectors * 512 / PLOT_ROWS as u64 * row as u64;
    let (top, mut svg) = marks(bands, end_ns);
    let cell = (
        WIDTH * column_ns as f64 / end_ns.max(1) as f64,
        HEIGHT / PLOT_ROWS as f64,
    );
    for (number, rows) in cells.iter().enumerate() {
        for (row, &count) in rows.iter().enumerate().filter(|(_, count)| **count > 0) {
            // By the logarithm: one request has to be seen beside thousands.
            let strength = (count as f64 + 1.0).ln() / (most as f64 + 1.0).ln();
            let from = column_ns * number as u64;
            let _ = writeln!(
                svg,
                "<rect class=\"{}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" opacity=\"{:.2}\">\
                 <title>{} to {}, {} to {}: {count} {}</title></rect>",
                touched.class(),
                cell.0 * number as f64,
                HEIGHT - cell.1 * (row + 1) as f64,
                cell.0,
                cell.1,
                0.25 + 0.75 * strength,
                time(from),
                time((from + column_ns).min(end_ns)),
                size(bytes(row)),
                size(bytes(row + 1)),
                touched.name(),
            );
        }
    }
    let frame = Frame {
        id: &format!("plot-{}", touched.name()),
        label: &format!("Where on the device the {} went, over time", touched.name()),
        height_rem: 11.0,
        y: [
            size(timeline.sectors * 512),
            size(timeline.sectors * 256),
            "sector 0".into(),
        ],
        x: time_axis(end_ns),
    };
    frame.around(&top, &svg)
}

fn time_axis(end_ns: u64) -> [String; 3] {
    ["0".into(), time(end_ns / 2), time(end_ns)]
}

/// Median, 99th percentile and slowest over time.
pub(super) fn latency_over_time(timeline: &Timeline, bands: &[Band]) -> String {
    let width = timeline.columns.len().div_ceil(PLOT_COLUMNS).max(1);
    let end_ns = timeline.column_ns * timeline.columns.len() as u64;
    let points: Vec<_> = (timeline.columns.chunks(width).enumerate())
        .filter_map(|(number, columns)| {
            let merged = LatencyCounts::sum(columns.iter().map(|column| &column.latency));
            let quantile = |share| merged.quantile_ns(share);
            let from = timeline.column_ns * (number * width) as u64;
            let to = from + timeline.column_ns * columns.len() as u64;
            Some((
                from,
                to,
                merged.count(),
                [quantile(0.5)?, quantile(0.99)?, quantile(1.0)?],
            ))
        })
        .collect();
    let all = || points.iter().flat_map(|point| point.3);
    let (low, high) = (
        all().min().unwrap_or(1).max(1),
        all().max().unwrap_or(1).max(2),
    );
    let low = low.min(high / 2);
    let y = |ns: u64| {
        let share = (ns.max(1) as f64 / low as f64).ln() / (high as f64 / low as f64).ln();
        HEIGHT * (1.0 - 0.04 - 0.92 * share.clamp(0.0, 1.0))
    };
    let x = |ns: u64| WIDTH * ns as f64 / end_ns.max(1) as f64;
    let (top, mut svg) = marks(bands, end_ns);
    for (line, class) in ["p50", "p99", "max"].iter().enumerate() {
        let mut path = String::new();
        let mut last = None;
        for (from, to, _, values) in &points {
            // Where no request came the line is broken.
            let command = if last == Some(*from) { 'L' } else { 'M' };
            last = Some(*to);
            let _ = write!(
                path,
                "{command}{:.1} {:.1}",
                x((from + to) / 2),
                y(values[line])
            );
        }
        let _ = writeln!(svg, "<path class=\"line {class}\" d=\"{path}\"/>");
    }
    for (from, to, count, [median, p99, slowest]) in &points {
        let _ = writeln!(
            svg,
            "<rect class=\"hover\" x=\"{:.1}\" y=\"0\" width=\"{:.1}\" height=\"{HEIGHT}\"><title>{} to {}: \
             {}, median {}, 99 % within {}, slowest {}</title></rect>",
            x(*from),
            x(*to) - x(*from),
            time(*from),
            time(*to),
            counted(*count, "request"),
            time(*median),
            time(*p99),
            time(*slowest)
        );
    }
    let middle = (low as f64 * high as f64).sqrt() as u64;
    let frame = Frame {
        id: "plot-latency",
        label: "Latency of requests over time: median, 99th percentile, slowest",
        height_rem: 12.0,
        y: [time(high), time(middle), time(low)],
        x: time_axis(end_ns),
    };
    frame.around(&top, &svg)
}

/// How many requests took how long.
pub(super) fn latency_histogram(latency: &LatencyCounts) -> String {
    let buckets = latency.histogram();
    let most = buckets
        .iter()
        .map(|(_, count)| *count)
        .max()
        .unwrap_or(0)
        .max(1);
    let total = latency.count().max(1);
    let bar = WIDTH / buckets.len().max(1) as f64;
    let mut svg = String::new();
    for (number, (floor, count)) in buckets.iter().enumerate() {
        let next = LatencyCounts::next_floor_ns(*floor);
        let height = HEIGHT * *count as f64 / most as f64;
        let _ = writeln!(
            svg,
            "<rect class=\"read\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\"><title>{} to {}: \
             {}, {:.2} %</title></rect>",
            bar * number as f64 + bar * 0.06,
            HEIGHT - height,
            bar * 0.88,
            time(*floor),
            time(next),
            counted(*count, "request"),
            100.0 * *count as f64 / total as f64
        );
    }
    let floor = |index: usize| {
        buckets
            .get(index)
            .map_or(String::new(), |(ns, _)| time(*ns))
    };
    let frame = Frame {
        id: "plot-histogram",
        label: "How many requests took how long",
        height_rem: 9.0,
        y: [
            format!("{most} req."),
            format!("{} req.", most / 2),
            "0".into(),
        ],
        x: [
            floor(0),
            floor(buckets.len() / 2),
            floor(buckets.len().saturating_sub(1)),
        ],
    };
    frame.around("", &svg)
}

/// A device as a bar, drawn in proportion to its size: `longest` sectors take the whole width.
pub(super) fn strip(name: &str, strip: &Strip, longest: u64) -> String {
    let cells = strip.cells.len().max(1);
    let cell = WIDTH / cells as f64;
    let mut svg =
        format!("<rect class=\"clean\" x=\"0\" y=\"0\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n");
    let sectors = |number: usize| strip.sectors * number as u64 / cells as u64;
    // Cells that look the same are one rectangle.
    let mut first = 0;
    for run in strip.cells.chunk_by(|a, b| a == b) {
        let end = first + run.len();
        let _ = writeln!(
            svg,
            "<rect class=\"dirty\" x=\"{:.2}\" y=\"0\" width=\"{:.2}\" height=\"{HEIGHT}\" opacity=\"{:.2}\">\
             <title>{} to {}: {:.0} % dirty</title></rect>",
            cell * first as f64,
            cell * run.len() as f64,
            if run[0] > 0.0 {
                0.25 + 0.75 * run[0]
            } else {
                0.0
            },
            size(sectors(first) * 512),
            size(sectors(end) * 512),
            100.0 * run[0]
        );
        first = end;
    }
    let mut frontier = String::new();
    if let Some(at) = strip.frontier_sector {
        let share = at.min(strip.sectors) as f64 / strip.sectors.max(1) as f64;
        frontier = format!(
            "<span class=\"frontier\" style=\"left:{:.2}%\" title=\"frontier at sector {at}\"></span>",
            100.0 * share
        );
    }
    let wrong = wrong_mark(strip);
    format!(
        "<div class=\"strip\"><span class=\"name\">{name}</span> <span class=\"words\">{words}</span>\
         <div class=\"bar\" style=\"width:{width:.2}%\"><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{words}\">\n{svg}</svg>{frontier}{wrong}</div></div>\n",
        name = Escaped(name),
        words = Escaped(strip.words()),
        width = 100.0 * strip.sectors as f64 / longest.max(1) as f64,
    )
}

/// The mark of the wrong sector, if there is one: as wide as the sector is, and wide enough to see.
fn wrong_mark(strip: &Strip) -> String {
    let Some(at) = strip.wrong_sector.filter(|&at| at < strip.sectors) else {
        return String::new();
    };
    let sectors = strip.sectors as f64;
    format!(
        "<span class=\"wrong\" style=\"left:min({:.2}%, 100% - 5px);width:{:.2}%\" title=\"sector {at} is wrong\"></span>",
        100.0 * at as f64 / sectors,
        100.0 / sectors
    )
}

/// What the colours of the strip of a finding mean.
pub(super) const WRONG_LEGEND: &str = "<div class=\"legend\"><span><i class=\"bg-clean\"></i>clean: read from the \
    backing file</span><span><i class=\"bg-dirty\"></i>dirty: in the COW file</span>\
    <span><i class=\"bg-wrong\"></i>the wrong sector</span></div>\n";

/// What the colours of the strips mean.
pub(super) const STRIP_LEGEND: &str = "<div class=\"legend\"><span><i class=\"bg-clean\"></i>clean: read from the \
    backing file</span><span><i class=\"bg-dirty\"></i>dirty: in the COW file; paler where only part of it is</span>\
    <span><i class=\"bg-frontier\"></i>the frontier: what lies to the right of it has been moved</span></div>\n";
