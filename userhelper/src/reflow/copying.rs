//! Copying a window to its new place: dirty runs, holes as holes.

use driver::host::HostFile;
use driver::ordered::Ordered;
use driver::resize::ResizeError;
use driver::units::{Bytes, FileOffset, FileRange, Sector, SectorRange};

use super::{Reflow, Stage};
use crate::copying::is_zero;
use crate::space::Blocks;

const READING: &str = "reading the data to be moved in the COW file";

const MOVING: &str = "moving data in the COW file";

impl Reflow {
    /// Adds the data of a dirty run at its old place; the bytes of the blocks that this has added.
    /// What a grow has added is dirty and a hole, and costs next to nothing to move.
    pub(super) fn add_data<F: HostFile>(
        &self,
        blocks: &mut Blocks,
        device: &Ordered<F>,
        run: SectorRange,
    ) -> Result<Bytes, ResizeError> {
        let source = FileRange::new(self.old.place_of(run.start), run.count.bytes());
        if source.len <= self.at_once.short() {
            return Ok(blocks.add(source));
        }
        let mut data = Bytes(0);
        for run in device.cow().data_runs(source) {
            data += blocks.add(run.map_err(ResizeError::host(READING, source.start))?);
        }
        Ok(data)
    }

    /// Copies up to a step's worth of the window's dirty runs, holes as holes.
    pub(super) fn copy<F: HostFile>(
        &mut self,
        device: &mut Ordered<F>,
        window: SectorRange,
        at: Sector,
    ) -> Result<(), ResizeError> {
        let Some(run) = device.map().next_dirty(at, window.end()) else {
            self.stage = Stage::Sync { window };
            return Ok(());
        };
        let source = FileRange::new(self.old.place_of(run.start), run.count.bytes());
        let shift = self.new.data_offset - self.old.data_offset;
        if source.len <= self.at_once.short() && self.copy_short(device, source, shift)? {
            let at = run.end();
            self.stage = Stage::Copy { window, at };
            return Ok(());
        }
        let data = device.cow().data_runs(source).next().transpose();
        let data = data
            .map_err(ResizeError::host(READING, source.start))?
            .unwrap_or(FileRange::new(source.end(), Bytes(0)));
        // A hole is moved whole; of data, a step's worth.
        clear_gap(device, source.start..data.start, shift)?;
        let len = data.len.min(self.at_once.bytes());
        self.buffer.resize(len.0 as usize, 0);
        device
            .cow()
            .read_exact_at(&mut self.buffer, data.start)
            .map_err(ResizeError::host(READING, data.start))?;
        device.write_for_relocation(MOVING, &self.buffer, data.start + shift)?;
        self.moved += len;
        let done = data.start + len - source.start;
        let at = run.start + done.sectors_touched();
        self.stage = Stage::Copy { window, at };
        Ok(())
    }

    /// Copies a short dirty run, if it is not a hole for all that can be seen. Whether it did.
    fn copy_short<F: HostFile>(
        &mut self,
        device: &mut Ordered<F>,
        source: FileRange,
        shift: Bytes,
    ) -> Result<bool, ResizeError> {
        self.buffer.resize(source.len.0 as usize, 0);
        device
            .cow()
            .read_exact_at(&mut self.buffer, source.start)
            .map_err(ResizeError::host(READING, source.start))?;
        if is_zero(&self.buffer) {
            return Ok(false);
        }
        device.write_for_relocation(MOVING, &self.buffer, source.start + shift)?;
        self.moved += source.len;
        Ok(true)
    }
}

/// Where a dirty run has a hole, its copy has to have one too.
fn clear_gap<F: HostFile>(
    device: &mut Ordered<F>,
    gap: std::ops::Range<FileOffset>,
    shift: Bytes,
) -> Result<(), ResizeError> {
    if gap.start >= gap.end {
        return Ok(());
    }
    device.clear_for_relocation(FileRange::between(gap.start + shift..gap.end + shift))
}
