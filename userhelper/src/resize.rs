//! Beginning a resize as planned, running one to its end, and finishing one that was
//! interrupted.

use std::path::{Path, PathBuf};

use driver::cow::JournalRecord;
use driver::host::HostFile;
use driver::ordered::{Headroom, Hold, Ordered};
use driver::resize::{Resize, ResizeError, ResizeStep, Resized, Strategy};
use driver::units::{Bytes, Sector, SectorRange};

use crate::image_host::ImageHost;
use crate::planner::{Plan, Shrink, Surroundings, Wish, plan};
use crate::rebuild::Rebuild;
use crate::reflow::Reflow;

/// A planned resize, by whatever strategy.
pub enum PlannedResize<H: ImageHost> {
    /// Within the headroom.
    Headroom(Box<Headroom>),
    /// Into a new file.
    Rebuild(Box<Rebuild<H>>),
    /// Within the file, with the host that says what time it is.
    Reflow(Box<Reflow>, H),
}

impl<H: ImageHost> PlannedResize<H> {
    /// Prepares what `plan` says for `device`, whose COW file is at `path`.
    ///
    /// # Errors
    /// [`ResizeError::Refused`] if the device is not as it was when it was planned for.
    pub fn new(
        plan: &Plan,
        host: H,
        path: &Path,
        device: &Ordered<H::File>,
    ) -> Result<PlannedResize<H>, ResizeError> {
        let layout = || {
            plan.new_geometry
                .ok_or_else(|| ResizeError::Refused("the plan has no layout".into()))
        };
        Ok(match plan.strategy {
            Strategy::Headroom => {
                PlannedResize::Headroom(Box::new(Headroom::new(device, plan.new_size)?))
            }
            Strategy::Rebuild => {
                PlannedResize::Rebuild(Box::new(Rebuild::new(host, path, device, layout()?)?))
            }
            Strategy::Reflow => {
                let reflow = Reflow::new(device, layout()?)?;
                let reflow = match plan.online {
                    true => reflow.while_live(plan.window),
                    false => reflow.with_window(plan.window),
                };
                PlannedResize::Reflow(Box::new(reflow), host)
            }
        })
    }
}

impl<H: ImageHost> PlannedResize<H> {
    /// How much of what the plan says has to move is moved.
    pub fn passed(&self) -> Bytes {
        match self {
            PlannedResize::Headroom(_) => Bytes(0),
            PlannedResize::Rebuild(rebuild) => rebuild.passed(),
            PlannedResize::Reflow(reflow, _) => reflow.moved(),
        }
    }

    /// Ends the resize between two steps. A rebuild leaves the old image alone; a reflow that has
    /// marked the header is finished by a recovery.
    pub fn give_up(&mut self, device: &mut Ordered<H::File>) {
        if let PlannedResize::Rebuild(rebuild) = self {
            rebuild.give_up(device);
        }
    }
}

impl<H: ImageHost> Resize<H::File> for PlannedResize<H> {
    fn step(&mut self, device: &mut Ordered<H::File>) -> Result<ResizeStep, ResizeError> {
        match self {
            PlannedResize::Headroom(headroom) => headroom.step(device),
            PlannedResize::Rebuild(rebuild) => rebuild.step(device),
            PlannedResize::Reflow(reflow, host) => {
                reflow.tell_time(host.now_ns());
                reflow.step(device)
            }
        }
    }
}

/// A resize of a device that is live: it is planned when its first step comes, because only
/// the I/O thread can look at the device.
pub struct WishedResize<H: ImageHost> {
    host: H,
    path: PathBuf,
    wish: Wish,
    planned: Option<PlannedResize<H>>,
}

impl<H: ImageHost> WishedResize<H> {
    /// The resize of the device whose COW file is at `path`, as `wish` asks for it.
    pub fn new(host: H, path: &Path, wish: Wish) -> WishedResize<H> {
        WishedResize {
            host,
            path: path.to_owned(),
            wish,
            planned: None,
        }
    }
}

impl<H: ImageHost + Clone> Resize<H::File> for WishedResize<H> {
    fn step(&mut self, device: &mut Ordered<H::File>) -> Result<ResizeStep, ResizeError> {
        if let Some(planned) = &mut self.planned {
            let step = planned.step(device);
            if matches!(step, Ok(ResizeStep::Done(_)) | Err(_)) {
                device.set_hold(Hold::Nothing);
            }
            return step;
        }
        let refused = |error: String| ResizeError::Refused(error);
        let surroundings = surroundings(&self.host, &self.path, device)
            .map_err(|error| refused(error.to_string()))?;
        let plan =
            plan(device, self.wish, surroundings).map_err(|error| refused(error.to_string()))?;
        let planned = PlannedResize::new(&plan, self.host.clone(), &self.path, device)?;
        self.planned = Some(planned);
        // There is no data past the new end, and none may come there any more.
        let goes = Sector(0) + plan.new_size.whole_sectors()..Sector(0) + device.capacity();
        if self.wish.shrink == Shrink::KeepingData && goes.start < goes.end {
            device.set_hold(Hold::Window(SectorRange::between(goes)));
        }
        Ok(ResizeStep::Working)
    }
}

/// What a planner has to know of the host, for the COW file of `device` at `path`.
///
/// # Errors
/// The host's.
pub fn surroundings<H: ImageHost>(
    host: &H,
    path: &Path,
    device: &Ordered<H::File>,
) -> driver::host::HostResult<Surroundings> {
    let is_regular = host.metadata(device.cow())?.kind == driver::host::FileKind::Regular;
    Ok(Surroundings {
        free_space: host.free_space_beside(path)?,
        replaceable: is_regular && !host.has_other_names(device.cow())?,
    })
}

/// Runs a resize to its end on a device that nobody else submits to.
///
/// # Errors
/// The resize's.
pub fn run<F: HostFile>(
    resize: &mut impl Resize<F>,
    device: &mut Ordered<F>,
) -> Result<Resized, ResizeError> {
    loop {
        match resize.step(device)? {
            ResizeStep::Working => {}
            ResizeStep::Waiting => {
                return Err(ResizeError::Refused("requests are under way".into()));
            }
            ResizeStep::Done(resized) => return Ok(resized),
        }
    }
}

/// Finishes the reflow that opening the device came upon.
///
/// # Errors
/// The reflow's; it can be tried again.
pub fn recover<F: HostFile>(
    device: &mut Ordered<F>,
    interrupted: JournalRecord,
) -> Result<Resized, ResizeError> {
    run(&mut Reflow::resume(device, interrupted)?, device)
}
