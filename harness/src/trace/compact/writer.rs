//! Writing a `.ubdtrace` file, from front to back, with one frame in memory.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use driver::units::{Bytes, FileOffset};

use super::super::Record;
use super::super::error::{Place, TraceError};
use super::super::record::MAX_END_SECTOR;
use super::frame::{self, MAX_RECORDS};
use super::header::TraceHeader;
use super::index::{INDEX_HEAD, IndexEntry, Trailer};

/// Writes a trace. Without [`finish`](TraceWriter::finish) the file has no index and
/// readers will report it as cut.
#[derive(Debug)]
pub struct TraceWriter<W> {
    file: PathBuf,
    out: W,
    offset: FileOffset,
    records: u64,
    pending: Vec<Record>,
    // The one thing that grows with the trace: 32 bytes for each frame, which is
    // half a MiB for a billion records.
    index: Vec<IndexEntry>,
    frame_records: usize,
}

impl<W: Write> TraceWriter<W> {
    /// Begins a trace on `out`; `name` is what errors call it.
    pub fn create(name: &Path, out: W, header: &TraceHeader) -> Result<TraceWriter<W>, TraceError> {
        TraceWriter::with_frames_of(MAX_RECORDS, name, out, header)
    }

    /// Begins a trace with `frame_records` records in a frame: fewer make seeking faster and the
    /// file larger.
    ///
    /// # Panics
    ///
    /// Unless `frame_records` is 1 to 65,536.
    pub fn with_frames_of(
        frame_records: usize,
        name: &Path,
        out: W,
        header: &TraceHeader,
    ) -> Result<TraceWriter<W>, TraceError> {
        assert!(
            (1..=MAX_RECORDS).contains(&frame_records),
            "1 to {MAX_RECORDS}"
        );
        if let Some(size) = header.device_size
            && size.0 > MAX_END_SECTOR.0
        {
            return Err(TraceError::Refused {
                file: name.to_owned(),
                number: 0,
                found: format!("a device of {size} sectors"),
                expected: format!("at most {MAX_END_SECTOR}"),
            });
        }
        let mut writer = TraceWriter {
            file: name.to_owned(),
            out,
            offset: FileOffset(0),
            records: 0,
            pending: Vec::new(),
            index: Vec::new(),
            frame_records,
        };
        writer.write(&header.encode())?;
        Ok(writer)
    }

    /// Appends a record.
    pub fn push(&mut self, record: &Record) -> Result<(), TraceError> {
        record.check().map_err(|fault| TraceError::Refused {
            file: self.file.clone(),
            number: self.records + self.pending.len() as u64,
            found: fault.found,
            expected: fault.expected,
        })?;
        self.pending.push(*record);
        if self.pending.len() == self.frame_records {
            self.write_frame()?;
        }
        Ok(())
    }

    /// Writes what is left, the index and the trailer, and returns the output.
    pub fn finish(mut self) -> Result<W, TraceError> {
        if !self.pending.is_empty() {
            self.write_frame()?;
        }
        let index = self.offset;
        let mut crc = crc32c::crc32c(&INDEX_HEAD);
        self.write(&INDEX_HEAD)?;
        let entries = std::mem::take(&mut self.index);
        let frames = entries.len() as u64;
        for entry in entries {
            let bytes = entry.encode();
            crc = crc32c::crc32c_append(crc, &bytes);
            self.write(&bytes)?;
        }
        let trailer = Trailer {
            index,
            frames,
            records: self.records,
            index_crc: crc,
        };
        self.write(&trailer.encode())?;
        let flushed = self.out.flush();
        flushed.map_err(|error| self.io_error(error))?;
        Ok(self.out)
    }

    fn write_frame(&mut self) -> Result<(), TraceError> {
        let (header, payload) =
            frame::encode(self.records, &self.pending).map_err(|error| self.io_error(error))?;
        self.index.push(IndexEntry {
            offset: self.offset,
            first_record: header.first_record,
            first_time: header.first_time,
            latest_time: header.latest_time,
        });
        self.write(&header.encode())?;
        self.write(&payload)?;
        self.records += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), TraceError> {
        let written = self.out.write_all(bytes);
        written.map_err(|error| self.io_error(error))?;
        self.offset += Bytes(bytes.len() as u64);
        Ok(())
    }

    fn io_error(&self, error: io::Error) -> TraceError {
        TraceError::Io {
            place: Place::new(&self.file, self.offset),
            error,
        }
    }
}
