//! Writing a page: whole, or not at all.

use std::path::Path;

use super::Failure;
use super::output_file::OutputFile;

/// Writes a page into a file that gets the name when it is whole.
pub(super) fn write_page(path: &Path, html: &str) -> Result<(), Failure> {
    OutputFile::create(path)?.write_whole(html)
}
