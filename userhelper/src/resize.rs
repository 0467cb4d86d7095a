//! Beginning a resize as planned, running one to its end, and finishing one that was
//! interrupted.

use std::path::{Path, PathBuf};

use driver::cow::JournalRecord;
use driver::host::{HostFile, OperationKind};
use driver::ordered::{Desk, Headroom, Hold, Ordered, Procedure, Resize};
use driver::resize::{ResizeError, ResizeOutcome, Resized, Strategy};
use driver::units::{FileOffset, Sector, SectorRange};

use crate::image_host::ImageHost;
use crate::planner::{Plan, PlanError, Shrink, Surroundings, Wish, plan};
use crate::progress::Progress;
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
    /// How far it has come, from whenever it has begun.
    pub fn progress(&self) -> Progress {
        match self {
            PlannedResize::Headroom(_) => Progress::default(),
            PlannedResize::Rebuild(rebuild) => rebuild.progress(),
            PlannedResize::Reflow(reflow, _) => reflow.progress(),
        }
    }
}

impl<H: ImageHost> Resize<H::File> for PlannedResize<H> {
    fn begin(self: Box<Self>, desk: Desk<H::File>) -> Procedure {
        match *self {
            PlannedResize::Headroom(headroom) => headroom.begin(desk),
            PlannedResize::Rebuild(rebuild) => rebuild.begin(desk),
            PlannedResize::Reflow(reflow, host) => {
                Box::new(reflow.timed_by(move || host.now_ns())).begin(desk)
            }
        }
    }
}

/// A resize of a device that is live: it is planned when it begins, because only
/// the I/O thread can look at the device.
pub struct WishedResize<H: ImageHost> {
    host: H,
    path: PathBuf,
    wish: Wish,
    seen: Option<OnPlanned>,
}

/// Is told the plan, and where to look how far it has come.
type OnPlanned = Box<dyn FnOnce(&Plan, Progress) + Send>;

impl<H: ImageHost> WishedResize<H> {
    /// The resize of the device whose COW file is at `path`, as `wish` asks for it.
    pub fn new(host: H, path: &Path, wish: Wish) -> WishedResize<H> {
        WishedResize {
            host,
            path: path.to_owned(),
            wish,
            seen: None,
        }
    }

    /// Tells `seen` the plan when there is one, and where to look how far it has come.
    #[must_use]
    pub fn when_planned(mut self, seen: impl FnOnce(&Plan, Progress) + Send + 'static) -> Self {
        self.seen = Some(Box::new(seen));
        self
    }
}

impl<H: ImageHost + Clone> WishedResize<H> {
    async fn carry_out(self, desk: Desk<H::File>) -> ResizeOutcome {
        // Planning is one look, during which the device carries nothing else out, and it asks the
        // host with calls that block. What it asks for has bounds that do not follow from the size
        // of the device. It tries up to three strategies. For a rebuild and for a reflow, a
        // planner that is `online` looks at no more than `MOST_PIECES_LIVE` extents and
        // `MOST_RUNS_LIVE` runs each. A shrink that keeps data looks at up to `ASKED_LIVE` runs
        // and extents besides, and reads at most `COUNTED_LIVE` of them. What is not looked at
        // counts as data. Looking in steps instead would need a second look: requests that come in
        // between may write to what has been found to hold nothing.
        let planned = desk.look(move |here| {
            let device = here.device();
            let plan = plan_live(&self.host, &self.path, device, self.wish)?;
            let planned = PlannedResize::new(&plan, self.host, &self.path, device)?;
            if let Some(seen) = self.seen {
                seen(&plan, planned.progress());
            }
            // There is no data past the new end, and none may come there any more.
            let goes = Sector(0) + plan.new_size.whole_sectors()..Sector(0) + device.capacity();
            if self.wish.shrink == Shrink::KeepingData && goes.start < goes.end {
                here.set_hold(Hold::Window(SectorRange::between(goes)));
            }
            Ok::<_, ResizeError>(planned)
        });
        let planned = planned.await??;
        desk.turn().await?;
        Box::new(planned).begin(desk).await
    }
}

impl<H: ImageHost + Clone> Resize<H::File> for WishedResize<H> {
    fn begin(self: Box<Self>, desk: Desk<H::File>) -> Procedure {
        Box::pin(self.carry_out(desk))
    }
}

/// Plans the resize of a device that is live, whose COW file is at `path`, within one look at it.
///
/// # Errors
/// Why there is no plan.
pub fn plan_live<H: ImageHost>(
    host: &H,
    path: &Path,
    device: &Ordered<H::File>,
    wish: Wish,
) -> Result<Plan, ResizeError> {
    let doing = match device.image() {
        Some(_) => "examining the COW file",
        None => "examining the disk",
    };
    let examining = ResizeError::host(OperationKind::Metadata, doing, FileOffset(0));
    let surroundings = surroundings(host, path, device).map_err(examining)?;
    plan(device, wish, surroundings).map_err(not_planned)
}

/// Why a resize that was wished for has no plan.
pub fn not_planned(error: PlanError) -> ResizeError {
    match error {
        PlanError::NotExamined(found) => {
            ResizeError::host(found.kind, found.doing, found.at)(found.error)
        }
        error => ResizeError::Refused(error.to_string()),
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

/// Finishes the reflow that opening the device came upon.
///
/// # Errors
/// The reflow's; it can be tried again.
pub fn recover<F: HostFile>(
    device: &mut Ordered<F>,
    interrupted: JournalRecord,
) -> Result<Resized, ResizeError> {
    let reflow = Reflow::resume(device, interrupted)?;
    device.resize(Box::new(reflow))
}
