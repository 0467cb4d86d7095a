//! The end of a device that runs on a thread of its own: whoever waits for something hears of it,
//! and whoever comes or goes waits for nothing, whatever the thread is busy with.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use driver::blk::{Request, Status, Tag};
use driver::device_spec::DeviceSpec;
use driver::host::{HostFile, HostNames};
use driver::memory::{MemoryFile, MemoryHost};
use driver::open::{OpenOptions, create, open};
use driver::ordered::{Desk, Ordered, Procedure, Resize};
use driver::resize::ResizeError;
use driver::units::{Sector, SectorCount};
use harness::device::{BlockDevice, DeviceError, Handle, SharedDevice, Stepped, Submissions};

use crate::support::waits::{elsewhere, soon};

const COW: &str = "cow";
const BACKING: &str = "backing";

type Device = SharedDevice<Ordered<MemoryFile>>;

fn started() -> Device {
    let host = MemoryHost::new();
    let backing = host.create_new(Path::new(BACKING)).unwrap();
    backing
        .write_all_at(&[1; 1 << 20], Default::default())
        .unwrap();
    drop(create(&host, Path::new(COW), Path::new(BACKING), None).unwrap());
    let opened = open(&host, &DeviceSpec::of(COW), OpenOptions::default());
    SharedDevice::start(Stepped::new(opened.unwrap().device)).unwrap()
}

fn read(tag: u64) -> Request {
    Request::read(Tag(tag), Sector(tag), SectorCount(1))
}

/// A device whose thread is in a look until it is told to go on, and what comes of that look.
fn busy(
    submissions: Submissions<MemoryFile>,
    then: impl FnOnce() + Send + 'static,
) -> (Sender<()>, Receiver<Result<(), DeviceError>>) {
    let (goes_on, until) = channel();
    let (begins, has_begun) = channel();
    let looked = elsewhere(move || {
        submissions.look(move |_| {
            begins.send(()).unwrap();
            let _ = until.recv();
            then();
        })
    });
    soon(&has_begun);
    (goes_on, looked)
}

const WHY: &str = "a thread that does the device's I/O has died: the look is too much";

/// A resize that goes on until it is given up, and counts how far it is.
struct Endless(Arc<AtomicU64>);

impl Resize<MemoryFile> for Endless {
    fn begin(self: Box<Self>, desk: Desk<MemoryFile>) -> Procedure {
        Box::pin(async move {
            loop {
                self.0.fetch_add(1, Ordering::Relaxed);
                desk.pass().await?;
            }
        })
    }
}

fn endless() -> (Box<Endless>, Arc<AtomicU64>) {
    let steps = Arc::new(AtomicU64::new(0));
    (Box::new(Endless(Arc::clone(&steps))), steps)
}

/// All of it is in the queue when the thread ends: a look, a resize, requests, and a submitter that
/// has just come.
#[test]
fn what_is_queued_when_the_thread_panics_is_answered() {
    for _ in 0..20 {
        let device = started();
        let [mut resizes, mut reads] = [device.handle(), device.handle()];
        let (looks, _) = device.handle().split();
        let (goes_on, first) = busy(device.handle().split().0, || panic!("the look is too much"));
        resizes.resize(endless().0).unwrap();
        reads.submit(read(0)).unwrap();
        let mut newcomer = reads.clone();
        newcomer.submit(read(1)).unwrap();
        let second = elsewhere(move || looks.look(|driver| driver.capacity()).map(drop));
        drop(goes_on);
        assert_eq!(soon(&first).unwrap_err().to_string(), WHY);
        assert_eq!(soon(&second).unwrap_err().to_string(), WHY);
        let resized = elsewhere(move || resizes.resized(true).map(drop));
        assert_eq!(soon(&resized).unwrap_err().to_string(), WHY);
        for mut waits in [reads, newcomer] {
            let read = elsewhere(move || waits.complete().map(drop));
            assert_eq!(soon(&read).unwrap_err().to_string(), WHY);
        }
        // Whoever comes later hears it too.
        let mut late = device.handle();
        let late = elsewhere(move || late.carry_out(read(2)).map(drop));
        assert_eq!(soon(&late).unwrap_err().to_string(), WHY);
        assert_eq!(device.stop().map(drop).unwrap_err().to_string(), WHY);
    }
}

#[test]
fn the_end_of_the_thread_is_told_to_whoever_waits_for_it() {
    let device = started();
    let (submissions, _) = device.handle().split();
    let end = submissions.end();
    assert_eq!(end.try_recv(), Err(crossbeam_channel::TryRecvError::Empty));
    let (goes_on, _looked) = busy(submissions, || panic!("the look is too much"));
    drop(goes_on);
    let ended = elsewhere(move || end.recv().is_err());
    assert!(soon(&ended));
    assert_eq!(device.stop().map(drop).unwrap_err().to_string(), WHY);
}

/// The queue is full, and the thread takes nothing from it.
#[test]
fn whoever_comes_or_goes_waits_for_nothing() {
    let device = started();
    let mut fills = device.handle();
    let goes = fills.clone();
    let (goes_on, looked) = busy(device.handle().split().0, || ());
    for tag in 0..fills.limits().queue_depth as u64 {
        fills.submit(read(tag)).unwrap();
    }
    let (submissions, completions) = goes.split();
    let another = elsewhere(move || {
        let another = submissions.handle();
        drop(submissions);
        another
    });
    let mut another: Handle<_> = soon(&another);
    drop(goes_on);
    soon(&looked).unwrap();
    assert_eq!(
        another.carry_out(read(7)).map(|done| done.status),
        Ok(Status::Ok)
    );
    // The one that has gone is over.
    let over = elsewhere(move || completions.next_batch().map(|batch| batch.is_none()));
    assert_eq!(soon(&over), Ok(true));
    drop(fills);
    device.stop().unwrap();
}

/// Its completions come, and then the end, also where the thread hears first that it has gone.
#[test]
fn a_submitter_that_goes_at_once_is_given_all_its_completions() {
    for _ in 0..200 {
        let device = started();
        let (submissions, completions) = device.handle().split();
        submissions.submit_all(vec![read(0), read(1)]).unwrap();
        submissions
            .submit_nothing(vec![Request::flush(Tag(2))])
            .unwrap();
        submissions.submit_all(vec![read(3)]).unwrap();
        drop(submissions);
        let all = elsewhere(move || {
            let mut tags = Vec::new();
            while let Some(batch) = completions.next_batch()? {
                tags.extend(batch.iter().map(|done| done.request.tag.0));
            }
            tags.sort_unstable();
            Ok::<_, DeviceError>(tags)
        });
        assert_eq!(soon(&all), Ok(vec![0, 1, 2, 3]));
        device.stop().unwrap();
    }
}

#[test]
fn a_stop_gives_up_the_resize_under_way_and_those_that_come_later() {
    let device = started();
    let [mut first, mut second, mut late] = [device.handle(), device.handle(), device.handle()];
    let (resize, steps) = endless();
    first.resize(resize).unwrap();
    second.resize(endless().0).unwrap();
    while steps.load(Ordering::Relaxed) < 3 {
        std::thread::yield_now();
    }
    let stopped = elsewhere(move || device.stop().map(|stopped| stopped.driver.is_busy()));
    assert_eq!(soon(&stopped), Ok(false));
    for resizes in [&mut first, &mut second] {
        let outcome = resizes.resized(true).unwrap().unwrap();
        assert_eq!(outcome.unwrap_err(), ResizeError::Abandoned);
    }
    assert_eq!(late.resize(endless().0), Err(DeviceError::Stopped));
}
