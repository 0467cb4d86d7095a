//! Moving the data towards the end of the COW file, last bytes first, in place and under
//! live I/O: the resize of 2003, with a journal.
//!
//! The data moves in windows. A window is copied to its new place, synced, and then the
//! journal says, durably, that the frontier has come down to the window's start. Only then
//! may anything be written where the window was. A window is at most as long as the distance
//! moved, so that within one, no copy goes over a source. Requests below the frontier go to
//! the old place, those above to the new; those that touch the window wait.
//!
//! So a request can wait for a whole window, from its beginning to its end, syncs included. Any
//! other waits for a single step at most, such as the freeing of a few extents. Under live I/O the
//! time that these take decides how much the next one has to do (`pace.rs`).
//!
//! Only what stays unused is freed. Most of a window's source is, in the new layout, the place of
//! sectors further down. Their copy goes over it, so freeing it first would cost the host twice.
//! Until then nobody reads what lies there: the old place of a window that has been moved is the
//! new place of sectors that have not.
//!
//! | power goes after | a reader finds | recovery |
//! |---|---|---|
//! | the file was extended; a partial last sector ([`PartialSector`]), extension block and first record written | the old size, nothing moved; stock readers too | none needed: a header without the mark makes the journal void |
//! | the header was marked | a size that stock readers refuse; the journal says that nothing was moved | rolls forward |
//! | part of a window was copied | all data: below the frontier at the old place, which no copy touches | rolls forward, copying the window again |
//! | the copy was synced | the same | the same |
//! | the record was written | the record before it or the new one; the data of both is durable | rolls forward from the one that is there |
//! | what stays unused of the source was punched, or some of it | the new frontier, which was durable before the holes were punched | rolls forward; what was not punched stays allocated: `image recover` gives it back after the move, and if it is interrupted at that, it is a leak, for `image check --repair` |
//! | part or all of the new bitmap was written | all data, at the new place; the old bitmap, which the new one does not overlap, counts | writes the new bitmap again |
//! | the header was written | the mark, and so the row before; or the new size, whole | rolls forward, or none needed |
//! | the old bitmap was punched | the new size | none needed |
//!
//! Published bits go to the old bitmap until the new one is begun, and then to both.

mod copying;
mod freeing;

use driver::cow::{Extension, Geometry, Header, JournalRecord, Version};
use driver::host::HostFile;
use driver::ordered::{
    Before, CowImage, Hold, NotCommitted, Ordered, PartialSector, Placement, write_extension,
};
use driver::resize::{Resize, ResizeError, ResizeStep, Resized, Strategy};
use driver::units::{Bytes, FileRange, SECTOR_SIZE, Sector, SectorRange};

use self::freeing::{free, up_to_blocks};
use crate::at_once::AtOnce;
use crate::new_bitmap::next_piece;
use crate::pace::{self, LIVE_FREEING, Pace};
use crate::space::{BLOCK, Blocks};

pub use crate::pace::Windows;

/// The most bytes to move in a window where nothing is known of the time or the space that there
/// is for it. They are counted in whole blocks of 4 KiB.
pub const WINDOW: Bytes = Bytes(8 << 20);

/// The most bytes to move in a window where nobody waits for it, and there is space.
pub const OFFLINE_WINDOW: Bytes = Bytes(64 << 20);

/// The most bytes to move in a window where somebody waits for it.
pub const LIVE_WINDOW: Bytes = Bytes(pace::LIVE_WINDOW.most);

/// The limit for a window is never below this, however little space there is.
pub const LEAST_WINDOW: Bytes = Bytes(64 << 10);

/// A reflow under way.
#[derive(Debug)]
pub struct Reflow {
    old: Geometry,
    new: Geometry,
    record: JournalRecord,
    /// How large windows are.
    pace: Pace,
    /// How much is freed in a step.
    freeing: Pace,
    /// How much is copied in a step, and of how much the map is looked at.
    at_once: AtOnce,
    stage: Stage,
    moved: Bytes,
    /// What has to be put back if the move ends before anything was moved; `None` also when
    /// nobody knows whether the header is marked.
    before: Option<Before>,
    buffer: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Make the file long enough, and write extension block and first record.
    Prepare,
    /// Mark the header.
    Mark,
    /// Choose the next window, and keep requests out of it.
    Choose,
    /// What was under way there has ended: see where the window's data ends now.
    Settle { window: SectorRange },
    /// Copy what is dirty in it, from `at` on.
    Copy { window: SectorRange, at: Sector },
    /// Sync the copy.
    Sync { window: SectorRange },
    /// Record the new frontier.
    Record { window: SectorRange },
    /// Free the parts of the source in which nothing will have its place. This much of the source
    /// is left to look at.
    Free { source: FileRange },
    /// All is moved: clear the place of the new bitmap, and publish to it too.
    ClearBitmap,
    /// Write it, from this page on.
    WriteBitmap { page: usize },
    /// Sync it.
    SyncBitmap,
    /// The commit.
    Header,
    /// Free what the new layout does not use.
    Tidy,
}

impl Reflow {
    /// Prepares a reflow of `device` into the layout `new`.
    ///
    /// # Errors
    /// [`ResizeError::Refused`] if the layouts do not allow one; the planner chooses such
    /// that do.
    pub fn new<F: HostFile>(device: &Ordered<F>, new: Geometry) -> Result<Reflow, ResizeError> {
        let refuse = |why: &str| Err(ResizeError::Refused(why.into()));
        let Some(image) = device.image() else {
            return refuse("a raw disk has no data to move");
        };
        let old = image.geometry;
        if image.header.version != Version::V3 || !JournalRecord::fits(&old) {
            return refuse("the header has no room for a journal");
        }
        if image.header.relocating {
            return refuse("an interrupted reflow has to be finished first");
        }
        if image.extension.is_none() && !Extension::fits(&old) {
            return refuse("the header has no room for the extension block");
        }
        if new.bitmap_offset < old.bitmap().end()
            || new.data_offset <= old.data_offset
            || new.capacity() < device.capacity()
        {
            return refuse("the new layout does not lie after the old one");
        }
        let record = JournalRecord {
            sequence: 1,
            frontier: Sector(0) + device.capacity(),
            old_size: old.size,
            old_alignment: old.alignment,
            new_size: new.size,
            new_alignment: new.alignment,
        };
        Ok(Reflow::at(Stage::Prepare, old, new, record))
    }

    /// How much has been moved.
    pub fn moved(&self) -> Bytes {
        self.moved
    }

    /// Takes up the reflow that `record`, found when the device was opened, is about.
    ///
    /// # Errors
    /// [`ResizeError::Refused`] if the device is not in the middle of one.
    pub fn resume<F: HostFile>(
        device: &Ordered<F>,
        record: JournalRecord,
    ) -> Result<Reflow, ResizeError> {
        match (device.image(), record.new_geometry()) {
            (Some(image), Ok(new)) if image.header.relocating => {
                Ok(Reflow::at(Stage::Choose, image.geometry, new, record))
            }
            _ => Err(ResizeError::Refused(
                "the device is not in the middle of a reflow".into(),
            )),
        }
    }

    fn at(stage: Stage, old: Geometry, new: Geometry, record: JournalRecord) -> Reflow {
        Reflow {
            old,
            new,
            record,
            pace: Pace::fixed(WINDOW.0),
            freeing: Pace::fixed(AtOnce::default().freed_a_step()),
            at_once: AtOnce::default(),
            stage,
            moved: Bytes(0),
            before: None,
            buffer: Vec::new(),
        }
    }

    /// Moves in windows with at most `len` bytes to move, counted in whole blocks of 4 KiB: for
    /// callers that want shorter waits, or more of them.
    #[must_use]
    pub fn with_window(mut self, len: Bytes) -> Reflow {
        self.pace = Pace::fixed(len.0.max(SECTOR_SIZE));
        self
    }

    /// Does this much in one go: for callers that want shorter steps, or more of them.
    #[must_use]
    pub fn with_at_once(mut self, at_once: AtOnce) -> Reflow {
        self.freeing = Pace::fixed(at_once.freed_a_step());
        self.at_once = at_once;
        self
    }

    /// Moves in windows as large as what the disk moves in a time that requests can wait for;
    /// [`Reflow::tell_time`] has to be called for that. They are never larger than `most`,
    /// because there may be no space for more.
    #[must_use]
    pub fn while_live(mut self, most: Bytes) -> Reflow {
        self.pace = Pace::adapting(pace::LIVE_WINDOW.within(most.0));
        self.freeing = Pace::adapting(LIVE_FREEING);
        self
    }

    /// Says what time it is, in nanoseconds from some moment on, before a step.
    pub fn tell_time(&mut self, now_ns: u64) {
        self.pace.tell_time(now_ns);
        self.freeing.tell_time(now_ns);
    }

    /// How many windows were moved, and how long the longest took.
    pub fn windows(&self) -> Windows {
        self.pace.windows()
    }

    /// The last durable record: where the reflow would be taken up.
    pub fn record(&self) -> JournalRecord {
        self.record
    }

    fn do_stage<F: HostFile>(
        &mut self,
        device: &mut Ordered<F>,
    ) -> Result<ResizeStep, ResizeError> {
        match self.stage {
            Stage::Prepare => self.prepare(device)?,
            Stage::Mark => self.mark(device)?,
            Stage::Choose => self.choose(device)?,
            Stage::Settle { window } => self.settle(device, window),
            Stage::Copy { window, at } => self.copy(device, window, at)?,
            Stage::Sync { window } => {
                device.sync_for_relocation()?;
                self.stage = Stage::Record { window };
            }
            Stage::Record { window } => self.record_frontier(device, window)?,
            Stage::Free { source } => {
                self.pace.end();
                self.freeing.end();
                self.stage = match self.free_some(device, source) {
                    Some(source) => Stage::Free { source },
                    None => Stage::Choose,
                };
            }
            Stage::ClearBitmap => self.clear_bitmap(device)?,
            Stage::WriteBitmap { page } => self.write_bitmap(device, page)?,
            Stage::SyncBitmap => {
                device.sync_for_relocation()?;
                self.stage = Stage::Header;
            }
            Stage::Header => self.commit(device)?,
            Stage::Tidy => {
                let bitmap_and_slack = self.old.bitmap_offset..self.new.bitmap_offset;
                free(device, FileRange::between(bitmap_and_slack));
                return Ok(ResizeStep::Done(Resized {
                    strategy: Strategy::Reflow,
                    old_size: self.old.size,
                    new_size: self.new.size,
                    moved: self.moved,
                }));
            }
        }
        Ok(ResizeStep::Working)
    }

    fn prepare<F: HostFile>(&mut self, device: &mut Ordered<F>) -> Result<(), ResizeError> {
        let Some(image) = device.image().cloned() else {
            return Err(ResizeError::Refused(
                "a raw disk has no data to move".into(),
            ));
        };
        if device.has_failed_sync() {
            return Err(ResizeError::SyncFailed);
        }
        self.before = Some(Before::of(device, &self.old)?);
        // What may lie past the old data would show up in the new sectors.
        device.set_cow_len(self.old.place_of(self.record.frontier))?;
        device.set_cow_len(self.new.data_end())?;
        // Past the old data, and so past everything that a window is copied from.
        if let Some(partial) = PartialSector::to_carry(device, &self.new)? {
            partial.write(device)?;
        }
        write_extension(device, &image)?;
        // Records of an earlier reflow would outbid the new ones.
        let action = "writing the journal";
        let mut slots = [0; JournalRecord::SLOTS_LEN];
        let at = (self.record.slot_offset() - JournalRecord::slots_offset()).0 as usize;
        let record = self.record.encode();
        slots[at..at + record.len()].copy_from_slice(&record);
        device.write_for_relocation(action, &slots, JournalRecord::slots_offset())?;
        device.sync_for_relocation()?;
        self.stage = Stage::Mark;
        Ok(())
    }

    fn mark<F: HostFile>(&mut self, device: &mut Ordered<F>) -> Result<(), ResizeError> {
        if let Err(not_committed) = write_header(device, |header| header.relocating = true) {
            if !not_committed.undone {
                // The journal has to stay: the header may need it.
                self.before = None;
            }
            return Err(not_committed.error);
        }
        let placement = Placement::moving(&self.old, &self.new, self.record.frontier);
        device.set_placement(placement);
        self.stage = Stage::Choose;
        Ok(())
    }

    /// The next window ends where the last dirty run below the frontier does. It begins as far
    /// down as it may: the bytes to move in it are limited, and it is not longer than the
    /// distance moved, so that no copy goes over a source. What lies between it and the frontier
    /// is clean: there is nothing to move, but a write there would have to know which side of the
    /// frontier it is on, so requests are kept out of that too.
    fn choose<F: HostFile>(&mut self, device: &mut Ordered<F>) -> Result<(), ResizeError> {
        let frontier = self.record.frontier;
        if frontier == Sector(0) {
            self.stage = Stage::ClearBitmap;
            return Ok(());
        }
        let distance = (self.new.data_offset - self.old.data_offset).whole_sectors();
        let most = Bytes(self.pace.amount()).min(distance.bytes());
        let piece = most.min(self.at_once.bytes()).whole_sectors();
        // Downwards, piece by piece, as long as there is room for what they hold.
        let (mut top, mut start, mut data) = (None, frontier, Bytes(0));
        while start > Sector(0) {
            let below = Sector(start.0.saturating_sub(piece.0));
            let runs = device.map().dirty_runs(SectorRange::between(below..start));
            let (mut here, mut end) = (Bytes(0), None);
            let mut blocks = Blocks::of(BLOCK);
            for run in runs {
                here += self.add_data(&mut blocks, device, run)?;
                end = Some(run.end());
            }
            let too_long = top.is_some_and(|top: Sector| top - below > distance);
            // The blocks of one piece may be more than there is room for: it is moved all the
            // same. So is what costs nothing, or the block that a window begins within would
            // go with no window.
            let too_much = data + here > most && here > Bytes(0) && start < frontier;
            if too_much || too_long {
                break;
            }
            top = top.or(end);
            data += here;
            start = below;
        }
        let window = SectorRange::between(start..top.unwrap_or(start));
        self.freeing.end();
        self.pace.begin(data.0);
        device.set_hold(Hold::Window(SectorRange::between(window.start..frontier)));
        self.stage = Stage::Settle { window };
        Ok(())
    }

    /// Requests that were under way when the window was chosen have ended. They may have written
    /// what was clean then, up to the frontier: the window ends where its data does now, and
    /// begins no further from there than the distance moved.
    fn settle<F: HostFile>(&mut self, device: &mut Ordered<F>, window: SectorRange) {
        let frontier = self.record.frontier;
        let kept_out = SectorRange::between(window.start..frontier);
        let last = device.map().dirty_runs(kept_out).last();
        let end = last.map_or(window.start, |run| run.end());
        let distance = (self.new.data_offset - self.old.data_offset).whole_sectors();
        let start = window.start.max(Sector(end.0.saturating_sub(distance.0)));
        if start > window.start {
            device.set_hold(Hold::Window(SectorRange::between(start..frontier)));
        }
        let window = SectorRange::between(start..end);
        self.stage = Stage::Copy { window, at: start };
    }

    fn record_frontier<F: HostFile>(
        &mut self,
        device: &mut Ordered<F>,
        window: SectorRange,
    ) -> Result<(), ResizeError> {
        let Some(record) = self.record.next(window.start) else {
            let why = "the journal's record numbers have come to their end";
            return Err(ResizeError::Refused(why.into()));
        };
        let written = device
            .write_for_relocation(
                "writing the journal",
                &record.encode(),
                record.slot_offset(),
            )
            .and_then(|()| device.sync_for_relocation());
        if let Err(error) = written {
            // The record may be on the disk or not. As long as nothing was moved the header
            // goes back; otherwise the slot, so that the record before counts. If that
            // fails too, no write may choose a side any more: the copy may be what counts,
            // and it may lie where clean sectors below the frontier have their old place.
            if self.before.is_none() && erase(device, &record).is_err() {
                device.refuse_writes();
            }
            return Err(error);
        }
        self.record = record;
        device.set_placement(Placement::moving(&self.old, &self.new, record.frontier));
        device.set_hold(Hold::Nothing);
        self.before = None;
        // In whole blocks: the one that the window begins within goes with the next window.
        let source = self.source_of(window);
        let source = up_to_blocks(source.start)..up_to_blocks(source.end());
        let source = FileRange::between(source);
        self.stage = Stage::Free { source };
        Ok(())
    }

    fn clear_bitmap<F: HostFile>(&mut self, device: &mut Ordered<F>) -> Result<(), ResizeError> {
        device.clear_for_relocation(FileRange::between(
            self.new.bitmap_offset..self.new.data_offset,
        ))?;
        // From here on publications write whole words of both bitmaps: they have to carry the new
        // sectors' bits, which mean nothing past the old bitmap's end.
        device
            .map_mut()
            .grow(self.new.capacity())
            .map_err(|error| ResizeError::Refused(error.to_string()))?;
        let mut placement = Placement::moving(&self.old, &self.new, Sector(0));
        placement.add_bitmap(self.new.bitmap());
        device.set_placement(placement);
        self.stage = Stage::WriteBitmap { page: 0 };
        Ok(())
    }

    fn write_bitmap<F: HostFile>(
        &mut self,
        device: &mut Ordered<F>,
        from: usize,
    ) -> Result<(), ResizeError> {
        let Some(piece) = next_piece(device.map(), &self.new, from, &mut self.buffer) else {
            self.stage = Stage::SyncBitmap;
            return Ok(());
        };
        let action = "writing the new bitmap of the COW file";
        device.write_for_relocation(action, &self.buffer, piece.at)?;
        let page = piece.next_page;
        self.stage = Stage::WriteBitmap { page };
        Ok(())
    }

    fn commit<F: HostFile>(&mut self, device: &mut Ordered<F>) -> Result<(), ResizeError> {
        let new = self.new;
        let header = write_header(device, |header| {
            header.relocating = false;
            header.size = new.size;
            header.alignment = new.alignment;
        })?;
        let image = CowImage {
            header,
            extension: device.image().and_then(|image| image.extension),
            geometry: new,
        };
        device.commit(image, Placement::settled(&new));
        self.stage = Stage::Tidy;
        Ok(())
    }

    /// Where the data of a window was.
    fn source_of(&self, window: SectorRange) -> FileRange {
        FileRange::new(self.old.place_of(window.start), window.count.bytes())
    }

    /// Ends the reflow before anything was moved, leaving the file as it was.
    fn undo<F: HostFile>(
        &self,
        device: &mut Ordered<F>,
        before: &Before,
    ) -> Result<(), ResizeError> {
        if let Some(image) = device.image()
            && image.header.relocating
        {
            let mut header = image.header.clone();
            header.relocating = false;
            // Without that, either header may be there, and recovery rolls forward from a
            // frontier that nobody here knows: a write could go over the copy that it takes
            // for the data.
            let put = device.put_header(&header);
            put.inspect_err(|_| device.refuse_writes())?;
        }
        device.set_placement(Placement::settled(&self.old));
        let mut cleared = Ok(());
        if let Stage::Copy { window, .. } | Stage::Sync { window } | Stage::Record { window } =
            self.stage
        {
            // The copy may lie where clean sectors would have their place.
            let copy = self.new.place_of(window.start);
            let end = self.old.place_of(self.record.frontier);
            if copy < end && !window.is_empty() {
                cleared = device.clear_for_relocation(FileRange::between(copy..end));
            }
        }
        // A copy that cannot be cleared lies under clean sectors, and the rest is put back.
        let put_back = before.put_back(device);
        cleared.and(put_back)
    }
}

impl<F: HostFile> Resize<F> for Reflow {
    fn step(&mut self, device: &mut Ordered<F>) -> Result<ResizeStep, ResizeError> {
        if !device.lets_relocation_in() {
            return Ok(ResizeStep::Waiting);
        }
        let result = self.do_stage(device);
        if result.is_err() {
            device.set_hold(Hold::Nothing);
            if let Some(before) = self.before.take() {
                // The first error is the one to report.
                let _ = self.undo(device, &before);
            }
        }
        result
    }
}

/// Changes the header's first sector, on disk and then in memory, and syncs.
fn write_header<F: HostFile>(
    device: &mut Ordered<F>,
    change: impl FnOnce(&mut Header),
) -> Result<Header, NotCommitted> {
    let Some(image) = device.image() else {
        return Err(NotCommitted {
            error: ResizeError::Refused("a raw disk has no header".into()),
            undone: true,
        });
    };
    let mut header = image.header.clone();
    change(&mut header);
    device.commit_header(&header)?;
    Ok(header)
}

/// Makes the slot of a record void, durably: the record before it counts then.
fn erase<F: HostFile>(device: &mut Ordered<F>, record: &JournalRecord) -> Result<(), ResizeError> {
    let void = [0; JournalRecord::SLOTS_LEN / 2];
    device.write_for_relocation("writing the journal", &void, record.slot_offset())?;
    device.sync_to_undo()
}
