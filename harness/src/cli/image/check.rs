//! `ubdlab image check`.

use std::path::{Path, PathBuf};

use driver::{exact_count, shown};
use serde::Serialize;
use userhelper::image::check::{Checked, Finding, Severity, check, check_and_repair};
use userhelper::real_files::RealHost;

use crate::figures::size;

use super::super::{Failure, Verdict, output};
use super::watching::Watching;
use super::{InsteadArgs, TrustArgs, existing};

/// Find the faults of a COW file, and mend those that can be mended without guessing
///
/// Faults of the header and the layout, a bitmap or data area cut short, bits past the end, a
/// backing file that is missing or was changed, an interrupted resize or merge, space taken by
/// data that nobody can read or by zeros in clean sectors, and data where stock Linux cannot reach
/// it.
///
/// --repair finishes what was interrupted, clears bits that belong to no sector, gives the file
/// its length, and, if nothing is corrupt, gives space back that nobody can use.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab image check root.cow
  ubdlab image check root.cow --repair
  ubdlab image check root.cow --json

Exit status, as qemu-img check has it: 0 no fault, or none any more; 1 the check could not be
carried out; 2 corrupt (and wrong usage); 3 leaks only, that is space taken for nothing.")]
pub(in super::super) struct Args {
    /// The COW file
    ///
    /// To name a file here is to say that it is a COW file: the path in its header is followed.
    /// Never name a raw disk that a guest can write to.
    cow: PathBuf,

    /// Mend what can be mended without guessing
    #[arg(long, conflicts_with = "backing")]
    repair: bool,

    #[command(flatten)]
    instead: InsteadArgs,

    #[command(flatten)]
    trust: TrustArgs,

    /// Print one JSON document, its fields named with their units
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    file: String,
    corruptions: usize,
    leaks: usize,
    leaked_bytes: u64,
    findings: Vec<FindingReport<'a>>,
    repaired: Vec<FindingReport<'a>>,
}

#[derive(Serialize)]
struct FindingReport<'a> {
    fault: &'static str,
    severity: String,
    offset_bytes: u64,
    text: &'a str,
}

impl FindingReport<'_> {
    fn of(finding: &Finding) -> FindingReport<'_> {
        FindingReport {
            fault: finding.fault.name(),
            severity: finding.severity().to_string(),
            offset_bytes: finding.at.0,
            text: &finding.text,
        }
    }
}

pub(super) fn run(args: &Args) -> Result<Verdict, Failure> {
    let path = existing(&args.cow)?;
    let trust = args.trust.trust();
    let backing = args.instead.path()?;
    let reach = args.instead.reach(trust, backing.as_ref());
    let mut watching = Watching::new("checking");
    let checked = match args.repair {
        false => check(&RealHost, &path, reach, &mut watching),
        true => check_and_repair(&RealHost, &path, trust, &mut watching),
    };
    drop(watching);
    let checked =
        checked.map_err(|error| Watching::explain(error, &path, "the check can be begun again"))?;
    let report = report(&path, &checked);
    if args.json {
        output::json(&report)?;
    } else {
        print_text(&path, &checked, &report);
    }
    Ok(match checked.severity() {
        Some(Severity::Corruption) => Verdict::Corrupt,
        Some(Severity::Leak) => Verdict::Leaks,
        Some(Severity::Note) | None => Verdict::Good,
    })
}

fn report<'a>(path: &Path, checked: &'a Checked) -> Report<'a> {
    let of = |severity| {
        let same = move |finding: &&Finding| finding.severity() == severity;
        checked.findings.iter().filter(same)
    };
    let all = |findings: &'a [Finding]| findings.iter().map(FindingReport::of).collect();
    Report {
        file: path.to_string_lossy().into_owned(),
        corruptions: of(Severity::Corruption).count(),
        leaks: of(Severity::Leak).count(),
        leaked_bytes: checked
            .findings
            .iter()
            .map(|finding| finding.leaked.0)
            .sum(),
        findings: all(&checked.findings),
        repaired: all(&checked.repaired),
    }
}

fn print_text(path: &Path, checked: &Checked, report: &Report<'_>) {
    let path = shown(path);
    for finding in &checked.repaired {
        let (at, text) = (finding.at, &finding.text);
        output::line(format_args!("{path}: byte {at}: repaired: {text}"));
    }
    for finding in &checked.findings {
        let (at, text) = (finding.at, &finding.text);
        output::line(format_args!(
            "{path}: byte {at}: {}: {text}",
            finding.severity()
        ));
    }
    let summary = match (report.corruptions, report.leaks) {
        (0, 0) => "no fault".to_owned(),
        (0, _) => format!(
            "{} can be reclaimed with --repair",
            size(report.leaked_bytes)
        ),
        (faults, _) => format!("corrupt: {}", exact_count(faults as u64, "fault")),
    };
    output::line(format_args!("{path}: {summary}"));
}
