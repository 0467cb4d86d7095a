//! What is in the file where nothing should be: bits past the device's end, data in clean
//! sectors, data past the data area.

use std::path::Path;

use driver::cow::Geometry;
use driver::host::{FileKind, HostFile, Metadata};
use driver::ordered::Ordered;
use driver::units::{Bytes, FileOffset, FileRange, Sector, SectorCount};

use crate::copying::is_zero;
use crate::image::{ImageError, Watch, report};

use super::findings::{Fault, Finding};

/// Space is given back in blocks of the host's file systems, which are this or less.
const BLOCK: u64 = 4096;

/// Bytes that are read at once.
const CHUNK: u64 = 1 << 20;

/// Shorter runs of zeros are not worth a word: stock tools leave some where they give a file its
/// length, and a file system may have blocks of this size around what is written.
const LEAST_ZEROS: Bytes = Bytes(64 << 10);

/// What is in blocks that could be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stale {
    /// Data of clean sectors.
    Data,
    /// Zeros, which a hole would read as. A copy without holes has them.
    Zeros,
}

pub(super) struct Space<'a, F> {
    pub(super) path: &'a Path,
    pub(super) device: &'a Ordered<F>,
    pub(super) geometry: Geometry,
    pub(super) metadata: Metadata,
}

impl<F: HostFile> Space<'_, F> {
    /// Bits past the last sector's: in the rest of the bitmap's last byte and, where a longer
    /// bitmap would go on, up to the data.
    pub(super) fn check_bitmap(&self, findings: &mut Vec<Finding>) -> Result<(), ImageError> {
        let Some(at) = self.first_bit_past_end()? else {
            return Ok(());
        };
        let text = format!(
            "bits are set behind that of the last sector, {}, as an interrupted resize can leave \
             them; --repair clears them: a grow by another tool would take what they stand for as \
             written",
            self.geometry.capacity().0.saturating_sub(1)
        );
        findings.push(Finding::new(Fault::BitsPastEnd, at, text));
        Ok(())
    }

    fn first_bit_past_end(&self) -> Result<Option<FileOffset>, ImageError> {
        let geometry = &self.geometry;
        let (last, mask) = last_byte(geometry);
        let mut byte = [0];
        let reading = |at| ImageError::host(self.path, "reading the bitmap", at);
        let cow = self.device.cow();
        if let Some(at) = last {
            cow.read_exact_at(&mut byte, at).map_err(reading(at))?;
            if byte[0] & !mask != 0 {
                return Ok(Some(at));
            }
        }
        first_nonzero(cow, slack(geometry)).map_err(reading(geometry.bitmap_offset))
    }

    /// A file shorter or longer than its data area.
    pub(super) fn check_length(&self, findings: &mut Vec<Finding>) -> Result<(), ImageError> {
        let end = self.geometry.data_end();
        let len = FileOffset(self.metadata.len.0);
        if len < end {
            let text = format!(
                "the file ends here, a whole one ends at byte {end}; nothing that is dirty is lost"
            );
            findings.push(Finding::new(Fault::FileShort, len, text));
        }
        // A block device is as long as it is.
        if len > end && self.metadata.kind == FileKind::Regular {
            let trailing = len - end;
            let finding = match self.takes_space(end, len)? {
                true => Finding {
                    leaked: trailing,
                    ..Finding::new(
                        Fault::TrailingData,
                        end,
                        format!("{trailing} lie behind the end of the data area"),
                    )
                },
                false => Finding::new(
                    Fault::TrailingHole,
                    end,
                    format!("a hole of {trailing} past the end of the data area"),
                ),
            };
            findings.push(finding);
        }
        Ok(())
    }

    /// Whether there is anything but a hole between these two. What lies in a block of the data
    /// area takes no space of its own.
    fn takes_space(&self, end: FileOffset, len: FileOffset) -> Result<bool, ImageError> {
        let from = FileOffset(end.0.next_multiple_of(BLOCK)).min(len);
        let cow = self.device.cow();
        let examining = ImageError::host(self.path, "examining", from);
        let mut runs = cow.data_runs(FileRange::between(from..len));
        runs.next()
            .transpose()
            .map_err(examining)
            .map(|run| run.is_some())
    }

    /// Blocks of data in clean sectors, and long runs of zeros there and before the data.
    pub(super) fn check_stale(
        &self,
        findings: &mut Vec<Finding>,
        watch: Watch<'_>,
    ) -> Result<(), ImageError> {
        let mut first = None;
        let (mut data, mut zeros) = (Bytes(0), Bytes(0));
        self.for_each_stale(watch, &mut |stale, range| {
            first.get_or_insert(range.start);
            match stale {
                Stale::Data => data += range.len,
                Stale::Zeros => zeros += range.len,
            }
            Ok(())
        })?;
        if let Some(at) = first {
            let mut text = Vec::new();
            if data > Bytes(0) {
                text.push(format!(
                    "{data} of data in clean sectors, which are read from the backing file"
                ));
            }
            if zeros > Bytes(0) {
                text.push(format!("{zeros} of zeros where holes would do"));
            }
            let mut finding = Finding::new(Fault::StaleData, at, text.join("; "));
            finding.leaked = data + zeros;
            findings.push(finding);
        }
        Ok(())
    }

    /// Calls for each run of blocks that could be given back, in order.
    pub(super) fn for_each_stale(
        &self,
        watch: Watch<'_>,
        call: &mut dyn FnMut(Stale, FileRange) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        self.for_each_zeros_before_data(call)?;
        let area = FileRange::new(self.geometry.data_offset, self.geometry.capacity().bytes());
        let total = area.len;
        let reading = |at| ImageError::host(self.path, "reading the data area", at);
        for data in self.device.cow().data_runs(area) {
            let data = data.map_err(reading(area.start))?;
            let end = self.sector_of(data.end() + Bytes(511));
            let mut from = self.sector_of(data.start);
            while let Some(clean) = self.device.map().next_clean(from, end) {
                from = clean.end();
                let start = self.geometry.place_of(clean.start).max(data.start);
                let stop = self.geometry.place_of(clean.end()).min(data.end());
                let first = FileOffset(start.0.next_multiple_of(BLOCK));
                let last = FileOffset(stop.0 / BLOCK * BLOCK);
                if first < last {
                    self.stale_blocks(FileRange::between(first..last), call)?;
                }
                report(watch, stop - area.start, total)?;
            }
        }
        Ok(())
    }

    /// The header's block aside: a copy without holes may have up to 2 GiB there.
    fn for_each_zeros_before_data(
        &self,
        call: &mut dyn FnMut(Stale, FileRange) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        let last = FileOffset(self.geometry.data_offset.0 / BLOCK * BLOCK);
        let area = FileRange::between(FileOffset(BLOCK)..last.max(FileOffset(BLOCK)));
        let reading = |at| ImageError::host(self.path, "reading the bitmap", at);
        for data in self.device.cow().data_runs(area) {
            let data = data.map_err(reading(area.start))?;
            let first = FileOffset(data.start.0.next_multiple_of(BLOCK));
            let last = FileOffset(data.end().0 / BLOCK * BLOCK);
            if first < last {
                let range = FileRange::between(first..last);
                self.stale_blocks(range, &mut |stale, range| match stale {
                    Stale::Data => Ok(()),
                    Stale::Zeros => call(stale, range),
                })?;
            }
        }
        Ok(())
    }

    /// The runs of blocks in a range that hold anything but zeros, and the long ones of zeros.
    fn stale_blocks(
        &self,
        range: FileRange,
        call: &mut dyn FnMut(Stale, FileRange) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        let mut buffer = Vec::new();
        let mut at = range.start;
        while at < range.end() {
            buffer.resize((range.end() - at).0.min(CHUNK) as usize, 0);
            let reading = ImageError::host(self.path, "reading the data area", at);
            self.device
                .cow()
                .read_exact_at(&mut buffer, at)
                .map_err(reading)?;
            let stale = |block: &[u8]| match is_zero(block) {
                true => Stale::Zeros,
                false => Stale::Data,
            };
            let blocks: Vec<Stale> = buffer.chunks(BLOCK as usize).map(stale).collect();
            let mut block = 0;
            for run in blocks.chunk_by(|a, b| a == b) {
                let len = Bytes(run.len() as u64 * BLOCK);
                if run[0] == Stale::Data || len >= LEAST_ZEROS {
                    let start = at + Bytes(block * BLOCK);
                    call(run[0], FileRange::new(start, len))?;
                }
                block += run.len() as u64;
            }
            at += Bytes(buffer.len() as u64);
        }
        Ok(())
    }

    /// The sector whose place a position in the data area belongs to.
    fn sector_of(&self, at: FileOffset) -> Sector {
        let sectors = (at - self.geometry.data_offset).whole_sectors();
        Sector(0) + sectors.min(self.geometry.capacity())
    }
}

/// The last byte of the bitmap in force, if the device does not use all of its bits, and those
/// that it uses.
pub(super) fn last_byte(geometry: &Geometry) -> (Option<FileOffset>, u8) {
    let mapped: SectorCount = geometry.mapped();
    let used = mapped.0 % 8;
    let whole = mapped.0 / 8;
    // The room for a bit of a partial last sector may be a byte of its own.
    if whole >= geometry.bitmap_len.0 {
        return (None, 0xff);
    }
    let mask = (1_u16 << used) as u8 - 1;
    (Some(geometry.bitmap_offset + Bytes(whole)), mask)
}

/// The space between bitmap and data, where a longer bitmap would go on. Before version 3 there
/// was never anything to go on.
pub(super) fn slack(geometry: &Geometry) -> FileRange {
    FileRange::between(geometry.bitmap().end()..geometry.data_offset)
}

fn first_nonzero<F: HostFile>(
    file: &F,
    range: FileRange,
) -> driver::host::HostResult<Option<FileOffset>> {
    let mut buffer = Vec::new();
    for data in file.data_runs(range) {
        let data = data?;
        let mut at = data.start;
        while at < data.end() {
            buffer.resize((data.end() - at).0.min(CHUNK) as usize, 0);
            file.read_exact_at(&mut buffer, at)?;
            if let Some(byte) = buffer.iter().position(|&byte| byte != 0) {
                return Ok(Some(at + Bytes(byte as u64)));
            }
            at += Bytes(buffer.len() as u64);
        }
    }
    Ok(None)
}
