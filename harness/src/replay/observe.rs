//! Looking at a device while it is resized: before, on the way, and after.

use std::sync::{Arc, Mutex, MutexGuard};

use driver::host::HostFile;
use driver::ordered::{Desk, Ordered, Procedure, Resize};
use driver::units::FileOffset;
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
pub struct Sights(Arc<Mutex<Observations>>);

/// What has been seen of a resize.
#[derive(Clone, Debug, Default)]
pub struct Observations {
    /// The device before, on the way, and after.
    pub sights: Vec<Sight>,
    /// Where the data starts after, if stock Linux reached it before and does not now.
    pub out_of_stock_reach: Option<FileOffset>,
    reached_before: bool,
}

impl Sights {
    fn lock(&self) -> MutexGuard<'_, Observations> {
        match self.0.lock() {
            Ok(sights) => sights,
            // What was seen before a panic is right all the same.
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    /// Everything seen.
    pub fn take(&self) -> Observations {
        std::mem::take(&mut self.lock())
    }

    fn see<F: HostFile>(&self, moment: Moment, device: &Ordered<F>) {
        let strip = Strip::of(device.map(), device.placement().frontier(), CELLS);
        let mut seen = self.lock();
        seen.sights.push(Sight { moment, strip });
        // A raw disk has no geometry, and is never out of reach.
        let geometry = device.geometry();
        let out_of_reach = geometry.filter(|geometry| !geometry.fits_stock_linux());
        match moment {
            Moment::Before => seen.reached_before = out_of_reach.is_none(),
            Moment::During => {}
            Moment::After if seen.reached_before => {
                seen.out_of_stock_reach = out_of_reach.map(|geometry| geometry.data_offset);
            }
            Moment::After => {}
        }
    }
}

/// A resize that is looked at.
pub struct Observed<R> {
    resize: R,
    sights: Sights,
}

impl<R> Observed<R> {
    /// Looks at `resize` as it goes, and keeps what is seen in `sights`.
    pub fn new(resize: R, sights: Sights) -> Observed<R> {
        Observed { resize, sights }
    }
}

impl<F: HostFile, R: Resize<F> + 'static> Resize<F> for Observed<R> {
    fn begin(self: Box<Self>, desk: Desk<F>) -> Procedure {
        let Observed { resize, sights } = *self;
        let (before, during, after) = (sights.clone(), sights.clone(), sights);
        let mut passed = 0;
        let watched = desk.watched(move |device| {
            let Some(frontier) = device.placement().frontier() else {
                return;
            };
            let reached = |stop: &&f64| frontier.0 as f64 <= **stop * device.capacity().0 as f64;
            let stops = STOPS.iter().take_while(reached).count();
            if stops > passed {
                passed = stops;
                during.see(Moment::During, device);
            }
        });
        Box::pin(async move {
            desk.look(move |here| before.see(Moment::Before, here.device()))
                .await?;
            let resized = Box::new(resize).begin(watched).await?;
            desk.follow(move |here| after.see(Moment::After, here.device()))
                .await?;
            Ok(resized)
        })
    }
}
