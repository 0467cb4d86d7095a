//! A device in a FUSE mount beside a plain file of the host's: what is done to both shows in both
//! alike, and where the device says that there is nothing, there are zeros in both.

use std::fs::File;
use std::os::unix::fs::FileExt;

use harness::random::SplitMix64;
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;

use crate::support::cli::{SIZE, Sandbox};
use crate::support::fuse::Directory;
use crate::support::server::Server;
use crate::support::share::share;

const PUNCH: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);
const ZERO: FallocateFlags = FallocateFlags::ZERO_RANGE;

/// Requests of a case, between two looks at all of the file.
const STEPS: u64 = 40;

fn opened(path: &std::path::Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

/// What a file says of the first data, or hole, from a byte on.
fn sought(file: &File, from: SeekFrom) -> Option<u64> {
    match seek(file, from) {
        Ok(found) => Some(found),
        Err(Errno::NXIO) => None,
        Err(error) => panic!("{from:?}: {error}"),
    }
}

/// Looks at all that a device says about data and holes. `content` is what is in it.
fn looks_right(device: &File, content: &[u8], random: &mut SplitMix64) {
    let size = content.len() as u64;
    let is_zero = |from: u64, to: u64| content[from as usize..to as usize].iter().all(|&b| b == 0);
    let mut at = 0;
    while at < size {
        let data = sought(device, SeekFrom::Data(at)).unwrap_or(size);
        assert!(data >= at && is_zero(at, data), "{at} to {data} is no hole");
        if data == size {
            break;
        }
        let hole = sought(device, SeekFrom::Hole(data)).unwrap();
        assert!(hole > data && hole <= size, "{data} to {hole}");
        // Within either, each byte is one.
        let within = data + random.below(hole - data);
        assert_eq!(sought(device, SeekFrom::Data(within)), Some(within));
        assert_eq!(sought(device, SeekFrom::Hole(within)), Some(hole));
        if data > at {
            let within = at + random.below(data - at);
            assert_eq!(sought(device, SeekFrom::Hole(within)), Some(within));
            assert_eq!(sought(device, SeekFrom::Data(within)), Some(data));
        }
        at = hole;
    }
    for past in [size, size + 1, i64::MAX as u64] {
        assert_eq!(sought(device, SeekFrom::Data(past)), None);
        assert_eq!(sought(device, SeekFrom::Hole(past)), None);
    }
}

fn case(seed: u64) {
    let sandbox = Sandbox::new();
    let Some(directory) = Directory::new(&sandbox, "m") else {
        return;
    };
    let mut random = SplitMix64(seed);
    let mut content = vec![0; SIZE as usize];
    for block in content.chunks_mut(16 << 10) {
        if random.below(2) == 0 {
            block.fill(random.below(255) as u8 + 1);
        }
    }
    sandbox.write("backing", &content);
    sandbox.touch("backing", 1_050_000_000);
    sandbox.create_cow("cow", "backing");
    sandbox.write("plain", &content);
    let server = Server::start(&sandbox, &["@cow", "--fuse", "@m"]);
    let (device, plain) = (opened(&directory.disk()), opened(&sandbox.path("plain")));
    for step in 0..STEPS {
        let grain = [1, 512, 4096, 16 << 10][random.below(4) as usize];
        let from = random.below(SIZE / grain) * grain;
        let len = (random.below(64 << 10) / grain * grain).clamp(grain, SIZE - from);
        let both = [&device, &plain];
        match random.below(5) {
            0 => both.map(|file| fallocate(file, PUNCH, from, len).unwrap()),
            1 => both.map(|file| fallocate(file, ZERO, from, len).unwrap()),
            // Past the end nothing is punched, and nothing grows.
            2 => both.map(|file| fallocate(file, PUNCH, from, SIZE).unwrap()),
            3 => both.map(|file| file.sync_all().unwrap()),
            _ => {
                let data: Vec<u8> = (0..len).map(|at| (step + at / 9) as u8).collect();
                both.map(|file| file.write_all_at(&data, from).unwrap())
            }
        };
        if step % 8 == 7 {
            let content = std::fs::read(sandbox.path("plain")).unwrap();
            assert!(
                std::fs::read(directory.disk()).unwrap() == content,
                "step {step}"
            );
            looks_right(&device, &content, &mut random);
        }
    }
    // What is a hole of both files underneath is one of the device: of what was just punched whole.
    fallocate(&device, PUNCH, 0, SIZE).unwrap();
    device.sync_all().unwrap();
    looks_right(&device, &vec![0; SIZE as usize], &mut random);
    let data = sought(&device, SeekFrom::Data(0));
    assert_eq!(data, None, "a device that is punched whole has no data");
    drop((device, plain));
    server.stop();
}

#[test]
fn what_is_done_to_both_shows_in_both() {
    for seed in 0..share(24, 4) {
        eprintln!("seed {seed}");
        case(seed);
    }
}
