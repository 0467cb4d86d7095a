//! Writing traces: ours, and those formats that other tools read. All from front to back, in
//! constant memory.

mod blkparse;
mod csv;
mod fio;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use driver::units::{Bytes, FileOffset};

pub use blkparse::BlkparseWriter;
pub use csv::CsvWriter;
pub use fio::FioWriter;

use super::compact::TraceWriter;
use super::{Place, Record, Served, TraceError};

/// Something that takes records and makes a trace of them.
pub trait RecordWriter {
    /// What the trace is written to.
    type Out;

    /// Appends a record.
    ///
    /// # Errors
    /// If the record breaks the rules of [`Record::check`], or if the output fails.
    fn push(&mut self, record: &Record) -> Result<(), TraceError>;

    /// Appends a record of which it is known who has asked for it and how it ended.
    ///
    /// # Errors
    /// As [`RecordWriter::push`].
    fn push_served(&mut self, record: &Record, served: Option<Served>) -> Result<(), TraceError> {
        let _ = served;
        self.push(record)
    }

    /// The recorder has lost this many more requests.
    fn lose(&mut self, requests: u64) {
        let _ = requests;
    }

    /// Writes what is left and returns the output, for its owner to sync.
    ///
    /// # Errors
    /// If the output fails.
    fn finish(self) -> Result<Self::Out, TraceError>;

    /// Records that the format has no word for, and what they were written as instead.
    fn losses(&self) -> Losses {
        Losses::default()
    }
}

/// What a format could not say. The requests are there, but as something else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Write-zeroes that became writes.
    pub write_zeroes: u64,
    /// Preflushes of writes that became flushes before them.
    pub preflushes: u64,
    /// Forced unit access that became a flush after the write.
    pub fua: u64,
}

impl<W: Write> RecordWriter for TraceWriter<W> {
    type Out = W;

    fn push(&mut self, record: &Record) -> Result<(), TraceError> {
        TraceWriter::push(self, record)
    }

    fn push_served(&mut self, record: &Record, served: Option<Served>) -> Result<(), TraceError> {
        TraceWriter::push_served(self, record, served.unwrap_or_default())
    }

    fn lose(&mut self, requests: u64) {
        TraceWriter::lose(self, requests);
    }

    fn finish(self) -> Result<W, TraceError> {
        TraceWriter::finish(self)
    }
}

/// Appends text to a line in memory, which cannot fail.
fn append(line: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    line.write_fmt(text).expect("memory takes everything");
}

/// What the writers of text share: an output that knows its name and position.
#[derive(Debug)]
struct TextOut<W> {
    file: PathBuf,
    out: W,
    offset: FileOffset,
    records: u64,
}

impl<W: Write> TextOut<W> {
    fn new(file: &Path, out: W) -> TextOut<W> {
        TextOut {
            file: file.to_owned(),
            out,
            offset: FileOffset(0),
            records: 0,
        }
    }

    /// Checks a record and writes the text that stands for it.
    fn push(&mut self, record: &Record, text: &[u8]) -> Result<(), TraceError> {
        record.check().map_err(|fault| TraceError::Refused {
            file: self.file.clone(),
            number: self.records,
            found: fault.found,
            expected: fault.expected,
        })?;
        self.records += 1;
        self.write(text)
    }

    fn write(&mut self, text: &[u8]) -> Result<(), TraceError> {
        let written = self.out.write_all(text);
        written.map_err(|error| self.io_error(error))?;
        self.offset += Bytes(text.len() as u64);
        Ok(())
    }

    fn finish(mut self) -> Result<W, TraceError> {
        let flushed = self.out.flush();
        flushed.map_err(|error| self.io_error(error))?;
        Ok(self.out)
    }

    fn io_error(&self, error: io::Error) -> TraceError {
        TraceError::Io {
            place: Place::new(&self.file, self.offset),
            error,
        }
    }
}
