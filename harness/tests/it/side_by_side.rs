//! A device whose operations go side by side on the simulated host, in orders that a seed chooses.

use std::collections::BTreeMap;
use std::path::PathBuf;

use driver::blk::{Operation, Request, Status, Tag};
use driver::device_spec::DeviceSpec;
use driver::driver::Driver;
use driver::executor::{Executor, Wait};
use driver::host::OperationKind;
use driver::open::{OpenOptions, open};
use driver::ordered::{Ordered, Step};
use driver::resize::{ResizeError, ResizeStep, Strategy};
use driver::units::{Sector, SectorCount};
use harness::random::SplitMix64;
use harness::sim::{Fault, FaultPlan, FaultRule, FileContent, SideBySide, SimFile, SimHost};
use userhelper::planner::{Shrink, Wish};
use userhelper::resize::WishedResize;

const SECTORS: u64 = 64;
const COW: &str = "/cow";

fn original() -> Vec<u8> {
    (0..SECTORS * 512)
        .map(|at| (at / 512) as u8 | 0x80)
        .collect()
}

fn host() -> SimHost {
    let host = SimHost::default();
    host.install("/disk", FileContent::from_bytes(&original()));
    host
}

fn device(host: &SimHost, backing: Option<&str>) -> Ordered<SimFile> {
    let spec = DeviceSpec {
        backing: backing.map(Into::into),
        ..DeviceSpec::of(COW)
    };
    open(host, &spec, OpenOptions::default()).unwrap().device
}

fn requests(seed: u64) -> Vec<Request> {
    let mut random = SplitMix64(seed);
    let mut requests = Vec::new();
    for tag in 0..60 {
        let count = 1 + random.below(6);
        let start = random.below(SECTORS - count);
        let (tag, start, count) = (Tag(tag), Sector(start), SectorCount(count));
        let data = || vec![tag.0 as u8 + 1; count.bytes().0 as usize];
        requests.push(match random.below(10) {
            0..4 => Request::read(tag, start, count),
            4..8 => Request::write(tag, start, data()),
            8 => Request::write_fua(tag, start, data()),
            _ => Request::flush(tag),
        });
    }
    requests
}

/// What becomes of the disk, and what each read returns, where requests that overlap keep their
/// order.
fn model(seed: u64) -> (Vec<u8>, BTreeMap<Tag, Vec<u8>>) {
    let (mut disk, mut reads) = (original(), BTreeMap::new());
    for request in requests(seed) {
        let range = request.range();
        let at = range.start.bytes().0 as usize..range.end().bytes().0 as usize;
        match request.operation {
            Operation::Read => drop(reads.insert(request.tag, disk[at].to_vec())),
            Operation::Write { .. } => disk[at].copy_from_slice(&request.segments[0].data),
            _ => {}
        }
    }
    (disk, reads)
}

/// Serves all of a seed's requests; the tags in the order in which they were completed, and what
/// was read.
fn serve(device: &mut Ordered<SimFile>, seed: u64) -> (Vec<Tag>, BTreeMap<Tag, Vec<u8>>) {
    let mut executor = SideBySide::new(seed, 8);
    let mut left = requests(seed).into_iter();
    let (mut order, mut reads) = (Vec::new(), BTreeMap::new());
    let mut next = left.next();
    loop {
        if let Some(request) = next.take() {
            next = match device.submit(request) {
                Ok(()) => left.next(),
                Err(back) => Some(back),
            };
        }
        if !device.is_busy() && next.is_none() {
            return (order, reads);
        }
        if !executor.ends_next() {
            device.begin_on(&mut executor);
        }
        if let Some(finished) = executor.finished(Wait::ForOne).unwrap() {
            device.finish(finished);
        }
        while let Some(completion) = device.next_completion() {
            assert_eq!(completion.status, Status::Ok, "seed {seed}");
            let request = completion.request;
            order.push(request.tag);
            if request.operation == Operation::Read {
                reads.insert(request.tag, request.segments[0].data.clone());
            }
        }
    }
}

fn read_all(device: &mut Ordered<SimFile>) -> Vec<u8> {
    let request = Request::read(Tag(0), Sector(0), SectorCount(SECTORS));
    let completion = device.serve(request).unwrap();
    assert_eq!(completion.status, Status::Ok);
    completion.request.segments[0].data.clone()
}

#[test]
fn in_every_order_what_overlaps_keeps_its_own() {
    let mut out_of_order = 0;
    for seed in 0..200 {
        let host = host();
        let mut device = device(&host, Some("/disk"));
        let (order, reads) = serve(&mut device, seed);
        let (disk, expected) = model(seed);
        assert_eq!(reads, expected, "seed {seed}");
        out_of_order += u64::from(!order.is_sorted());
        device.close().unwrap();
        let mut again = self::device(&host, None);
        assert!(read_all(&mut again) == disk, "seed {seed}");
    }
    // Otherwise nothing was shown.
    assert!(out_of_order > 190, "{out_of_order} of 200");
}

#[test]
fn a_seed_gives_the_same_operations_each_time() {
    let log = |seed| {
        let host = host();
        let mut device = device(&host, Some("/disk"));
        host.record();
        serve(&mut device, seed);
        let log: Vec<_> = host.take_log().iter().map(ToString::to_string).collect();
        log
    };
    assert_eq!(log(1), log(1));
    assert_ne!(log(1), log(2));
}

#[test]
fn after_a_power_cut_what_was_flushed_is_there_whatever_went_on_beside_the_flush() {
    for seed in 0..40 {
        let host = host();
        let mut device = device(&host, Some("/disk"));
        let (_, _) = serve(&mut device, seed);
        // One more write and a flush of it, among reads and writes elsewhere.
        let submit = |device: &mut Ordered<SimFile>, request| device.submit(request).unwrap();
        let mut executor = SideBySide::new(seed ^ 0xff, 8);
        submit(
            &mut device,
            Request::write(Tag(1), Sector(0), vec![0x42; 1024]),
        );
        run_until(&mut device, &mut executor, Tag(1));
        submit(&mut device, Request::flush(Tag(2)));
        submit(
            &mut device,
            Request::write(Tag(3), Sector(40), vec![0x43; 2048]),
        );
        submit(
            &mut device,
            Request::read(Tag(4), Sector(0), SectorCount(2)),
        );
        run_until(&mut device, &mut executor, Tag(2));
        let cut = host
            .after_power_cut(&harness::sim::Survivors::default())
            .unwrap();
        let mut again = self::device(&cut, None);
        assert!(read_all(&mut again)[..1024] == [0x42; 1024], "seed {seed}");
    }
}

fn run_until(device: &mut Ordered<SimFile>, executor: &mut SideBySide, tag: Tag) {
    loop {
        device.begin_on(executor);
        if let Some(finished) = executor.finished(Wait::ForOne).unwrap() {
            device.finish(finished);
        }
        while let Some(completion) = device.next_completion() {
            if completion.request.tag == tag {
                assert_eq!(completion.status, Status::Ok);
                return;
            }
        }
    }
}

/// A flush that had begun fails between two steps of a rebuild: the new file may lack what the
/// failed sync has dropped.
#[test]
fn a_rebuild_ends_when_a_flush_beside_it_fails() {
    let host = host();
    // Opened once more, for a new file keeps the name that it was made under.
    drop(device(&host, Some("/disk")));
    let mut device = device(&host, None);
    let write = |tag, sector| Request::write(Tag(tag), Sector(sector), vec![7; 512]);
    device.submit(write(1, 0)).unwrap();
    device.submit(Request::flush(Tag(2))).unwrap();
    assert_eq!(completed(&mut device), Tag(1));
    // The first sync.
    assert!(matches!(device.step(), Step::Working));
    device.submit(write(3, 1)).unwrap();
    device.submit(Request::flush(Tag(4))).unwrap();
    let wish = Wish {
        new_size: SectorCount(2 * SECTORS).bytes(),
        strategy: Some(Strategy::Rebuild),
        shrink: Shrink::Refuse,
        online: true,
    };
    let rebuild = WishedResize::new(host.clone(), COW.as_ref(), wish);
    device.begin_resize(Box::new(rebuild));
    assert_eq!(device.step_resize(), ResizeStep::Waiting);
    assert_eq!(completed(&mut device), Tag(2));
    assert_eq!(completed(&mut device), Tag(3));
    // It has its turn before the second publication begins, which fails.
    assert!(matches!(device.step(), Step::Blocked));
    for done in ["planned", "the new file made"] {
        assert_eq!(device.step_resize(), ResizeStep::Working, "{done}");
    }
    let fails = FaultRule::nth(COW, OperationKind::SyncData, 0, Fault::FailedSync);
    host.set_faults(FaultPlan::at([fails]));
    let step = |device: &mut Ordered<SimFile>| loop {
        match device.step() {
            Step::Completed(completion) => return completion,
            Step::Working => {}
            Step::Blocked | Step::Idle => panic!("the flush does not end"),
        }
    };
    let flush = step(&mut device);
    assert_eq!((flush.request.tag, flush.status), (Tag(4), Status::IoError));
    let failed = ResizeStep::Ended(Err(ResizeError::SyncFailed));
    assert_eq!(device.step_resize(), failed);
    assert_eq!(device.capacity(), SectorCount(SECTORS));
    let left: Vec<_> = host.paths();
    assert_eq!(
        left,
        ["/cow", "/disk"].map(PathBuf::from),
        "no new file is left"
    );
}

fn completed(device: &mut Ordered<SimFile>) -> Tag {
    loop {
        match device.step() {
            Step::Completed(completion) => return completion.request.tag,
            Step::Working => {}
            step => panic!("{step:?}"),
        }
    }
}
