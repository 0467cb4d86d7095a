//! Mending what was found. Each repair writes only where nobody reads, or what is known for
//! certain, and can be done again: if the power goes in the middle, the next check finds it
//! again or finds it mended.

use std::path::Path;

use driver::cow::{Extension, ExtensionState};
use driver::host::HostFile;
use driver::open::{open, read_extension};
use driver::ordered::Ordered;
use driver::units::{Bytes, FileOffset, FileRange};

use crate::copying::clear;
use crate::image::open::{Format, Trust, close, options, specification};
use crate::image::{ImageError, Watch, recover};
use crate::image_host::ImageHost;

use super::findings::{Fault, Finding, Severity};
use super::space::{Space, last_byte, slack};

/// Whether this one can be mended, among all that was found. Space is given back only where
/// nothing is corrupt: who knows what it is good for.
pub(super) fn is_possible(finding: &Finding, all: &[Finding]) -> bool {
    match finding.fault {
        // Whose backing file is not to be followed cannot be told to be the right one.
        Fault::InterruptedBackingChange => {
            all.iter().all(|other| other.fault != Fault::BackingOutside)
        }
        Fault::InterruptedResize
        | Fault::DamagedExtension
        | Fault::FileShort
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
    let cow = device.cow();
    let writing = |at| ImageError::host(path, "repairing", at);
    match finding.fault {
        Fault::FileShort | Fault::TrailingData => {
            let end = geometry.data_end();
            cow.set_len(end - FileOffset(0)).map_err(writing(end))?;
        }
        Fault::BitsPastEnd => {
            if let (Some(at), mask) = last_byte(&geometry) {
                let mut byte = [0];
                cow.read_exact_at(&mut byte, at).map_err(writing(at))?;
                byte[0] &= mask;
                cow.write_all_at(&byte, at).map_err(writing(at))?;
            }
            let slack = slack(&geometry);
            if slack.len > Bytes(0) {
                clear(cow, slack).map_err(writing(slack.start))?;
            }
        }
        Fault::StaleData => {
            let examining = ImageError::host(path, "examining", FileOffset(0));
            let space = Space {
                path,
                device: &device,
                geometry,
                metadata: host.metadata(cow).map_err(examining)?,
            };
            space.for_each_stale(watch, &mut |range: FileRange| {
                clear(cow, range).map_err(writing(range.start))
            })?;
        }
        _ => {}
    }
    cow.sync_data().map_err(writing(FileOffset(0)))?;
    close(device, path)
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
        let writing = ImageError::host(path, "repairing", Extension::OFFSET);
        let cow = device.cow();
        cow.write_all_at(&block, Extension::OFFSET)
            .and_then(|()| cow.sync_data())
            .map_err(writing)?;
    }
    close(device, path)
}
