//! In place: the data moves towards the end of the file, the last window first. Where the new
//! bitmap has room in the old one's place, nothing moves and the same stages are passed
//! through with nothing to copy.
//!
//! A window is copied, synced, recorded, synced; then the next. What the guest asks for
//! during a window waits if it touches that. Before the first window and after the last one
//! everything waits.

use driver::cow::{Geometry, JournalRecord};
use driver::host::FileRole;
use driver::ordered::{CowImage, Desk, Hold, Placement, Procedure, Resize};
use driver::resize::{ResizeError, ResizeOutcome, Resized, Strategy};
use driver::units::{Bytes, FileOffset, FileRange, Sector, SectorCount, SectorRange};

use crate::sim::SimFile;

use super::{Model, ResizeDefect, bitmap, end_early, image, read, resize_map};

/// A move under way.
#[derive(Debug)]
pub struct InPlace {
    model: Model,
    old: Geometry,
    new: Geometry,
    window: SectorCount,
    record: JournalRecord,
    stage: Stage,
    moved: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Make room after the old data, and write extension block and first record.
    Prepare,
    /// Mark the header.
    Mark,
    /// Keep the guest out of the next window.
    Choose,
    /// Copy what is dirty in it.
    Copy(SectorRange),
    /// Make the copy durable.
    Sync(SectorRange),
    /// Say that it is moved.
    Record(SectorRange),
    /// Write the new bitmap.
    Bitmap,
    /// Commit the new header.
    Header,
    /// Shrinking: clear what is past the new end.
    Tidy,
}

impl InPlace {
    pub(super) fn new(old: Geometry, new: Geometry, window: SectorCount, model: Model) -> InPlace {
        InPlace {
            model,
            old,
            new,
            window,
            record: JournalRecord {
                sequence: 1,
                frontier: Sector(0) + old.capacity(),
                old_size: old.size,
                old_alignment: old.alignment,
                new_size: new.size,
                new_alignment: new.alignment,
            },
            stage: Stage::Prepare,
            moved: Bytes(0),
        }
    }

    fn has(&self, defect: ResizeDefect) -> bool {
        self.model.has(defect)
    }

    fn distance(&self) -> SectorCount {
        (self.new.data_offset - self.old.data_offset).whole_sectors()
    }

    fn moves(&self) -> bool {
        self.distance() > SectorCount(0)
    }

    fn grows(&self) -> bool {
        self.new.capacity() >= self.old.capacity()
    }

    async fn do_stage(&mut self, desk: &Desk<SimFile>) -> Result<bool, ResizeError> {
        match self.stage {
            Stage::Prepare => self.prepare(desk).await?,
            Stage::Mark => self.mark(desk).await?,
            Stage::Choose => self.choose(desk).await?,
            Stage::Copy(window) => self.copy(desk, window).await?,
            Stage::Sync(window) => {
                self.sync(desk).await?;
                self.stage = Stage::Record(window);
            }
            Stage::Record(window) => self.write_record(desk, window).await?,
            Stage::Bitmap => self.write_bitmap(desk).await?,
            Stage::Header => {
                self.put_in_force(desk).await?;
                if self.grows() {
                    return Ok(true);
                }
                self.stage = Stage::Tidy;
            }
            Stage::Tidy => {
                self.tidy(desk).await?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn prepare(&mut self, desk: &Desk<SimFile>) -> Result<(), ResizeError> {
        desk.look(|here| here.set_hold(Hold::Everything)).await?;
        // What the guest was told is written, and what its bits say, may go to the disk now.
        self.sync(desk).await?;
        if self.grows() {
            self.make_room(desk).await?;
        }
        desk.need_extension(&image(desk).await?).await?;
        if self.moves() && !self.model.spillner {
            let mut slots = vec![0; JournalRecord::SLOTS_LEN];
            let at = (self.record.slot_offset() - JournalRecord::slots_offset()).0 as usize;
            let record = self.record.encode();
            slots[at..at + record.len()].copy_from_slice(&record);
            let action = "writing the journal";
            desk.write(FileRole::Cow, action, JournalRecord::slots_offset(), slots)
                .await?;
        }
        self.sync(desk).await?;
        self.stage = match self.moves() {
            true => Stage::Mark,
            false if self.grows() => Stage::Bitmap,
            false => Stage::Header,
        };
        Ok(())
    }

    /// Makes what lies past the old data read as zeros.
    async fn make_room(&self, desk: &Desk<SimFile>) -> Result<(), ResizeError> {
        let old_end = self.old.place_of(Sector(0) + self.old.capacity());
        if !self.has(ResizeDefect::StaleBitsAfterShrinkThenGrow) {
            desk.set_cow_len(old_end).await?;
            return desk.set_cow_len(self.new.data_end()).await;
        }
        let found = desk.len(FileRole::Cow, "examining the COW file").await?;
        let long_enough = (self.new.data_end() - FileOffset(0)).max(found);
        desk.set_cow_len(FileOffset(0) + long_enough).await?;
        let bits = read(desk, self.old.bitmap_offset, self.new.bitmap_len).await?;
        for sector in self.old.capacity().0..self.new.capacity().0 {
            let ready = bits[(sector / 8) as usize] >> (sector % 8) & 1 == 1;
            if !ready {
                let place = self.old.place_of(Sector(sector));
                let sector = FileRange::new(place, SectorCount(1).bytes());
                desk.clear(sector).await?;
            }
        }
        Ok(())
    }

    async fn mark(&mut self, desk: &Desk<SimFile>) -> Result<(), ResizeError> {
        let mut header = image(desk).await?.header;
        if self.has(ResizeDefect::HeaderBeforeData) {
            header.size = self.new.size;
            header.alignment = self.new.alignment;
            desk.commit_header(&header).await?;
        } else if !self.model.spillner {
            header.relocating = true;
            desk.commit_header(&header).await?;
        }
        self.place(desk).await?;
        self.stage = Stage::Choose;
        Ok(())
    }

    /// Tells the device where data is now.
    async fn place(&self, desk: &Desk<SimFile>) -> Result<(), ResizeError> {
        if !self.has(ResizeDefect::IoToOldLocationDuringMove) {
            let placement = Placement::moving(&self.old, &self.new, self.record.frontier);
            desk.look(move |here| here.set_placement(placement)).await?;
        }
        Ok(())
    }

    /// The next window ends where the last dirty sector below the frontier does, and is not
    /// longer than the distance moved. Forwards, all is one window.
    async fn choose(&mut self, desk: &Desk<SimFile>) -> Result<(), ResizeError> {
        let frontier = self.record.frontier;
        let last = desk.look(move |here| {
            let dirty = |sector: &u64| here.device().map().is_dirty(Sector(*sector));
            (0..frontier.0).rev().find(dirty)
        });
        let Some(last) = last.await? else {
            self.stage = match frontier {
                Sector(0) => Stage::Bitmap,
                // Nothing is left to move: that has to be said, too.
                _ => Stage::Record(SectorRange::between(Sector(0)..Sector(0))),
            };
            desk.look(|here| here.set_hold(Hold::Everything)).await?;
            return Ok(());
        };
        let end = Sector(last + 1);
        let longest = self.window.min(self.distance()).0;
        let start = match self.has(ResizeDefect::ForwardCopy) {
            true => Sector(0),
            false => Sector(end.0.saturating_sub(longest)),
        };
        let hold = match self.has(ResizeDefect::IoToOldLocationDuringMove) {
            true => Hold::Nothing,
            false => Hold::Window(SectorRange::between(start..frontier)),
        };
        desk.look(move |here| here.set_hold(hold)).await?;
        self.stage = Stage::Copy(SectorRange::between(start..end));
        Ok(())
    }

    async fn copy(&mut self, desk: &Desk<SimFile>, window: SectorRange) -> Result<(), ResizeError> {
        // One piece, except forwards.
        let piece = self.window.min(self.distance()).0;
        let mut from = window.start;
        while from < window.end() {
            let to = window.end().min(from + SectorCount(piece));
            let piece = SectorRange::between(from..to);
            let runs = desk.look(move |here| {
                let runs = here.device().map().dirty_runs(piece);
                runs.collect::<Vec<SectorRange>>()
            });
            let runs = runs.await?;
            let mut contents = Vec::new();
            for run in &runs {
                let place = self.old.place_of(run.start);
                contents.push(read(desk, place, run.count.bytes()).await?);
            }
            for (run, content) in runs.iter().zip(contents).rev() {
                let action = "moving data in the COW file";
                let place = self.new.place_of(run.start);
                desk.write(FileRole::Cow, action, place, content).await?;
                self.moved += run.count.bytes();
            }
            from = to;
        }
        self.stage = Stage::Sync(window);
        Ok(())
    }

    async fn write_record(
        &mut self,
        desk: &Desk<SimFile>,
        window: SectorRange,
    ) -> Result<(), ResizeError> {
        self.record.sequence += 1;
        self.record.frontier = window.start;
        if !self.model.spillner {
            let record = self.record;
            let action = "writing the journal";
            let slot = record.encode().to_vec();
            desk.write(FileRole::Cow, action, record.slot_offset(), slot)
                .await?;
            if !self.has(ResizeDefect::ProgressNotDurable) {
                self.sync(desk).await?;
            }
        }
        self.place(desk).await?;
        desk.look(|here| here.set_hold(Hold::Nothing)).await?;
        self.stage = Stage::Choose;
        Ok(())
    }

    async fn write_bitmap(&mut self, desk: &Desk<SimFile>) -> Result<(), ResizeError> {
        desk.look(|here| here.set_hold(Hold::Everything)).await?;
        // The bits of what was written during the move go with the others.
        self.sync(desk).await?;
        let bits = bitmap(desk, &self.new, &self.model).await?;
        let action = "writing the new bitmap of the COW file";
        desk.write(FileRole::Cow, action, self.new.bitmap_offset, bits)
            .await?;
        self.sync(desk).await?;
        self.stage = Stage::Header;
        Ok(())
    }

    /// The commit, on the disk and then in memory.
    async fn put_in_force(&mut self, desk: &Desk<SimFile>) -> Result<(), ResizeError> {
        let CowImage {
            mut header,
            extension,
            ..
        } = image(desk).await?;
        header.relocating = false;
        header.size = self.new.size;
        header.alignment = self.new.alignment;
        if self.model.spillner {
            let action = "writing the header of the COW file";
            desk.write(FileRole::Cow, action, FileOffset(0), header.first_sector())
                .await?;
        } else {
            desk.commit_header(&header).await?;
        }
        let (new, model) = (self.new, self.model.clone());
        desk.look(move |here| {
            resize_map(here, &new, &model)?;
            let image = CowImage {
                header,
                extension,
                geometry: new,
            };
            here.commit(image, Placement::settled(&new));
            Ok(())
        })
        .await?
    }

    /// Clears the bits and the data past the new end.
    async fn tidy(&self, desk: &Desk<SimFile>) -> Result<(), ResizeError> {
        if self.has(ResizeDefect::StaleBitsAfterShrinkThenGrow) {
            return Ok(());
        }
        let mut bits = bitmap(desk, &self.new, &self.model).await?;
        bits.resize(self.old.bitmap_len.0 as usize, 0);
        let action = "writing the bitmap of the COW file";
        desk.write(FileRole::Cow, action, self.old.bitmap_offset, bits)
            .await?;
        desk.set_cow_len(self.new.data_end()).await
    }

    fn done(&self) -> Resized {
        Resized {
            strategy: match self.moves() {
                true => Strategy::Reflow,
                false => Strategy::Headroom,
            },
            old_size: self.old.size,
            new_size: self.new.size,
            moved: self.moved,
        }
    }

    async fn carry_out(mut self, desk: &Desk<SimFile>) -> ResizeOutcome {
        loop {
            match self.do_stage(desk).await {
                Ok(true) => return Ok(self.done()),
                Ok(false) => {}
                Err(error) => return end_early(desk, error).await,
            }
            if let Err(error) = desk.turn().await {
                return end_early(desk, error).await;
            }
        }
    }

    async fn sync(&self, desk: &Desk<SimFile>) -> Result<(), ResizeError> {
        match self.model.spillner {
            true => Ok(()),
            false => desk.sync().await,
        }
    }
}

impl Resize<SimFile> for InPlace {
    fn begin(self: Box<Self>, desk: Desk<SimFile>) -> Procedure {
        Box::pin(async move { self.carry_out(&desk).await })
    }
}
