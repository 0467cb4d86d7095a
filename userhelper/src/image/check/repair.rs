//! Mending what was found. Each repair writes only where nobody reads, or what is known for
//! certain, and can be done again: if the power goes in the middle, the next check finds it
//! again or finds it mended.

use std::path::Path;

use driver::cow::{Extension, ExtensionState, Geometry};
use driver::host::{HostError, HostFile, clear};
use driver::open::{open, read_extension};
use driver::ordered::Ordered;
use driver::units::{Bytes, FileOffset, FileRange};

use crate::image::backing_change::commit_extension;
use crate::image::open::{Format, Trust, close, options, specification};
use crate::image::{ImageError, Watch, recover};
use crate::image_host::ImageHost;

use super::findings::{Fault, Finding, Severity};
use super::leaks::{Space, Stale, last_byte, slack};

const REPAIRING: &str = "repairing";

/// Whether this one can be mended, among all that was found. Space is given back only where
/// nothing is corrupt: what lies there may still be of use.
pub(super) fn is_possible(finding: &Finding, all: &[Finding]) -> bool {
    match finding.fault {
        // A backing file whose path is not to be followed cannot be told to be the right one.
        Fault::InterruptedBackingChange => {
            all.iter().all(|other| other.fault != Fault::BackingOutside)
        }
        Fault::InterruptedResize
        | Fault::DamagedExtension
        | Fault::FileShort
        | Fault::TrailingHole
        | Fault::BitsPastEnd => true,
        Fault::StaleData | Fault::TrailingData => all
            .iter()
            .all(|other| other.severity() != Severity::Corruption),
        _ => false,
    }
}

/// Mends one finding, durably. It was found in `device`, which has held the lock since; a file
/// with a damaged extension block, or a header that is half changed, does not open, and comes
/// without one.
///
/// # Errors
/// The host's.
pub(super) fn mend<H: ImageHost>(
    host: &H,
    path: &Path,
    trust: Trust,
    finding: &Finding,
    device: Option<Ordered<H::File>>,
    watch: Watch<'_>,
) -> Result<(), ImageError> {
    if finding.fault == Fault::DamagedExtension {
        return mend_extension(host, path, trust);
    }
    if matches!(
        finding.fault,
        Fault::InterruptedResize | Fault::InterruptedBackingChange
    ) {
        // It takes its own locks, and looks again at what there is to be finished.
        if let Some(device) = device {
            close(device, path)?;
        }
        return recover::recover(host, path, Format::Cow, trust, watch).map(|_| ());
    }
    let Some(device) = device else {
        return Ok(());
    };
    let Some(geometry) = device.geometry() else {
        return Ok(());
    };
    match finding.fault {
        Fault::StaleData => free_stale(host, path, &device, watch)?,
        fault => {
            mend_length_and_bits(path, &device, &geometry, fault)?;
            sync(path, &device)?;
        }
    }
    close(device, path)
}

/// Mends what an interrupted resize leaves past the end of the device of an open COW file: bits
/// that belong to no sector, and a file of another length. Whether there was anything.
///
/// # Errors
/// The host's. It can be done again.
pub(in crate::image) fn mend_past_end<H: ImageHost>(
    host: &H,
    path: &Path,
    device: &Ordered<H::File>,
    watch: Watch<'_>,
) -> Result<bool, ImageError> {
    let Some(geometry) = device.geometry() else {
        return Ok(false);
    };
    let findings = past_end(host, path, device, watch)?;
    for finding in &findings {
        mend_length_and_bits(path, device, &geometry, finding.fault)?;
    }
    if findings.is_empty() {
        return Ok(false);
    }
    sync(path, device)?;
    Ok(true)
}

/// What [`mend_past_end`] would mend.
///
/// # Errors
/// The host's.
pub(in crate::image) fn past_end<H: ImageHost>(
    host: &H,
    path: &Path,
    device: &Ordered<H::File>,
    watch: Watch<'_>,
) -> Result<Vec<Finding>, ImageError> {
    let mut findings = Vec::new();
    let Some(geometry) = device.geometry() else {
        return Ok(findings);
    };
    let space = Space::of(host, path, device, geometry)?;
    space.check_bitmap(&mut findings, watch)?;
    // A block device is as long as it is.
    if space.is_regular() {
        space.check_length(&mut findings)?;
    }
    Ok(findings)
}

/// Gives the space back of data in clean sectors, which nobody reads, and of zeros where holes
/// would do, durably. Where the host makes no holes, the data is written over, and zeros stay as
/// they are: nothing is written to a hole, which a host may not be able to tell from zeros.
///
/// # Errors
/// The host's, or what the watcher says. It can be done again.
fn free_stale<H: ImageHost>(
    host: &H,
    path: &Path,
    device: &Ordered<H::File>,
    watch: Watch<'_>,
) -> Result<(), ImageError> {
    free_blocks(host, path, device, watch)?;
    sync(path, device)
}

/// As [`free_stale`], for who has more to do than that: what cannot be given back stays a leak,
/// which the next check finds.
///
/// # Errors
/// [`ImageError::Interrupted`]; the host's if a sync fails, after which nobody knows what is on
/// the disk.
pub(in crate::image) fn free_stale_if_possible<H: ImageHost>(
    host: &H,
    path: &Path,
    device: &Ordered<H::File>,
    watch: Watch<'_>,
) -> Result<(), ImageError> {
    if let Err(ImageError::Interrupted) = free_blocks(host, path, device, watch) {
        return Err(ImageError::Interrupted);
    }
    sync(path, device)
}

fn free_blocks<H: ImageHost>(
    host: &H,
    path: &Path,
    device: &Ordered<H::File>,
    watch: Watch<'_>,
) -> Result<(), ImageError> {
    let Some(geometry) = device.geometry() else {
        return Ok(());
    };
    let space = Space::of(host, path, device, geometry)?;
    let cow = device.cow();
    space.for_each_stale(watch, &mut |stale, range: FileRange| {
        let freed = match stale {
            Stale::Data => clear(cow, range),
            Stale::Zeros => match cow.punch_hole(range) {
                Err(HostError::Unsupported) => Ok(()),
                punched => punched,
            },
        };
        freed.map_err(ImageError::host(path, REPAIRING, range.start))
    })
}

/// Mends one of the faults that are about the file's length and the bits past the last sector's.
fn mend_length_and_bits<F: HostFile>(
    path: &Path,
    device: &Ordered<F>,
    geometry: &Geometry,
    fault: Fault,
) -> Result<(), ImageError> {
    let cow = device.cow();
    let writing = |at| ImageError::host(path, REPAIRING, at);
    match fault {
        Fault::FileShort | Fault::TrailingData | Fault::TrailingHole => {
            let end = geometry.data_end();
            cow.set_len(end - FileOffset(0)).map_err(writing(end))?;
        }
        Fault::BitsPastEnd => {
            if let (Some(at), mask) = last_byte(geometry) {
                let mut byte = [0];
                cow.read_exact_at(&mut byte, at).map_err(writing(at))?;
                byte[0] &= mask;
                cow.write_all_at(&byte, at).map_err(writing(at))?;
            }
            let slack = slack(geometry);
            if slack.len > Bytes(0) {
                clear(cow, slack).map_err(writing(slack.start))?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn sync<F: HostFile>(path: &Path, device: &Ordered<F>) -> Result<(), ImageError> {
    let syncing = ImageError::host(path, REPAIRING, FileOffset(0));
    device.cow().sync_data().map_err(syncing)
}

/// Writes a damaged extension block anew, with the size of the backing file: with that file at
/// hand, which has to be as the header says, it is known.
fn mend_extension<H: ImageHost>(host: &H, path: &Path, trust: Trust) -> Result<(), ImageError> {
    let mut device = open(host, &specification(path, false), options(trust))?.device;
    // The lock is another one than that under which it was found damaged.
    let damaged = match device.image() {
        Some(image) => {
            read_extension(device.cow(), &image.header, path)? == ExtensionState::Damaged
        }
        None => false,
    };
    if let Some(geometry) = device.geometry().filter(|_| damaged) {
        commit_extension(&mut device, Extension::new(geometry.size))
            .map_err(ImageError::resize(path))?;
    }
    close(device, path)
}
