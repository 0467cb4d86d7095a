//! What is in the file where nothing should be: bits past the device's end, data in clean
//! sectors, data past the data area.

use std::path::Path;

use driver::cow::Geometry;
use driver::host::{FileKind, HostFile, Metadata};
use driver::ordered::Ordered;
use driver::units::{Bytes, FileOffset, FileRange, Sector, SectorCount};

use crate::image::{ImageError, Watch, report};
use crate::image_host::ImageHost;
use crate::space::BLOCK;
use crate::zeros::is_zero;

use super::findings::{Fault, Finding};

/// Bytes that are read at once.
const CHUNK: u64 = 1 << 20;

/// Shorter runs of zeros are not worth a word: stock tools leave some where they give a file its
/// length, and a file system may have blocks of this size around what is written.
const LEAST_ZEROS: Bytes = Bytes(64 << 10);

/// Of this many bytes of a file, its file system has at most one byte of records, which say where
/// the file's blocks are.
const RECORDS: u64 = 128;

/// Is called for a run of blocks that could be given back.
type OnStale<'a> = &'a mut dyn FnMut(Stale, FileRange) -> Result<(), ImageError>;

/// What is in blocks that could be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stale {
    /// Data of clean sectors.
    Data,
    /// Zeros, which a hole would read as. A copy without holes has them.
    Zeros,
}

/// Stale bytes of one kind: where the first are, and how many.
#[derive(Clone, Copy, Debug, Default)]
struct StaleBytes {
    first: Option<FileOffset>,
    len: Bytes,
}

impl StaleBytes {
    fn add(&mut self, range: FileRange) {
        self.first.get_or_insert(range.start);
        self.len += range.len;
    }

    fn at_most(self, len: Bytes) -> StaleBytes {
        let len = self.len.min(len);
        let first = self.first.filter(|_| len > Bytes(0));
        StaleBytes { first, len }
    }
}

/// The file of an open device, with what the host says of it.
pub(super) struct Space<'a, F> {
    path: &'a Path,
    device: &'a Ordered<F>,
    geometry: Geometry,
    metadata: Metadata,
    /// The space that the file takes. `None` where the host does not say that, and of a block
    /// device, which has no holes.
    allocated: Option<Bytes>,
}

impl<'a, F: HostFile> Space<'a, F> {
    /// Asks the host about the file of `device`, whose layout is `geometry`.
    ///
    /// # Errors
    /// The host's.
    pub(super) fn of<H: ImageHost<File = F>>(
        host: &H,
        path: &'a Path,
        device: &'a Ordered<F>,
        geometry: Geometry,
    ) -> Result<Space<'a, F>, ImageError> {
        let examining = ImageError::host(path, "examining", FileOffset(0));
        let metadata = host.metadata(device.cow()).map_err(&examining)?;
        let allocated = match metadata.kind {
            FileKind::Regular => host.allocated(device.cow()).map_err(&examining)?,
            _ => None,
        };
        Ok(Space {
            path,
            device,
            geometry,
            metadata,
            allocated,
        })
    }

    /// Whether the file is one that can get another length. A block device cannot.
    pub(super) fn is_regular(&self) -> bool {
        self.metadata.kind == FileKind::Regular
    }
}

impl<F: HostFile> Space<'_, F> {
    /// Bits past the last sector's: in the rest of the bitmap's last byte and, where a longer
    /// bitmap would go on, up to the data.
    pub(super) fn check_bitmap(
        &self,
        findings: &mut Vec<Finding>,
        watch: Watch<'_>,
    ) -> Result<(), ImageError> {
        let Some(at) = self.first_bit_past_end(watch)? else {
            return Ok(());
        };
        let text = format!(
            "bits are set past that of the last sector, {}, as an interrupted resize can leave \
             them, and Linux's driver does with its memory; --repair clears them: a grow by another \
             tool would take what they stand for as written",
            self.geometry.capacity().0.saturating_sub(1)
        );
        findings.push(Finding::new(Fault::BitsPastEnd, at, text));
        Ok(())
    }

    fn first_bit_past_end(&self, watch: Watch<'_>) -> Result<Option<FileOffset>, ImageError> {
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
        self.first_nonzero(slack(geometry), watch)
    }

    /// The first byte in a range before the data that is not zero.
    fn first_nonzero(
        &self,
        range: FileRange,
        watch: Watch<'_>,
    ) -> Result<Option<FileOffset>, ImageError> {
        let cow = self.device.cow();
        let reading = |at| ImageError::host(self.path, "reading the bitmap", at);
        let mut buffer = Vec::new();
        for data in cow.data_runs(range) {
            let data = data.map_err(reading(range.start))?;
            let mut at = data.start;
            while at < data.end() {
                buffer.resize((data.end() - at).0.min(CHUNK) as usize, 0);
                cow.read_exact_at(&mut buffer, at).map_err(reading(at))?;
                if let Some(byte) = buffer.iter().position(|&byte| byte != 0) {
                    return Ok(Some(at + Bytes(byte as u64)));
                }
                at += Bytes(buffer.len() as u64);
                self.report(at, watch)?;
            }
        }
        Ok(None)
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
        if len > end && self.is_regular() {
            let trailing = len - end;
            let finding = match self.takes_space(end, len)? {
                true => Finding {
                    leaked: trailing,
                    ..Finding::new(
                        Fault::TrailingData,
                        end,
                        format!("{trailing} past the end of the data area"),
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
        let from = end.round_up(BLOCK).min(len);
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
        let (mut data, mut zeros) = (StaleBytes::default(), StaleBytes::default());
        self.for_each_stale(watch, &mut |stale, range| {
            match stale {
                Stale::Data => data.add(range),
                Stale::Zeros => zeros.add(range),
            }
            Ok(())
        })?;
        if zeros.len > Bytes(0) {
            zeros = zeros.at_most(self.zeros_that_take_space(zeros.len)?);
        }
        let Some(at) = [data.first, zeros.first].into_iter().flatten().min() else {
            return Ok(());
        };
        let mut text = Vec::new();
        if data.len > Bytes(0) {
            text.push(format!(
                "{} of data in clean sectors, which are read from the backing file",
                data.len
            ));
        }
        if zeros.len > Bytes(0) {
            text.push(format!("{} of zeros where holes would do", zeros.len));
        }
        let mut finding = Finding::new(Fault::StaleData, at, text.join("; "));
        finding.leaked = data.len + zeros.len;
        findings.push(finding);
        Ok(())
    }

    /// How much of this many bytes of zeros takes space for certain. A host that cannot tell where
    /// holes are says that all of a file is data; then the space that the file takes is less than
    /// that data, and the difference is holes, which read as zeros.
    fn zeros_that_take_space(&self, zeros: Bytes) -> Result<Bytes, ImageError> {
        let Some(allocated) = self.allocated else {
            return Ok(Bytes(0));
        };
        let file = FileRange::new(FileOffset(0), self.metadata.len);
        let examining = ImageError::host(self.path, "examining", file.start);
        let mut data = Bytes(0);
        for run in self.device.cow().data_runs(file) {
            data += run.map_err(&examining)?.len;
        }
        let holes = data.0.saturating_sub(allocated.0);
        if holes == 0 {
            return Ok(zeros);
        }
        // The file system's own records are counted as space of the file.
        let certain = zeros
            .0
            .saturating_sub(holes)
            .saturating_sub(allocated.0 / RECORDS);
        Ok(match Bytes(certain) >= LEAST_ZEROS {
            true => Bytes(certain),
            false => Bytes(0),
        })
    }

    /// Calls for each run of blocks that could be given back, in order; for zeros only where the
    /// host says what space the file takes.
    pub(super) fn for_each_stale(
        &self,
        watch: Watch<'_>,
        call: OnStale<'_>,
    ) -> Result<(), ImageError> {
        if self.allocated.is_some() {
            self.for_each_zeros_before_data(watch, call)?;
        }
        let doing = "reading the data area";
        let area = FileRange::new(self.geometry.data_offset, self.geometry.capacity().bytes());
        let reading = ImageError::host(self.path, doing, area.start);
        for data in self.device.cow().data_runs(area) {
            let data = data.map_err(&reading)?;
            let end = self.sector_of(data.end() + Bytes(511));
            let mut from = self.sector_of(data.start);
            while let Some(clean) = self.device.map().next_clean(from, end) {
                from = clean.end();
                let start = self.geometry.place_of(clean.start).max(data.start);
                let stop = self.geometry.place_of(clean.end()).min(data.end());
                let clean = FileRange::between(start..stop.max(start));
                self.stale_blocks(clean, doing, watch, &mut |stale, range| match stale {
                    Stale::Zeros if self.allocated.is_none() => Ok(()),
                    stale => call(stale, range),
                })?;
                self.report(stop, watch)?;
            }
        }
        Ok(())
    }

    /// The header's block aside: a copy without holes may have up to 2 GiB there.
    fn for_each_zeros_before_data(
        &self,
        watch: Watch<'_>,
        call: OnStale<'_>,
    ) -> Result<(), ImageError> {
        let doing = "reading what lies before the data area";
        let start = FileOffset(BLOCK);
        let area = FileRange::between(start..self.geometry.data_offset.max(start));
        let reading = ImageError::host(self.path, doing, start);
        for data in self.device.cow().data_runs(area) {
            let data = data.map_err(&reading)?;
            self.stale_blocks(data, doing, watch, &mut |stale, range| match stale {
                Stale::Data => Ok(()),
                Stale::Zeros => call(stale, range),
            })?;
        }
        Ok(())
    }

    /// The runs of whole blocks in a range that hold anything but zeros, and the long ones of
    /// zeros.
    fn stale_blocks(
        &self,
        range: FileRange,
        doing: &'static str,
        watch: Watch<'_>,
        call: OnStale<'_>,
    ) -> Result<(), ImageError> {
        let Some(range) = range.whole_blocks(BLOCK) else {
            return Ok(());
        };
        let mut buffer = Vec::new();
        let mut at = range.start;
        while at < range.end() {
            buffer.resize((range.end() - at).0.min(CHUNK) as usize, 0);
            let reading = ImageError::host(self.path, doing, at);
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
            self.report(at, watch)?;
        }
        Ok(())
    }

    /// The file has been looked at up to `at`.
    fn report(&self, at: FileOffset, watch: Watch<'_>) -> Result<(), ImageError> {
        let start = FileOffset(0);
        report(watch, at - start, self.geometry.data_end() - start)
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
