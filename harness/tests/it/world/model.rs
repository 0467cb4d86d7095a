//! What every sector may show: now, and after a crash. Independent of the driver, and as
//! obvious as it can be: a list of possibilities a sector.

use driver::blk::{Completion, Request};
use driver::units::Sector;
use harness::stamp::{Content, Stamp};

use super::{Act, Device, request_of, shown_after, step_to_completion};

/// What the backing file has after its last whole sector.
pub(crate) const TAIL: u8 = 0xee;

/// What a sector can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shows {
    Zeros,
    /// This many bytes of [`TAIL`], and then zeros.
    Tail(usize),
    /// The backing file has stamp 0.
    Stamp(u32),
}

#[derive(Clone, Debug)]
struct SectorModel {
    /// What a read may show now: one thing, or two after a discard or a failed write.
    now: Vec<Shows>,
    /// What it may show after a crash: what was flushed last, and all that came later.
    after_crash: Vec<Shows>,
}

impl SectorModel {
    fn holding(shows: Shows) -> SectorModel {
        SectorModel {
            now: vec![shows],
            after_crash: vec![shows],
        }
    }
}

/// The model of the device.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    sectors: Vec<SectorModel>,
    stamp: u32,
    /// The bytes that the device has after its last whole sector.
    tail: usize,
}

impl Model {
    /// Of a device of `bytes` bytes.
    pub(crate) fn new(bytes: u64) -> Model {
        let backing = SectorModel::holding(Shows::Stamp(0));
        Model {
            sectors: vec![backing; bytes as usize / 512],
            stamp: 0,
            tail: bytes as usize % 512,
        }
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.sectors.len() as u64
    }

    /// Makes a request of an act. Whatever it writes may show from now on.
    pub(crate) fn request(&mut self, act: Act) -> Request {
        self.stamp += 1;
        if let (Some(shows), Some(range)) = (shown_after(act, self.stamp), range_of(act)) {
            for sector in &mut self.sectors[range] {
                sector.after_crash.push(shows);
                sector.now.push(shows);
            }
        }
        request_of(act, self.stamp)
    }

    /// A request has been acknowledged.
    pub(crate) fn done(&mut self, act: Act, completion: &Completion) {
        let stamp = completion.request.tag.0 as u32;
        if let Act::Read(start, count) = act {
            let read = &completion.request.segments[0].data;
            assert_eq!(read.len() as u64, count * 512, "the length of a read");
            self.check_read(start, read);
            return;
        }
        let range = range_of(act).unwrap_or(0..0);
        if let (Some(shows), false) = (shown_after(act, stamp), matches!(act, Act::Discard(..))) {
            for sector in &mut self.sectors[range] {
                // What was submitted since may show too.
                let place = sector.now.iter().position(|&now| now == shows);
                sector.now.drain(..place.unwrap_or(0));
            }
        }
        if matches!(act, Act::Flush | Act::WriteFua(..)) {
            self.flushed();
        }
    }

    /// All that is acknowledged is durable.
    pub(crate) fn flushed(&mut self) {
        for sector in &mut self.sectors {
            sector.after_crash = sector.now.clone();
        }
    }

    /// A resize has been reported as done.
    pub(crate) fn resized(&mut self, sectors: u64) {
        let old = self.capacity();
        let new = (old..sectors).map(|number| SectorModel::holding(self.when_new(number)));
        let new: Vec<_> = new.collect();
        self.sectors.truncate(sectors as usize);
        self.sectors.extend(new);
        if sectors != old {
            self.tail = 0;
        }
    }

    /// What a sector past the end shows when a grow brings it.
    fn when_new(&self, sector: u64) -> Shows {
        match sector == self.capacity() && self.tail > 0 {
            true => Shows::Tail(self.tail),
            false => Shows::Zeros,
        }
    }

    /// What a read shows now is there; what is older does not come back.
    fn check_read(&mut self, start: u64, content: &[u8]) {
        for (number, content) in (start..).zip(content.chunks_exact(512)) {
            let new = [self.when_new(number)];
            match self.sectors.get_mut(number as usize) {
                Some(sector) => {
                    let shown = check_sector(number, content, &sector.now);
                    sector.now.drain(..shown);
                }
                None => {
                    check_sector(number, content, &new);
                }
            }
        }
    }

    /// Reads the whole device as it runs.
    pub(crate) fn check_now(&mut self, device: &mut Device) {
        let content = read_all(device);
        self.check_read(0, &content);
    }

    /// Reads the whole device after a crash.
    pub(crate) fn check_after_crash(&self, device: &mut Device) {
        let content = read_all(device);
        for (number, content) in (0..).zip(content.chunks_exact(512)) {
            match self.sectors.get(number as usize) {
                Some(sector) => check_sector(number, content, &sector.after_crash),
                None => check_sector(number, content, &[self.when_new(number)]),
            };
        }
    }
}

/// Which of these, in the order of their submission, the sector shows.
fn check_sector(number: u64, content: &[u8], may: &[Shows]) -> usize {
    let found = Content::of(content);
    let shown = may.iter().position(|shows| match shows {
        Shows::Zeros => found == Content::Zeros,
        Shows::Tail(len) => {
            let (tail, rest) = content.split_at(*len);
            tail.iter().all(|&byte| byte == TAIL) && rest.iter().all(|&byte| byte == 0)
        }
        Shows::Stamp(stamp) => found == Content::Stamped(Stamp(*stamp), Sector(number)),
    });
    shown.unwrap_or_else(|| panic!("sector {number}: found {found}, expected one of {may:?}"))
}

fn range_of(act: Act) -> Option<std::ops::Range<usize>> {
    match act {
        Act::Write(start, count)
        | Act::WriteFua(start, count)
        | Act::Zeroes(start, count)
        | Act::Discard(start, count)
        | Act::Read(start, count) => Some(start as usize..(start + count) as usize),
        Act::Flush => None,
    }
}

/// The content of the whole device.
pub(crate) fn read_all(device: &mut Device) -> Vec<u8> {
    let mut content = Vec::new();
    let capacity = device.capacity().0;
    let longest = device.limits().max_transfer.0;
    let mut at = 0;
    while at < capacity {
        let count = longest.min(capacity - at);
        device
            .submit(request_of(Act::Read(at, count), u32::MAX))
            .unwrap();
        let completion = step_to_completion(device).unwrap();
        let failure = &completion.failure;
        assert_eq!(completion.status, driver::blk::Status::Ok, "{failure:?}");
        assert_eq!(completion.request.start, Sector(at));
        let read = &completion.request.segments[0].data;
        assert_eq!(read.len() as u64, count * 512, "the length of a read");
        content.extend_from_slice(read);
        at += count;
    }
    content
}
