//! What a relocation may do to an open device, and nothing else may: look at its map, keep
//! requests out of the window being moved, say where data is now, and put a new layout in
//! force once it is durable.

use std::path::Path;
use std::sync::Arc;

use crate::cow::{Extension, Geometry, Header, SectorMap};
use crate::host::{HostError, HostFile, clear};
use crate::name_backing::{NotNamed, name_backing};
use crate::resize::ResizeError;
use crate::units::{Bytes, FileOffset, FileRange, Sector, SectorCount, SectorRange};

use super::{CowImage, Hold, Ordered, Placement};

const HALF_NAMED: &str =
    "writing the header of the COW file, which `ubdlab image recover` has to finish now";

/// A header that was not committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotCommitted {
    /// Why.
    pub error: ResizeError,
    /// Whether the former header is on the disk for certain. Otherwise either may be.
    pub undone: bool,
}

impl From<NotCommitted> for ResizeError {
    fn from(not_committed: NotCommitted) -> ResizeError {
        not_committed.error
    }
}

impl<F: HostFile> Ordered<F> {
    /// The COW file.
    pub fn cow(&self) -> &F {
        &self.files.cow
    }

    /// The backing file, if it is open.
    pub fn backing(&self) -> Option<&F> {
        self.files.backing.as_deref()
    }

    /// Whether a publication is half done.
    pub fn is_publishing(&self) -> bool {
        self.engine.is_publishing()
    }

    /// Whether a relocation may look at the device and change it now. It waits while a publication
    /// is half done, which knows where the bitmap was when it began, and while a request is under
    /// way that [`Ordered::set_hold`] keeps out; the next publication then waits for it.
    pub fn lets_relocation_in(&mut self) -> bool {
        self.engine.lets_relocation_in()
    }

    /// Keeps requests out, or lets them in again.
    pub fn set_hold(&mut self, hold: Hold) {
        self.engine.set_hold(hold);
    }

    /// Whether the device takes no writes.
    pub fn is_read_only(&self) -> bool {
        self.engine.admission.read_only
    }

    /// Where things are.
    pub fn placement(&self) -> &Placement {
        &self.engine.placement
    }

    /// Says where things are from now on.
    ///
    /// # Panics
    /// While a publication is half done.
    pub fn set_placement(&mut self, placement: Placement) {
        assert!(!self.engine.is_publishing(), "a publication is half done");
        self.engine.placement = placement;
    }

    /// Syncs the COW file. A failure counts as the device's own: nothing is acknowledged
    /// as durable any more.
    ///
    /// # Errors
    /// The host's, or [`ResizeError::SyncFailed`] if a sync has failed before.
    pub fn sync_for_relocation(&mut self) -> Result<(), ResizeError> {
        if self.engine.durability.failed {
            return Err(ResizeError::SyncFailed);
        }
        self.sync_to_undo()
    }

    /// Writes to the COW file outside the data area's current places.
    ///
    /// # Errors
    /// The host's, with `action` and the offset.
    pub fn write_for_relocation(
        &mut self,
        action: &'static str,
        data: &[u8],
        at: FileOffset,
    ) -> Result<(), ResizeError> {
        self.engine.durability.note_change();
        self.files
            .cow
            .write_all_at(data, at)
            .map_err(ResizeError::host(action, at))
    }

    /// Writes the header's first sector, which holds every field but the end of the path, and
    /// syncs. Both layouts are whole on either side of that write, and it is one sector, so
    /// that it commits. The device in memory follows only where the header is about whether a
    /// reflow is under way; [`Ordered::commit`] does the rest.
    ///
    /// # Errors
    /// The host's. The former header is put back then, and if that fails too the device is
    /// not trusted until it is opened again: nobody knows which of the two is on the disk.
    pub fn commit_header(&mut self, header: &Header) -> Result<(), NotCommitted> {
        if self.engine.durability.failed {
            let error = ResizeError::SyncFailed;
            return Err(NotCommitted {
                error,
                undone: true,
            });
        }
        let Some(former) = self.image.as_ref().map(|image| image.header.clone()) else {
            let error = ResizeError::Refused("a raw disk has no header".into());
            return Err(NotCommitted {
                error,
                undone: true,
            });
        };
        self.put_header(header).map_err(|error| {
            let undone = self.put_header(&former).is_ok();
            if !undone {
                self.distrust();
            }
            NotCommitted { error, undone }
        })
    }

    /// Writes the header's first sector and syncs it, also after a sync has failed: what was
    /// unsynced then may be lost, but not what is written now.
    ///
    /// # Errors
    /// The host's. Nobody knows then which header is on the disk.
    pub fn put_header(&mut self, header: &Header) -> Result<(), ResizeError> {
        let action = "writing the header of the COW file";
        self.write_for_relocation(action, &header.first_sector(), FileOffset(0))?;
        self.sync_to_undo()?;
        if let Some(image) = &mut self.image {
            image.header.relocating = header.relocating;
        }
        Ok(())
    }

    /// Makes the header name another backing file, with this time, durably; see
    /// [`crate::cow::HeaderChange`] for what an interruption leaves.
    ///
    /// # Errors
    /// [`ResizeError::Refused`] if the header cannot be changed so; the host's, and then the
    /// device is not trusted until it is opened again.
    pub fn name_backing(&mut self, path: &Path, mtime: u32) -> Result<(), ResizeError> {
        if self.engine.durability.failed {
            return Err(ResizeError::SyncFailed);
        }
        self.engine.durability.note_change();
        let named = name_backing(self.cow(), path, mtime);
        let (action, at, error) = match named {
            Ok(()) => {
                if let Some(image) = &mut self.image
                    && let Ok(header) = image.header.with_backing(path, mtime)
                {
                    image.header = header;
                }
                return Ok(());
            }
            Err(NotNamed::Header(error)) => return Err(ResizeError::Refused(error.to_string())),
            Err(NotNamed::Host { at, error }) => ("writing the header of the COW file", at, error),
            Err(NotNamed::HalfDone { at, error }) => (HALF_NAMED, at, error),
        };
        self.distrust();
        Err(ResizeError::host(action, at)(error))
    }

    /// Syncs the COW file, whether or not a sync has failed before. For what is put back
    /// where a resize ends early: it is durable then, whatever else has been lost.
    ///
    /// # Errors
    /// The host's.
    pub fn sync_to_undo(&mut self) -> Result<(), ResizeError> {
        self.engine.statistics.syncs += 1;
        let covers = self.engine.durability.begin_sync();
        let synced = self.files.cow.sync_data();
        self.engine.durability.end_sync(covers, synced.is_ok());
        synced.map_err(ResizeError::host("syncing the COW file", FileOffset(0)))
    }

    /// Whether a sync has failed, so that nothing is acknowledged as durable any more.
    pub fn has_failed_sync(&self) -> bool {
        self.engine.durability.failed
    }

    /// Makes a range of the COW file read as zeros, freeing its space where the host can.
    ///
    /// # Errors
    /// The host's.
    pub fn clear_for_relocation(&mut self, range: FileRange) -> Result<(), ResizeError> {
        self.engine.durability.note_change();
        clear(self.cow(), range).map_err(ResizeError::host(
            "clearing a range of the COW file",
            range.start,
        ))
    }

    /// Gives the space of a range back that nobody needs any more.
    ///
    /// # Errors
    /// The host's; what lies in the range is then what was there.
    pub fn free_for_relocation(&mut self, range: FileRange) -> Result<(), HostError> {
        self.engine.durability.note_change();
        self.files.cow.punch_hole(range)
    }

    /// Changes the length of the COW file, and never cuts off data: what the last dirty sector
    /// of the device needs stays, whatever `len` says. Between two steps the guest may have
    /// written past a length that was right before them.
    ///
    /// # Errors
    /// The host's.
    pub fn set_cow_len(&mut self, len: FileOffset) -> Result<(), ResizeError> {
        let len = len.max(self.end_of_data_past(len));
        self.set_len(len)
    }

    /// Changes the length of a raw disk, all of whose sectors are dirty: a shrink cuts them off.
    ///
    /// # Errors
    /// The host's.
    pub(super) fn set_raw_len(&mut self, len: Bytes) -> Result<(), ResizeError> {
        self.set_len(FileOffset(0) + len)
    }

    fn set_len(&mut self, len: FileOffset) -> Result<(), ResizeError> {
        self.engine.durability.note_change();
        self.files
            .cow
            .set_len(len - FileOffset(0))
            .map_err(ResizeError::host(
                "changing the length of the COW file",
                len,
            ))
    }

    /// Where the data of the device's last sector ends that is dirty or about to be, if that is
    /// past `len`; otherwise any offset up to `len`.
    fn end_of_data_past(&self, len: FileOffset) -> FileOffset {
        let end_of = |sector| self.engine.placement.place_of(sector) + SectorCount(1).bytes();
        let device = SectorRange::new(Sector(0), self.capacity());
        // Places go up with the sectors' numbers, also while a reflow is under way.
        let last = Sector(device.end().0.saturating_sub(1));
        if end_of(last) <= len {
            return len;
        }
        let last_dirty = self.engine.map.dirty_runs(device).last();
        let written = last_dirty.into_iter().chain(self.engine.being_written());
        let end = written.map(|range| range.end()).max();
        match end.filter(|end| *end > Sector(0)) {
            Some(end) => end_of(Sector(end.0 - 1)),
            None => FileOffset(0),
        }
    }

    /// Treats the device as after a failed sync: what is on the disk is not known, so nothing
    /// is acknowledged as durable and no bit published until it is opened again.
    pub fn distrust(&mut self) {
        self.engine.durability.failed = true;
    }

    /// Takes no writes any more until it is opened again, and distrusts the device. A record that
    /// says where data is may or may not be on the disk. Wherever a write went, it might go over
    /// data that was flushed long ago.
    pub fn refuse_writes(&mut self) {
        self.distrust();
        self.engine.admission.read_only = true;
    }

    /// The map, to let it grow or shrink ahead of the device.
    pub fn map_mut(&mut self) -> &mut SectorMap {
        &mut self.engine.map
    }

    /// Remembers what is in the place of the extension block now.
    pub fn set_extension(&mut self, extension: Option<Extension>) {
        if let Some(image) = &mut self.image {
            image.extension = extension;
        }
    }

    /// Puts a durable new layout in force: from now on the device has its size.
    pub fn commit(&mut self, image: CowImage, placement: Placement) {
        self.set_placement(placement);
        self.set_capacity(image.geometry.capacity(), image.geometry.mapped());
        self.image = Some(image);
    }

    /// Swaps in another COW file with the same content, durable, and the layout that it has.
    /// The old one, with its lock, is closed.
    pub fn replace_cow(&mut self, cow: F, image: CowImage) {
        let placement = Placement::settled(&image.geometry);
        self.commit(image, placement);
        self.engine.durability.start_anew();
        self.engine.map.forget_changes();
        self.files.cow = Arc::new(cow);
    }

    /// Offers `capacity` sectors from now on, of which the first `mapped` can be written.
    pub(super) fn set_capacity(&mut self, capacity: SectorCount, mapped: SectorCount) {
        self.engine.admission.end = Sector(0) + capacity;
        self.engine.admission.mapped_end = Sector(0) + mapped;
    }

    /// The layout in force; `None` for a raw disk.
    pub fn geometry(&self) -> Option<Geometry> {
        self.image.as_ref().map(|image| image.geometry)
    }
}
