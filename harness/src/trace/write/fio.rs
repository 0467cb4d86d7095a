//! fio's iolog, version 3, for `fio --read_iolog`.
//!
//! It has no preflush, no FUA and no write-zeroes. What they promise is kept in other words: a
//! preflush is a `sync` before its write, forced unit access a `datasync` after it, and
//! write-zeroes are a `write`. No data and no durability is lost, but merged requests come apart.
//!
//! Times begin at 1 us: fio takes a last time of 0 for "none yet", and would not wait between a
//! request at time 0 and the next one (seen with fio 3.33).

use std::io::Write;
use std::path::Path;

use driver::units::SECTOR_SIZE;

use super::super::{Record, TraceError, TraceOperation};
use super::{Losses, RecordWriter, TextOut, append};

/// The time of a request at the start of the trace, in microseconds.
const FIRST_US: u64 = 1;

/// Writes an iolog.
#[derive(Debug)]
pub struct FioWriter<W> {
    out: TextOut<W>,
    target: String,
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
    pub fn create(name: &Path, out: W, target: &str) -> Result<FioWriter<W>, TraceError> {
        if target.is_empty() || target.len() > 255 || target.contains(char::is_whitespace) {
            return Err(TraceError::Refused {
                file: name.to_owned(),
                number: 0,
                found: format!("the file name {target:?}"),
                expected: "1 to 255 bytes without white space".to_owned(),
            });
        }
        let mut out = TextOut::new(name, out);
        out.write(format!("fio version 3 iolog\n0 {target} add\n0 {target} open\n").as_bytes())?;
        Ok(FioWriter {
            out,
            target: target.to_owned(),
            lines: Vec::new(),
            last_us: 0,
            losses: Losses::default(),
        })
    }

    fn line(&mut self, action: &str, record: Option<&Record>) {
        let (offset, length) = record.map_or((0, 0), |record| {
            (record.start.0 * SECTOR_SIZE, record.count.0 * SECTOR_SIZE)
        });
        let (time, target) = (self.last_us, &self.target);
        append(
            &mut self.lines,
            format_args!("{time} {target} {action} {offset} {length}\n"),
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
        let close = format!("{} {} close\n", self.last_us, self.target);
        self.out.write(close.as_bytes())?;
        self.out.finish()
    }

    fn losses(&self) -> Losses {
        self.losses
    }
}
