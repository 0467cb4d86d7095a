//! A device on a thread of its own, with several submitters: each gets its own completions, and
//! nobody waits for ever for a device that does not go on.

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

use driver::blk::{Completion, Limits, Request, Status, Tag};
use driver::device_spec::DeviceSpec;
use driver::driver::{Driver, Portable, Step};
use driver::executor::Executor;
use driver::host::{Finished, HostFile, HostNames};
use driver::linux::{Defects, LinuxUbd, OpenSpec, bring_up};
use driver::memory::{MemoryFile, MemoryHost};
use driver::open::{OpenOptions, create, open};
use driver::ordered::{Ordered, Statistics};
use driver::units::{Bytes, Sector, SectorCount};
use harness::clock::WallClock;
use harness::device::{BlockDevice, DeviceError, Handle, Live, Running, Shared, Stepped};
use userhelper::executor::Threads;
use userhelper::planner::{Shrink, Wish};
use userhelper::resize::WishedResize;

const COW: &str = "cow";
const BACKING: &str = "backing";
const SIZE: Bytes = Bytes(4 << 20);

/// A host with a COW file over a backing file of ones.
fn host() -> MemoryHost {
    let host = MemoryHost::new();
    let backing = host.create_new(Path::new(BACKING)).unwrap();
    let ones = vec![1; SIZE.0 as usize];
    backing.write_all_at(&ones, Default::default()).unwrap();
    let made = create(&host, Path::new(COW), Path::new(BACKING), None);
    drop(made.unwrap());
    host
}

fn ordered(host: &MemoryHost) -> Ordered<MemoryFile> {
    let spec = DeviceSpec::of(COW);
    open(host, &spec, OpenOptions::default()).unwrap().device
}

fn model(host: &MemoryHost) -> LinuxUbd<MemoryFile> {
    let (spec, backing) = (OpenSpec::default(), Path::new(BACKING));
    bring_up(host, Path::new(COW), Some(backing), &spec, Defects::none()).unwrap()
}

const SUBMITTERS: u64 = 4;
const EACH: u64 = 200;

/// All write and read at once, with tags that they share, each its own sectors; each keeps several
/// in flight.
fn all_at_once<D>(device: Stepped<D>)
where
    D: Portable<File = MemoryFile> + 'static,
{
    let shared = Shared::start(device).unwrap();
    std::thread::scope(|scope| {
        for number in 0..SUBMITTERS {
            let mut handle = shared.handle();
            scope.spawn(move || submitter(&mut handle, number));
        }
    });
    let handle = shared.handle();
    assert_eq!(handle.statistics().requests, SUBMITTERS * EACH * 2);
    let driver = shared.stop().unwrap();
    assert!(!driver.is_busy());
    driver.close().unwrap();
}

fn submitter(handle: &mut Handle<MemoryFile>, number: u64) {
    let sector = |index: u64| Sector(number * EACH + index);
    let content = |index: u64| vec![(number * 50 + index % 50) as u8; 512];
    for index in 0..EACH {
        let write = Request::write(Tag(index), sector(index), content(index));
        handle.submit(write).unwrap();
        if index % 8 == 7 {
            (0..8).for_each(|_| drop(ok(handle.complete())));
        }
    }
    let read = |index| Request::read(Tag(index), sector(index), SectorCount(1));
    handle.submit_all((0..EACH).map(read).collect()).unwrap();
    let mut seen = vec![false; EACH as usize];
    for _ in 0..EACH {
        let done = ok(handle.complete());
        let index = done.request.tag.0;
        assert_eq!(done.request.start, sector(index));
        assert_eq!(done.request.segments[0].data, content(index));
        assert!(!std::mem::replace(&mut seen[index as usize], true));
    }
    assert_eq!(handle.complete().unwrap_err(), DeviceError::Idle);
}

fn ok(completed: Result<Completion, DeviceError>) -> Completion {
    let completion = completed.unwrap();
    assert_eq!(completion.status, Status::Ok);
    completion
}

#[test]
fn each_submitter_gets_its_own_completions_and_tags_back() {
    let threads = || Box::new(Threads::start(4).unwrap());
    all_at_once(Stepped::new(ordered(&host())));
    all_at_once(Stepped::on(ordered(&host()), threads()));
    all_at_once(Stepped::new(model(&host())));
    all_at_once(Stepped::on(model(&host()), threads()));
}

#[test]
fn a_submitter_that_goes_leaves_what_it_wrote_and_the_others_alone() {
    let host = host();
    let shared = Shared::start(Stepped::new(ordered(&host))).unwrap();
    let (mut goes, mut stays) = (shared.handle(), shared.handle());
    let write = |sector| Request::write(Tag(1), Sector(sector), vec![7; 512]);
    goes.submit_all((0..40).map(write).collect()).unwrap();
    drop(goes);
    let mut again = stays.clone();
    ok(stays.carry_out(write(100)));
    let read = Request::read(Tag(9), Sector(39), SectorCount(1));
    let done = ok(again.carry_out(read));
    assert_eq!(done.request.segments[0].data, [7; 512]);
    shared.stop().unwrap();
    // Both are told, whatever they ask for.
    let error = stays.carry_out(write(1)).unwrap_err();
    assert_eq!(error, DeviceError::Stopped);
    assert_eq!(again.complete_all().unwrap_err(), DeviceError::Idle);
}

#[test]
fn a_resize_goes_on_under_all_submitters_and_all_see_the_new_size() {
    let host = host();
    let shared = Shared::start(Stepped::new(ordered(&host))).unwrap();
    let (mut one, mut other) = (shared.handle(), shared.handle());
    let wish = Wish {
        new_size: Bytes(SIZE.0 + (1 << 20)),
        strategy: None,
        shrink: Shrink::Refuse,
        online: true,
    };
    let resize = WishedResize::new(host.clone(), Path::new(COW), wish);
    one.resize(Box::new(resize)).unwrap();
    for sector in 0..100 {
        ok(other.carry_out(Request::write(Tag(0), Sector(sector), vec![3; 512])));
    }
    let resized = one.resized(true).unwrap().unwrap().unwrap();
    assert_eq!(resized.new_size, wish.new_size);
    for handle in [&one, &other] {
        assert_eq!(handle.capacity(), wish.new_size.whole_sectors());
    }
    let last = Sector(0) + wish.new_size.whole_sectors();
    let last = Request::write(Tag(0), Sector(last.0 - 1), vec![3; 512]);
    ok(other.carry_out(last));
    shared.stop().unwrap().close().unwrap();
}

#[test]
fn a_model_refuses_a_resize_and_goes_on() {
    let host = host();
    let mut live = Live::start(model(&host)).unwrap();
    let wish = Wish {
        new_size: Bytes(SIZE.0 * 2),
        strategy: None,
        shrink: Shrink::Refuse,
        online: true,
    };
    let resize = WishedResize::new(host.clone(), Path::new(COW), wish);
    live.resize(Box::new(resize)).unwrap();
    let refused = live.resized(true).unwrap().unwrap().unwrap_err();
    assert_eq!(refused.to_string(), "this driver does not resize");
    ok(live.carry_out(Request::flush(Tag(0))));
    assert_eq!(live.capacity(), SIZE.whole_sectors());
    live.close().unwrap();
}

/// What goes wrong in a driver.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    /// It forgets its third completion.
    Forgets,
    /// It panics in place of that.
    Panics,
    /// It dies, as a kernel does.
    Dies,
    /// What comes after its first completion takes very long.
    Waits,
}

/// A driver of which one thing is wrong.
struct Bad(Ordered<MemoryFile>, Wrong, u32, Option<Receiver<()>>);

impl Portable for Bad {
    type AtRest = (
        <Ordered<MemoryFile> as Portable>::AtRest,
        Wrong,
        u32,
        Option<Receiver<()>>,
    );

    fn into_rest(self) -> Self::AtRest {
        (Portable::into_rest(self.0), self.1, self.2, self.3)
    }

    fn from_rest((device, wrong, count, until): Self::AtRest) -> Bad {
        Bad(Portable::from_rest(device), wrong, count, until)
    }
}

impl Driver for Bad {
    type File = MemoryFile;

    fn submit(&mut self, request: Request) -> Result<(), Request> {
        self.0.submit(request)
    }

    fn step(&mut self) -> Step {
        if let (Wrong::Waits, 1, Some(until)) = (self.1, self.2, &self.3) {
            let _ = until.recv();
        }
        let step = Driver::step(&mut self.0);
        if matches!(step, Step::Completed(_)) {
            self.2 += 1;
        }
        match (self.2, self.1) {
            (3, Wrong::Panics) => panic!("the third is too much"),
            (3, Wrong::Dies) => Step::Died("of the third".into()),
            (3, Wrong::Forgets) if matches!(step, Step::Completed(_)) => Step::Working,
            _ => step,
        }
    }

    fn begin_on(&mut self, executor: &mut dyn Executor<MemoryFile>) {
        self.0.begin_on(executor);
    }

    fn finish(&mut self, finished: Finished) {
        self.0.finish(finished);
    }

    fn next_completion(&mut self) -> Option<Completion> {
        self.0.next_completion()
    }

    fn is_busy(&self) -> bool {
        self.0.is_busy()
    }

    fn capacity(&self) -> SectorCount {
        self.0.capacity()
    }

    fn limits(&self) -> Limits {
        self.0.limits()
    }

    fn statistics(&self) -> Statistics {
        self.0.statistics()
    }

    fn close(self) -> Result<(), String> {
        Driver::close(self.0)
    }
}

#[test]
fn what_is_done_does_not_wait_for_a_sync() {
    let (goes_on, until) = channel();
    let waits = Bad(ordered(&host()), Wrong::Waits, 0, Some(until));
    let shared = Shared::start(Stepped::new(waits)).unwrap();
    let mut handle = shared.handle();
    let write = Request::write(Tag(1), Sector(0), vec![1; 512]);
    handle
        .submit_all(vec![write, Request::flush(Tag(2))])
        .unwrap();
    // Only a thread that keeps it back lets the time go by.
    let clock = WallClock::start();
    let written = handle.complete_before(60_000_000_000, &clock).unwrap();
    assert_eq!(written.map(|done| done.request.tag), Some(Tag(1)));
    drop(goes_on);
    assert_eq!(ok(handle.complete()).request.tag, Tag(2));
    shared.stop().unwrap();
}

#[test]
fn what_completed_comes_and_then_why_the_rest_does_not() {
    for (wrong, why) in [
        (
            Wrong::Forgets,
            "the device has nothing to do, and has not done what it was asked to",
        ),
        (
            Wrong::Panics,
            "a thread that does the device's I/O has died: the third is too much",
        ),
        (Wrong::Dies, "the driver died: of the third"),
    ] {
        let bad = Bad(ordered(&host()), wrong, 0, None);
        let shared = Shared::start(Stepped::new(bad)).unwrap();
        let mut handle = shared.handle();
        let read = |tag| Request::read(Tag(tag), Sector(tag), SectorCount(1));
        handle.submit_all((0..3).map(read).collect()).unwrap();
        let mut came = 0;
        let error = loop {
            match handle.complete() {
                Ok(_) => came += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.to_string(), why);
        // A panic takes with it what was about to be handed over.
        assert!(came == 2 || matches!(wrong, Wrong::Panics), "{came}");
        let stopped = shared.stop().map(drop);
        assert_eq!(stopped.unwrap_err().to_string(), why);
        assert!(handle.carry_out(read(0)).is_err());
    }
}
