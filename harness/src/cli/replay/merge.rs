//! `ubdlab replay merge`.

use std::path::PathBuf;

use crate::replay::volumes::{FORMAT, VolumesResult};

use super::super::document::Expected;
use super::super::own_files::OwnFiles;
use super::super::page::PageFile;
use super::super::{Failure, Verdict, wrong_usage};
use super::each::report;

/// Put the results of all shards of a replay together: a table of all volumes, worst first
///
/// Each result is what `ubdlab replay --each-device --shard K/N --json` has printed. All N have to
/// be there, each once, of one trace, with the same options and by the same version of the program.
/// What comes of it is the result of the replay in one piece, but for the times, and exit statuses
/// are the same: 1 if a volume shows what it should not, 3 if only some could not be replayed.
///
/// Results are read one after the other. Beside all volumes in the table, which take less memory
/// than the files have bytes, it takes a few times the size of the largest file. One of more than
/// 256 MiB is refused.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  for k in 1 2 3; do
    ubdlab replay volumes.csv --each-device --memory --shard $k/3 --json >$k.json
  done
  ubdlab replay merge 1.json 2.json 3.json
  ubdlab replay merge results --json --report volumes.html >volumes.json")]
pub(super) struct Args {
    /// Results: files, or directories in which each *.json is one
    ///
    /// Other documents of ubdlab in a directory are passed over.
    #[arg(value_name = "RESULT", required = true)]
    results: Vec<PathBuf>,

    /// Print the merged result as one JSON document, which is a result too
    #[arg(long)]
    json: bool,

    /// Write the table as a page, too: one HTML file that needs nothing else
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// What each file is to hold.
const RESULT: Expected = Expected {
    format: FORMAT,
    what: "a result of ubdlab replay --each-device --json",
};

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<Verdict, Failure> {
    let (files, sum) = RESULT.add_up(&args.results, VolumesResult::check)?;
    let page = args.report.as_deref();
    let own = OwnFiles::new()
        .reading("RESULT", files)
        .writing("--report", page);
    if let Err(what) = own.check() {
        return Ok(wrong_usage(what));
    }
    let page = PageFile::begin(page, None)?;
    let whole = sum.whole().map_err(Failure::operation)?;
    report(&whole, args.json, page)
}
