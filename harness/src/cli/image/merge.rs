//! `ubdlab image merge`.

use std::path::{Path, PathBuf};

use driver::shown;
use driver::units::FileOffset;
use userhelper::image::ImageError;
use userhelper::image::convert::to_raw;
use userhelper::image::merge::{check_possible, has_work, in_place, open_both};
use userhelper::image::open::{Image, close, open_cow};
use userhelper::image_host::ImageHost;
use userhelper::real_files::RealHost;

use crate::figures::size;

use super::super::output_file::shown_to_more;
use super::super::{Failure, Verdict, output};
use super::state::explain;
use super::watching::{NOT_MADE, Watching};
use super::{InsteadArgs, TrustArgs, absolute, existing, note};

/// Merge a COW file and its backing file into one raw disk, as uml_moo does
///
/// Into a new file, which keeps holes and appears whole or not at all; an existing file, by
/// whatever name it goes, is never written over. Or into the backing file itself, with --in-place:
/// the COW file stays usable until all of it is safe there, and is then an empty one over the
/// merged backing file. Interrupted, it is begun again.
#[derive(Debug, clap::Args)]
#[command(override_usage = "\
ubdlab image merge [OPTIONS] <COW> <OUTPUT>
       ubdlab image merge [OPTIONS] <COW> --in-place")]
#[command(after_long_help = "\
Examples:
  ubdlab image merge root.cow merged.img
  ubdlab image merge root.cow --in-place
  ubdlab image merge theirs.cow merged.img --backing my-copy.img

Merging in place changes the backing file: every other COW file over it is refused from then on.
They know it by its time, in whole seconds: a merge begins when that second has passed.")]
pub(in super::super) struct Args {
    /// The COW file
    ///
    /// To name a file here is to say that it is a COW file: the path in its header is followed.
    /// Never name a raw disk that a guest can write to.
    cow: PathBuf,

    /// The raw disk to be made
    #[arg(required_unless_present = "in_place", conflicts_with = "in_place")]
    output: Option<PathBuf>,

    /// Merge into the backing file, and empty the COW file
    #[arg(long, conflicts_with = "backing")]
    in_place: bool,

    #[command(flatten)]
    instead: InsteadArgs,

    #[command(flatten)]
    trust: TrustArgs,
}

pub(super) fn run(args: &Args) -> Result<Verdict, Failure> {
    let path = existing(&args.cow)?;
    match &args.output {
        Some(output) => into_new(args, &path, &absolute(output)?),
        None => into_backing(args, &path),
    }
}

fn into_new(args: &Args, path: &Path, output: &Path) -> Result<Verdict, Failure> {
    let backing = args.instead.path()?;
    let reach = args.instead.reach(args.trust.trust(), backing.as_ref());
    let cow = open_cow(&RealHost, path, reach)?;
    note(cow.backing_note());
    let mut watching = Watching::new("merging");
    let image = Image::Cow(Box::new(cow));
    let merged = to_raw(&RealHost, &image, output, &mut watching);
    drop(watching);
    let merged = merged.map_err(|error| Watching::explain(error, output, NOT_MADE))?;
    output::line(format_args!(
        "{}: {}, {} of it data",
        shown(output),
        merged.size,
        size(merged.data.0)
    ));
    Ok(Verdict::Good)
}

fn into_backing(args: &Args, path: &Path) -> Result<Verdict, Failure> {
    let mut cow = open_both(&RealHost, path, args.trust.trust())?;
    note(cow.backing_note());
    if !has_work(&cow) {
        output::line(format_args!(
            "{}: nothing is dirty, so nothing was merged; {} is as it was",
            shown(path),
            shown(&cow.backing_path)
        ));
        return Ok(Verdict::Good);
    }
    check_possible(&RealHost, &cow)?;
    super::resize::consequences(&cow, args.trust.trust(), "merging into")
        .iter()
        .for_each(output::remark);
    if let Some(backing) = cow.device.backing()
        && RealHost
            .shows(backing, cow.device.cow())
            .map_err(ImageError::host(path, "examining", FileOffset(0)))?
    {
        output::remark(shown_to_more(&cow.backing_path, path));
    }
    let mut watching = Watching::new("merging");
    let merged = in_place(&RealHost, &mut cow, &mut watching);
    drop(watching);
    let merged = merged.map_err(|error| {
        let before = "the disk is as before: give the command again";
        explain(error, path, args.trust.trust(), before)
    })?;
    output::line(format_args!(
        "{}: {}, {} written into it; {} is empty now",
        shown(&cow.backing_path),
        merged.backing_size,
        size(merged.data.0),
        shown(path)
    ));
    close(cow.device, path)?;
    Ok(Verdict::Good)
}
