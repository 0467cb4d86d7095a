//! The page of a kernel and a model of its driver, side by side: what was compared, and for each
//! difference what was witnessed up to it.

use crate::figures::{counted, grouped, time, were};
use crate::fuzz::story::Told;

use super::finding::story;
use super::page::{Escaped, Page, Verdict};

/// What a difference is, for who reads of one.
const MEANS: &str =
    "A difference is a fault of the model, or a defect of the kernel that the model does not have.";

/// What a page of a campaign is made from.
#[derive(Clone, Debug)]
pub struct DifferencesPage {
    /// The kernel, in its own words.
    pub kernel: String,
    /// The model.
    pub model: String,
    /// The seed of the first case.
    pub seed: u64,
    /// Cases lived and compared.
    pub cases: u64,
    /// Requests of the guest that have ended alike.
    pub requests: u64,
    /// Host operations that were alike.
    pub host_operations: u64,
    /// Sectors that reads have brought.
    pub sectors_read: u64,
    /// Errors of the host that the kernel has heard as others, or as none.
    pub misheard: u64,
    /// The time it took, in nanoseconds.
    pub elapsed_ns: u64,
    /// Why cases were not compared to their ends, and how many.
    pub cut_short: Vec<(String, u64)>,
    /// What was found.
    pub differences: Vec<ToldDifference>,
}

/// A difference, and its story.
#[derive(Clone, Debug)]
pub struct ToldDifference {
    /// What tells it from others.
    pub name: String,
    /// The command that repeats it.
    pub command: Option<String>,
    /// The story.
    pub told: Told,
}

/// The page of a campaign.
pub fn differences_page(what: &DifferencesPage) -> String {
    let compared = format!(
        "{} lived by the kernel and held against the model, operation by operation.",
        were(what.cases, "case")
    );
    let title = format!("Linux and {}", what.model);
    let mut page = match what.differences.len() {
        0 => Page::new(&title, Verdict::Good, "Kernel and model agree", &compared),
        found => {
            let found = counted(found as u64, "difference");
            let headline = format!("Kernel and model differ: {found}");
            let meaning = format!("{compared} {MEANS}");
            Page::new(&title, Verdict::Bad, &headline, &meaning)
        }
    };
    page.figures(&[
        ("kernel", what.kernel.clone()),
        ("model", what.model.clone()),
        ("cases", grouped(what.cases)),
        ("first seed", what.seed.to_string()),
        ("time", time(what.elapsed_ns)),
        ("requests alike", grouped(what.requests)),
        ("host operations alike", grouped(what.host_operations)),
        ("sectors read", grouped(what.sectors_read)),
    ]);
    if what.misheard > 0 {
        let were = were(what.misheard, "error");
        page.paragraph(format_args!(
            "{were} heard by the kernel as another, or as none: its driver's thread and the kernel \
             have one errno (shared-errno)."
        ));
    }
    for (why, cases) in &what.cut_short {
        let were = were(*cases, "case");
        page.paragraph(format_args!("{were} not compared to the end: {why}."));
    }
    for (number, difference) in what.differences.iter().enumerate() {
        tell(&mut page, number + 1, difference);
    }
    page.finish()
}

/// The page of one difference that was repeated. `is_there` says whether it still is.
pub fn difference_page(model: &str, difference: &ToldDifference, is_there: bool) -> String {
    let title = format!("Linux and {model}");
    let mut page = match is_there {
        true => Page::new(&title, Verdict::Bad, "Kernel and model differ", MEANS),
        false => {
            let what = "What was recorded of the kernel is what the model does.";
            Page::new(&title, Verdict::Good, "Kernel and model agree", what)
        }
    };
    tell(&mut page, 1, difference);
    page.finish()
}

fn tell(page: &mut Page, number: usize, difference: &ToldDifference) {
    page.section(&format!("difference-{number}"), &difference.name);
    story(page, &difference.told);
    if let Some(command) = &difference.command {
        let command = Escaped(command);
        page.raw(format_args!("<p>Again:</p>\n<pre>{command}</pre>\n"));
    }
    page.end_section();
}
