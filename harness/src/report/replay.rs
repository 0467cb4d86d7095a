//! The page of a replay: what became of the data, the device at each resize, where the requests
//! went, and how long they took.

use driver::units::Bytes;

use crate::figures::{counted, grouped, size, time, were};
use crate::replay::Report;
use crate::replay::report::{Percentiles, ResizeReport, latency_time};

use super::chart::{
    Band, STRIP_LEGEND, Touched, any, latency_histogram, latency_over_time, requests, strip,
};
use super::page::{Page, Verdict};

/// What a page of a replay is made from.
#[derive(Clone, Copy, Debug)]
pub struct ReplayPage<'a> {
    /// The name of the trace.
    pub trace: &'a str,
    /// The device, and where its files are.
    pub device: &'a str,
    /// What the trace says about itself.
    pub description: &'a str,
    /// What the replay came to.
    pub report: &'a Report,
}

/// With stamps only, most of the data was asked for and never moved.
fn data_a_second(report: &Report) -> String {
    match report.stamps_only {
        true => "stamps only".to_owned(),
        false => size(report.bytes_per_second as u64),
    }
}

/// A number that may not be known.
fn told(number: Option<u64>) -> String {
    number.map_or_else(|| "not told".to_owned(), grouped)
}

/// The page.
pub fn replay_page(what: ReplayPage<'_>) -> String {
    let report = what.report;
    let mut page = head(what);
    page.figures(&[
        ("requests", grouped(report.requests)),
        ("time of the requests", time(report.requests_elapsed_ns)),
        ("time with the resizes", time(report.elapsed_ns)),
        (
            "requests a second",
            grouped(report.requests_per_second as u64),
        ),
        ("data a second", data_a_second(report)),
        ("read", size(report.sectors_read * 512)),
        ("written", size(report.sectors_written * 512)),
        ("flushes", grouped(report.flushes)),
        ("syncs of the COW file", told(report.syncs)),
        ("writes into the bitmap", told(report.bitmap_writes)),
        ("sectors compared", grouped(report.sectors_verified)),
        ("of them zeros", grouped(report.sectors_verified_zeros)),
        ("sectors in holes", grouped(report.sectors_in_holes)),
    ]);
    if !report.mismatch_examples.is_empty() {
        page.section("mismatches", "What is wrong");
        for example in &report.mismatch_examples {
            page.paragraph(example);
        }
        if let Some(more) = report.more_examples() {
            page.paragraph(more);
        }
        page.end_section();
    }
    let bands = bands(report);
    resizes(&mut page, report);
    over_time(&mut page, report, &bands);
    latencies(&mut page, report, &bands);
    page.section("trace", "The trace");
    page.paragraph(format_args!("{}: {}", what.trace, what.description));
    for line in report.of_the_trace() {
        page.paragraph(format_args!("{line}."));
    }
    page.paragraph(format_args!("The device: {}", what.device));
    if let Some(small) = report.small_pipe() {
        page.paragraph(format_args!("The model ran {small}."));
    }
    if let Some(why) = report.why_nothing_shows() {
        page.paragraph(why);
    }
    if report.finished_switch {
        page.paragraph(
            "The header was half changed to another backing file; opening the device finished that.",
        );
    }
    page.end_section();
    page.finish()
}

fn head(what: ReplayPage<'_>) -> Page {
    let report = what.report;
    let resized = match report.resizes.len() {
        0 => String::new(),
        1 => " The disk was resized once on the way.".into(),
        times => format!(" The disk was resized {times} times on the way."),
    };
    let requests = were(report.requests, "recorded request");
    let by = served_by(report);
    let compared = grouped(report.sectors_verified);
    let title = format!("Replay of {}", what.trace);
    if report.is_good() {
        let meaning = format!(
            "{requests} replayed{by}.{resized} Each of the {compared} sectors compared with an \
             independent model shows what it should, also after the device was closed and opened again."
        );
        return Page::new(&title, Verdict::Good, "Nothing was lost", &meaning);
    }
    let backing = match report.backing_unchanged {
        Some(false) => " The backing file, which must never be written, has changed.",
        _ => "",
    };
    let wrong = match report.mismatches {
        0 => format!("None of {compared} sectors compared is wrong."),
        1 => format!("Of {compared} sectors compared, 1 shows not what is right."),
        wrong => {
            let wrong = grouped(wrong);
            format!("Of {compared} sectors compared, {wrong} show not what is right.")
        }
    };
    let others = match report.other_faults {
        0 => String::new(),
        number => format!(" {} found that no sector shows.", were(number, "fault")),
    };
    let headline = match (report.is_of_model(), report.mismatches) {
        (true, 0) => format!("The model of {} fails", report.driver),
        (true, _) => format!("The model of {} loses data", report.driver),
        (false, 0) if report.backing_unchanged != Some(false) => "The driver fails".to_owned(),
        (false, _) => "The disk is not what it should be".to_owned(),
    };
    let meaning = format!("{requests} replayed{by}.{resized} {wrong}{others}{backing}");
    Page::new(&title, Verdict::Bad, &headline, &meaning)
}

/// Who served the requests, if it was not the right driver.
fn served_by(report: &Report) -> String {
    if report.is_of_real_kernel() {
        return " by the driver of a running kernel".to_owned();
    }
    if !report.is_of_model() {
        return String::new();
    }
    let defects = match &report.defects[..] {
        [] => "no defect".to_owned(),
        [only] => format!("the defect {only}"),
        many => format!("the defects {}", many.join(", ")),
    };
    let pipe = match report.small_pipe_requests {
        Some(requests) => format!(" and a pipe of {}", counted(requests as u64, "request")),
        None => String::new(),
    };
    format!(" by the model of {}, with {defects}{pipe}", report.driver)
}

fn sentence(resize: &ResizeReport) -> String {
    format!(
        "{} to {} by {}, before request {}: {} moved in {}, while {} came",
        Bytes(resize.old_bytes),
        Bytes(resize.new_bytes),
        resize.strategy,
        grouped(resize.at_request),
        size(resize.moved_bytes),
        time(resize.elapsed_ns),
        counted(resize.requests_meanwhile, "request")
    )
}

fn bands(report: &Report) -> Vec<Band> {
    let numbered = report.resizes.iter().enumerate();
    let band = |(number, resize): (usize, &ResizeReport)| Band {
        name: (number + 1).to_string(),
        from_ns: resize.began_ns,
        to_ns: resize.began_ns + resize.elapsed_ns,
        what: format!("resize {}: {}", number + 1, sentence(resize)),
    };
    numbered.map(band).collect()
}

fn resizes(page: &mut Page, report: &Report) {
    if report.resizes.is_empty() {
        return;
    }
    page.section("resizes", "The device at each resize");
    page.raw(STRIP_LEGEND);
    let sights = report.resizes.iter().flat_map(|resize| &resize.sights);
    let longest = sights.map(|sight| sight.strip.sectors).max().unwrap_or(1);
    for (number, resize) in report.resizes.iter().enumerate() {
        page.raw(format_args!("<h3>Resize {}</h3>\n", number + 1));
        page.paragraph(format_args!("{}.", sentence(resize)));
        if let Some(what) = resize.out_of_stock_reach() {
            page.paragraph(format_args!("{what}."));
        }
        for sight in &resize.sights {
            page.raw(strip(sight.moment.name(), &sight.strip, longest));
        }
    }
    page.end_section();
}

fn over_time(page: &mut Page, report: &Report, bands: &[Band]) {
    let timeline = &report.timeline;
    page.section("requests", "Where the requests went");
    page.paragraph(
        "From left to right the time of the replay, from bottom to top the device. The stronger the colour, the \
         more requests.",
    );
    if !bands.is_empty() {
        page.raw(
            "<div class=\"legend\"><span><i class=\"bg-band\"></i>a resize is under way, with its number \
             above</span></div>\n",
        );
    }
    for touched in [Touched::Reads, Touched::Writes, Touched::Discards] {
        if any(timeline, touched) {
            page.raw(format_args!("<h3>{}</h3>\n", capitalized(touched.name())));
            page.raw(requests(timeline, touched, bands));
        }
    }
    page.end_section();
}

fn latencies(page: &mut Page, report: &Report, bands: &[Band]) {
    page.section("latency", "How long requests took");
    page.raw(
        "<div class=\"legend\"><span>solid: median</span><span>dashed: 99 % are no slower</span>\
         <span>dotted: slowest</span></div>\n",
    );
    page.raw(latency_over_time(&report.timeline, bands));
    page.raw("<h3>How many took how long</h3>\n");
    page.raw(latency_histogram(&report.timeline.latency()));
    let head = [
        "", "requests", "median", "90 %", "99 %", "99.9 %", "slowest",
    ];
    let mut rows = vec![head.map(String::from).to_vec()];
    let latency = &report.latency;
    for (name, of) in [
        ("reads", latency.read),
        ("writes", latency.write),
        ("flushes", latency.flush),
        ("while resizing", latency.during_resize),
    ] {
        if of.count > 0 {
            rows.push(row(name, of));
        }
    }
    page.table(&rows);
    page.end_section();
}

fn row(name: &str, of: Percentiles) -> Vec<String> {
    let times = [of.p50_ns, of.p90_ns, of.p99_ns, of.p999_ns, of.max_ns];
    let mut row = vec![name.to_string(), grouped(of.count)];
    row.extend(times.map(latency_time));
    row
}

fn capitalized(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    first.to_uppercase() + rest
}
