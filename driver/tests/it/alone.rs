//! A device that is stepped in place serves a request that is alone without a place in the order.
//! Nobody sees that: a device that gives its operations to an executor shows as much.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use driver::blk::{Operation, Request, Segment, Status, Tag};
use driver::device_spec::DeviceSpec;
use driver::executor::{Died, Executor, Files, Wait};
use driver::host::Finished;
use driver::memory::{MemoryFile, MemoryHost};
use driver::open::{OpenOptions, open};
use driver::ordered::{Ordered, Step};
use driver::units::{Sector, SectorCount};

use crate::numbers::Numbers;

const SECTORS: u64 = 100;

/// What came of requests, by their tags: their statuses, and what was read.
type Shown = BTreeMap<u64, (Status, Vec<u8>)>;

/// Carries each operation out when it begins.
#[derive(Default)]
struct AtOnce {
    ended: VecDeque<Finished>,
}

impl Executor<MemoryFile> for AtOnce {
    fn room(&self) -> usize {
        64
    }

    fn under_way(&self) -> usize {
        self.ended.len()
    }

    fn begin(&mut self, operation: driver::host::Operation, files: &Files<MemoryFile>) {
        self.ended.push_back(files.carry_out(operation));
    }

    fn finished(&mut self, _: Wait) -> Result<Option<Finished>, Died> {
        Ok(self.ended.pop_front())
    }
}

fn device() -> (MemoryHost, Ordered<MemoryFile>) {
    let host = MemoryHost::new();
    let content: Vec<u8> = (0..SECTORS).flat_map(|n| [n as u8; 512]).collect();
    host.file(Path::new("/disk"), &content);
    let spec: DeviceSpec = "ubda=/cow,/disk".parse().unwrap();
    let device = open(&host, &spec, OpenOptions::default()).unwrap().device;
    (host, device)
}

/// A request of a few segments, which may go past the end of the device.
fn request(numbers: &mut Numbers, tag: u64) -> Request {
    let operation = match numbers.below(8) {
        0..=2 => Operation::Read,
        3..=4 => Operation::Write { fua: false },
        5 => Operation::Write { fua: true },
        6 => Operation::Discard,
        _ => return Request::flush(Tag(tag)),
    };
    let segments = (0..1 + numbers.below(3)).map(|_| {
        let sectors = 1 + numbers.below(4);
        match operation {
            Operation::Discard => Segment::without_data(SectorCount(sectors)),
            _ => Segment::with_data(vec![tag as u8; sectors as usize * 512]),
        }
    });
    Request {
        tag: Tag(tag),
        operation,
        segments: segments.collect(),
        start: Sector(numbers.below(SECTORS + 4)),
    }
}

fn note(shown: &mut Shown, completion: driver::blk::Completion) {
    let request = completion.request;
    let data = match request.operation {
        Operation::Read => request.segments.into_iter().flat_map(|s| s.data).collect(),
        _ => Vec::new(),
    };
    shown.insert(request.tag.0, (completion.status, data));
}

/// Steps the device in place until it has nothing to do.
fn settle(device: &mut Ordered<MemoryFile>, shown: &mut Shown) {
    loop {
        match device.step() {
            Step::Completed(completion) => note(shown, completion),
            Step::Working => {}
            Step::Idle | Step::Blocked => return,
            Step::Died(never) => match never {},
        }
    }
}

/// Likewise by an executor.
fn settle_on(device: &mut Ordered<MemoryFile>, executor: &mut AtOnce, shown: &mut Shown) {
    while device.is_busy() {
        device.begin_on(executor);
        while let Some(finished) = executor.ended.pop_front() {
            device.finish(finished);
        }
        while let Some(completion) = device.next_completion() {
            note(shown, completion);
        }
    }
}

#[test]
fn in_place_and_by_an_executor_the_same_requests_show_the_same() {
    for seed in 0..200 {
        let (in_place_host, mut in_place) = device();
        let (executed_host, mut executed) = device();
        let mut executor = AtOnce::default();
        let (mut by_step, mut by_executor) = (Shown::new(), Shown::new());
        let mut numbers = Numbers(seed);
        let mut tag = 0;
        while tag < 60 {
            for _ in 0..=numbers.below(3) {
                tag += 1;
                let request = request(&mut numbers, tag);
                in_place.submit(request.clone()).unwrap();
                executed.submit(request).unwrap();
            }
            settle(&mut in_place, &mut by_step);
            settle_on(&mut executed, &mut executor, &mut by_executor);
        }
        assert_eq!(by_step, by_executor, "seed {seed}");
        in_place.close().unwrap();
        executed.close().unwrap();
        let cow = Path::new("/cow");
        assert!(
            in_place_host.contents(cow) == executed_host.contents(cow),
            "seed {seed}"
        );
    }
}
