//! What the model says of reads, request by request.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::stamp::{Content, Stamp};

use super::*;

struct Backing;

impl Initial for Backing {
    fn is_in(&mut self, sector: Sector, content: &[u8]) -> bool {
        Stamp::BACKING.is_in(sector, content)
    }
    fn describe(&self, sector: Sector) -> String {
        Content::Stamped(Stamp::BACKING, sector).to_string()
    }
}

fn range(start: u64, count: u64) -> SectorRange {
    SectorRange::new(Sector(start), SectorCount(count))
}

fn sector(stamp: Stamp, sector: u64) -> Vec<u8> {
    let mut content = vec![0; 512];
    stamp.fill(Sector(sector), &mut content);
    content
}

/// No write is in flight.
fn nothing(_: Sector, _: &[u8]) -> bool {
    false
}

fn right(oracle: &mut Oracle<Backing>, at: u64, content: &[u8]) -> bool {
    oracle.check(range(at, 1), content, nothing).unwrap().wrong == 0
}

#[test]
fn a_sector_shows_its_last_acknowledged_write() {
    let mut oracle = Oracle::new(SectorCount(1000), Backing);
    assert!(right(&mut oracle, 5, &sector(Stamp::BACKING, 5)));
    oracle.wrote(range(5, 1), Written::Stamp(Stamp(1)));
    oracle.wrote(range(5, 1), Written::Stamp(Stamp(2)));
    assert!(right(&mut oracle, 5, &sector(Stamp(2), 5)));
    let compared = oracle
        .check(range(5, 1), &sector(Stamp(1), 5), nothing)
        .unwrap();
    assert_eq!((compared.sectors, compared.wrong), (1, 1));
    assert_eq!(
        compared.first_wrong.unwrap().to_string(),
        "sector 5: found what request 1 wrote to sector 5, \
         expected what request 2 wrote to sector 5"
    );
}

#[test]
fn a_write_in_flight_may_show() {
    let mut oracle = Oracle::new(SectorCount(1000), Backing);
    let content = sector(Stamp(9), 5);
    let early = |at: Sector, found: &[u8]| at == Sector(5) && found == content;
    assert_eq!(oracle.check(range(5, 1), &content, early).unwrap().wrong, 0);
    assert_eq!(oracle.check(range(6, 1), &content, early).unwrap().wrong, 1);
}

#[test]
fn data_of_the_trace_is_known_by_its_checksums() {
    let mut oracle = Oracle::new(SectorCount(1000), Backing);
    let data: Vec<u8> = (0..1024_u32).map(|n| (n * n / 512) as u8).collect();
    let sums = checksums(&data);
    let written = Written::Data(&sums);
    let early = |at, found: &[u8]| written.is_in(range(4, 2), at, found, Coverage::Whole);
    assert_eq!(oracle.check(range(4, 2), &data, early).unwrap().wrong, 0);
    assert_eq!(oracle.check(range(4, 2), &data, nothing).unwrap().wrong, 2);
    oracle.wrote(range(4, 2), Written::Data(&sums));
    assert_eq!(oracle.check(range(4, 2), &data, nothing).unwrap().wrong, 0);
    let compared = oracle.check(range(5, 1), &data[..512], nothing).unwrap();
    assert_eq!(compared.wrong, 1);
    let expected = format!(
        "expected what the trace wrote there (CRC-32C {:08x})",
        sums[1]
    );
    let told = compared.first_wrong.unwrap().to_string();
    assert!(told.ends_with(&expected));
}

#[test]
fn a_discarded_sector_shows_the_old_content_or_zeros_and_then_the_same() {
    for (first, second) in [
        (sector(Stamp(1), 5), vec![0; 512]),
        (vec![0; 512], sector(Stamp(1), 5)),
    ] {
        let mut oracle = Oracle::new(SectorCount(1000), Backing);
        oracle.wrote(range(5, 1), Written::Stamp(Stamp(1)));
        oracle.discarded(range(5, 1));
        assert!(!right(&mut oracle, 5, &sector(Stamp::BACKING, 5)));
        assert!(right(&mut oracle, 5, &first));
        assert!(right(&mut oracle, 5, &first));
        assert!(!right(&mut oracle, 5, &second));
    }
}

#[test]
fn a_read_that_brings_another_length_is_wrong_whatever_it_brings() {
    let mut oracle = Oracle::new(SectorCount(1000), Backing);
    let content = [sector(Stamp::BACKING, 5), sector(Stamp::BACKING, 6)].concat();
    for len in [0, 512, 1023] {
        let compared = oracle.check(range(5, 2), &content[..len], nothing).unwrap();
        assert_eq!((compared.sectors, compared.wrong), (0, 2), "{len} bytes");
        let told = compared.first_wrong.unwrap().to_string();
        assert_eq!(
            told,
            format!("sectors 5+2: found {len} bytes, expected 1024")
        );
    }
    assert_eq!(
        oracle.check(range(5, 1), &content, nothing).unwrap().wrong,
        1
    );
    assert_eq!(
        oracle.check(range(5, 2), &content, nothing).unwrap().wrong,
        0
    );
}

#[test]
fn zeros_are_counted_because_they_tell_less() {
    let mut oracle = Oracle::new(SectorCount(1000), Backing);
    oracle.wrote(range(5, 1), Written::Zeros);
    let content = [sector(Stamp::BACKING, 4), vec![0; 512]].concat();
    let compared = oracle.check(range(4, 2), &content, nothing).unwrap();
    assert_eq!(
        (compared.sectors, compared.zeros, compared.wrong),
        (2, 1, 0)
    );
}

#[test]
fn zeros_and_discards_last_until_the_next_write() {
    let mut oracle = Oracle::new(SectorCount(4000), Backing);
    oracle.wrote(range(300, 1000), Written::Stamp(Stamp(1)));
    oracle.wrote(range(400, 800), Written::Zeros);
    oracle.discarded(range(1199, 2));
    oracle.wrote(range(600, 1), Written::Stamp(Stamp(2)));
    let compared = oracle
        .check(range(1200, 1), &sector(Stamp(3), 1200), nothing)
        .unwrap();
    assert_eq!(
        compared.first_wrong.unwrap().to_string(),
        "sector 1200: found what request 3 wrote to sector 1200, \
         expected zeros (it was discarded) or what request 1 wrote to sector 1200"
    );
    for at in [400, 511, 512, 599, 601, 1023, 1199] {
        assert!(right(&mut oracle, at, &[0; 512]), "sector {at}");
    }
    for (at, stamp) in [(399, 1), (600, 2), (1200, 1), (1201, 1)] {
        assert!(right(&mut oracle, at, &sector(Stamp(stamp), at)), "{at}");
    }
    for at in [399, 600, 1201, 2000] {
        assert!(!right(&mut oracle, at, &[0; 512]), "sector {at}");
    }
    for at in [400, 512, 601, 1199] {
        assert!(!right(&mut oracle, at, &sector(Stamp(1), at)), "{at}");
    }
    // A page that is zeros whole, written in part, is zeros in the rest of it.
    oracle.wrote(range(512, 256), Written::Zeros);
    oracle.wrote(range(513, 1), Written::Stamp(Stamp(4)));
    assert!(right(&mut oracle, 512, &[0; 512]) && right(&mut oracle, 514, &[0; 512]));
    assert!(right(&mut oracle, 513, &sector(Stamp(4), 513)));
}

/// A model of all that can be claimed: it aborts where memory follows the claim.
#[test]
fn the_largest_device_takes_the_memory_of_what_is_written() {
    let sectors = crate::trace::record::MAX_END_SECTOR.0;
    let mut oracle = Oracle::new(SectorCount(sectors), Backing);
    for _ in 0..10_000 {
        oracle.wrote(range(0, sectors), Written::Zeros);
        oracle.discarded(range(1, sectors - 1));
    }
    let last = sectors - 1;
    oracle.wrote(range(last, 1), Written::Stamp(Stamp(1)));
    assert!(right(&mut oracle, last, &sector(Stamp(1), last)));
    assert!(right(&mut oracle, last - 1, &[0; 512]));
    oracle.resized(SectorCount(10));
    oracle.resized(SectorCount(sectors));
    assert!(right(&mut oracle, last, &[0; 512]));
}

#[test]
fn what_comes_after_a_shrink_is_zeros() {
    let mut oracle = Oracle::new(SectorCount(1000), Backing);
    oracle.wrote(range(500, 100), Written::Stamp(Stamp(1)));
    oracle.resized(SectorCount(510));
    oracle.resized(SectorCount(2000));
    assert!(right(&mut oracle, 509, &sector(Stamp(1), 509)));
    for at in [510, 511, 512, 599, 900, 1999] {
        assert!(right(&mut oracle, at, &[0; 512]), "sector {at}");
        assert!(!right(&mut oracle, at, &sector(Stamp::BACKING, at)));
    }
}

/// From sector 1,000 on it is a hole.
struct HalfAHole;

const HOLE: u64 = 1000;

impl Initial for HalfAHole {
    fn is_in(&mut self, sector: Sector, content: &[u8]) -> bool {
        match sector.0 < HOLE {
            true => Stamp::BACKING.is_in(sector, content),
            false => content == [0; 512],
        }
    }
    fn hole_at(&mut self, range: SectorRange) -> (bool, Sector) {
        match range.start.0 < HOLE {
            true => (false, range.end().min(Sector(HOLE))),
            false => (true, range.end()),
        }
    }
    fn describe(&self, _: Sector) -> String {
        String::new()
    }
}

const LEAST: u64 = 16;

proptest! {
    /// Every sector of a run is right with zeros, and of what is right nothing is missed that is
    /// long enough.
    #[test]
    fn where_zeros_are_right_is_what_a_read_of_zeros_passes(
        changes in vec((0u64..3, 0u64..2000, 1u64..300), 0..40),
        shrunk in option::of(1500u64..2000),
    ) {
        let mut oracle = Oracle::new(SectorCount(2000), HalfAHole);
        for (kind, start, count) in changes {
            let range = range(start, count.min(2000 - start));
            match kind {
                0 => oracle.wrote(range, Written::Stamp(Stamp(1))),
                1 => oracle.wrote(range, Written::Zeros),
                _ => oracle.discarded(range),
            }
        }
        if let Some(sectors) = shrunk {
            oracle.resized(SectorCount(sectors));
            oracle.resized(SectorCount(2000));
        }
        let (mut at, mut known) = (Sector(0), Vec::new());
        while at.0 < 2000 {
            let (are_right, stop) = oracle.zeros_at(at, Sector(2000), SectorCount(LEAST));
            prop_assert!(stop > at && stop.0 <= 2000);
            known.resize(stop.0 as usize, are_right);
            at = stop;
        }
        let zeros = |sector| oracle.check(range(sector, 1), &[0; 512], nothing).unwrap().wrong == 0;
        let right: Vec<bool> = (0..2000).map(zeros).collect();
        for (sector, (known, right)) in known.iter().zip(&right).enumerate() {
            prop_assert!(!known || *right, "sector {sector}");
        }
        let mut start = 0;
        for run in right.chunk_by(|one, other| one == other) {
            let missed = known[start..start + run.len()].chunk_by(|one, other| one == other);
            let longest = missed.filter(|missed| !missed[0]).map(<[bool]>::len).max();
            prop_assert!(!run[0] || longest.unwrap_or(0) < LEAST as usize, "sector {start}");
            start += run.len();
        }
    }
}
