//! Into a new file: everything dirty is copied, and the new file takes the old one's name.
//! The guest waits from the first step to the last.

use std::path::Path;

use driver::cow::{Extension, Geometry, Header};
use driver::host::{HostFile, HostNames, Replace};
use driver::open::{create_temporary, temporary_name};
use driver::ordered::{CowImage, Hold, Ordered};
use driver::resize::{Resize, ResizeError, ResizeStep, Resized, Strategy};
use driver::units::{Bytes, FileOffset, Sector, SectorRange};

use crate::fuzz::device::COW;
use crate::sim::{SimFile, SimHost};

use super::{Model, ResizeDefect, bitmap, image, read};

/// A copy under way.
#[derive(Debug)]
pub struct NewFile {
    host: SimHost,
    model: Model,
    new: Geometry,
    stage: Stage,
    made: Option<(SimFile, CowImage)>,
    old_size: Bytes,
    moved: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Create the new file, with header and extension block.
    Create,
    /// Copy the first dirty run from this sector on.
    Copy(Sector),
    /// Write the bitmap.
    Bitmap,
    /// Make it durable.
    Sync,
    /// Give it the old one's name, durably.
    Rename,
    /// Go on with it.
    Replace,
}

impl NewFile {
    pub(super) fn new(host: SimHost, new: Geometry, model: Model) -> NewFile {
        NewFile {
            host,
            model,
            new,
            stage: Stage::Create,
            made: None,
            old_size: Bytes(0),
            moved: Bytes(0),
        }
    }

    fn do_stage(&mut self, device: &mut Ordered<SimFile>) -> Result<ResizeStep, ResizeError> {
        let at = FileOffset(0);
        let early = self.model.has(ResizeDefect::HeaderBeforeData);
        match self.stage {
            Stage::Create => {
                device.set_hold(Hold::Everything);
                self.create(device)?;
                self.stage = match early {
                    true => Stage::Rename,
                    false => Stage::Copy(Sector(0)),
                };
            }
            Stage::Copy(from) => self.copy(device, from)?,
            Stage::Bitmap => {
                let bits = bitmap(device, &self.new, &self.model);
                self.write(&bits, self.new.bitmap_offset)?;
                self.stage = Stage::Sync;
            }
            Stage::Sync => {
                if !self.model.has(ResizeDefect::NoSyncBeforeRename) {
                    let synced = self.file()?.sync_data();
                    synced.map_err(ResizeError::host("syncing the new COW file", at))?;
                }
                self.stage = match early {
                    true => Stage::Replace,
                    false => Stage::Rename,
                };
            }
            Stage::Rename => {
                let temporary = temporary_name(Path::new(COW));
                self.host
                    .rename(&temporary, Path::new(COW), Replace::Existing)
                    .map_err(ResizeError::host("renaming the new COW file", at))?;
                if !self.model.has(ResizeDefect::NoDirectorySync) {
                    self.host
                        .sync_directory_of(Path::new(COW))
                        .map_err(ResizeError::host("syncing the directory", at))?;
                }
                if !early {
                    // In the same step: nothing may be written to the old file any more.
                    return self.replace(device);
                }
                self.stage = Stage::Copy(Sector(0));
            }
            Stage::Replace => return self.replace(device),
        }
        Ok(ResizeStep::Working)
    }

    fn create(&mut self, device: &Ordered<SimFile>) -> Result<(), ResizeError> {
        let refused = |error: String| ResizeError::Refused(error);
        if device.has_failed_sync() {
            return Err(ResizeError::SyncFailed);
        }
        let old = image(device)?;
        self.old_size = old.geometry.size;
        let header = Header::v3(
            old.header.backing_path(),
            old.header.backing_mtime,
            self.new.size,
            self.new.alignment,
        )
        .map_err(|error| refused(error.to_string()))?;
        let extension = old.extension.unwrap_or(Extension::new(old.header.size));
        let file = create_temporary(&self.host, &temporary_name(Path::new(COW)))
            .map_err(|error| refused(error.to_string()))?;
        let image = CowImage {
            header: header.clone(),
            extension: Some(extension),
            geometry: self.new,
        };
        self.made = Some((file, image));
        self.write(&header.encode(), FileOffset(0))?;
        self.write(&extension.encode(), Extension::OFFSET)?;
        let end = self.new.data_end();
        let lengthened = self.file()?.set_len(end - FileOffset(0));
        lengthened.map_err(ResizeError::host("lengthening the new COW file", end))
    }

    fn copy(&mut self, device: &Ordered<SimFile>, from: Sector) -> Result<(), ResizeError> {
        let end = Sector(0) + device.capacity().min(self.new.capacity());
        let Some(run) = device.map().next_dirty(from, end) else {
            self.stage = Stage::Bitmap;
            return Ok(());
        };
        let (start, run) = device.placement().place(run);
        let content = read(device, start, run.count.bytes())?;
        self.write(&content, self.new.place_of(run.start))?;
        self.moved += run.count.bytes();
        self.stage = Stage::Copy(run.end());
        Ok(())
    }

    fn replace(&mut self, device: &mut Ordered<SimFile>) -> Result<ResizeStep, ResizeError> {
        let Some((file, image)) = self.made.take() else {
            return Err(ResizeError::Refused("the new file is not there".into()));
        };
        let old_end = device.capacity();
        let new_end = self.new.capacity();
        if new_end >= old_end {
            let refused = |error: driver::cow::MapTooLarge| ResizeError::Refused(error.to_string());
            device.map_mut().grow(new_end).map_err(refused)?;
            if self.model.has(ResizeDefect::TailLeftClean) {
                let tail = SectorRange::between(Sector(old_end.0)..Sector(new_end.0));
                device.map_mut().mark_clean(tail);
            }
        } else {
            device.map_mut().shrink(new_end);
        }
        device.replace_cow(file, image);
        device.set_hold(Hold::Nothing);
        Ok(ResizeStep::Done(Resized {
            strategy: Strategy::Rebuild,
            old_size: self.old_size,
            new_size: self.new.size,
            moved: self.moved,
        }))
    }

    fn write(&self, data: &[u8], at: FileOffset) -> Result<(), ResizeError> {
        let written = self.file()?.write_all_at(data, at);
        written.map_err(ResizeError::host("writing the new COW file", at))
    }

    fn file(&self) -> Result<&SimFile, ResizeError> {
        match &self.made {
            Some((file, _)) => Ok(file),
            None => Err(ResizeError::Refused("the new file is not there".into())),
        }
    }
}

impl Resize<SimFile> for NewFile {
    fn step(&mut self, device: &mut Ordered<SimFile>) -> Result<ResizeStep, ResizeError> {
        if !device.lets_relocation_in() {
            return Ok(ResizeStep::Waiting);
        }
        let result = self.do_stage(device);
        if result.is_err() {
            // The next opening finds out which file has the name.
            device.refuse_writes();
            device.set_hold(Hold::Nothing);
        }
        result
    }
}
