//! Finishing what was interrupted: a reflow, which rolls forward, a change of the backing file,
//! which ends as it is, and a new file that never got its name, which goes.

use std::path::Path;

use driver::host::{Access, HostError, HostFile, LockKind};
use driver::open::{OpenOptions, open, temporary_name};
use driver::resize::{Resize, ResizeStep, Resized};
use driver::units::FileOffset;

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
    let changing = is_changing_backing(&device);
    close(device, path)?;
    if changing {
        let mut device = open(host, &specification, options(trust))?.device;
        backing_change::accept(host, &mut device).map_err(&failed)?;
        close(device, path)?;
        recovered.backing_change = true;
    }
    recovered.temporary = remove_temporary(host, path)?;
    Ok(recovered)
}

/// Removes the new file that a rebuild or creation left behind, unless somebody holds it.
fn remove_temporary<H: ImageHost>(host: &H, path: &Path) -> Result<bool, ImageError> {
    let temporary = temporary_name(path);
    let at = FileOffset(0);
    let file = match host.open(&temporary, Access::ReadWrite) {
        Err(HostError::NotFound) => return Ok(false),
        opened => opened.map_err(ImageError::host(&temporary, "opening", at))?,
    };
    match host.lock(&file, LockKind::Exclusive) {
        Err(HostError::Locked) => return Ok(false),
        locked => locked.map_err(ImageError::host(&temporary, "locking", at))?,
    }
    file.len()
        .and_then(|_| host.remove(&temporary))
        .and_then(|()| host.sync_directory_of(&temporary))
        .map_err(ImageError::host(&temporary, "removing", at))?;
    Ok(true)
}
