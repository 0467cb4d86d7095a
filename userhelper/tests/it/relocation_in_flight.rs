//! What a reflow and a rebuild wait for: operations of requests and publications are held back and
//! finished one by one, and those of the relocation are carried out where it asks for them.

use std::path::Path;

use driver::blk::{Completion, Request, Status, Tag};
use driver::cow::{Geometry, JournalRecord, Version};
use driver::driver::Driver;
use driver::host::{FileRole, Operation, OperationKind};
use driver::memory::{MemoryFile, MemoryHost};
use driver::open::{OpenOptions, create, open};
use driver::ordered::{Ordered, Resize};
use driver::resize::ResizeStep;
use driver::units::{Bytes, FileOffset, FileRange, Sector, SectorCount, SectorRange};
use userhelper::rebuild::Rebuild;
use userhelper::reflow::Reflow;

use crate::later::Later;

const SECTORS: u64 = 256;

/// The sectors that are dirty before a relocation begins: each a block of 4 KiB, which is what a
/// window of a reflow moves here.
const LOWER: SectorRange = SectorRange::new(Sector(40), SectorCount(8));
const UPPER: SectorRange = SectorRange::new(Sector(96), SectorCount(8));

/// Their content.
const DIRTY: u8 = 1;

/// What a relocation has asked for.
struct Asked {
    file: FileRole,
    kind: OperationKind,
    range: FileRange,
}

struct Bench {
    host: MemoryHost,
    device: Ordered<MemoryFile>,
    held: Later,
    asked: Vec<Asked>,
    completed: Vec<Completion>,
}

fn bench() -> Bench {
    let host = MemoryHost::new();
    host.file("disk", &[0xee; SECTORS as usize * 512]);
    drop(create(&host, Path::new("cow"), Path::new("disk"), Some(4096)).unwrap());
    let spec = "ubda=cow,disk".parse().unwrap();
    let mut device = open(&host, &spec, OpenOptions::default()).unwrap().device;
    for range in [LOWER, UPPER] {
        let data = vec![DIRTY; range.count.bytes().0 as usize];
        device
            .serve(Request::write(Tag(0), range.start, data))
            .unwrap();
    }
    Bench {
        host,
        device,
        held: Later::default(),
        asked: Vec::new(),
        completed: Vec::new(),
    }
}

fn read(tag: u64, sector: u64) -> Request {
    Request::read(Tag(tag), Sector(sector), SectorCount(1))
}

fn write(tag: u64, sector: u64, content: u8) -> Request {
    Request::write(Tag(tag), Sector(sector), vec![content; 512])
}

impl Bench {
    /// The layout of twice the size, of which nothing has its place where the device has data.
    fn new_layout(&self) -> Geometry {
        Geometry::new(Version::V3, Bytes(2 * SECTORS * 512), 1 << 18).unwrap()
    }

    fn relocate(&mut self, relocation: impl Resize<MemoryFile> + 'static) {
        self.device.begin_resize(Box::new(relocation));
    }

    /// Begins a reflow whose windows have one of the dirty ranges each.
    fn reflow(&mut self) {
        let reflow = Reflow::new(&self.device, self.new_layout()).unwrap();
        self.relocate(reflow.with_window(UPPER.count.bytes()));
    }

    fn submit(&mut self, request: Request) {
        self.device.submit(request).unwrap();
        self.begin();
    }

    /// Lets the device begin what it can.
    fn begin(&mut self) {
        loop {
            self.device.begin_on(&mut self.held);
            let Some(completion) = self.device.next_completion() else {
                return;
            };
            self.completed.push(completion);
        }
    }

    /// Ends the operation at this place among those that are held back.
    fn finish(&mut self, index: usize) {
        let operation = self.held.begun.remove(index);
        self.carry_out(operation);
    }

    fn carry_out(&mut self, operation: Operation) {
        let files = self.held.files.clone().unwrap();
        self.device.finish(files.carry_out(operation));
        self.begin();
    }

    /// One step of the relocation.
    fn step(&mut self) -> ResizeStep {
        let held = self.held.begun.len();
        let step = self.device.step_resize_on(&mut self.held);
        if self.held.begun.len() > held
            && let Some(operation) = self.held.begun.pop()
        {
            self.asked.push(Asked {
                file: operation.file,
                kind: operation.action.kind(),
                range: operation.action.range(),
            });
            self.carry_out(operation);
        }
        self.begin();
        step
    }

    /// Lets the relocation go on until `is_there`.
    fn run_until(&mut self, is_there: impl Fn(&Bench) -> bool) {
        while !is_there(self) {
            assert_eq!(self.step(), ResizeStep::Working);
        }
    }

    /// Lets the relocation go on until it waits.
    fn run_until_it_waits(&mut self) {
        loop {
            match self.step() {
                ResizeStep::Working => {}
                ResizeStep::Waiting => return,
                ended => panic!("it does not wait: {ended:?}"),
            }
        }
    }

    /// Ends the operations of a publication one by one. Before each the relocation goes on until it
    /// waits, and `holds` looks at what it has done.
    fn publish_while(&mut self, holds: impl Fn(&Bench)) {
        for expected in [
            OperationKind::SyncData,
            OperationKind::Write,
            OperationKind::SyncData,
        ] {
            assert_eq!(self.held(), [expected]);
            self.run_until_it_waits();
            holds(self);
            self.finish(0);
        }
    }

    fn run_to_its_end(&mut self) {
        loop {
            match self.step() {
                ResizeStep::Working => {}
                ResizeStep::Ended(Ok(_)) => return,
                other => panic!("it does not go on to its end: {other:?}"),
            }
        }
    }

    /// How often it has asked for an operation of this kind on a part of this range of the COW
    /// file.
    fn count(&self, kind: OperationKind, range: FileRange) -> usize {
        let asked = self.asked.iter().filter(|asked| {
            let is_there = asked.range.common(range).is_some();
            asked.file == FileRole::Cow && asked.kind == kind && is_there
        });
        asked.count()
    }

    /// What is held back.
    fn held(&self) -> Vec<OperationKind> {
        let begun = self.held.begun.iter();
        begun.map(|operation| operation.action.kind()).collect()
    }

    /// Where the new layout has these sectors.
    fn target(&self, sectors: SectorRange) -> FileRange {
        let place = self.new_layout().place_of(sectors.start);
        FileRange::new(place, sectors.count.bytes())
    }

    /// The first byte of what the request with this tag has read.
    fn has_read(&self, tag: u64) -> Option<u8> {
        let completed = self.completed.iter();
        let mut read = completed.filter(|completion| completion.request.tag == Tag(tag));
        let read = read.next()?;
        assert_eq!(read.status, Status::Ok);
        Some(read.request.segments[0].data[0])
    }

    /// The first byte of a sector, where nothing is under way.
    fn content(&mut self, sector: u64) -> u8 {
        let served = self.device.serve(read(0, sector)).unwrap();
        assert_eq!(served.status, Status::Ok);
        served.request.segments[0].data[0]
    }

    /// The tags of what has completed, all of which has to have succeeded.
    fn completed(&self) -> Vec<u64> {
        let completed = self.completed.iter();
        let mut tags: Vec<u64> = completed
            .map(|completion| {
                assert_eq!(completion.status, Status::Ok);
                completion.request.tag.0
            })
            .collect();
        tags.sort_unstable();
        tags
    }
}

/// Where the device has these sectors while nothing has moved.
fn source(bench: &Bench, sectors: SectorRange) -> FileRange {
    let place = bench.device.geometry().unwrap().place_of(sectors.start);
    FileRange::new(place, sectors.count.bytes())
}

#[test]
fn a_window_is_not_copied_before_the_requests_that_touch_it_have_ended() {
    let mut bench = bench();
    let source = source(&bench, UPPER);
    bench.submit(write(1, 99, 7));
    bench.reflow();
    bench.run_until_it_waits();
    assert_eq!(bench.held(), [OperationKind::Write]);
    assert_eq!(bench.count(OperationKind::Read, source), 0);
    bench.finish(0);
    bench.run_to_its_end();
    assert!(bench.count(OperationKind::Read, source) > 0);
    assert_eq!([98, 99].map(|sector| bench.content(sector)), [DIRTY, 7]);
    assert_eq!(bench.completed(), [1]);
}

#[test]
fn a_source_is_not_freed_before_the_requests_that_touched_its_window_have_ended() {
    let mut bench = bench();
    let source = source(&bench, UPPER);
    bench.submit(read(1, 99));
    bench.reflow();
    bench.run_until_it_waits();
    assert_eq!(bench.count(OperationKind::PunchHole, source), 0);
    bench.finish(0);
    assert_eq!(bench.has_read(1), Some(DIRTY));
    // One that comes now does not begin at the old place any more.
    let target = bench.target(UPPER);
    bench.run_until(|bench| bench.count(OperationKind::Write, target) > 0);
    bench.submit(read(2, 99));
    assert_eq!(bench.held(), []);
    bench.run_until(|bench| !bench.held.begun.is_empty());
    assert_eq!(bench.count(OperationKind::PunchHole, source), 0);
    // It is under way while the source is freed.
    bench.run_to_its_end();
    assert!(bench.count(OperationKind::PunchHole, source) > 0);
    assert_eq!(bench.held(), [OperationKind::Read]);
    bench.finish(0);
    assert_eq!(bench.has_read(2), Some(DIRTY));
}

#[test]
fn a_frontier_does_not_fall_while_a_publication_is_under_way() {
    let mut bench = bench();
    bench.reflow();
    let target = bench.target(UPPER);
    bench.run_until(|bench| bench.count(OperationKind::Write, target) > 0);
    bench.submit(Request::flush(Tag(1)));
    // The copy is within a turn, after which the publication begins.
    bench.run_until(|bench| !bench.held.begun.is_empty());
    let slots = Bytes(JournalRecord::SLOTS_LEN as u64);
    let journal = FileRange::new(JournalRecord::slots_offset(), slots);
    let records = bench.count(OperationKind::Write, journal);
    let end = Sector(SECTORS);
    bench.publish_while(|bench| {
        assert_eq!(bench.count(OperationKind::Write, journal), records);
        assert_eq!(bench.device.placement().frontier(), Some(end));
    });
    assert_eq!(bench.completed(), [1]);
    bench.run_until(|bench| bench.device.placement().frontier() < Some(end));
    assert!(bench.count(OperationKind::Write, journal) > records);
    bench.run_to_its_end();
    assert_eq!([40, 96].map(|sector| bench.content(sector)), [DIRTY; 2]);
}

#[test]
fn a_bitmap_is_not_exchanged_while_a_publication_is_under_way() {
    let mut bench = bench();
    bench.reflow();
    bench.run_until(|bench| bench.device.placement().frontier() == Some(Sector(0)));
    bench.submit(write(1, 3, 7));
    bench.finish(0);
    bench.submit(Request::flush(Tag(2)));
    let bitmap = bench.new_layout().bitmap();
    bench.publish_while(|bench| {
        assert_eq!(bench.device.placement().bitmaps().len(), 1);
        for kind in [OperationKind::PunchHole, OperationKind::Write] {
            assert_eq!(bench.count(kind, bitmap), 0, "{kind}");
        }
    });
    assert_eq!(bench.completed(), [1, 2]);
    bench.run_to_its_end();
    assert!(bench.count(OperationKind::Write, bitmap) > 0);
    assert_eq!(bench.device.placement().bitmaps(), [bitmap]);
    // The bit that was published meanwhile is in the new one too.
    let contents = bench.host.contents("cow").unwrap();
    let FileOffset(at) = bitmap.start;
    assert_eq!(contents[at as usize], 1 << 3);
}

#[test]
fn a_rebuild_copies_nothing_before_what_had_begun_has_ended_and_is_durable() {
    let mut bench = bench();
    bench.submit(write(1, 3, 7));
    bench.finish(0);
    bench.submit(Request::flush(Tag(2)));
    bench.submit(write(3, 5, 8));
    assert_eq!(
        bench.held(),
        [OperationKind::SyncData, OperationKind::Write]
    );
    let new = bench.new_layout();
    let rebuild = Rebuild::new(bench.host.clone(), Path::new("cow"), &bench.device, new);
    bench.relocate(rebuild.unwrap());
    let mut ended = 0;
    while !bench.held.begun.is_empty() {
        bench.run_until_it_waits();
        let is_new = |asked: &Asked| asked.file == FileRole::New;
        assert!(bench.asked.iter().all(is_new), "the old file is read");
        bench.finish(0);
        ended += 1;
    }
    // The write, and the whole publication.
    assert_eq!(ended, 4);
    assert_eq!(bench.completed(), [1, 2, 3]);
    bench.run_to_its_end();
    assert_eq!(
        [3, 5, 40].map(|sector| bench.content(sector)),
        [7, 8, DIRTY]
    );
}
