//! Reading a trace once before anything is written, so that one that is cut, or that asks for
//! more than the device will have, fails with every file as it was.

use driver::cow::MAX_SECTORS;
use driver::units::{Bytes, SectorCount};
use userhelper::planner::{PlanError, Shrink};
use userhelper::resize::not_planned;

use crate::trace::TraceOperation;

use super::error::ReplayError;
use super::limits::{Files, Footprint, Moved, check_schedule};
use super::options::{OpenTrace, Options};
use super::requests::{Placing, placed};
use super::room::Room;

/// Reads the trace to its end. Given the size of the device, also sees whether each request
/// and each resize can be had, as far as that can be told from sizes alone, and whether all of
/// them together come to no more than is allowed, nor to more space than there is `room`.
///
/// # Errors
/// What the replay would end with.
pub(super) fn precheck(
    trace: OpenTrace<'_>,
    options: &Options,
    placing: Placing,
    capacity: Option<SectorCount>,
    files: Files,
    room: Option<Room>,
) -> Result<(), ReplayError> {
    let mut resizes = options.resizes.clone();
    resizes.sort_by_key(|resize| resize.request);
    let sizes = resizes.iter().map(|resize| resize.size.whole_sectors());
    let mut footprint = capacity.and_then(|capacity| {
        let largest = sizes.fold(capacity, SectorCount::max);
        Footprint::new(files, options, capacity, largest)
    });
    let mut moved = Moved::new(options.allowed, files, room);
    let mut resizes = resizes.into_iter().peekable();
    let first_capacity = capacity;
    let mut capacity = capacity;
    for (number, record) in (0..).zip(trace()?) {
        let record = record?;
        let request = number + 1;
        while let Some(at) = resizes.next_if(|resize| resize.request <= number) {
            check_resize(&mut capacity, at.size, at.request, options.shrink)?;
        }
        check_schedule(request, record.time, options.pace)?;
        let discards = matches!(
            record.operation,
            TraceOperation::Discard | TraceOperation::WriteZeroes
        );
        if discards && !options.driver.discards() {
            return Err(ReplayError::Unknown {
                request,
                operation: record.operation,
                driver: options.driver.name(),
            });
        }
        let Some(capacity) = capacity else { continue };
        let placed = placed(&record, capacity, placing).map_err(|error| ReplayError::PastEnd {
            request,
            operation: record.operation,
            start: record.start,
            count: record.count,
            error,
        })?;
        moved.add(request, &record, &placed)?;
        if let (Some(footprint), Some(first)) = (&mut footprint, first_capacity) {
            let stamped = super::requests::placed(&record, first, placing.for_stamping());
            footprint.add(request, &record, &placed, &stamped.unwrap_or_default())?;
        }
    }
    for at in resizes {
        check_resize(&mut capacity, at.size, at.request, options.shrink)?;
    }
    Ok(())
}

fn check_resize(
    capacity: &mut Option<SectorCount>,
    new_size: Bytes,
    request: u64,
    shrink: Shrink,
) -> Result<(), ReplayError> {
    let new = new_size.whole_sectors();
    let error = match capacity.replace(new) {
        _ if new > MAX_SECTORS => PlanError::TooLarge { found: new_size.0 },
        Some(old) if new < old && shrink == Shrink::Refuse => PlanError::WouldShrink {
            old: old.bytes(),
            new: new_size,
        },
        Some(_) => return Ok(()),
        None => {
            *capacity = None;
            return Ok(());
        }
    };
    Err(ReplayError::Resize {
        request,
        new_size,
        error: not_planned(error),
    })
}
