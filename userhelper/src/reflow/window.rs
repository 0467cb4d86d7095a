//! Which sectors the next window has: as many as have no more data than the pace allows, and no
//! more than the distance moved.

use driver::host::{FileRole, HostFile};
use driver::ordered::{Desk, Hold, Ordered};
use driver::resize::ResizeError;
use driver::units::{Bytes, FileOffset, FileRange, Sector, SectorCount, SectorRange};

use super::copying::READING;
use super::{Clock, Reflow};
use crate::space::{BLOCK, Blocks};

impl Reflow {
    /// Chooses the next window, and keeps requests out of it.
    ///
    /// It ends where the last dirty run below the frontier does. It begins as far
    /// down as it may: the bytes to move in it are limited, and it is not longer than the
    /// distance moved, so that no copy goes over a source. What lies between it and the frontier
    /// is clean: there is nothing to move, but a write there would have to know which side of the
    /// frontier it is on, so requests are kept out of that too.
    pub(super) async fn choose<F: HostFile>(
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
    pub(super) async fn settle<F: HostFile>(
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

    /// Adds the data of a dirty run at its old place; the bytes of the blocks that this has added.
    /// What a grow has added is dirty and a hole, and costs next to nothing to move.
    async fn add_data<F: HostFile>(
        &mut self,
        blocks: &mut Blocks,
        desk: &Desk<F>,
        run: SectorRange,
    ) -> Result<Bytes, ResizeError> {
        let mut source = self.source_of(run);
        if source.len <= self.at_once.short() {
            return Ok(blocks.add(source));
        }
        let mut data = Bytes(0);
        while let Some(found) = self.data_below(desk, source).await? {
            data += blocks.add(found);
            source = FileRange::between(found.end()..source.end());
        }
        Ok(data)
    }

    /// The first data in a part of what a window is chosen from, cut to it.
    ///
    /// A host may have to go through all data up to the next hole to tell where that is, and pieces
    /// are looked at downwards. So where a piece is dirty from end to end, it is asked once from as
    /// far down as the window may reach: what has no hole from there on counts for the pieces to
    /// come too.
    async fn data_below<F: HostFile>(
        &mut self,
        desk: &Desk<F>,
        source: FileRange,
    ) -> Result<Option<FileRange>, ResizeError> {
        let covers = |found: &FileRange| found.start <= source.start && source.start < found.end();
        let most = Bytes(self.pace.amount());
        let is_whole = source.len >= self.at_once.bytes().min(most);
        if is_whole && !self.found.as_ref().is_some_and(covers) {
            let lowest = source.start.0.saturating_sub(most.0);
            let lowest = FileOffset(lowest).max(self.old.data_offset);
            // What cannot be told from there is asked for once more.
            let found = desk.data_from(FileRole::Cow, lowest).await?;
            self.found = found.unwrap_or_default();
        }
        match self.found.filter(covers) {
            Some(found) => Ok(found.common(source)),
            None => desk.next_data(FileRole::Cow, READING, source).await,
        }
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
