//! `ubdlab fuzz merge`.

use std::path::PathBuf;

use crate::fuzz::campaign::merge::check;
use crate::fuzz::campaign::result::FORMAT;
use crate::shard::Shard;

use super::super::document::Expected;
use super::super::output_file::not_created;
use super::super::own_files::OwnFiles;
use super::super::page::PageFile;
use super::super::{Failure, Verdict, wrong_usage};
use super::keeper::{Writer, may_be_finding};
use super::search::report;

/// Add up the results of all shards of a campaign
///
/// Each result is what `ubdlab fuzz --shard K/N` has written with --result, or printed with --json.
/// All N have to be there, once, of one campaign and run to their end by one build of the program.
/// The sum is what the campaign in one piece would have come to, but for the times: those of all
/// shards are added.
///
/// Results are read one after the other, and the largest of them takes up to seven times its size
/// in memory. One of more than 256 MiB is refused.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  for k in 1 2 3; do ubdlab fuzz --cases 3000 --shard $k/3 --result $k.json; done
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

/// What the files are expected to be.
const RESULT: Expected = Expected {
    format: FORMAT,
    what: "a result of ubdlab fuzz --json",
};

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<Verdict, Failure> {
    let (files, sum) = RESULT.add_up(&args.results, check)?;
    let own = OwnFiles::new()
        .reading("RESULT", files)
        .writing("--report", args.report.as_deref())
        .making("a finding", args.out.as_deref(), may_be_finding);
    if let Err(what) = own.check() {
        return Ok(wrong_usage(what));
    }
    let page = PageFile::begin(args.report.as_deref(), None)?;
    let mut result = sum.whole().map_err(Failure::operation)?;
    if let Some(directory) = &args.out {
        let mut writer = Writer::new(directory, Shard::WHOLE, &own);
        let findings = result.findings.iter();
        let files: Vec<PathBuf> = findings.map(|finding| writer.file_of(finding)).collect();
        let replaces = files.iter().find_map(|file| own.check_made(file).err());
        if let Some(what) = replaces {
            return Ok(wrong_usage(what));
        }
        std::fs::create_dir_all(directory).map_err(|error| not_created(directory, &error))?;
        for (finding, file) in result.findings.iter_mut().zip(files) {
            writer.write(finding, &file)?;
            finding.file = Some(file);
        }
    }
    report(&result, args.json, page)
}
