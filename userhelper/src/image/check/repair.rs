//! Mending what was found. Each repair writes only where nobody reads, or what is known for
//! certain, and can be done again: if the power goes in the middle, the next check finds it
//! again or finds it mended.

use std::path::Path;

use driver::cow::Extension;
use driver::host::HostFile;
use driver::open::{OpenOptions, open};
use driver::units::{Bytes, FileOffset, FileRange};

use crate::copying::clear;
use crate::image::open::{Trust, close, options, specification};
use crate::image::{ImageError, Watch, recover};
use crate::image_host::ImageHost;

use super::findings::{Fault, Finding, Severity};
use super::space::{Space, last_byte, slack};

/// Whether this one can be mended, among all that was found. Space is given back only where
/// nothing is corrupt: who knows what it is good for.
pub(super) fn is_possible(finding: &Finding, all: &[Finding]) -> bool {
    match finding.fault {
        Fault::InterruptedResize
        | Fault::InterruptedBackingChange
        | Fault::DamagedExtension
        | Fault::FileShort
        | Fault::BitsPastEnd => true,
        Fault::StaleData | Fault::TrailingData => all
            .iter()
            .all(|other| other.severity() != Severity::Corruption),
        _ => false,
    }
}

/// Mends one finding, durably.
///
/// # Errors
/// The host's.
pub(super) fn mend<H: ImageHost>(
    host: &H,
    path: &Path,
    trust: Trust,
    finding: &Finding,
    watch: Watch<'_>,
) -> Result<(), ImageError> {
    if matches!(
        finding.fault,
        Fault::InterruptedResize | Fault::InterruptedBackingChange
    ) {
        return recover::recover(host, path, trust, watch).map(|_| ());
    }
    let options = OpenOptions {
        // The backing file at hand tells what a damaged extension block would say.
        without_backing: finding.fault != Fault::DamagedExtension,
        ..options(trust)
    };
    let device = open(host, &specification(path, false), options)?.device;
    let Some(geometry) = device.geometry() else {
        return Ok(());
    };
    let cow = device.cow();
    let writing = |at| ImageError::host(path, "repairing", at);
    match finding.fault {
        Fault::DamagedExtension => {
            let block = Extension::new(geometry.size).encode();
            cow.write_all_at(&block, Extension::OFFSET)
                .map_err(writing(Extension::OFFSET))?;
        }
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
