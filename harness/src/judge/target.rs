//! A device in memory with a double before it, as a target of a replay.

use std::collections::VecDeque;

use driver::blk::{Completion, Request};
use driver::memory::MemoryFile;
use driver::ordered::{Ordered, Step};

use crate::fuzz::doubles::Defective;
use crate::replay::target::{Stopped, Target, TargetError, hand_over};

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
        let offer = |this: &mut Self, request| this.double.submit(&mut this.device, request);
        hand_over(self, request, offer, |this| Ok(this.step()))
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

    fn stop(mut self) -> Result<Stopped<MemoryFile>, TargetError> {
        while self.step() {}
        Ok(Stopped {
            device: self.device,
            left: self.completions.into(),
        })
    }
}
