//! A device that is made for a replay: its backing file stamped, its COW file empty.

use std::path::{Path, PathBuf};

use driver::device_spec::DeviceSpec;
use driver::host::{Access, HostError};
use driver::open::{create, open};
use driver::units::SectorCount;
use userhelper::image_host::ImageHost;

use super::{Progress, Session};
use crate::device::Running;
use crate::oracle::Oracle;
use crate::replay::backing::{STAMP_ALL, Stamped, StampedParts};
use crate::replay::bring_up::BringsUp;
use crate::replay::report::Report;
use crate::replay::requests::placed;
use crate::replay::session_error::SessionError;
use crate::trace::TraceOperation;

/// The names of its files.
pub(super) const COW_NAME: &str = "device.cow";
const BACKING_NAME: &str = "backing.img";

/// The files of a device that is made for a replay in `directory`.
pub fn files_made_in(directory: &Path) -> [PathBuf; 2] {
    [COW_NAME, BACKING_NAME].map(|name| directory.join(name))
}

impl Session<'_> {
    /// Makes the device in `directory`, and replays on it.
    pub(super) fn on_own_device<H, B, T>(
        &self,
        host: H,
        directory: &Path,
        sectors: SectorCount,
        brings: &B,
        start: impl Fn(B::Driver) -> Result<T, SessionError>,
    ) -> Result<Report, SessionError>
    where
        H: ImageHost + Clone + Send + 'static,
        H::File: Send,
        B: BringsUp<H>,
        T: Running<File = H::File, Driver = B::Driver>,
    {
        (self.progress)(Progress::Preparing);
        let (cow, backing) = (directory.join(COW_NAME), directory.join(BACKING_NAME));
        // Asked before the backing file is made: nothing is to be left of what fails.
        if host.open(&cow, Access::ReadOnly).is_ok() {
            let exists = SessionError::host(&cow, "creating");
            return Err(exists(HostError::AlreadyExists));
        }
        let coverage = self.options.coverage;
        let parts = self.stamped_parts(sectors)?.with_coverage(coverage);
        let file = host
            .create_new(&backing)
            .map_err(SessionError::host(&backing, "creating"))?;
        let made = parts
            .write(&file)
            .and_then(|()| host.give_mode(&backing, &file, &[]))
            .map_err(SessionError::host(&backing, "writing the backing file"))
            .and_then(|()| Ok(create(&host, &cow, &backing, self.options.alignment)?));
        match made {
            // Opened below, like any other.
            Ok(file) => drop(file),
            Err(error) => {
                // The first error is the one to report.
                let _ = host.remove(&backing);
                return Err(error);
            }
        }
        let spec = DeviceSpec {
            // As on UML's command line when the COW file is new. To a kernel it makes a difference.
            backing: self.is_of_a_kernel().then(|| backing.clone()),
            ..DeviceSpec::of(cow)
        };
        let opened = open(&host, &spec, self.options.open)?;
        let oracle = Oracle::new(opened.device.capacity(), Stamped::new(parts.clone()));
        let oracle = oracle.with_coverage(coverage);
        let mut report = self.replay(host, &spec, opened, oracle, brings, start)?;
        let changed = parts
            .count_changed(&file)
            .map_err(SessionError::host(&backing, "reading the backing file"))?;
        report.backing_unchanged = Some(changed == 0);
        Ok(report)
    }

    /// Which parts of the backing file have to be told from others.
    fn stamped_parts(&self, sectors: SectorCount) -> Result<StampedParts, SessionError> {
        if sectors.bytes() <= STAMP_ALL {
            return Ok(StampedParts::all(sectors));
        }
        let mut parts = StampedParts::none(sectors);
        parts.spread();
        let placing = self.placing()?.for_stamping();
        for record in (self.trace)()? {
            let record = record?;
            for range in placed(&record, sectors, placing).unwrap_or_default() {
                match record.operation {
                    TraceOperation::Read => parts.add(range),
                    _ => drop(parts.add_borders(range)),
                }
            }
        }
        Ok(parts)
    }
}
