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
//! other goes on beside it, where an executor carries operations out. Inline it waits for a single
//! step at most, such as the freeing of a few extents. Under live I/O the time that these take
//! decides how much the next one has to do (`pace.rs`).
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

use driver::cow::{Extension, Geometry, Header, JournalRecord, SectorMap, Version};
use driver::host::{FileRole, HostFile};
use driver::ordered::{
    Before, CowImage, Desk, Hold, NotCommitted, Ordered, PartialSector, Placement, Procedure,
    Resize,
};
use driver::resize::{ResizeError, ResizeOutcome, Resized, Strategy};
use driver::units::{Bytes, FileOffset, FileRange, SECTOR_SIZE, Sector, SectorCount, SectorRange};

use crate::at_once::AtOnce;
use crate::new_bitmap::next_piece;
use crate::pace::{self, LIVE_FREEING, Pace};
use crate::progress::Progress;
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

/// The most bytes that one step copies under live I/O. A write of a request may have to wait until
/// one of as many bytes has ended, because a file takes one write after the other.
const LIVE_COPY: Bytes = Bytes(128 << 10);

const JOURNAL: &str = "writing the journal";

/// A reflow that has not begun.
pub struct Reflow {
    old: Geometry,
    new: Geometry,
    record: JournalRecord,
    /// How large windows are.
    pace: Pace,
    /// How much is freed in a step, within what `at_once` allows; `None` leaves it to that.
    freeing: Option<Pace>,
    /// How much is copied in a step, and of how much the map is looked at.
    at_once: AtOnce,
    /// The most bytes that a step copies, within that.
    most_copied: Bytes,
    /// The data that was found last, in what the next window is chosen from or in the window that
    /// is copied.
    found: Option<FileRange>,
    /// The header is marked, and a part may have been moved.
    is_marked: bool,
    moved: Bytes,
    progress: Progress,
    buffer: Vec<u8>,
}

/// A reflow that asks what time it is; see [`Reflow::timed_by`].
pub struct Timed<C> {
    reflow: Reflow,
    clock: C,
}

/// Says what time it is, in nanoseconds from some moment on, if anybody knows.
type Clock<'a> = &'a dyn Fn() -> Option<u64>;

/// What has to be put back if the move ends before anything was moved.
struct Undo {
    /// `None` also when nobody knows whether the header is marked.
    before: Option<Before>,
    /// The window whose copy may have begun.
    copied: Option<SectorRange>,
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
        Ok(Reflow::from(record, old, new, false))
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
                Ok(Reflow::from(record, image.geometry, new, true))
            }
            _ => Err(ResizeError::Refused(
                "the device is not in the middle of a reflow".into(),
            )),
        }
    }

    fn from(record: JournalRecord, old: Geometry, new: Geometry, is_marked: bool) -> Reflow {
        Reflow {
            old,
            new,
            record,
            pace: Pace::fixed(WINDOW.0),
            freeing: None,
            at_once: AtOnce::default(),
            most_copied: Bytes(u64::MAX),
            found: None,
            is_marked,
            moved: Bytes(0),
            progress: Progress::default(),
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

    /// Does at most this much in one go: for callers that want shorter steps, or more of them.
    /// Under live I/O a step frees less where freeing takes its time; see [`Reflow::while_live`].
    #[must_use]
    pub fn with_at_once(mut self, at_once: AtOnce) -> Reflow {
        self.at_once = at_once;
        self
    }

    /// Moves in windows as large as what the disk moves in a time that requests can wait for;
    /// [`Reflow::timed_by`] says how long that is. They are never larger than `most`,
    /// because there may be no space for more.
    #[must_use]
    pub fn while_live(mut self, most: Bytes) -> Reflow {
        self.pace = Pace::adapting(pace::LIVE_WINDOW.within(most.0));
        self.freeing = Some(Pace::adapting(LIVE_FREEING));
        self.most_copied = LIVE_COPY;
        self
    }

    /// Asks `clock` what time it is, in nanoseconds from some moment on.
    pub fn timed_by<C: Fn() -> u64>(self, clock: C) -> Timed<C> {
        Timed {
            reflow: self,
            clock,
        }
    }

    /// How far it has come, from whenever it has begun.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    fn look_at(&mut self, clock: Clock<'_>) {
        if let Some(now_ns) = clock() {
            self.pace.tell_time(now_ns);
            if let Some(freeing) = &mut self.freeing {
                freeing.tell_time(now_ns);
            }
        }
    }

    /// The step that frees is over, if one was under way.
    fn end_freeing(&mut self) {
        if let Some(freeing) = &mut self.freeing {
            freeing.end();
        }
    }

    async fn carry_out<F: HostFile>(mut self, desk: &Desk<F>, clock: Clock<'_>) -> ResizeOutcome {
        let mut undo = Undo {
            before: None,
            copied: None,
        };
        if let Err(error) = self.move_and_commit(desk, &mut undo, clock).await {
            desk.decided().await;
            if let Some(before) = undo.before {
                // The first error is the one to report.
                let _ = self.undo(desk, before, undo.copied).await;
            }
            return Err(error);
        }
        // The device has its new size.
        desk.decided().await;
        self.tidy(desk).await?;
        Ok(Resized {
            strategy: Strategy::Reflow,
            old_size: self.old.size,
            new_size: self.new.size,
            moved: self.moved,
        })
    }

    /// Frees what the new layout does not use.
    async fn tidy<F: HostFile>(&self, desk: &Desk<F>) -> Result<(), ResizeError> {
        desk.pass().await?;
        let bitmap_and_slack = self.old.bitmap_offset..self.new.bitmap_offset;
        desk.free(FileRange::between(bitmap_and_slack)).await
    }

    async fn move_and_commit<F: HostFile>(
        &mut self,
        desk: &Desk<F>,
        undo: &mut Undo,
        clock: Clock<'_>,
    ) -> Result<(), ResizeError> {
        if !self.is_marked {
            self.prepare(desk, undo).await?;
            desk.turn().await?;
            self.mark(desk, undo).await?;
            desk.turn().await?;
        }
        while self.record.frontier > Sector(0) {
            let window = self.choose(desk, clock).await?;
            // Those end that were under way there.
            desk.turn().await?;
            let window = self.settle(desk, window).await?;
            undo.copied = Some(window);
            self.free_left(desk, window).await?;
            self.copy(desk, window).await?;
            desk.sync().await?;
            desk.turn().await?;
            self.record_frontier(desk, window, undo).await?;
            desk.pass().await?;
            self.free_source(desk, window, clock).await?;
            desk.pass().await?;
        }
        desk.turn().await?;
        self.clear_bitmap(desk).await?;
        self.write_bitmap(desk).await?;
        desk.turn().await?;
        desk.sync().await?;
        desk.turn().await?;
        self.commit(desk).await
    }

    /// Makes the file long enough, and writes extension block and first record.
    async fn prepare<F: HostFile>(
        &mut self,
        desk: &Desk<F>,
        undo: &mut Undo,
    ) -> Result<(), ResizeError> {
        let Some(image) = desk.look(|here| here.device().image().cloned()).await? else {
            return Err(ResizeError::Refused(
                "a raw disk has no data to move".into(),
            ));
        };
        desk.check_syncs().await?;
        undo.before = Some(Before::of(desk, &self.old).await?);
        // What may lie past the old data would show up in the new sectors.
        desk.set_cow_len(self.old.place_of(self.record.frontier))
            .await?;
        desk.set_cow_len(self.new.data_end()).await?;
        // Past the old data, and so past everything that a window is copied from.
        if let Some(partial) = PartialSector::to_carry(desk, &self.new).await? {
            partial.write(desk, FileRole::Cow).await?;
        }
        desk.need_extension(&image).await?;
        // Records of an earlier reflow would outbid the new ones.
        let mut slots = vec![0; JournalRecord::SLOTS_LEN];
        let at = (self.record.slot_offset() - JournalRecord::slots_offset()).0 as usize;
        let record = self.record.encode();
        slots[at..at + record.len()].copy_from_slice(&record);
        desk.write(FileRole::Cow, JOURNAL, JournalRecord::slots_offset(), slots)
            .await?;
        desk.sync().await
    }

    async fn mark<F: HostFile>(
        &mut self,
        desk: &Desk<F>,
        undo: &mut Undo,
    ) -> Result<(), ResizeError> {
        let marked = write_header(desk, |header| header.relocating = true);
        if let Err(not_committed) = marked.await {
            if !not_committed.undone {
                // The journal has to stay: the header may need it.
                undo.before = None;
            }
            return Err(not_committed.error);
        }
        let placement = Placement::moving(&self.old, &self.new, self.record.frontier);
        desk.follow(move |here| here.set_placement(placement)).await
    }

    /// Chooses the next window, and keeps requests out of it.
    ///
    /// It ends where the last dirty run below the frontier does. It begins as far
    /// down as it may: the bytes to move in it are limited, and it is not longer than the
    /// distance moved, so that no copy goes over a source. What lies between it and the frontier
    /// is clean: there is nothing to move, but a write there would have to know which side of the
    /// frontier it is on, so requests are kept out of that too.
    async fn choose<F: HostFile>(
        &mut self,
        desk: &Desk<F>,
        clock: Clock<'_>,
    ) -> Result<SectorRange, ResizeError> {
        let frontier = self.record.frontier;
        let distance = self.distance();
        let most = Bytes(self.pace.amount()).min(distance.bytes());
        let piece = most.min(self.at_once.bytes()).whole_sectors();
        self.found = None;
        // Downwards, piece by piece, as long as there is room for what they hold.
        let (mut top, mut start, mut data) = (None, frontier, Bytes(0));
        while start > Sector(0) {
            let (from, first) = (start, top.is_none());
            let next = desk.look(move |here| next_below(here.device(), from, piece, first));
            let (below, runs) = next.await?;
            let (mut here, mut end) = (Bytes(0), None);
            let mut blocks = Blocks::of(BLOCK);
            for run in runs {
                here += self.add_data(&mut blocks, desk, run).await?;
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
        self.look_at(clock);
        self.end_freeing();
        self.pace.begin(data.0);
        // Before a request can wait.
        self.progress.set_window(window.start, frontier);
        let kept_out = Hold::Window(SectorRange::between(window.start..frontier));
        desk.look(move |here| here.set_hold(kept_out)).await?;
        Ok(window)
    }

    /// Requests that were under way when the window was chosen have ended. They may have written
    /// what was clean then, up to the frontier: the window ends where its data does now, and
    /// begins no further from there than the distance moved.
    async fn settle<F: HostFile>(
        &self,
        desk: &Desk<F>,
        window: SectorRange,
    ) -> Result<SectorRange, ResizeError> {
        let (frontier, distance) = (self.record.frontier, self.distance());
        let settled = desk.look(move |here| {
            let kept_out = SectorRange::between(window.start..frontier);
            let last = here.device().map().dirty_runs(kept_out).last();
            let end = last.map_or(window.start, |run| run.end());
            let start = window.start.max(Sector(end.0.saturating_sub(distance.0)));
            if start > window.start {
                here.set_hold(Hold::Window(SectorRange::between(start..frontier)));
            }
            SectorRange::between(start..end)
        });
        settled.await
    }

    async fn record_frontier<F: HostFile>(
        &mut self,
        desk: &Desk<F>,
        window: SectorRange,
        undo: &mut Undo,
    ) -> Result<(), ResizeError> {
        let Some(record) = self.record.next(window.start) else {
            let why = "the journal's record numbers have come to their end";
            return Err(ResizeError::Refused(why.into()));
        };
        let written = async {
            let slot = record.encode().to_vec();
            desk.write(FileRole::Cow, JOURNAL, record.slot_offset(), slot)
                .await?;
            desk.sync().await
        };
        if let Err(error) = written.await {
            desk.decided().await;
            // The record may be on the disk or not. As long as nothing was moved the header
            // goes back; otherwise the slot, so that the record before counts. If that
            // fails too, no write may choose a side any more: the copy may be what counts,
            // and it may lie where clean sectors below the frontier have their old place.
            if undo.before.is_none() && erase(desk, &record).await.is_err() {
                desk.follow(|here| here.refuse_writes()).await?;
            }
            return Err(error);
        }
        self.record = record;
        undo.before = None;
        let placement = Placement::moving(&self.old, &self.new, record.frontier);
        desk.follow(move |here| {
            here.set_placement(placement);
            here.set_hold(Hold::Nothing);
        })
        .await?;
        self.progress.set_frontier(record.frontier);
        Ok(())
    }

    async fn clear_bitmap<F: HostFile>(&mut self, desk: &Desk<F>) -> Result<(), ResizeError> {
        let bitmap = self.new.bitmap_offset..self.new.data_offset;
        desk.clear(FileRange::between(bitmap)).await?;
        // From here on publications write whole words of both bitmaps: they have to carry the new
        // sectors' bits, which mean nothing past the old bitmap's end.
        let (sectors, bitmap) = (self.new.capacity(), self.new.bitmap());
        let mut placement = Placement::moving(&self.old, &self.new, Sector(0));
        desk.look(move |here| {
            here.grow_map(sectors)?;
            placement.add_bitmap(bitmap);
            here.set_placement(placement);
            Ok(())
        })
        .await?
    }

    async fn write_bitmap<F: HostFile>(&mut self, desk: &Desk<F>) -> Result<(), ResizeError> {
        let doing = "writing the new bitmap of the COW file";
        let mut page = 0;
        loop {
            // Within one turn, so that no bit that is published meanwhile is written over.
            desk.turn().await?;
            let (new, mut buffer) = (self.new, std::mem::take(&mut self.buffer));
            let pages = self.at_once.pages();
            let piece = desk.look(move |here| {
                let piece = next_piece(here.device().map(), &new, (page, pages), &mut buffer);
                (piece, buffer)
            });
            let (Some(piece), bits) = piece.await? else {
                return Ok(());
            };
            self.buffer = desk.write(FileRole::Cow, doing, piece.at, bits).await?;
            page = piece.next_page;
        }
    }

    async fn commit<F: HostFile>(&mut self, desk: &Desk<F>) -> Result<(), ResizeError> {
        let new = self.new;
        let header = write_header(desk, move |header| {
            header.relocating = false;
            header.size = new.size;
            header.alignment = new.alignment;
        });
        let header = header.await?;
        desk.follow(move |here| {
            let image = CowImage {
                header,
                extension: here.device().image().and_then(|image| image.extension),
                geometry: new,
            };
            here.commit(image, Placement::settled(&new));
        })
        .await
    }

    fn distance(&self) -> SectorCount {
        (self.new.data_offset - self.old.data_offset).whole_sectors()
    }

    /// Where the data of a window was.
    fn source_of(&self, window: SectorRange) -> FileRange {
        FileRange::new(self.old.place_of(window.start), window.count.bytes())
    }

    /// Ends the reflow before anything was moved, leaving the file as it was. `copied` is the
    /// window whose copy may have begun.
    async fn undo<F: HostFile>(
        &self,
        desk: &Desk<F>,
        before: Before,
        copied: Option<SectorRange>,
    ) -> Result<(), ResizeError> {
        // A publication that is half done knows where the data was when it began. What is kept out
        // of the window stays so.
        desk.turn().await?;
        let image = desk.look(|here| here.device().image().cloned()).await?;
        if let Some(CowImage { mut header, .. }) = image
            && header.relocating
        {
            header.relocating = false;
            // Without that, either header may be there, and recovery rolls forward from a
            // frontier that nobody here knows: a write could go over the copy that it takes
            // for the data.
            if let Err(error) = desk.put_header(&header).await {
                desk.look(|here| here.refuse_writes()).await?;
                return Err(error);
            }
        }
        let placement = Placement::settled(&self.old);
        desk.look(move |here| here.set_placement(placement)).await?;
        let mut cleared = Ok(());
        if let Some(window) = copied.filter(|window| !window.is_empty()) {
            // The copy may lie where clean sectors have their place. They are above the window,
            // and the guest is kept out of them as out of the window.
            let copy = self.new.place_of(window.start);
            let end = self.old.place_of(self.record.frontier);
            if copy < end {
                let from = self.block_of_copy(desk, window, copy).await?;
                cleared = desk.clear(FileRange::between(from..end)).await;
            }
        }
        // A copy that cannot be cleared lies under clean sectors, and the rest is put back.
        desk.look(|here| here.set_hold(Hold::Nothing)).await?;
        let put_back = before.put_back(desk).await;
        cleared.and(put_back)
    }
}

impl Reflow {
    /// Where the copy of `window`, which begins at `copy`, is cleared from: the start of the block
    /// that it begins within, if that holds nothing else and the guest is kept out of it. Otherwise
    /// the block would keep its space.
    async fn block_of_copy<F: HostFile>(
        &self,
        desk: &Desk<F>,
        window: SectorRange,
        copy: FileOffset,
    ) -> Result<FileOffset, ResizeError> {
        let old = self.old;
        let block = FileOffset(copy.0 / BLOCK * BLOCK).max(old.data_offset);
        let at = |place: FileOffset| Sector(0) + (place - old.data_offset).whole_sectors();
        let below = SectorRange::between(at(block)..at(copy));
        let is_free = move |map: &SectorMap| map.dirty_runs(below).next().is_none();
        let is_free = desk.look(move |here| is_free(here.device().map())).await?;
        Ok(match is_free && below.start >= window.start {
            true => block,
            false => copy,
        })
    }
}

/// The piece below `from`, and its dirty runs. Above the `first` piece that has some, all are clean
/// and passed over.
fn next_below<F: HostFile>(
    device: &Ordered<F>,
    from: Sector,
    piece: SectorCount,
    first: bool,
) -> (Sector, Vec<SectorRange>) {
    let mut start = from;
    loop {
        let below = Sector(start.0.saturating_sub(piece.0));
        let runs = device.map().dirty_runs(SectorRange::between(below..start));
        let runs: Vec<SectorRange> = runs.collect();
        if !runs.is_empty() || !first || below == Sector(0) {
            return (below, runs);
        }
        start = below;
    }
}

impl<F: HostFile> Resize<F> for Reflow {
    fn begin(self: Box<Self>, desk: Desk<F>) -> Procedure {
        Box::pin(async move { self.carry_out(&desk, &|| None).await })
    }
}

impl<F: HostFile, C: Fn() -> u64 + 'static> Resize<F> for Timed<C> {
    fn begin(self: Box<Self>, desk: Desk<F>) -> Procedure {
        Box::pin(async move {
            let Timed { reflow, clock } = *self;
            reflow.carry_out(&desk, &|| Some(clock())).await
        })
    }
}

/// Changes the header's first sector, on disk and then in memory, and syncs.
async fn write_header<F: HostFile>(
    desk: &Desk<F>,
    change: impl FnOnce(&mut Header),
) -> Result<Header, NotCommitted> {
    let Some(image) = desk.look(|here| here.device().image().cloned()).await? else {
        return Err(ResizeError::Refused("a raw disk has no header".into()).into());
    };
    let mut header = image.header;
    change(&mut header);
    desk.commit_header(&header).await?;
    Ok(header)
}

/// Makes the slot of a record void, durably: the record before it counts then.
async fn erase<F: HostFile>(desk: &Desk<F>, record: &JournalRecord) -> Result<(), ResizeError> {
    let void = vec![0; JournalRecord::SLOTS_LEN / 2];
    desk.write(FileRole::Cow, JOURNAL, record.slot_offset(), void)
        .await?;
    desk.sync_to_undo().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freeing_under_live_io_adapts_in_whatever_order_that_was_asked_for() {
        let layout = |alignment| {
            let size = Bytes(1 << 20);
            Geometry::new(Version::V3, size, alignment).expect("a layout that there is")
        };
        let (old, new) = (layout(4096), layout(8192));
        let reflow = || {
            let record = JournalRecord {
                sequence: 1,
                frontier: Sector(0),
                old_size: old.size,
                old_alignment: 4096,
                new_size: new.size,
                new_alignment: 8192,
            };
            Reflow::from(record, old, new, false)
        };
        let at_once = AtOnce::of(Bytes(512));
        let window = Bytes(1 << 20);
        for live in [
            reflow().while_live(window).with_at_once(at_once),
            reflow().with_at_once(at_once).while_live(window),
        ] {
            let freeing = live.freeing.as_ref().expect("it follows from the time");
            assert_eq!(freeing.amount(), Pace::adapting(LIVE_FREEING).amount());
            assert_eq!(live.at_once, at_once);
            assert_eq!(live.freed_a_step(), at_once.freed_a_step());
        }
        assert!(reflow().with_at_once(at_once).freeing.is_none());
        // By default the pace alone decides.
        let mut live = reflow().while_live(window);
        for amount in [LIVE_FREEING.most, 16, 1] {
            live.freeing = Some(Pace::fixed(amount));
            assert_eq!(live.freed_a_step(), amount);
        }
    }
}
