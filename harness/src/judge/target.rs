//! A device in memory with a double before it, as a target of a replay.

use std::collections::VecDeque;

use driver::blk::{Completion, Request};
use driver::memory::MemoryFile;
use driver::ordered::{Ordered, Outcome, Step};
use driver::resize::Resize;

use crate::clock::Clock;
use crate::fuzz::doubles::Defective;
use crate::replay::target::{Stopped, Target, TargetError};

/// The target. It does not resize.
pub(super) struct DoubleTarget {
    device: Ordered<MemoryFile>,
    double: Box<dyn Defective<MemoryFile>>,
    completions: VecDeque<Completion>,
}

impl DoubleTarget {
    pub(super) fn new(
        device: Ordered<MemoryFile>,
        double: Box<dyn Defective<MemoryFile>>,
    ) -> DoubleTarget {
        DoubleTarget {
            device,
            double,
            completions: VecDeque::new(),
        }
    }

    /// One step. Whether anything could be done.
    fn step(&mut self) -> bool {
        match self.double.step(&mut self.device) {
            Step::Completed(completion) => self.completions.push_back(completion),
            Step::Working => {}
            Step::Idle | Step::Blocked => return false,
        }
        true
    }
}

impl Target<MemoryFile> for DoubleTarget {
    fn submit(&mut self, request: Request) -> Result<(), TargetError> {
        let mut request = request;
        while let Err(back) = self.double.submit(&mut self.device, request) {
            request = back;
            if !self.step() {
                return Err(TargetError::Idle);
            }
        }
        Ok(())
    }

    fn complete(&mut self) -> Result<Completion, TargetError> {
        loop {
            if let Some(completion) = self.completions.pop_front() {
                return Ok(completion);
            }
            if !self.step() {
                return Err(TargetError::Idle);
            }
        }
    }

    fn complete_before(
        &mut self,
        _: u64,
        _: &dyn Clock,
    ) -> Result<Option<Completion>, TargetError> {
        self.complete().map(Some)
    }

    fn resize(&mut self, _: Box<dyn Resize<MemoryFile> + Send>) -> Result<(), TargetError> {
        Err(TargetError::Idle)
    }

    fn resized(&mut self, _: bool) -> Result<Option<Outcome>, TargetError> {
        Ok(None)
    }

    fn stop(mut self) -> Result<Stopped<MemoryFile>, TargetError> {
        while self.step() {}
        Ok(Stopped {
            device: self.device,
            left: self.completions.into(),
        })
    }
}
