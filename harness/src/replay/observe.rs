//! Looking at a device while it is resized: before, on the way, and after.

use std::sync::{Arc, Mutex, MutexGuard};

use driver::host::HostFile;
use driver::ordered::Ordered;
use driver::resize::{Resize, ResizeError, ResizeStep};
use serde::Serialize;

use crate::strip::Strip;

/// Cells of a strip that is kept: more than a terminal has columns, and enough for a page.
const CELLS: usize = 240;

/// The frontier of a reflow is looked at when it has passed these parts of the device.
const STOPS: [f64; 3] = [0.75, 0.5, 0.25];

/// The device at a moment of its resize.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sight {
    /// Which moment.
    pub moment: Moment,
    /// What it looked like.
    #[serde(flatten)]
    pub strip: Strip,
}

/// A moment of a resize.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// Nothing has been done.
    Before,
    /// A part has been moved.
    During,
    /// It is done.
    After,
}

impl Moment {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Moment::Before => "before",
            Moment::During => "during",
            Moment::After => "after",
        }
    }
}

/// What has been seen of a resize so far; shared with whoever carries it out.
#[derive(Clone, Debug, Default)]
pub struct Sights(Arc<Mutex<Vec<Sight>>>);

impl Sights {
    fn lock(&self) -> MutexGuard<'_, Vec<Sight>> {
        match self.0.lock() {
            Ok(sights) => sights,
            // What was seen before a panic is right all the same.
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    /// Everything seen, in order.
    pub fn take(&self) -> Vec<Sight> {
        std::mem::take(&mut self.lock())
    }

    fn see<F: HostFile>(&self, moment: Moment, device: &Ordered<F>) {
        let strip = Strip::of(device.map(), device.placement().frontier(), CELLS);
        self.lock().push(Sight { moment, strip });
    }
}

/// A resize that is looked at.
pub struct Observed<R> {
    resize: R,
    sights: Sights,
    begun: bool,
    stops: usize,
}

impl<R> Observed<R> {
    /// Looks at `resize` as it goes, and keeps what is seen in `sights`.
    pub fn new(resize: R, sights: Sights) -> Observed<R> {
        Observed {
            resize,
            sights,
            begun: false,
            stops: 0,
        }
    }
}

impl<F: HostFile, R: Resize<F>> Resize<F> for Observed<R> {
    fn step(&mut self, device: &mut Ordered<F>) -> Result<ResizeStep, ResizeError> {
        if !self.begun {
            self.begun = true;
            self.sights.see(Moment::Before, device);
        }
        let step = self.resize.step(device)?;
        if let ResizeStep::Done(_) = step {
            self.sights.see(Moment::After, device);
        } else if let Some(frontier) = device.placement().frontier() {
            let passed = |stop: &&f64| frontier.0 as f64 <= **stop * device.capacity().0 as f64;
            let stops = STOPS.iter().take_while(passed).count();
            if stops > self.stops {
                self.stops = stops;
                self.sights.see(Moment::During, device);
            }
        }
        Ok(step)
    }
}
