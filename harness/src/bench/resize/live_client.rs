//! A client of a live device: requests at fixed times, whatever became of those before, so
//! that a pause is seen by all that it keeps waiting. What it reads is checked. A request is told
//! apart from others by whether a window was over its sectors while it was served.

use driver::blk::{Completion, Operation, Request, Status, Tag};
use driver::units::{Sector, SectorCount, SectorRange};
use fixedbitset::FixedBitSet;
use hdrhistogram::Histogram;
use userhelper::progress::Progress;
use userhelper::real_files::RealFile;

use super::BenchError;
use super::image::{BLOCK, Layout, fill, sector_of};
use crate::clock::{Clock, WallClock};
use crate::device::{BlockDevice, DeviceError, Handle};
use crate::random::SplitMix64;

/// From one request to the next: 2,000 in a second.
const INTERVAL_NS: u64 = 500_000;

/// The most requests in flight. Those that are due meanwhile wait their turn, and that counts.
const MOST_IN_FLIGHT: usize = 64;

/// How long requests took.
pub(super) struct Latencies {
    /// All of them.
    pub(super) all: Histogram<u64>,
    /// Those that no window was over.
    pub(super) outside: Histogram<u64>,
}

impl Latencies {
    pub(super) fn new() -> Latencies {
        // A minute is the most that it counts; what takes longer counts as that.
        let bounds = Histogram::new_with_bounds(1, 60_000_000_000, 3);
        let all = bounds.unwrap_or_else(|_| unreachable!("constant bounds that are in order"));
        Latencies {
            outside: all.clone(),
            all,
        }
    }

    fn note(&mut self, took_ns: u64, outside: bool) {
        self.all.saturating_record(took_ns);
        if outside {
            self.outside.saturating_record(took_ns);
        }
    }
}

/// A client that reads and writes one block at a time, as many reads as writes. Half of the time
/// the block is one that was dirty in the beginning, half of the time any.
pub(super) struct Client {
    random: SplitMix64,
    blocks: u64,
    dirty: Vec<u64>,
    /// The blocks that hold something; the others are zeros.
    written: FixedBitSet,
    progress: Progress,
}

/// A request under way.
#[derive(Clone, Copy)]
struct Pending {
    due_ns: u64,
    block: u64,
    /// No window after its submission reaches past this sector.
    windows_end: Sector,
    /// What a read has to find.
    written: bool,
}

impl Client {
    /// One whose device may be resized, with this progress.
    pub(super) fn new(layout: &Layout, progress: Progress) -> Client {
        let dirty: Vec<_> = layout.blocks().collect();
        let blocks = layout.size.0 / BLOCK;
        let mut written = FixedBitSet::with_capacity(blocks as usize);
        for &block in &dirty {
            written.insert(block as usize);
        }
        Client {
            random: SplitMix64(11),
            blocks,
            dirty,
            written,
            progress,
        }
    }

    /// Submits requests as long as `goes_on` says so, which is told how many have been served,
    /// and then waits for the rest.
    pub(super) fn run(
        &mut self,
        live: &mut Handle<RealFile>,
        latencies: &mut Latencies,
        mut goes_on: impl FnMut(&mut Handle<RealFile>, u64) -> bool,
    ) -> Result<(), BenchError> {
        let died = |error: DeviceError| BenchError::Device(error.to_string());
        let clock = WallClock::start();
        let mut pending: Vec<Option<Pending>> = vec![None; MOST_IN_FLIGHT];
        let mut free: Vec<usize> = (0..MOST_IN_FLIGHT).collect();
        let (mut due_ns, mut served) = (0, 0);
        loop {
            let more = goes_on(live, served);
            if !more && free.len() == MOST_IN_FLIGHT {
                return Ok(());
            }
            while more && due_ns <= clock.now_ns() {
                let Some(slot) = free.pop() else {
                    break;
                };
                let (request, next) = self.next(slot, due_ns);
                pending[slot] = Some(next);
                live.submit(request).map_err(died)?;
                due_ns += INTERVAL_NS;
            }
            let until = due_ns.max(clock.now_ns() + 10_000);
            let completion = live.complete_before(until, &clock).map_err(died)?;
            if let Some(completion) = completion {
                let slot = completion.request.tag.0 as usize;
                let Some(done) = pending.get_mut(slot).and_then(Option::take) else {
                    return Err(BenchError::Device("completed what was not asked".into()));
                };
                let took_ns = clock.now_ns().saturating_sub(done.due_ns);
                latencies.note(took_ns, self.was_outside(done));
                check(&completion, done)?;
                free.push(slot);
                served += 1;
            }
        }
    }

    fn next(&mut self, slot: usize, due_ns: u64) -> (Request, Pending) {
        let among = self.dirty.len() as u64;
        let block = match self.random.below(2) {
            0 if among > 0 => self.dirty[self.random.below(among) as usize],
            _ => self.random.below(self.blocks),
        };
        let written = self.written.contains(block as usize);
        let (tag, sector) = (Tag(slot as u64), sector_of(block));
        let request = match self.random.below(2) {
            0 => Request::read(tag, sector, SectorCount(BLOCK / 512)),
            _ => {
                let mut data = vec![0; BLOCK as usize];
                fill(&mut data, block);
                self.written.insert(block as usize);
                Request::write(tag, sector, data)
            }
        };
        let pending = Pending {
            due_ns,
            block,
            windows_end: self.windows_end(),
            written,
        };
        (request, pending)
    }

    fn windows_end(&self) -> Sector {
        // Before the first window, any may come.
        self.progress.frontier().unwrap_or(Sector(u64::MAX))
    }

    /// Whether no window was over a request from when it was submitted until now. Windows come one
    /// below the other.
    fn was_outside(&self, request: Pending) -> bool {
        let start = self.progress.reached().unwrap_or(Sector(u64::MAX));
        let windows = SectorRange::between(start..request.windows_end.max(start));
        let sectors = SectorRange::new(sector_of(request.block), SectorCount(BLOCK / 512));
        !windows.overlaps(sectors)
    }
}

/// Whether a request went well, and a read found what it should.
fn check(completion: &Completion, asked: Pending) -> Result<(), BenchError> {
    if completion.status != Status::Ok {
        let status = completion.status;
        return Err(BenchError::Device(format!(
            "a request ended with the status {status}"
        )));
    }
    if completion.request.operation != Operation::Read {
        return Ok(());
    }
    let mut expected = [0; BLOCK as usize];
    if asked.written {
        fill(&mut expected, asked.block);
    }
    let found = completion.request.segments.iter().flat_map(|s| &s.data);
    if found.eq(&expected) {
        return Ok(());
    }
    Err(BenchError::Device(format!(
        "a read of block {} found something else than was written there",
        asked.block
    )))
}
