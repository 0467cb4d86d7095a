//! `ubdlab image rebase`.

use std::path::PathBuf;

use driver::shown;
use userhelper::image::rebase::{rebase, rebase_unsafely};
use userhelper::real_files::RealHost;

use super::super::output_file::shown_to_more;
use super::super::{Failure, Verdict, output};
use super::watching::Watching;
use super::{TrustArgs, absolute, existing};

/// Give a COW file another backing file
///
/// The disk stays what it is: where the new backing file differs, the old one's content is
/// copied into the COW file first. With --unsafe only path, size and time in the header are
/// written, for a backing file that was moved, copied or touched.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab image rebase root.cow --backing newer.img
  ubdlab image rebase root.cow --backing /moved/root.img --unsafe

With --unsafe nobody looks whether the content is the same: if it is not, the file system on the
disk is damaged.")]
pub(in super::super) struct Args {
    /// The COW file
    ///
    /// To name a file here is to say that it is a COW file: the path in its header is followed.
    /// Never name a raw disk that a guest can write to.
    cow: PathBuf,

    /// The new backing file
    #[arg(long, value_name = "FILE")]
    backing: PathBuf,

    /// Write the header only, and do not even open the old backing file
    #[arg(long = "unsafe")]
    unsafely: bool,

    #[command(flatten)]
    trust: TrustArgs,
}

pub(super) fn run(args: &Args) -> Result<Verdict, Failure> {
    let (path, backing) = (existing(&args.cow)?, absolute(&args.backing)?);
    let rebased = match args.unsafely {
        true => rebase_unsafely(&RealHost, &path, &backing),
        false => {
            let mut watching = Watching::new("comparing");
            let trust = args.trust.trust();
            rebase(&RealHost, &path, &backing, trust, &mut watching)
        }
    }?;
    if let Some(old) = &rebased.shown {
        output::remark(shown_to_more(&path, old));
    }
    output::line(format_args!(
        "{}: over {} now, {} copied in",
        shown(&path),
        shown(&backing),
        rebased.copied
    ));
    Ok(Verdict::Good)
}
