//! Changing a backing file under its COW file, or changing to another, without a moment at
//! which the two do not belong together.
//!
//! The header holds the backing file's time, which every write to that file changes, and
//! both cannot be written at once. The extension block says therefore, durably and before
//! anything else is done, that a change is under way: size and time of the backing file say
//! nothing then. Whatever is done meanwhile leaves the disk's content what it is. When it is
//! durable, the header gets the new time and the block loses its mark.
//!
//! | power goes after | a reader finds | recovery |
//! |---|---|---|
//! | the mark was written | the old image, marked or not | takes the time and size that the backing file has, and ends the mark |
//! | the backing file's time was made another | the same; every other COW file over it is refused, before any of its content changes | the same |
//! | part or all of the change | the mark, and so the same disk as before; stock readers refuse it (the time) | the same; the change is then begun again |
//! | the header was written | the mark, or none and the new time | the same |
//! | the mark was ended | the new image, which stock readers take if the sizes agree | none needed |

use driver::cow::{Extension, Header, Version};
use driver::host::{HostError, HostFile, Metadata};
use driver::ordered::{CowImage, Ordered};
use driver::resize::ResizeError;
use driver::units::{Bytes, FileOffset, Sector};

use crate::image_host::ImageHost;

const EXAMINING: &str = "examining the backing file";
const SYNCING: &str = "syncing the backing file";
const START: FileOffset = FileOffset(0);

/// Marks the image, durably: from now on its backing file may change.
///
/// # Errors
/// The host's, or [`ResizeError::Refused`] if the image's version has no extension block.
pub fn begin<F: HostFile>(device: &mut Ordered<F>) -> Result<(), ResizeError> {
    let image = image(device)?;
    if !has_room_for_mark(image) {
        return Err(ResizeError::Refused(format!(
            "a {} header has no room for the mark that an interrupted change needs",
            image.header.version
        )));
    }
    let backing_size = image
        .extension
        .map_or(image.header.size, |extension| extension.backing_size);
    write_extension(
        device,
        Extension {
            backing_size,
            changing_backing: true,
        },
    )
}

/// Whether the image's version has the block that the mark is in.
pub(super) fn has_room_for_mark(image: &CowImage) -> bool {
    image.header.version == Version::V3 && Extension::fits(&image.geometry)
}

/// Makes the time of the backing file another than it was, durably and before any of its
/// content changes, so that every other COW file over it is refused from now on. What is
/// written changes the time too, but a power cut may leave the content and not its time.
///
/// # Errors
/// The host's. The image is marked then, and usable.
pub fn estrange<H: ImageHost>(host: &H, device: &Ordered<H::File>) -> Result<(), ResizeError> {
    leave_old_time(host, device)?;
    host.sync_all(backing(device)?)
        .map_err(ResizeError::host(SYNCING, START))
}

/// Ends the change: what the backing file is now is what the image expects. Its content has to
/// be durable; its time is made so here, and made another than it was before, so that every
/// other COW file over it is refused from now on.
///
/// # Errors
/// The host's. The image is marked then, and usable.
pub fn commit<H: ImageHost>(host: &H, device: &mut Ordered<H::File>) -> Result<(), ResizeError> {
    leave_old_time(host, device)?;
    accept(host, device)
}

fn leave_old_time<H: ImageHost>(host: &H, device: &Ordered<H::File>) -> Result<(), ResizeError> {
    let old_time = image(device)?.header.backing_mtime;
    let file = backing(device)?;
    let seconds = examine(host, file)?.modified_seconds;
    if seconds as u32 != old_time {
        return Ok(());
    }
    host.set_modified(file, seconds + 1)
        .map_err(ResizeError::host(EXAMINING, START))
}

/// Takes size and time that the backing file has as those that the image expects, and ends
/// the mark.
///
/// # Errors
/// As [`commit`]; [`ResizeError::Refused`] if the backing file is too short.
pub fn accept<H: ImageHost>(host: &H, device: &mut Ordered<H::File>) -> Result<(), ResizeError> {
    let file = backing(device)?;
    match host.sync_all(file) {
        // Nothing can be written there, and nothing has been.
        Err(HostError::Unsupported) => {}
        synced => synced.map_err(ResizeError::host(SYNCING, START))?,
    }
    let metadata = examine(host, file)?;
    check_reach(device, metadata.len)?;
    let mut header = image(device)?.header.clone();
    header.backing_mtime = metadata.modified_seconds as u32;
    put_header(device, header, metadata.len)
}

fn examine<H: ImageHost>(host: &H, file: &H::File) -> Result<Metadata, ResizeError> {
    host.metadata(file)
        .map_err(ResizeError::host(EXAMINING, START))
}

/// The open backing file of the device.
pub(super) fn backing<F: HostFile>(device: &Ordered<F>) -> Result<&F, ResizeError> {
    device
        .backing()
        .ok_or_else(|| ResizeError::Refused("its backing file is not open".into()))
}

/// Whether a backing file of this length has something for every clean sector.
pub(super) fn check_reach<F: HostFile>(device: &Ordered<F>, len: Bytes) -> Result<(), ResizeError> {
    let end = Sector(0) + device.capacity();
    match device
        .map()
        .next_clean(Sector(0) + len.whole_sectors(), end)
    {
        None => Ok(()),
        Some(run) => Err(ResizeError::Refused(format!(
            "the backing file has {len}, and nothing for sector {} and those behind it",
            run.start
        ))),
    }
}

/// Writes path and time of the backing file into the header, and ends the mark. If the power goes
/// in the middle of a header that changes in several sectors, the image is marked and the header
/// is recognised ([`driver::cow::HeaderChange`]): a recovery first finishes it.
///
/// # Errors
/// The host's.
pub fn put_header<F: HostFile>(
    device: &mut Ordered<F>,
    header: Header,
    backing_size: Bytes,
) -> Result<(), ResizeError> {
    device.name_backing(header.backing_path(), header.backing_mtime)?;
    let image = image(device)?;
    let has_extension = image.extension.is_some();
    let (geometry, placement) = (image.geometry, device.placement().clone());
    let image = CowImage {
        header,
        extension: image.extension,
        geometry,
    };
    device.commit(image, placement);
    match has_extension {
        true => write_extension(device, Extension::new(backing_size)),
        false => Ok(()),
    }
}

/// Makes the backing file as long as the device, if it is shorter; its length then. It takes no
/// space, and every other COW file over it is refused from then on.
///
/// # Errors
/// The host's. The image is marked if it was; see [`begin`].
pub fn extend<F: HostFile>(device: &Ordered<F>) -> Result<Bytes, ResizeError> {
    let size = image(device)?.geometry.size;
    let file = backing(device)?;
    let len = file.len().map_err(ResizeError::host(EXAMINING, START))?;
    if len >= size {
        return Ok(len);
    }
    let end = FileOffset(size.0);
    file.set_len(size)
        .and_then(|()| file.sync_data())
        .map_err(ResizeError::host("extending the backing file", end))?;
    Ok(size)
}

fn write_extension<F: HostFile>(
    device: &mut Ordered<F>,
    extension: Extension,
) -> Result<(), ResizeError> {
    let action = "writing the extension block of the COW file";
    device.write_for_relocation(action, &extension.encode(), Extension::OFFSET)?;
    device.sync_for_relocation()?;
    device.set_extension(Some(extension));
    Ok(())
}

/// What the COW file of the device says about itself.
///
/// # Errors
/// [`ResizeError::Refused`] for a raw disk.
pub(super) fn image<F: HostFile>(device: &Ordered<F>) -> Result<&CowImage, ResizeError> {
    device
        .image()
        .ok_or_else(|| ResizeError::Refused("a raw disk has no header".into()))
}
