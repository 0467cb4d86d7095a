//! What NBD clients are told about extents is true, whatever was done to the device before.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use driver::units::SECTOR_SIZE;
use harness::device::Io;
use harness::plain_format::CowFile;
use harness::random::SplitMix64;
use harness::serve::nbd::block_status::MOST_EXTENTS;
use harness::serve::nbd::message::Command;

use crate::support::cli::{SIZE, Sandbox};
use crate::support::nbd::{Client, Extents, InProcess, Looker};
use crate::support::share::share;

const SECTORS: u64 = SIZE / SECTOR_SIZE;

/// Flags of `base:allocation`.
const ZERO: u32 = 2;

/// Flag of `ubdlab:dirty`.
const DIRTY: u32 = 1;

const PATIENCE: Duration = Duration::from_secs(60);

/// The small device over a backing file of holes and data, in blocks of which some begin and end
/// within a page of the host.
fn with_sparse_device(random: &mut SplitMix64) -> Sandbox {
    let sandbox = Sandbox::new();
    let mut backing = vec![0; SIZE as usize];
    for _ in 0..8 {
        let (at, len) = range(random, 1..=256);
        backing[at as usize..][..len as usize].fill(b'b');
    }
    sandbox.write("backing", backing);
    sandbox.touch("backing", 1_050_000_000);
    sandbox.create_cow("cow", "backing");
    sandbox
}

/// Bytes of the device: where, and how many.
fn range(random: &mut SplitMix64, sectors: RangeInclusive<u64>) -> (u64, u32) {
    let count = sectors.start() + random.below(sectors.end() - sectors.start() + 1);
    let start = random.below(SECTORS - count + 1);
    (start * SECTOR_SIZE, (count * SECTOR_SIZE) as u32)
}

/// Does something to the device.
fn change(client: &mut Client, random: &mut SplitMix64) {
    let (at, len) = range(random, 1..=128);
    let error = match random.below(4) {
        0 => client.ask(Command::Trim, 0, at, len),
        1 => client.ask(Command::WriteZeroes, 0, at, len),
        _ => client.write(0, at, &vec![b'w'; len as usize]),
    };
    assert_eq!(error, 0);
}

/// What has to be so of each answer.
fn check_form(extents: &Extents, len: u32, one: bool) {
    let total: u64 = extents.iter().map(|extent| u64::from(extent.0)).sum();
    assert!(total <= u64::from(len), "{extents:?} of {len} bytes");
    let most = if one { 1 } else { MOST_EXTENTS };
    assert!((1..=most).contains(&extents.len()), "{extents:?}");
    for (length, _) in extents {
        assert!(*length > 0 && length.is_multiple_of(SECTOR_SIZE as u32));
    }
    let alike = extents.windows(2).any(|two| two[0].1 == two[1].1);
    assert!(!alike, "neighbours are alike: {extents:?}");
}

/// Each extent with its first byte.
fn placed(at: u64, extents: &Extents) -> Vec<(u64, u32, u32)> {
    let mut next = at;
    let place = |&(len, flags): &(u32, u32)| {
        let start = next;
        next += u64::from(len);
        (start, len, flags)
    };
    extents.iter().map(place).collect()
}

/// Which sectors are said to be in the COW file, over the whole device.
fn said_to_be_dirty(looker: &mut Looker) -> Vec<u64> {
    let (mut at, mut dirty) = (0, Vec::new());
    while at < SIZE {
        let [_, told] = looker.look(at, (SIZE - at) as u32, false).unwrap();
        for (start, len, flags) in placed(at, &told) {
            at = start + u64::from(len);
            if flags == DIRTY {
                dirty.extend(start / SECTOR_SIZE..at / SECTOR_SIZE);
            }
        }
    }
    dirty
}

/// Which sectors are in the COW file as the file says it.
fn dirty_in(cow: &Path) -> Vec<u64> {
    let bytes = std::fs::read(cow).unwrap();
    CowFile::open(&bytes[..]).unwrap().dirty()
}

#[test]
fn what_is_said_to_be_zero_reads_so_and_what_is_said_to_be_dirty_has_its_bit() {
    let (mut zeros, mut others) = (0, 0);
    for seed in 0..share(200, 10) {
        let mut random = SplitMix64(seed);
        let sandbox = with_sparse_device(&mut random);
        let server = InProcess::start(&sandbox, Io::Threads, PATIENCE);
        let mut client = Client::connect(&sandbox.path("s"));
        let mut looker = Looker::connect(&sandbox.path("s"));
        for round in 0..8 {
            for _ in 0..random.below(6) {
                change(&mut client, &mut random);
            }
            for _ in 0..4 {
                let (at, len) = range(&mut random, 1..=SECTORS);
                let one = random.below(4) == 0;
                let [allocation, dirty] = looker.look(at, len, one).unwrap();
                check_form(&allocation, len, one);
                check_form(&dirty, len, one);
                for (start, len, flags) in placed(at, &allocation) {
                    if flags & ZERO == 0 {
                        others += 1;
                        continue;
                    }
                    zeros += 1;
                    let is_zero = client.read(start, len).iter().all(|&byte| byte == 0);
                    assert!(
                        is_zero,
                        "seed {seed}, round {round}: {len} bytes at {start}"
                    );
                }
            }
            client.flush();
            let expected = dirty_in(&sandbox.path("cow"));
            let found = said_to_be_dirty(&mut looker);
            assert_eq!(found, expected, "seed {seed}, round {round}");
        }
        server.stop();
    }
    assert!(zeros > 100 && others > 100, "{zeros} and {others}");
}

/// A device can have more extents than anybody wants to be told at once.
#[test]
fn many_small_extents_are_told_in_part_and_past_the_end_there_are_none() {
    let sandbox = Sandbox::with_device();
    let server = InProcess::start(&sandbox, Io::Threads, PATIENCE);
    let mut client = Client::connect(&sandbox.path("s"));
    for sector in (0..SECTORS).step_by(2) {
        assert_eq!(client.write(0, sector * SECTOR_SIZE, &[1; 512]), 0);
    }
    let mut looker = Looker::connect(&sandbox.path("s"));
    let [allocation, dirty] = looker.look(0, SIZE as u32, false).unwrap();
    assert_eq!(dirty.len(), MOST_EXTENTS);
    let each: Vec<_> = (0..MOST_EXTENTS as u32).map(|n| (512, 1 - n % 2)).collect();
    assert_eq!(dirty, each);
    check_form(&allocation, SIZE as u32, false);
    let even: Vec<_> = (0..SECTORS).step_by(2).collect();
    assert_eq!(said_to_be_dirty(&mut looker), even);
    // An extent goes on past the end of the request, and is told to there.
    let [allocation, dirty] = looker.look(512, 512, false).unwrap();
    assert_eq!((allocation, dirty), (vec![(512, 0)], vec![(512, 0)]));
    let [_, dirty] = looker.look(512, SIZE as u32 - 512, true).unwrap();
    assert_eq!(dirty, [(512, 0)]);
    const INVALID: u32 = 22;
    for (at, len) in [(SIZE, 512), (SIZE - 512, 1024), (0, 0), (1, 512), (0, 100)] {
        assert_eq!(looker.look(at, len, false), Err(INVALID), "{at} {len}");
    }
    server.stop();
}
