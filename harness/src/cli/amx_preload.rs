//! `ubdlab amx-preload`: the library that the program carries for UML on processors with AMX.

use std::path::PathBuf;

use crate::guest::AMX_PRELOAD;

use super::output_file::OutputFile;
use super::{Failure, Verdict};

/// Write the library with which UML's user space starts on processors with AMX
///
/// On a processor with AMX (the flag amx_tile in /proc/cpuinfo) the init of a UML up to Linux 6.1
/// dies at start, whatever its disk is: UML has no room for all registers, and the host takes
/// nothing less. Preloaded, the library gives the host those that UML leaves out. On other
/// processors it changes nothing.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab amx-preload ./amx.so
  LD_PRELOAD=$PWD/amx.so linux.uml mem=512M initrd=initrd virtio_uml.device=/tmp/root.sock:2")]
pub(super) struct Args {
    /// The file that becomes the library
    file: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<Verdict, Failure> {
    if AMX_PRELOAD.is_empty() {
        let why = "UML needs this library on x86-64 only, and this program was built for another \
                   processor";
        return Err(Failure(why.into()));
    }
    OutputFile::create(&args.file)?.write_whole(AMX_PRELOAD)?;
    Ok(Verdict::Good)
}
