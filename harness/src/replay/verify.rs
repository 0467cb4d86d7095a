//! Comparing a whole device with the model: by reading it, but for [`Holes`].

use std::collections::{BTreeMap, VecDeque};

use driver::blk::{Operation, Request, Segment, Status, Tag, split};
use driver::driver::Driver;
use driver::exact_count;
use driver::host::{HostFile, HostResult};
use driver::ordered::Ordered;
use driver::units::{FileOffset, SECTOR_SIZE, Sector, SectorCount, SectorRange};

use crate::device::{BlockDevice, Running, Stepped};
use crate::oracle::{Initial, Oracle, Written};
use crate::stamp::Coverage;

use super::counts::Counts;
use super::error::{ReplayError, is_of_host, not_in_flight};
use super::holes::{Holes, hole_of};
use super::run::content_of;

/// Sectors read at once: what is compared should still be in the processor's own cache.
const PIECE: SectorCount = SectorCount(128);

/// So often progress is told, in pieces.
const PIECES_A_REPORT: u64 = 64;

/// Pieces that are asked for before the first of them is compared: while one is compared, the
/// next is read.
const AHEAD: usize = 2;

/// Reads an idle device piece by piece, and has nothing in flight when it is done.
struct Reader<'a, T> {
    target: &'a mut T,
    coverage: Coverage,
    /// Buffers that are used again.
    spare: Vec<Vec<Segment>>,
    next_tag: u64,
}

impl<'a, T: BlockDevice> Reader<'a, T> {
    fn new(target: &'a mut T, coverage: Coverage) -> Reader<'a, T> {
        Reader {
            target,
            coverage,
            spare: Vec::new(),
            next_tag: 0,
        }
    }

    /// Reads the pieces one after the other, and hands over what each read has brought, which
    /// may be something else than it was asked for.
    fn read(
        &mut self,
        pieces: impl Iterator<Item = SectorRange>,
        mut take: impl FnMut(SectorRange, &[u8]) -> Result<(), ReplayError>,
    ) -> Result<(), ReplayError> {
        let mut asked: VecDeque<(Tag, SectorRange)> = VecDeque::new();
        // Reads that came before one that was asked for earlier.
        let mut early = BTreeMap::new();
        let mut pieces = pieces.peekable();
        while pieces.peek().is_some() || !asked.is_empty() {
            if asked.len() < AHEAD
                && let Some(piece) = pieces.next()
            {
                let tag = self.ask(piece)?;
                asked.push_back((tag, piece));
                continue;
            }
            let Some((tag, piece)) = asked.pop_front() else {
                return Ok(());
            };
            let done = loop {
                if let Some(done) = early.remove(&tag) {
                    break done;
                }
                let done = self.target.complete()?;
                let request = &done.request;
                let is_asked = |asked: &(Tag, SectorRange)| asked.0 == request.tag;
                let is_ours = tag == request.tag
                    || asked.iter().any(is_asked) && !early.contains_key(&request.tag);
                if request.operation != Operation::Read || !is_ours {
                    return Err(not_in_flight(&done));
                }
                early.insert(request.tag, done);
            };
            let request = &done.request;
            if done.status != Status::Ok {
                return Err(ReplayError::Unreadable {
                    range: piece,
                    status: done.status,
                    is_of_host: is_of_host(done.failure.as_deref()),
                    cause: done.failure.map_or(String::new(), |f| format!(": {f}")),
                });
            }
            take(piece, &content_of(&request.segments))?;
            self.spare.push(done.request.segments);
        }
        Ok(())
    }

    fn ask(&mut self, piece: SectorRange) -> Result<Tag, ReplayError> {
        let mut segments = self.spare.pop().unwrap_or_default();
        segments.resize_with(1, Segment::default);
        for segment in &mut segments {
            segment.sectors = piece.count;
            segment.data.resize(piece.count.bytes().0 as usize, 0);
            // What an earlier piece left here must not pass for this one.
            self.coverage.poison(&mut segment.data);
        }
        let tag = Tag(self.next_tag);
        self.next_tag += 1;
        self.target.submit(Request {
            tag,
            operation: Operation::Read,
            start: piece.start,
            segments,
        })?;
        Ok(tag)
    }
}

/// Compares a device on which nothing is under way with the model.
pub(super) struct Verify<'a, I> {
    /// The model.
    pub(super) oracle: &'a mut Oracle<I>,
    /// What was compared, and what was wrong, is added here.
    pub(super) counts: &'a mut Counts,
    /// When that is.
    pub(super) when: &'static str,
}

impl<I: Initial> Verify<'_, I> {
    fn wrong(&mut self, what: impl std::fmt::Display) {
        self.counts.other_faults += 1;
        self.counts.examples.push(format!("{}: {what}", self.when));
    }

    /// Whether the device has the size that it should have.
    fn has_capacity(&mut self, found: SectorCount) -> bool {
        let expected = self.oracle.capacity();
        if found != expected {
            self.wrong(format_args!(
                "the device has {}, expected {expected}",
                exact_count(found.0, "sector")
            ));
        }
        found == expected
    }

    /// After a clean close no resize is found half done.
    pub(super) fn is_not_interrupted(&mut self, right: bool) {
        if !right {
            self.wrong("a resize was found interrupted, and none was under way");
        }
    }

    /// The driver does not go on, or not as it should: nothing more can be compared.
    pub(super) fn ended_early(&mut self, why: &ReplayError) {
        self.wrong(why);
    }

    /// What the driver has left cannot be opened any more.
    pub(super) fn does_not_open(&mut self, why: &str) {
        self.wrong(format_args!("the device does not come up: {why}"));
    }

    /// Compares all of an idle device with the model, but for the holes of its files, on a running
    /// device that `start` makes of its driver, and gives the driver back. If the device has
    /// another size, nothing is compared.
    ///
    /// # Errors
    /// If a sector cannot be read, or that of `start`.
    pub(super) fn driver<T: Running, E>(
        &mut self,
        driver: T::Driver,
        start: impl Fn(T::Driver) -> Result<T, E>,
        progress: impl FnMut(u64),
    ) -> Result<T::Driver, NotVerified<E>> {
        if !self.has_capacity(driver.capacity()) {
            return Ok(driver);
        }
        let holes = Holes::of(&driver, self.oracle, PIECE);
        let mut target = start(driver).map_err(NotVerified::Start)?;
        self.whole_device(&mut target, &holes, progress)?;
        Ok(idle(target)?)
    }

    /// Compares every sector but those of `holes`, which were looked for in this device.
    ///
    /// # Errors
    /// If a sector cannot be read.
    fn whole_device<T: BlockDevice>(
        &mut self,
        target: &mut T,
        holes: &Holes,
        mut progress: impl FnMut(u64),
    ) -> Result<(), ReplayError> {
        let end = Sector(0) + self.oracle.capacity();
        let longest = PIECE.min(target.limits().max_transfer);
        let read = holes.read().flat_map(|range| split(range, longest));
        let mut reader = Reader::new(target, self.oracle.coverage());
        let mut pieces = 0;
        reader.read(read, |piece, content| {
            let compared = self.oracle.check(piece, content, |_, _| false)?;
            self.counts.add(compared, || self.when.to_string());
            pieces += 1;
            if u64::is_multiple_of(pieces, PIECES_A_REPORT) {
                progress(piece.end().0);
            }
            Ok(())
        })?;
        progress(end.0);
        self.counts.sectors_in_holes += holes.unread().0;
        self.counts.sectors_sampled += holes.sampled().0;
        Ok(())
    }
}

/// Tells the model what an idle device shows where it is dirty already: what is there now has
/// to be there later.
///
/// # Errors
/// If a sector cannot be read.
pub(super) fn take_in<F: HostFile, I: Initial>(
    device: Ordered<F>,
    oracle: &mut Oracle<I>,
) -> Result<Ordered<F>, ReplayError> {
    let whole = SectorRange::new(Sector(0), device.capacity());
    let mut dirty = Vec::new();
    for run in device.map().dirty_runs(whole) {
        let mut at = run.start;
        while at < run.end() {
            let (is_hole, stop) = hole_of(&device, SectorRange::between(at..run.end()));
            let part = SectorRange::between(at..stop);
            match is_hole {
                true => oracle.wrote(part, Written::Zeros),
                false => dirty.push(part),
            }
            at = stop;
        }
    }
    let pieces = dirty.into_iter().flat_map(|run| split(run, PIECE));
    let bytes = partial_sector(&device).map_err(|error| ReplayError::Unreadable {
        range: SectorRange::new(whole.end(), SectorCount(1)),
        status: Status::IoError,
        is_of_host: true,
        cause: format!(": {error}"),
    })?;
    if !bytes.is_empty() {
        oracle.ends_with(&bytes);
    }
    let mut target = Stepped::new(device);
    let mut reader = Reader::new(&mut target, oracle.coverage());
    reader.read(pieces, |piece, content| {
        if content.len() as u64 != piece.count.bytes().0 {
            return Err(ReplayError::Unreadable {
                range: piece,
                status: Status::Ok,
                is_of_host: false,
                cause: format!(", and {} came", exact_count(content.len() as u64, "byte")),
            });
        }
        oracle.found_at_start(piece.start, content);
        Ok(())
    })?;
    idle(target)
}

/// What the device has after its last whole sector, which no request reaches: read from the
/// file that has it.
fn partial_sector<F: HostFile>(device: &Ordered<F>) -> HostResult<Vec<u8>> {
    let (file, size) = match (device.geometry(), device.backing()) {
        (Some(geometry), Some(backing)) => (backing, geometry.size),
        (Some(_), None) => return Ok(Vec::new()),
        (None, _) => (device.cow(), device.cow().len()?),
    };
    let at = device.capacity().bytes();
    let mut bytes = vec![0; (size.0.saturating_sub(at.0) % SECTOR_SIZE) as usize];
    file.read_zero_filled_at(&mut bytes, FileOffset(at.0))?;
    Ok(bytes)
}

/// Stops a target that has completed everything, and nothing twice.
///
/// # Errors
/// If there is a completion too many.
pub(super) fn idle<T: Running>(target: T) -> Result<T::Driver, ReplayError> {
    let stopped = target.stop()?;
    match stopped.left.first() {
        Some(completion) => Err(not_in_flight(completion)),
        None => Ok(stopped.driver),
    }
}

/// Why a whole device could not be compared.
#[derive(Debug)]
pub(super) enum NotVerified<E> {
    /// It did not start.
    Start(E),
    /// It could not be read.
    Replay(ReplayError),
}

impl<E> From<ReplayError> for NotVerified<E> {
    fn from(error: ReplayError) -> NotVerified<E> {
        NotVerified::Replay(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{DeviceError, SentResize};
    use crate::stamp::Stamp;
    use driver::blk::{Completion, Limits};
    use driver::memory::MemoryFile;
    use driver::ordered::Statistics;
    use driver::resize::ResizeOutcome;

    /// A disk that shows its backing file's stamps.
    struct Stamped;

    impl Initial for Stamped {
        fn is_in(&mut self, sector: Sector, content: &[u8]) -> bool {
            Stamp::BACKING.is_in(sector, content)
        }
        fn describe(&self, _: Sector) -> String {
            "the backing file's".into()
        }
    }

    const SECTORS: SectorCount = SectorCount(1000);

    /// A target that serves reads of that disk; `spoil` may change each completion, of which it
    /// is told the number.
    struct Spoiled<S> {
        queue: VecDeque<Request>,
        served: u64,
        spoil: S,
    }

    impl<S: Fn(u64, &mut Completion)> BlockDevice for Spoiled<S> {
        type File = MemoryFile;

        fn submit(&mut self, request: Request) -> Result<(), DeviceError> {
            self.queue.push_back(request);
            Ok(())
        }

        fn complete(&mut self) -> Result<Completion, DeviceError> {
            let mut request = self.queue.pop_front().ok_or(DeviceError::Idle)?;
            let poisoned = request.segments.clone();
            for segment in &mut request.segments {
                Stamp::BACKING.fill(request.start, &mut segment.data);
            }
            // What the read finds in its buffer, for those that leave it there.
            request.segments.extend(poisoned);
            let mut completion = Completion {
                request,
                status: Status::Ok,
                failure: None,
            };
            (self.spoil)(self.served, &mut completion);
            completion.request.segments.truncate(1);
            self.served += 1;
            Ok(completion)
        }

        fn capacity(&self) -> SectorCount {
            SECTORS
        }

        fn limits(&self) -> Limits {
            Limits::ORDERED
        }

        fn statistics(&self) -> Statistics {
            Statistics::default()
        }

        fn resize(&mut self, _: SentResize<MemoryFile>) -> Result<(), DeviceError> {
            unreachable!("nobody resizes it")
        }

        fn resized(&mut self, _: bool) -> Result<Option<ResizeOutcome>, DeviceError> {
            Ok(None)
        }
    }

    fn compared(spoil: impl Fn(u64, &mut Completion)) -> Result<Counts, ReplayError> {
        let mut target = Spoiled {
            queue: VecDeque::new(),
            served: 0,
            spoil,
        };
        let mut counts = Counts::default();
        let mut verify = Verify {
            oracle: &mut Oracle::new(SECTORS, Stamped),
            counts: &mut counts,
            when: "at the end",
        };
        verify.whole_device(&mut target, &Holes::none(SECTORS), |_| {})?;
        Ok(counts)
    }

    #[test]
    fn every_sector_is_compared_and_counted_where_it_is() {
        let counts = compared(|_, _| {}).unwrap();
        assert_eq!((counts.sectors_compared, counts.mismatches), (SECTORS.0, 0));
    }

    #[test]
    fn a_read_that_brings_nothing_or_less_is_no_match() {
        let empty = compared(|_, done| done.request.segments[0].data.clear()).unwrap();
        assert_eq!((empty.sectors_compared, empty.mismatches), (0, SECTORS.0));
        assert_eq!(
            empty.examples[0],
            "at the end: sectors 0+128: found 0 bytes, expected 65536"
        );
        let none = compared(|_, done| done.request.segments.clear()).unwrap();
        assert_eq!((none.sectors_compared, none.mismatches), (0, SECTORS.0));
        let short = compared(|_, done| {
            let data = &mut done.request.segments[0].data;
            data.truncate(data.len() - SECTOR_SIZE as usize);
        });
        assert_eq!(short.unwrap().mismatches, SECTORS.0);
    }

    #[test]
    fn a_read_that_leaves_its_buffer_as_it_was_is_no_match() {
        // The first reads are right: later ones get their buffers.
        let first = AHEAD as u64;
        let counts = compared(|number, done| {
            if number >= first {
                done.request.segments.remove(0);
            }
        });
        assert_eq!(counts.unwrap().mismatches, SECTORS.0 - first * PIECE.0);
    }

    #[test]
    fn another_requests_completion_is_an_error_and_so_is_a_failure() {
        let other = compared(|_, done| done.request.tag = Tag(7));
        assert!(matches!(other, Err(ReplayError::NotInFlight { .. })));
        let failed = compared(|_, done| done.status = Status::IoError);
        assert!(matches!(failed, Err(ReplayError::Unreadable { .. })));
    }
}
