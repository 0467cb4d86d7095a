//! Merging a COW file into its backing file, in place. (Into a new file it is a conversion:
//! [`super::convert::to_raw`].)
//!
//! The COW file keeps what it has until all of it is durable in the backing file, and that file's
//! new time is in the header: reading a dirty sector there or here gives the same. It is then
//! emptied, and stays a COW file over the merged backing file, with nothing in it.
//!
//! | power goes after | a reader finds | recovery |
//! |---|---|---|
//! | the mark was written ([`super::backing_change`]) | the same disk | merge again, or end the change as it is |
//! | the backing file was given a later time | the same disk; other COW files over the backing file are refused | the same |
//! | any part of the data was written into the backing file | the same disk: what was written is dirty in the COW file, too | the same |
//! | the backing file was synced, or given its last time | the same | the same |
//! | the header was written | a COW file over the merged backing file, whose dirty sectors are in both | the same |
//! | any part of the bitmap was cleared | the same: what is clean now is durable in the backing file | the same; the data of sectors that are clean now is a leak, for `image check --repair` |
//! | all of it was cleared, the data's space given back or not | an empty COW file over the merged backing file | the same; the data's space is given back |
//! | the mark was ended | the same | none needed |

use std::path::Path;

use driver::cow::{Geometry, Version};
use driver::host::{FileRole, HostFile};
use driver::open::{OpenOptions, open};
use driver::ordered::{Desk, Ordered};
use driver::resize::{ResizeError, Strategy};
use driver::units::{Bytes, FileOffset, FileRange, SECTOR_SIZE, Sector, SectorRange};

use crate::copying::{Copying, End, OnFiles, Target};
use crate::image_host::ImageHost;
use crate::planner::{Shrink, Wish};
use crate::resize::PlannedResize;

use super::backing_change::Writes;
use super::merge_room::check_room;
use super::open::{
    CowImageFile, Trust, cow_image_file, device_size, is_changing_backing, options, specification,
};
use super::resize::{check_extension, plan_for};
use super::{ImageError, Watch, backing_change, report};

/// What a merge came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merged {
    /// The data that was written into the backing file.
    pub data: Bytes,
    /// The size that the backing file has now.
    pub backing_size: Bytes,
}

/// Opens a COW file and its backing file for a merge in place: both are locked exclusively. A
/// merge that was interrupted can be begun again.
///
/// # Errors
/// See [`driver::open::OpenError`]; [`ImageError::Unfinished`] of an interrupted resize.
pub fn open_both<H: ImageHost>(
    host: &H,
    path: &Path,
    trust: Trust,
) -> Result<CowImageFile<H::File>, ImageError> {
    let writable = OpenOptions {
        writable_backing: true,
        ..options(trust)
    };
    let opened = open(host, &specification(path, false), writable)?;
    if opened.interrupted.is_some() {
        return Err(ImageError::Unfinished {
            path: path.to_owned(),
            what: "resize",
        });
    }
    Ok(cow_image_file(path, opened))
}

/// Whether a merge in place would change anything. Where it would not, the backing file keeps its
/// time, and the other COW files over it stay usable.
pub fn has_work<F: HostFile>(cow: &CowImageFile<F>) -> bool {
    let device = &cow.device;
    let is_long_enough = (device.backing())
        .and_then(|backing| backing.len().ok())
        .is_some_and(|len| len >= device_size(device));
    device.map().dirty_count().0 > 0 || is_changing_backing(device) || !is_long_enough
}

/// Whether the backing file can become as large as the disk, has room for what is merged, and a COW
/// file of another version can become one of version 3. [`in_place`] asks that too; this is for who
/// has something to say before it.
///
/// # Errors
/// Why not; the host's.
pub fn check_possible<H: ImageHost>(
    host: &H,
    cow: &CowImageFile<H::File>,
) -> Result<(), ImageError> {
    check_extension(host, cow, device_size(&cow.device))?;
    check_room(host, cow)?;
    let image = backing_change::image(&cow.device).map_err(ImageError::resize(&cow.path))?;
    if image.header.version != Version::V3 {
        plan_for(host, &cow.path, &cow.device, as_v3(image.geometry.size))?;
    }
    Ok(())
}

/// A rebuild as V3 of a device that stays this large.
fn as_v3(size: Bytes) -> Wish {
    Wish {
        new_size: size,
        strategy: Some(Strategy::Rebuild),
        shrink: Shrink::Refuse,
        online: false,
    }
}

/// Merges the COW file into its backing file and empties it. A COW file of another version is
/// made one of version 3 first, which is the one that an interruption can be noted in. Where there
/// is nothing to merge, and the backing file is as long as the disk, nothing is changed.
///
/// # Errors
/// The host's, or what the watcher says. The COW file is usable then, and the merge can be
/// begun again.
pub fn in_place<H: ImageHost + Clone>(
    host: &H,
    cow: &mut CowImageFile<H::File>,
    watch: Watch<'_>,
) -> Result<Merged, ImageError> {
    let path = cow.path.clone();
    let failed = ImageError::resize(&path);
    if !has_work(cow) {
        let backing = backing_change::backing(&cow.device).map_err(&failed)?;
        let backing_size = backing.len().map_err(ImageError::host(
            &cow.backing_path,
            "examining",
            FileOffset(0),
        ))?;
        return Ok(Merged {
            data: Bytes(0),
            backing_size,
        });
    }
    check_possible(host, cow)?;
    make_v3(host, &path, &mut cow.device)?;
    backing_change::begin(host, &mut cow.device, Writes::Dirty, watch)
        .map_err(ImageError::change(&path))?;
    let backing_size = backing_change::extend(&cow.device).map_err(&failed)?;
    let data = copy_dirty(cow, watch)?;
    backing_change::commit_after(host, &mut cow.device, watch, |device| {
        let geometry = backing_change::image(device)?.geometry;
        device.relocate(|desk| async move {
            empty(&desk, &geometry).await?;
            free_data(&desk, &geometry).await?;
            desk.sync().await
        })
    })
    .map_err(ImageError::change(&path))?;
    Ok(Merged { data, backing_size })
}

/// Rebuilds a COW file of another version as V3, of the same size.
pub(super) fn make_v3<H: ImageHost + Clone>(
    host: &H,
    path: &Path,
    device: &mut Ordered<H::File>,
) -> Result<(), ImageError> {
    let image = backing_change::image(device).map_err(ImageError::resize(path))?;
    if image.header.version == Version::V3 {
        return Ok(());
    }
    let plan = plan_for(host, path, device, as_v3(image.geometry.size))?;
    let failed = ImageError::resize(path);
    let rebuild = PlannedResize::new(&plan, host.clone(), path, device).map_err(&failed)?;
    device.resize(Box::new(rebuild)).map_err(&failed)?;
    Ok(())
}

/// Copies every dirty sector into the backing file and makes that durable.
fn copy_dirty<F: HostFile>(cow: &CowImageFile<F>, watch: Watch<'_>) -> Result<Bytes, ImageError> {
    let device = &cow.device;
    let backing = backing_change::backing(device).map_err(ImageError::resize(&cow.path))?;
    let mut copying = Copying::into(Target::Anything, cow.at_once);
    let files = OnFiles {
        role: FileRole::Cow,
        source: device.cow(),
        target: backing,
    };
    let total = device.map().dirty_count().bytes();
    let mut done = Bytes(0);
    let whole = SectorRange::new(Sector(0), device.capacity());
    for run in device.map().dirty_runs(whole) {
        let mut at = run.start;
        while at < run.end() {
            let (place, rest) = device
                .placement()
                .place(SectorRange::between(at..run.end()));
            let source = FileRange::new(place, rest.count.bytes());
            let copied = copying
                .copy_now(files, source, FileOffset(at.bytes().0))
                .map_err(|failed| {
                    let (path, doing) = match failed.on {
                        End::Source => (&cow.path, "reading the COW file"),
                        End::Target => (&cow.backing_path, "writing the backing file"),
                    };
                    ImageError::host(path, doing, failed.at)(failed.error)
                })?;
            at += copied.whole_sectors();
            done += copied;
            report(watch, done, total)?;
        }
    }
    let syncing = ImageError::host(&cow.backing_path, "syncing", FileOffset(0));
    backing.sync_data().map_err(syncing)?;
    Ok(copying.copied())
}

/// Makes every sector clean, durably.
async fn empty<F: HostFile>(desk: &Desk<F>, geometry: &Geometry) -> Result<(), ResizeError> {
    let bitmap = geometry.bitmap();
    // Whole sectors are cleared: what lies between bitmap and data is a hole anyway.
    let end = bitmap.end().round_up(SECTOR_SIZE);
    desk.clear(FileRange::between(bitmap.start..end)).await?;
    desk.sync().await?;
    desk.look(|here| {
        let capacity = here.device().capacity();
        let map = here.map_mut();
        map.mark_clean(SectorRange::new(Sector(0), capacity));
        map.forget_changes();
    })
    .await
}

/// Gives the space of the data back. What cannot be given back lies there and does no harm: the
/// next check finds a leak.
async fn free_data<F: HostFile>(desk: &Desk<F>, geometry: &Geometry) -> Result<(), ResizeError> {
    let data = FileRange::new(geometry.data_offset, geometry.capacity().bytes());
    desk.free(data).await
}
