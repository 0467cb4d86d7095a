//! `ubdlab ctl SOCKET record`.

use std::fmt;
use std::path::{Path, PathBuf};

use driver::{OneLine, shown};

use crate::figures::{counted, were};
use crate::serve::control::{Answer, Asking, Request};
use crate::serve::record::RecordingStatus;

use super::super::paths::absolute;
use super::super::{Failure, Verdict, output};
use super::{lost, unexpected};

/// Write down what clients ask for, as a trace, or end that
///
/// The file must not exist yet; it can be read while it is written, as a trace that is cut. If a
/// recording is under way, it ends, and its file is whole. `ubdlab replay` plays it again.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab ctl /tmp/root.ctl record boot.ubdtrace
  ubdlab ctl /tmp/root.ctl record off
  ubdlab replay boot.ubdtrace")]
pub(super) struct Args {
    /// The new file, or `off`
    #[arg(value_name = "FILE|off")]
    file: PathBuf,
}

pub(super) fn run(asking: &mut Asking, args: &Args, json: bool) -> Result<Verdict, Failure> {
    let request = match args.file.as_os_str() == "off" {
        true => Request::Record {
            file: None,
            off: true,
        },
        false => Request::Record {
            file: Some(in_json(&absolute(&args.file)?)?),
            off: false,
        },
    };
    asking.ask(&request).map_err(lost)?;
    loop {
        let answer = asking.next_answer().map_err(lost)?;
        match &answer {
            Answer::Recorded(recorded) if !json => output::line(RecordedText(recorded)),
            Answer::Recording(recording) if !json => {
                output::line(format_args!("recording into {}", OneLine(&recording.file)));
            }
            Answer::Recording(_) => output::json(&answer)?,
            Answer::Recorded(_) if args.file.as_os_str() == "off" => output::json(&answer)?,
            Answer::Recorded(recorded) => output::remark(RecordedText(recorded)),
            other => return Err(unexpected(other)),
        }
        let has_ended = match &request {
            Request::Record { off: true, .. } => true,
            _ => matches!(answer, Answer::Recording(_)),
        };
        if has_ended {
            return Ok(Verdict::Good);
        }
    }
}

fn in_json(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| {
        let path = shown(path);
        Failure(format!(
            "{path}: found a path that is no UTF-8, which JSON cannot hold"
        ))
    })
}

/// How a recording has gone, on one line.
pub(in super::super) struct RecordedText<'a>(pub(in super::super) &'a RecordingStatus);

impl fmt::Display for RecordedText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RecordingStatus {
            file,
            recorded,
            lost,
            error,
        } = self.0;
        write!(f, "{}: {}", OneLine(file), counted(*recorded, "request"))?;
        match error {
            Some(error) => write!(f, "; it has failed: {}", OneLine(error))?,
            None if *lost > 0 => write!(
                f,
                "; {} lost, because the disk was too slow",
                were(*lost, "request")
            )?,
            None => {}
        }
        Ok(())
    }
}
