//! `ubdlab bench resize`.

use driver::units::Bytes;

use crate::bench::resize;
use crate::cli::driver_arg::IoArg;

use super::{Common, Failure, Place, Verdict, dirty, with_programs};

/// Measure resizes and merges beside the programs that do as much with as many bytes
///
/// Devices of 1, 16 and 256 GiB, with what is dirty in extents of 4 KiB or in one piece. Headroom
/// beside `qemu-img resize` of a qcow2 file, rebuild and reflow beside `cp --sparse=always` of the
/// same file and a sync of the copy, merge beside `uml_moo`, each from fresh files in each turn,
/// all of them in the page cache. A reflow under live I/O, with what requests wait. What needs
/// root (file systems that share extents, on loop devices) or other programs says so where it
/// cannot be had. Ends early at Ctrl-C and SIGTERM, and removes what it has made. A sync under way
/// is waited for, which may take a minute or two on a slow disk; a second signal does not wait.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab bench resize
  ubdlab bench resize --only 'rebuild/16 GiB' --dirty 1G --dir /mnt/disk
  ubdlab bench resize --only live --io threads
  ubdlab bench resize --only growth --json")]
pub(in crate::cli) struct ResizeArgs {
    #[command(flatten)]
    common: Common,

    #[command(flatten)]
    place: Place,

    /// How much is dirty on each device, or half the device if that is less: 4M to 64G
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = |text: &str| dirty(text, "64G"))]
    dirty: Bytes,

    /// Who carries out what the device asks of its files in the rows of a live reflow
    /// [default: inline and auto, one after the other]
    ///
    /// All other rows have no requests beside the resize, which asks for one thing after the other,
    /// and are inline.
    #[arg(
        long,
        value_enum,
        hide_possible_values = true,
        value_name = "auto|inline|threads|uring"
    )]
    io: Option<IoArg>,
}

impl ResizeArgs {
    pub(super) fn run(&self) -> Result<Verdict, Failure> {
        let (common, place) = (&self.common, &self.place);
        with_programs(common, place, self.dirty, self.io, |settings, each| {
            resize::measure(settings, each)
        })
    }
}
