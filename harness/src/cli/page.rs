//! Writing a page: whole, or not at all.

use std::path::Path;

use super::Failure;
use super::output_file::OutputFile;

/// The page that a command was asked for, if it was. Its place is looked at before the work that
/// the page tells of.
#[derive(Debug)]
pub(super) struct PageFile<'a> {
    path: Option<&'a Path>,
    begun: Option<OutputFile<'a>>,
}

impl<'a> PageFile<'a> {
    /// The page at `path`. In the directory `out`, if the command is still to make that, it is
    /// begun when it is written.
    pub(super) fn begin(
        path: Option<&'a Path>,
        out: Option<&Path>,
    ) -> Result<PageFile<'a>, Failure> {
        if path == Some(Path::new("-")) {
            return Err(Failure(
                "-: writing: found the name that stands for standard output, expected that of a \
                 file: ./- if that is meant, or /dev/stdout"
                    .into(),
            ));
        }
        let is_made = |page: &&Path| !out.is_some_and(|out| !out.exists() && page.starts_with(out));
        let begun = path.filter(is_made).map(OutputFile::create).transpose()?;
        Ok(PageFile { path, begun })
    }

    /// Writes it, if it was asked for.
    pub(super) fn write(
        self,
        html: impl FnOnce() -> Result<String, Failure>,
    ) -> Result<(), Failure> {
        let output = match (self.begun, self.path) {
            (Some(begun), _) => begun,
            (None, Some(path)) => OutputFile::create(path)?,
            (None, None) => return Ok(()),
        };
        output.write_whole(&html()?)
    }
}
