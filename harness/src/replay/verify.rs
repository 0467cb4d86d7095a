//! Comparing a whole device with the model.

use driver::blk::{Request, Segment, Status, Tag, split};
use driver::host::HostFile;
use driver::ordered::{Ordered, Step};
use driver::units::{Sector, SectorCount, SectorRange};

use crate::oracle::{Initial, Oracle};

use super::run::{Counts, ReplayError};

/// Sectors read at once.
const PIECE: SectorCount = SectorCount(2048);

/// Reads one piece of an idle device.
fn read<F: HostFile>(
    device: &mut Ordered<F>,
    range: SectorRange,
    buffer: Vec<u8>,
) -> Result<Vec<u8>, ReplayError> {
    let mut request = Request::read(Tag(0), range.start, SectorCount(0));
    let mut data = buffer;
    data.resize(range.count.bytes().0 as usize, 0);
    request.segments = vec![Segment::with_data(data)];
    let failed = |status, cause: String| ReplayError::Unreadable {
        range,
        status,
        cause,
    };
    if device.submit(request).is_err() {
        return Err(failed(Status::IoError, ": the queue is full".into()));
    }
    match device.step() {
        Step::Completed(mut done) if done.status == Status::Ok => {
            Ok(done.request.segments.pop().unwrap_or_default().data)
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
    let mut buffer = Vec::new();
    for piece in split(whole, PIECE) {
        buffer = read(device, piece, buffer)?;
        counts.add_check(oracle.check(piece.start, &buffer, &[]), when);
        progress(piece.end().0);
    }
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
    let mut buffer = Vec::new();
    for run in dirty {
        for piece in split(run, PIECE) {
            buffer = read(device, piece, buffer)?;
            oracle.found_at_start(piece.start, &buffer);
        }
    }
    Ok(())
}
