//! What a replay may cost that nobody asked for. Whoever wrote a trace says in a few bytes where
//! requests go and how long they are; what its user did not say as well is bounded here, and what
//! is past a bound is refused with the option that says it.

use driver::blk::Limits;
use driver::cow::Extension;
use driver::units::{Bytes, SECTOR_SIZE, Sector, SectorCount, SectorRange};

use crate::intervals::IntervalSet;
use crate::stamp::Coverage;
use crate::trace::{Nanoseconds, Record, TraceOperation};

use super::backing::STAMP_ALL;
use super::backing::StampedParts;
use super::error::ReplayError;
use super::options::Options;
use super::pace::Pace;
use super::requests::Placed;
use super::room::Room;

/// The largest device that is made because a trace implies it. A user may name a larger one.
pub const LARGEST_IMPLIED: Bytes = Bytes(256 << 30);

/// The memory that a replay in memory may take if its user does not say.
pub const USUAL_MEMORY: Bytes = Bytes(4 << 30);

/// What requests may read and write together if nobody says how many of them are taken.
pub const MOST_MOVED: Bytes = Bytes(16 << 40);

/// What requests may write zeros to in files if nobody says how many of them are taken: that takes
/// as much space of the host's file system, at once and without a byte that is moved.
pub const MOST_ZEROED: Bytes = Bytes(32 << 30);

/// The longest schedule that is kept: 30 days.
pub const LONGEST_SCHEDULE: Nanoseconds = Nanoseconds(30 * 24 * 3600 * 1_000_000_000);

/// What a replay's user allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Memory for a device in memory, and for the model of any.
    pub memory: Bytes,
    /// What requests read and write together.
    pub moved: Bytes,
    /// What of a device in files requests write zeros to.
    pub zeroed: Bytes,
}

impl Default for Allowed {
    fn default() -> Allowed {
        Allowed {
            memory: USUAL_MEMORY,
            moved: MOST_MOVED,
            zeroed: MOST_ZEROED,
        }
    }
}

/// Adds up what requests move, and the space that zeros take.
#[derive(Debug)]
pub(super) struct Moved {
    files: Files,
    bytes: Bytes,
    /// Sectors that zeros are written to. Once more they take no more.
    zeros: IntervalSet,
    zeroed: Bytes,
    /// Blocks of the file system that come to be taken, as if each began with a sector.
    blocks: Tally,
    /// Blocks of a COW file's bitmap, likewise.
    bitmap: Tally,
    taken: Bytes,
    /// What the files may come to take.
    free: Option<Bytes>,
    allowed: Allowed,
}

impl Moved {
    /// On a device whose files may come to take this space where they are; `None` where there is
    /// no known limit.
    pub(super) fn new(allowed: Allowed, files: Files, room: Option<Room>) -> Moved {
        let sectors_a_block = room.map_or(1, |room| room.space.block.0 / SECTOR_SIZE);
        let sectors_a_block = sectors_a_block.clamp(1, LARGEST_BLOCK / SECTOR_SIZE);
        let block = sectors_a_block * SECTOR_SIZE;
        let is_cow = room.is_some_and(|room| room.is_cow);
        // A block of the bitmap has eight bits a byte, and its bytes are written alone.
        let bitmap = match is_cow {
            true => Tally::new(block * 8, block),
            false => Tally::new(1, 0),
        };
        let header = match is_cow {
            true => HEADER.next_multiple_of(block),
            false => 0,
        };
        Moved {
            files,
            bytes: Bytes(0),
            zeros: IntervalSet::default(),
            zeroed: Bytes(0),
            blocks: Tally::new(sectors_a_block, block),
            bitmap,
            taken: Bytes(header),
            free: room.map(|room| room.space.free),
            allowed,
        }
    }

    /// Takes in a request, the number of it in the trace from 1, and where it goes.
    ///
    /// # Errors
    /// If it is one too many.
    pub(super) fn add(
        &mut self,
        request: u64,
        record: &Record,
        placed: &Placed,
    ) -> Result<(), ReplayError> {
        match record.operation {
            TraceOperation::Read | TraceOperation::Write => {
                let sectors: u64 = placed.iter().map(|range| range.count.0).sum();
                let bytes = sectors.saturating_mul(SECTOR_SIZE);
                self.bytes.0 = self.bytes.0.saturating_add(bytes);
            }
            TraceOperation::WriteZeroes if self.files == Files::OnDisk => {
                for range in placed.iter().filter(|range| !range.is_empty()) {
                    let before = self.zeros.insert(range.start.0..range.end().0);
                    let new = (range.count.0 - before).saturating_mul(SECTOR_SIZE);
                    self.zeroed.0 = self.zeroed.0.saturating_add(new);
                }
            }
            // In memory zeros are holes; a discard takes nothing anywhere.
            TraceOperation::WriteZeroes | TraceOperation::Discard | TraceOperation::Flush => {}
        }
        let Allowed { moved, zeroed, .. } = self.allowed;
        if self.bytes > moved {
            return Err(ReplayError::TooMuchMoved {
                request,
                allowed: moved,
            });
        }
        if self.zeroed > zeroed {
            return Err(ReplayError::TooMuchZeroed {
                request,
                allowed: zeroed,
            });
        }
        if let (TraceOperation::Write | TraceOperation::WriteZeroes, Some(free)) =
            (record.operation, self.free)
        {
            for range in placed {
                let more = self
                    .blocks
                    .add(*range)
                    .saturating_add(self.bitmap.add(*range));
                self.taken.0 = self.taken.0.saturating_add(more);
            }
            if self.taken > free {
                return Err(ReplayError::NoSpace { request, free });
            }
        }
        Ok(())
    }
}

/// Whether the pace can be kept up to a request with this time.
///
/// # Errors
/// If that takes longer than anybody waits.
pub(super) fn check_schedule(
    request: u64,
    time: Nanoseconds,
    pace: Pace,
) -> Result<(), ReplayError> {
    let speed = match pace {
        Pace::AsFast => return Ok(()),
        Pace::Recorded { speed } | Pace::ThinkTimes { speed } => speed,
    };
    match time.0 as f64 / speed > LONGEST_SCHEDULE.0 as f64 {
        true => Err(ReplayError::TooLongSchedule { request, time }),
        false => Ok(()),
    }
}

/// Where a device's files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Files {
    /// Somewhere else.
    OnDisk,
    /// In memory.
    InMemory,
}

/// Memory that comes in units: the first sector of a unit takes all of it.
#[derive(Debug)]
struct Tally {
    sectors_a_unit: u64,
    bytes_a_unit: u64,
    units: IntervalSet,
}

impl Tally {
    fn new(sectors_a_unit: u64, bytes_a_unit: u64) -> Tally {
        Tally {
            sectors_a_unit,
            bytes_a_unit,
            units: IntervalSet::default(),
        }
    }

    /// Takes in a range, and returns the bytes that it adds.
    fn add(&mut self, range: SectorRange) -> u64 {
        if range.is_empty() || self.bytes_a_unit == 0 {
            return 0;
        }
        let end = range.end().0.div_ceil(self.sectors_a_unit);
        let units = range.start.0 / self.sectors_a_unit..end;
        let new = units.end - units.start - self.units.insert(units);
        new.saturating_mul(self.bytes_a_unit)
    }

    /// Bytes of a whole device.
    fn most(&self, sectors: SectorCount) -> u64 {
        let units = sectors.0.div_ceil(self.sectors_a_unit);
        units.saturating_mul(self.bytes_a_unit)
    }
}

/// Blocks of a file system are counted as no longer than this. Where they are, a file takes more
/// space than is counted.
const LARGEST_BLOCK: u64 = 4096;

/// The bytes of a COW file's header, with the extension block after it.
const HEADER: u64 = Extension::OFFSET.0 + Extension::LEN as u64;

/// The memory of an interval of zeros or discards: in the two sets of the model, in the one here,
/// and in that of the space that zeros take.
const BYTES_AN_INTERVAL: u64 = 160;

/// A request longer than this is carried out in pieces.
const LONGEST_PIECE: Bytes = Limits::ORDERED.max_transfer.bytes();

/// Adds up the memory that a replay may come to take, beside the program's own.
pub(super) struct Footprint {
    /// The backing file, where it is stamped.
    backing: Tally,
    /// The COW file, where it is written.
    cow: Tally,
    /// The model of what is written.
    model: Tally,
    /// Where zeros and discards go: the model keeps intervals of those.
    holes: IntervalSet,
    /// What of the backing file is stamped, if not all of it.
    stamped: Option<StampedParts>,
    needed: u64,
    /// The payload in flight is `depth` requests of the longest piece so far.
    depth: u64,
    longest: Bytes,
    allowed: Bytes,
}

impl Footprint {
    /// Of a device of this size, in which nothing is written yet, and that never becomes larger
    /// than `largest`; `None` where it cannot come to more than is allowed.
    pub(super) fn new(
        files: Files,
        options: &Options,
        capacity: SectorCount,
        largest: SectorCount,
    ) -> Option<Footprint> {
        let allowed = options.allowed.memory;
        // A file in memory comes in pieces of 32 KiB; of stamps there are sixteen bytes a sector
        // at most.
        let (sectors, bytes) = match (files, options.coverage) {
            (Files::OnDisk, _) => (64, 0),
            (Files::InMemory, Coverage::Whole) => (64, 32 << 10),
            (Files::InMemory, Coverage::Front) => (2048, 32 << 10),
        };
        // A rebuild has two COW files for a while.
        let cow_files = if options.resizes.is_empty() { 1 } else { 2 };
        let mut footprint = Footprint {
            backing: Tally::new(sectors, bytes),
            cow: Tally::new(sectors, bytes * cow_files),
            // A page of the model, and its part of the table.
            model: Tally::new(256, 2560),
            holes: IntervalSet::default(),
            stamped: None,
            needed: 0,
            depth: options.depth as u64,
            longest: Bytes(0),
            allowed,
        };
        if capacity.bytes() <= STAMP_ALL {
            let whole = SectorRange::new(Sector(0), capacity);
            footprint.needed = footprint.backing.add(whole);
        } else {
            let mut stamped = StampedParts::none(capacity);
            stamped.spread();
            let stamps = stamped.runs().map(|run| footprint.backing.add(run));
            footprint.needed = stamps.sum();
            footprint.stamped = Some(stamped);
        }
        let Footprint {
            backing,
            cow,
            model,
            ..
        } = &footprint;
        let most = [backing, cow, model].map(|tally| tally.most(largest));
        let intervals = (largest.0 / 2).saturating_mul(BYTES_AN_INTERVAL);
        let in_flight = footprint.depth * LONGEST_PIECE.0;
        let most = most.into_iter().fold(intervals, u64::saturating_add);
        let most = most.saturating_add(in_flight);
        (most > allowed.0).then_some(footprint)
    }

    /// Takes in a request, the number of it in the trace from 1, where it goes, and where it
    /// would have gone on the device as it was first.
    ///
    /// # Errors
    /// If the replay comes to more than is allowed.
    pub(super) fn add(
        &mut self,
        request: u64,
        record: &Record,
        placed: &Placed,
        at_first: &Placed,
    ) -> Result<(), ReplayError> {
        for (range, first) in placed.iter().zip(at_first) {
            if let TraceOperation::Read | TraceOperation::Write = record.operation {
                let piece = range.count.bytes().min(LONGEST_PIECE);
                self.longest = self.longest.max(piece);
            }
            let more = match record.operation {
                TraceOperation::Read => {
                    if let Some(stamped) = &mut self.stamped {
                        stamped.add(*first);
                    }
                    self.backing.add(*first)
                }
                TraceOperation::Write => {
                    let file = self.cow.add(*range);
                    let model = self.model.add(*range);
                    file.saturating_add(model)
                        .saturating_add(self.borders(*first))
                }
                // Holes in the files, and intervals in the model.
                TraceOperation::Discard | TraceOperation::WriteZeroes => {
                    let before = self.holes.intervals();
                    self.holes.insert(range.start.0..range.end().0);
                    let new = self.holes.intervals().saturating_sub(before) as u64;
                    let intervals = new.saturating_mul(BYTES_AN_INTERVAL);
                    intervals.saturating_add(self.borders(*first))
                }
                TraceOperation::Flush => 0,
            };
            self.needed = self.needed.saturating_add(more);
        }
        self.check(request)
    }

    /// What the stamps around a write take.
    fn borders(&mut self, range: SectorRange) -> u64 {
        let Some(stamped) = &mut self.stamped else {
            return 0;
        };
        let borders = stamped.add_borders(range).into_iter();
        borders.map(|border| self.backing.add(border)).sum()
    }

    fn check(&self, request: u64) -> Result<(), ReplayError> {
        let in_flight = self.depth * self.longest.0;
        match self.needed.saturating_add(in_flight) > self.allowed.0 {
            true => Err(ReplayError::TooMuchMemory {
                request,
                allowed: self.allowed,
            }),
            false => Ok(()),
        }
    }
}
