//! Finishing what was interrupted, whichever tool it was: by Ctrl-C, a kill, a full disk, a failing
//! one, or the power.
//!
//! | interrupted | leaves | recovery |
//! |---|---|---|
//! | `create`, `convert`, `merge` into a new file | nothing, or a new file that has not got its name | removes that file |
//! | `resize` by headroom | the old size or the new one | none needed |
//! | `resize` by rebuild | the old image or the new one; a new file that has not got its name | removes that file |
//! | `resize` by reflow | the old image, the new one, or one that is marked | moves the rest ([`crate::reflow`]) |
//! | `resize --extend-backing`, after the resize | a mark ([`super::backing_change`]) | ends it; the resize can be asked for again |
//! | `merge --in-place` | as a rebuild, of a version before 3; then a mark | ends it; the merge can be begun again |
//! | `rebase`, `rebase --unsafe` | the header that was; a mark; or a header that is half changed ([`driver::cow::HeaderChange`]) | finishes the header, ends the mark |
//! | a switch of the backing file by `replay --switch-backing` | a header that is half changed | finishes it |
//! | `check --repair` | what it has not mended yet, and what its recovery was about | as for that; the repair can be begun again |
//! | `recover` | what it was about | goes on |
//!
//! The disk is what it was before and will be after, wherever the interruption came, but for its
//! size and for `rebase --unsafe`, which shows one backing file or the other.
//!
//! A rebuild or creation that is running loses nothing to a recovery: see
//! [`driver::open::remove_left_over`].

use std::path::Path;

use driver::cow::JournalRecord;
use driver::host::{Access, HostError, HostFile};
use driver::open::{OpenOptions, Opened, open, remove_left_over};
use driver::ordered::Ordered;
use driver::resize::{Resize, ResizeStep, Resized};

use crate::image_host::ImageHost;
use crate::reflow::Reflow;

use super::open::{Trust, close, is_changing_backing, options, specification};
use super::{ImageError, Watch, backing_change, report};

/// What there was to recover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Whether the header was half changed, and names the new backing file now.
    pub header: bool,
    /// The resize that was finished.
    pub resized: Option<Resized>,
    /// Whether a change of the backing file was ended: the disk is what it was.
    pub backing_change: bool,
    /// Whether a new file that never got its name was removed.
    pub temporary: bool,
}

/// Finishes what was interrupted on the COW file at `path`, or on a new file that was to be
/// there.
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
    let specification = specification(path, false);
    // The header and a reflow need the COW file only.
    let alone = OpenOptions {
        without_backing: true,
        switch_backing: true,
        ..options(trust)
    };
    let opened = open(host, &specification, alone)?;
    recovered.header = opened.finished_switch;
    let mut device = opened.device;
    if let Some(record) = opened.interrupted {
        recovered.resized = Some(finish_reflow(&mut device, record, path, watch)?);
    }
    if is_changing_backing(&device) {
        close(device, path)?;
        let opened = open(host, &specification, options(trust))?;
        // Somebody else may have been there between the two locks.
        refuse_reflow(path, &opened)?;
        device = opened.device;
        if backing_change::is_in_place(host, &device).map_err(ImageError::resize(path))? {
            close(device, path)?;
            let writable = OpenOptions {
                writable_backing: true,
                ..options(trust)
            };
            let opened = open(host, &specification, writable)?;
            refuse_reflow(path, &opened)?;
            device = opened.device;
        }
        if is_changing_backing(&device) {
            let ended = backing_change::end(host, &mut device);
            ended.map_err(ImageError::resize(path))?;
            recovered.backing_change = true;
        }
    }
    recovered.temporary = remove_left_over(host, path, Some(device.cow()))?;
    close(device, path)?;
    Ok(recovered)
}

fn finish_reflow<F: HostFile>(
    device: &mut Ordered<F>,
    record: JournalRecord,
    path: &Path,
    watch: Watch<'_>,
) -> Result<Resized, ImageError> {
    let failed = ImageError::resize(path);
    let mut reflow = Reflow::resume(device, record).map_err(&failed)?;
    let total = device.map().dirty_count().bytes();
    loop {
        match reflow.step(device).map_err(&failed)? {
            ResizeStep::Done(resized) => return Ok(resized),
            ResizeStep::Working => report(watch, reflow.moved(), total)?,
            ResizeStep::Waiting => {
                return Err(ImageError::refused(path, "a flush is half done"));
            }
        }
    }
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
