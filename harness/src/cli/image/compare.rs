//! `ubdlab image compare`.

use std::path::PathBuf;

use driver::open::OpenError;
use userhelper::image::ImageError;
use userhelper::image::compare::compare;
use userhelper::image::open::open_image;
use userhelper::real_files::RealHost;

use super::super::{Failure, Verdict, output};
use super::watching::Watching;
use super::{FormatArg, FormatArgs, InsteadArgs, TrustArgs, absolute, existing, note};

/// Compare what two disks hold, COW files or raw
///
/// Of disks of different sizes, what one has past the other's end has to be zero.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab image compare root.cow merged.img
  ubdlab image compare before.cow after.cow
  ubdlab image compare -f cow root.cow -F raw guest.img

Exit status: 0 they hold the same, 1 they differ, 2 wrong usage, 3 an operation failed.")]
pub(in super::super) struct Args {
    /// A COW file or a raw disk
    a: PathBuf,

    /// Another one
    b: PathBuf,

    #[command(flatten)]
    format: FormatArgs,

    /// What the second image is [default: a COW file if it begins like one]
    #[arg(short = 'F', long, value_enum, value_name = "FORMAT")]
    second_format: Option<FormatArg>,

    #[command(flatten)]
    instead: InsteadArgs,

    /// Read the clean sectors of the second image from FILE
    #[arg(short = 'B', long, value_name = "FILE", group = "named_backing")]
    second_backing: Option<PathBuf>,

    #[command(flatten)]
    trust: TrustArgs,
}

pub(super) fn run(args: &Args) -> Result<Verdict, Failure> {
    let trust = args.trust.trust();
    let format = args.format.format();
    let backing = args.instead.path()?;
    let reach_a = args.instead.reach(trust, backing.as_ref());
    let a = open_image(&RealHost, &existing(&args.a)?, format, reach_a)?;
    let format = FormatArg::format(args.second_format);
    let backing = args.second_backing.as_deref().map(absolute).transpose()?;
    let reach_b = args.instead.reach(trust, backing.as_ref());
    let b = open_image(&RealHost, &existing(&args.b)?, format, reach_b).map_err(of_second)?;
    note(a.backing_note());
    note(b.backing_note());
    let mut watching = Watching::new("comparing");
    let compared = compare(&RealHost, &a, &b, &mut watching);
    drop(watching);
    let again = "the disks can be compared again";
    let compared = compared.map_err(|error| Watching::explain(error, a.path(), again))?;
    let [size_a, size_b] = compared.sizes;
    if size_a != size_b {
        output::line(format_args!("the sizes differ: {size_a} and {size_b}"));
    }
    match compared.first {
        None => {
            output::line(match size_a == size_b {
                true => "the disks hold the same",
                false => "the disks hold the same up to the shorter one's end, and zeros after it",
            });
            Ok(Verdict::Good)
        }
        Some(at) => {
            output::line(format_args!(
                "the disks differ, first at byte {at} (sector {}); {}",
                at.0 / driver::units::SECTOR_SIZE,
                match compared.sectors.0 {
                    1 => "1 sector differs".to_owned(),
                    sectors => format!("{sectors} sectors differ"),
                }
            ));
            Ok(Verdict::ViolationFound)
        }
    }
}

/// The way out that an error names is the first image's.
fn of_second(error: ImageError) -> Failure {
    match error {
        ImageError::Open(OpenError::GuessedCow { .. }) | ImageError::GuessedCow { .. } => {
            Failure(format!("{error} (of the second image: --second-format)"))
        }
        ImageError::OtherFormat { .. } => {
            Failure(format!("{error} (of the second image: --second-format)"))
        }
        error => error.into(),
    }
}
