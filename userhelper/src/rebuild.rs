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
use std::sync::Arc;

use driver::cow::{Extension, Geometry, Header};
use driver::host::{
    FailedOperation, FileRole, HostFile, HostNames, LockKind, OperationKind, Replace,
};
use driver::open::{OpenError, Unnamed, create_temporary, temporary_name};
use driver::ordered::{CowImage, Desk, Hold, Ordered, PartialSector, Procedure, Resize};
use driver::resize::{ResizeError, ResizeOutcome, Resized, Strategy};
use driver::units::{Bytes, FileOffset, FileRange, Sector, SectorCount, SectorRange};

use crate::at_once::AtOnce;
use crate::copying::{CopyEnded, Copying, End, Target};
use crate::image_host::ImageHost;
use crate::new_bitmap::next_piece;
use crate::progress::Progress;

/// What a [`ResizeError`] says was being done, if the new file could not be synced.
pub const SYNCING: &str = "syncing the new COW file";

/// A rebuild that has not begun.
pub struct Rebuild<H: ImageHost> {
    host: H,
    path: PathBuf,
    new: Geometry,
    old_size: Bytes,
    at_once: AtOnce,
    progress: Progress,
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
            old_size: image.geometry.size,
            at_once: AtOnce::default(),
            progress: Progress::default(),
        })
    }

    /// Does this much in one go: for callers that want shorter steps, or more of them.
    #[must_use]
    pub fn with_at_once(mut self, at_once: AtOnce) -> Rebuild<H> {
        self.at_once = at_once;
        self
    }

    /// How far it has come, from whenever it has begun.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    async fn carry_out(self, desk: &Desk<H::File>) -> ResizeOutcome {
        desk.look(|here| here.set_hold(Hold::Everything)).await?;
        let seen = desk.look(|here| (here.device().image().cloned(), here.device().capacity()));
        let (Some(old), capacity) = seen.await? else {
            return Err(ResizeError::Refused("a raw disk cannot be rebuilt".into()));
        };
        let mut new_file = None;
        let rebuilt = self.rebuild(desk, &old, capacity, &mut new_file).await;
        if let Some(left) = new_file {
            drop(left);
            // The device goes on as it was.
            desk.follow(move |here| here.map_mut().shrink(capacity))
                .await?;
        }
        rebuilt.map(|copied| Resized {
            strategy: Strategy::Rebuild,
            old_size: self.old_size,
            new_size: self.new.size,
            moved: copied,
        })
    }

    /// How much was copied, and not shared.
    async fn rebuild<'a>(
        &'a self,
        desk: &Desk<H::File>,
        old: &CowImage,
        capacity: SectorCount,
        new_file: &mut Option<NewFile<'a, H>>,
    ) -> Result<Bytes, ResizeError> {
        desk.check_syncs().await?;
        let image = self.create(desk, old, new_file).await?;
        // Only now everything that is under way has to end.
        desk.turn().await?;
        // A flush that had begun may have failed meanwhile: what is dirty in memory may be gone
        // from the file.
        desk.check_syncs().await?;
        let copied = self.copy(desk, capacity).await?;
        // New sectors are dirty: the backing file has nothing for them, but for the front of
        // the first, if the device ended within it.
        if let Some(partial) = PartialSector::to_carry(desk, &self.new).await? {
            partial.write(desk, FileRole::New).await?;
        }
        let sectors = self.new.capacity();
        if sectors > capacity {
            desk.look(move |here| here.grow_map(sectors)).await??;
        }
        desk.pass().await?;
        self.write_bits(desk).await?;
        self.complete(desk, new_file).await?;
        desk.turn().await?;
        desk.check_syncs().await?;
        self.rename(desk, image, new_file).await?;
        Ok(copied)
    }

    /// Creates the new file, with header and extension block; what it says about itself.
    async fn create<'a>(
        &'a self,
        desk: &Desk<H::File>,
        old: &CowImage,
        new_file: &mut Option<NewFile<'a, H>>,
    ) -> Result<CowImage, ResizeError> {
        let at = FileOffset(0);
        let header = Header::v3(
            old.header.backing_path(),
            old.header.backing_mtime,
            self.new.size,
            self.new.alignment,
        )
        .map_err(|error| ResizeError::Refused(error.to_string()))?;
        let extension = old.extension.unwrap_or(Extension::new(old.header.size));
        let cow = desk.look(|here| here.cow()).await?;
        let temporary = temporary_name(&self.path);
        let file = create_temporary(&self.host, &temporary).map_err(not_made)?;
        let file = Arc::new(file);
        *new_file = Some(Unnamed::new(&self.host, &temporary, Arc::clone(&file)));
        self.host.copy_storage_attributes(&cow, &file);
        self.host
            .lock(&file, LockKind::Exclusive)
            .map_err(ResizeError::host(OperationKind::Lock, FILLING, at))?;
        desk.look(move |here| here.set_new_file(Some(file))).await?;
        desk.write(FileRole::New, FILLING, at, header.encode())
            .await?;
        desk.put_extension(FileRole::New, FILLING, extension)
            .await?;
        let doing = "changing the length of the new COW file";
        desk.set_new_len(doing, self.new.data_end()).await?;
        Ok(CowImage {
            header,
            extension: Some(extension),
            geometry: self.new,
        })
    }

    /// Copies the sectors that the device had and will still have; how much, without what is
    /// shared.
    async fn copy(
        &self,
        desk: &Desk<H::File>,
        capacity: SectorCount,
    ) -> Result<Bytes, ResizeError> {
        let end = Sector(0) + capacity.min(self.new.capacity());
        let mut copying = Copying::into(Target::Hole, self.at_once);
        let (mut at, mut passed) = (Sector(0), Bytes(0));
        loop {
            let (step, may_share) = (copying.step(), copying.may_share());
            let next = desk.look(move |here| Next::after(here.device(), at, end, step, may_share));
            let Some(next) = next.await? else {
                return Ok(copying.copied());
            };
            let target = self.new.place_of(next.sectors.start);
            if may_share {
                let shared = copying.share(desk, next.together(), target).await;
                if shared.map_err(copy_failed)? {
                    passed += next.dirty;
                    at = next.sectors.end();
                    self.progress.set_passed(passed);
                    desk.pass().await?;
                    continue;
                }
            }
            let copied = copying.copy(desk, next.run(copying.step()), target).await;
            let copied = copied.map_err(copy_failed)?;
            passed += copied;
            at = next.sectors.start + copied.whole_sectors();
            self.progress.set_passed(passed);
            desk.pass().await?;
        }
    }

    /// Writes the bitmap.
    async fn write_bits(&self, desk: &Desk<H::File>) -> Result<(), ResizeError> {
        let (mut page, mut buffer) = (0, Vec::new());
        loop {
            let (new, pages) = (self.new, self.at_once.pages());
            let piece = desk.look(move |here| {
                let piece = next_piece(here.device().map(), &new, (page, pages), &mut buffer);
                (piece, buffer)
            });
            let (Some(piece), bits) = piece.await? else {
                return Ok(());
            };
            let doing = "writing the new bitmap";
            buffer = desk.write(FileRole::New, doing, piece.at, bits).await?;
            page = piece.next_page;
            desk.pass().await?;
        }
    }

    /// Until all of it is there the new file is its owner's alone: the old one may be private.
    async fn complete(
        &self,
        desk: &Desk<H::File>,
        new_file: &Option<NewFile<'_, H>>,
    ) -> Result<(), ResizeError> {
        let cow = desk.look(|here| here.cow()).await?;
        let new_file = new_file.as_ref().ok_or_else(not_there)?;
        let (file, at) = (new_file.file(), FileOffset(0));
        let doing = "giving the new COW file the old one's owner and mode";
        self.host
            .copy_attributes(&cow, file)
            .map_err(ResizeError::host(OperationKind::CopyAttributes, doing, at))?;
        // Owner and mode too, which a sync of the data may leave out.
        self.host
            .sync_all(file)
            .map_err(ResizeError::host(OperationKind::SyncData, SYNCING, at))
    }

    /// Gives the new file the old one's name, durably, and goes on with it.
    async fn rename(
        &self,
        desk: &Desk<H::File>,
        image: CowImage,
        new_file: &mut Option<NewFile<'_, H>>,
    ) -> Result<(), ResizeError> {
        let at = FileOffset(0);
        let cow = desk.look(|here| here.cow()).await?;
        self.check_name(&cow)?;
        let made = new_file.as_ref().ok_or_else(not_there)?;
        let temporary = temporary_name(&self.path);
        let doing = "renaming the new COW file over the old one";
        let renaming = ResizeError::host(OperationKind::Rename, doing, at);
        if let Err(error) = self.host.rename(&temporary, &self.path, Replace::Existing) {
            // A server that has renamed it may not get the answer through. The name tells.
            match self.has_its_name(made.file()) {
                Ok(true) => {}
                Ok(false) => return Err(renaming(error)),
                // The device goes on with a file that may have no name any more.
                Err(_) => {
                    desk.follow(|here| here.refuse_writes()).await?;
                    return Err(renaming(error));
                }
            }
        }
        // The name is the new file's now, whatever comes: no error may undo that.
        let synced = self.host.sync_directory_of(&self.path);
        let (sectors, is_synced) = (self.new.capacity(), synced.is_ok());
        // The old file is closed where nothing looks at the device.
        drop(cow);
        if let Some(named) = new_file.take() {
            named.has_its_name();
        }
        let replaced = desk.follow(move |here| {
            let replaced = here.replace_cow(image);
            here.map_mut().shrink(sectors);
            if !is_synced {
                // A power cut may bring the old file back: nothing written now is durable.
                here.distrust();
            }
            replaced
        });
        if !replaced.await? {
            return Err(not_there());
        }
        let doing = "syncing the directory of the COW file";
        synced.map_err(ResizeError::host(OperationKind::SyncDirectory, doing, at))
    }

    /// Whether the COW file's name is that of the new file.
    fn has_its_name(&self, new: &H::File) -> Result<bool, FailedOperation> {
        self.host.is_name_of(&self.path, new)
    }

    /// Whether the name still is that of the file that was copied.
    fn check_name(&self, cow: &H::File) -> Result<(), ResizeError> {
        let doing = "examining the COW file's name";
        let at = FileOffset(0);
        let has_others = self.host.has_other_names(cow);
        let examining = ResizeError::host(OperationKind::Metadata, doing, at);
        if has_others.map_err(examining)? {
            return Err(ResizeError::Refused(
                "the COW file has got a second name (hard link) meanwhile, which would stay the \
                 old one's"
                    .into(),
            ));
        }
        let is_named = self.host.is_name_of(&self.path, cow);
        match is_named.map_err(ResizeError::failed(doing, at))? {
            true => Ok(()),
            false => Err(ResizeError::Refused(
                "the COW file has lost its name meanwhile: somebody has moved it, removed it or \
                 given the name to another file"
                    .into(),
            )),
        }
    }
}

/// What is being done, for an error.
const FILLING: &str = "writing the header of the new COW file";

/// What is copied next.
#[derive(Clone, Copy, Debug)]
struct Next {
    /// The dirty runs that go together if extents can be shared; otherwise one run.
    sectors: SectorRange,
    /// The first run of them.
    first: SectorCount,
    /// How much of them is dirty.
    dirty: Bytes,
    /// Where they are in the COW file.
    place: FileOffset,
}

impl Next {
    /// From `from` on, before `until`, at most `most`.
    ///
    /// What lies in the clean sectors between dirty runs is a hole, but for what a crash has left
    /// there; that is shared too, and does as little harm in the new file as in the old one.
    fn after<F: HostFile>(
        device: &Ordered<F>,
        from: Sector,
        until: Sector,
        most: Bytes,
        may_share: bool,
    ) -> Option<Next> {
        let first = device.map().next_dirty(from, until)?;
        let limit = until.min(first.start + most.whole_sectors());
        let (mut end, mut dirty) = (first.end().min(limit), Bytes(0));
        if may_share {
            let range = SectorRange::between(first.start..limit);
            for run in device.map().dirty_runs(range) {
                end = run.end();
                dirty += run.count.bytes();
            }
        }
        let sectors = SectorRange::between(first.start..end);
        let (place, sectors) = device.placement().place(sectors);
        Some(Next {
            sectors,
            first: first.count,
            dirty,
            place,
        })
    }

    fn together(&self) -> FileRange {
        FileRange::new(self.place, self.sectors.count.bytes())
    }

    /// The first run, at most `most` of it.
    fn run(&self, most: Bytes) -> FileRange {
        let count = self.first.min(self.sectors.count);
        FileRange::new(self.place, count.bytes().min(most))
    }
}

/// The new file as long as it has not got its name.
type NewFile<'a, H> = Unnamed<'a, H, Arc<<H as HostNames>::File>>;

fn copy_failed(ended: CopyEnded<ResizeError>) -> ResizeError {
    let failed = match ended {
        CopyEnded::Failed(failed) => failed,
        CopyEnded::Stopped(stopped) => return stopped,
    };
    let doing = match failed.on {
        End::Source => "reading the data of the COW file",
        End::Target => "writing the new COW file",
    };
    ResizeError::host(failed.kind, doing, failed.at)(failed.error)
}

/// Why there is no new file.
pub fn not_made(error: OpenError) -> ResizeError {
    match error {
        OpenError::Host { kind, error, .. } => {
            ResizeError::host(kind, "creating the new COW file", FileOffset(0))(error)
        }
        error => ResizeError::Refused(error.to_string()),
    }
}

fn not_there() -> ResizeError {
    ResizeError::Refused("the new file is not there".into())
}

impl<H: ImageHost> Resize<H::File> for Rebuild<H> {
    fn begin(self: Box<Self>, desk: Desk<H::File>) -> Procedure {
        Box::pin(async move { self.carry_out(&desk).await })
    }
}
