//! Defective doubles: a driver or a resize that does one thing wrong, and nothing else. The
//! checks have to see each of them. Where the catalogue of the kernels' defects measures the
//! search, this one measures the judge.
//!
//! A double stands between the device and whoever uses it. A case, or a replay, names it as it
//! names a defect, so that a finding is shrunk, told and repeated like any other.
//!
//! To add one: write a type that is [`Defective`] for every host file, one that is a [`Meddler`],
//! or a function that makes a [`BoxedResize`] of another; add it to the table of its file, and a
//! new file to [`all`]. The catalogue and its test take it from there.

mod completions;
mod doubled;
mod driven;
mod durability;
mod early_ends;
mod excuses;
mod hearing;
mod late;
mod meddler;
mod openings;
mod order;
mod publications;
mod reads;
mod resizes;
mod results;
mod stale_plans;
mod tools;
mod untidy;

use driver::blk::Request;
use driver::host::HostFile;
use driver::memory::MemoryFile;
use driver::ordered::{Ordered, Resize, Step};

use crate::sim::{Mishearing, SimFile, SimHost};

use super::case::ImageTool;
use super::violation::Kind;

pub use doubled::Doubled;
pub use driven::{Driven, StepsDevice};
pub use meddler::{Beneath, Meddler};

/// A device that does one thing wrong. What is not overridden is right.
pub trait Defective<F: HostFile> {
    /// Takes a request.
    ///
    /// # Errors
    /// The request, if there is no room.
    fn submit(&mut self, device: &mut Ordered<F>, request: Request) -> Result<(), Request> {
        device.submit(request)
    }

    /// One step.
    fn step(&mut self, device: &mut Driven<'_, F>) -> Step {
        device.step()
    }

    /// Whether what this double says has ended is all that has ended on its device: who takes it
    /// before a step of a resize knows what has ended before that step.
    fn tells_ends(&self) -> bool {
        false
    }

    /// No resize has another step: nothing is to wait for one any more.
    fn no_more_resizes(&mut self) {}

    /// Makes everything durable and closes the device.
    ///
    /// # Errors
    /// The driver's words.
    fn close(&mut self, device: Ordered<F>) -> Result<(), String> {
        device.close().map(drop).map_err(|error| error.to_string())
    }
}

/// A resize of a simulated device.
pub type BoxedResize = Box<dyn Resize<SimFile>>;

/// Where a double is put in.
#[derive(Clone, Copy)]
pub enum Seam {
    /// Between the device and its user, in a case or in a replay.
    Driver {
        /// For a case.
        simulated: fn() -> Box<dyn Defective<SimFile>>,
        /// For a replay in memory.
        in_memory: fn() -> Box<dyn Defective<MemoryFile>>,
    },
    /// Between the device and whoever carries its operations out side by side, in a case.
    Executor(fn() -> Box<dyn Meddler>),
    /// Between a resize and the device, in a case: the double of a resize, made of that resize
    /// and the new size in sectors.
    Resize(fn(BoxedResize, u64) -> BoxedResize),
    /// Between the host and whoever uses it, in a case.
    Host(Mishearing),
    /// When the device has been opened, in a case.
    Opened(fn(&mut Ordered<SimFile>)),
    /// After an image tool that was successful, in a case.
    Tool(fn(&SimHost, ImageTool)),
    /// After a device was closed, in a case.
    Closed(fn(&SimHost)),
    /// What the planner says of data past the end of a shrink, and whether that is of a partial
    /// last sector, in a case.
    Losses(fn(bool, bool) -> bool),
    /// After an opening that a fault has ended.
    FailedOpening(fn(&SimHost)),
    /// After a recovery that a fault has ended, before the device is dropped.
    FailedRecovery(fn(&mut Ordered<SimFile>)),
}

impl Seam {
    /// The seam of a double of the driver.
    pub const fn driver<D>() -> Seam
    where
        D: Defective<SimFile> + Defective<MemoryFile> + Default + 'static,
    {
        Seam::Driver {
            simulated: || Box::new(D::default()),
            in_memory: || Box::new(D::default()),
        }
    }
}

/// A double, and what has to see it.
#[derive(Clone, Copy)]
pub struct Double {
    /// Its name, which no defect has.
    pub name: &'static str,
    /// What it does wrong, in a line.
    pub does: &'static str,
    /// Where it is put in.
    pub seam: Seam,
    /// As which of these the fuzzer finds it; empty if it has no case in which it would show.
    pub found_as: &'static [Kind],
    /// On which device a replay, which has no crashes and no faults, sees it too.
    pub replay: Option<Disk>,
}

/// The device of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// One of some sectors, which the trace reads and writes over and over.
    Small,
    /// One of more than 1 GiB, of which the trace touches only the beginning.
    Large,
}

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Double> {
    let tables = [
        completions::DOUBLES,
        reads::DOUBLES,
        order::DOUBLES,
        durability::DOUBLES,
        resizes::DOUBLES,
        excuses::DOUBLES,
        openings::DOUBLES,
        hearing::DOUBLES,
        tools::DOUBLES,
        early_ends::DOUBLES,
        publications::DOUBLES,
        results::DOUBLES,
        stale_plans::DOUBLES,
        untidy::DOUBLES,
    ];
    tables.into_iter().flatten()
}

/// The double of this name.
pub fn named(name: &str) -> Option<&'static Double> {
    all().find(|double| double.name == name)
}
