//! Mending what was found. Each repair writes only where nobody reads, or what is known for
//! certain, and can be done again: if the power goes in the middle, the next check finds it
//! again or finds it mended.

use std::path::Path;

use driver::cow::{Extension, ExtensionState, Geometry};
use driver::host::{FileKind, HostFile};
use driver::open::{open, read_extension};
use driver::ordered::Ordered;
use driver::units::{Bytes, FileOffset, FileRange};

use crate::copying::clear;
use crate::image::open::{Format, Trust, close, options, specification};
use crate::image::{ImageError, Watch, recover};
use crate::image_host::ImageHost;

use super::findings::{Fault, Finding, Severity};
use super::space::{Space, last_byte, slack};

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
) -> Result<bool, ImageError> {
    let Some(geometry) = device.geometry() else {
        return Ok(false);
    };
    let space = space_of(host, path, device, geometry)?;
    let mut findings = Vec::new();
    space.check_bitmap(&mut findings)?;
    // A block device is as long as it is.
    if space.metadata.kind == FileKind::Regular {
        space.check_length(&mut findings)?;
    }
    for finding in &findings {
        mend_length_and_bits(path, device, &geometry, finding.fault)?;
    }
    if findings.is_empty() {
        return Ok(false);
    }
    sync(path, device)?;
    Ok(true)
}

/// Gives the space of data in clean sectors back, which nobody reads, durably.
///
/// # Errors
/// The host's, or what the watcher says. It can be done again.
pub(in crate::image) fn free_stale<H: ImageHost>(
    host: &H,
    path: &Path,
    device: &Ordered<H::File>,
    watch: Watch<'_>,
) -> Result<(), ImageError> {
    let Some(geometry) = device.geometry() else {
        return Ok(());
    };
    let space = space_of(host, path, device, geometry)?;
    space.for_each_stale(watch, &mut |_, range: FileRange| {
        clear(device.cow(), range).map_err(ImageError::host(path, REPAIRING, range.start))
    })?;
    sync(path, device)
}

fn space_of<'a, H: ImageHost>(
    host: &H,
    path: &'a Path,
    device: &'a Ordered<H::File>,
    geometry: Geometry,
) -> Result<Space<'a, H::File>, ImageError> {
    let examining = ImageError::host(path, "examining", FileOffset(0));
    Ok(Space {
        path,
        device,
        geometry,
        metadata: host.metadata(device.cow()).map_err(examining)?,
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
    let device = open(host, &specification(path, false), options(trust))?.device;
    // The lock is another one than that under which it was found damaged.
    let damaged = match device.image() {
        Some(image) => {
            read_extension(device.cow(), &image.header, path)? == ExtensionState::Damaged
        }
        None => false,
    };
    if let Some(geometry) = device.geometry().filter(|_| damaged) {
        let block = Extension::new(geometry.size).encode();
        let writing = ImageError::host(path, REPAIRING, Extension::OFFSET);
        let cow = device.cow();
        cow.write_all_at(&block, Extension::OFFSET)
            .and_then(|()| cow.sync_data())
            .map_err(writing)?;
    }
    close(device, path)
}
