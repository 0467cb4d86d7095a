//! Resizing an image that nobody runs: planning it, carrying it out, and extending the backing
//! file with it, so that stock UML takes the image too.

use std::path::Path;

use driver::cow::Geometry;
use driver::host::HostFile;
use driver::open::{OpenOptions, open};
use driver::ordered::Ordered;
use driver::resize::{Resize, ResizeStep, Resized};
use driver::units::{Bytes, FileOffset};

use crate::image_host::ImageHost;
use crate::planner::{Plan, Wish, plan};
use crate::resize::{PlannedResize, surroundings};

use super::backing_change::Writes;
use super::merge::make_v3;
use super::open::{CowImageFile, Trust, cow_image_file, options, refuse_unfinished, specification};
use super::{ImageError, Watch, backing_change, report};

/// What stock UML (and `uml_moo`) does with an image. Displayed, it is the rest of a sentence
/// that begins with "stock UML".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StockVerdict {
    /// It uses it.
    Accepts,
    /// It refuses it: the header's size is not that of the backing file.
    RefusesSize {
        /// The header's.
        size: Bytes,
        /// The backing file's.
        backing: Bytes,
    },
    /// It cannot reach the data, which starts here.
    CannotReach(FileOffset),
}

/// What stock UML says to an image laid out like this over a backing file of this size.
pub fn stock_verdict(geometry: &Geometry, backing: Bytes) -> StockVerdict {
    if !geometry.fits_stock_linux() {
        return StockVerdict::CannotReach(geometry.data_offset);
    }
    match geometry.size == backing {
        true => StockVerdict::Accepts,
        false => StockVerdict::RefusesSize {
            size: geometry.size,
            backing,
        },
    }
}

impl std::fmt::Display for StockVerdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StockVerdict::Accepts => f.write_str("takes it"),
            StockVerdict::RefusesSize { size, backing } => {
                write!(f, "refuses it: it has {size}, its backing file {backing}")
            }
            StockVerdict::CannotReach(at) => write!(
                f,
                "cannot reach its data, which starts at byte {at}, behind 2 GiB"
            ),
        }
    }
}

/// Opens a COW file to be resized, and its backing file too if that is to be extended.
///
/// # Errors
/// See [`driver::open::OpenError`]; [`ImageError::Unfinished`].
pub fn open_for_resize<H: ImageHost>(
    host: &H,
    path: &Path,
    trust: Trust,
    extend_backing: bool,
) -> Result<CowImageFile<H::File>, ImageError> {
    let options = OpenOptions {
        writable_backing: extend_backing,
        ..options(trust)
    };
    let opened = open(host, &specification(path, false), options)?;
    refuse_unfinished(path, &opened)?;
    Ok(cow_image_file(path, opened))
}

/// Plans the resize of an open image. Changes nothing.
///
/// # Errors
/// See [`crate::planner::PlanError`].
pub fn plan_resize<H: ImageHost>(
    host: &H,
    cow: &CowImageFile<H::File>,
    wish: Wish,
) -> Result<Plan, ImageError> {
    plan_for(host, &cow.path, &cow.device, wish)
}

pub(super) fn plan_for<H: ImageHost>(
    host: &H,
    path: &Path,
    device: &Ordered<H::File>,
    wish: Wish,
) -> Result<Plan, ImageError> {
    let examining = ImageError::host(path, "examining", FileOffset(0));
    let surroundings = surroundings(host, path, device).map_err(examining)?;
    plan(device, wish, surroundings).map_err(|error| ImageError::Plan {
        path: path.to_owned(),
        error,
    })
}

/// Carries out a planned resize. An interrupted reflow is finished by [`super::recover`];
/// the other strategies leave the old image or the new one.
///
/// # Errors
/// The host's, or what the watcher says.
pub fn carry_out<H: ImageHost + Clone>(
    host: &H,
    cow: &mut CowImageFile<H::File>,
    plan: &Plan,
    watch: Watch<'_>,
) -> Result<Resized, ImageError> {
    let path = cow.path.clone();
    let failed = ImageError::resize(&path);
    let device: &mut Ordered<H::File> = &mut cow.device;
    let mut resize = PlannedResize::new(plan, host.clone(), &path, device).map_err(&failed)?;
    loop {
        match resize.step(device).map_err(&failed)? {
            ResizeStep::Done(resized) => return Ok(resized),
            ResizeStep::Working => {}
            ResizeStep::Waiting => return Err(ImageError::refused(&path, "a flush is half done")),
        }
        if let Err(stopped) = report(watch, resize.passed(), plan.to_move) {
            resize.give_up(device);
            return Err(stopped);
        }
    }
}

/// Makes the backing file as long as the device, durably, and the image expect that: its length
/// then. It must have been opened for that.
///
/// # Errors
/// The host's, or what the watcher says. The image is usable then, and this can be done again.
pub fn extend_backing<H: ImageHost + Clone>(
    host: &H,
    cow: &mut CowImageFile<H::File>,
    watch: Watch<'_>,
) -> Result<Bytes, ImageError> {
    let path = cow.path.clone();
    let failed = ImageError::change(&path);
    make_v3(host, &path, &mut cow.device)?;
    backing_change::begin(host, &mut cow.device, Writes::Nothing, watch).map_err(&failed)?;
    let len = backing_change::extend(&cow.device).map_err(ImageError::resize(&path))?;
    backing_change::commit(host, &mut cow.device, watch).map_err(&failed)?;
    Ok(len)
}

/// The length of the backing file of an open image.
///
/// # Errors
/// The host's.
pub fn backing_len<F: HostFile>(cow: &CowImageFile<F>) -> Result<Bytes, ImageError> {
    let file = backing_change::backing(&cow.device).map_err(ImageError::resize(&cow.path))?;
    file.len().map_err(ImageError::host(
        &cow.backing_path,
        "examining",
        FileOffset(0),
    ))
}
