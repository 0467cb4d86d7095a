//! Looking for faults in a COW file, and mending those that can be mended without guessing.

mod findings;
mod leaks;
mod repair;

use std::path::Path;

use driver::cow::{Extension, Header, JournalRecord};
use driver::host::{Access, FileIdentity, HostError, LockKind, Place};
use driver::open::{
    ChosenBacking, ExpectedBacking, Held, ImageFormat, NamedBacking, OpenError, OpenOptions,
    Opened, Role, Unfollowed, examine_backing, open, read_header,
};
use driver::ordered::{CowImage, Ordered};
use driver::units::{FileOffset, Sector};

use crate::image_host::ImageHost;

pub use findings::{Fault, Finding, Severity};
pub(super) use repair::{free_stale_if_possible, mend_past_end, past_end};

use super::backing_note::backing_note;
use super::info::{BackingDifference, BackingState, Expected};
use super::open::{Instead, Reach, Trust, options, specification};
use super::resize::StockVerdict;
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

/// Checks the COW file at `path`. The backing file is opened only where a change of it was
/// interrupted: its content tells whether it is the one.
///
/// # Errors
/// Where the check could not be carried out: the host's errors, and a lock that another holds.
pub fn check<'a, H: ImageHost>(
    host: &H,
    path: &Path,
    reach: impl Into<Reach<'a>>,
    watch: Watch<'_>,
) -> Result<Checked, ImageError> {
    let reach = reach.into();
    Ok(Checked {
        findings: Check { host, path, reach }.findings(true, watch)?.0,
        repaired: Vec::new(),
    })
}

/// Checks the COW file at `path` and mends what can be mended without guessing. Space is given
/// back only where nothing else is wrong. What is mended was found under the lock that it is
/// mended under, but for an interrupted resize or change of the backing file, which is finished as
/// [`super::recover`] does, under locks of its own.
///
/// # Errors
/// As [`check`]; what has been mended by then is mended.
pub fn check_and_repair<H: ImageHost>(
    host: &H,
    path: &Path,
    trust: Trust,
    watch: Watch<'_>,
) -> Result<Checked, ImageError> {
    let reach = trust.into();
    let check = Check { host, path, reach };
    let mut repaired = Vec::new();
    loop {
        let (findings, device) = check.findings(false, watch)?;
        let next = findings
            .iter()
            .filter(|finding| repair::is_possible(finding, &findings))
            .find(|finding| !repaired.contains(*finding))
            .cloned();
        let Some(finding) = next else {
            // What was tried, and is found again, is not mended.
            repaired.retain(|finding| !findings.contains(finding));
            return Ok(Checked { findings, repaired });
        };
        repair::mend(host, path, trust, &finding, device, watch)?;
        repaired.push(finding);
    }
}

/// What is found, and the device that it is found in, which holds the lock; none if the file does
/// not open.
type Examined<F> = (Vec<Finding>, Option<Ordered<F>>);

struct Check<'a, H> {
    host: &'a H,
    path: &'a Path,
    reach: Reach<'a>,
}

impl<H: ImageHost> Check<'_, H> {
    fn findings(&self, read_only: bool, watch: Watch<'_>) -> Result<Examined<H::File>, ImageError> {
        let alone = OpenOptions {
            without_backing: true,
            ..options(self.reach.trust)
        };
        let mut findings = Vec::new();
        let opened = match open(self.host, &specification(self.path, read_only), alone) {
            Err(OpenError::ExtensionDamaged { .. }) => {
                findings.push(self.damaged_extension()?);
                return Ok((findings, None));
            }
            opened => opened.map_err(Finding::of_open_error),
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(Ok(finding)) => {
                findings.push(finding);
                return Ok((findings, None));
            }
            Err(Err(error)) => return Err(error.into()),
        };
        self.check_opened(&opened, &mut findings, watch)?;
        Ok((findings, Some(opened.device)))
    }

    fn check_opened(
        &self,
        opened: &Opened<H::File>,
        findings: &mut Vec<Finding>,
        watch: Watch<'_>,
    ) -> Result<(), ImageError> {
        let Some(image) = opened.device.image() else {
            return Ok(());
        };
        match image.extension.and_then(|extension| extension.change) {
            Some(_) => self.check_changing(opened, image, findings)?,
            None => self.check_backing(opened.device.cow(), image, findings)?,
        }
        if let Some(record) = opened.interrupted {
            let (new_size, frontier) = (record.new_size, record.frontier);
            let sectors = image.geometry.capacity();
            let how_far = match frontier < Sector(0) + sectors {
                true => format!("with sector {frontier} of {sectors} and those after it moved"),
                false => "before anything was moved".to_owned(),
            };
            findings.push(Finding::new(
                Fault::InterruptedResize,
                JournalRecord::slots_offset(),
                format!("a resize to {new_size} was interrupted {how_far}"),
            ));
            return Ok(());
        }
        let geometry = image.geometry;
        if !geometry.fits_stock_linux() {
            findings.push(Finding::new(
                Fault::BeyondStock,
                image.header.version.size_offset(),
                format!(
                    "the data starts at byte {}, past the 2 GiB that stock Linux can reach",
                    geometry.data_offset
                ),
            ));
        }
        let unmapped = geometry.capacity().0 - geometry.mapped().0;
        if unmapped > 0 {
            let (what, they) = match unmapped {
                1 => ("sector has".to_owned(), "it"),
                _ => (format!("{unmapped} sectors have"), "they"),
            };
            findings.push(Finding::new(
                Fault::ShortBitmap,
                geometry.bitmap().end(),
                format!(
                    "the last {what} no bit, as in every {} file of such a size: {they} cannot be \
                     written",
                    image.header.version
                ),
            ));
        }
        let space = leaks::Space::of(self.host, self.path, &opened.device, geometry)?;
        space.check_bitmap(findings, watch)?;
        space.check_length(findings)?;
        space.check_stale(findings, watch)
    }

    /// A change of the backing file was interrupted. That can be ended if the file that is there
    /// is the one that the change was about.
    fn check_changing(
        &self,
        opened: &Opened<H::File>,
        image: &CowImage,
        findings: &mut Vec<Finding>,
    ) -> Result<(), ImageError> {
        let named = NamedBacking::of(self.path, &image.header, self.reach.trust);
        let shown = driver::shown(named.path());
        let at = Extension::OFFSET;
        let interrupted = Finding::new(
            Fault::InterruptedBackingChange,
            at,
            format!(
                "a change of the backing file {shown} was interrupted: ubdlab image recover ends it, \
                 or the command again that was interrupted"
            ),
        );
        let examined = examine_backing(
            self.host,
            &self.reach.specification(self.path, true),
            self.reach.options(),
            opened.device.cow(),
            image,
        );
        let finding = match examined {
            Ok(_) => interrupted,
            Err(OpenError::NotInChange { problem, .. }) => {
                let text = format!(
                    "a change of the backing file {shown} was interrupted, and this is not the \
                     file that it was about: {problem}"
                );
                Finding::new(Fault::BackingChanged, at, text)
            }
            Err(OpenError::Host {
                error: error @ (HostError::NotFound | HostError::PermissionDenied),
                ..
            }) => {
                let text = format!("the backing file {shown}, which was being changed: {error}");
                Finding::new(Fault::BackingMissing, at, text)
            }
            Err(error @ (OpenError::NotADisk { .. } | OpenError::BacksItself { .. })) => {
                let is = match error {
                    OpenError::NotADisk { .. } => BackingDifference::KIND,
                    _ => BackingDifference::ITSELF,
                };
                let text = format!("the backing file {shown}, which was being changed, {is}");
                Finding::new(Fault::BackingChanged, at, text)
            }
            Err(OpenError::BackingNotFollowed { why, .. }) => {
                findings.push(interrupted);
                not_followed(image, &named, why)
            }
            Err(error) => return Err(error.into()),
        };
        findings.push(finding);
        Ok(())
    }

    fn check_backing(
        &self,
        cow: &H::File,
        image: &CowImage,
        findings: &mut Vec<Finding>,
    ) -> Result<(), ImageError> {
        let header = &image.header;
        let at = header.version.path_offset();
        let named = NamedBacking::of(self.path, header, self.reach.trust);
        let recorded = image.extension.map_or(header.size, |it| it.backing_size);
        let state = self.look_at_backing(cow, header, image.extension.as_ref(), &named)?;
        let path = (self.reach.instead).map_or(named.path(), |(backing, _)| backing.path);
        let shown = driver::shown(path);
        let (fault, text) = match state {
            BackingState::Unknown(_) => return Ok(()),
            BackingState::Matches => return self.check_matching(&named, at, findings),
            BackingState::NotFollowed(why) => {
                findings.push(not_followed(image, &named, why));
                return Ok(());
            }
            BackingState::Missing(error) => (
                Fault::BackingMissing,
                format!("the backing file {shown}: {error}"),
            ),
            BackingState::Differs(difference) => {
                let modified = header.backing_mtime;
                let mut text = format!(
                    "the backing file {shown} {}",
                    difference.text(recorded, modified)
                );
                if let Some(ways_out) = difference.ways_out((path, self.path), modified) {
                    text = format!("{text}. {ways_out}");
                }
                (Fault::BackingChanged, text)
            }
        };
        findings.push(Finding::new(fault, at, text));
        Ok(())
    }

    /// Looks at the backing file that the header names, or at the one that the user names to take
    /// its place, whose time matters only where the user says so.
    fn look_at_backing(
        &self,
        cow: &H::File,
        header: &Header,
        extension: Option<&Extension>,
        named: &NamedBacking,
    ) -> Result<BackingState, ImageError> {
        let any_time = matches!(self.reach.instead, Some((_, Instead::AnyTime)));
        let expected = Expected {
            cow: self.identity(cow)?,
            backing: ExpectedBacking::of(header, extension, any_time),
        };
        Ok(match self.reach.instead {
            None => expected.look(self.host, named),
            Some((backing, _)) => {
                let place = Place::Anywhere(backing.path.to_owned());
                expected.state(Ok(self.host.look(&place)))
            }
        })
    }

    /// What is worth a note about the right backing file.
    fn check_matching(
        &self,
        named: &NamedBacking,
        at: FileOffset,
        findings: &mut Vec<Finding>,
    ) -> Result<(), ImageError> {
        let (path, opened) = match self.reach.instead {
            None => (named.path(), named.open(self.host, Access::ReadOnly).ok()),
            Some((ChosenBacking { path, .. }, _)) => {
                (path, self.host.open(path, Access::ReadOnly).ok())
            }
        };
        // Who may look at it, but not read it, is told so by what reads it.
        let Some(file) = opened else {
            return Ok(());
        };
        let examining = ImageError::host(path, "examining", FileOffset(0));
        let metadata = self.host.metadata(&file).map_err(&examining)?;
        if u32::try_from(metadata.modified_seconds).is_err() {
            let seconds = metadata.modified_seconds;
            let verdict = StockVerdict::RefusesTime { seconds };
            let text = format!("stock UML {verdict}");
            findings.push(Finding::new(Fault::BackingTime, at, text));
        }
        self.refuse_image(named, &file)?;
        if let Some(text) = backing_note(path, &file).map_err(|failed| examining(failed.error))? {
            findings.push(Finding::new(Fault::BackingIsImage, at, text));
        }
        Ok(())
    }

    /// What begins like an image is a backing file only where the header names it, or the user says
    /// that it is raw.
    fn refuse_image(&self, named: &NamedBacking, file: &H::File) -> Result<(), ImageError> {
        let Some((ChosenBacking { path, raw: false }, _)) = self.reach.instead else {
            return Ok(());
        };
        let examining = ImageError::host(path, "examining", FileOffset(0));
        let is_named = match named.open(self.host, Access::ReadOnly) {
            Ok(named) => self.host.is_same_file(&named, file).map_err(&examining)?,
            Err(_) => false,
        };
        match ImageFormat::of(file).map_err(|failed| examining(failed.error))? {
            Some(format) if !is_named => Err(OpenError::BackingIsImage {
                path: path.to_owned(),
                format,
            }
            .into()),
            _ => Ok(()),
        }
    }

    fn identity(&self, cow: &H::File) -> Result<FileIdentity, ImageError> {
        let examining = ImageError::host(self.path, "examining", FileOffset(0));
        Ok(self.host.metadata(cow).map_err(examining)?.identity)
    }

    /// The extension block is damaged: whether it can be written anew depends on the backing
    /// file.
    fn damaged_extension(&self) -> Result<Finding, ImageError> {
        let file = self
            .host
            .open(self.path, Access::ReadOnly)
            .map_err(ImageError::host(self.path, "opening", FileOffset(0)))?;
        let lock = Some(LockKind::Shared);
        let file = Held::take(self.host, self.path, file, lock, Role::Image)?;
        let header = read_header(file.file(), self.path)?;
        let named = NamedBacking::of(self.path, &header, self.reach.trust);
        let state = self.look_at_backing(file.file(), &header, None, &named)?;
        let as_made = !header.relocating && state == BackingState::Matches;
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

/// That the backing file is not to be looked at.
fn not_followed(image: &CowImage, named: &NamedBacking, why: Unfollowed) -> Finding {
    let shown = driver::shown(named.path());
    let text = format!("the backing path {shown} {why}: not looked at");
    Finding::new(
        Fault::BackingOutside,
        image.header.version.path_offset(),
        text,
    )
}
