//! Resizing an image that nobody runs: planning it, carrying it out, and extending the backing
//! file with it, so that stock UML takes the image too.

use std::path::Path;

use driver::cow::Geometry;
use driver::host::{Access, FileKind, HostFile};
use driver::open::NamedBacking;
use driver::ordered::{Ordered, Resize};
use driver::resize::{ResizeStep, Resized};
use driver::since_1970;
use driver::units::{Bytes, FileOffset};

use crate::image_host::ImageHost;
use crate::planner::{Plan, PlanError, Wish, plan_ahead};
use crate::resize::{PlannedResize, surroundings};

use super::backing_change::Writes;
use super::merge::make_v3;
use super::open::{CowImageFile, Reach, Trust, open_finished};
use super::{ImageError, Watch, backing_change, report};

/// What stock UML (and `uml_moo`) does with an image. Displayed, it is the rest of a sentence
/// that begins with "stock UML".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StockVerdict {
    /// It uses it.
    Accepts,
    /// It opens it, and hangs when something is written: its bitmap has one word.
    HangsAtWrite,
    /// It refuses it: the header's size is not that of the backing file.
    RefusesSize {
        /// The header's.
        size: Bytes,
        /// The backing file's.
        backing: Bytes,
    },
    /// It compares the backing file's whole time with the 32 bits of it in the header.
    RefusesTime {
        /// The backing file's, in seconds since 1970.
        seconds: i64,
    },
    /// It cannot reach the data, which starts here.
    CannotReach(FileOffset),
}

/// Bytes of a word of the bitmap. Where a bitmap has no more, Linux reads the word before it in
/// memory at the first write. Linux 6.1 was seen to hang then: nothing is mapped there, and UML
/// takes the fault for one that renewing the mapping cures.
const ONE_WORD: Bytes = Bytes(8);

/// What stock UML looks at of a backing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackingFacts {
    /// Its length.
    pub len: Bytes,
    /// When it was modified last, in seconds since 1970.
    pub modified_seconds: i64,
}

/// What stock UML says to an image laid out like this over such a backing file.
pub fn stock_verdict(geometry: &Geometry, backing: BackingFacts) -> StockVerdict {
    if !geometry.fits_stock_linux() {
        return StockVerdict::CannotReach(geometry.data_offset);
    }
    if geometry.size != backing.len {
        return StockVerdict::RefusesSize {
            size: geometry.size,
            backing: backing.len,
        };
    }
    match u32::try_from(backing.modified_seconds) {
        Ok(_) if geometry.bitmap_len <= ONE_WORD => StockVerdict::HangsAtWrite,
        Ok(_) => StockVerdict::Accepts,
        Err(_) => StockVerdict::RefusesTime {
            seconds: backing.modified_seconds,
        },
    }
}

impl std::fmt::Display for StockVerdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StockVerdict::Accepts => f.write_str("takes it"),
            StockVerdict::HangsAtWrite => write!(
                f,
                "takes it, and hangs at the first write: Linux 6.1 does where the bitmap has {} bytes \
                 or fewer, as on a device of up to 64 sectors",
                ONE_WORD.0
            ),
            StockVerdict::RefusesSize { size, backing } => {
                write!(f, "refuses it: it has {size}, its backing file {backing}")
            }
            StockVerdict::RefusesTime { seconds } => write!(
                f,
                "refuses it: the backing file was modified at {seconds} {}, and a header holds 0 \
                 to {} only. Give the backing file such a time with touch, and then: ubdlab image \
                 rebase --unsafe",
                since_1970(&[*seconds]),
                u32::MAX
            ),
            StockVerdict::CannotReach(at) => write!(
                f,
                "cannot reach its data, which starts at byte {at}, past 2 GiB"
            ),
        }
    }
}

/// Opens a COW file for a look at how it would be resized.
///
/// # Errors
/// As of [`open_for_resize`].
pub fn open_for_plan<'a, H: ImageHost>(
    host: &H,
    path: &Path,
    reach: impl Into<Reach<'a>>,
) -> Result<CowImageFile<H::File>, ImageError> {
    open_finished(host, path, reach, Access::ReadOnly, false)
}

/// Opens a COW file to be resized, and its backing file too if that is to be extended.
///
/// # Errors
/// See [`driver::open::OpenError`]; [`ImageError::Unfinished`].
pub fn open_for_resize<'a, H: ImageHost>(
    host: &H,
    path: &Path,
    reach: impl Into<Reach<'a>>,
    extend_backing: bool,
) -> Result<CowImageFile<H::File>, ImageError> {
    open_finished(host, path, reach, Access::ReadWrite, extend_backing)
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
    let plan = plan_for(host, &cow.path, &cow.device, wish)?;
    check_file_length(host, &cow.path, &plan)?;
    Ok(plan)
}

/// Whether the file can be as long as the plan makes it.
fn check_file_length<H: ImageHost>(host: &H, path: &Path, plan: &Plan) -> Result<(), ImageError> {
    let end = match plan.new_geometry {
        Some(geometry) => geometry.data_end(),
        None => FileOffset(plan.new_size.0),
    };
    let len = end - FileOffset(0);
    let growing = ImageError::host(path, "making the file longer", end);
    match plan.new_size > plan.old_size {
        true => host.check_len(path, len).map_err(growing),
        false => Ok(()),
    }
}

pub(super) fn plan_for<H: ImageHost>(
    host: &H,
    path: &Path,
    device: &Ordered<H::File>,
    wish: Wish,
) -> Result<Plan, ImageError> {
    let examining = ImageError::host(path, "examining", FileOffset(0));
    let surroundings = surroundings(host, path, device).map_err(examining)?;
    plan_ahead(device, wish, surroundings).map_err(ImageError::plan(path))
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
    if cow.device.is_read_only() {
        return Err(ImageError::plan(&path)(PlanError::ReadOnly));
    }
    let failed = ImageError::resize(&path);
    let device: &mut Ordered<H::File> = &mut cow.device;
    let resize = PlannedResize::new(plan, host.clone(), &path, device).map_err(&failed)?;
    let progress = resize.progress();
    let mut seen = || report(watch, progress.passed().min(plan.to_move), plan.to_move);
    carry_on(device, Box::new(resize), &path, &mut seen)
}

/// Carries a resize out on a device that nobody else submits to. Where `seen`, which is told of
/// each step, stops it, it is given up, and puts things back.
pub(super) fn carry_on<F: HostFile>(
    device: &mut Ordered<F>,
    resize: Box<dyn Resize<F>>,
    path: &Path,
    seen: &mut dyn FnMut() -> Result<(), ImageError>,
) -> Result<Resized, ImageError> {
    device.begin_resize(resize);
    loop {
        match device.step_resize() {
            ResizeStep::Ended(outcome) => return outcome.map_err(ImageError::resize(path)),
            ResizeStep::Working => {}
            ResizeStep::Waiting | ResizeStep::Idle => {
                device.give_up_resize();
                return Err(ImageError::refused(path, "a flush is half done"));
            }
        }
        if let Err(stopped) = seen() {
            // What is complete by then is not undone.
            return match device.give_up_resize() {
                Some(Ok(resized)) => Ok(resized),
                _ => Err(stopped),
            };
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
    // Nothing is looked at between a resize and this.
    if watch.goes_on().is_break() {
        return Err(ImageError::Interrupted);
    }
    let path = cow.path.clone();
    let size = backing_change::image(&cow.device)
        .map_err(ImageError::resize(&path))?
        .geometry
        .size;
    check_extension(host, cow, size)?;
    let failed = ImageError::change(&path);
    make_v3(host, &path, &mut cow.device)?;
    backing_change::begin(host, &mut cow.device, Writes::Nothing, watch).map_err(&failed)?;
    let len = backing_change::extend(&cow.device).map_err(ImageError::resize(&path))?;
    backing_change::commit(host, &mut cow.device, watch).map_err(&failed)?;
    Ok(len)
}

/// Whether the backing file of an open image can be made as long as `size` and given later times,
/// as far as that can be told beforehand. A caller that has to do that asks first, and changes
/// nothing if not.
///
/// # Errors
/// [`ImageError::Refused`] for a block device, which is as long as it is; the host's, if no file
/// can be as long there; [`ImageError::Resize`] if its file system holds no later time.
pub fn check_extension<H: ImageHost>(
    host: &H,
    cow: &CowImageFile<H::File>,
    size: Bytes,
) -> Result<(), ImageError> {
    let path = &cow.backing_path;
    backing_change::check_times(host, &cow.device, path).map_err(ImageError::resize(&cow.path))?;
    let file = backing_change::backing(&cow.device).map_err(ImageError::resize(&cow.path))?;
    let examining = ImageError::host(path, "examining", FileOffset(0));
    let metadata = host.metadata(file).map_err(examining)?;
    if metadata.len >= size {
        return Ok(());
    }
    if metadata.kind != FileKind::Regular {
        let problem = format!(
            "found a block device of {}, which would have to become one of {size}: only a regular \
             file can be made longer. Nothing was changed",
            metadata.len
        );
        return Err(ImageError::refused(path, problem));
    }
    let extending = ImageError::host(path, "extending the backing file", FileOffset(size.0));
    host.check_len(path, size).map_err(extending)
}

/// Whether the backing file of an open image may be written to. It is opened for that, without a
/// lock, and nothing is written.
///
/// # Errors
/// See [`driver::open::OpenError`].
pub fn check_backing_writable<H: ImageHost>(
    host: &H,
    cow: &CowImageFile<H::File>,
    trust: Trust,
) -> Result<(), ImageError> {
    let image = backing_change::image(&cow.device).map_err(ImageError::resize(&cow.path))?;
    let named = NamedBacking::of(&cow.path, &image.header, trust);
    named.open(host, Access::ReadWrite)?;
    Ok(())
}

/// Length and time of the backing file of an open image.
///
/// # Errors
/// The host's.
pub fn backing_facts<H: ImageHost>(
    host: &H,
    cow: &CowImageFile<H::File>,
) -> Result<BackingFacts, ImageError> {
    let file = backing_change::backing(&cow.device).map_err(ImageError::resize(&cow.path))?;
    let examining = ImageError::host(&cow.backing_path, "examining", FileOffset(0));
    let metadata = host.metadata(file).map_err(examining)?;
    Ok(BackingFacts {
        len: metadata.len,
        modified_seconds: metadata.modified_seconds,
    })
}
