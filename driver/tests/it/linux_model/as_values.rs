//! A model that gives its host operations as values does what one that is stepped does: the same
//! operations in the same order, with the same short reads and writes and failures, and the same
//! completions.

use driver::blk::{Completion, Request, Status, Tag};
use driver::host::{FileRole, HostError};
use driver::linux::{Defect, Defects, LinuxUbd, OpenSpec, Step};
use driver::ordered::CloseError;
use driver::units::{Sector, SectorCount};

use super::disk::{Disk, Fault};
use super::{backing, image, open, spec};
use crate::numbers::Numbers;
use driver::cow::Version;

const SECTORS: u64 = 600;

fn request(numbers: &mut Numbers, tag: u64) -> Request {
    let count = 1 + numbers.below(40);
    let start = Sector(numbers.below(SECTORS - count));
    let (tag, count) = (Tag(tag), SectorCount(count));
    let data = vec![tag.0 as u8; count.bytes().0 as usize];
    match numbers.below(8) {
        0..=2 => Request::read(tag, start, count),
        3..=4 => Request::write(tag, start, data),
        5 => Request {
            operation: driver::blk::Operation::Write { fua: true },
            ..Request::write(tag, start, data)
        },
        6 => Request::flush(tag),
        _ => Request::discard(tag, start, count),
    }
}

fn faults(numbers: &mut Numbers) -> Vec<Option<Fault>> {
    let fault = |kind| match kind {
        0 => Some(Fault::Error),
        1..=3 => Some(Fault::Short(300)),
        _ => None,
    };
    (0..200).map(|_| fault(numbers.below(10))).collect()
}

struct Pair {
    device: LinuxUbd<Disk>,
    cow: Disk,
    backing: Disk,
}

impl Pair {
    fn new(seed: u64, spec: &OpenSpec, defects: Defects) -> Pair {
        let (cow, backing) = (image(Version::V3, SECTORS, 4096), backing(SECTORS));
        let device = LinuxUbd::open(cow.clone(), backing.clone(), spec, defects).unwrap();
        let mut numbers = Numbers(seed);
        cow.fail_reads(faults(&mut numbers));
        cow.fail_writes(faults(&mut numbers));
        cow.fail_punches(faults(&mut numbers));
        cow.fail_syncs(faults(&mut numbers));
        backing.fail_reads(faults(&mut numbers));
        cow.take_log();
        backing.take_log();
        Pair {
            device,
            cow,
            backing,
        }
    }

    fn logs(&self) -> [Vec<String>; 2] {
        [self.cow.take_log(), self.backing.take_log()]
    }

    /// Carries the operations out that the device gives, one at a time.
    fn carry_out_values(&mut self) -> Vec<Completion> {
        let mut completed = Vec::new();
        loop {
            completed.extend(std::iter::from_fn(|| self.device.next_completion()));
            let Some(operation) = self.device.next_operation() else {
                match self.device.next_completion() {
                    Some(completion) => completed.push(completion),
                    None => return completed,
                }
                continue;
            };
            assert_eq!(self.device.next_operation(), None, "one at a time");
            assert!(matches!(self.device.step(), Step::Idle));
            let file = match operation.file {
                FileRole::Cow => &self.cow,
                FileRole::Backing | FileRole::New | FileRole::RawDisk => &self.backing,
            };
            self.device.finish(operation.carry_out(Some(file), None));
        }
    }
}

#[test]
fn values_are_what_steps_do() {
    let mut failed = 0;
    for seed in 0..60 {
        let defects = match seed % 4 {
            0 => Defects::LINUX_6_12,
            1 => Defects::LINUX_2_6,
            2 => Defects::only(Defect::PartialRequeueDuplicates),
            _ => Defects::none(),
        };
        let spec = OpenSpec {
            pipe_capacity: 6,
            ..spec()
        };
        let mut stepped = Pair::new(seed, &spec, defects);
        let mut values = Pair::new(seed, &spec, defects);
        let mut numbers = Numbers(seed + 1000);
        let (mut by_steps, mut by_values) = (Vec::new(), Vec::new());
        for round in 0..40 {
            for number in 0..1 + numbers.below(5) {
                let request = request(&mut numbers, round * 10 + number);
                let taken = stepped.device.submit(request.clone());
                assert_eq!(taken, values.device.submit(request), "seed {seed}");
            }
            loop {
                match stepped.device.step() {
                    Step::Completed(completion) => by_steps.push(completion),
                    Step::Working => {}
                    Step::Idle => break,
                    Step::Blocked => panic!("a model has nothing to be blocked by"),
                    Step::Died(death) => panic!("{death}"),
                }
            }
            by_values.extend(values.carry_out_values());
            assert_eq!(stepped.logs(), values.logs(), "seed {seed}, round {round}");
        }
        failed += by_steps.iter().filter(|c| c.status != Status::Ok).count();
        let told = |completions: &[Completion]| format!("{completions:?}");
        assert_eq!(told(&by_steps), told(&by_values), "seed {seed}");
        assert_eq!(stepped.device.statistics(), values.device.statistics());
        values.device.begin_closing();
        values.carry_out_values();
        let closed = stepped.device.close().map(drop);
        assert_eq!(values.device.close().map(drop), closed, "seed {seed}");
        assert_eq!(stepped.cow.take_log(), values.cow.take_log());
        assert_eq!(stepped.cow.content(), values.cow.content(), "seed {seed}");
    }
    assert!(failed > 0, "faults were met");
}

#[test]
fn what_ends_after_the_device_began_to_close_is_nobodys() {
    let cow = image(Version::V3, SECTORS, 4096);
    let mut device = open(&cow, SECTORS, Defects::none());
    let write = Request::write(Tag(1), Sector(0), vec![1; 512]);
    device.submit(write).unwrap();
    let under_way = device.next_operation().unwrap();
    device.begin_closing();
    device.finish(under_way.carry_out(Some(&cow), None));
    assert!(device.next_completion().is_none(), "it was dropped");
    cow.fail_syncs([Some(Fault::Error)]);
    match device.close().map(drop).unwrap_err() {
        CloseError::Host(failure) => assert_eq!(failure.error, HostError::Io),
        error => panic!("{error}"),
    }
}

/// A sync then would not cover it, and one that is under way says nothing before it has ended.
#[test]
fn a_device_with_an_operation_under_way_is_not_closed() {
    for closing in [false, true] {
        let cow = image(Version::V3, SECTORS, 4096);
        let mut device = open(&cow, SECTORS, Defects::none());
        let write = Request::write(Tag(1), Sector(0), vec![1; 512]);
        device.submit(write).unwrap();
        if closing {
            device.begin_closing();
        }
        let _under_way = device.next_operation().unwrap();
        cow.take_log();
        assert_eq!(device.close().map(drop).unwrap_err(), CloseError::Busy);
        assert_eq!(cow.take_log(), Vec::<String>::new());
    }
}
