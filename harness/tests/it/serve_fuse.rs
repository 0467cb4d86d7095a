//! A device as a file in a FUSE mount: what is read, written, punched, sought and truncated.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use harness::random::SplitMix64;
use nix::fcntl::OFlag;
use rustix::fs::{FallocateFlags, SeekFrom, fallocate};
use rustix::io::Errno;

use crate::support::cli::{SIZE, Sandbox};
use crate::support::fuse::Directory;
use crate::support::mounted::Mounted;
use crate::support::nbd::Client;
use crate::support::server::Server;

const PUNCH: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);

/// A server of the small device, mounted at `m`, with these arguments more.
fn served(sandbox: &Sandbox, more: &[&str]) -> Server {
    let args = [&["@cow", "--fuse", "@m"][..], more].concat();
    Server::start(sandbox, &args)
}

fn opened(path: &Path) -> File {
    let file = File::options().read(true).write(true).open(path);
    file.unwrap()
}

/// The disk as it has to be before anything is written.
fn fresh() -> Vec<u8> {
    (0..SIZE / 8).flat_map(u64::to_le_bytes).collect()
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

fn error_of<T: std::fmt::Debug>(result: std::io::Result<T>) -> Errno {
    Errno::from_io_error(&result.unwrap_err()).unwrap()
}

#[test]
fn random_requests_of_any_bytes_do_to_the_file_what_they_do_to_a_model() {
    let sandbox = Sandbox::with_device();
    let Some(directory) = Directory::new(&sandbox, "m") else {
        return;
    };
    let server = served(&sandbox, &[]);
    let mut disk = fresh();
    assert!(read(&directory.disk()) == disk);
    let mut options = File::options();
    options.read(true).write(true);
    let plain = options.open(directory.disk()).unwrap();
    let dsync = OFlag::O_DSYNC.bits();
    let durable = options.custom_flags(dsync).open(directory.disk()).unwrap();
    let mut random = SplitMix64(7);
    for step in 0..600u64 {
        // Some begin and end with a sector, most do not.
        let grain = [1, 1, 64, 512, 4096][random.below(5) as usize];
        let from = random.below(SIZE / grain) * grain;
        let longest = [100, 1000, 20_000, 300_000][random.below(4) as usize];
        let len = (random.below(longest) / grain * grain).clamp(grain, SIZE - from);
        let bytes = from as usize..(from + len) as usize;
        let file = if step % 5 == 0 { &durable } else { &plain };
        match random.below(6) {
            0 => {
                let mut found = vec![0; len as usize];
                file.read_exact_at(&mut found, from).unwrap();
                assert!(found == disk[bytes], "step {step}: {from}+{len}");
            }
            1 => {
                fallocate(file, PUNCH, from, len).unwrap();
                disk[bytes].fill(0);
            }
            2 => {
                fallocate(file, FallocateFlags::ZERO_RANGE, from, len).unwrap();
                disk[bytes].fill(0);
            }
            3 => file.sync_all().unwrap(),
            _ => {
                let data: Vec<u8> = (0..len).map(|at| (step + at / 7) as u8).collect();
                file.write_all_at(&data, from).unwrap();
                disk[bytes].copy_from_slice(&data);
            }
        }
    }
    assert!(read(&directory.disk()) == disk);
    drop((plain, durable));
    let said = server.stop();
    assert_eq!(said.lines().count(), 1, "{said}");
    sandbox.succeeds(&["image", "convert", "@cow", "@raw", "--to", "raw"]);
    assert!(sandbox.read("raw") == disk);
    let server = served(&sandbox, &["--read-only"]);
    assert!(read(&directory.disk()) == disk);
    let written = File::options().write(true).open(directory.disk());
    assert_eq!(error_of(written), Errno::ROFS);
    server.stop();
}

/// A write of a part of a sector reads the sector first. None may come between.
#[test]
fn parts_of_a_sector_that_many_write_at_once_are_all_there() {
    const WRITERS: usize = 8;
    const SECTORS: usize = 96;
    let sandbox = Sandbox::with_device();
    let Some(directory) = Directory::new(&sandbox, "m") else {
        return;
    };
    let server = served(&sandbox, &[]);
    let mut disk = fresh();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let file = opened(&directory.disk());
            scope.spawn(move || {
                for sector in 0..SECTORS {
                    let at = (sector * 512 + writer * 64) as u64;
                    match writer {
                        0 => fallocate(&file, PUNCH, at, 64).unwrap(),
                        _ => file.write_all_at(&[writer as u8; 64], at).unwrap(),
                    }
                }
            });
        }
    });
    for (n, part) in disk[..SECTORS * 512].chunks_mut(64).enumerate() {
        part.fill((n % WRITERS) as u8);
    }
    assert!(read(&directory.disk()) == disk);
    server.stop();
}

#[test]
fn a_truncate_grows_the_device_and_its_size_shows_at_once() {
    let sandbox = Sandbox::with_device();
    let Some(directory) = Directory::new(&sandbox, "m") else {
        return;
    };
    let server = served(&sandbox, &["--control", "@c", "--nbd", "@s"]);
    let file = opened(&directory.disk());
    file.set_len(2 * SIZE).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 2 * SIZE);
    file.write_all_at(b"past the old end", 2 * SIZE - 16)
        .unwrap();
    // By somebody else, after the kernel has just been told; a client of another kind writes there.
    assert_eq!(file.metadata().unwrap().len(), 2 * SIZE);
    sandbox.run(&["ctl", "@c", "resize", "+1M"]);
    assert_eq!(file.metadata().unwrap().len(), 3 * SIZE);
    let mut client = Client::connect(&sandbox.path("s"));
    let mut found = vec![1; 512];
    file.read_exact_at(&mut found, 3 * SIZE - 512).unwrap();
    assert_eq!(found, [0; 512]);
    assert_eq!(client.write(0, 3 * SIZE - 512, &[7; 512]), 0);
    file.read_exact_at(&mut found, 3 * SIZE - 512).unwrap();
    assert_eq!(found, [7; 512]);
    // As a block device, it ends where it ends.
    assert_eq!(file.write_at(&[8; 1024], 3 * SIZE - 100).unwrap(), 100);
    assert_eq!(error_of(file.write_at(&[8], 3 * SIZE)), Errno::NOSPC);
    assert_eq!(file.read_at(&mut found, 3 * SIZE - 200).unwrap(), 200);
    assert_eq!(file.read_at(&mut found, 3 * SIZE).unwrap(), 0);
    assert_eq!(found[..200], [[7; 100], [8; 100]].concat());
    // It does not become smaller unasked, nor by what an editor or a copy does.
    assert_eq!(error_of(file.set_len(2 * SIZE)), Errno::PERM);
    assert_eq!(error_of(File::create(directory.disk())), Errno::PERM);
    assert_eq!(error_of(file.set_len(3 * SIZE + 1)), Errno::INVAL);
    assert_eq!(file.metadata().unwrap().len(), 3 * SIZE);
    server.stop();
}

#[test]
fn a_truncate_makes_it_smaller_where_that_is_allowed_and_no_data_goes() {
    let sandbox = Sandbox::with_device();
    let Some(directory) = Directory::new(&sandbox, "m") else {
        return;
    };
    let server = served(&sandbox, &["--allow-shrink"]);
    let file = opened(&directory.disk());
    file.set_len(4 * SIZE).unwrap();
    file.write_all_at(b"data", 2 * SIZE).unwrap();
    file.set_len(3 * SIZE).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 3 * SIZE);
    assert_eq!(error_of(file.set_len(2 * SIZE)), Errno::INVAL);
    assert_eq!(file.metadata().unwrap().len(), 3 * SIZE);
    let said = server.stop();
    assert!(said.contains("truncating disk to 2 MiB: "), "{said}");
}

#[test]
fn the_directory_has_two_files_and_keeps_them() {
    let sandbox = Sandbox::with_device();
    let Some(directory) = Directory::new(&sandbox, "m") else {
        return;
    };
    let server = served(&sandbox, &[]);
    let path = directory.path();
    let mut names: Vec<_> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["disk", "status.json"]);
    let disk = directory.disk();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!((mode(path), mode(&disk)), (0o500, 0o600));
    assert_eq!(mode(&directory.status()), 0o400);
    let to_all = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    assert_eq!(
        error_of(std::fs::set_permissions(&disk, to_all)),
        Errno::PERM
    );
    let chowned = std::os::unix::fs::chown(&disk, Some(65_534), None);
    assert_eq!(error_of(chowned), Errno::PERM);
    assert_eq!(error_of(std::fs::remove_file(&disk)), Errno::PERM);
    assert_eq!(error_of(File::create(path.join("new"))), Errno::PERM);
    assert_eq!(error_of(std::fs::create_dir(path.join("new"))), Errno::PERM);
    assert_eq!(
        error_of(std::fs::rename(&disk, path.join("new"))),
        Errno::PERM
    );
    let linked = std::os::unix::fs::symlink("disk", path.join("new"));
    assert_eq!(error_of(linked), Errno::PERM);
    let status = File::options().write(true).open(directory.status());
    assert_eq!(error_of(status), Errno::ACCESS);
    // Space that is promised is nothing that a COW file has.
    let file = opened(&disk);
    let promised = fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 512);
    assert_eq!(promised, Err(Errno::OPNOTSUPP));
    let past = fallocate(&file, FallocateFlags::ZERO_RANGE, SIZE - 512, 1024);
    assert_eq!(past, Err(Errno::NOSPC));
    fallocate(&file, PUNCH, SIZE - 512, 1024).unwrap();
    assert_eq!(file.metadata().unwrap().len(), SIZE);
    server.stop();
}

#[test]
fn data_and_holes_are_where_they_are_told() {
    const BLOCK: usize = 4096;
    let sandbox = Sandbox::new();
    let mut disk = vec![0; SIZE as usize];
    disk[..16 * BLOCK].fill(1);
    disk[100 * BLOCK..101 * BLOCK].fill(2);
    sandbox.write("backing", &disk);
    sandbox.touch("backing", 1_050_000_000);
    sandbox.create_cow("cow", "backing");
    let Some(directory) = Directory::new(&sandbox, "m") else {
        return;
    };
    let server = served(&sandbox, &[]);
    let file = opened(&directory.disk());
    let sector = 200 * BLOCK + 512;
    file.write_all_at(&[3; 512], sector as u64).unwrap();
    fallocate(&file, PUNCH, 4 * BLOCK as u64, 4 * BLOCK as u64).unwrap();
    file.sync_all().unwrap();
    let seek = |to| rustix::fs::seek(&file, to);
    let mut found = Vec::new();
    let mut at = 0;
    while let Ok(data) = seek(SeekFrom::Data(at)) {
        at = seek(SeekFrom::Hole(data)).unwrap();
        found.push((data as usize, at as usize));
    }
    assert_eq!(
        found,
        [
            (0, 4 * BLOCK),
            (8 * BLOCK, 16 * BLOCK),
            (100 * BLOCK, 101 * BLOCK),
            (sector, sector + 512),
        ]
    );
    // Within what is looked for, each byte is one.
    assert_eq!(seek(SeekFrom::Data(100)), Ok(100));
    assert_eq!(seek(SeekFrom::Hole(SIZE - 7)), Ok(SIZE - 7));
    file.write_all_at(&[4], SIZE - 1).unwrap();
    assert_eq!(seek(SeekFrom::Hole(SIZE - 1)), Ok(SIZE));
    assert_eq!(seek(SeekFrom::Data(SIZE)), Err(Errno::NXIO));
    assert_eq!(seek(SeekFrom::Hole(SIZE + 1)), Err(Errno::NXIO));
    server.stop();
}

#[test]
fn the_status_is_a_document_that_does_not_change_while_it_is_read() {
    let sandbox = Sandbox::with_device();
    let Some(directory) = Directory::new(&sandbox, "m") else {
        return;
    };
    let server = served(&sandbox, &[]);
    let parsed = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
    let mut before = File::open(directory.status()).unwrap();
    let len = before.metadata().unwrap().len();
    let mut begun = vec![0; 10];
    before.read_exact(&mut begun).unwrap();
    let file = opened(&directory.disk());
    for at in 0..64 {
        file.write_all_at(&[9; 512], at * 4096).unwrap();
    }
    before.read_to_end(&mut begun).unwrap();
    assert_eq!(begun.len() as u64, len);
    assert_eq!(parsed(&begun)["dirty_bytes"], 0);
    drop(before);
    let status = parsed(&read(&directory.status()));
    assert_eq!(status["size_bytes"], SIZE);
    assert_eq!(status["dirty_bytes"], 64 * 512);
    assert_eq!(status["clients"][0]["requests"], 64);
    assert_eq!(status["failed_sync"], false);
    assert_eq!(status["in_flight"], 0);
    let name = status["clients"][0]["name"].as_str().unwrap();
    assert!(name.starts_with("FUSE at /"), "{name}");
    server.stop();
}

#[test]
fn what_is_asked_to_be_durable_is_synced_when_it_is_answered() {
    let sandbox = Sandbox::with_device();
    let Some(directory) = Directory::new(&sandbox, "m") else {
        return;
    };
    let server = served(&sandbox, &[]);
    let syncs = || {
        let status: serde_json::Value = serde_json::from_slice(&read(&directory.status())).unwrap();
        status["syncs"].as_u64().unwrap()
    };
    let file = opened(&directory.disk());
    file.write_all_at(&[1; 512], 0).unwrap();
    assert_eq!(syncs(), 0);
    file.sync_data().unwrap();
    let after_sync = syncs();
    assert!(after_sync > 0);
    let mut options = File::options();
    options.write(true).custom_flags(OFlag::O_DSYNC.bits());
    let durable = options.open(directory.disk()).unwrap();
    durable.write_all_at(&[2; 512], 0).unwrap();
    let after_write = syncs();
    assert!(after_write > after_sync);
    fallocate(&durable, PUNCH, 8192, 4096).unwrap();
    assert!(syncs() > after_write);
    server.stop();
}

#[test]
fn a_full_disk_is_an_error_and_the_device_lives() {
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", 4 * SIZE);
    let Some(directory) = Directory::new(&sandbox, "m") else {
        return;
    };
    std::fs::create_dir(sandbox.path("small")).unwrap();
    let small = sandbox.path("small");
    let _small = Mounted::tmpfs(&small, SIZE).unwrap();
    sandbox.create_cow("small/cow", "backing");
    let server = Server::start(&sandbox, &["@small/cow", "--fuse", "@m"]);
    let file = opened(&directory.disk());
    let block = [5; 65_536];
    // The page of the bitmap has its place from here on, and the rest may be full.
    file.write_all_at(&block, 0).unwrap();
    file.sync_all().unwrap();
    let full = (0..64).find_map(|n| file.write_all_at(&block, n * 65_536).err());
    assert_eq!(full.unwrap().kind(), ErrorKind::StorageFull);
    let mut found = [0; 512];
    file.read_exact_at(&mut found, 0).unwrap();
    assert_eq!(found, [5; 512]);
    file.read_exact_at(&mut found, 4 * SIZE - 512).unwrap();
    assert_eq!(found[..8], ((4 * SIZE - 512) / 8).to_le_bytes());
    file.sync_all().unwrap();
    server.stop();
}
