//! Writing a `.ubdtrace` file, from front to back, with one frame in memory.

use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use driver::units::{Bytes, FileOffset, SectorCount};

use super::super::error::{Place, TraceError};
use super::super::record::MAX_END_SECTOR;
use super::super::{Record, Served};
use super::frame::{self, MAX_RECORDS};
use super::header::{TraceHeader, Version};
use super::index::{INDEX_HEAD, IndexEntry, Trailer};

/// Writes a trace. Without [`finish`](TraceWriter::finish) the file has no index and
/// readers will report it as cut.
#[derive(Debug)]
pub struct TraceWriter<W> {
    file: PathBuf,
    header: TraceHeader,
    out: W,
    offset: FileOffset,
    records: u64,
    version: Version,
    pending: Vec<Record>,
    /// Of each of them, in version 2.
    pending_served: Vec<Served>,
    /// Requests that the recorder has lost, of which version 2 tells.
    lost: u64,
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

    /// Begins a trace that tells of each request who has asked for it and how it ended: version 2
    /// of the format.
    ///
    /// # Errors
    /// If the output fails, or the device is too large.
    pub fn telling_served(
        name: &Path,
        out: W,
        header: &TraceHeader,
    ) -> Result<TraceWriter<W>, TraceError> {
        TraceWriter::begin(Version::Two, MAX_RECORDS, name, out, header)
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
        TraceWriter::begin(Version::One, frame_records, name, out, header)
    }

    fn begin(
        version: Version,
        frame_records: usize,
        name: &Path,
        out: W,
        header: &TraceHeader,
    ) -> Result<TraceWriter<W>, TraceError> {
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
            header: header.clone(),
            out,
            offset: FileOffset(0),
            records: 0,
            version,
            pending: Vec::new(),
            pending_served: Vec::new(),
            lost: 0,
            index: Vec::new(),
            frame_records,
        };
        writer.write(&header.encode(version))?;
        Ok(writer)
    }

    /// Appends a record.
    pub fn push(&mut self, record: &Record) -> Result<(), TraceError> {
        self.push_served(record, Served::default())
    }

    /// Appends a record of which it is known who has asked for it and how it ended. Version 1 does
    /// not tell that.
    ///
    /// # Errors
    /// If the record breaks the rules of [`Record::check`], or if the output fails.
    pub fn push_served(&mut self, record: &Record, served: Served) -> Result<(), TraceError> {
        record.check().map_err(|fault| TraceError::Refused {
            file: self.file.clone(),
            number: self.records + self.pending.len() as u64,
            found: fault.found,
            expected: fault.expected,
        })?;
        self.pending.push(*record);
        if self.version == Version::Two {
            self.pending_served.push(served);
        }
        if self.pending.len() == self.frame_records {
            self.write_frame()?;
        }
        Ok(())
    }

    /// The recorder has lost `requests` more requests. Version 1 does not tell that.
    pub fn lose(&mut self, requests: u64) {
        self.lost = self.lost.saturating_add(requests);
    }

    /// Hands over to the output what has been appended, as a frame of its own: it can be read from
    /// then on, whatever becomes of the writer. A frame costs some 150 bytes, and 32 bytes of
    /// memory until the end.
    ///
    /// # Errors
    /// If the output fails.
    pub fn flush(&mut self) -> Result<(), TraceError> {
        if !self.pending.is_empty() {
            self.write_frame()?;
        }
        let flushed = self.out.flush();
        flushed.map_err(|error| self.io_error(error))
    }

    /// Records in frames that have been written.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Frames that have been written.
    pub fn frames(&self) -> usize {
        self.index.len()
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
            lost: match self.version {
                Version::One => 0,
                Version::Two => u32::try_from(self.lost).unwrap_or(u32::MAX),
            },
        };
        self.write(&trailer.encode())?;
        let flushed = self.out.flush();
        flushed.map_err(|error| self.io_error(error))?;
        Ok(self.out)
    }

    /// As [`TraceWriter::finish`], and makes the output durable by `sync`.
    ///
    /// # Errors
    /// If the output fails.
    pub fn finish_with(
        self,
        sync: impl FnOnce(&mut W) -> io::Result<()>,
    ) -> Result<(), TraceError> {
        let place = Place::new(&self.file, FileOffset(0));
        let mut out = self.finish()?;
        sync(&mut out).map_err(|error| TraceError::Io { place, error })
    }

    fn write_frame(&mut self) -> Result<(), TraceError> {
        let (header, payload) = frame::encode(self.records, &self.pending, &self.pending_served)
            .map_err(|error| self.io_error(error))?;
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
        self.pending_served.clear();
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

impl<W: Write + Seek> TraceWriter<W> {
    /// Makes the header say that the device has at least this size, if it says that it is smaller.
    /// The output began at its position 0.
    ///
    /// # Errors
    /// If the output fails.
    pub fn grow_device(&mut self, size: SectorCount) -> Result<(), TraceError> {
        if self.header.device_size.is_none_or(|old| old >= size) {
            return Ok(());
        }
        self.header.device_size = Some(size);
        let header = self.header.encode(self.version);
        let mut rewrite = || {
            self.out.seek(SeekFrom::Start(0))?;
            self.out.write_all(&header)?;
            self.out.seek(SeekFrom::Start(self.offset.0)).map(drop)
        };
        let rewritten = rewrite();
        rewritten.map_err(|error| self.io_error(error))
    }
}
