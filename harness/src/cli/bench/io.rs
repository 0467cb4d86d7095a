//! `ubdlab bench io`.

use crate::bench::io;
use crate::cli::driver_arg::IoArg;

use super::{Common, Failure, Place, Rows, Verdict};

/// Measure the way to the host's files beside bare system calls and other programs
///
/// The driver reads and writes a COW file of 256 MiB that is in the page cache; pread and pwrite
/// do the same on the same file at the same offsets. System calls are counted where their number
/// is what matters: of a read across many runs, of a flush after many writes. Reads with many in
/// flight, of a file that is not in the page cache and of one that is, stand beside a plain loop on
/// io_uring and beside plain threads. Where qemu-img and nbdkit are found, their copy-on-write
/// layers are measured beside it with `qemu-img bench`; where they are not, the row says so. Takes
/// 8 GiB of space and some minutes; for the growth with the size of a device there are files of up
/// to 256 GiB, nearly all holes.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab bench io
  ubdlab bench io --only 'I/O thread' --dir /mnt/disk --json")]
pub(in crate::cli) struct IoArgs {
    #[command(flatten)]
    common: Common,

    #[command(flatten)]
    place: Place,

    /// Who carries out what the device asks of its files in the rows that compare these (io/cold,
    /// io/direct and io/warm)
    ///
    /// By default all take turns, and the best counts; the row says which that is.
    #[arg(long, value_enum, default_value_t = IoArg::Auto, hide_possible_values = true,
        value_name = "auto|inline|threads|uring")]
    io: IoArg,
}

impl IoArgs {
    pub(super) fn run(&self) -> Result<Verdict, Failure> {
        let directory = self.place.directory()?;
        let (rows, only) = (Rows::new(&self.common), self.common.only());
        io::measure(directory.path(), &only, self.io.into(), |more| {
            rows.collect(more)
        })
        .map_err(Failure::operation)?;
        rows.report(&only)
    }
}
