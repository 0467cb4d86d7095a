//! fio's iolog, version 3, for `fio --read_iolog`.
//!
//! It has no preflush, no FUA and no write-zeroes. What they promise is kept in other words: a
//! preflush is a `sync` before its write, forced unit access a `datasync` after it, and
//! write-zeroes are a `write`. No data and no durability is lost, but merged requests come apart.
//!
//! Times begin at 1 us: fio takes a last time of 0 for "none yet", and would not wait between a
//! request at time 0 and the next one (seen with fio 3.33).

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;

use driver::units::SECTOR_SIZE;

use super::super::{Record, TraceError, TraceOperation};
use super::{Losses, RecordWriter, TextOut, append};

/// The time of a request at the start of the trace, in microseconds.
const FIRST_US: u64 = 1;

/// White space to C, and so to fio, if not to Rust.
const VERTICAL_TAB: u8 = 0x0b;

/// Writes an iolog.
#[derive(Debug)]
pub struct FioWriter<W> {
    out: TextOut<W>,
    target: Vec<u8>,
    lines: Vec<u8>,
    last_us: u64,
    losses: Losses,
}

impl<W: Write> FioWriter<W> {
    /// Begins a trace on `out`; `name` is what errors call it. `target` is the file that fio
    /// will replay on, if `--replay_redirect` does not name another.
    ///
    /// # Errors
    /// If the output fails, or if `target` is empty or has white space in it: fio would not
    /// read it.
    pub fn create(
        name: &Path,
        out: W,
        target: impl AsRef<OsStr>,
    ) -> Result<FioWriter<W>, TraceError> {
        let target = target.as_ref();
        let bytes = target.as_encoded_bytes();
        let is_space = |byte: &u8| byte.is_ascii_whitespace() || *byte == VERTICAL_TAB;
        if bytes.is_empty() || bytes.len() > 255 || bytes.iter().any(is_space) {
            return Err(TraceError::Refused {
                file: name.to_owned(),
                number: 0,
                found: format!("the file name {target:?}"),
                expected: "1 to 255 bytes without white space".to_owned(),
            });
        }
        let mut out = TextOut::new(name, out);
        out.write(b"fio version 3 iolog\n")?;
        for action in [" add\n", " open\n"] {
            out.write(&[b"0 ", bytes, action.as_bytes()].concat())?;
        }
        Ok(FioWriter {
            out,
            target: bytes.to_owned(),
            lines: Vec::new(),
            last_us: 0,
            losses: Losses::default(),
        })
    }

    fn line(&mut self, action: &str, record: Option<&Record>) {
        let (offset, length) = record.map_or((0, 0), |record| {
            (record.start.0 * SECTOR_SIZE, record.count.0 * SECTOR_SIZE)
        });
        append(&mut self.lines, format_args!("{} ", self.last_us));
        self.lines.extend_from_slice(&self.target);
        append(
            &mut self.lines,
            format_args!(" {action} {offset} {length}\n"),
        );
    }
}

impl<W: Write> RecordWriter for FioWriter<W> {
    type Out = W;

    fn push(&mut self, record: &Record) -> Result<(), TraceError> {
        self.lines.clear();
        // fio takes the difference to the line before, which must not be negative.
        self.last_us = self.last_us.max(record.time.0 / 1000 + FIRST_US);
        if record.check().is_ok() {
            if record.preflush {
                self.losses.preflushes += 1;
                self.line("sync", None);
            }
            match record.operation {
                TraceOperation::Read => self.line("read", Some(record)),
                TraceOperation::Write => self.line("write", Some(record)),
                TraceOperation::Flush => self.line("sync", None),
                TraceOperation::Discard => self.line("trim", Some(record)),
                TraceOperation::WriteZeroes => {
                    self.losses.write_zeroes += 1;
                    self.line("write", Some(record));
                }
            }
            if record.fua {
                self.losses.fua += 1;
                self.line("datasync", None);
            }
        }
        let lines = std::mem::take(&mut self.lines);
        let pushed = self.out.push(record, &lines);
        self.lines = lines;
        pushed
    }

    fn finish(mut self) -> Result<W, TraceError> {
        let time = format!("{} ", self.last_us);
        let close = [time.as_bytes(), &self.target, b" close\n"].concat();
        self.out.write(&close)?;
        self.out.finish()
    }

    fn losses(&self) -> Losses {
        self.losses
    }
}
