//! `ubdlab bench serve`.

use driver::units::Bytes;

use crate::bench::serve;
use crate::cli::driver_arg::IoArg;

use super::{Common, Failure, Place, Verdict, dirty, with_programs};

/// Measure a device that is served beside other programs that serve one
///
/// Each server is a process of its own, over a backing file of the same content, and fio is the
/// client of all: by NBD, on a loop device over a FUSE mount, and in a UML guest over vhost-user.
/// Beside it are qemu-nbd and qemu-storage-daemon on qcow2, in each way that they have to do their
/// I/O, and nbdkit with its cow filter. A row counts beside the best of them. Then what a client
/// waits while the device grows by a reflow, and what a thousand idle connections cost. What needs
/// root or a program that is not there says so. Takes 3 GiB of space and half an hour. Ends early
/// at Ctrl-C, and removes what it has made.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab bench serve
  ubdlab bench serve --only 'NBD, warm' --dir /mnt/disk
  ubdlab bench serve --only reflow --dirty 64M --json")]
pub(in crate::cli) struct ServeArgs {
    #[command(flatten)]
    common: Common,

    #[command(flatten)]
    place: Place,

    /// How much is dirty on the device that grows, at most half of 1 GiB: 4M to 512M
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = |text: &str| dirty(text, "512M"))]
    dirty: Bytes,

    /// Serve with this as --io only [default: auto, threads and inline in turns; auto counts]
    ///
    /// The rows of a device that grows and of idle connections have auto where nothing is said.
    #[arg(
        long,
        value_enum,
        hide_possible_values = true,
        value_name = "auto|inline|threads|uring"
    )]
    io: Option<IoArg>,
}

impl ServeArgs {
    pub(super) fn run(&self) -> Result<Verdict, Failure> {
        let (common, place) = (&self.common, &self.place);
        with_programs(common, place, self.dirty, self.io, |settings, each| {
            serve::measure(settings, each)
        })
    }
}
