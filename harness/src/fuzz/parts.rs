//! The parts of the work on a case, for somebody who wants to know where the time goes. The
//! fuzzer itself has no clock: it says where it is, and who listens may have one.

/// A part of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Making a case of a seed.
    Generate,
    /// Running the case: guest, driver, resize, the simulated host, what has to be true.
    Run,
    /// Choosing what survives a crash, and building the image of it.
    Build,
    /// Opening the device on an image and finishing what was interrupted.
    Recover,
    /// Reading the whole device, and comparing it and its files with what has to be there.
    Compare,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 5] = [
        Part::Generate,
        Part::Run,
        Part::Build,
        Part::Recover,
        Part::Compare,
    ];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Part::Generate => "generate the case",
            Part::Run => "run it",
            Part::Build => "build crash images",
            Part::Recover => "open and recover them",
            Part::Compare => "compare them",
        }
    }
}

/// Somebody who is told what the work is at, and may end it.
pub trait Watch {
    /// From now on it is this part.
    fn enter(&mut self, part: Part);

    /// Whether the work is to be left where it is: asked before each crash image.
    fn cuts_off(&mut self) -> bool {
        false
    }
}

/// Nobody.
#[derive(Clone, Copy, Debug)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn enter(&mut self, _: Part) {}
}

/// Ends the work as soon as this says so.
pub(super) struct Until<'a>(pub(super) &'a dyn Fn() -> bool);

impl Watch for Until<'_> {
    fn enter(&mut self, _: Part) {}

    fn cuts_off(&mut self) -> bool {
        (self.0)()
    }
}
