//! Our own CSV: nothing of a request is lost. The device's size and the description are, as a
//! line has no place for them.

use std::io::Write;
use std::path::Path;

use super::super::csv::{HEADER, SERVED_COLUMNS, write_record};
use super::super::{Record, Served, TraceError};
use super::{RecordWriter, TextOut};

/// Writes `time_ns,operation,preflush,fua,start_sector,sectors`, and `,client,status` after that
/// of a trace that tells.
#[derive(Debug)]
pub struct CsvWriter<W> {
    out: TextOut<W>,
    line: Vec<u8>,
    tells_served: bool,
}

impl<W: Write> CsvWriter<W> {
    /// Begins a trace on `out`; `name` is what errors call it.
    ///
    /// # Errors
    /// If the output fails.
    pub fn create(name: &Path, out: W) -> Result<CsvWriter<W>, TraceError> {
        CsvWriter::telling(false, name, out)
    }

    /// As [`CsvWriter::create`], and says who has asked for each request and how it ended if
    /// `tells_served`.
    ///
    /// # Errors
    /// If the output fails.
    pub fn telling(tells_served: bool, name: &Path, out: W) -> Result<CsvWriter<W>, TraceError> {
        let mut out = TextOut::new(name, out);
        out.write(HEADER.as_bytes())?;
        if tells_served {
            out.write(SERVED_COLUMNS.as_bytes())?;
        }
        out.write(b"\n")?;
        Ok(CsvWriter {
            out,
            line: Vec::new(),
            tells_served,
        })
    }
}

impl<W: Write> RecordWriter for CsvWriter<W> {
    type Out = W;

    fn push(&mut self, record: &Record) -> Result<(), TraceError> {
        self.push_served(record, None)
    }

    fn push_served(&mut self, record: &Record, served: Option<Served>) -> Result<(), TraceError> {
        self.line.clear();
        let served = self.tells_served.then(|| served.unwrap_or_default());
        write_record(&mut self.line, record, served);
        self.out.push(record, &self.line)
    }

    fn finish(self) -> Result<W, TraceError> {
        self.out.finish()
    }
}
