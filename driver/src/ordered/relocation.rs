//! What a relocation may do to an open device within one look, and nobody else may: keep requests
//! out of the window being moved, say where data is now, let the map grow, and put a new layout in
//! force once it is durable. Only the device makes one, for the procedure that it carries on with.

use std::path::Path;
use std::sync::Arc;

use crate::cow::{Extension, SectorMap};
use crate::host::HostFile;
use crate::name_backing::{NotNamed, name_backing};
use crate::resize::ResizeError;
use crate::units::{FileOffset, Sector, SectorCount, SectorRange};

use super::{CowImage, Hold, Ordered, Placement};

const HALF_NAMED: &str =
    "writing the header of the COW file, which `ubdlab image recover` has to finish now";

/// A look at an open device.
#[derive(Debug)]
pub struct Relocation<'a, F> {
    device: &'a mut Ordered<F>,
}

impl<'a, F> Relocation<'a, F> {
    pub(super) fn of(device: &'a mut Ordered<F>) -> Relocation<'a, F> {
        Relocation { device }
    }
}

impl<F: HostFile> Relocation<'_, F> {
    /// The device as it is.
    pub fn device(&self) -> &Ordered<F> {
        self.device
    }

    /// The COW file, for what happens to names.
    pub fn cow(&self) -> Arc<F> {
        Arc::clone(&self.device.files.cow)
    }

    /// Keeps requests out, or lets them in again. When the procedure ends, none is kept out.
    pub fn set_hold(&mut self, hold: Hold) {
        self.device.engine.set_hold(hold);
    }

    /// Says where things are from now on.
    ///
    /// # Panics
    /// While a publication is half done: it has to be within a turn.
    pub fn set_placement(&mut self, placement: Placement) {
        let publishes = self.device.engine.is_publishing();
        assert!(!publishes, "a publication is half done");
        self.device.engine.placement = placement;
    }

    /// The map, to let it grow or shrink ahead of the device.
    pub fn map_mut(&mut self) -> &mut SectorMap {
        &mut self.device.engine.map
    }

    /// Lets the map grow ahead of the device.
    ///
    /// # Errors
    /// [`ResizeError::Refused`] if there is no memory for so large a map.
    pub fn grow_map(&mut self, sectors: SectorCount) -> Result<(), ResizeError> {
        let grown = self.map_mut().grow(sectors);
        grown.map_err(|error| ResizeError::Refused(error.to_string()))
    }

    /// Remembers what is in the place of the extension block now.
    pub fn set_extension(&mut self, extension: Option<Extension>) {
        if let Some(image) = &mut self.device.image {
            image.extension = extension;
        }
    }

    /// Remembers whether the header on the disk says that a reflow is under way.
    pub(super) fn set_relocating(&mut self, relocating: bool) {
        if let Some(image) = &mut self.device.image {
            image.header.relocating = relocating;
        }
    }

    /// Puts a durable new layout in force: from now on the device has its size.
    pub fn commit(&mut self, image: CowImage, placement: Placement) {
        self.set_placement(placement);
        self.set_capacity(image.geometry.capacity(), image.geometry.mapped());
        self.device.image = Some(image);
    }

    /// Takes the file that a rebuild makes, or gives it back.
    pub fn set_new_file(&mut self, file: Option<Arc<F>>) {
        self.device.files.new = file;
    }

    /// Swaps in the new file, which has the same content, durable, and the layout that it has.
    /// The old one, with its lock, is closed. Whether there was a new file.
    pub fn replace_cow(&mut self, image: CowImage) -> bool {
        let Some(new) = self.device.files.new.take() else {
            return false;
        };
        let placement = Placement::settled(&image.geometry);
        self.commit(image, placement);
        self.device.engine.durability.start_anew();
        self.device.engine.map.forget_changes();
        self.device.files.cow = new;
        true
    }

    /// Treats the device as after a failed sync: what is on the disk is not known, so nothing
    /// is acknowledged as durable and no bit published until it is opened again.
    pub fn distrust(&mut self) {
        self.device.engine.durability.failed = true;
    }

    /// Takes no writes any more until it is opened again, and distrusts the device. A record that
    /// says where data is may or may not be on the disk. Wherever a write went, it might go over
    /// data that was flushed long ago.
    pub fn refuse_writes(&mut self) {
        self.distrust();
        self.device.engine.admission.read_only = true;
    }

    /// Offers `capacity` sectors from now on, of which the first `mapped` can be written.
    pub(super) fn set_capacity(&mut self, capacity: SectorCount, mapped: SectorCount) {
        self.device.engine.admission.end = Sector(0) + capacity;
        self.device.engine.admission.mapped_end = Sector(0) + mapped;
    }

    /// Where the data of the device's last sector ends that is dirty or about to be, if that is
    /// past `len`; otherwise any offset up to `len`.
    pub(super) fn end_of_data_past(&self, len: FileOffset) -> FileOffset {
        let engine = &self.device.engine;
        let end_of = |sector| engine.placement.place_of(sector) + SectorCount(1).bytes();
        let device = SectorRange::new(Sector(0), engine.capacity());
        // Places go up with the sectors' numbers, also while a reflow is under way.
        let last = Sector(device.end().0.saturating_sub(1));
        if end_of(last) <= len {
            return len;
        }
        let last_dirty = engine.map.dirty_runs(device).last();
        let written = last_dirty.into_iter().chain(engine.being_written());
        let end = written.map(|range| range.end()).max();
        match end.filter(|end| *end > Sector(0)) {
            Some(end) => end_of(Sector(end.0 - 1)),
            None => FileOffset(0),
        }
    }

    /// Makes the header name another backing file, with this time, durably, within the look; see
    /// [`crate::cow::HeaderChange`] for what an interruption leaves. For tools that have the
    /// device for themselves.
    ///
    /// # Errors
    /// [`ResizeError::Refused`] if the header cannot be changed so; the host's, and then the
    /// device is not trusted until it is opened again.
    pub fn name_backing(&mut self, path: &Path, mtime: u32) -> Result<(), ResizeError> {
        if self.device.engine.durability.failed {
            return Err(ResizeError::SyncFailed);
        }
        self.device.engine.durability.note_change();
        let named = name_backing(&*self.device.files.cow, path, mtime);
        let (doing, at, failed) = match named {
            Ok(()) => {
                if let Some(image) = &mut self.device.image
                    && let Ok(header) = image.header.with_backing(path, mtime)
                {
                    image.header = header;
                }
                return Ok(());
            }
            Err(NotNamed::Header(error)) => return Err(ResizeError::Refused(error.to_string())),
            Err(NotNamed::Host { at, failed }) => {
                ("writing the header of the COW file", at, failed)
            }
            Err(NotNamed::HalfDone { at, failed }) => (HALF_NAMED, at, failed),
        };
        self.distrust();
        Err(ResizeError::failed(doing, at)(failed))
    }
}
