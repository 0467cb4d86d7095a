//! What a plan needs of the host: the space that moved data takes, and whether it is free.

use driver::cow::Geometry;
use driver::host::{HostFile, OperationKind};
use driver::units::{Bytes, FileRange, Sector, SectorCount, SectorRange};

use super::choice::Planner;
use crate::losses::NotExamined;
use crate::space::{BLOCK, Blocks};

/// At most this many pieces of data are looked at while requests wait. The host is asked for each.
const MOST_PIECES_LIVE: usize = 4096;

/// At most this many dirty runs are looked at while requests wait, which takes some milliseconds.
const MOST_RUNS_LIVE: usize = 1 << 16;

impl<F: HostFile> Planner<'_, F> {
    /// A count of blocks of the host's file system, of which there are none yet.
    pub(super) fn blocks(&self) -> Blocks {
        let block = self.surroundings.free_space.map(|space| space.block.0);
        Blocks::of(block.unwrap_or(BLOCK))
    }

    /// Adds what the data that stays takes in the layout `new`; how much it is. A dirty hole takes
    /// no space, and stays one. While requests wait, only the first pieces and runs are looked at:
    /// each dirty sector after them is taken to be data, in a block of its own if there are as many
    /// blocks.
    pub(super) fn add_data(
        &self,
        space: &mut Blocks,
        new: &Geometry,
    ) -> Result<Bytes, NotExamined> {
        let (old, map) = (self.image.geometry, self.device.map());
        let end = Sector(0) + self.device.capacity().min(new.capacity());
        let area = FileRange::new(old.data_offset, (end - Sector(0)).bytes());
        let (most_pieces, mut runs_left) = match self.wish.online {
            true => (MOST_PIECES_LIVE, MOST_RUNS_LIVE),
            false => (usize::MAX, usize::MAX),
        };
        // Up to `from` all is counted.
        let (mut from, mut sum) = (Sector(0), SectorCount(0));
        let mut is_cut_short = false;
        'pieces: for (piece, data) in self.device.cow().data_runs(area).enumerate() {
            let data = data.map_err(|error| NotExamined {
                kind: OperationKind::NextData,
                doing: "examining the COW file",
                at: area.start,
                error,
            })?;
            let start = Sector(0) + (data.start - area.start).whole_sectors();
            let stop = Sector(0) + (data.end() - area.start).sectors_touched();
            from = from.max(start);
            is_cut_short = piece >= most_pieces;
            if is_cut_short {
                break;
            }
            let stop = stop.min(end).max(from);
            for run in map.dirty_runs(SectorRange::between(from..stop)) {
                is_cut_short = runs_left == 0;
                if is_cut_short {
                    break 'pieces;
                }
                runs_left -= 1;
                space.add(FileRange::new(new.place_of(run.start), run.count.bytes()));
                sum += run.count;
                from = run.end();
            }
            from = stop;
        }
        if is_cut_short && from < end {
            let range = SectorRange::between(from..end);
            let rest = map.dirty_count().0.saturating_sub(sum.0);
            let rest = SectorCount(rest.min(range.count.0));
            let place = FileRange::new(new.place_of(from), range.count.bytes());
            space.add_scattered(rest, place);
            sum += rest;
        }
        Ok(sum.bytes())
    }

    /// What is free, if that is less than `needed`.
    pub(super) fn lacking(&self, needed: Bytes) -> Option<Bytes> {
        let free = self.surroundings.free_space?.free;
        (free < needed).then_some(free)
    }
}
