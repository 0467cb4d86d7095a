//! A request that is alone on its device.
//!
//! Where nothing else has begun, nothing can overlap with a request, and who carries operations out
//! one after the other where they are given needs neither a place for it in the order nor an
//! operation that can be passed on. Both together cost a third of a read of 4 KiB from the page
//! cache.

use crate::blk::{Completion, Operation as Asked, Request};
use crate::host::{FileRole, HostError, HostResult, OperationKind};
use crate::units::{FileOffset, SECTOR_SIZE, SectorRange};

use super::begun::Begun;
use super::effect::Effect;
use super::plan::{read_run, write_run};
use super::{Engine, Hold};

/// What is read or written at once for a request that is alone.
#[derive(Debug)]
pub(crate) struct SoleTransfer<'a> {
    /// Of which file.
    pub(crate) role: FileRole,
    /// Where in it.
    pub(crate) at: FileOffset,
    /// Whether the data goes to the file.
    pub(crate) writes: bool,
    /// What is filled or written.
    pub(crate) data: &'a mut [u8],
}

/// What came of a request that was alone.
#[derive(Debug)]
pub(crate) enum Alone {
    /// It is complete.
    Complete(Completion),
    /// It has to become durable.
    Waits,
}

impl Engine {
    /// Serves the first request with `carry_out`, if it is a read or a write that nothing keeps out
    /// and nothing else has begun.
    #[inline]
    pub(crate) fn serve_alone(
        &mut self,
        carry_out: impl FnMut(SoleTransfer<'_>) -> HostResult<()>,
    ) -> Option<Alone> {
        let is_alone = self.requests.begun_count() == 0
            && self.hold == Hold::Nothing
            && self.completed.is_empty()
            && !self.closing;
        if !is_alone {
            return None;
        }
        let mut request = self
            .requests
            .take_first(|asked| matches!(asked, Asked::Read | Asked::Write { .. }))?;
        let range = match self.admission.check(&request) {
            Ok(range) => range,
            Err(status) => {
                return Some(Alone::Complete(self.completion(request, status, None)));
            }
        };
        let failed = self.transfer(&mut request, range, carry_out);
        let failure = match failed {
            Ok(()) => None,
            Err((role, at, error)) => {
                let kind = match request.operation {
                    Asked::Read => OperationKind::Read,
                    _ => OperationKind::Write,
                };
                Some(self.host_failure(role, kind, at, error))
            }
        };
        Some(
            match self.take_effect(request.operation, range, failure.is_some()) {
                Effect::Complete(status) => Alone::Complete(self.ended(request, status, failure)),
                Effect::Publish => {
                    let slot = self.requests.begin(Begun::new(request, range));
                    self.publish(slot);
                    Alone::Waits
                }
            },
        )
    }

    /// Carries out one run of the request after the other.
    ///
    /// # Errors
    /// Where the first failed that did, and with what.
    #[inline]
    fn transfer(
        &self,
        request: &mut Request,
        range: SectorRange,
        mut carry_out: impl FnMut(SoleTransfer<'_>) -> HostResult<()>,
    ) -> Result<(), (FileRole, FileOffset, HostError)> {
        let writes = request.operation != Asked::Read;
        let mut next = range.start;
        for segment in &mut request.segments {
            let end = next + segment.sectors;
            let mut rest = &mut segment.data[..];
            while next < end {
                let left = SectorRange::between(next..end);
                let run = match writes {
                    true => write_run(&self.placement, left),
                    false => read_run(self.place(), left),
                };
                let (role, at) = (run.role, run.at);
                let (data, after) = rest.split_at_mut((run.range.count.0 * SECTOR_SIZE) as usize);
                carry_out(SoleTransfer {
                    role,
                    at,
                    writes,
                    data,
                })
                .map_err(|error| (role, at, error))?;
                (rest, next) = (after, run.range.end());
            }
        }
        Ok(())
    }
}
