//! The page of a fuzzing campaign: what was tried, and for each finding the whole story in the
//! order of time, from the first request to the sector that is wrong.

use crate::figures::{counted, grouped, time, were};
use crate::fuzz::story::{Event, Told};

use super::chart::{WRONG_LEGEND, strip};
use super::page::{Escaped, Page, Verdict};

/// What a page of a campaign is made from.
#[derive(Clone, Debug)]
pub struct FuzzPage {
    /// The driver that was fuzzed.
    pub driver: String,
    /// The defects that were switched on.
    pub defects: Vec<String>,
    /// The seed of the first case.
    pub seed: u64,
    /// Cases run.
    pub cases: u64,
    /// Crash images built, recovered and checked.
    pub crash_images: u64,
    /// The time it took, in nanoseconds.
    pub elapsed_ns: u64,
    /// What was found.
    pub findings: Vec<ToldFinding>,
}

/// A finding, and its story.
#[derive(Clone, Debug)]
pub struct ToldFinding {
    /// Its name: the defects that it needs, or what kind of violation it is.
    pub name: String,
    /// The requests of its smallest case.
    pub requests: usize,
    /// The command that repeats it.
    pub command: Option<String>,
    /// The story.
    pub told: Told,
}

/// The page.
pub fn fuzz_page(what: &FuzzPage) -> String {
    let mut page = head(what);
    page.figures(&[
        ("driver", what.driver.clone()),
        ("cases", grouped(what.cases)),
        ("crash images", grouped(what.crash_images)),
        ("first seed", what.seed.to_string()),
        ("time", time(what.elapsed_ns)),
        ("findings", what.findings.len().to_string()),
    ]);
    if !what.defects.is_empty() {
        page.paragraph(format_args!(
            "Defects switched on: {}.",
            what.defects.join(", ")
        ));
    }
    if what.findings.len() > 1 {
        page.section("contents", "What was found");
        page.raw("<ul>\n");
        for (number, finding) in what.findings.iter().enumerate() {
            let kind = finding.told.violation.as_ref();
            page.raw(format_args!(
                "<li><a href=\"#finding-{}\">{}</a>: {}</li>\n",
                number + 1,
                Escaped(&finding.name),
                Escaped(kind.map_or("nothing is wrong any more", |kind| kind.kind.name()))
            ));
        }
        page.raw("</ul>\n");
        page.end_section();
    }
    for (number, finding) in what.findings.iter().enumerate() {
        tell(&mut page, number + 1, finding);
    }
    page.finish()
}

/// The page of one finding that was repeated.
pub fn finding_page(driver: &str, finding: &ToldFinding) -> String {
    let title = format!("{driver}: {}", finding.name);
    let mut page = match &finding.told.violation {
        Some(violation) => {
            let what = format!("{}, {}.", violation.what, violation.when);
            Page::new(&title, Verdict::Bad, "This driver loses data", &what)
        }
        None => {
            let what =
                "The case was run exactly as it says, and every sector shows what it should.";
            Page::new(&title, Verdict::Good, "Nothing is wrong any more", what)
        }
    };
    tell(&mut page, 1, finding);
    page.finish()
}

fn head(what: &FuzzPage) -> Page {
    let title = format!("Fuzzing {}", what.driver);
    let tried = format!(
        "{} run and crashed {}, by killing the process and by cutting the power; what was left \
         was opened, recovered and compared, sector by sector.",
        were(what.cases, "case"),
        counted(what.crash_images, "time")
    );
    match what.findings.len() {
        0 => Page::new(
            &title,
            Verdict::Good,
            "Nothing was lost in any crash",
            &tried,
        ),
        found => {
            let headline = match found {
                1 => "This driver loses data: one way was found".to_string(),
                found => format!("This driver loses data: {found} ways were found"),
            };
            let meaning =
                format!("{tried} Each finding below is in the smallest case that still shows it.");
            Page::new(&title, Verdict::Bad, &headline, &meaning)
        }
    }
}

fn tell(page: &mut Page, number: usize, finding: &ToldFinding) {
    page.section(&format!("finding-{number}"), &finding.name);
    if let Some(violation) = &finding.told.violation {
        page.paragraph(format_args!("{}, {}.", violation.what, violation.when));
    }
    story(page, &finding.told);
    if let Some(command) = &finding.command {
        page.raw(format_args!(
            "<p>{} in the smallest case. Again:</p>\n<pre>{}</pre>\n",
            match finding.requests {
                1 => "One request".to_string(),
                requests => format!("{requests} requests"),
            },
            Escaped(command)
        ));
    }
    page.end_section();
}

/// What a story begins with, the device where it shows something, and the story.
pub(super) fn story(page: &mut Page, told: &Told) {
    let (given, story): (Vec<_>, Vec<_>) =
        (told.events.iter()).partition(|event| matches!(event, Event::Given(..)));
    let facts: Vec<(&str, String)> = given
        .iter()
        .filter_map(|event| match event {
            Event::Given(name, text) => Some((*name, text.clone())),
            _ => None,
        })
        .collect();
    page.figures(&facts);
    if let Some(shown) = &told.strip {
        page.raw(strip("the device", shown, shown.sectors));
        page.raw(WRONG_LEGEND);
    }
    page.raw("<ol class=\"story\">\n");
    for event in story {
        let (class, tag, text) = line(event);
        page.raw(format_args!(
            "<li class=\"{class}\"><span class=\"tag\">{tag}</span> {}</li>\n",
            Escaped(text)
        ));
    }
    page.raw("</ol>\n");
}

/// The class of a line, its tag, and its text.
fn line(event: &Event) -> (&'static str, String, String) {
    let words = |text: &str| text.to_string();
    match event {
        Event::Given(name, text) => ("given", words(name), text.clone()),
        Event::Life(number) => ("life", words("life"), number.to_string()),
        Event::Arranged(text) => ("arranged", words("arranged"), text.clone()),
        Event::Action(position, what) => ("action", format!("step {position}"), what.clone()),
        Event::Host {
            what,
            changes: true,
        } => ("host changes", words("host, change"), what.clone()),
        Event::Host { what, .. } => ("host", words("host"), what.clone()),
        Event::Request(what) => ("request", words("request"), what.clone()),
        Event::Crash(how) => ("crash", words("CRASH"), words(how)),
        Event::Remark(what) => ("remark", String::new(), words(what)),
        Event::Fate { what, fate, lost } => {
            let (class, tag) = match lost {
                true => ("host fate lost", "lost"),
                false => ("host fate kept", "survived"),
            };
            (class, words(tag), format!("{what}: {fate}"))
        }
        Event::Found(what) if what.is_empty() => {
            ("remark", String::new(), words("nothing is wrong"))
        }
        Event::Found(what) => {
            let text: Vec<String> = (what.iter())
                .map(|(name, text)| format!("{name}: {text}"))
                .collect();
            ("found", words("WRONG"), text.join("; "))
        }
    }
}
