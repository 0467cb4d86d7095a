//! Carrying operations out on a simulated host side by side. Each takes effect at some moment
//! between its begin and its end, and they end in any order: as the numbers of a seed say, the
//! same each time.
//!
//! A long write may take effect in two parts. A sync covers what had taken effect when it did so
//! itself, at its begin or at any later moment until its end. A crash can come between any two
//! effects, and so with operations under way of which it leaves all, a part or nothing.

use std::sync::Arc;

use driver::executor::{Died, Executor, Files, Wait};
use driver::host::{Action, Finished, HostFile, HostResult, Operation};
use driver::units::{Bytes, SECTOR_SIZE};

use super::file::SimFile;
use crate::random::SplitMix64;

/// Operations under way on a simulated host.
#[derive(Debug)]
pub struct SideBySide {
    choices: SplitMix64,
    most: usize,
    under_way: Vec<UnderWay>,
}

#[derive(Debug)]
enum UnderWay {
    /// It has taken no effect. The file that it is on, and the one that it shares a range of.
    Begun(Operation, [Option<Arc<SimFile>>; 2]),
    /// This many bytes of a write have been written.
    Halved(Operation, Arc<SimFile>, usize),
    /// It has, or has failed, and nobody has been told.
    Effective(Finished),
}

impl SideBySide {
    /// At most `most` under way, at least 1; `seed` decides on moments and order.
    pub fn new(seed: u64, most: usize) -> SideBySide {
        SideBySide {
            choices: SplitMix64(seed),
            most: most.max(1),
            under_way: Vec::new(),
        }
    }

    /// How many are under way.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// Whether the next thing to happen is the end of one, rather than the begin of another.
    pub fn ends_next(&mut self) -> bool {
        !self.under_way.is_empty() && (self.room() == 0 || self.choices.below(3) == 0)
    }

    /// One that is under way, chosen by chance, takes effect.
    fn let_one_take_effect(&mut self) {
        if self.under_way.is_empty() {
            return;
        }
        let index = self.choices.below(self.under_way.len() as u64) as usize;
        let one = self.under_way.swap_remove(index);
        self.under_way.push(UnderWay::Effective(one.finished()));
    }
}

impl UnderWay {
    fn finished(self) -> Finished {
        match self {
            UnderWay::Begun(operation, [file, source]) => {
                operation.carry_out(file.as_deref(), source.as_deref())
            }
            UnderWay::Halved(operation, file, done) => {
                let result = write(&operation, &file, done..usize::MAX);
                Finished { operation, result }
            }
            UnderWay::Effective(finished) => finished,
        }
    }
}

/// Writes these bytes of a write's buffer, as far as there are any.
fn write(operation: &Operation, file: &SimFile, bytes: std::ops::Range<usize>) -> HostResult<()> {
    let Action::Write { at, buffer } = &operation.action else {
        return Ok(());
    };
    let data = &buffer.data[buffer.part.clone()];
    let bytes = bytes.start.min(data.len())..bytes.end.min(data.len());
    let at = *at + Bytes(bytes.start as u64);
    file.write_all_at(&data[bytes], at)
}

impl Executor<SimFile> for SideBySide {
    /// One at a time, so that something can happen between two begins.
    fn room(&self) -> usize {
        usize::from(self.under_way.len() < self.most)
    }

    fn begin(&mut self, operation: Operation, files: &Files<SimFile>) {
        let file = files.of(operation.file).cloned();
        let sectors = operation.action.range().len.whole_sectors().0;
        let begun = match (self.choices.below(4), file) {
            (0 | 1, _) => UnderWay::Effective(files.carry_out(operation)),
            (2, Some(file)) if sectors > 1 && matches!(operation.action, Action::Write { .. }) => {
                let front = (1 + self.choices.below(sectors - 1)) * SECTOR_SIZE;
                match write(&operation, &file, 0..front as usize) {
                    Ok(()) => UnderWay::Halved(operation, file, front as usize),
                    Err(error) => UnderWay::Effective(Finished {
                        operation,
                        result: Err(error),
                    }),
                }
            }
            (_, file) => {
                let source = files.source_of(&operation).cloned();
                UnderWay::Begun(operation, [file, source])
            }
        };
        self.under_way.push(begun);
    }

    fn finished(&mut self, wait: Wait) -> Result<Option<Finished>, Died> {
        if self.under_way.is_empty() {
            return Ok(None);
        }
        if self.choices.below(2) == 0 {
            self.let_one_take_effect();
        }
        if wait == Wait::No {
            return Ok(None);
        }
        let index = self.choices.below(self.under_way.len() as u64) as usize;
        Ok(Some(self.under_way.swap_remove(index).finished()))
    }
}
