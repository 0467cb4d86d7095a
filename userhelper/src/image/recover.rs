//! Finishing what was interrupted, whichever tool it was: by Ctrl-C, a kill, a full disk, a failing
//! one, or the power.
//!
//! | interrupted | leaves | recovery |
//! |---|---|---|
//! | `create`, `convert`, `merge` into a new file | nothing, or a new file that has not got its name | removes that file |
//! | `resize` by headroom | the old size or the new one; bits past the end, a file of another length | clears them, gives it its length |
//! | `resize` by rebuild | the old image or the new one; a new file that has not got its name | removes that file |
//! | `resize` by reflow | the old image, the new one, or one that is marked; before the mark, a longer file | moves the rest ([`crate::reflow`]), and frees what stays unused of it; gives it its length |
//! | `resize --extend-backing`, after the resize | as a rebuild, of a version before 3; then a mark ([`super::backing_change`]) | ends it; the resize can be asked for again |
//! | `merge --in-place` | as a rebuild, of a version before 3; then a mark | ends it; gives the data's space back if nothing is dirty any more, otherwise what is merged and clean is a leak; the merge can be begun again |
//! | `rebase`, before the header | what was copied in and is not in use yet, which a check calls a leak | none: it may be what a stock driver lost the bits of |
//! | `rebase`, `rebase --unsafe` | the header that was; a mark; or a header that is half changed ([`driver::cow::HeaderChange`]) | finishes the header, ends the mark |
//! | `replay --switch-backing` | a header that is half changed, and no mark: what is there of a mark stays | finishes the header |
//! | `check --repair` | what it has not mended yet, and what its recovery was about | as for that; the repair can be begun again |
//! | `recover` | what it was about; of a reflow that it has finished, space that nothing uses | goes on; the space is a leak, for `check --repair` |
//!
//! docs/images.md has this table for users, with what `check` says; a test holds both to what is
//! seen (`image_crashes/documented.rs` of the harness).
//!
//! Space is given back where the interrupted tool was doing that, as far as the host can. What lies
//! in clean sectors otherwise stays: it may be what a stock driver lost the bits of.
//!
//! The disk is what it was before and will be after, wherever the interruption came, but for its
//! size and for `rebase --unsafe`, which shows one backing file or the other.
//!
//! A rebuild or creation that is running loses nothing to a recovery: see
//! [`driver::open::remove_left_over`].

use std::path::Path;

use driver::cow::{JournalRecord, Version};
use driver::host::{Access, HostError, HostFile};
use driver::open::{OpenOptions, Opened, open, remove_left_over, temporary_name};
use driver::ordered::Ordered;
use driver::resize::Resized;
use driver::units::FileOffset;

use crate::image_host::ImageHost;
use crate::reflow::Reflow;

use super::check::{free_stale_if_possible, mend_past_end, past_end};
use super::open::{
    Format, Trust, begins_like_cow, close, is_changing_backing, open_raw, options, specification,
};
use super::resize::carry_on;
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
    /// Whether bits of no sector were cleared, or the file was given its length, which a resize
    /// had left otherwise.
    pub past_end: bool,
    /// Whether a new file that never got its name was removed.
    pub temporary: bool,
}

/// Finishes what was interrupted on the COW file at `path`, or on a new file that was to be
/// there. The backing path of a COW file is followed as far as `trust` says. Nothing in a raw disk
/// is believed: a guest can write to it whatever an interruption leaves in a COW file. Without a
/// format, a file that begins like a COW file is one if its header says that something was
/// interrupted. Where it does not, nothing in the file is changed.
///
/// # Errors
/// See [`driver::open::OpenError`]; the host's. It can be tried again.
pub fn recover<H: ImageHost>(
    host: &H,
    path: &Path,
    format: Format,
    trust: Trust,
    watch: Watch<'_>,
) -> Result<Recovered, ImageError> {
    if let Err(HostError::NotFound) = host.open(path, Access::ReadOnly).map(drop) {
        // What an interrupted creation left has no other name.
        let temporary = remove_left_over(host, path, None)?;
        if temporary {
            return Ok(Recovered {
                temporary,
                ..Recovered::default()
            });
        }
        // One that is there is being written.
        let unfinished = temporary_name(path);
        if let Err(HostError::NotFound) = host.open(&unfinished, Access::ReadOnly).map(drop) {
            return Err(ImageError::NothingToRecover {
                path: path.to_owned(),
                unfinished,
            });
        }
    }
    let is_cow = match format {
        Format::Cow => true,
        Format::Raw => false,
        // Its lock is given up before another one is asked for.
        Format::Guess => begins_like_cow(open_raw(host, path)?.file(), path)?,
    };
    match is_cow {
        true => recover_cow(host, path, format, trust, watch),
        false => recover_complete(host, path),
    }
}

/// Recovers a file of which nothing is believed: it has its name, and so is complete.
fn recover_complete<H: ImageHost>(host: &H, path: &Path) -> Result<Recovered, ImageError> {
    drop(open_raw(host, path)?);
    let opening = ImageError::host(path, "opening", FileOffset(0));
    // Without a left-over file this one need not be one that may be written.
    if let Err(HostError::NotFound) = host.open(&temporary_name(path), Access::ReadOnly).map(drop) {
        return Ok(Recovered::default());
    }
    let file = host.open(path, Access::ReadWrite).map_err(opening)?;
    Ok(Recovered {
        temporary: remove_left_over(host, path, Some(&file))?,
        ..Recovered::default()
    })
}

fn recover_cow<H: ImageHost>(
    host: &H,
    path: &Path,
    format: Format,
    trust: Trust,
    watch: Watch<'_>,
) -> Result<Recovered, ImageError> {
    let mut recovered = Recovered::default();
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
    let is_marked =
        recovered.header || opened.interrupted.is_some() || is_changing_backing(&device);
    if format == Format::Guess && !is_marked && resizes_in_place(&device) {
        refuse_guess(host, path, &device, watch)?;
    }
    if let Some(record) = opened.interrupted {
        recovered.resized = Some(finish_reflow(&mut device, record, path, watch)?);
        // The windows that it had moved by then may not all have been freed.
        let freed = free_stale_if_possible(host, path, &device, watch);
        freed.map_err(|error| match error {
            ImageError::Interrupted => ImageError::InterruptedFreeing {
                path: path.to_owned(),
            },
            error => error,
        })?;
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
            // A merge may have been giving back what it had merged.
            if backing_change::may_have_emptied(&device) {
                free_stale_if_possible(host, path, &device, watch)?;
            }
            let ended = backing_change::end(host, &mut device, watch);
            ended.map_err(ImageError::change(path))?;
            recovered.backing_change = true;
        }
    }
    if resizes_in_place(&device) {
        recovered.past_end = mend_past_end(host, path, &device, watch)?;
    }
    recovered.temporary = remove_left_over(host, path, Some(device.cow()))?;
    close(device, path)?;
    Ok(recovered)
}

/// Of a file that only begins like a COW file, nothing is cut off or cleared unless its header says
/// that something was interrupted: it may be a raw disk, which is as long as it is.
fn refuse_guess<H: ImageHost>(
    host: &H,
    path: &Path,
    device: &Ordered<H::File>,
    watch: Watch<'_>,
) -> Result<(), ImageError> {
    let Some(finding) = past_end(host, path, device, watch)?.into_iter().next() else {
        return Ok(());
    };
    Err(ImageError::refused(
        path,
        format!(
            "byte {}: {}. It begins like a COW file, nobody has said that it is one, and its header \
             does not say that anything was interrupted: --format cow if it is a COW file, which \
             this would change, --format raw if it is a raw disk. Nothing was changed",
            finding.at, finding.text
        ),
    ))
}

/// Whether a resize may have been interrupted that neither replaces the file nor marks it.
fn resizes_in_place<F: HostFile>(device: &Ordered<F>) -> bool {
    let image = device.image();
    image.is_some_and(|image| image.header.version == Version::V3)
}

fn finish_reflow<F: HostFile>(
    device: &mut Ordered<F>,
    record: JournalRecord,
    path: &Path,
    watch: Watch<'_>,
) -> Result<Resized, ImageError> {
    let failed = ImageError::resize(path);
    let reflow = Reflow::resume(device, record).map_err(failed)?;
    let (progress, total) = (reflow.progress(), device.map().dirty_count().bytes());
    let mut seen = || report(watch, progress.passed(), total);
    carry_on(device, Box::new(reflow), path, &mut seen)
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
