//! Text as `blkparse` prints it: each request as queued (`Q`), of the device 0,0.
//!
//! Write-zeroes are written with the letters of newer kernels, `WZ`; older tools do not know
//! them.

use std::io::Write;
use std::path::Path;

use super::super::{Record, TraceError, TraceOperation};
use super::{RecordWriter, TextOut, append};

/// Writes blkparse's text.
#[derive(Debug)]
pub struct BlkparseWriter<W> {
    out: TextOut<W>,
    line: Vec<u8>,
    sequence: u64,
}

impl<W: Write> BlkparseWriter<W> {
    /// Begins a trace on `out`; `name` is what errors call it. There is nothing to write yet.
    pub fn create(name: &Path, out: W) -> BlkparseWriter<W> {
        BlkparseWriter {
            out: TextOut::new(name, out),
            line: Vec::new(),
            sequence: 0,
        }
    }
}

fn letters(record: &Record) -> &'static str {
    match (record.operation, record.preflush, record.fua) {
        (TraceOperation::Read, _, _) => "R",
        (TraceOperation::Write, false, false) => "W",
        (TraceOperation::Write, false, true) => "WFS",
        (TraceOperation::Write, true, false) => "FWS",
        (TraceOperation::Write, true, true) => "FWFS",
        (TraceOperation::Flush, _, _) => "FN",
        (TraceOperation::Discard, _, _) => "D",
        (TraceOperation::WriteZeroes, _, _) => "WZ",
    }
}

impl<W: Write> RecordWriter for BlkparseWriter<W> {
    type Out = W;

    fn push(&mut self, record: &Record) -> Result<(), TraceError> {
        self.sequence += 1;
        let (seconds, rest) = (record.time.0 / 1_000_000_000, record.time.0 % 1_000_000_000);
        self.line.clear();
        let (sequence, letters) = (self.sequence, letters(record));
        append(
            &mut self.line,
            format_args!(
                "  0,0    0 {sequence:8} {seconds:5}.{rest:09} {:5}  Q {letters:>3} ",
                0
            ),
        );
        if record.operation != TraceOperation::Flush {
            append(
                &mut self.line,
                format_args!("{} + {} ", record.start, record.count),
            );
        }
        append(&mut self.line, format_args!("[ubdlab]\n"));
        self.out.push(record, &self.line)
    }

    fn finish(self) -> Result<W, TraceError> {
        self.out.finish()
    }
}
