//! `ubdlab image convert`.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use driver::cow::Geometry;
use driver::open::ChosenBacking;
use driver::shown;
use userhelper::image::convert::{CowVersion, to_cow, to_raw};
use userhelper::image::open::{Image, open_image};
use userhelper::real_files::RealHost;

use crate::figures::size;

use super::super::{Failure, Verdict, output};
use super::info::warn_of_stock;
use super::watching::{NOT_MADE, Watching};
use super::{
    BackingFormatArgs, FormatArgs, TrustArgs, absolute, existing, for_header, instead, note, reach,
};

/// Convert between raw disks and COW files of any version
///
/// A new COW file holds only what differs from its backing file, in blocks of 4 KiB, because
/// stock Linux misreads what is finer. The new file appears whole or
/// not at all; an existing one, by whatever name it goes, is never written over.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab image convert root.cow root.img
  ubdlab image convert changed.img root.cow --format raw --to v3 --backing root.img
  ubdlab image convert old.cow new.cow --to v3")]
pub(in super::super) struct Args {
    /// The image to be converted
    source: PathBuf,

    /// The file to be made
    target: PathBuf,

    /// What to make [default: v3 with --backing, raw without]
    #[arg(long, value_enum)]
    to: Option<To>,

    /// The backing file of the COW file to be made [default: the source's own]
    #[arg(long, value_name = "FILE")]
    backing: Option<PathBuf>,

    #[command(flatten)]
    backing_is_raw: BackingFormatArgs,

    #[command(flatten)]
    format: FormatArgs,

    /// Read the source's clean sectors from FILE, whatever backing file its header names
    ///
    /// For a COW file of another machine, or a backing file that was moved or copied. The size of
    /// FILE has to be right; nobody looks whether its content is. A new COW file names it.
    #[arg(short = 'b', long, value_name = "FILE")]
    source_backing: Option<PathBuf>,

    /// Refuse that FILE unless it was modified when the source's header says
    #[arg(long, requires = "source_backing")]
    check_time: bool,

    #[command(flatten)]
    trust: TrustArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum To {
    /// A raw disk
    Raw,
    /// A COW file of version 2, for UML of before 2003
    V2,
    /// A COW file of version 3, with room to grow
    V3,
}

pub(super) fn run(args: &Args) -> Result<Verdict, Failure> {
    let (source, target) = (existing(&args.source)?, absolute(&args.target)?);
    let backing = args.backing.as_deref().map(for_header).transpose()?;
    let to = match (args.to, &backing) {
        (Some(To::Raw), Some(_)) => {
            return Err(Failure(
                "a raw disk has no backing file: --to raw and --backing exclude each other".into(),
            ));
        }
        (Some(to), _) => to,
        (None, Some(_)) => To::V3,
        (None, None) => To::Raw,
    };
    let (format, trust) = (args.format.format(), args.trust.trust());
    let source_backing = args.source_backing.as_deref().map(for_header).transpose()?;
    let instead = instead(args.check_time);
    let raw = args.backing_is_raw.is_raw();
    let reach = reach(trust, source_backing.as_ref(), raw, instead);
    let mut image = open_image(&RealHost, &source, format, reach)?;
    note(image.backing_note());
    if let Image::Cow(cow) = &mut image {
        // It may go into the new header.
        cow.backing_path = for_header(&cow.backing_path)?;
    }
    let backing = match (backing, &image) {
        (Some(backing), _) => Some(backing),
        (None, Image::Cow(cow)) => Some(cow.backing_path.clone()),
        (None, Image::Raw { .. }) => None,
    };
    let mut watching = Watching::new("converting");
    let version = match to {
        To::Raw => None,
        To::V2 => Some(CowVersion::V2),
        To::V3 => Some(CowVersion::V3 {
            alignment: Geometry::roomy_alignment(image.size()),
        }),
    };
    let converted = match (version, &backing) {
        (None, _) => to_raw(&RealHost, &image, &target, &mut watching),
        (Some(version), Some(backing)) => {
            let backing = ChosenBacking { path: backing, raw };
            to_cow(&RealHost, &image, backing, version, &target, &mut watching)
        }
        (Some(_), None) => {
            return Err(Failure(format!(
                "{}: a raw disk, so --backing has to name the COW file's backing file",
                shown(&source)
            )));
        }
    };
    drop(watching);
    let converted = converted.map_err(|error| Watching::explain(error, &target, NOT_MADE))?;
    output::line(format_args!(
        "{}: {}, {} of it data",
        shown(&target),
        converted.size,
        size(converted.data.0)
    ));
    match to {
        To::Raw if args.to.is_none() => note(named_like_a_cow_file(&target)),
        To::Raw => {}
        To::V2 | To::V3 => warn_of_stock(&target),
    }
    Ok(Verdict::Good)
}

/// What is worth a note where a raw disk was made, nobody has said so, and it is called `*.cow`.
fn named_like_a_cow_file(target: &Path) -> Option<String> {
    let extension = target.extension()?;
    extension.eq_ignore_ascii_case("cow").then(|| {
        format!(
            "{} is a raw disk: --to v3 makes a COW file, over the source's backing file or --backing",
            shown(target)
        )
    })
}
