//! Copying what is dirty, once, into a new file beside the old one, which then takes the old
//! one's name. The device serves nothing meanwhile. Where the file system can share extents,
//! nothing is copied, and what lies between the dirty sectors is shared with them.
//!
//! | power goes after | a reader finds | recovery |
//! |---|---|---|
//! | the new file was created, filled in part or whole | the old file, untouched; a temporary one beside it that only its owner can open | the next rebuild removes the temporary file, or `recover` |
//! | the new file was given the old one's owner and mode | the old file; a temporary one that is as private | the same |
//! | the new file was synced | the same | the same |
//! | the rename | the old file or the new one, each whole | none needed |
//! | the sync of the directory | the new file | none needed |

use std::path::{Path, PathBuf};

use driver::cow::{Extension, Geometry, Header};
use driver::host::{HostFile, HostResult, LockKind, Replace};
use driver::open::{create_temporary, remove_temporary, temporary_name};
use driver::ordered::{CowImage, Hold, Ordered, PartialSector};
use driver::resize::{Resize, ResizeError, ResizeStep, Resized, Strategy};
use driver::units::{Bytes, FileOffset, FileRange, Sector, SectorCount, SectorRange};

use crate::at_once::AtOnce;
use crate::copying::{CopyAction, CopyError, Copying, Target};
use crate::image_host::ImageHost;
use crate::new_bitmap::next_piece;

/// A rebuild under way.
pub struct Rebuild<H: ImageHost> {
    host: H,
    path: PathBuf,
    new: Geometry,
    stage: Stage,
    file: Option<H::File>,
    image: Option<CowImage>,
    copying: Copying,
    /// How much has been copied or shared.
    passed: Bytes,
    old_size: Bytes,
    buffer: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Create the new file, with header and extension block.
    Create,
    /// Copy the dirty runs, from this sector on.
    Copy(Sector),
    /// Write the bitmap, from this page on.
    Bits(usize),
    /// Give the new file the old one's attributes, and sync it.
    Sync,
    /// Give it the old one's name, durably, and go on with it.
    Rename,
}

impl<H: ImageHost> Rebuild<H> {
    /// Prepares the rebuild of `device`, whose COW file is at `path` (not a symbolic link, for
    /// that would be what is replaced), into the layout `new`.
    ///
    /// # Errors
    /// [`ResizeError::Refused`] for a raw disk, or in the middle of a reflow.
    pub fn new(
        host: H,
        path: &Path,
        device: &Ordered<H::File>,
        new: Geometry,
    ) -> Result<Rebuild<H>, ResizeError> {
        let Some(image) = device.image() else {
            return Err(ResizeError::Refused("a raw disk cannot be rebuilt".into()));
        };
        if image.header.relocating {
            return Err(ResizeError::Refused(
                "an interrupted reflow has to be finished first".into(),
            ));
        }
        Ok(Rebuild {
            host,
            path: path.to_owned(),
            new,
            stage: Stage::Create,
            file: None,
            image: None,
            copying: Copying::into(Target::Hole),
            passed: Bytes(0),
            old_size: image.geometry.size,
            buffer: Vec::new(),
        })
    }

    /// Does this much in one go: for callers that want shorter steps, or more of them.
    #[must_use]
    pub fn with_at_once(mut self, at_once: AtOnce) -> Rebuild<H> {
        self.copying.set_at_once(at_once);
        self
    }

    /// How much has been copied or shared.
    pub fn passed(&self) -> Bytes {
        self.passed
    }

    /// Gives the rebuild up: the device goes on as it was, and the new file is removed.
    pub fn give_up(&mut self, device: &mut Ordered<H::File>) {
        self.abandon(device, device.capacity());
    }

    fn abandon(&mut self, device: &mut Ordered<H::File>, capacity: SectorCount) {
        device.set_hold(Hold::Nothing);
        if self.discard() {
            device.map_mut().shrink(capacity);
        }
    }

    fn do_stage(&mut self, device: &mut Ordered<H::File>) -> Result<ResizeStep, ResizeError> {
        // A flush that had begun may have failed since the last step: what is dirty in memory may
        // be gone from the file.
        if device.has_failed_sync() {
            return Err(ResizeError::SyncFailed);
        }
        match self.stage {
            Stage::Create => {
                device.set_hold(Hold::Everything);
                self.create(device)?;
                self.stage = Stage::Copy(Sector(0));
            }
            Stage::Copy(at) => self.copy(device, at)?,
            Stage::Bits(page) => self.write_bits(device, page)?,
            Stage::Sync => {
                self.complete(device)?;
                self.stage = Stage::Rename;
            }
            Stage::Rename => {
                self.rename(device)?;
                return Ok(ResizeStep::Done(Resized {
                    strategy: Strategy::Rebuild,
                    old_size: self.old_size,
                    new_size: self.new.size,
                    moved: self.copying.copied(),
                }));
            }
        }
        Ok(ResizeStep::Working)
    }

    fn create(&mut self, device: &Ordered<H::File>) -> Result<(), ResizeError> {
        let Some(old) = device.image() else {
            return Err(ResizeError::Refused("a raw disk cannot be rebuilt".into()));
        };
        let at = FileOffset(0);
        let header = Header::v3(
            old.header.backing_path(),
            old.header.backing_mtime,
            self.new.size,
            self.new.alignment,
        )
        .map_err(|error| ResizeError::Refused(error.to_string()))?;
        let file = create_temporary(&self.host, &temporary_name(&self.path))
            .map_err(|error| ResizeError::Refused(error.to_string()))?;
        let file = self.file.insert(file);
        let extension = old.extension.unwrap_or(Extension::new(old.header.size));
        let action = "writing the header of the new COW file";
        self.host.copy_storage_attributes(device.cow(), file);
        self.host
            .lock(file, LockKind::Exclusive)
            .and_then(|()| file.write_all_at(&header.encode(), at))
            .and_then(|()| file.write_all_at(&extension.encode(), Extension::OFFSET))
            .and_then(|()| file.set_len(self.new.data_end() - at))
            .map_err(ResizeError::host(action, at))?;
        self.image = Some(CowImage {
            header,
            extension: Some(extension),
            geometry: self.new,
        });
        Ok(())
    }

    /// Removes the new file if it has not got its name. Whether there was one.
    fn discard(&mut self) -> bool {
        let Some(file) = self.file.take() else {
            return false;
        };
        // A new file that stays does no harm; the next rebuild removes it, or a recovery.
        let _ = remove_temporary(&self.host, &temporary_name(&self.path), &file);
        true
    }

    fn file(&self) -> Result<&H::File, ResizeError> {
        self.file.as_ref().ok_or_else(not_there)
    }

    /// The sectors that the device had and will still have.
    fn kept_end(&self, device: &Ordered<H::File>) -> Sector {
        Sector(0) + device.capacity().min(self.new.capacity())
    }

    fn copy(&mut self, device: &mut Ordered<H::File>, at: Sector) -> Result<(), ResizeError> {
        let end = self.kept_end(device);
        let Some(run) = device.map().next_dirty(at, end) else {
            // New sectors are dirty: the backing file has nothing for them, but for the front of
            // the first, if the device ended within it.
            if let Some(partial) = PartialSector::to_carry(device, &self.new)? {
                self.file()?
                    .write_all_at(&partial.content, partial.at)
                    .map_err(ResizeError::host(PartialSector::WRITING, partial.at))?;
            }
            if self.new.capacity() > device.capacity() {
                device
                    .map_mut()
                    .grow(self.new.capacity())
                    .map_err(|error| ResizeError::Refused(error.to_string()))?;
            }
            self.stage = Stage::Bits(0);
            return Ok(());
        };
        let Some(file) = &self.file else {
            return Err(not_there());
        };
        if self.copying.may_share() {
            let (together, dirty) = shared_at_once(device, run.start, end, self.copying.step());
            let (start, together) = device.placement().place(together);
            let source = FileRange::new(start, together.count.bytes());
            let target = self.new.place_of(together.start);
            let shared = self.copying.share(device.cow(), source, file, target);
            if shared.map_err(copy_failed)? {
                self.passed += dirty;
                self.stage = Stage::Copy(together.end());
                return Ok(());
            }
        }
        let run = SectorRange::new(
            run.start,
            run.count.min(self.copying.step().whole_sectors()),
        );
        let (start, run) = device.placement().place(run);
        let source = FileRange::new(start, run.count.bytes());
        let target = self.new.place_of(run.start);
        let copied = self.copying.copy(device.cow(), source, file, target);
        let copied = copied.map_err(copy_failed)?;
        self.passed += copied;
        self.stage = Stage::Copy(run.start + copied.whole_sectors());
        Ok(())
    }

    fn write_bits(&mut self, device: &Ordered<H::File>, from: usize) -> Result<(), ResizeError> {
        let Some(piece) = next_piece(device.map(), &self.new, from, &mut self.buffer) else {
            self.stage = Stage::Sync;
            return Ok(());
        };
        self.file()?
            .write_all_at(&self.buffer, piece.at)
            .map_err(ResizeError::host("writing the new bitmap", piece.at))?;
        self.stage = Stage::Bits(piece.next_page);
        Ok(())
    }

    /// Until all of it is there the new file is its owner's alone: the old one may be private.
    fn complete(&self, device: &Ordered<H::File>) -> Result<(), ResizeError> {
        let (file, at) = (self.file()?, FileOffset(0));
        let action = "giving the new COW file the old one's owner and mode";
        self.host
            .copy_attributes(device.cow(), file)
            .map_err(ResizeError::host(action, at))?;
        // Owner and mode too, which a sync of the data may leave out.
        let action = "syncing the new COW file";
        self.host
            .sync_all(file)
            .map_err(ResizeError::host(action, at))
    }

    fn rename(&mut self, device: &mut Ordered<H::File>) -> Result<(), ResizeError> {
        let at = FileOffset(0);
        self.check_name(device)?;
        let temporary = temporary_name(&self.path);
        let action = "renaming the new COW file over the old one";
        if let Err(error) = self.host.rename(&temporary, &self.path, Replace::Existing) {
            // A server that has renamed it may not get the answer through. The name tells.
            match self.has_its_name() {
                Ok(true) => {}
                Ok(false) => return Err(ResizeError::host(action, at)(error)),
                // The device goes on with a file that may have no name any more.
                Err(_) => {
                    device.refuse_writes();
                    return Err(ResizeError::host(action, at)(error));
                }
            }
        }
        // The name is the new file's now, whatever comes: no error may undo that.
        let synced = self.host.sync_directory_of(&self.path);
        let (Some(file), Some(image)) = (self.file.take(), self.image.take()) else {
            return Err(not_there());
        };
        device.replace_cow(file, image);
        device.map_mut().shrink(self.new.capacity());
        device.set_hold(Hold::Nothing);
        if let Err(error) = synced {
            // A power cut may bring the old file back: nothing written now is durable.
            device.distrust();
            let action = "syncing the directory of the COW file";
            return Err(ResizeError::host(action, at)(error));
        }
        Ok(())
    }

    /// Whether the COW file's name is that of the new file.
    fn has_its_name(&self) -> HostResult<bool> {
        match &self.file {
            Some(new) => self.host.is_name_of(&self.path, new),
            None => Ok(false),
        }
    }

    /// Whether the name still is that of the file that was copied.
    fn check_name(&self, device: &Ordered<H::File>) -> Result<(), ResizeError> {
        let action = "examining the COW file's name";
        let examining = || ResizeError::host(action, FileOffset(0));
        if self
            .host
            .has_other_names(device.cow())
            .map_err(examining())?
        {
            return Err(ResizeError::Refused(
                "the COW file has got a second name (hard link) meanwhile, which would stay the \
                 old one's"
                    .into(),
            ));
        }
        let is_named = self.host.is_name_of(&self.path, device.cow());
        match is_named.map_err(examining())? {
            true => Ok(()),
            false => Err(ResizeError::Refused(
                "the COW file's name has been given to another file meanwhile".into(),
            )),
        }
    }
}

/// The dirty runs from `from` on as one range of at most `most`, and how much of it is dirty.
/// What lies in the clean sectors between them is a hole, but for what a crash has left there;
/// that is shared too, and does as little harm in the new file as in the old one.
fn shared_at_once<F: HostFile>(
    device: &Ordered<F>,
    from: Sector,
    until: Sector,
    most: Bytes,
) -> (SectorRange, Bytes) {
    let limit = until.min(from + most.whole_sectors());
    let (mut end, mut dirty) = (from, Bytes(0));
    for run in device.map().dirty_runs(SectorRange::between(from..limit)) {
        end = run.end();
        dirty += run.count.bytes();
    }
    (SectorRange::between(from..end), dirty)
}

fn copy_failed(failed: CopyError) -> ResizeError {
    let action = match failed.action {
        CopyAction::Read => "reading the data of the COW file",
        CopyAction::Write => "writing the new COW file",
    };
    ResizeError::host(action, failed.at)(failed.error)
}

fn not_there() -> ResizeError {
    ResizeError::Refused("the new file is not there".into())
}

impl<H: ImageHost> Resize<H::File> for Rebuild<H> {
    fn step(&mut self, device: &mut Ordered<H::File>) -> Result<ResizeStep, ResizeError> {
        if !device.lets_relocation_in() {
            return Ok(ResizeStep::Waiting);
        }
        let capacity = device.capacity();
        let result = self.do_stage(device);
        if result.is_err() {
            self.abandon(device, capacity);
        }
        result
    }
}

/// Whoever stops in the middle, in a panic too, leaves no new file behind. What a kill leaves,
/// the next rebuild removes.
impl<H: ImageHost> Drop for Rebuild<H> {
    fn drop(&mut self) {
        self.discard();
    }
}
