//! Our own CSV: nothing of a request is lost. The device's size and the description are, as a
//! line has no place for them.

use std::io::Write;
use std::path::Path;

use super::super::csv::{HEADER, write_record};
use super::super::{Record, TraceError};
use super::{RecordWriter, TextOut};

/// Writes `time_ns,operation,preflush,fua,start_sector,sectors`.
#[derive(Debug)]
pub struct CsvWriter<W> {
    out: TextOut<W>,
    line: Vec<u8>,
}

impl<W: Write> CsvWriter<W> {
    /// Begins a trace on `out`; `name` is what errors call it.
    ///
    /// # Errors
    /// If the output fails.
    pub fn create(name: &Path, out: W) -> Result<CsvWriter<W>, TraceError> {
        let mut out = TextOut::new(name, out);
        out.write(HEADER.as_bytes())?;
        out.write(b"\n")?;
        let line = Vec::new();
        Ok(CsvWriter { out, line })
    }
}

impl<W: Write> RecordWriter for CsvWriter<W> {
    type Out = W;

    fn push(&mut self, record: &Record) -> Result<(), TraceError> {
        self.line.clear();
        write_record(&mut self.line, record);
        self.out.push(record, &self.line)
    }

    fn finish(self) -> Result<W, TraceError> {
        self.out.finish()
    }
}
