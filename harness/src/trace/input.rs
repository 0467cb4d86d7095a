//! A byte stream that knows its name and position, for readers that must say
//! where they stopped.

use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use driver::exact_count;
use driver::units::{Bytes, FileOffset};

use super::error::{Place, TraceError};

/// Copies the `N` bytes at `offset` out of `bytes`, which has them.
pub(super) fn field<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[offset..offset + N]);
    field
}

/// A named stream with its position.
#[derive(Debug)]
pub(super) struct Input<R> {
    file: PathBuf,
    reader: R,
    offset: FileOffset,
    is_decompressed: bool,
}

impl<R> Input<R> {
    pub(super) fn new(file: &Path, reader: R) -> Input<R> {
        Input {
            file: file.to_owned(),
            reader,
            offset: FileOffset(0),
            is_decompressed: false,
        }
    }

    /// The input as that of a stream that was decompressed on the way, so that positions in it
    /// are not those in the file.
    pub(super) fn decompressed(self, is_decompressed: bool) -> Input<R> {
        Input {
            is_decompressed,
            ..self
        }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    pub(super) fn offset(&self) -> FileOffset {
        self.offset
    }

    pub(super) fn place(&self, offset: FileOffset) -> Place {
        Place {
            is_decompressed: self.is_decompressed,
            ..Place::new(&self.file, offset)
        }
    }

    pub(super) fn io_error(&self, error: io::Error) -> TraceError {
        TraceError::Io {
            place: self.place(self.offset),
            error,
        }
    }

    pub(super) fn bad(
        &self,
        offset: FileOffset,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> TraceError {
        TraceError::Bad {
            place: self.place(offset),
            found: found.into(),
            expected: expected.into(),
        }
    }
}

impl<R: Read> Input<R> {
    /// Fills `buffer` as far as the stream goes; less only at its end.
    pub(super) fn read_up_to(&mut self, buffer: &mut [u8]) -> Result<usize, TraceError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => {
                    filled += count;
                    self.offset += Bytes(count as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.io_error(error)),
            }
        }
        Ok(filled)
    }

    /// Fills `buffer` whole; `what` names what it should hold, for the error.
    pub(super) fn read_whole(&mut self, buffer: &mut [u8], what: &str) -> Result<(), TraceError> {
        let start = self.offset;
        let filled = self.read_up_to(buffer)?;
        if filled == buffer.len() {
            return Ok(());
        }
        Err(TraceError::Cut {
            place: self.place(start),
            found: format!(
                "{} before the end of the file",
                exact_count(filled as u64, "byte")
            ),
            expected: format!("{}: {what}", exact_count(buffer.len() as u64, "byte")),
        })
    }
}

impl<R: BufRead> Input<R> {
    /// Replaces `line` by the next line with its line feed, or with nothing at the end. Stops
    /// after `limit` bytes, so a file without line feeds costs nothing.
    pub(super) fn read_line(&mut self, line: &mut Vec<u8>, limit: u64) -> Result<(), TraceError> {
        line.clear();
        let read = (&mut self.reader).take(limit).read_until(b'\n', line);
        let count = read.map_err(|error| self.io_error(error))?;
        self.offset += Bytes(count as u64);
        Ok(())
    }
}

impl<R: Read + Seek> Input<R> {
    pub(super) fn seek(&mut self, offset: FileOffset) -> Result<(), TraceError> {
        let result = self.reader.seek(SeekFrom::Start(offset.0));
        result.map_err(|error| self.io_error(error))?;
        self.offset = offset;
        Ok(())
    }

    pub(super) fn length(&mut self) -> Result<Bytes, TraceError> {
        let end = self.reader.seek(SeekFrom::End(0));
        let end = end.map_err(|error| self.io_error(error))?;
        self.seek(self.offset)?;
        Ok(Bytes(end))
    }
}
