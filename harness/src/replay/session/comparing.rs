//! The comparison of the whole device at the end, and once more after it was reopened.

use std::path::Path;

use driver::driver::Driver;
use driver::host::HostNames;
use driver::ordered::Statistics;

use super::{Progress, Session};
use crate::device::Running;
use crate::oracle::Initial;
use crate::replay::bring_up::BringsUp;
use crate::replay::error::ReplayError;
use crate::replay::own_file::OwnFile;
use crate::replay::session_error::SessionError;
use crate::replay::verify::{NotVerified, Verify, idle};

impl Session<'_> {
    /// Compares the device at the end, or what ended it early, and once more after `brings` has
    /// brought it up again. Returns the driver's statistics.
    pub(super) fn compare<H: HostNames, B: BringsUp<H>, T>(
        &self,
        own: &OwnFile<'_, H>,
        brings: &B,
        target: T,
        ended_early: Option<ReplayError>,
        mut verify: Verify<'_, impl Initial>,
        start: &impl Fn(T::Driver) -> Result<T, SessionError>,
    ) -> Result<Statistics, SessionError>
    where
        T: Running<File = H::File, Driver = B::Driver>,
    {
        let path = &own.spec.file;
        // What a kernel's driver does wrong is what it is there to show, also where it ends the
        // replay.
        let is_finding = |error: &ReplayError| self.is_of_a_kernel() && error.is_of_driver();
        let statistics = target.statistics();
        let half = verify.oracle.capacity().0;
        let verified = |done| (self.progress)(Progress::Verified(done, 2 * half));
        let compared = match ended_early {
            Some(error) => {
                // What was done so far is kept as well as it can be; the first error is the one
                // to report.
                if let Ok(stopped) = target.stop() {
                    let _ = stopped.driver.close();
                }
                Err(NotVerified::Replay(error))
            }
            None => idle(target)
                .map_err(NotVerified::Replay)
                .and_then(|driver| verify.driver(driver, start, verified)),
        };
        match compared {
            Err(NotVerified::Replay(error)) if is_finding(&error) => {
                verify.ended_early(&error);
                Ok(statistics)
            }
            Err(error) => Err(in_verify(path)(error)),
            Ok(driver) => {
                let statistics = driver.statistics();
                let had = own.still_named(&driver)?;
                driver.close().map_err(|error| SessionError::Close {
                    path: path.to_owned(),
                    error,
                })?;
                verify.when = "after reopening";
                let verified = |done| (self.progress)(Progress::Verified(half + done, 2 * half));
                match own.reopen(brings, had)? {
                    Ok(reopened) => {
                        verify.is_not_interrupted(!reopened.interrupted);
                        match verify.driver(reopened.driver, start, verified) {
                            Err(NotVerified::Replay(error)) if is_finding(&error) => {
                                verify.ended_early(&error);
                            }
                            compared => drop(compared.map_err(in_verify(path))?),
                        }
                    }
                    Err(why) => verify.does_not_open(&why),
                }
                Ok(statistics)
            }
        }
    }
}

/// What ended a comparison of the whole device.
fn in_verify(path: &Path) -> impl Fn(NotVerified<SessionError>) -> SessionError + '_ {
    move |error| match error {
        NotVerified::Start(error) => error,
        NotVerified::Replay(error) => SessionError::replay(path)(error),
    }
}
