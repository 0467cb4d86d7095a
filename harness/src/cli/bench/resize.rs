//! `ubdlab bench resize`.

use driver::size::parse_device_size;
use driver::units::Bytes;

use crate::bench::{BenchError, Settings, resize};
use crate::cli::output;

use super::{Common, Failure, Interrupt, Place, Rows, Verdict};

/// Measure resizes and merges beside the programs that do as much with as many bytes
///
/// Devices of 1, 16 and 256 GiB, with what is dirty in extents of 4 KiB or in one piece. Headroom
/// beside `qemu-img resize` of a qcow2 file, rebuild and reflow beside `cp --sparse=always` of the
/// same file and a sync of the copy, merge beside `uml_moo`, each from fresh files in each turn,
/// all of them in the page cache. A reflow under live I/O, with what requests wait. What needs
/// root (file systems that share extents, on loop devices) or other programs says so where it
/// cannot be had. Ends early at Ctrl-C, and removes what it has made.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab bench resize
  ubdlab bench resize --only 'rebuild/16 GiB' --dirty 1G --dir /mnt/disk
  ubdlab bench resize --only growth --json")]
pub(in crate::cli) struct ResizeArgs {
    #[command(flatten)]
    common: Common,

    #[command(flatten)]
    place: Place,

    /// How much is dirty on each device, or half the device if that is less: 4M to 64G
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = dirty)]
    dirty: Bytes,
}

fn dirty(text: &str) -> Result<Bytes, String> {
    let size = parse_device_size(text).map_err(|error| error.to_string())?;
    match (4 << 20..=64 << 30).contains(&size.0) {
        true => Ok(size),
        false => Err(format!("found {size}, expected 4M to 64G")),
    }
}

impl ResizeArgs {
    pub(super) fn run(&self) -> Result<Verdict, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure(format!("finding this program: {error}")))?;
        // It unmounts what it has mounted.
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
        match resize::measure(settings, |more| rows.collect(more)) {
            Err(BenchError::Interrupted) => {
                output::remark("interrupted; everything that was made is removed");
            }
            measured => measured.map_err(Failure::operation)?,
        }
        rows.report(&only)
    }
}
