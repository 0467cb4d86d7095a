//! The resize of a case: userhelper's, planned as its planner plans, or the model of 2003's.

use driver::cow::{Geometry, JournalRecord, Version};
use driver::ordered::Ordered;
use driver::resize::{ResizeError, ResizeStep, Strategy};
use driver::units::{Bytes, SectorCount};
use userhelper::at_once::AtOnce;
use userhelper::planner::{PlanError, Shrink, Surroundings, Wish, plan};
use userhelper::reflow::Reflow;
use userhelper::resize::PlannedResize;

use crate::sim::{SimFile, SimHost};

use super::case::{Case, ResizeStrategy};
use super::device::pages_at_once;
use super::doubles::BoxedResize;
use super::paths::COW;
use super::procedure_2003;
use super::put_in;

/// What a case asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The new size in sectors.
    pub sectors: u64,
    /// The new size in bytes, which may end within a sector.
    pub bytes: Bytes,
    /// How.
    pub strategy: ResizeStrategy,
    /// The window of a reflow, in sectors.
    pub window: u64,
    /// The alignment of a reflow's new layout; 0 leaves it to the planner.
    pub alignment: u32,
    /// How much it does in one go.
    pub at_once: AtOnce,
}

/// Begins a resize of the case's device. What the planner refuses comes back as its words.
///
/// # Errors
/// Why not.
pub fn begin(
    host: &SimHost,
    device: &mut Ordered<SimFile>,
    asked: Asked,
    case: &Case,
) -> Result<ActiveResize, NotBegun> {
    let model = case.resize_model();
    let (strategy, resize) = match &model {
        Some(model) => {
            procedure_2003::begin(host, device, asked, model).map_err(NotBegun::Refused)?
        }
        None => begin_planned(host, device, asked)?,
    };
    let old_size = device.capacity().0;
    device.begin_resize(put_in::of_resize(&case.defects, resize, asked.sectors));
    Ok(ActiveResize {
        coverage: match (&model, strategy) {
            (Some(model), _) if model.spillner => "strategy_spillner_2003",
            (Some(_), _) => "strategy_procedure_2003",
            (None, Strategy::Headroom) => "strategy_headroom",
            (None, Strategy::Rebuild) => "strategy_rebuild",
            (None, Strategy::Reflow) => "strategy_reflow",
        },
        old_size,
        target: asked.sectors,
        first_written: false,
        flushed: false,
        last_steps: 0,
        given_up: false,
    })
}

/// Why no resize was begun.
#[derive(Debug)]
pub enum NotBegun {
    /// It was refused, as it may be.
    Refused(String),
    /// It was planned for the device as it is, and then refused.
    NotAsPlanned(String),
}

/// Whether the planner finds that a shrink would lose data; `None` if it refuses it for another
/// reason.
pub fn finds_losses(device: &Ordered<SimFile>, asked: Asked) -> Option<bool> {
    match plan(device, wish(asked, Shrink::KeepingData), SURROUNDINGS) {
        Ok(_) => Some(false),
        Err(PlanError::WouldLoseData(_)) => Some(true),
        Err(_) => None,
    }
}

const SURROUNDINGS: Surroundings = Surroundings {
    free_space: None,
    replaceable: true,
};

fn wish(asked: Asked, shrink: Shrink) -> Wish {
    Wish {
        new_size: asked.bytes,
        strategy: match asked.strategy {
            ResizeStrategy::Auto => None,
            ResizeStrategy::Headroom => Some(Strategy::Headroom),
            ResizeStrategy::Rebuild => Some(Strategy::Rebuild),
            ResizeStrategy::Reflow => Some(Strategy::Reflow),
        },
        shrink,
        online: true,
    }
}

/// Userhelper's.
fn begin_planned(
    host: &SimHost,
    device: &Ordered<SimFile>,
    asked: Asked,
) -> Result<(Strategy, BoxedResize), NotBegun> {
    let refused = |why: String| NotBegun::Refused(why);
    let new_size = asked.bytes;
    let is_whole = new_size == SectorCount(asked.sectors).bytes();
    let wish = wish(asked, Shrink::LosingData);
    let strategy = wish.strategy;
    let window = SectorCount(asked.window.max(1)).bytes();
    if asked.alignment != 0 && is_whole && strategy == Some(Strategy::Reflow) {
        // Tighter than the planner's: windows as long as the distance moved.
        let reflow = tight_geometry(new_size, asked.alignment)
            .and_then(|new| Reflow::new(device, new).map_err(|error| error.to_string()))
            .map_err(refused)?;
        let reflow = reflow.with_window(window).with_at_once(asked.at_once);
        return Ok((Strategy::Reflow, Box::new(reflow)));
    }
    let plan = plan(device, wish, SURROUNDINGS).map_err(|error| refused(error.to_string()))?;
    let planned = PlannedResize::new(&plan, host.clone(), COW.as_ref(), device)
        .map_err(|error| NotBegun::NotAsPlanned(error.to_string()))?;
    let planned = match planned {
        PlannedResize::Reflow(reflow, host) => {
            let reflow = reflow.with_window(window).with_at_once(asked.at_once);
            PlannedResize::Reflow(Box::new(reflow), host)
        }
        PlannedResize::Rebuild(rebuild) => {
            PlannedResize::Rebuild(Box::new(rebuild.with_at_once(asked.at_once)))
        }
        PlannedResize::Headroom(headroom) => {
            let headroom = headroom.with_pages_at_once(pages_at_once(asked.at_once));
            PlannedResize::Headroom(Box::new(headroom))
        }
    };
    Ok((plan.strategy, Box::new(planned)))
}

fn tight_geometry(size: Bytes, alignment: u32) -> Result<Geometry, String> {
    Geometry::new(Version::V3, size, alignment).map_err(|error| error.to_string())
}

/// Why an interrupted resize is not finished.
#[derive(Debug)]
pub enum Unfinished {
    /// A step has failed.
    Failed(ResizeError),
    /// There is always one more step.
    DoesNotEnd,
}

/// Finishes an interrupted resize as userhelper does, `at_once` in one go, in at most `steps`
/// steps.
///
/// # Errors
/// Why not.
pub fn finish(
    device: &mut Ordered<SimFile>,
    interrupted: JournalRecord,
    at_once: AtOnce,
    steps: u64,
) -> Result<(), Unfinished> {
    let resumed = Reflow::resume(device, interrupted).map_err(Unfinished::Failed)?;
    let resumed = Box::new(resumed.with_at_once(at_once));
    finish_by(resumed, device, steps)
}

fn finish_by(
    resize: BoxedResize,
    device: &mut Ordered<SimFile>,
    steps: u64,
) -> Result<(), Unfinished> {
    device.begin_resize(resize);
    for _ in 0..steps {
        match device.step_resize() {
            ResizeStep::Working => {}
            ResizeStep::Ended(Ok(_)) => return Ok(()),
            ResizeStep::Ended(Err(error)) => return Err(Unfinished::Failed(error)),
            ResizeStep::Waiting | ResizeStep::Idle => break,
        }
    }
    Err(Unfinished::DoesNotEnd)
}

/// A resize under way.
pub struct ActiveResize {
    /// What it counts as.
    pub coverage: &'static str,
    /// The size before, in sectors.
    pub old_size: u64,
    /// To which size, in sectors.
    pub target: u64,
    /// Since the last step, clean sectors were written to.
    pub first_written: bool,
    /// Since the last step, a flush has succeeded.
    pub flushed: bool,
    /// Steps in a row, up to now, that each had both before them.
    pub last_steps: u32,
    /// It was given up, and puts things back.
    pub given_up: bool,
}

impl ActiveResize {
    /// Takes note of what has been done before a step that comes now.
    pub fn count_last_steps(&mut self) {
        self.last_steps = match self.first_written && self.flushed {
            true => self.last_steps + 1,
            false => 0,
        };
        (self.first_written, self.flushed) = (false, false);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use driver::device_spec::DeviceSpec;
    use driver::open::{OpenOptions, open};
    use driver::ordered::Desk;
    use driver::ordered::{Procedure, Resize};

    use super::super::paths::{BACKING, COW};
    use super::*;
    use crate::sim::FileContent;

    /// The defective double: a recovery that always has one more step.
    struct Endless(Rc<Cell<u64>>);

    impl Resize<SimFile> for Endless {
        fn begin(self: Box<Self>, desk: Desk<SimFile>) -> Procedure {
            Box::pin(async move {
                loop {
                    self.0.set(self.0.get() + 1);
                    desk.pass().await?;
                }
            })
        }
    }

    #[test]
    fn a_recovery_without_an_end_is_told_from_one_that_fails() {
        let host = SimHost::default();
        host.install(BACKING, FileContent::from_bytes(&[1; 4096]));
        let spec = DeviceSpec {
            backing: Some(BACKING.into()),
            ..DeviceSpec::of(COW)
        };
        let mut device = open(&host, &spec, OpenOptions::default()).unwrap().device;
        let steps = Rc::new(Cell::new(0));
        let endless = Box::new(Endless(Rc::clone(&steps)));
        let ended = finish_by(endless, &mut device, 50);
        assert!(matches!(ended, Err(Unfinished::DoesNotEnd)), "{ended:?}");
        assert_eq!(steps.get(), 50);
    }
}
