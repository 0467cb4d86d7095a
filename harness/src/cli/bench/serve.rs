//! `ubdlab bench serve`.

use driver::size::parse_device_size;
use driver::units::Bytes;

use crate::bench::{BenchError, Settings, serve};
use crate::cli::output;

use super::{Common, Failure, Interrupt, Place, Rows, Verdict};

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
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = dirty)]
    dirty: Bytes,
}

fn dirty(text: &str) -> Result<Bytes, String> {
    let size = parse_device_size(text).map_err(|error| error.to_string())?;
    match (4 << 20..=512 << 20).contains(&size.0) {
        true => Ok(size),
        false => Err(format!("found {size}, expected 4M to 512M")),
    }
}

impl ServeArgs {
    pub(super) fn run(&self) -> Result<Verdict, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure(format!("finding this program: {error}")))?;
        // It ends the servers that it has started.
        let interrupt = Interrupt::catch();
        let directory = self.place.directory()?;
        let only = self.common.only();
        let settings = Settings {
            directory: directory.path(),
            program: &program,
            dirty: self.dirty,
            only: &only,
            stop: interrupt.stop(),
        };
        let rows = Rows::new(&self.common);
        match serve::measure(settings, |more| rows.collect(more)) {
            Err(BenchError::Interrupted) => {
                output::remark("interrupted; everything that was made is removed");
            }
            measured => measured.map_err(Failure::operation)?,
        }
        rows.report(&only)
    }
}
