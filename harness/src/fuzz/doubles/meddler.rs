//! The seam between a device and whoever carries its operations out, side by side: what is given
//! to be done, and what is said to have ended.

use std::fmt;

use driver::executor::{Executor, Files};
use driver::host::Operation;
use driver::ordered::Ordered;

use crate::sim::{Happened, SideBySide, SimFile};

/// What is on either side of the seam.
pub struct Beneath<'a> {
    /// The device, whose map and placement say what an operation is for.
    pub(super) device: &'a Ordered<SimFile>,
    /// What carries operations out.
    pub(super) under_way: &'a mut SideBySide,
}

impl<'a> Beneath<'a> {
    /// What is on either side.
    pub(in super::super) fn new(
        device: &'a Ordered<SimFile>,
        under_way: &'a mut SideBySide,
    ) -> Beneath<'a> {
        Beneath { device, under_way }
    }
}

/// Does something wrong at the seam. What is not overridden is right.
pub trait Meddler: fmt::Debug {
    /// Begins an operation that the device has given.
    fn begin(&mut self, operation: Operation, files: &Files<SimFile>, beneath: Beneath<'_>) {
        beneath.under_way.begin(operation, files);
    }

    /// Whether an end is to be told that does not wait for anything.
    fn has_news(&self) -> bool {
        false
    }

    /// The device is to be closed, so that nothing is held back any more.
    fn close(&mut self, _: Beneath<'_>) {}

    /// Lets something happen, if there is anything: an end is what the device is told of.
    fn happen(&mut self, beneath: Beneath<'_>) -> Happened {
        beneath.under_way.happen()
    }
}
