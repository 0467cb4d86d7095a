//! Without defects: random requests, several in flight, with faults, requeues, a power cut
//! and reopening, against a naive model of what each sector may show.

use std::collections::BTreeSet;
use std::ops::Range;

use driver::blk::{Completion, Operation, Request, Segment, Status, Tag};
use driver::cow::Version;
use driver::linux::{Defects, LinuxUbd, OpenSpec, Step};
use driver::units::{Sector, SectorCount, SectorRange};
use proptest::prelude::*;

use super::disk::{Disk, Fault};
use super::{backing, carry_out, device, image, spec};

/// Stamps that a sector may show; 0 for zeros.
type Allowed = Vec<BTreeSet<u8>>;

#[derive(Clone, Debug)]
enum Action {
    Submit(Operation, u64, u64),
    Steps(usize),
}

#[derive(Clone, Debug)]
struct Case {
    version: Version,
    alignment: u32,
    sectors: u64,
    pipe: usize,
    actions: Vec<Action>,
    faults: [Vec<Option<Fault>>; 4],
    survives: Vec<bool>,
    finish: bool,
}

fn action() -> impl Strategy<Value = Action> {
    let operation = prop_oneof![
        4 => Just(Operation::Read),
        5 => Just(Operation::Write { fua: false }),
        1 => Just(Operation::Write { fua: true }),
        2 => Just(Operation::Flush),
        1 => Just(Operation::Discard),
        1 => Just(Operation::WriteZeroes),
    ];
    prop_oneof![
        2 => (operation, 0_u64..300, 1_u64..65).prop_map(|(o, s, c)| Action::Submit(o, s, c)),
        1 => (1_usize..12).prop_map(Action::Steps),
    ]
}

/// Mostly none.
fn faults() -> impl Strategy<Value = Vec<Option<Fault>>> {
    let fault = prop_oneof![
        12 => Just(None),
        1 => Just(Some(Fault::Error)),
        1 => (0_usize..4).prop_map(|sectors| Some(Fault::Short(sectors * 512))),
    ];
    prop_oneof![Just(Vec::new()), proptest::collection::vec(fault, 0..60)]
}

fn case() -> impl Strategy<Value = Case> {
    let shape = prop_oneof![
        Just((Version::V1, 512)),
        Just((Version::V2, 512)),
        Just((Version::V3, 512)),
        Just((Version::V3, 4096)),
        Just((Version::V3Wide, 4096)),
    ];
    let sectors = prop_oneof![1_u64..70, 1_u64..300, Just(64), Just(128), Just(256)];
    (
        (shape, sectors, 1_usize..6),
        proptest::collection::vec(action(), 1..60),
        [faults(), faults(), faults(), faults()],
        proptest::collection::vec(any::<bool>(), 64),
        any::<bool>(),
    )
        .prop_map(|(shape, actions, faults, survives, finish)| Case {
            version: shape.0.0,
            alignment: shape.0.1,
            sectors: shape.1,
            pipe: shape.2,
            actions,
            faults,
            survives,
            finish,
        })
}

struct Guest {
    device: LinuxUbd<Disk>,
    now: Allowed,
    durable: Allowed,
    /// Submitted, or being submitted again: the stamp and the first and last sector.
    in_flight: Vec<(Tag, u8, Range<usize>)>,
    faultless: bool,
    writable: u64,
}

fn uniform(sector: &[u8]) -> Option<u8> {
    let same = sector.iter().all(|byte| *byte == sector[0]);
    same.then_some(sector[0])
}

/// What a buffer has before a read, and no sector ever.
const POISON: u8 = 0xff;

/// A read into a buffer that shows what the driver leaves out of it.
fn read(tag: Tag, start: u64, count: u64) -> Request {
    let mut request = Request::read(tag, Sector(start), SectorCount(count));
    for segment in &mut request.segments {
        segment.data.fill(POISON);
    }
    request
}

/// A read that is done has brought all of these sectors, and each shows what it may.
fn check_read(done: &Request, sectors: Range<usize>, allowed: &Allowed) {
    let content: Vec<u8> = (done.segments.iter())
        .flat_map(|segment| segment.data.iter().copied())
        .collect();
    assert_eq!(content.len(), sectors.len() * 512, "the length of a read");
    for (sector, content) in sectors.zip(content.chunks(512)) {
        let found = uniform(content).expect("a torn sector");
        let allowed = &allowed[sector];
        assert!(
            allowed.contains(&found),
            "sector {sector}: {found}, {allowed:?}"
        );
    }
}

impl Guest {
    fn completed(&mut self, done: Completion) {
        let position = self
            .in_flight
            .iter()
            .position(|one| one.0 == done.request.tag);
        assert_eq!(position, Some(0), "out of order");
        let (_, stamp, range) = self.in_flight.remove(0);
        let ok = done.status == Status::Ok;
        let operation = done.request.operation;
        let writes = !matches!(operation, Operation::Read | Operation::Flush);
        if writes && range.end as u64 > self.writable {
            assert_eq!(done.status, Status::IoError);
            return;
        }
        if self.faultless {
            assert_eq!(done.status, Status::Ok, "{:?}", done.failure);
        }
        match operation {
            Operation::Read if ok => check_read(&done.request, range, &self.now),
            Operation::Flush if ok => self.durable = self.now.clone(),
            Operation::Read | Operation::Flush => {}
            Operation::Write { fua } => {
                for sector in range {
                    if ok {
                        self.now[sector] = BTreeSet::from([stamp]);
                    }
                    self.now[sector].insert(stamp);
                    self.durable[sector].insert(stamp);
                    if ok && fua {
                        self.durable[sector] = self.now[sector].clone();
                    }
                }
            }
            Operation::WriteZeroes if ok => {
                for sector in range {
                    self.now[sector] = BTreeSet::from([0]);
                    self.durable[sector].insert(0);
                }
            }
            Operation::Discard | Operation::WriteZeroes => {
                for sector in range {
                    self.now[sector].insert(0);
                    self.durable[sector].insert(0);
                }
            }
        }
    }

    /// Whether there was something to do.
    fn step(&mut self) -> bool {
        match self.device.step() {
            Step::Idle => return false,
            Step::Blocked => panic!("a model has nothing to be blocked by"),
            Step::Working => {}
            Step::Completed(done) => self.completed(done),
            Step::Died(death) => panic!("{death}"),
        }
        true
    }

    fn submit(&mut self, request: Request, stamp: u8) {
        let range = request.range();
        let range = range.start.0 as usize..range.end().0 as usize;
        let tag = request.tag;
        let mut request = Some(request);
        while let Some(again) = request.take() {
            match self.device.submit(again) {
                Ok(()) => self.in_flight.push((tag, stamp, range.clone())),
                Err(back) => {
                    request = Some(back);
                    assert!(self.step(), "refused by an idle device");
                }
            }
        }
    }
}

/// It is counted as bits are set and cleared; here, one sector after the other.
fn check_count(device: &LinuxUbd<Disk>) {
    let sectors = (0..device.capacity().0).map(Sector);
    let dirty = sectors.filter(|&sector| device.is_dirty(sector)).count();
    assert_eq!(device.dirty_count(), SectorCount(dirty as u64));
}

fn check(cow: &Disk, case: &Case, allowed: &Allowed) {
    let mut device =
        LinuxUbd::open(cow.clone(), backing(case.sectors), &spec(), Defects::none()).unwrap();
    check_count(&device);
    for sector in 0..allowed.len() {
        let done = carry_out(&mut device, read(Tag(0), sector as u64, 1));
        assert_eq!(done.status, Status::Ok, "{:?}", done.failure);
        check_read(&done.request, sector..sector + 1, allowed);
    }
}

fn request(operation: Operation, tag: Tag, start: u64, count: u64, stamp: u8) -> Request {
    let (first, start, count) = (start, Sector(start), SectorCount(count));
    match operation {
        Operation::Flush => Request::flush(tag),
        Operation::Discard => Request::discard(tag, start, count),
        Operation::WriteZeroes => Request::write_zeroes(tag, start, count),
        Operation::Read => read(tag, first, count.0),
        Operation::Write { .. } => {
            // In two segments, the second of which begins anywhere.
            let split = (count.0 / 3 * 512) as usize;
            let data = vec![stamp; count.bytes().0 as usize];
            let parts = [&data[..split], &data[split..]];
            let parts = parts.iter().filter(|part| !part.is_empty());
            Request {
                tag,
                operation,
                start,
                segments: parts
                    .map(|part| Segment::with_data(part.to_vec()))
                    .collect(),
            }
        }
    }
}

fn run(case: &Case) {
    let cow = image(case.version, case.sectors, case.alignment);
    let backing = backing(case.sectors);
    let spec = OpenSpec {
        pipe_capacity: case.pipe,
        ..spec()
    };
    let device = LinuxUbd::open(cow.clone(), backing.clone(), &spec, Defects::none()).unwrap();
    let [reads, writes, punches, syncs] = case.faults.clone();
    let faultless = case.faults.iter().flatten().all(Option::is_none);
    backing.fail_reads(reads.iter().rev().copied());
    cow.fail_reads(reads);
    cow.fail_writes(writes);
    cow.fail_punches(punches);
    cow.fail_syncs(syncs);
    let initial: Allowed = (0..case.sectors)
        .map(|n| BTreeSet::from([(100 + n % 100) as u8]))
        .collect();
    let mut guest = Guest {
        writable: device.writable().0,
        device,
        now: initial.clone(),
        durable: initial,
        in_flight: Vec::new(),
        faultless,
    };
    for (number, action) in case.actions.iter().enumerate() {
        match *action {
            Action::Submit(operation, start, count) => {
                let start = start % case.sectors;
                let count = count.min(case.sectors - start);
                let stamp = (1 + number) as u8;
                let request = request(operation, Tag(number as u64), start, count, stamp);
                guest.submit(request, stamp);
            }
            Action::Steps(steps) => (0..steps).for_each(|_| {
                guest.step();
            }),
        }
        check_count(&guest.device);
    }
    if case.finish {
        while guest.step() {}
        assert!(guest.in_flight.is_empty());
    }
    // What is in flight may be there after the crash.
    let mut crashed = guest.durable.clone();
    for (_, stamp, range) in &guest.in_flight {
        for allowed in &mut crashed[range.clone()] {
            allowed.extend([*stamp, 0]);
        }
    }
    let survivors = cow.after_power_cut(|index| case.survives[index % case.survives.len()]);
    check(&survivors, case, &crashed);
    check(&cow.after_power_cut(|_| false), case, &crashed);
    let original = super::backing(case.sectors).content();
    assert_eq!(backing.content(), original, "the backing file");
    if case.finish && faultless {
        guest.device.close().unwrap();
        check(&cow, case, &guest.now);
        check(&cow.after_power_cut(|_| false), case, &guest.now);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn without_defects_it_is_an_honest_disk(case in case()) {
        run(&case);
    }
}

/// A run ends where the bits differ, also within a word of the bitmap and past many.
#[test]
fn sectors_are_read_where_the_model_says() {
    let (mut device, _) = device(1000, Defects::none());
    for (start, count) in [(3, 1), (60, 8), (640, 64), (704, 64), (999, 1)] {
        let data = vec![7; count * 512];
        let written = carry_out(&mut device, Request::write(Tag(1), Sector(start), data));
        assert_eq!(written.status, Status::Ok);
    }
    let places = |from: u64, to: u64| {
        let (mut at, end, mut lengths) = (Sector(from), Sector(to), Vec::new());
        while at < end {
            let place = device.read_place(SectorRange::between(at..end));
            assert_eq!(place.sectors.start, at);
            let content = place.file.unwrap().content();
            let first = content[place.at.0 as usize];
            let dirty = device.is_dirty(at);
            assert_eq!(first, if dirty { 7 } else { (100 + at.0 % 100) as u8 });
            lengths.push((dirty, place.sectors.count.0));
            at = place.sectors.end();
        }
        lengths
    };
    let all = [
        (false, 3),
        (true, 1),
        (false, 56),
        (true, 8),
        (false, 572),
        (true, 128),
        (false, 231),
        (true, 1),
    ];
    assert_eq!(places(0, 1000), all);
    assert_eq!(places(62, 66), [(true, 4)]);
    assert_eq!(places(64, 128), [(true, 4), (false, 60)]);
}

/// The defective double: a driver that completes a read with less than it was asked for.
#[test]
#[should_panic(expected = "the length of a read")]
fn a_read_that_brings_too_little_is_refused() {
    let mut done = read(Tag(0), 0, 2);
    done.segments[0].data = vec![0; 512];
    check_read(&done, 0..2, &vec![BTreeSet::from([0]); 2]);
}

/// The defective double: a driver that completes a read and has not touched its buffer.
#[test]
#[should_panic(expected = "sector 0: 255")]
fn a_read_that_leaves_its_buffer_is_refused() {
    let any: BTreeSet<u8> = (0..200).collect();
    check_read(&read(Tag(0), 0, 2), 0..2, &vec![any; 2]);
}
