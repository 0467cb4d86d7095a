//! The image tools as a case uses them, on the files that every case has.

use std::ops::ControlFlow;
use std::path::Path;

use driver::units::{Bytes, SectorCount};
use userhelper::at_once::AtOnce;
use userhelper::image::ImageError;
use userhelper::image::check::check_and_repair;
use userhelper::image::convert::{CowVersion, to_cow, to_raw};
use userhelper::image::merge::{in_place, open_both};
use userhelper::image::open::{Format, Image, Trust, close, open_image};
use userhelper::image::rebase::rebase;
use userhelper::image::recover::recover;

use crate::sim::SimHost;

use super::case::ImageTool;
use super::paths::{BACKING, COW, FAR_BACKING, THIRD_BACKING};

/// What a conversion makes.
pub const CONVERTED: &str = "/disk/converted";

/// Why a tool has not done what it should.
#[derive(Debug)]
pub enum NotDone {
    /// The image is not one that it can do this with, and it has changed nothing.
    Refused,
    /// Anything else.
    Failed(ImageError),
}

/// The most pieces that a disk is copied in. Each write is a crash point at which all that came
/// before it is at stake: what that costs grows with their square.
const MOST_PIECES: u64 = 256;

/// `at_once`, or more where a disk of this size would come to too many pieces.
fn in_pieces(at_once: AtOnce, disk: SectorCount) -> AtOnce {
    AtOnce::of(at_once.bytes().max(Bytes(disk.bytes().0 / MOST_PIECES)))
}

/// Uses a tool on the COW file of a case; what copies a disk copies `at_once` in one go, or more
/// where that is a small part of the disk.
///
/// # Errors
/// Why it has not done what it should.
pub fn use_tool(host: &SimHost, tool: ImageTool, at_once: AtOnce) -> Result<(), NotDone> {
    let go_on = &mut |_: Bytes, _: Bytes| ControlFlow::Continue(());
    let (cow, trust) = (Path::new(COW), Trust::Follow);
    let open_disk = || {
        let mut image = open_image(host, cow, Format::Cow, trust)?;
        if let Image::Cow(cow) = &mut image {
            cow.at_once = in_pieces(at_once, cow.device.capacity());
        }
        Ok(image)
    };
    let done = match tool {
        ImageTool::Recover => recover(host, cow, Format::Cow, trust, go_on).map(drop),
        ImageTool::Repair => check_and_repair(host, cow, trust, go_on).map(drop),
        ImageTool::Rebase => rebase(host, cow, Path::new(THIRD_BACKING), trust, go_on).map(drop),
        ImageTool::RebaseFar => rebase(host, cow, Path::new(FAR_BACKING), trust, go_on).map(drop),
        ImageTool::Merge => open_both(host, cow, trust).and_then(|mut both| {
            both.at_once = in_pieces(at_once, both.device.capacity());
            in_place(host, &mut both, go_on)?;
            close(both.device, cow)
        }),
        ImageTool::ConvertToRaw => open_disk()
            .and_then(|image| to_raw(host, &image, Path::new(CONVERTED), go_on).map(drop)),
        ImageTool::ConvertToCow => open_disk().and_then(|image| {
            let version = CowVersion::V3 { alignment: 4096 };
            let (output, backing) = (Path::new(CONVERTED), Path::new(BACKING));
            to_cow(host, &image, backing, version, output, go_on).map(drop)
        }),
    };
    done.map_err(|error| match error {
        // An interrupted resize is finished by whoever opens the device next. Some backing files
        // do not fit a disk that has grown, that ends within a sector, or that has sectors
        // without a bit.
        ImageError::Refused { .. } if matches!(tool, ImageTool::Rebase | ImageTool::RebaseFar) => {
            NotDone::Refused
        }
        // Version 1 has no room for the path, and version 2 none for the two and a record.
        ImageError::Header { .. } if tool == ImageTool::RebaseFar => NotDone::Refused,
        ImageError::Unfinished { what: "resize", .. }
        | ImageError::Size { .. }
        | ImageError::PartialSector { .. } => NotDone::Refused,
        error => NotDone::Failed(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_disk_is_copied_in_no_more_pieces_than_a_crash_point_can_hold() {
        let least = AtOnce::of(Bytes(512));
        assert_eq!(in_pieces(least, SectorCount(200)), least);
        assert_eq!(
            in_pieces(least, SectorCount(65_536)),
            AtOnce::of(Bytes(131_072))
        );
        let usual = AtOnce::default();
        assert_eq!(in_pieces(usual, SectorCount(65_536)), usual);
    }
}
