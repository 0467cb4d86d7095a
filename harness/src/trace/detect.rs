//! Which format a trace has, told by its first bytes and never by its name: names
//! get lost in pipes and lie in archives.

use super::{
    Units, biosnoop, blkparse, blktrace, compact, csv, fio, fiu, ftrace, log_writes, vscsi,
};

/// The first bytes that `detect` wants to see, if there are that many.
pub const PREFIX_LEN: usize = 64 * 1024;

/// A trace format that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// Our own: see [`compact`].
    Compact,
    /// blktrace's binary records: see [`blktrace`].
    Blktrace(blktrace::Layout),
    /// The text of blkparse: see [`blkparse`].
    Blkparse,
    /// Text with the kernel's events: see [`ftrace`].
    Ftrace(ftrace::Tool),
    /// fio's iolog, version 2 or 3: see [`fio`].
    Fio(fio::Version),
    /// The table that biosnoop prints: see [`biosnoop`].
    Biosnoop,
    /// The words of FIU's collection: see [`fiu`].
    Fiu,
    /// Comma-separated values: see [`csv`].
    Csv(csv::Dialect),
    /// VMware's vscsi, version 1 or 2: see [`vscsi`].
    Vscsi(vscsi::Version),
    /// The log of dm-log-writes: see [`log_writes`].
    LogWrites,
}

impl Format {
    /// The format's name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Compact => "ubdtrace",
            Format::Blktrace(layout) => match (layout.is_v8, layout.is_big_endian) {
                (false, false) => "blktrace version 7, little endian",
                (false, true) => "blktrace version 7, big endian",
                (true, false) => "blktrace version 8, little endian",
                (true, true) => "blktrace version 8, big endian",
            },
            Format::Blkparse => "blkparse text",
            Format::Ftrace(ftrace::Tool::Tracefs) => "ftrace text",
            Format::Ftrace(ftrace::Tool::TraceCmd) => "trace-cmd report text",
            Format::Ftrace(ftrace::Tool::Perf) => "perf script text",
            Format::Fio(fio::Version::V2) => "fio iolog version 2",
            Format::Fio(fio::Version::V3) => "fio iolog version 3",
            Format::Biosnoop => "biosnoop text",
            Format::Fiu => "FIU text",
            Format::Csv(csv::Dialect::Msr) => "MSR Cambridge CSV",
            Format::Csv(csv::Dialect::Systor) => "SYSTOR '17 CSV",
            Format::Csv(csv::Dialect::Alibaba) => "Alibaba CSV",
            Format::Csv(csv::Dialect::Tencent) => "Tencent CSV",
            Format::Csv(csv::Dialect::Spc) => "SPC CSV",
            Format::Csv(csv::Dialect::Own) => "ubdlab CSV",
            Format::Vscsi(vscsi::Version::V1) => "vscsi version 1",
            Format::Vscsi(vscsi::Version::V2) => "vscsi version 2",
            Format::LogWrites => "dm-log-writes",
        }
    }

    /// The units that the format's numbers are in.
    pub const fn units(self) -> Units {
        let (time, position) = match self {
            Format::Csv(dialect) => return dialect.units(),
            Format::Compact => ("nanoseconds", "sectors of 512 bytes"),
            Format::Blktrace(_) => ("nanoseconds", "sectors of 512 bytes, lengths in bytes"),
            Format::Blkparse => ("seconds, to the nanosecond", "sectors of 512 bytes"),
            Format::Ftrace(_) => ("seconds, to the microsecond", "sectors of 512 bytes"),
            Format::Fio(fio::Version::V2) => ("milliseconds", "bytes"),
            Format::Fio(fio::Version::V3) => ("microseconds", "bytes"),
            Format::Biosnoop => ("seconds", "sectors of 512 bytes, lengths in bytes"),
            Format::Fiu => ("nanoseconds", "blocks of 512 bytes"),
            Format::Vscsi(_) => ("microseconds", "blocks of 512 bytes, lengths in bytes"),
            Format::LogWrites => ("none: only the order is known", "blocks of the device"),
        };
        Units { time, position }
    }
}

/// The format of the trace that begins with `prefix`, or `None`.
pub fn detect(prefix: &[u8]) -> Option<Format> {
    if prefix.starts_with(&compact::FILE_MAGIC) {
        return Some(Format::Compact);
    }
    if log_writes::detect(prefix) {
        return Some(Format::LogWrites);
    }
    // The looser ones last. No two of them fit the same bytes: vscsi's version byte is in no
    // text, and the texts differ in their first line.
    None.or_else(|| blktrace::detect(prefix).map(Format::Blktrace))
        .or_else(|| fio::detect(prefix).map(Format::Fio))
        .or_else(|| vscsi::detect(prefix).map(Format::Vscsi))
        .or_else(|| csv::detect(prefix).map(Format::Csv))
        .or_else(|| biosnoop::detect(prefix).then_some(Format::Biosnoop))
        .or_else(|| fiu::detect(prefix).then_some(Format::Fiu))
        .or_else(|| blkparse::detect(prefix).then_some(Format::Blkparse))
        .or_else(|| ftrace::detect(prefix).map(Format::Ftrace))
}

/// The list for the message that none of them fits.
pub(super) fn understood() -> &'static str {
    "ubdtrace, blktrace (binary, version 7 or 8), blkparse text, ftrace, trace-cmd report or perf script text with \
     block events, the blk tracer's text, biosnoop's table, fio iolog (version 2 or 3), FIU's words, CSV of MSR Cambridge, \
     SYSTOR '17, Alibaba, Tencent, SPC or ubdlab, vscsi (version 1 or 2), dm-log-writes, each of them plain or compressed with gzip or zstd"
}
