//! Writing a page: whole, or not at all.

use std::path::{Path, PathBuf};

use crate::replay::session::files_made_in;

use super::Failure;
use super::output_file::OutputFile;

/// The page that a command was asked for, if it was. Its place is looked at before the work that
/// the page tells of.
#[derive(Debug)]
pub(super) struct PageFile<'a> {
    path: Option<&'a Path>,
    /// The directory in which the command makes files that stay.
    out: Option<&'a Path>,
    begun: Option<OutputFile<'a>>,
}

impl<'a> PageFile<'a> {
    /// The page at `path`. It may be none of the files that the command reads. In a directory that
    /// the command is still to make, it is begun when it is written.
    pub(super) fn begin<P: AsRef<Path>>(
        path: Option<&'a Path>,
        out: Option<&'a Path>,
        read: &[P],
    ) -> Result<PageFile<'a>, Failure> {
        let is_made = |page: &&Path| !out.is_some_and(|out| !out.exists() && page.starts_with(out));
        let begun = path.filter(is_made).map(OutputFile::create).transpose()?;
        if let Some(output) = &begun {
            output.not_over(read)?;
        }
        Ok(PageFile { path, out, begun })
    }

    /// Writes it, if it was asked for, and over no file that the command has made.
    pub(super) fn write(
        self,
        html: impl FnOnce() -> Result<String, Failure>,
    ) -> Result<(), Failure> {
        let output = match (self.begun, self.path) {
            (Some(begun), _) => begun,
            (None, Some(path)) => OutputFile::create(path)?,
            (None, None) => return Ok(()),
        };
        let made: Vec<PathBuf> = self.out.into_iter().flat_map(files_made_in).collect();
        output.not_over(&made)?;
        output.write_whole(&html()?)
    }
}
