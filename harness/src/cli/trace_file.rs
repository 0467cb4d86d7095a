//! A file that a trace is written into, for the commands that write one.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::figures::{counted, size};
use crate::trace::Summary;

use super::output_file::{OutputFile, not_written};
use super::writing::Lost;
use super::{Failure, output};

/// What was written into `target`, in a line.
pub(super) fn written(target: &Path, requests: u64, len: Option<u64>) -> String {
    let (target, requests) = (driver::shown(target), counted(requests, "request"));
    match len {
        Some(len) => format!("{target}: {requests} in {}", size(len)),
        None => format!("{target}: {requests}"),
    }
}

/// Writes into a file that takes its name when it is whole. Returns what was written,
/// and how long it is in bytes, if it has a length; `None` if it is a stream and its reader has
/// left, which is no failure.
pub(super) fn into_file(
    output: OutputFile<'_>,
    write: impl FnOnce(Buffered<'_>) -> Result<(Summary, Lost, Buffered<'_>), Failure>,
) -> Result<Option<(Summary, Lost, Option<u64>)>, Failure> {
    let target = output.target();
    let out = BufWriter::new(output.writer());
    let done = write(out).and_then(|(summary, losses, mut out)| {
        out.flush().map_err(|error| not_written(target, &error))?;
        Ok((summary, losses))
    });
    let Some((summary, losses)) = output::unless_reader_left(done)? else {
        return Ok(None);
    };
    Ok(Some((summary, losses, output.finish()?)))
}

/// What a trace is written into.
type Buffered<'a> = BufWriter<output::DataWriter<&'a File>>;
