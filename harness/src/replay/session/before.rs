//! What is found out, and checked, before anything is written: the size of the device, how the
//! trace is laid onto it, and whether the trace can be replayed there.

use driver::device_spec::DeviceSpec;
use driver::linux::{self, LinuxOpenError};
use driver::units::{Bytes, SectorCount};
use userhelper::planner::{PlanError, Shrink};

use super::Session;
use crate::replay::limits::{Files, LARGEST_IMPLIED};
use crate::replay::precheck::precheck;
use crate::replay::requests::{PastEnd, Placing};
use crate::replay::room::room_for;
use crate::replay::run::Manner;
use crate::replay::session_error::SessionError;

impl Session<'_> {
    /// The size of a device that is made: as `given`, or as the trace needs it.
    pub(super) fn size(&self, given: Option<Bytes>) -> Result<SectorCount, SessionError> {
        if let Some(size) = given {
            return Ok(size.whole_sectors());
        }
        let mut trace = (self.trace)()?;
        let (what, sectors) = match trace.description().device_size {
            Some(size) => ("the recorded device has", size),
            None => {
                let summary = crate::trace::summarize(trace.as_mut())?;
                let end = SectorCount(summary.max_end_sector);
                ("the last request ends at", end)
            }
        };
        match sectors.bytes() {
            Bytes(0) => Err(SessionError::UnknownSize),
            size if size > LARGEST_IMPLIED => Err(SessionError::ImpliedSize { what, size }),
            _ => Ok(sectors),
        }
    }

    /// How requests are submitted.
    pub(super) fn manner(&self) -> Result<Manner, SessionError> {
        Ok(Manner {
            depth: self.options.depth,
            placing: self.placing()?,
            pace: self.options.pace,
        })
    }

    /// How the trace is laid onto the device. Only for scaling does that need to read it.
    pub(super) fn placing(&self) -> Result<Placing, SessionError> {
        let past_end = self.options.past_end;
        let recorded = match past_end {
            PastEnd::Scale => {
                let mut trace = (self.trace)()?;
                let told = trace.description().device_size.unwrap_or_default();
                let summary = crate::trace::summarize(trace.as_mut())?;
                told.max(SectorCount(summary.max_end_sector))
            }
            PastEnd::Refuse | PastEnd::Wrap | PastEnd::Clip => SectorCount(0),
        };
        Ok(Placing { past_end, recorded })
    }

    /// Before anything is written: whether the trace can be replayed on a device of this size.
    pub(super) fn check_before(
        &self,
        spec: &DeviceSpec,
        capacity: Option<SectorCount>,
        files: Files,
    ) -> Result<(), SessionError> {
        let cow = &spec.file;
        if let Some(found) = capacity.filter(|&size| size > linux::MAX_SECTORS)
            && self.is_of_a_kernel()
        {
            return Err(SessionError::Model {
                path: cow.clone(),
                error: LinuxOpenError::TooLarge { found },
            });
        }
        let placing = self.placing()?;
        let room = match files {
            Files::OnDisk => room_for(cow, capacity.unwrap_or_default(), spec.data),
            Files::InMemory => None,
        };
        precheck(self.trace, &self.options, placing, capacity, files, room)
            .map_err(SessionError::replay(cow))
    }

    /// The size with which the replay begins, on a device of this one.
    pub(super) fn first_capacity(
        &self,
        spec: &DeviceSpec,
        capacity: SectorCount,
    ) -> Result<SectorCount, SessionError> {
        match spec.size {
            Some(new) if new < capacity.bytes() && self.options.shrink == Shrink::Refuse => {
                let old = capacity.bytes();
                Err(SessionError::Plan {
                    path: spec.file.clone(),
                    error: PlanError::WouldShrink { old, new },
                })
            }
            Some(new) => Ok(new.whole_sectors()),
            None => Ok(capacity),
        }
    }
}
