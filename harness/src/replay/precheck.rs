//! Reading a trace once before anything is written, so that one that is cut, or that asks for
//! more than the device will have, fails with every file as it was.

use driver::cow::MAX_SECTORS;
use driver::resize::ResizeError;
use driver::units::{Bytes, Sector, SectorCount};
use userhelper::planner::{PlanError, Shrink};

use crate::trace::TraceOperation;

use super::requests::{IsPastEnd, PastEnd};
use super::run::ReplayError;
use super::session::{OpenTrace, Options};

/// Reads the trace to its end. Given the size of the device, also sees whether each request
/// and each resize can be had, as far as that can be told from sizes alone.
///
/// # Errors
/// What the replay would end with.
pub(super) fn precheck(
    trace: OpenTrace<'_>,
    options: &Options,
    capacity: Option<SectorCount>,
) -> Result<(), ReplayError> {
    let mut resizes = options.resizes.clone();
    resizes.sort_by_key(|resize| resize.request);
    let mut resizes = resizes.into_iter().peekable();
    let mut capacity = capacity;
    for (number, record) in (0..).zip(trace()?) {
        let record = record?;
        while let Some(at) = resizes.next_if(|resize| resize.request <= number) {
            check_resize(&mut capacity, at.size, at.request, options.shrink)?;
        }
        let end = record.start + record.count;
        if let Some(capacity) = capacity
            && record.operation != TraceOperation::Flush
            && options.past_end == PastEnd::Refuse
            && end > Sector(0) + capacity
        {
            return Err(ReplayError::PastEnd {
                request: number + 1,
                operation: record.operation,
                start: record.start,
                count: record.count,
                error: IsPastEnd { end, capacity },
            });
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
        error: ResizeError::Refused(error.to_string()),
    })
}
