//! The options that say in which format a trace is written.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::figures::counted;
use crate::trace::write::{BlkparseWriter, CsvWriter, FioWriter, Losses};
use crate::trace::{
    Converted, Summary, TraceError, TraceHeader, TraceSource, TraceWriter, convert,
};

use super::Failure;

/// How a trace is written.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Writing {
    /// The format to write
    #[arg(long = "as", value_enum, default_value_t = To::Ubdtrace, value_name = "FORMAT")]
    format: To,
    /// The file or device that fio is to replay on, for --as fio
    #[arg(long, value_name = "NAME", default_value = "ubd.img")]
    fio_file: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum To {
    /// ubdlab's own format: the requests, the device's size and the description
    Ubdtrace,
    /// fio's iolog, version 3, for fio --read_iolog
    Fio,
    /// Text as blkparse prints it
    Blkparse,
    /// Comma-separated values, one line a request: the requests alone
    Csv,
}

impl Writing {
    /// Whether what is written is no text.
    pub(super) fn is_binary(&self) -> bool {
        self.format == To::Ubdtrace
    }

    /// Copies a trace into `out`, which errors call `name`.
    pub(super) fn write<W: Write>(
        &self,
        trace: &mut dyn TraceSource,
        name: &Path,
        out: W,
    ) -> Result<(Summary, Lost, W), Failure> {
        let tells_served = trace.tells_served();
        let parts = |converted: Converted<W>| {
            let lost = Lost {
                losses: converted.losses,
                served: tells_served && matches!(self.format, To::Fio | To::Blkparse),
            };
            (converted.summary, lost, converted.out)
        };
        let write = || -> Result<Converted<W>, TraceError> {
            match self.format {
                To::Ubdtrace => {
                    let header = TraceHeader::from(trace.description());
                    match tells_served {
                        true => convert(trace, TraceWriter::telling_served(name, out, &header)?),
                        false => convert(trace, TraceWriter::create(name, out, &header)?),
                    }
                }
                To::Fio => convert(trace, FioWriter::create(name, out, &self.fio_file)?),
                To::Blkparse => convert(trace, BlkparseWriter::create(name, out)),
                To::Csv => convert(trace, CsvWriter::telling(tells_served, name, out)?),
            }
        };
        write().map(parts).map_err(Failure::operation)
    }
}

/// What the format could not say.
pub(super) struct Lost {
    losses: Losses,
    /// Who asked, and how requests ended.
    served: bool,
}

impl Lost {
    /// A line each.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> + use<> {
        let Losses {
            write_zeroes,
            preflushes,
            fua,
        } = self.losses;
        let all = [
            (write_zeroes, "write", " of zeros", "a write"),
            (preflushes, "preflush", "", "a flush in front of the write"),
            (fua, "FUA write", "", "a write with a flush after it"),
        ];
        let some = all.into_iter().filter(|(count, ..)| *count > 0);
        some.map(|(count, noun, which, instead)| {
            let count = counted(count, noun);
            format!("not said    {count}{which}: written as {instead}")
        })
        .chain(self.served.then(|| {
            "not said    which client asked for each request, and how it ended".to_owned()
        }))
    }
}
