//! Writes that count as ended while they are under way, each for one thing that should have waited
//! for them. Whatever else should wait for them does.

use driver::executor::{Executor, Files};
use driver::host::{Action, FileRole, Operation};
use driver::ordered::Ordered;
use driver::units::{SECTOR_SIZE, Sector};

use crate::sim::{Happened, SimFile};

use super::late::Late;
use super::meddler::{Beneath, Meddler};
use super::{Double, Kind, Seam};

pub(super) const DOUBLES: &[Double] = &[
    Double {
        name: "flush-does-not-wait",
        does: "syncs for a flush while a write that the flush covers is under way",
        seam: Seam::Executor(|| Box::<FlushDoesNotWait>::default()),
        found_as: &[Kind::LostWrite, Kind::Zeros],
        replay: None,
    },
    Double {
        name: "overlaps-in-flight",
        does: "carries out two writes that overlap side by side, the later one perhaps first",
        seam: Seam::Executor(|| Box::<OverlapsInFlight>::default()),
        found_as: &[Kind::StaleRead, Kind::LostWrite, Kind::Zeros],
        replay: None,
    },
    Double {
        name: "window-copied-under-a-write",
        does: "copies a window while a write to it is under way",
        seam: Seam::Executor(|| Box::<CopiesTooEarly>::default()),
        found_as: &[
            Kind::StaleRead,
            Kind::LostWrite,
            Kind::Zeros,
            Kind::Misplaced,
            // Reading where the file has no more data.
            Kind::WrongStatus,
        ],
        replay: None,
    },
];

/// Whether an operation writes data, rather than bits.
fn writes_data(device: &Ordered<SimFile>, operation: &Operation) -> bool {
    let range = operation.action.range();
    let bitmaps = device.placement().bitmaps();
    operation.file == FileRole::Cow
        && matches!(operation.action, Action::Write { .. })
        && !bitmaps.iter().any(|bitmap| bitmap.overlaps(range))
}

#[derive(Debug, Default)]
struct FlushDoesNotWait(Late);

impl Meddler for FlushDoesNotWait {
    fn begin(&mut self, operation: Operation, files: &Files<SimFile>, beneath: Beneath<'_>) {
        let Beneath { device, under_way } = beneath;
        let late = &mut self.0;
        if late.overlaps(&operation) {
            late.wait(operation, files, under_way);
        } else if late.is_empty() && writes_data(device, &operation) {
            late.tell(operation, files);
        } else {
            under_way.begin(operation, files);
        }
    }

    fn has_news(&self) -> bool {
        self.0.has_news()
    }

    fn happen(&mut self, beneath: Beneath<'_>) -> Happened {
        self.0.happen(beneath.under_way)
    }
}

#[derive(Debug, Default)]
struct OverlapsInFlight(Late);

impl Meddler for OverlapsInFlight {
    fn begin(&mut self, operation: Operation, files: &Files<SimFile>, beneath: Beneath<'_>) {
        let Beneath { device, under_way } = beneath;
        let (late, writes) = (&mut self.0, writes_data(device, &operation));
        if late.overlaps(&operation) && writes {
            under_way.begin(operation, files);
            late.release(under_way);
        } else if late.concerns(&operation) {
            late.wait(operation, files, under_way);
        } else if late.is_empty() && writes {
            late.tell(operation, files);
        } else {
            under_way.begin(operation, files);
        }
    }

    fn has_news(&self) -> bool {
        self.0.has_news()
    }

    fn happen(&mut self, beneath: Beneath<'_>) -> Happened {
        self.0.happen(beneath.under_way)
    }
}

/// And the sector at which the one of them begins that is moved first.
#[derive(Debug, Default)]
struct CopiesTooEarly(Late, Option<Sector>);

impl CopiesTooEarly {
    /// The first sector of a write to the old place of data that a reflow is still to move.
    fn to_be_moved(device: &Ordered<SimFile>, operation: &Operation) -> Option<Sector> {
        let frontier = device.placement().frontier()?;
        let at = operation.action.range().start;
        let start = device.placement().place_of(Sector(0));
        let sector = Sector((at.0.checked_sub(start.0)?) / SECTOR_SIZE);
        (writes_data(device, operation) && sector < frontier).then_some(sector)
    }

    /// Begins them when their window has been moved.
    fn look(&mut self, beneath: &mut Beneath<'_>) {
        let frontier = beneath.device.placement().frontier();
        let is_moved = |sector| frontier.is_none_or(|frontier| frontier <= sector);
        if self.1.is_some_and(is_moved) {
            self.0.release(beneath.under_way);
            self.1 = None;
        }
    }
}

impl Meddler for CopiesTooEarly {
    fn begin(&mut self, operation: Operation, files: &Files<SimFile>, mut beneath: Beneath<'_>) {
        self.look(&mut beneath);
        let Beneath { device, under_way } = beneath;
        if self.0.concerns(&operation) {
            self.1 = None;
            self.0.wait(operation, files, under_way);
        } else if let Some(sector) = CopiesTooEarly::to_be_moved(device, &operation) {
            self.1 = self.1.max(Some(sector));
            self.0.tell(operation, files);
        } else {
            under_way.begin(operation, files);
        }
    }

    fn close(&mut self, beneath: Beneath<'_>) {
        self.0.release(beneath.under_way);
    }

    fn has_news(&self) -> bool {
        self.0.has_news()
    }

    fn happen(&mut self, mut beneath: Beneath<'_>) -> Happened {
        self.look(&mut beneath);
        self.0.happen_unless_held(beneath.under_way)
    }
}
