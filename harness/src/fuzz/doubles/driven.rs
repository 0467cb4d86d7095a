//! A device as a double finds it: the driver, and whoever carries its operations out.

use std::ops::{Deref, DerefMut};

use driver::host::HostFile;
use driver::ordered::{Ordered, Step};

/// Takes the steps of a device whose operations are not carried out where they are given.
pub trait StepsDevice<F> {
    /// One step.
    fn step(&mut self, device: &mut Ordered<F>) -> Step;
}

/// A device, and who takes its steps, if that is not the device itself. It is used as the device.
pub struct Driven<'a, F> {
    device: &'a mut Ordered<F>,
    beside: Option<&'a mut dyn StepsDevice<F>>,
}

impl<'a, F: HostFile> Driven<'a, F> {
    /// The device, stepped by `beside` if there is one.
    pub fn new(
        device: &'a mut Ordered<F>,
        beside: Option<&'a mut dyn StepsDevice<F>>,
    ) -> Driven<'a, F> {
        Driven { device, beside }
    }

    /// One step.
    pub fn step(&mut self) -> Step {
        match &mut self.beside {
            Some(beside) => beside.step(self.device),
            None => self.device.step(),
        }
    }
}

impl<F> Deref for Driven<'_, F> {
    type Target = Ordered<F>;

    fn deref(&self) -> &Ordered<F> {
        self.device
    }
}

impl<F> DerefMut for Driven<'_, F> {
    fn deref_mut(&mut self) -> &mut Ordered<F> {
        self.device
    }
}
