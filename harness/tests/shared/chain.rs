//! A guest's request as it lies in the guest's memory, as whatever bytes. Shared by the inputs that
//! are crafted by the million (`crafted`) and the fuzz targets.

use driver::units::{Bytes, SECTOR_SIZE, Sector, SectorRange};
use harness::serve::Job;
use harness::serve::vhost_user::chain::{Chain, ChainPieces, DescriptorTable, Memory};
use harness::serve::vhost_user::request::{Device, Wanted};
use vm_memory::{Bytes as _, GuestAddress};

/// The guest's memory: two regions with a gap between them.
const REGION: usize = 0x4000;
const REGIONS: [u64; 2] = [0, 0x8000];

/// The most data of a request.
const MOST_DATA: u64 = 126 * (256 << 10);

/// The device, in bytes.
const DEVICE: u64 = 1 << 40;

/// What came of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChainOutcome {
    /// The chain cannot be answered.
    Broken,
    /// It is answered at once, most often with an error.
    Answered,
    /// The device is asked for something.
    Asked,
}

/// Takes the chain for one that begins with the descriptor of the first two bytes, in a table as
/// long as the next two say. The memory begins with that table, and with the rest of the bytes.
///
/// # Panics
/// If the device is asked for what lies outside it or is too long, or what it gives back lands
/// where the guest has not made room.
pub(crate) fn take_apart(bytes: &[u8]) -> ChainOutcome {
    let (header, rest) = bytes.split_at(bytes.len().min(4));
    let half = |at: usize| {
        header
            .get(at..at + 2)
            .map_or(0, |half| u16::from_le_bytes([half[0], half[1]]))
    };
    let memory = Memory::from_ranges(&REGIONS.map(|start| (GuestAddress(start), REGION)));
    let memory = memory.expect("the regions do not overlap");
    let rest = &rest[..rest.len().min(REGION)];
    memory.write_slice(rest, GuestAddress(0)).expect("it fits");
    let table = DescriptorTable {
        address: GuestAddress(0),
        len: half(2),
    };
    let Ok(mut chain) = Chain::of(half(0), table, &memory) else {
        return ChainOutcome::Broken;
    };
    let mut status = [0];
    let is_there = memory.read_slice(&mut status, chain.status);
    is_there.expect("the status can be written");
    let device = Device {
        read_only: false,
        sectors: &sectors,
    };
    let wanted = Wanted::of(&mut chain, &memory, device);
    let job = wanted.and_then(|wanted| wanted.job(&chain, &memory, true));
    let Ok(job) = job else {
        return ChainOutcome::Answered;
    };
    let range = job.range();
    assert!(range.end().0 * SECTOR_SIZE <= DEVICE, "{range:?}");
    match &job {
        Job::Read(range) => {
            let len = range.count.bytes().0;
            assert!(len <= MOST_DATA && len == chain.writable.len(), "{range:?}");
            writes_where_it_may(&memory, &chain.writable, len as usize);
        }
        Job::Write { data, .. } => assert!(data.len() as u64 <= MOST_DATA),
        Job::Flush => {}
        Job::Discard { range, .. } | Job::WriteZeroes { range, .. } => {
            assert!((1..=1 << 22).contains(&range.count.0), "{range:?}");
        }
        Job::WriteOutZeroes { .. } => panic!("vhost-user asks for no such thing"),
    }
    ChainOutcome::Asked
}

fn sectors(offset: u64, len: u64) -> Option<SectorRange> {
    let end = offset.checked_add(len)?;
    let is_whole = offset.is_multiple_of(SECTOR_SIZE) && len.is_multiple_of(SECTOR_SIZE);
    let range = SectorRange::new(Sector(offset / SECTOR_SIZE), Bytes(len).whole_sectors());
    (is_whole && end <= DEVICE).then_some(range)
}

/// Writes data, and looks for bytes that have changed elsewhere.
fn writes_where_it_may(memory: &Memory, pieces: &ChainPieces, len: usize) {
    let before = REGIONS.map(|start| content(memory, start));
    // A piece that is not there ends it: the request has failed.
    let _ = pieces.write(memory, &[vec![0xa5; len]]);
    for (start, before) in REGIONS.into_iter().zip(&before) {
        let after = content(memory, start);
        for at in (0..REGION).filter(|&at| before[at] != after[at]) {
            let at = start + at as u64;
            let mut may = pieces
                .iter()
                .map(|piece| piece.address.0..piece.address.0 + u64::from(piece.len));
            assert!(may.any(|piece| piece.contains(&at)), "{at:#x}");
        }
    }
}

fn content(memory: &Memory, start: u64) -> Vec<u8> {
    let mut bytes = vec![0; REGION];
    let read = memory.read_slice(&mut bytes, GuestAddress(start));
    read.expect("it is a region");
    bytes
}
