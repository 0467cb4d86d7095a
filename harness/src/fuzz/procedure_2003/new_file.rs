//! Into a new file: everything dirty is copied, and the new file takes the old one's name.
//! The guest waits from the first step to the last.

use std::path::Path;
use std::sync::Arc;

use driver::cow::{Extension, Geometry, Header};
use driver::host::{FileRole, HostFile, HostNames, OperationKind, Replace};
use driver::open::{create_temporary, temporary_name};
use driver::ordered::{CowImage, Desk, Hold, Procedure, Resize};
use driver::resize::{ResizeError, ResizeOutcome, Resized, Strategy};
use driver::units::{Bytes, FileOffset, Sector};
use userhelper::rebuild::{SYNCING, not_made};

use crate::fuzz::paths::COW;
use crate::sim::{SimFile, SimHost};

use super::{Model, ResizeDefect, bitmap, end_early, image, read, resize_map};

const WRITING: &str = "writing the new COW file";

/// A copy under way.
#[derive(Debug)]
pub struct NewFile {
    host: SimHost,
    model: Model,
    new: Geometry,
    stage: Stage,
    made: Option<(Arc<SimFile>, CowImage)>,
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

    /// Whether it is done.
    async fn do_stage(&mut self, desk: &Desk<SimFile>) -> Result<bool, ResizeError> {
        let at = FileOffset(0);
        let early = self.model.has(ResizeDefect::HeaderBeforeData);
        match self.stage {
            Stage::Create => {
                desk.look(|here| here.set_hold(Hold::Everything)).await?;
                self.create(desk).await?;
                self.stage = match early {
                    true => Stage::Rename,
                    false => Stage::Copy(Sector(0)),
                };
            }
            Stage::Copy(from) => self.copy(desk, from).await?,
            Stage::Bitmap => {
                let bits = bitmap(desk, &self.new, &self.model).await?;
                write(desk, bits, self.new.bitmap_offset).await?;
                self.stage = Stage::Sync;
            }
            Stage::Sync => {
                if !self.model.has(ResizeDefect::NoSyncBeforeRename) {
                    let synced = self.file()?.sync_data();
                    synced.map_err(ResizeError::host(OperationKind::SyncData, SYNCING, at))?;
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
                    .map_err(ResizeError::host(
                        OperationKind::Rename,
                        "renaming the new COW file",
                        at,
                    ))?;
                if !self.model.has(ResizeDefect::NoDirectorySync) {
                    self.host
                        .sync_directory_of(Path::new(COW))
                        .map_err(ResizeError::host(
                            OperationKind::SyncDirectory,
                            "syncing the directory",
                            at,
                        ))?;
                }
                if !early {
                    // In the same step: nothing may be written to the old file any more.
                    return self.replace(desk).await;
                }
                self.stage = Stage::Copy(Sector(0));
            }
            Stage::Replace => return self.replace(desk).await,
        }
        Ok(false)
    }

    async fn create(&mut self, desk: &Desk<SimFile>) -> Result<(), ResizeError> {
        desk.check_syncs().await?;
        let old = image(desk).await?;
        self.old_size = old.geometry.size;
        let header = Header::v3(
            old.header.backing_path(),
            old.header.backing_mtime,
            self.new.size,
            self.new.alignment,
        )
        .map_err(|error| ResizeError::Refused(error.to_string()))?;
        let extension = old.extension.unwrap_or(Extension::new(old.header.size));
        let temporary = temporary_name(Path::new(COW));
        let file = create_temporary(&self.host, &temporary).map_err(not_made)?;
        let image = CowImage {
            header: header.clone(),
            extension: Some(extension),
            geometry: self.new,
        };
        #[expect(
            clippy::arc_with_non_send_sync,
            reason = "a device keeps its files so, whichever host they are of"
        )]
        let file = Arc::new(file);
        self.made = Some((Arc::clone(&file), image));
        desk.look(move |here| here.set_new_file(Some(file))).await?;
        write(desk, header.encode(), FileOffset(0)).await?;
        desk.put_extension(FileRole::New, WRITING, extension)
            .await?;
        desk.set_new_len("lengthening the new COW file", self.new.data_end())
            .await
    }

    async fn copy(&mut self, desk: &Desk<SimFile>, from: Sector) -> Result<(), ResizeError> {
        let new_capacity = self.new.capacity();
        let next = desk.look(move |here| {
            let device = here.device();
            let end = Sector(0) + device.capacity().min(new_capacity);
            let run = device.map().next_dirty(from, end)?;
            Some(device.placement().place(run))
        });
        let Some((start, run)) = next.await? else {
            self.stage = Stage::Bitmap;
            return Ok(());
        };
        let content = read(desk, start, run.count.bytes()).await?;
        write(desk, content, self.new.place_of(run.start)).await?;
        self.moved += run.count.bytes();
        self.stage = Stage::Copy(run.end());
        Ok(())
    }

    async fn replace(&mut self, desk: &Desk<SimFile>) -> Result<bool, ResizeError> {
        let Some((_, image)) = self.made.take() else {
            return Err(ResizeError::Refused("the new file is not there".into()));
        };
        let (new, model) = (self.new, self.model.clone());
        desk.look(move |here| {
            resize_map(here, &new, &model)?;
            here.replace_cow(image);
            Ok(true)
        })
        .await?
    }

    async fn carry_out(mut self, desk: &Desk<SimFile>) -> ResizeOutcome {
        loop {
            match self.do_stage(desk).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => return end_early(desk, error).await,
            }
            if let Err(error) = desk.turn().await {
                return end_early(desk, error).await;
            }
        }
        Ok(Resized {
            strategy: Strategy::Rebuild,
            old_size: self.old_size,
            new_size: self.new.size,
            moved: self.moved,
        })
    }

    fn file(&self) -> Result<&SimFile, ResizeError> {
        match &self.made {
            Some((file, _)) => Ok(file),
            None => Err(ResizeError::Refused("the new file is not there".into())),
        }
    }
}

async fn write(desk: &Desk<SimFile>, data: Vec<u8>, at: FileOffset) -> Result<(), ResizeError> {
    desk.write(FileRole::New, WRITING, at, data).await.map(drop)
}

impl Resize<SimFile> for NewFile {
    fn begin(self: Box<Self>, desk: Desk<SimFile>) -> Procedure {
        Box::pin(async move { self.carry_out(&desk).await })
    }
}
