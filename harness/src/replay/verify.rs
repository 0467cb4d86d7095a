//! Comparing a whole device with the model.

use driver::blk::{Operation, Request, Segment, Status, Tag, split};
use driver::host::{HostFile, HostResult};
use driver::ordered::{Ordered, Step};
use driver::units::{FileOffset, SECTOR_SIZE, Sector, SectorCount, SectorRange};

use crate::oracle::{Initial, Oracle};

use super::run::{Counts, ReplayError};

/// Sectors read at once: what is compared should still be in the processor's own cache.
const PIECE: SectorCount = SectorCount(128);

/// So often progress is told, in pieces.
const PIECES_A_REPORT: u64 = 64;

/// Reads an idle device piece by piece, into one buffer.
struct Reader<'a, F> {
    device: &'a mut Ordered<F>,
    segments: Vec<Segment>,
}

impl<F: HostFile> Reader<'_, F> {
    fn new(device: &mut Ordered<F>) -> Reader<'_, F> {
        Reader {
            device,
            segments: vec![Segment::default()],
        }
    }

    /// The content of `range`.
    fn read(&mut self, range: SectorRange) -> Result<&[u8], ReplayError> {
        let failed = |status, cause: String| ReplayError::Unreadable {
            range,
            status,
            cause,
        };
        let mut segments = std::mem::take(&mut self.segments);
        for segment in &mut segments {
            segment.sectors = range.count;
            segment.data.resize(range.count.bytes().0 as usize, 0);
        }
        let request = Request {
            tag: Tag(0),
            operation: Operation::Read,
            start: range.start,
            segments,
        };
        if self.device.submit(request).is_err() {
            return Err(failed(Status::IoError, ": the queue is full".into()));
        }
        match self.device.step() {
            Step::Completed(done) if done.status == Status::Ok => {
                self.segments = done.request.segments;
                let first = self.segments.first();
                Ok(first.map_or(&[], |segment| &segment.data))
            }
            Step::Completed(done) => {
                let cause = done.failure.map_or(String::new(), |f| format!(": {f}"));
                Err(failed(done.status, cause))
            }
            step => Err(failed(
                Status::IoError,
                format!(": the device is busy: {step:?}"),
            )),
        }
    }
}

/// Compares every sector of an idle device with the model; how many there were.
///
/// # Errors
/// If a sector cannot be read.
pub(super) fn whole_device<F: HostFile, I: Initial>(
    device: &mut Ordered<F>,
    oracle: &mut Oracle<I>,
    counts: &mut Counts,
    when: &str,
    mut progress: impl FnMut(u64),
) -> Result<u64, ReplayError> {
    let whole = SectorRange::new(Sector(0), device.capacity());
    if device.capacity() != oracle.capacity() {
        counts.mismatches += 1;
        counts.examples.push(format!(
            "{when}: the device has {} sectors, expected {}",
            device.capacity(),
            oracle.capacity()
        ));
        return Ok(0);
    }
    let mut reader = Reader::new(device);
    for (number, piece) in (1..).zip(split(whole, PIECE)) {
        let content = reader.read(piece)?;
        let found = oracle.check(piece.start, content, |_, _| false);
        if found.0 > 0 {
            counts.add_check(found, when);
        }
        if u64::is_multiple_of(number, PIECES_A_REPORT) {
            progress(piece.end().0);
        }
    }
    progress(whole.end().0);
    Ok(whole.count.0)
}

/// Tells the model what an idle device shows where it is dirty already: what is there now has
/// to be there later.
///
/// # Errors
/// If a sector cannot be read.
pub(super) fn take_in<F: HostFile, I: Initial>(
    device: &mut Ordered<F>,
    oracle: &mut Oracle<I>,
) -> Result<(), ReplayError> {
    let whole = SectorRange::new(Sector(0), device.capacity());
    let dirty: Vec<_> = device.map().dirty_runs(whole).collect();
    let mut reader = Reader::new(device);
    for run in dirty {
        for piece in split(run, PIECE) {
            oracle.found_at_start(piece.start, reader.read(piece)?);
        }
    }
    let bytes = partial_sector(device).map_err(|error| ReplayError::Unreadable {
        range: SectorRange::new(whole.end(), SectorCount(1)),
        status: Status::IoError,
        cause: format!(": {error}"),
    })?;
    if !bytes.is_empty() {
        oracle.ends_with(&bytes);
    }
    Ok(())
}

/// What the device has after its last whole sector, which no request reaches: read from the
/// file that has it.
fn partial_sector<F: HostFile>(device: &Ordered<F>) -> HostResult<Vec<u8>> {
    let (file, size) = match (device.geometry(), device.backing()) {
        (Some(geometry), Some(backing)) => (backing, geometry.size),
        (Some(_), None) => return Ok(Vec::new()),
        (None, _) => (device.cow(), device.cow().len()?),
    };
    let at = device.capacity().bytes();
    let mut bytes = vec![0; (size.0.saturating_sub(at.0) % SECTOR_SIZE) as usize];
    file.read_zero_filled_at(&mut bytes, FileOffset(at.0))?;
    Ok(bytes)
}
