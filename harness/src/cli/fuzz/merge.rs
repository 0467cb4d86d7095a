//! `ubdlab fuzz merge`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::fuzz::campaign::merge::{check, merge};
use crate::fuzz::campaign::result::{CampaignResult, FORMAT};
use crate::shard::Shard;

use super::super::output_file::not_created;
use super::super::page::PageFile;
use super::super::{Failure, Verdict};
use super::document;
use super::keeper::Writer;
use super::search::report;

/// Add up the results of all shards of a campaign
///
/// Each result is what `ubdlab fuzz --shard K/N --json` has printed. All N have to be there, once,
/// of one campaign and run to their end. The sum is what the campaign in one piece would have come
/// to, but for the times: those of all shards are added.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  for k in 1 2 3; do ubdlab fuzz --cases 3000 --shard $k/3 --json >$k.json; done
  ubdlab fuzz merge 1.json 2.json 3.json
  ubdlab fuzz merge results --json --out findings --report campaign.html >campaign.json")]
pub(super) struct Args {
    /// Results: files, or directories in which each *.json is one
    ///
    /// Findings and checkpoints in a directory are passed over.
    #[arg(value_name = "RESULT", required = true)]
    results: Vec<PathBuf>,

    /// Write each finding into this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Write a page with each finding's story: one HTML file that needs nothing else
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// What one of the files is expected to be.
const WHAT: &str = "a result of ubdlab fuzz --json";

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<Verdict, Failure> {
    let mut files = Vec::new();
    let mut results = Vec::new();
    for given in &args.results {
        for (file, value) in documents(given)? {
            results.push((file.clone(), result(&file, value)?));
            files.push(file);
        }
    }
    let page = PageFile::begin(args.report.as_deref(), None, &files)?;
    let mut result = merge(results).map_err(Failure::operation)?;
    if let Some(directory) = &args.out {
        std::fs::create_dir_all(directory).map_err(|error| not_created(directory, &error))?;
        let mut writer = Writer::new(directory, Shard::WHOLE);
        for finding in &mut result.findings {
            finding.file = Some(writer.write(&finding.case, finding.violation.kind)?);
        }
    }
    report(&result, args.json, page)
}

/// What is in a file, or in those of a directory that may be results, in the order of their names.
fn documents(given: &Path) -> Result<Vec<(PathBuf, Value)>, Failure> {
    if !given.is_dir() {
        return Ok(vec![(given.to_owned(), document::json(given, WHAT)?)]);
    }
    let wrong = |error: std::io::Error| {
        let words = driver::system_words(error);
        Failure(format!("{}: reading: {words}", driver::shown(given)))
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(given).map_err(wrong)? {
        let file = entry.map_err(wrong)?.path();
        let is_hidden = file
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
        if file
            .extension()
            .is_some_and(|extension| extension == "json")
            && !is_hidden
        {
            files.push(file);
        }
    }
    files.sort();
    let mut documents = Vec::new();
    for file in files {
        let value = document::json(&file, WHAT)?;
        // What this program has written there beside results.
        let is_ours = |format: &str| format.starts_with("ubdlab ");
        let is_other = |format: &str| is_ours(format) && !format.starts_with("ubdlab fuzz result ");
        if !document::format(&value).is_some_and(is_other) {
            documents.push((file, value));
        }
    }
    Ok(documents)
}

/// The result in a file, run to its end.
fn result(file: &Path, value: Value) -> Result<CampaignResult, Failure> {
    let result: CampaignResult = document::of(file, value, FORMAT, WHAT)?;
    match check(&result) {
        Ok(()) => Ok(result),
        Err(why) => Err(Failure(format!("{}: {why}", driver::shown(file)))),
    }
}
