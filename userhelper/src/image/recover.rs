//! Finishing what was interrupted: a reflow, which rolls forward, a change of the backing file,
//! which ends as it is, and a new file that never got its name, which goes.

use std::path::Path;

use driver::host::{Access, HostError, HostFile};
use driver::open::{OpenOptions, Opened, open, remove_left_over};
use driver::resize::{Resize, ResizeStep, Resized};

use crate::image_host::ImageHost;
use crate::reflow::Reflow;

use super::open::{Trust, close, is_changing_backing, options, specification};
use super::{ImageError, Watch, backing_change, report};

/// What there was to recover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The resize that was finished.
    pub resized: Option<Resized>,
    /// Whether a change of the backing file was ended: the disk is what it was.
    pub backing_change: bool,
    /// Whether a new file that never got its name was removed.
    pub temporary: bool,
}

/// Finishes what was interrupted on the COW file at `path`.
///
/// # Errors
/// See [`driver::open::OpenError`]; the host's. It can be tried again.
pub fn recover<H: ImageHost>(
    host: &H,
    path: &Path,
    trust: Trust,
    watch: Watch<'_>,
) -> Result<Recovered, ImageError> {
    let mut recovered = Recovered::default();
    if let Err(HostError::NotFound) = host.open(path, Access::ReadOnly).map(drop) {
        // What never got its name has no other. If there is none either, opening says so.
        recovered.temporary = remove_left_over(host, path, None)?;
        if recovered.temporary {
            return Ok(recovered);
        }
    }
    let failed = ImageError::resize(path);
    let specification = specification(path, false);
    // A reflow needs the COW file only.
    let alone = OpenOptions {
        without_backing: true,
        ..options(trust)
    };
    let opened = open(host, &specification, alone)?;
    let mut device = opened.device;
    if let Some(record) = opened.interrupted {
        let mut reflow = Reflow::resume(&device, record).map_err(&failed)?;
        let total = device.map().dirty_count().bytes();
        recovered.resized = loop {
            match reflow.step(&mut device).map_err(&failed)? {
                ResizeStep::Done(resized) => break Some(resized),
                ResizeStep::Working => report(watch, reflow.moved(), total)?,
                ResizeStep::Waiting => {
                    return Err(ImageError::refused(path, "a flush is half done"));
                }
            }
        };
    }
    if is_changing_backing(&device) {
        close(device, path)?;
        let opened = open(host, &specification, options(trust))?;
        // Somebody else may have been there between the two locks.
        refuse_reflow(path, &opened)?;
        device = opened.device;
        if is_changing_backing(&device) {
            backing_change::accept(host, &mut device).map_err(&failed)?;
            recovered.backing_change = true;
        }
    }
    recovered.temporary = remove_left_over(host, path, Some(device.cow()))?;
    close(device, path)?;
    Ok(recovered)
}

fn refuse_reflow<F: HostFile>(path: &Path, opened: &Opened<F>) -> Result<(), ImageError> {
    match opened.interrupted {
        None => Ok(()),
        Some(_) => Err(ImageError::Unfinished {
            path: path.to_owned(),
            what: "resize",
        }),
    }
}
