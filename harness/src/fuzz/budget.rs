//! What a case may take: steps, host operations, bytes. A driver that goes on for ever, or that
//! asks for more than any case needs, is a finding, and so has to be told from one that is slow.
//! Everything is counted and nothing is timed: a case that takes too much on one machine takes too
//! much on all.
//!
//! The budgets are linear in what a case is made of, and far above what it takes: of 12,000 cases
//! of all drivers, with and without a resize, none took a tenth of its operations. The most is
//! taken where a host returns its reads in pieces of five bytes.

use driver::units::{Bytes, SectorCount};

use crate::sim::Allowance;

use super::case::{Image, Life, Stimulus};

/// Steps and host operations that a life may take whatever is in it.
const LEAST: u64 = 100_000;

/// Steps and host operations for each sector of its largest device, and for each that a request
/// names: a resize moves a sector at a time, with syncs and records, and a read may come in small
/// pieces.
const A_SECTOR: u64 = 1_000;

/// Steps and host operations for each action.
const AN_ACTION: u64 = 1_000;

/// Bytes that may be written whatever is in a case.
const LEAST_BYTES: u64 = 64 << 20;

/// Bytes that may be written for each byte of the largest device, and of what requests name. A host
/// that zeroes no range writes each zero, and a sound case has come to 64 times its size by that.
const REWRITTEN: u64 = 96;

/// Bytes of a file that may come on top of those of its device: planners leave up to 1 GiB of room
/// before the bitmap and again before the data.
const ROOM: u64 = 8 << 30;

/// Unsynced operations that the crash points of one step may hold: some 20 MiB of memory. What is
/// bounded by it is how often a step may change a file without syncing it: some 3,000 times. (The
/// most in those cases was 451.) Crash points share what came before the step, so that it does not
/// matter how much that is: on a host that zeroes no range, the largest device that is generated
/// takes 513 writes to zero. Each action of a life may zero it, without a flush between.
const AT_STAKE: u64 = 1 << 18;

/// What a life of a case, or the recovery of one of its crash images, may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Sectors of the largest device.
    largest: u64,
    /// Sectors that requests name.
    named: u64,
    actions: u64,
    /// The largest alignment, in bytes.
    alignment: u64,
}

impl Budget {
    /// The budget of a device that nothing is done with.
    pub fn of(image: &Image) -> Budget {
        Budget {
            largest: image.sectors,
            named: 0,
            actions: 0,
            alignment: u64::from(image.alignment),
        }
    }

    /// A life is lived, after those before it.
    pub fn add(&mut self, life: &Life) {
        for action in &life.actions {
            self.actions += 1;
            match *action {
                Stimulus::Read { count, .. }
                | Stimulus::Write { count, .. }
                | Stimulus::Discard { count, .. }
                | Stimulus::WriteZeroes { count, .. } => {
                    self.named = self.named.saturating_add(count);
                }
                Stimulus::Resize {
                    sectors, alignment, ..
                } => {
                    self.largest = self.largest.max(sectors);
                    self.alignment = self.alignment.max(u64::from(alignment));
                }
                Stimulus::Flush
                | Stimulus::Step
                | Stimulus::Drain
                | Stimulus::OpenAgain
                | Stimulus::StepResize
                | Stimulus::FinishResize => {}
            }
        }
    }

    /// Steps of the driver and of its resizes.
    pub fn steps(&self) -> u64 {
        let sectors = self.largest.saturating_add(self.named);
        let actions = self.actions.saturating_mul(AN_ACTION);
        let sectors = sectors.saturating_mul(A_SECTOR);
        LEAST.saturating_add(actions).saturating_add(sectors)
    }

    /// What the host may be asked for.
    pub fn allowance(&self) -> Allowance {
        let device = SectorCount(self.largest).bytes().0;
        let named = SectorCount(self.named).bytes().0;
        let written = device.saturating_add(named).saturating_mul(REWRITTEN);
        Allowance {
            operations: self.steps(),
            written: Bytes(LEAST_BYTES.saturating_add(written)),
            longest_file: Bytes(device.saturating_add(4 * self.alignment + ROOM)),
            longest_operation: Bytes(LEAST_BYTES.saturating_add(device)),
            at_stake: AT_STAKE,
        }
    }
}
