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
//!
//! The steps are here in their order, and each is in a file of its own: `window` chooses what moves
//! next, `copying` moves it, `journal` remembers that and `freeing` gives the space back. `bitmap`
//! and `header` put the new layout in force. `undoing` ends a reflow that has moved nothing.

mod bitmap;
mod copying;
mod freeing;
mod header;
mod journal;
mod undoing;
mod window;

use driver::cow::{Extension, Geometry, JournalRecord, Version};
use driver::host::{FileRole, HostFile};
use driver::ordered::{Before, Desk, Ordered, PartialSector, Procedure, Resize};
use driver::resize::{ResizeError, ResizeOutcome, Resized, Strategy};
use driver::units::{Bytes, FileRange, SECTOR_SIZE, Sector, SectorCount, SectorRange};

use undoing::Undo;

use crate::at_once::AtOnce;
use crate::pace::{self, LIVE_FREEING, Pace};
use crate::progress::Progress;

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
        if !new.lies_after(&old) || new.capacity() < device.capacity() {
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

impl Reflow {
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
        self.write_first_record(desk).await
    }

    /// Frees what the new layout does not use.
    async fn tidy<F: HostFile>(&self, desk: &Desk<F>) -> Result<(), ResizeError> {
        desk.pass().await?;
        let bitmap_and_slack = self.old.bitmap_offset..self.new.bitmap_offset;
        desk.free(FileRange::between(bitmap_and_slack)).await
    }

    fn distance(&self) -> SectorCount {
        (self.new.data_offset - self.old.data_offset).whole_sectors()
    }

    /// Where the data of a window was.
    fn source_of(&self, window: SectorRange) -> FileRange {
        FileRange::new(self.old.place_of(window.start), window.count.bytes())
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
}
