//! Where generated requests go.

use driver::units::{Sector, SectorCount};

use crate::streams::{Stream, below, chance, stream};

use super::super::TraceOperation;
use super::Access;
use super::zipf::Zipf;

/// Chooses the places of requests.
#[derive(Debug)]
pub(super) struct Places {
    rng: Stream,
    device: SectorCount,
    choice: Choice,
    sequential_percent: u64,
    /// Where the last request of each kind ended.
    ends: [Sector; 4],
}

#[derive(Debug)]
enum Choice {
    Sequential,
    Random,
    Zipf(Zipf),
    /// The hot part begins at a sector, has a length, and takes a share of the requests.
    HotSpot(u64, u64, u64),
}

impl Places {
    pub(super) fn new(
        seed: u64,
        device: SectorCount,
        access: Access,
        sequential_percent: u64,
    ) -> Places {
        let mut layout = stream(seed, "trace: layout");
        let choice = match access {
            Access::Sequential => Choice::Sequential,
            Access::Random => Choice::Random,
            Access::Zipf { theta_64ths } => {
                Choice::Zipf(Zipf::new(&mut layout, device.0, theta_64ths))
            }
            Access::HotSpot {
                space_percent,
                requests_percent,
            } => {
                let length = (u128::from(device.0) * u128::from(space_percent) / 100) as u64;
                let start = below(&mut layout, device.0 - length + 1);
                Choice::HotSpot(start, length.max(1), requests_percent)
            }
        };
        Places {
            rng: stream(seed, "trace: places"),
            device,
            choice,
            sequential_percent,
            ends: [Sector(0); 4],
        }
    }

    /// Where the next request of `count` sectors, no more than the device has, begins.
    pub(super) fn start(&mut self, operation: TraceOperation, count: SectorCount) -> Sector {
        let kind = match operation {
            TraceOperation::Read => 0,
            TraceOperation::Write | TraceOperation::Flush => 1,
            TraceOperation::Discard => 2,
            TraceOperation::WriteZeroes => 3,
        };
        let room = self.device.0 - count.0;
        let is_sequential = match self.choice {
            Choice::Sequential => true,
            _ => self.sequential_percent > 0 && chance(&mut self.rng, self.sequential_percent),
        };
        let rng = &mut self.rng;
        let anywhere = match &self.choice {
            _ if is_sequential => match self.ends[kind].0 {
                end if end <= room => end,
                _ => 0,
            },
            Choice::Sequential | Choice::Random => below(rng, self.device.0),
            Choice::Zipf(zipf) => zipf.sector(rng),
            Choice::HotSpot(start, length, percent) => {
                // Never the other way round: the cold part is what is left of the device.
                let cold = self.device.0 - length;
                match chance(rng, *percent) || cold == 0 {
                    true => start + below(rng, *length),
                    false => match below(rng, cold) {
                        at if at < *start => at,
                        at => at + length,
                    },
                }
            }
        };
        let start = match is_sequential {
            true => anywhere,
            // At a multiple of its length, as file systems and databases ask.
            false => (anywhere / count.0 * count.0).min(room),
        };
        self.ends[kind] = Sector(start + count.0);
        Sector(start)
    }
}
