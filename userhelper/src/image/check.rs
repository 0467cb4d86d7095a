//! Looking for faults in a COW file, and mending those that can be mended without guessing.

mod findings;
mod repair;
mod space;

use std::path::Path;

use driver::cow::{Extension, JournalRecord};
use driver::open::{NamedBacking, OpenError, OpenOptions, Opened, open, read_header};
use driver::ordered::CowImage;
use driver::units::FileOffset;

use crate::image_host::ImageHost;

pub use findings::{Fault, Finding, Severity};

use super::info::{BackingState, look_at_backing};
use super::open::{Trust, is_changing_backing, options, specification};
use super::{ImageError, Watch};

/// What a check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What was found, and is still there.
    pub findings: Vec<Finding>,
    /// What was mended.
    pub repaired: Vec<Finding>,
}

impl Checked {
    /// The gravest of what is still there.
    pub fn severity(&self) -> Option<Severity> {
        self.findings.iter().map(Finding::severity).max()
    }
}

/// Checks the COW file at `path`.
///
/// # Errors
/// Where the check could not be carried out: the host's errors, and a lock that another holds.
pub fn check<H: ImageHost>(
    host: &H,
    path: &Path,
    trust: Trust,
    watch: Watch<'_>,
) -> Result<Checked, ImageError> {
    Ok(Checked {
        findings: Check { host, path, trust }.findings(watch)?,
        repaired: Vec::new(),
    })
}

/// Checks the COW file at `path` and mends what can be mended without guessing. Space is given
/// back only where nothing else is wrong.
///
/// # Errors
/// As [`check`]; what has been mended by then is mended.
pub fn check_and_repair<H: ImageHost>(
    host: &H,
    path: &Path,
    trust: Trust,
    watch: Watch<'_>,
) -> Result<Checked, ImageError> {
    let check = Check { host, path, trust };
    let mut repaired = Vec::new();
    loop {
        let findings = check.findings(watch)?;
        let next = findings
            .iter()
            .filter(|finding| repair::is_possible(finding, &findings))
            .find(|finding| !repaired.contains(*finding))
            .cloned();
        let Some(finding) = next else {
            return Ok(Checked { findings, repaired });
        };
        repair::mend(host, path, trust, &finding, watch)?;
        repaired.push(finding);
    }
}

struct Check<'a, H> {
    host: &'a H,
    path: &'a Path,
    trust: Trust,
}

impl<H: ImageHost> Check<'_, H> {
    fn findings(&self, watch: Watch<'_>) -> Result<Vec<Finding>, ImageError> {
        let alone = OpenOptions {
            without_backing: true,
            ..options(self.trust)
        };
        let mut findings = Vec::new();
        let opened = match open(self.host, &specification(self.path, true), alone) {
            Err(OpenError::ExtensionDamaged { .. }) => {
                findings.push(self.damaged_extension()?);
                return Ok(findings);
            }
            opened => opened.map_err(Finding::of_open_error),
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(Ok(finding)) => {
                findings.push(finding);
                return Ok(findings);
            }
            Err(Err(error)) => return Err(error.into()),
        };
        let Some(image) = opened.device.image() else {
            return Ok(findings);
        };
        self.check_backing(&opened, image, &mut findings);
        if let Some(record) = opened.interrupted {
            let (new_size, frontier) = (record.new_size, record.frontier);
            findings.push(Finding::new(
                Fault::InterruptedResize,
                JournalRecord::slots_offset(),
                format!("a resize to {new_size} was interrupted with sector {frontier} and those behind it moved"),
            ));
            return Ok(findings);
        }
        let geometry = image.geometry;
        if !geometry.fits_stock_linux() {
            findings.push(Finding::new(
                Fault::BeyondStock,
                image.header.version.size_offset(),
                format!(
                    "the data starts at byte {}, behind the 2 GiB that stock Linux can reach",
                    geometry.data_offset
                ),
            ));
        }
        let unmapped = geometry.capacity().0 - geometry.mapped().0;
        if unmapped > 0 {
            findings.push(Finding::new(
                Fault::ShortBitmap,
                geometry.bitmap().end(),
                format!(
                    "the last {unmapped} sectors have no bit, as in every {} file of such a size: \
                     they cannot be written",
                    image.header.version
                ),
            ));
        }
        let device = &opened.device;
        let examining = ImageError::host(self.path, "examining", FileOffset(0));
        let metadata = self.host.metadata(device.cow()).map_err(examining)?;
        let space = space::Space {
            path: self.path,
            device,
            geometry,
            metadata,
        };
        space.check_bitmap(&mut findings)?;
        space.check_length(&mut findings);
        space.check_stale(&mut findings, watch)?;
        Ok(findings)
    }

    fn check_backing(
        &self,
        opened: &Opened<H::File>,
        image: &CowImage,
        findings: &mut Vec<Finding>,
    ) {
        let header = &image.header;
        let at = header.version.path_offset();
        let named = NamedBacking::of(self.path, header, self.trust);
        let shown = driver::shown(named.path());
        if is_changing_backing(&opened.device) {
            findings.push(Finding::new(
                Fault::InterruptedBackingChange,
                Extension::OFFSET,
                format!("a change of the backing file {shown} was interrupted"),
            ));
            return;
        }
        let recorded = image.extension.map_or(header.size, |it| it.backing_size);
        let (fault, text) = match look_at_backing(self.host, &named, header, recorded) {
            BackingState::Matches | BackingState::Unknown(_) => return,
            BackingState::NotFollowed(why) => {
                let text = format!("the backing path {shown} {why}: not looked at");
                (Fault::BackingOutside, text)
            }
            BackingState::Missing(error) => (
                Fault::BackingMissing,
                format!("the backing file {shown}: {error}"),
            ),
            BackingState::Differs(difference) => (
                Fault::BackingChanged,
                format!(
                    "the backing file {shown} {}",
                    difference.text(recorded, header.backing_mtime)
                ),
            ),
        };
        findings.push(Finding::new(fault, at, text));
    }

    /// The extension block is damaged: whether it can be written anew depends on the backing
    /// file.
    fn damaged_extension(&self) -> Result<Finding, ImageError> {
        let file = self
            .host
            .open(self.path, driver::host::Access::ReadOnly)
            .map_err(ImageError::host(self.path, "opening", FileOffset(0)))?;
        let header = read_header(&file, self.path)?;
        let named = NamedBacking::of(self.path, &header, self.trust);
        let looked = || look_at_backing(self.host, &named, &header, header.size);
        let as_made = !header.relocating && looked() == BackingState::Matches;
        let fault = match as_made {
            true => Fault::DamagedExtension,
            false => Fault::LostExtension,
        };
        let text = match as_made {
            true => {
                "the extension block has a wrong checksum or version; the device has its backing \
                     file's size, which is all that the block would say"
            }
            false => {
                "the extension block has a wrong checksum or version, and with it the size of the \
                      backing file is lost"
            }
        };
        Ok(Finding::new(fault, Extension::OFFSET, text.into()))
    }
}
