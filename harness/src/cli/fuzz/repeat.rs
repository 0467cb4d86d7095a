//! `ubdlab fuzz --repro`.

use std::path::Path;

use crate::fuzz::case::{Case, FORMAT};
use crate::fuzz::defect::CaseDefect;
use crate::fuzz::story::{Told, tell};
use crate::kernel::against::difference::{self, DifferenceFile};
use crate::kernel::finding::{self as kernel, FindingFile};
use crate::report::{ToldDifference, ToldFinding, difference_page, finding_page};

use super::super::document;
use super::super::output::{self, InLines};
use super::super::own_files::OwnFiles;
use super::super::page::PageFile;
use super::super::{Failure, Verdict, wrong_usage};
use super::quietly;
use super::report::repeating;

/// Each of its events is on one line.
impl InLines for Told {}

/// The largest file that is read as a case.
const LARGEST_CASE: u64 = 16 << 20;

/// What is said of a file that is not one of this command's.
const NO_FINDING: &str = "not a finding of ubdlab fuzz";

/// What is wrong with a file.
fn wrong_file(file: &Path) -> impl Fn(String) -> Failure + '_ {
    move |what| Failure(format!("{}: {what}", driver::shown(file)))
}

/// The finding of a kernel of which this is the text.
fn finding_of_kernel(file: &Path, text: &str) -> Result<FindingFile, Failure> {
    let wrong = wrong_file(file);
    let parsed = serde_json::from_str::<FindingFile>(text);
    let finding = parsed.map_err(|error| wrong(error.to_string()))?;
    finding.check().map_err(wrong)?;
    Ok(finding)
}

/// The finding of a kernel in `file`.
pub(super) fn read_finding_of_kernel(file: &Path) -> Result<FindingFile, Failure> {
    let (format, text) = read(file)?;
    match format.as_str() {
        kernel::FORMAT => finding_of_kernel(file, &text),
        other => Err(wrong_file(file)(format!(
            "found format {other:?}, expected the finding of a kernel, {:?}",
            kernel::FORMAT
        ))),
    }
}

/// Judges what was recorded of a kernel once more, and tells its story.
fn repeat_recorded(
    file: &Path,
    text: &str,
    json: bool,
    page: PageFile<'_>,
) -> Result<Verdict, Failure> {
    let wrong = wrong_file(file);
    let finding = finding_of_kernel(file, text)?;
    let told = quietly(|| finding.tell()).map_err(|error| wrong(error.to_string()))?;
    let name = match finding.defects.is_empty() {
        true => "kernel".to_owned(),
        false => finding.defects.join(" and "),
    };
    let requests = finding.case.requests();
    show(&told, json)?;
    page.write(|| {
        let finding = ToldFinding {
            name,
            requests,
            command: Some(repeating(file)),
            told: told.clone(),
        };
        Ok(finding_page("kernel", &finding))
    })?;
    Ok(verdict(&told))
}

/// Compares once more what was recorded of a kernel with the model, and tells how they differ.
fn repeat_difference(
    file: &Path,
    text: &str,
    json: bool,
    page: PageFile<'_>,
) -> Result<Verdict, Failure> {
    let wrong = wrong_file(file);
    let parsed = serde_json::from_str::<DifferenceFile>(text);
    let kept = parsed.map_err(|error| wrong(error.to_string()))?;
    kept.check().map_err(&wrong)?;
    let (compared, told) = kept
        .tell()
        .map_err(|error| wrong(format!("recording.{error}")))?;
    match json {
        true => output::json(&compared.difference)?,
        false => output::lines(&told),
    }
    page.write(|| {
        let difference = ToldDifference {
            name: "the difference".to_owned(),
            command: Some(repeating(file)),
            told: told.clone(),
        };
        let is_there = compared.difference.is_some();
        Ok(difference_page(kept.against.name(), &difference, is_there))
    })?;
    Ok(match compared.difference {
        Some(_) => Verdict::ViolationFound,
        None => Verdict::Good,
    })
}

fn show(told: &Told, json: bool) -> Result<(), Failure> {
    match json {
        true => output::json(&told.violation)?,
        false => output::lines(told),
    }
    Ok(())
}

fn verdict(told: &Told) -> Verdict {
    match told.violation {
        Some(_) => Verdict::ViolationFound,
        None => Verdict::Good,
    }
}

/// The text of a file of this command's, and the format that it says it has.
fn read(file: &Path) -> Result<(String, String), Failure> {
    let wrong = wrong_file(file);
    let text = document::text(file, LARGEST_CASE, "a case", "")?;
    let format = document::format_of(&text);
    match format.map_err(|error| wrong(format!("{NO_FINDING}: {error}")))? {
        Some(format) => Ok((format, text)),
        None => Err(wrong(format!(
            "{NO_FINDING}: found no format, expected {FORMAT:?}"
        ))),
    }
}

/// Repeats the case in `file`, and tells its story.
pub(super) fn repeat(file: &Path, json: bool, page: Option<&Path>) -> Result<Verdict, Failure> {
    let wrong = wrong_file(file);
    let own = OwnFiles::new()
        .reading("--repro", [file])
        .writing("--report", page);
    if let Err(what) = own.check() {
        return Ok(wrong_usage(what));
    }
    let page = PageFile::begin(page, None)?;
    let (format, text) = read(file)?;
    match format.as_str() {
        FORMAT => {}
        kernel::FORMAT => return repeat_recorded(file, &text, json, page),
        difference::FORMAT => return repeat_difference(file, &text, json, page),
        other => {
            return Err(wrong(format!(
                "found format {other:?}, expected {FORMAT:?}"
            )));
        }
    }
    let case: Case = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    case.check().map_err(&wrong)?;
    let told = quietly(|| tell(&case)).map_err(|error| wrong(error.to_string()))?;
    show(&told, json)?;
    page.write(|| {
        let finding = ToldFinding {
            name: match case.defects.is_empty() {
                true => case.driver.name().to_string(),
                false => CaseDefect::names(&case.defects).join(" and "),
            },
            requests: case.requests(),
            command: Some(repeating(file)),
            told: told.clone(),
        };
        Ok(finding_page(case.driver.name(), &finding))
    })?;
    Ok(verdict(&told))
}
