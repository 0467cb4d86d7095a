//! `ubdlab image create`.

use std::path::PathBuf;

use driver::open::ChosenBacking;
use driver::shown;
use driver::size::parse_device_size;
use driver::units::Bytes;
use userhelper::image::create::{Wish, create};
use userhelper::image::resize::stock_verdict;
use userhelper::real_files::RealHost;

use super::super::{Failure, Verdict, output};
use super::{BackingFormatArgs, absolute, for_header};

/// Create a COW file over a backing file
///
/// The file is version 3, as Linux has made them since 2003, and stock UML and uml_moo take it.
/// It appears whole or not at all. Its header names the backing file by its absolute path.
///
/// Room to grow is reserved before the data, as a hole, which takes no space: by default for
/// eight times the size of the device, and at least 4 GiB. Within it a resize takes milliseconds.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab image create root.cow --backing root.img
  ubdlab image create root.cow --backing root.img --max-size 256G
  ubdlab image create root.cow --backing root.img --size 20G")]
pub(in super::super) struct Args {
    /// The COW file to be made; one that exists is not replaced
    cow: PathBuf,

    /// The backing file: a raw disk, which is never written
    #[arg(short = 'b', long, value_name = "FILE")]
    backing: PathBuf,

    #[command(flatten)]
    backing_is_raw: BackingFormatArgs,

    /// The size up to which the device can grow without its data moving
    /// [default: eight times its size, at least 4G]
    ///
    /// The most is 4194288M, which is 16 MiB less than 4T, and more for larger devices: the data
    /// has to stay within stock Linux's reach. A resize past it moves the data.
    #[arg(long, value_name = "SIZE", value_parser = parse_device_size)]
    max_size: Option<Bytes>,

    /// The size of the device [default: that of the backing file]
    ///
    /// A larger device reads as zeros past the backing file's end. Stock UML refuses it until the
    /// backing file is as large.
    #[arg(long, value_parser = parse_device_size)]
    size: Option<Bytes>,
}

pub(super) fn run(args: &Args) -> Result<Verdict, Failure> {
    let (cow, backing) = (absolute(&args.cow)?, for_header(&args.backing)?);
    let wish = Wish {
        size: args.size,
        max_size: args.max_size,
    };
    let chosen = ChosenBacking {
        path: &backing,
        raw: args.backing_is_raw.is_raw(),
    };
    let created = create(&RealHost, &cow, chosen, wish)?;
    let geometry = created.geometry;
    output::line(format_args!(
        "{}: a device of {} over {}, with room to grow to {}",
        shown(&cow),
        geometry.size,
        shown(&backing),
        geometry.headroom()
    ));
    output::line(format_args!(
        "stock UML {}",
        stock_verdict(&geometry, created.backing)
    ));
    Ok(Verdict::Good)
}
