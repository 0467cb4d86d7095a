//! Giving back the space where data was, as far as the new layout leaves it unused.

use driver::cow::{Geometry, SectorMap};
use driver::host::{FileRole, HostFile};
use driver::ordered::{Desk, Hold};
use driver::resize::ResizeError;
use driver::units::{Bytes, FileOffset, FileRange, Sector, SectorRange};

use super::{Clock, Reflow};
use crate::pace::Pace;
use crate::space::BLOCK;

impl Reflow {
    /// Frees a window's source, except where later windows will be copied to.
    ///
    /// Requests and publications go on meanwhile. None of them touches what is freed: the window
    /// is above the frontier now, and what will have its place here is below it, and at its old
    /// place. The last block is an exception where the window is as long as the distance moved:
    /// it is rounded up to what sectors above the frontier have.
    pub(super) async fn free_source<F: HostFile>(
        &mut self,
        desk: &Desk<F>,
        window: SectorRange,
        clock: Clock<'_>,
    ) -> Result<(), ResizeError> {
        // In whole blocks: the one that the window begins within goes before the next is copied.
        let source = self.source_of(window);
        let source = source.start.round_up(BLOCK)..source.end().round_up(BLOCK);
        let border = self.new.place_of(window.start);
        let shared = border.round_down(BLOCK).max(source.start);
        let mut left = Some(FileRange::between(source.start..source.end.min(shared)));
        while let Some(source) = left {
            self.look_at(clock);
            self.pace.end();
            self.end_freeing();
            self.progress.set_windows(self.pace.windows());
            let freed;
            (left, freed) = self.free_some(desk, source).await?;
            if left.is_some() {
                if let Some(freeing) = &mut self.freeing {
                    freeing.begin(freed);
                }
                desk.pass().await?;
            }
        }
        match shared < source.end {
            true => self.free_shared(desk, window, shared..source.end).await,
            false => Ok(()),
        }
    }

    /// Frees the last block of a window's source, in which sectors above the frontier have their
    /// place. A request could write one of them between the look that finds it clean and the
    /// punch, and so requests are kept out of them meanwhile.
    async fn free_shared<F: HostFile>(
        &mut self,
        desk: &Desk<F>,
        window: SectorRange,
        shared: std::ops::Range<FileOffset>,
    ) -> Result<(), ResizeError> {
        let above = Sector(0) + (shared.end - self.new.data_offset).whole_sectors();
        let kept_out = Hold::Window(SectorRange::between(window.start..above));
        desk.look(move |here| here.set_hold(kept_out)).await?;
        // Those end that were under way there.
        desk.turn().await?;
        let mut left = Some(FileRange::between(shared));
        while let Some(shared) = left {
            (left, _) = self.free_some(desk, shared).await?;
        }
        desk.look(|here| here.set_hold(Hold::Nothing)).await
    }

    /// Frees the block that the last window began within, if this one, which is not copied yet,
    /// does not end in it: [`Reflow::free_source`] has left it to the window that does.
    ///
    /// Requests for what is between this window's start and the frontier wait. What has its place
    /// here in the new layout is one of these, or below them and at its old place.
    pub(super) async fn free_left<F: HostFile>(
        &mut self,
        desk: &Desk<F>,
        window: SectorRange,
    ) -> Result<(), ResizeError> {
        let frontier = self.record.frontier;
        let border = self.old.place_of(frontier);
        let block = border.round_down(BLOCK);
        let end = border.round_up(BLOCK).min(self.new.place_of(frontier));
        let has_moved = frontier < Sector(0) + self.old.capacity();
        if !has_moved || end <= block || block < self.source_of(window).end().round_up(BLOCK) {
            return Ok(());
        }
        self.free_some(desk, FileRange::between(block..end))
            .await
            .map(drop)
    }

    /// The most stretches that the next step frees.
    pub(super) fn freed_a_step(&self) -> u64 {
        let most = self.at_once.freed_a_step();
        let pace = self.freeing.as_ref().map_or(most, Pace::amount);
        pace.min(most)
    }

    /// Frees a step's worth of what is left of a source. Returns what is left then, and how many
    /// stretches were freed.
    ///
    /// What the host calls a hole is freed too: it can have space all the same. ext4 and XFS call a
    /// range so that was zeroed and has not been read since.
    async fn free_some<F: HostFile>(
        &mut self,
        desk: &Desk<F>,
        source: FileRange,
    ) -> Result<(Option<FileRange>, u64), ResizeError> {
        // A host that cannot tell holes from data has none to make.
        let told = desk.data_from(FileRole::Cow, source.start).await?;
        if told.is_err() {
            return Ok((None, 0));
        }
        let (mut left, mut freed) = (source, 0);
        let (new, most) = (self.new, self.freed_a_step());
        while freed < most {
            let unused = desk.look(move |here| next_unused(&new, here.device().map(), left));
            let Some(unused) = unused.await? else {
                return Ok((None, freed));
            };
            desk.free(unused).await?;
            freed += 1;
            left = FileRange::between(unused.end()..source.end());
        }
        Ok((Some(left), freed))
    }
}

/// The first whole blocks of a range of the file in which no dirty sector will have its
/// place.
fn next_unused(new: &Geometry, map: &SectorMap, range: FileRange) -> Option<FileRange> {
    let data = new.data_offset;
    if range.start < data {
        let before = FileRange::between(range.start..range.end().min(data)).whole_blocks(BLOCK);
        if before.is_some() {
            return before;
        }
    }
    let place = |at: FileOffset| Bytes(at.0.saturating_sub(data.0));
    let mut from = Sector(0) + place(range.start).whole_sectors();
    let until = Sector(0) + place(range.end()).sectors_touched().min(map.sectors());
    while let Some(clean) = map.next_clean(from, until) {
        let clean_place = FileRange::new(new.place_of(clean.start), clean.count.bytes());
        let unused = clean_place
            .common(range)
            .and_then(|unused| unused.whole_blocks(BLOCK));
        if unused.is_some() {
            return unused;
        }
        from = clean.end();
    }
    None
}

#[cfg(test)]
mod tests {
    use driver::cow::{JournalRecord, Version};

    use super::*;
    use crate::at_once::AtOnce;
    use crate::pace::LIVE_FREEING;

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
