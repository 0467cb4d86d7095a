//! In place: the data moves towards the end of the file, the last window first. Where the new
//! bitmap has room in the old one's place, nothing moves and the same stages are passed
//! through with nothing to copy.
//!
//! A window is copied, synced, recorded, synced; then the next. What the guest asks for
//! during a window waits if it touches that. Before the first window and after the last one
//! everything waits.

use driver::cow::{Geometry, JournalRecord};
use driver::host::HostFile;
use driver::ordered::{CowImage, Hold, Ordered, Placement, write_extension};
use driver::resize::{Resize, ResizeError, ResizeStep, Resized, Strategy};
use driver::units::{Bytes, FileOffset, FileRange, Sector, SectorCount, SectorRange};

use crate::sim::SimFile;

use super::{Model, ResizeDefect, bitmap, image, read};

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

    fn do_stage(&mut self, device: &mut Ordered<SimFile>) -> Result<ResizeStep, ResizeError> {
        match self.stage {
            Stage::Prepare => self.prepare(device)?,
            Stage::Mark => self.mark(device)?,
            Stage::Choose => self.choose(device),
            Stage::Copy(window) => self.copy(device, window)?,
            Stage::Sync(window) => {
                self.sync(device)?;
                self.stage = Stage::Record(window);
            }
            Stage::Record(window) => self.write_record(device, window)?,
            Stage::Bitmap => self.write_bitmap(device)?,
            Stage::Header => {
                self.put_in_force(device)?;
                if self.grows() {
                    return Ok(self.done(device));
                }
                self.stage = Stage::Tidy;
            }
            Stage::Tidy => {
                self.tidy(device)?;
                return Ok(self.done(device));
            }
        }
        Ok(ResizeStep::Working)
    }

    fn prepare(&mut self, device: &mut Ordered<SimFile>) -> Result<(), ResizeError> {
        device.set_hold(Hold::Everything);
        // What the guest was told is written, and what its bits say, may go to the disk now.
        self.sync(device)?;
        if self.grows() {
            self.make_room(device)?;
        }
        write_extension(device, &image(device)?)?;
        if self.moves() && !self.model.spillner {
            let mut slots = [0; JournalRecord::SLOTS_LEN];
            let at = (self.record.slot_offset() - JournalRecord::slots_offset()).0 as usize;
            let record = self.record.encode();
            slots[at..at + record.len()].copy_from_slice(&record);
            let action = "writing the journal";
            device.write_for_relocation(action, &slots, JournalRecord::slots_offset())?;
        }
        self.sync(device)?;
        self.stage = match self.moves() {
            true => Stage::Mark,
            false if self.grows() => Stage::Bitmap,
            false => Stage::Header,
        };
        Ok(())
    }

    /// Makes what lies past the old data read as zeros.
    fn make_room(&self, device: &mut Ordered<SimFile>) -> Result<(), ResizeError> {
        let old_end = self.old.place_of(Sector(0) + self.old.capacity());
        if !self.has(ResizeDefect::StaleBitsAfterShrinkThenGrow) {
            device.set_cow_len(old_end)?;
            return device.set_cow_len(self.new.data_end());
        }
        let found = device
            .cow()
            .len()
            .map_err(ResizeError::host("examining the COW file", FileOffset(0)))?;
        let long_enough = (self.new.data_end() - FileOffset(0)).max(found);
        device.set_cow_len(FileOffset(0) + long_enough)?;
        let bits = read(device, self.old.bitmap_offset, self.new.bitmap_len)?;
        for sector in self.old.capacity().0..self.new.capacity().0 {
            let ready = bits[(sector / 8) as usize] >> (sector % 8) & 1 == 1;
            if !ready {
                let place = self.old.place_of(Sector(sector));
                let sector = FileRange::new(place, SectorCount(1).bytes());
                device.clear_for_relocation(sector)?;
            }
        }
        Ok(())
    }

    fn mark(&mut self, device: &mut Ordered<SimFile>) -> Result<(), ResizeError> {
        let mut header = image(device)?.header;
        if self.has(ResizeDefect::HeaderBeforeData) {
            header.size = self.new.size;
            header.alignment = self.new.alignment;
            device.commit_header(&header)?;
        } else if !self.model.spillner {
            header.relocating = true;
            device.commit_header(&header)?;
        }
        self.place(device);
        self.stage = Stage::Choose;
        Ok(())
    }

    /// Tells the device where data is now.
    fn place(&self, device: &mut Ordered<SimFile>) {
        if !self.has(ResizeDefect::IoToOldLocationDuringMove) {
            let frontier = self.record.frontier;
            device.set_placement(Placement::moving(&self.old, &self.new, frontier));
        }
    }

    /// The next window ends where the last dirty sector below the frontier does, and is not
    /// longer than the distance moved. Forwards, all is one window.
    fn choose(&mut self, device: &mut Ordered<SimFile>) {
        let frontier = self.record.frontier;
        let dirty = |sector: &u64| device.map().is_dirty(Sector(*sector));
        let Some(last) = (0..frontier.0).rev().find(dirty) else {
            self.stage = match frontier {
                Sector(0) => Stage::Bitmap,
                // Nothing is left to move: that has to be said, too.
                _ => Stage::Record(SectorRange::between(Sector(0)..Sector(0))),
            };
            device.set_hold(Hold::Everything);
            return;
        };
        let end = Sector(last + 1);
        let longest = self.window.min(self.distance()).0;
        let start = match self.has(ResizeDefect::ForwardCopy) {
            true => Sector(0),
            false => Sector(end.0.saturating_sub(longest)),
        };
        device.set_hold(match self.has(ResizeDefect::IoToOldLocationDuringMove) {
            true => Hold::Nothing,
            false => Hold::Window(SectorRange::between(start..frontier)),
        });
        self.stage = Stage::Copy(SectorRange::between(start..end));
    }

    fn copy(
        &mut self,
        device: &mut Ordered<SimFile>,
        window: SectorRange,
    ) -> Result<(), ResizeError> {
        // One piece, except forwards.
        let piece = self.window.min(self.distance()).0;
        let mut from = window.start;
        while from < window.end() {
            let to = window.end().min(from + SectorCount(piece));
            let runs: Vec<SectorRange> = device
                .map()
                .dirty_runs(SectorRange::between(from..to))
                .collect();
            let mut contents = Vec::new();
            for run in &runs {
                contents.push(read(
                    device,
                    self.old.place_of(run.start),
                    run.count.bytes(),
                )?);
            }
            for (run, content) in runs.iter().zip(&contents).rev() {
                let action = "moving data in the COW file";
                device.write_for_relocation(action, content, self.new.place_of(run.start))?;
                self.moved += run.count.bytes();
            }
            from = to;
        }
        self.stage = Stage::Sync(window);
        Ok(())
    }

    fn write_record(
        &mut self,
        device: &mut Ordered<SimFile>,
        window: SectorRange,
    ) -> Result<(), ResizeError> {
        self.record.sequence += 1;
        self.record.frontier = window.start;
        if !self.model.spillner {
            let record = self.record;
            let action = "writing the journal";
            device.write_for_relocation(action, &record.encode(), record.slot_offset())?;
            if !self.has(ResizeDefect::ProgressNotDurable) {
                self.sync(device)?;
            }
        }
        self.place(device);
        device.set_hold(Hold::Nothing);
        self.stage = Stage::Choose;
        Ok(())
    }

    fn write_bitmap(&mut self, device: &mut Ordered<SimFile>) -> Result<(), ResizeError> {
        device.set_hold(Hold::Everything);
        // The bits of what was written during the move go with the others.
        self.sync(device)?;
        let bits = bitmap(device, &self.new, &self.model);
        let action = "writing the new bitmap of the COW file";
        device.write_for_relocation(action, &bits, self.new.bitmap_offset)?;
        self.sync(device)?;
        self.stage = Stage::Header;
        Ok(())
    }

    /// The commit, on the disk and then in memory.
    fn put_in_force(&mut self, device: &mut Ordered<SimFile>) -> Result<(), ResizeError> {
        let CowImage {
            mut header,
            extension,
            ..
        } = image(device)?;
        header.relocating = false;
        header.size = self.new.size;
        header.alignment = self.new.alignment;
        if self.model.spillner {
            let action = "writing the header of the COW file";
            device.write_for_relocation(action, &header.first_sector(), FileOffset(0))?;
        } else {
            device.commit_header(&header)?;
        }
        let (old_end, new_end) = (self.old.capacity(), self.new.capacity());
        if new_end >= old_end {
            let refused = |error: driver::cow::MapTooLarge| ResizeError::Refused(error.to_string());
            device.map_mut().grow(new_end).map_err(refused)?;
            if self.has(ResizeDefect::TailLeftClean) {
                let tail = SectorRange::between(Sector(old_end.0)..Sector(new_end.0));
                device.map_mut().mark_clean(tail);
            }
        } else {
            device.map_mut().shrink(new_end);
        }
        let image = CowImage {
            header,
            extension,
            geometry: self.new,
        };
        device.commit(image, Placement::settled(&self.new));
        Ok(())
    }

    /// Clears the bits and the data past the new end.
    fn tidy(&self, device: &mut Ordered<SimFile>) -> Result<(), ResizeError> {
        if self.has(ResizeDefect::StaleBitsAfterShrinkThenGrow) {
            return Ok(());
        }
        let mut bits = bitmap(device, &self.new, &self.model);
        bits.resize(self.old.bitmap_len.0 as usize, 0);
        let action = "writing the bitmap of the COW file";
        device.write_for_relocation(action, &bits, self.old.bitmap_offset)?;
        device.set_cow_len(self.new.data_end())
    }

    fn done(&self, device: &mut Ordered<SimFile>) -> ResizeStep {
        device.set_hold(Hold::Nothing);
        ResizeStep::Done(Resized {
            strategy: match self.moves() {
                true => Strategy::Reflow,
                false => Strategy::Headroom,
            },
            old_size: self.old.size,
            new_size: self.new.size,
            moved: self.moved,
        })
    }

    fn sync(&self, device: &mut Ordered<SimFile>) -> Result<(), ResizeError> {
        match self.model.spillner {
            true => Ok(()),
            false => device.sync_for_relocation(),
        }
    }
}

impl Resize<SimFile> for InPlace {
    fn step(&mut self, device: &mut Ordered<SimFile>) -> Result<ResizeStep, ResizeError> {
        if !device.lets_relocation_in() {
            return Ok(ResizeStep::Waiting);
        }
        let result = self.do_stage(device);
        if result.is_err() {
            // The next opening finds out what is on the disk.
            device.refuse_writes();
            device.set_hold(Hold::Nothing);
        }
        result
    }
}
