//! `ubdlab image rebase`.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use driver::open::ChosenBacking;
use driver::shown;
use driver::units::Bytes;
use userhelper::image::info::{BackingState, info};
use userhelper::image::rebase::{rebase, rebase_unsafely};
use userhelper::real_files::RealHost;

use crate::figures::size;

use super::super::output_file::shown_to_more;
use super::super::{Failure, Verdict, output};
use super::info::warn_of_stock;
use super::state::explain;
use super::watching::Watching;
use super::{BackingFormatArgs, TrustArgs, existing, for_header, note};

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
    #[arg(short = 'b', long, value_name = "FILE")]
    backing: PathBuf,

    #[command(flatten)]
    backing_is_raw: BackingFormatArgs,

    /// Write the header only, and do not even open the old backing file
    #[arg(long = "unsafe")]
    unsafely: bool,

    #[command(flatten)]
    trust: TrustArgs,
}

/// Whether the new backing file is the one that the COW file is over, and was made for.
fn is_old_backing(path: &Path, backing: &Path, args: &Args) -> bool {
    let trust = args.trust.trust();
    let old = info(&RealHost, path, trust).ok();
    let old = old.filter(|info| matches!(info.backing, BackingState::Matches));
    let metadata = |path: &Path| std::fs::metadata(path).ok();
    let files = old.and_then(|info| metadata(&info.backing_path).zip(metadata(backing)));
    files.is_some_and(|(old, new)| (old.dev(), old.ino()) == (new.dev(), new.ino()))
}

pub(super) fn run(args: &Args) -> Result<Verdict, Failure> {
    let (path, backing) = (existing(&args.cow)?, for_header(&args.backing)?);
    let chosen = ChosenBacking {
        path: &backing,
        raw: args.backing_is_raw.is_raw(),
    };
    let is_old = is_old_backing(&path, &backing, args);
    let rebased = match args.unsafely {
        true => rebase_unsafely(&RealHost, &path, chosen),
        false => {
            let trust = args.trust.trust();
            note(
                info(&RealHost, &path, trust)
                    .ok()
                    .and_then(|info| info.backing_note),
            );
            let mut watching = Watching::new("comparing");
            rebase(&RealHost, &path, chosen, trust, &mut watching)
        }
    };
    let rebased = rebased.map_err(|error| {
        let before = "the disk is as before, over its old backing file; what was copied in is not \
                      in use yet: give the command again, or free it with ubdlab image check \
                      --repair";
        explain(error, &path, args.trust.trust(), before)
    })?;
    if let Some(old) = &rebased.shown {
        output::remark(shown_to_more(&path, old));
    }
    let (cow, new) = (shown(&path), shown(&backing));
    output::line(match is_old && rebased.copied == Bytes(0) {
        true => format!("{cow}: {new} was its backing file already, and nothing was copied in"),
        false => format!(
            "{cow}: over {new} now, {} copied in",
            size(rebased.copied.0)
        ),
    });
    warn_of_stock(&path);
    Ok(Verdict::Good)
}
