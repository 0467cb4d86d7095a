//! Changing a backing file under its COW file, or changing to another, without a moment at
//! which the two do not belong together.
//!
//! The header holds the backing file's time, which every write to that file changes, and
//! both cannot be written at once. The extension block says therefore, durably and before
//! anything else is done, that a change is under way, and by what the right backing file is known
//! meanwhile: a file that is changed by its two lengths and a sample of its content
//! (`sample.rs`), one that is changed to by its length and time. Another file in its place is
//! refused. Whatever is done leaves the disk's content what it is. When it is durable, the header
//! gets the new time and the block loses its mark.
//!
//! A change of the file itself gives it times that no other COW file can have recorded
//! (`later.rs`), the first one before any of its content changes, so that every other COW file
//! over it is refused from then on, at whatever moment it ends.
//!
//! | power goes after | a reader finds | recovery |
//! |---|---|---|
//! | the mark was written | the old image, marked or not | gives the backing file a later time, takes that and its length, and ends the mark |
//! | the backing file's time was made a later one | the same; every other COW file over it is refused, before any of its content changes | the same |
//! | part or all of the change | the mark, and so the same disk as before; stock readers refuse it (the time) | the same; the change is then begun again |
//! | the backing file was given its last time | the same | the same |
//! | the header was written; of a merge, what is merged became clean (`merge.rs`) | the same disk, marked; stock readers take it from now on if the sizes agree | the same |
//! | the mark was ended | the new image, which stock readers take if the sizes agree | none needed |
//!
//! Where the image changes to another file, neither file is written, and neither gets another
//! time: recovery takes length and time of the file that the header names by then.

mod later;
mod sample;

use std::path::Path;

use driver::cow::{BackingChange, Extension, Header, InPlace, OtherBacking, SampledRange, Version};
use driver::host::{HostError, HostFile, Metadata, OperationKind};
use driver::ordered::{CowImage, Ordered};
use driver::resize::ResizeError;
use driver::units::{Bytes, FileOffset, Sector, SectorCount};

use crate::image_host::ImageHost;

use super::{ChangeError, Watch};

pub use later::LONGEST_WAIT;

const EXAMINING: &str = "examining the backing file";
const SYNCING: &str = "syncing the backing file";
const START: FileOffset = FileOffset(0);

/// What a change of a backing file writes into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// The dirty sectors of the COW file.
    Dirty,
    /// Nothing: it gets another length at most.
    Nothing,
}

/// Whether the backing file, which is at `path`, can be given the later times that a change of it
/// needs, as far as that can be told beforehand. Nothing is changed.
///
/// # Errors
/// The host's; [`ResizeError::Refused`] if it cannot.
pub(super) fn check_times<H: ImageHost>(
    host: &H,
    device: &Ordered<H::File>,
    path: &Path,
) -> Result<(), ResizeError> {
    later::check(host, device, path)
}

/// Marks the image, durably, and makes the time of its backing file a later one, durably too:
/// from now on the file may change, and get as long as the device. Waits, if need be, until no
/// write can give the file a time that it has had already.
///
/// # Errors
/// The host's, or [`ResizeError::Refused`] if the image's version has no extension block, or the
/// file can have no later time; [`ChangeError::Interrupted`]. The image is usable then.
pub fn begin<H: ImageHost>(
    host: &H,
    device: &mut Ordered<H::File>,
    writes: Writes,
    watch: Watch<'_>,
) -> Result<(), ChangeError> {
    let image = markable(device)?;
    let (size, former) = (image.geometry.size, image.extension);
    let seed = u64::from(SampledRange::digest(&image.header.encode())) << 32;
    let file = backing(device)?;
    // What the sample finds has to be what a power cut leaves: an earlier change that was killed
    // may have left more in the host's memory than on the disk.
    host.sync_all(file)
        .map_err(ResizeError::host(OperationKind::SyncData, SYNCING, START))?;
    let metadata = examine(host, file)?;
    let merged = match writes {
        Writes::Dirty => Some(&*device),
        Writes::Nothing => None,
    };
    let seed = seed ^ metadata.len.0;
    let sample = sample::choose(file, metadata.len.whole_sectors(), merged, seed)?;
    let had = later::latest(host, device)?;
    later::wait_past(host, device, had, watch)?;
    let latest = later::after(host, had);
    let change = BackingChange {
        in_place: Some(InPlace {
            len: metadata.len.max(size),
            latest,
            sample,
        }),
        other: None,
    };
    let extension = Extension {
        backing_size: metadata.len,
        change: Some(change),
    };
    commit_extension(device, extension)?;
    let given = later::give(host, device, latest, had, watch);
    if given.is_err()
        && let Some(former) = former
        && later::still_has(host, device, metadata.modified_seconds)
    {
        // Nothing has changed. If that fails too, recovery ends the mark.
        let _ = commit_extension(device, former);
    }
    given.map(drop)
}

/// Marks the image, durably: from now on its backing file is the one that it has or `other`. A
/// change of the file itself that was interrupted stays noted until the header names the other
/// one.
///
/// # Errors
/// The host's, or [`ResizeError::Refused`] if the image's version has no extension block.
pub fn begin_switch<F: HostFile>(
    device: &mut Ordered<F>,
    other: OtherBacking,
) -> Result<(), ResizeError> {
    let image = markable(device)?;
    let extension = image.extension.unwrap_or(Extension::new(image.header.size));
    let in_place = extension.change.and_then(|change| change.in_place);
    let change = BackingChange {
        in_place,
        other: Some(other),
    };
    commit_extension(
        device,
        Extension {
            change: Some(change),
            ..extension
        },
    )
}

/// The image, if it can be marked.
fn markable<F: HostFile>(device: &Ordered<F>) -> Result<&CowImage, ResizeError> {
    let image = image(device)?;
    match has_room_for_mark(image) {
        true => Ok(image),
        false => Err(ResizeError::Refused(format!(
            "a {} header has no room for the mark that an interrupted change needs",
            image.header.version
        ))),
    }
}

/// Whether the image's version has the block that the mark is in.
pub(super) fn has_room_for_mark(image: &CowImage) -> bool {
    image.header.version == Version::V3 && Extension::fits(&image.geometry)
}

/// Ends a change of the backing file itself: what that file is now is what the image expects.
/// Its content has to be durable; it gets a time here that is later than every one it has had.
///
/// # Errors
/// The host's; [`ResizeError::Refused`] if the backing file is too short;
/// [`ChangeError::Interrupted`]. The image is marked then, and usable.
pub fn commit<H: ImageHost>(
    host: &H,
    device: &mut Ordered<H::File>,
    watch: Watch<'_>,
) -> Result<(), ChangeError> {
    commit_after(host, device, watch, |_| Ok(()))
}

/// As [`commit`], with something to do when the backing file's content, its last time and the
/// header are durable, while the image still is marked: if `last` is interrupted, a recovery
/// knows of it.
///
/// # Errors
/// As of [`commit`], and what `last` says.
pub(super) fn commit_after<H: ImageHost>(
    host: &H,
    device: &mut Ordered<H::File>,
    watch: Watch<'_>,
    last: impl FnOnce(&mut Ordered<H::File>) -> Result<(), ResizeError>,
) -> Result<(), ChangeError> {
    check_reach(device, examine(host, backing(device)?)?.len)?;
    let had = later::latest(host, device)?;
    // Nothing is written any more, and the file's own second need not be over, only begun: or
    // each recovery that is interrupted would leave a time further ahead of the clock.
    later::wait_past(host, device, had.saturating_sub(1), watch)?;
    let seconds = later::after(host, had);
    let metadata = later::give(host, device, seconds, had, watch)?;
    name(device, with_time_of(device, metadata)?)?;
    last(device)?;
    Ok(end_mark(device, metadata.len)?)
}

/// Whether a change of the backing file itself was interrupted, so that ending it has to write
/// to that file: it needs another time.
///
/// # Errors
/// The host's.
pub fn is_in_place<H: ImageHost>(host: &H, device: &Ordered<H::File>) -> Result<bool, ResizeError> {
    let change = noted(device);
    let metadata = examine(host, backing(device)?)?;
    let found = OtherBacking {
        len: metadata.len,
        mtime: metadata.modified_seconds as u32,
    };
    Ok(change.is_some_and(|it| it.in_place.is_some() && it.other != Some(found)))
}

/// Whether a merge may have been interrupted after it had made every sector clean: what lies in the
/// data area then is what it was giving back. Where sectors still are dirty, or another change was
/// interrupted, the data of clean ones may be what a stock driver lost the bits of.
pub(super) fn may_have_emptied<F: HostFile>(device: &Ordered<F>) -> bool {
    let in_place = noted(device).is_some_and(|change| change.in_place.is_some());
    in_place && device.map().dirty_count() == SectorCount(0)
}

/// The change that the mark is about.
fn noted<F: HostFile>(device: &Ordered<F>) -> Option<BackingChange> {
    device.image()?.extension?.change
}

/// Ends an interrupted change as it is. The device was opened over its backing file, which is
/// known to be the right one by that, and for writing if [`is_in_place`] says so.
///
/// # Errors
/// As of [`commit`].
pub fn end<H: ImageHost>(
    host: &H,
    device: &mut Ordered<H::File>,
    watch: Watch<'_>,
) -> Result<(), ChangeError> {
    if is_in_place(host, device)? {
        return commit(host, device, watch);
    }
    let file = backing(device)?;
    match host.sync_all(file) {
        // Nothing can be written there, and nothing has been.
        Err(HostError::Unsupported) => {}
        synced => synced.map_err(ResizeError::host(OperationKind::SyncData, SYNCING, START))?,
    }
    let metadata = examine(host, file)?;
    check_reach(device, metadata.len)?;
    let header = with_time_of(device, metadata)?;
    Ok(put_header(device, header, metadata.len)?)
}

/// The image's header with the time of its backing file.
fn with_time_of<F: HostFile>(
    device: &Ordered<F>,
    backing: Metadata,
) -> Result<Header, ResizeError> {
    let mut header = image(device)?.header.clone();
    header.backing_mtime = backing.modified_seconds as u32;
    Ok(header)
}

/// What is known of the backing file of an open device, whose lock on it is held.
fn examine<H: ImageHost>(host: &H, file: &H::File) -> Result<Metadata, ResizeError> {
    host.metadata(file)
        .map_err(ResizeError::host(OperationKind::Metadata, EXAMINING, START))
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
            "the backing file has {len}, and nothing for sector {} and those after it",
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
    name(device, header)?;
    end_mark(device, backing_size)
}

/// Writes path and time of the backing file into the header, durably.
fn name<F: HostFile>(device: &mut Ordered<F>, header: Header) -> Result<(), ResizeError> {
    let mut image = image(device)?.clone();
    let placement = device.placement().clone();
    device.relocate(|desk| async move {
        desk.look(move |here| {
            here.name_backing(header.backing_path(), header.backing_mtime)?;
            image.header = header;
            here.commit(image, placement);
            Ok(())
        })
        .await?
    })
}

/// Ends the mark, if the image has a place for one, with the length of its backing file.
fn end_mark<F: HostFile>(device: &mut Ordered<F>, backing_size: Bytes) -> Result<(), ResizeError> {
    match image(device)?.extension {
        Some(_) => commit_extension(device, Extension::new(backing_size)),
        None => Ok(()),
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
    let len = file.len();
    let len = len.map_err(ResizeError::host(OperationKind::Len, EXAMINING, START))?;
    if len >= size {
        return Ok(len);
    }
    let end = FileOffset(size.0);
    let extending = |kind| ResizeError::host(kind, "extending the backing file", end);
    file.set_len(size)
        .map_err(extending(OperationKind::SetLen))?;
    file.sync_data()
        .map_err(extending(OperationKind::SyncData))?;
    Ok(size)
}

/// Writes the extension block, durably.
///
/// # Errors
/// The host's.
pub(super) fn commit_extension<F: HostFile>(
    device: &mut Ordered<F>,
    extension: Extension,
) -> Result<(), ResizeError> {
    device.relocate(|desk| async move { desk.commit_extension(extension).await })
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
