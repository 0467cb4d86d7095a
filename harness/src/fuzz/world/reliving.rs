//! A recorded life, lived once more: what the driver asked of its host is done to the simulated
//! one, the guest's words go to the history, and an observer looks at each crash point. The checks
//! are those of any life.

use std::collections::BTreeMap;

use driver::blk::{Operation, split};
use driver::host::{Access, HostFile, HostNames, OperationKind};
use driver::units::{Bytes, FileOffset, FileRange, SECTOR_SIZE, SectorCount, SectorRange};
use driver::{any_of, exact_count};

use crate::plain_format::{CowFile, Layout};
use crate::sim::{FaultPlan, SimFile, SimHost};
use crate::stamp::Stamp;

use super::super::case::Life;
use super::super::check::{check_opened, read_all};
use super::super::device::{Device, DidNotOpen, Opening};
use super::super::history::{Change, Held, Moment, RequestOutcome};
use super::super::paths::COW;
use super::super::recorded::{
    Ending, GuestRequest, GuestWord, HostRecord, Recording, Witnessed, content, error_words,
    numbered_after, requests_after,
};
use super::super::signature::{Act, Phase};
use super::super::violation::{Kind, Violation};
use super::looking::CameUp;
use super::serving::said;
use super::{LifeEnd, Line, Observer, Point, World};

/// The longest operation without an effect that a story tells, in bytes.
const LONGEST_TOLD: u64 = 1 << 20;

/// What is done to a recorded life as the driver should have done it. A violation that goes with
/// one of these is that defect's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mending {
    /// The COW file is synced before a flush, or a FUA write, is acknowledged.
    pub flushes: bool,
    /// The COW file is synced before a word of the bitmap is written.
    pub order: bool,
    /// What a read brings is not compared if one of its segments but the last has sectors of both
    /// files, after which Linux's driver goes on at the wrong place.
    pub offsets: bool,
    /// What is written past the end of the bitmap is zeros, and no memory of the kernel.
    pub memory: bool,
}

/// The sectors of a segment: a page of memory.
const SECTORS_A_SEGMENT: u64 = 8;

/// A recording that is not one of its case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("witnessed[{at}]: {why}")]
pub struct NotRelived {
    /// The entry.
    pub at: usize,
    /// What is wrong with it.
    pub why: String,
}

/// Why a recorded life does not go on.
enum Stop {
    Violated(Violation),
    Crashed(Box<SimHost>),
    Wrong(String),
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Stop {
        Stop::Violated(violation)
    }
}

/// A request in flight.
struct Recalled {
    asked: GuestRequest,
    moment: Moment,
    /// How often the host had failed when it was submitted.
    failures: u64,
    /// The sectors of reads that were in flight with it, if it is one.
    beside: Vec<SectorRange>,
}

/// A recorded life under way.
struct Reliving<'w, 'a, 'o> {
    world: &'w mut World<'a>,
    observer: &'o mut dyn Observer,
    mending: Mending,
    /// What the guest was to do, by number.
    asked: BTreeMap<u32, GuestRequest>,
    in_flight: BTreeMap<u32, Recalled>,
    /// Failures of the host so far.
    failures: u64,
    files: BTreeMap<String, SimFile>,
    changes: usize,
    phase: Phase,
    /// What the host had when the guest had opened the device.
    came_up: CameUp,
}

impl World<'_> {
    /// Lives the life with this number, counted from 0, as it was recorded, mended as is said. All
    /// crash points are at position 0. A crashed life leaves its image as the host of the next.
    ///
    /// # Errors
    /// The violation that was seen first; in it, that the recording is not of this case.
    pub fn relive(
        &mut self,
        number: usize,
        life: &Life,
        recording: &Recording,
        mending: Mending,
        observer: &mut dyn Observer,
    ) -> Result<Result<LifeEnd, Violation>, NotRelived> {
        self.host.keep_snapshots();
        self.host.take_snapshots();
        if self.story.is_some() {
            self.host.record();
            self.host.take_log();
        }
        self.truth.budget.add(life);
        self.truth.opening = Opening::of(self.case, life, self.truth.opening);
        if let super::BackingFile::Modified { seconds } = life.backing
            && self.truth.opening.must_refuse.is_some()
        {
            self.modify_backing(seconds);
        }
        let (sectors, longest) = (self.case.image.sectors, recording.longest);
        let asked = requests_after(numbered_after(number), life, sectors, longest);
        let mut reliving = Reliving {
            world: self,
            observer,
            mending,
            asked,
            in_flight: BTreeMap::new(),
            failures: 0,
            files: BTreeMap::new(),
            changes: 0,
            phase: Phase::Recovery,
            came_up: CameUp::default(),
        };
        let lived = reliving.all(recording);
        self.phase = reliving.phase;
        self.tell_host();
        match lived {
            Ok(()) => Ok(Ok(LifeEnd::Closed)),
            Err((_, Stop::Violated(violation))) => Ok(Err(violation)),
            Err((_, Stop::Crashed(image))) => {
                self.has_crashed = true;
                self.host = (*image).clone();
                Ok(Ok(LifeEnd::Crashed(*image)))
            }
            Err((at, Stop::Wrong(why))) => Err(NotRelived { at, why }),
        }
    }
}

impl Reliving<'_, '_, '_> {
    fn all(&mut self, recording: &Recording) -> Result<(), (usize, Stop)> {
        for (at, witnessed) in recording.witnessed.iter().enumerate() {
            let lived = match witnessed {
                Witnessed::Host(record) => self.host(record),
                Witnessed::Guest(word) => self.guest(word),
            };
            self.world.tell_host();
            lived.map_err(|stop| (at, stop))?;
        }
        let end = recording.witnessed.len();
        self.ended(&recording.ending).map_err(|stop| (end, stop))
    }

    /// The last state, and whether the kernel has come to the end of its life.
    fn ended(&mut self, ending: &Ending) -> Result<(), Stop> {
        let host = self.world.host.clone();
        self.look(&host)?;
        let (kind, how) = match ending {
            Ending::Whole => return Ok(()),
            Ending::Killed => return Err(Stop::Crashed(Box::new(host.after_kill()))),
            Ending::Died(_) => (Kind::Died, "the kernel has died".to_owned()),
            Ending::Hung(_) => (Kind::DoesNotEnd, "nothing happens any more".to_owned()),
            Ending::Endless(_) => {
                let how = "the host is asked for more than the life can need";
                (Kind::DoesNotEnd, how.to_owned())
            }
            Ending::Astray { why, .. } => {
                let how = format!("the guest has gone astray: {why}");
                (Kind::GuestAstray, how)
            }
        };
        let waiting: Vec<String> = self.in_flight.values().map(|it| told(it.asked)).collect();
        let what = match waiting.is_empty() {
            true => format!("{how}, and no request is in flight"),
            false => format!("{how}, and waits for {}", waiting.join(", ")),
        };
        let violation = Violation::new(kind, "while running", what).in_phase(self.phase);
        Err(violation.by(Act::Serve).with_error(how).into())
    }

    fn look(&mut self, snapshot: &SimHost) -> Result<(), Stop> {
        let point = Point {
            position: 0,
            change: self.changes,
            phase: self.phase,
        };
        self.changes += 1;
        match self.observer.look(point, snapshot, &self.world.truth)? {
            None => Ok(()),
            Some(image) => Err(Stop::Crashed(Box::new(image))),
        }
    }

    fn look_at_snapshots(&mut self) -> Result<(), Stop> {
        for snapshot in self.world.host.take_snapshots() {
            self.look(&snapshot)?;
        }
        Ok(())
    }

    /// An open file of this path.
    fn file(&mut self, path: &str) -> Result<&SimFile, Stop> {
        let wrong = |error| Stop::Wrong(format!("{path}: {error}"));
        if !self.files.contains_key(path) {
            let file = self.world.host.open(path.as_ref(), Access::ReadWrite);
            self.files.insert(path.to_owned(), file.map_err(wrong)?);
        }
        self.files
            .get(path)
            .ok_or_else(|| Stop::Wrong(format!("{path}: not open")))
    }

    fn host(&mut self, record: &HostRecord) -> Result<(), Stop> {
        self.failures += u64::from(record.has_failed());
        let kind = record.kind().map_err(Stop::Wrong)?;
        let at = FileOffset(record.at);
        if at.0.checked_add(record.len.max(record.done)).is_none() {
            return Err(Stop::Wrong(
                "found a range past the end of all files".into(),
            ));
        }
        let done = match kind {
            OperationKind::Write if record.done > 0 => {
                if self.mending.order && self.is_of_bitmap(record) {
                    self.sync()?;
                }
                let mut data = record.data().map_err(Stop::Wrong)?;
                if self.mending.memory {
                    self.clear_past_bitmap(record, &mut data);
                }
                self.file(&record.path)?.write_all_at(&data, at)
            }
            OperationKind::SetLen if record.errno.is_none() => {
                self.file(&record.path)?.set_len(Bytes(record.at))
            }
            OperationKind::PunchHole | OperationKind::ZeroRange if record.done > 0 => {
                let range = FileRange::new(at, Bytes(record.done));
                self.file(&record.path)?.punch_hole(range)
            }
            OperationKind::SyncData if record.errno.is_none() => {
                self.file(&record.path)?.sync_data()
            }
            OperationKind::CreateNew if record.errno.is_none() => {
                let path = record.path.as_ref();
                self.world.host.create_new(path).map(drop)
            }
            _ => return self.tell_without_effect(kind, record),
        };
        done.map_err(|error| Stop::Wrong(format!("{} of {}: {error}", record.kind, record.path)))?;
        self.look_at_snapshots()
    }

    /// Asks the host for what changes nothing, if there is a story: nothing comes of it but a line
    /// there.
    fn tell_without_effect(
        &mut self,
        kind: OperationKind,
        record: &HostRecord,
    ) -> Result<(), Stop> {
        if self.world.story.is_none() || record.len > LONGEST_TOLD {
            return Ok(());
        }
        let fault = record.fault(kind);
        // What has not failed has done something, unless it is a read.
        if fault.is_none() && kind != OperationKind::Read {
            return Ok(());
        }
        self.world.tell_host();
        let host = self.world.host.clone();
        let (at, len) = (FileOffset(record.at), record.len as usize);
        let range = FileRange::new(at, Bytes(record.len));
        if kind != OperationKind::CreateNew {
            self.file(&record.path)?;
        }
        host.set_faults(FaultPlan::default().and(move |_| fault));
        // That it fails is in the log of the host.
        let _ = match (kind, self.files.get(&record.path)) {
            (OperationKind::CreateNew, _) => host.create_new(record.path.as_ref()).map(drop),
            (OperationKind::Read, Some(file)) => file.read_at(&mut vec![0; len], at).map(drop),
            // A recording does not have the bytes that were not written.
            (OperationKind::Write, Some(file)) => file.write_at(&vec![0; len], at).map(drop),
            (OperationKind::SetLen, Some(file)) => file.set_len(Bytes(record.at)),
            (OperationKind::PunchHole, Some(file)) => file.punch_hole(range),
            (OperationKind::ZeroRange, Some(file)) => file.zero_range(range),
            (OperationKind::SyncData, Some(file)) => file.sync_data(),
            _ => Ok(()),
        };
        host.set_faults(FaultPlan::default());
        // It is no crash point.
        host.take_snapshots();
        if let Some(story) = &mut self.world.story {
            story.extend(host.take_log().into_iter().map(Line::InVain));
        }
        Ok(())
    }

    /// The layout of the COW file that this is asked of, if it is one.
    fn layout(&self, record: &HostRecord) -> Option<Layout> {
        let cow = self.world.host.content(COW);
        let cow = cow.filter(|_| record.path == COW)?;
        CowFile::open(&cow).map(|cow| cow.layout).ok()
    }

    /// Whether a write begins within the bitmap.
    fn is_of_bitmap(&self, record: &HostRecord) -> bool {
        let layout = self.layout(record);
        layout.is_some_and(|it| (it.bitmap..it.bitmap + it.bitmap_len).contains(&record.at))
    }

    /// Clears, of the words that are written to the bitmap, what comes after the last sector's bit.
    /// They begin at its end at the latest: where that of V1 and V2 lacks a byte.
    fn clear_past_bitmap(&self, record: &HostRecord, words: &mut [u8]) {
        let Some(layout) = self.layout(record) else {
            return;
        };
        let bitmap_end = layout.bitmap + layout.bitmap_len;
        let are_words =
            record.len < SECTOR_SIZE && (layout.bitmap..=bitmap_end).contains(&record.at);
        let known = layout.bits_end().saturating_sub(record.at) as usize;
        if let Some(past) = words.get_mut(known..).filter(|_| are_words) {
            past.fill(0);
        }
    }

    /// Whether a read has sectors of both files in one of its segments but the last. The block
    /// layer may make one request of reads in flight together of which one begins where the other
    /// ends: then the segments of those before it count too.
    fn misleads(&self, asked: GuestRequest, beside: &[SectorRange]) -> bool {
        let Some(cow) = self.world.host.content(COW) else {
            return false;
        };
        let Ok(cow) = CowFile::open(&cow) else {
            return false;
        };
        let is_mixed = |segment: SectorRange| {
            let first = cow.is_dirty(segment.start.0);
            (segment.start.0..segment.end().0).any(|sector| cow.is_dirty(sector) != first)
        };
        let segments = |range| split(range, SectorCount(SECTORS_A_SEGMENT));
        let range = asked.range();
        let mut own = segments(range).filter(|segment| segment.end() < range.end());
        if own.any(is_mixed) {
            return true;
        }
        let mut first = range;
        while let Some(before) = beside.iter().find(|before| before.end() == first.start) {
            if segments(*before).any(is_mixed) {
                return true;
            }
            first = *before;
        }
        false
    }

    fn sync(&mut self) -> Result<(), Stop> {
        let synced = self.file(COW)?.sync_data();
        synced.map_err(|error| Stop::Wrong(format!("{COW}: {error}")))?;
        self.look_at_snapshots()
    }

    fn guest(&mut self, word: &GuestWord) -> Result<(), Stop> {
        match word {
            GuestWord::Ready => Ok(()),
            GuestWord::Opened { sectors } => self.opened(*sectors),
            GuestWord::NotOpened { errno } => self.not_opened(*errno),
            GuestWord::Submitted { number } => self.submitted(*number),
            GuestWord::Ended {
                number,
                errno,
                brought,
            } => {
                let brought = content(brought).map_err(Stop::Wrong)?;
                self.completed(*number, *errno, &brought)
            }
            GuestWord::Closed => self.closed(),
            GuestWord::Broken { why } => Err(Stop::Wrong(format!("the guest: {why}"))),
        }
    }

    fn opened(&mut self, sectors: u64) -> Result<(), Stop> {
        let when = "after opening";
        check_opened(Ok(()), self.world.truth.opening, when)?;
        let sizes = &self.world.truth.sizes;
        if !sizes.contains(&sectors) {
            let found = exact_count(sectors, "sector");
            let what = format!("found {found}, expected {}", any_of(sizes));
            return Err(Violation::new(Kind::WrongSize, when, what).into());
        }
        if self.world.has_crashed {
            self.after_a_crash(when)?;
        }
        self.phase = Phase::Request;
        self.came_up = CameUp::of(&self.world.host);
        Ok(())
    }

    fn closed(&mut self) -> Result<(), Stop> {
        self.phase = Phase::Closing;
        if self.failures > 0 {
            return Ok(());
        }
        let checked = self.world.check_past_bitmap(&self.came_up);
        Ok(checked.map_err(|violation| violation.in_phase(Phase::Closing))?)
    }

    /// What the crash has left is what the judge's own reader finds. The guest, which reads all of
    /// the device first, has to see just that.
    fn after_a_crash(&mut self, when: &str) -> Result<(), Stop> {
        let world = &mut *self.world;
        let all_durable = world.host.unsynced().operation_count() == 0;
        let opening = world.truth.opening;
        let opened = Device::open(&world.host.after_kill(), world.case, opening);
        let Some((mut device, _)) = check_opened(opened, opening, when)? else {
            return Ok(());
        };
        let capacity = device.capacity();
        let mut content = std::mem::take(&mut world.content);
        read_all(&mut device, &mut content)?;
        Ok(world.begin_with(capacity, content, all_durable, when)?)
    }

    fn not_opened(&mut self, errno: i32) -> Result<(), Stop> {
        if self.failures > 0 {
            return Ok(());
        }
        let refused = DidNotOpen {
            why: format!("the guest was told: {}", error_words(errno)),
            died: false,
        };
        check_opened(
            Err::<(), _>(refused),
            self.world.truth.opening,
            "after opening",
        )?;
        Ok(())
    }

    fn submitted(&mut self, number: u32) -> Result<(), Stop> {
        let asked = self.asked.get(&number).copied();
        let asked = asked.ok_or_else(|| {
            Stop::Wrong(format!(
                "found request {number}, expected one of the case's"
            ))
        })?;
        let change = match asked.operation() {
            Operation::Read | Operation::Flush => Change::Nothing,
            Operation::Write { .. } => Change::Write(Held::Stamp(Stamp(number))),
            Operation::Discard => Change::Discard,
            Operation::WriteZeroes => Change::Write(Held::Zeros),
        };
        let history = &mut self.world.truth.history;
        let moment = match asked.operation() {
            Operation::Read => history.read_submitted(),
            _ => history.submitted(asked.range(), change),
        };
        let mut recalled = Recalled {
            asked,
            moment,
            failures: self.failures,
            beside: Vec::new(),
        };
        if asked.operation() == Operation::Read {
            let others = self.in_flight.values_mut();
            for other in others.filter(|it| it.asked.operation() == Operation::Read) {
                other.beside.push(asked.range());
                recalled.beside.push(other.asked.range());
            }
        }
        self.in_flight.insert(number, recalled);
        let line = || Line::Request(format!("request {number} is submitted: {}", told(asked)));
        self.world.tell(line);
        Ok(())
    }

    fn completed(&mut self, number: u32, errno: Option<i32>, brought: &[u8]) -> Result<(), Stop> {
        let Some(recalled) = self.in_flight.remove(&number) else {
            let what = format!("request {number} completed and was not in flight");
            let violation = Violation::new(Kind::WrongCompletion, "on completion", what);
            return Err(violation.by(Act::Serve).with_error("not in flight").into());
        };
        let Recalled {
            asked,
            moment,
            failures,
            beside,
        } = recalled;
        self.world.tell(|| {
            let how = errno.map_or_else(|| "done".to_owned(), error_words);
            Line::Request(format!("request {number} completed: {how}"))
        });
        let operation = asked.operation();
        if let Some(errno) = errno
            && failures == self.failures
        {
            let how = error_words(errno);
            let what = format!(
                "request {number}, {}, ended with \"{how}\" and no fault explains it",
                told(asked)
            );
            let violation = Violation::new(Kind::WrongStatus, "on completion", what);
            return Err(violation.by(Act::of(operation)).with_error(how).into());
        }
        let is_good = errno.is_none();
        let durable = matches!(operation, Operation::Flush | Operation::Write { fua: true });
        if is_good && durable && self.mending.flushes {
            self.phase = Phase::Publication;
            self.sync()?;
            self.phase = Phase::Request;
        }
        let is_misled = self.mending.offsets && self.misleads(asked, &beside);
        let history = &mut self.world.truth.history;
        match operation {
            Operation::Flush if is_good => history.flushed(moment),
            Operation::Flush => {}
            Operation::Read if is_good && is_misled => history.read_failed(moment),
            Operation::Read if is_good => {
                let when = format!("request {number} reading {}", asked.range());
                let parts = std::iter::once(brought);
                history.read(asked.range(), moment, parts, &when)?;
            }
            Operation::Read => history.read_failed(moment),
            _ => {
                let outcome = match operation {
                    _ if !is_good => RequestOutcome::Failed,
                    Operation::Write { fua: true } => RequestOutcome::Durable,
                    _ => RequestOutcome::Acknowledged,
                };
                history.ended(asked.range(), moment, outcome);
            }
        }
        Ok(())
    }
}

fn told(asked: GuestRequest) -> String {
    said(asked.operation(), asked.range())
}
