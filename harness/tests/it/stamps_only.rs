//! The host that keeps stamps instead of payload: it is a host like any other as long as
//! nobody writes a stamp, it gives back the stamps that it was given, and a wrong one is found.

use std::path::Path;

use crate::suite::{Extent, hosts_agree};
use crate::support::share::share;
use driver::blk::{Completion, Limits, Operation, Request, Tag};
use driver::device_spec::DeviceSpec;
use driver::host::{Access, HostError, HostFile, HostNames, Replace};
use driver::memory::MemoryHost;
use driver::open::{OpenOptions, create, open};
use driver::ordered::{Ordered, Statistics};
use driver::resize::ResizeOutcome;
use driver::units::{Bytes, FileOffset, FileRange, Sector, SectorCount};
use harness::clock::{Clock, WallClock};
use harness::device::{BlockDevice, DeviceError, SentResize, Stepped};
use harness::oracle::Oracle;
use harness::replay::backing::{Stamped, StampedParts};
use harness::replay::counts::Counts;
use harness::replay::run::{Manner, Run};
use harness::replay::stamp_host::{StampFile, StampHost};
use harness::replay::{Pace, PastEnd, Placing};
use harness::stamp::{Coverage, Stamp};
use harness::trace::{Generator, Workload};

#[test]
fn without_stamps_it_agrees_with_memory() {
    for (seeds, operations, reach) in [(0..share(32, 8), 400, 1 << 20), (32..34, 60, 40 << 20)] {
        for seed in seeds {
            let extent = Extent { operations, reach };
            let stamps = (&StampHost::new(), Path::new("images"));
            hosts_agree(
                seed,
                extent,
                (&MemoryHost::new(), Path::new("images")),
                stamps,
            );
        }
    }
}

const FILE: &str = "disk";

fn stamped(stamp: u32, first: u64, sectors: usize) -> Vec<u8> {
    let mut data = vec![0; sectors * 512];
    Stamp(stamp).fill(Sector(first), &mut data);
    data
}

fn at(sector: u64) -> FileOffset {
    FileOffset(sector * 512)
}

/// Reads whole sectors into a buffer full of something else.
fn sectors<F: HostFile>(file: &F, first: u64, count: usize) -> Vec<u8> {
    let mut buffer = vec![0xee; count * 512];
    file.read_exact_at(&mut buffer, at(first)).unwrap();
    buffer
}

fn is_stamped(content: &[u8], stamp: u32, sector: u64) -> bool {
    Coverage::Front.shows(Stamp(stamp), Sector(sector), content)
}

#[test]
fn a_stamped_sector_gives_back_its_stamp_and_nothing_else() {
    let host = StampHost::new();
    let file = host.create_new(Path::new(FILE)).unwrap();
    // Across the border of an allocation of stamps, and only the fronts are stamped.
    let mut data = vec![7; 4 * 512];
    Coverage::Front.stamp(Stamp(3), Sector(2046), &mut data);
    file.write_all_at(&data, at(2046)).unwrap();
    assert_eq!(file.len().unwrap(), Bytes(2050 * 512));
    let read = sectors(&file, 2045, 5);
    assert_eq!(read[..512], [0; 512], "what was not written is a hole");
    for (sector, content) in (2046..).zip(read[512..].chunks(512)) {
        assert!(is_stamped(content, 3, sector));
        assert_eq!(content[16..], [0xee; 496], "nobody touched the rest");
    }
    let run = file.next_data(FileOffset(0)).unwrap().unwrap();
    assert_eq!(run.start, at(2046));
    let runs = file.data_runs(FileRange::new(FileOffset(0), Bytes(4096 * 512)));
    let found: u64 = runs.map(|run| run.unwrap().len.0).sum();
    assert_eq!(found, 4 * 512);
    // Another handle to the same file sees the same.
    let again = host.open(Path::new(FILE), Access::ReadOnly).unwrap();
    assert!(is_stamped(&sectors(&again, 2047, 1), 3, 2047));
    assert_eq!(
        again.write_at(&data, at(0)),
        Err(HostError::PermissionDenied)
    );
}

#[test]
fn a_part_of_a_stamped_sector_is_what_a_whole_one_would_have() {
    let host = StampHost::new();
    let file = host.create_new(Path::new(FILE)).unwrap();
    let whole = stamped(9, 0, 4);
    file.write_all_at(&whole, at(0)).unwrap();
    let mut part = [0; 700];
    file.read_exact_at(&mut part, FileOffset(300)).unwrap();
    assert_eq!(part[..212], whole[300..512]);
    // The second sector was read only in part, too.
    assert_eq!(part[212..], whole[512..1000]);
    // Written in part, it is bytes like any others.
    file.write_all_at(b"eight by", FileOffset(512 + 64))
        .unwrap();
    let mut expected = whole[512..1024].to_vec();
    expected[64..72].copy_from_slice(b"eight by");
    assert_eq!(sectors(&file, 1, 1), expected);
    // So it is where the file is cut in a sector, and where a hole begins in one.
    file.set_len(Bytes(3 * 512 + 100)).unwrap();
    file.set_len(Bytes(4 * 512)).unwrap();
    let cut = sectors(&file, 3, 1);
    assert_eq!(cut[..100], whole[3 * 512..3 * 512 + 100]);
    assert_eq!(cut[100..], [0; 412]);
    file.punch_hole(FileRange::new(FileOffset(200), Bytes(312)))
        .unwrap();
    let punched = sectors(&file, 0, 1);
    assert_eq!(punched[..200], whole[..200]);
    assert_eq!(punched[200..], [0; 312]);
    assert!(is_stamped(&sectors(&file, 2, 1), 9, 2));
}

#[test]
fn stamps_and_bytes_take_turns_in_one_place() {
    let host = StampHost::new();
    let file = host.create_new(Path::new(FILE)).unwrap();
    file.write_all_at(&stamped(1, 0, 8), at(0)).unwrap();
    file.write_all_at(&[5; 1024], at(2)).unwrap();
    file.write_all_at(&stamped(2, 5, 1), at(5)).unwrap();
    file.punch_hole(FileRange::new(at(6), Bytes(512))).unwrap();
    let read = sectors(&file, 0, 8);
    let content = |sector: usize| &read[sector * 512..][..512];
    for (sector, stamp) in [(0, 1), (1, 1), (4, 1), (5, 2), (7, 1)] {
        assert!(
            is_stamped(content(sector), stamp, sector as u64),
            "{sector}"
        );
    }
    assert_eq!(content(2), [5; 512]);
    assert_eq!(content(3), [5; 512]);
    assert_eq!(content(6), [0; 512]);
}

#[test]
fn stamps_go_with_the_file_and_not_with_its_name() {
    let host = StampHost::new();
    let (old, new) = (Path::new("old"), Path::new("new"));
    let file = host.create_new(old).unwrap();
    file.write_all_at(&stamped(1, 0, 1), at(0)).unwrap();
    let other = host.create_new(new).unwrap();
    other.write_all_at(&stamped(2, 0, 1), at(0)).unwrap();
    host.rename(new, old, Replace::Existing).unwrap();
    let named = host.open(old, Access::ReadOnly).unwrap();
    assert!(is_stamped(&sectors(&named, 0, 1), 2, 0));
    assert!(is_stamped(&sectors(&file, 0, 1), 1, 0));
    host.remove(old).unwrap();
    assert_eq!(
        host.open(old, Access::ReadOnly).err(),
        Some(HostError::NotFound)
    );
    assert!(is_stamped(&sectors(&named, 0, 1), 2, 0));
}

/// A device that carries out one write with other content, or somewhere else.
struct Faulty {
    device: Stepped<Ordered<StampFile>>,
    writes: u64,
    wrong: u64,
    fault: fn(&mut Request),
    /// The request that went wrong, and where it should have gone: it says so again when it is
    /// done, as if it had.
    meant: Option<(Tag, Sector)>,
}

impl Faulty {
    fn as_meant(&self, mut completion: Completion) -> Completion {
        let request = &mut completion.request;
        if let Some((_, start)) = self.meant.filter(|(tag, _)| *tag == request.tag) {
            request.start = start;
        }
        completion
    }
}

impl BlockDevice for Faulty {
    type File = StampFile;

    fn submit(&mut self, mut request: Request) -> Result<(), DeviceError> {
        if let Operation::Write { .. } = request.operation {
            self.writes += 1;
            if self.writes == self.wrong {
                self.meant = Some((request.tag, request.start));
                (self.fault)(&mut request);
            }
        }
        self.device.submit(request)
    }

    fn complete(&mut self) -> Result<Completion, DeviceError> {
        let completion = self.device.complete()?;
        Ok(self.as_meant(completion))
    }

    fn complete_before(
        &mut self,
        deadline_ns: u64,
        clock: &dyn Clock,
    ) -> Result<Option<Completion>, DeviceError> {
        let completion = self.device.complete_before(deadline_ns, clock)?;
        Ok(completion.map(|completion| self.as_meant(completion)))
    }

    fn resize(&mut self, resize: SentResize<StampFile>) -> Result<(), DeviceError> {
        self.device.resize(resize)
    }

    fn resized(&mut self, wait: bool) -> Result<Option<ResizeOutcome>, DeviceError> {
        self.device.resized(wait)
    }

    fn capacity(&self) -> SectorCount {
        self.device.capacity()
    }

    fn limits(&self) -> Limits {
        self.device.limits()
    }

    fn statistics(&self) -> Statistics {
        self.device.statistics()
    }
}

/// Replays a generated trace on a small device whose `wrong`th write has this fault; what was
/// found.
fn replayed(wrong: u64, fault: fn(&mut Request)) -> Counts {
    let sectors = SectorCount(1024);
    let host = StampHost::new();
    let (cow, backing) = (Path::new("cow"), Path::new("backing"));
    let parts = StampedParts::all(sectors).with_coverage(Coverage::Front);
    parts.write(&host.create_new(backing).unwrap()).unwrap();
    drop(create(&host, cow, backing, None).unwrap());
    let spec: DeviceSpec = "ubda=cow".parse().unwrap();
    let device = open(&host, &spec, OpenOptions::default()).unwrap().device;
    let mut target = Faulty {
        device: Stepped::new(device),
        writes: 0,
        wrong,
        fault,
        meant: None,
    };
    let initial = Stamped::new(parts);
    let mut oracle = Oracle::new(sectors, initial).with_coverage(Coverage::Front);
    let manner = Manner {
        depth: 32,
        placing: Placing {
            past_end: PastEnd::Refuse,
            recorded: sectors,
        },
        pace: Pace::AsFast,
    };
    let workload = Workload {
        requests: 3000,
        device: sectors.bytes(),
        // Few writes: what one of them did is read before the next one hides it.
        reads: 90,
        writes: 10,
        discards: 1,
        write_zeroes: 1,
        ..Workload::default()
    };
    let clock = WallClock::start();
    let mut run = Run::new(&mut target, &mut oracle, manner, Vec::new(), &clock);
    let mut trace = Generator::new(workload).unwrap();
    run.replay(&mut trace, |_| {}).unwrap();
    run.counts.clone()
}

#[test]
fn a_write_that_goes_wrong_is_found_by_its_stamps() {
    assert_eq!(replayed(0, |_| {}).mismatches, 0);
    let found = |wrong, fault: fn(&mut Request)| {
        let counts = replayed(wrong, fault);
        assert!(counts.mismatches > 0, "write {wrong}");
        counts.examples.join("\n")
    };
    // Where it should have gone the old stamp is, and where it went a stamp of elsewhere.
    let misplaced = found(70, |request| request.start.0 ^= 8);
    assert!(misplaced.contains("found what request"), "{misplaced}");
    assert!(misplaced.contains("expected what request"), "{misplaced}");
    let stale = found(80, |request| {
        let data = &mut request.segments[0].data;
        Coverage::Front.stamp(Stamp(1), request.start, data);
    });
    assert!(stale.contains("found what request 1 wrote"), "{stale}");
    let zeros = found(90, |request| request.segments[0].data.fill(0));
    assert!(zeros.contains("found zeros, expected what"), "{zeros}");
    // One bit in the last sector of it.
    found(100, |request| request.segments[0].data[7 * 512 + 8] ^= 1);
}
