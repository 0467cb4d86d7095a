//! A device on a thread of its own, with several submitters: each gets its own completions, and
//! nobody waits for ever for a device that does not go on.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

use driver::blk::{Completion, Limits, Request, Status, Tag};
use driver::device_spec::DeviceSpec;
use driver::driver::{Driver, Portable, Step};
use driver::executor::{Died, Executor, Files, Wait};
use driver::host::{Finished, HostFile, HostNames, Operation};
use driver::linux::{Defects, Kernel, LinuxUbd, OpenSpec, bring_up};
use driver::memory::{MemoryFile, MemoryHost};
use driver::open::{OpenOptions, create, open};
use driver::ordered::{Headroom, Ordered, Statistics};
use driver::units::{Bytes, Sector, SectorCount};
use harness::clock::WallClock;
use harness::device::{
    BlockDevice, DeviceError, Handle, Live, Running, SentResize, SharedDevice, Stepped, Stopped,
};
use userhelper::executor::Threads;
use userhelper::planner::{Shrink, Wish};
use userhelper::resize::WishedResize;

const COW: &str = "cow";
const BACKING: &str = "backing";
const SIZE: Bytes = Bytes(4 << 20);

/// A host with a COW file over a backing file of ones.
fn host() -> MemoryHost {
    host_of(SIZE)
}

fn host_of(size: Bytes) -> MemoryHost {
    let host = MemoryHost::new();
    let backing = host.create_new(Path::new(BACKING)).unwrap();
    let ones = vec![1; size.0 as usize];
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
    let shared = SharedDevice::start(device).unwrap();
    std::thread::scope(|scope| {
        for number in 0..SUBMITTERS {
            let mut handle = shared.handle();
            scope.spawn(move || submitter(&mut handle, number));
        }
    });
    let handle = shared.handle();
    assert_eq!(handle.statistics().requests, SUBMITTERS * EACH * 2);
    let stopped = shared.stop().unwrap();
    assert!(!stopped.driver.is_busy());
    stopped.close().unwrap();
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
    let shared = SharedDevice::start(Stepped::new(ordered(&host))).unwrap();
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
    let shared = SharedDevice::start(Stepped::new(ordered(&host))).unwrap();
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

/// The first byte of each sector.
fn first_bytes(device: &mut Ordered<MemoryFile>, start: u64, sectors: u64) -> Vec<u8> {
    let request = Request::read(Tag(0), Sector(start), SectorCount(sectors));
    let completion = device.serve(request).unwrap();
    assert_eq!(completion.status, Status::Ok);
    let data = &completion.request.segments[0].data;
    data.chunks(512).map(|sector| sector[0]).collect()
}

#[test]
fn requests_are_served_and_a_resize_between_them() {
    const SECTORS: u64 = 100;
    let host = host_of(Bytes(SECTORS * 512));
    let device = ordered(&host);
    let resize = Headroom::new(&device, Bytes(200 * 512)).unwrap();
    let mut live = Live::start(device).unwrap();
    for n in 0..SECTORS {
        let data = vec![(n + 100) as u8; 512];
        live.submit(Request::write(Tag(n), Sector(n), data))
            .unwrap();
        if n == 50 {
            live.resize(Box::new(resize.clone())).unwrap();
        }
        if n >= 8 {
            assert_eq!(live.complete().unwrap().request.tag, Tag(n - 8));
        }
    }
    live.resized(true).unwrap().unwrap().unwrap();
    let Stopped { driver, left } = live.stop().unwrap();
    assert_eq!(left.len(), 8);
    assert_eq!(driver.capacity(), SectorCount(200));
    driver.close().unwrap();
    let mut device = ordered(&host);
    let expected: Vec<u8> = (0..SECTORS).map(|n| (n + 100) as u8).collect();
    assert_eq!(first_bytes(&mut device, 0, SECTORS), expected);
    assert_eq!(first_bytes(&mut device, SECTORS, 100), [0; 100]);
}

#[test]
fn a_batch_longer_than_the_queue_is_served_in_order() {
    let mut live = Live::start(ordered(&host())).unwrap();
    let requests = (0..300).map(|at| Request::write(Tag(at), Sector(at), vec![1; 512]));
    let handle = live.handle();
    handle.submit_all(requests.collect()).unwrap();
    handle.submit_all(Vec::new()).unwrap();
    let mut tags = vec![handle.complete().unwrap().request.tag];
    while tags.len() < 300 {
        let completions = handle.complete_all().unwrap();
        tags.extend(completions.iter().map(|completion| completion.request.tag));
    }
    assert!(tags.into_iter().eq((0..300).map(Tag)));
    let Stopped { driver, left } = live.stop().unwrap();
    assert_eq!(driver.map().dirty_count(), SectorCount(300));
    assert!(left.is_empty());
}

/// It has room for one request, and makes it for the next by completing it.
#[test]
fn a_batch_on_a_device_of_one_request_at_a_time_is_served() {
    let host = host();
    let spec = OpenSpec {
        kernel: Kernel::Linux2_6,
        ..OpenSpec::default()
    };
    let backing = Some(Path::new(BACKING));
    let model = bring_up(&host, Path::new(COW), backing, &spec, Defects::none()).unwrap();
    let mut live = Live::start(model).unwrap();
    let requests = (0..20).map(|at| Request::write(Tag(at), Sector(at), vec![1; 512]));
    let handle = live.handle();
    handle.submit_all(requests.collect()).unwrap();
    for at in 0..20 {
        let completion = handle.complete().unwrap();
        assert_eq!(
            (completion.request.tag, completion.status),
            (Tag(at), Status::Ok)
        );
    }
    live.stop().unwrap();
}

#[test]
fn a_model_refuses_a_resize_and_goes_on() {
    let host = host();
    let mut live = Live::start(model(&host)).unwrap();
    live.resize(doubling(&host)).unwrap();
    let refused = live.resized(true).unwrap().unwrap().unwrap_err();
    assert_eq!(refused.to_string(), "this driver does not resize");
    ok(live.carry_out(Request::flush(Tag(0))));
    assert_eq!(live.capacity(), SIZE.whole_sectors());
    live.close().unwrap();
}

/// A resize to twice the size.
fn doubling(host: &MemoryHost) -> SentResize<MemoryFile> {
    let wish = Wish {
        new_size: Bytes(SIZE.0 * 2),
        strategy: None,
        shrink: Shrink::Refuse,
        online: true,
    };
    Box::new(WishedResize::new(host.clone(), Path::new(COW), wish))
}

#[test]
fn each_of_two_resizes_is_refused_and_none_waits_for_another_message() {
    let host = host();
    let (goes_on, until) = channel();
    let waits = Bad::new(&host, Wrong::Waits, Some(until));
    let shared = SharedDevice::start(Stepped::new(waits)).unwrap();
    let (mut one, mut other) = (shared.handle(), shared.handle());
    let write = Request::write(Tag(1), Sector(0), vec![1; 512]);
    one.submit_all(vec![write, Request::flush(Tag(2))]).unwrap();
    ok(one.complete());
    // The thread is in a step now, and finds both when it comes back.
    one.resize(doubling(&host)).unwrap();
    other.resize(doubling(&host)).unwrap();
    drop(goes_on);
    let (told, tells) = channel();
    std::thread::spawn(move || {
        for handle in [&mut one, &mut other] {
            let _ = told.send(handle.resized(true).unwrap().unwrap().unwrap_err());
        }
    });
    for _ in 0..2 {
        let refused = tells.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(refused.to_string(), "this driver does not resize");
    }
    shared.stop().unwrap().close().unwrap();
}

#[test]
fn what_was_not_asked_of_an_earlier_resize_is_not_told_of_the_next() {
    let host = host();
    let mut stepped = Stepped::new(ordered(&host));
    stepped.resize(doubling(&host)).unwrap();
    while stepped.capacity() == SIZE.whole_sectors() {
        ok(stepped.carry_out(Request::flush(Tag(0))));
    }
    // It ends with the step that shows the new size, or with one soon after.
    for _ in 0..100 {
        ok(stepped.carry_out(Request::flush(Tag(0))));
    }
    stepped.resize(doubling(&host)).unwrap();
    assert!(stepped.resized(false).unwrap().is_none());
    assert!(stepped.resized(true).unwrap().is_some());
    assert!(stepped.resized(true).unwrap().is_none());
}

/// What goes wrong in a driver.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wrong {
    /// It forgets its third completion.
    Forgets,
    /// It panics in place of that.
    Panics,
    /// It dies, as a kernel does.
    Dies,
    /// What comes after its first completion takes very long.
    Waits,
    /// It completes its first request once more, before what is submitted after that.
    Repeats,
    /// It dies when it has nothing to do, once its channel is closed.
    DiesAtTheEnd,
    /// It panics then.
    PanicsAtTheEnd,
    /// It begins nothing.
    Stalls,
    /// It dies, as a kernel does, when its third request is submitted.
    DiesOfTheThird,
}

/// A driver of which one thing is wrong.
struct Bad {
    driver: Ordered<MemoryFile>,
    wrong: Wrong,
    completed: u32,
    submitted: u32,
    until: Option<Receiver<()>>,
    again: Option<Completion>,
}

impl Bad {
    fn new(host: &MemoryHost, wrong: Wrong, until: Option<Receiver<()>>) -> Bad {
        Bad {
            driver: ordered(host),
            wrong,
            completed: 0,
            submitted: 0,
            until,
            again: None,
        }
    }

    fn is_at_the_end(&self) -> bool {
        let until = self.until.as_ref();
        until.is_some_and(|until| until.try_recv() == Err(TryRecvError::Disconnected))
    }
}

impl Portable for Bad {
    /// It has completed nothing yet.
    type AtRest = (
        <Ordered<MemoryFile> as Portable>::AtRest,
        Wrong,
        Option<Receiver<()>>,
    );

    fn into_rest(self) -> Self::AtRest {
        (Portable::into_rest(self.driver), self.wrong, self.until)
    }

    fn from_rest((device, wrong, until): Self::AtRest) -> Bad {
        Bad {
            driver: Portable::from_rest(device),
            wrong,
            completed: 0,
            submitted: 0,
            until,
            again: None,
        }
    }
}

impl Driver for Bad {
    type File = MemoryFile;

    fn submit(&mut self, request: Request) -> Result<(), Request> {
        self.submitted += 1;
        self.driver.submit(request)
    }

    fn step(&mut self) -> Step {
        if let (Wrong::Waits, 1, Some(until)) = (self.wrong, self.completed, &self.until) {
            let _ = until.recv();
        }
        if self.submitted > 1
            && let Some(again) = self.again.take()
        {
            return Step::Completed(again);
        }
        let step = Driver::step(&mut self.driver);
        if let Step::Completed(completion) = &step {
            self.completed += 1;
            if (self.wrong, self.completed) == (Wrong::Repeats, 1) {
                self.again = Some(Completion {
                    request: completion.request.clone(),
                    status: completion.status,
                    failure: None,
                });
            }
        }
        match (self.completed, self.wrong) {
            (3, Wrong::Panics) => panic!("the third is too much"),
            (3, Wrong::Dies) => Step::Died("of the third".into()),
            (3, Wrong::Forgets) if matches!(step, Step::Completed(_)) => Step::Working,
            (_, Wrong::DiesAtTheEnd) if self.is_at_the_end() => Step::Died("at the end".into()),
            (_, Wrong::PanicsAtTheEnd) if self.is_at_the_end() => panic!("the end is too much"),
            _ => step,
        }
    }

    fn begin_on(&mut self, executor: &mut dyn Executor<MemoryFile>) {
        if self.wrong != Wrong::Stalls {
            self.driver.begin_on(executor);
        }
    }

    fn finish(&mut self, finished: Finished) {
        self.driver.finish(finished);
    }

    fn next_completion(&mut self) -> Option<Completion> {
        self.driver.next_completion()
    }

    fn is_busy(&self) -> bool {
        self.driver.is_busy()
    }

    fn dirty_count(&self) -> SectorCount {
        self.driver.dirty_count()
    }

    fn death(&self) -> Option<String> {
        let is_dead = self.wrong == Wrong::DiesOfTheThird && self.submitted >= 3;
        is_dead.then(|| "of the third".to_owned())
    }

    fn capacity(&self) -> SectorCount {
        self.driver.capacity()
    }

    fn limits(&self) -> Limits {
        self.driver.limits()
    }

    fn statistics(&self) -> Statistics {
        self.driver.statistics()
    }

    fn close(self) -> Result<(), String> {
        Driver::close(self.driver)
    }
}

fn read(tag: u64, sector: u64) -> Request {
    Request::read(Tag(tag), Sector(sector), SectorCount(1))
}

/// However late it comes, it is nobody else's, and it is told at the end.
#[test]
fn a_second_completion_of_a_request_passes_for_no_other() {
    let repeats = || Bad::new(&host(), Wrong::Repeats, None);
    let mut live = Live::start(repeats()).unwrap();
    for sector in [5, 6, 7] {
        let done = ok(live.carry_out(read(sector, sector)));
        assert_eq!(done.request.tag, Tag(sector));
        assert_eq!(done.request.start, Sector(sector));
    }
    let stopped = live.stop().unwrap();
    assert_eq!(stopped.left.len(), 1);
    assert_eq!(stopped.left[0].request.start, Sector(5));
    // Who closes the device is told, too.
    let mut live = Live::start(repeats()).unwrap();
    for sector in [5, 6] {
        ok(live.carry_out(read(sector, sector)));
    }
    let error = live.close().unwrap_err();
    assert_eq!(error, "a completion came too many, of sectors 5+1");
}

#[test]
fn an_error_while_the_device_stops_is_told_to_all() {
    for (wrong, why) in [
        (Wrong::DiesAtTheEnd, "the driver died: at the end"),
        (
            Wrong::PanicsAtTheEnd,
            "a thread that does the device's I/O has died: the end is too much",
        ),
    ] {
        let (goes_on, until) = channel();
        let bad = Bad::new(&host(), wrong, Some(until));
        let shared = SharedDevice::start(Stepped::new(bad)).unwrap();
        let mut handle = shared.handle();
        ok(handle.carry_out(read(0, 0)));
        drop(goes_on);
        let stopped = shared.stop().map(drop);
        assert_eq!(stopped.unwrap_err().to_string(), why);
        let error = handle.carry_out(read(0, 0)).unwrap_err();
        assert_eq!(error.to_string(), why);
    }
}

fn four_threads() -> Box<Threads<MemoryFile>> {
    Box::new(Threads::start(4).unwrap())
}

#[test]
fn a_driver_that_begins_nothing_is_not_waited_for() {
    let stalls = || Bad::new(&host(), Wrong::Stalls, None);
    let clock = WallClock::start();
    let mut stepped = Stepped::on(stalls(), four_threads());
    stepped.submit(read(0, 0)).unwrap();
    let error = stepped.complete_before(60_000_000_000, &clock).unwrap_err();
    assert_eq!(error, DeviceError::Idle);
    assert_eq!(stepped.complete().unwrap_err(), DeviceError::Idle);
    let shared = SharedDevice::start(Stepped::on(stalls(), four_threads())).unwrap();
    let mut handle = shared.handle();
    handle.submit(read(0, 0)).unwrap();
    let error = handle.complete_before(60_000_000_000, &clock).unwrap_err();
    assert_eq!(error, DeviceError::Idle);
}

/// What the driver had given to the executor before it died ends, and completes.
#[test]
fn what_is_under_way_when_a_driver_dies_completes_first() {
    let dies = || Bad::new(&host(), Wrong::DiesOfTheThird, None);
    let mut stepped = Stepped::on(dies(), four_threads());
    (0..3).for_each(|sector| stepped.submit(read(sector, sector)).unwrap());
    let mut seen: Vec<_> = (0..3)
        .map(|_| ok(stepped.complete()).request.tag.0)
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2]);
    for _ in 0..2 {
        let error = stepped.complete().unwrap_err();
        assert_eq!(error.to_string(), "the driver died: of the third");
    }
}

/// Carries operations out where they begin, and dies when it has given this many back.
struct Falls(VecDeque<Finished>, usize);

impl Executor<MemoryFile> for Falls {
    fn room(&self) -> usize {
        64 - self.0.len()
    }

    fn under_way(&self) -> usize {
        self.0.len()
    }

    fn begin(&mut self, operation: Operation, files: &Files<MemoryFile>) {
        self.0.push_back(files.carry_out(operation));
    }

    fn finished(&mut self, _: Wait) -> Result<Option<Finished>, Died> {
        match self.1.checked_sub(1) {
            Some(left) if !self.0.is_empty() => {
                self.1 = left;
                Ok(self.0.pop_front())
            }
            Some(_) => Ok(None),
            None => Err(Died {
                what: "it fell".into(),
            }),
        }
    }
}

#[test]
fn what_had_ended_when_an_executor_dies_completes_first() {
    let falls = || Box::new(Falls(VecDeque::new(), 2));
    let mut stepped = Stepped::on(ordered(&host()), falls());
    (0..3).for_each(|sector| stepped.submit(read(sector, sector)).unwrap());
    let shared = SharedDevice::start(Stepped::on(ordered(&host()), falls())).unwrap();
    let mut handle = shared.handle();
    handle
        .submit_all((0..3).map(|n| read(n, n)).collect())
        .unwrap();
    let devices: [&mut dyn BlockDevice<File = MemoryFile>; 2] = [&mut stepped, &mut handle];
    for device in devices {
        for sector in 0..2 {
            assert_eq!(ok(device.complete()).request.start, Sector(sector));
        }
        assert_eq!(device.complete().unwrap_err().to_string(), "it fell");
    }
}

#[test]
fn what_is_done_does_not_wait_for_a_sync() {
    let (goes_on, until) = channel();
    let waits = Bad::new(&host(), Wrong::Waits, Some(until));
    let shared = SharedDevice::start(Stepped::new(waits)).unwrap();
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
        let bad = Bad::new(&host(), wrong, None);
        let shared = SharedDevice::start(Stepped::new(bad)).unwrap();
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
