//! The resizes of a replay: those that come before the trace, and those on the way.

use std::path::Path;

use driver::device_spec::DeviceSpec;
use driver::linux::LinuxOpenError;
use driver::open::Opened;
use driver::ordered::Ordered;
use driver::units::Bytes;
use userhelper::image_host::ImageHost;
use userhelper::planner::{Wish, plan};
use userhelper::resize::{PlannedResize, WishedResize, not_planned, recover, surroundings};

use super::Session;
use crate::oracle::{Initial, Oracle};
use crate::replay::error::ReplayError;
use crate::replay::observe::{Observed, Sights};
use crate::replay::options::ResizeAt;
use crate::replay::run::PlannedAt;
use crate::replay::session_error::SessionError;
use crate::replay::verify::take_in;

impl Session<'_> {
    /// Brings the device to where the trace begins: a resize under way in it is finished, and it
    /// gets the size that its specification asks for.
    pub(super) fn prepare<H: ImageHost + Clone, I: Initial>(
        &self,
        host: &H,
        spec: &DeviceSpec,
        opened: Opened<H::File>,
        oracle: &mut Oracle<I>,
    ) -> Result<Ordered<H::File>, SessionError> {
        let path = &spec.file;
        let failed = |error| SessionError::Resize {
            path: path.clone(),
            error,
        };
        let mut device = take_in(opened.device, oracle).map_err(SessionError::replay(path))?;
        if let Some(record) = opened.interrupted {
            if self.is_of_a_kernel() {
                let error = LinuxOpenError::Relocating;
                let path = path.clone();
                return Err(SessionError::Model { path, error });
            }
            let resized = recover(&mut device, record).map_err(failed)?;
            oracle.resized(resized.new_size.whole_sectors());
        }
        if let Some(size) = spec.size {
            self.resize_first(host, path, &mut device, size)?;
            oracle.resized(size.whole_sectors());
        }
        // What cannot be had from the start fails before the trace writes anything.
        if let Some(at) = self.options.resizes.iter().find(|at| at.request == 0) {
            let surroundings =
                surroundings(host, path, &device).map_err(SessionError::host(path, "examining"))?;
            if let Err(error) = plan(&device, self.wish(at), surroundings) {
                return Err(SessionError::replay(path)(ReplayError::Resize {
                    request: 0,
                    new_size: at.size,
                    error: not_planned(error),
                }));
            }
        }
        Ok(device)
    }

    /// The size that the device's specification asks for.
    fn resize_first<H: ImageHost + Clone>(
        &self,
        host: &H,
        path: &Path,
        device: &mut Ordered<H::File>,
        size: Bytes,
    ) -> Result<(), SessionError> {
        let wish = Wish {
            new_size: size,
            strategy: self.options.strategy,
            shrink: self.options.shrink,
            online: false,
        };
        let surroundings =
            surroundings(host, path, device).map_err(SessionError::host(path, "examining"))?;
        let plan = plan(device, wish, surroundings).map_err(|error| SessionError::Plan {
            path: path.to_owned(),
            error,
        })?;
        PlannedResize::new(&plan, host.clone(), path, device)
            .and_then(|planned| device.resize(Box::new(planned)))
            .map_err(|error| SessionError::Resize {
                path: path.to_owned(),
                error,
            })?;
        Ok(())
    }

    /// The resizes that come between the requests.
    pub(super) fn planned<H>(&self, host: &H, path: &Path) -> Vec<PlannedAt<H::File>>
    where
        H: ImageHost + Clone + Send + 'static,
        H::File: Send,
    {
        let resizes = self.options.resizes.iter().map(|at| {
            let sights = Sights::default();
            let resize = WishedResize::new(host.clone(), path, self.wish(at));
            PlannedAt {
                request: at.request,
                new_size: at.size,
                resize: Box::new(Observed::new(resize, sights.clone())),
                sights,
            }
        });
        resizes.collect()
    }

    fn wish(&self, at: &ResizeAt) -> Wish {
        Wish {
            new_size: at.size,
            strategy: at.strategy,
            shrink: self.options.shrink,
            online: true,
        }
    }
}
