//! Writing a page: whole, or not at all.

use std::io::Write;
use std::path::Path;

use super::Failure;
use super::output_file::{OutputFile, not_written};

/// Writes a page into a file that gets the name when it is whole.
pub(super) fn write_page(path: &Path, html: &str) -> Result<(), Failure> {
    let output = OutputFile::create(path)?;
    output
        .file()
        .write_all(html.as_bytes())
        .map_err(|error| not_written(path, &error))?;
    output.finish().map(drop)
}
