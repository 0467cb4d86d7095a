//! `ubdlab image recover`.

use std::path::PathBuf;

use driver::shown;
use userhelper::image::info::info;
use userhelper::image::recover::recover;
use userhelper::real_files::RealHost;

use crate::figures::size;

use super::super::{Failure, Verdict, output};
use super::state::after_recovery;
use super::watching::Watching;
use super::{FormatArg, TrustArgs, existing, note};

/// Finish an interrupted resize, or end an interrupted merge or rebase
///
/// Of a COW file: a reflow that was interrupted goes on from where it was. A merge in place, a
/// rebase or the extension of the backing file ends as it is: the disk is what it was, and the
/// command can be given again. Another file under the backing file's name is refused. A header
/// that is half changed to another backing file is finished.
///
/// Of any file: a new one that never got its name is removed, also where the command that was to
/// make it is the one that was interrupted: give the name that it was to have. Where there is
/// nothing to do, nothing is done.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab image recover --format cow root.cow
  ubdlab image recover --format raw merged.img")]
pub(in super::super) struct Args {
    /// The COW file, or a new file that was to be made
    cow: PathBuf,

    /// What the file is
    ///
    /// Without it, a file that begins like a COW file is one if its header says that something was
    /// interrupted: that is finished, and the path in its header is followed. A guest can write all
    /// of that to its raw disk, so name one that a guest can have written to with --format raw: of
    /// that only a new file beside it is removed. What an interrupted resize may leave without such
    /// a word, past the end of the device, is put right with --format cow only.
    #[arg(short, long, value_enum)]
    format: Option<FormatArg>,

    #[command(flatten)]
    trust: TrustArgs,
}

pub(super) fn run(args: &Args) -> Result<Verdict, Failure> {
    let path = existing(&args.cow)?;
    let mut watching = Watching::new("moving data");
    let (format, trust) = (FormatArg::format(args.format), args.trust.trust());
    let recovered = recover(&RealHost, &path, format, trust, &mut watching);
    drop(watching);
    let recovered =
        recovered.map_err(|error| Watching::explain(error, &path, "given again, this goes on"))?;
    let image = path;
    let found = info(&RealHost, &image, format.trust(trust)).ok();
    note(found.and_then(|info| info.backing_note));
    let path = shown(&image);
    if recovered.header {
        output::line(format_args!(
            "{path}: finished the change of its header to another backing file"
        ));
    }
    if let Some(resized) = recovered.resized {
        output::line(format_args!(
            "{path}: finished the resize from {} to {}, {} moved",
            resized.old_size,
            resized.new_size,
            size(resized.moved.0)
        ));
    }
    if recovered.backing_change {
        output::line(format_args!(
            "{path}: ended a change of the backing file; the disk is what it was"
        ));
    }
    if recovered.past_end {
        output::line(format_args!(
            "{path}: put right what an interrupted resize left past the end of the device"
        ));
    }
    if recovered.temporary {
        output::line(format_args!(
            "{path}: removed a new file that was never finished"
        ));
    }
    if recovered.resized.is_some() || recovered.backing_change {
        after_recovery(&image, trust).iter().for_each(output::line);
    }
    if recovered == Default::default() {
        output::line(format_args!("{path}: nothing to recover"));
    }
    Ok(Verdict::Good)
}
