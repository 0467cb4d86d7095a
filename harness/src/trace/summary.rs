//! What is in a trace, in numbers, and the way from any format to ours; both in
//! one pass and in constant memory.

use serde::Serialize;

use super::error::TraceError;
use super::record::{Record, TraceOperation};
use super::write::{Losses, RecordWriter};
use super::{Nanoseconds, TraceSource};

/// Counts over the records of a trace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// All records.
    pub requests: u64,
    /// Reads.
    pub reads: u64,
    /// Writes, those with preflush or FUA included.
    pub writes: u64,
    /// Flushes without data; writes with preflush are not among them.
    pub flushes: u64,
    /// Discards.
    pub discards: u64,
    /// Write-zeroes.
    pub write_zeroes: u64,
    /// Writes that flush what came before them.
    pub preflush_writes: u64,
    /// Writes that are durable when completed.
    pub fua_writes: u64,
    /// Sectors of all reads.
    pub sectors_read: u64,
    /// Sectors of all writes.
    pub sectors_written: u64,
    /// Sectors of all discards.
    pub sectors_discarded: u64,
    /// Sectors of all write-zeroes.
    pub sectors_zeroed: u64,
    /// The first sector past everything that is touched: the smallest device that the trace fits
    /// on, in sectors.
    pub max_end_sector: u64,
    /// From the start of the trace to its latest record.
    pub duration_ns: Nanoseconds,
}

impl Summary {
    /// Counts one more record. Sums stop at the largest number instead of wrapping.
    pub fn add(&mut self, record: &Record) {
        let (requests, sectors) = match record.operation {
            TraceOperation::Read => (&mut self.reads, Some(&mut self.sectors_read)),
            TraceOperation::Write => (&mut self.writes, Some(&mut self.sectors_written)),
            TraceOperation::Flush => (&mut self.flushes, None),
            TraceOperation::Discard => (&mut self.discards, Some(&mut self.sectors_discarded)),
            TraceOperation::WriteZeroes => (&mut self.write_zeroes, Some(&mut self.sectors_zeroed)),
        };
        *requests += 1;
        if let Some(sectors) = sectors {
            *sectors = sectors.saturating_add(record.count.0);
            self.max_end_sector = self.max_end_sector.max(record.end().0);
        }
        self.requests += 1;
        self.preflush_writes += u64::from(record.preflush);
        self.fua_writes += u64::from(record.fua);
        self.duration_ns = self.duration_ns.max(record.time);
    }
}

/// Reads the rest of `source` and counts.
pub fn summarize(source: &mut dyn TraceSource) -> Result<Summary, TraceError> {
    let mut summary = Summary::default();
    for record in source {
        summary.add(&record?);
    }
    Ok(summary)
}

/// What a conversion came to.
#[derive(Debug)]
pub struct Converted<O> {
    /// What was copied.
    pub summary: Summary,
    /// What the new format could not say.
    pub losses: Losses,
    /// The finished output, for its owner to sync and to rename into place.
    pub out: O,
}

/// Copies the rest of `source` into `writer` and finishes it.
///
/// # Errors
/// If the source has one, or the output.
pub fn convert<W: RecordWriter>(
    source: &mut dyn TraceSource,
    mut writer: W,
) -> Result<Converted<W::Out>, TraceError> {
    let mut summary = Summary::default();
    while let Some(record) = source.next() {
        let record = record?;
        writer.push_served(&record, source.served())?;
        summary.add(&record);
    }
    writer.lose(source.notes().served.lost);
    Ok(Converted {
        summary,
        losses: writer.losses(),
        out: writer.finish()?,
    })
}
