//! File systems on a loop device over a device that is served as a file: they are written to while
//! it grows, and grow with it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

use harness::random::SplitMix64;

use crate::support::cli::{Sandbox, output};
use crate::support::fuse::Directory;
use crate::support::mounted::{Loop, Mounted, SharedMounts};
use crate::support::peers::peer;
use crate::support::server::Server;

const MIB: u64 = 1 << 20;

/// A file system, and how it is made, grown and checked.
struct FileSystem {
    /// Makes one on a device.
    make: (PathBuf, &'static [&'static str]),
    /// Grows the one that is mounted at a directory.
    grow: (PathBuf, &'static [&'static str]),
    /// Checks the one on a device.
    check: (PathBuf, &'static [&'static str]),
}

fn runs(command: &(PathBuf, &[&str]), on: &Path) {
    let output = output(Process::new(&command.0).args(command.1).arg(on));
    assert!(output.status.success(), "{output:?}");
}

/// What is in the file of this number.
fn content(number: u64) -> Vec<u8> {
    let mut random = SplitMix64(number);
    let words = (0..MIB / 8).flat_map(|_| random.number().to_le_bytes());
    words.collect()
}

/// Names of files. Those that come later take the names of the first ones: however long the device
/// takes to grow on a machine that has other work, the file system does not get full meanwhile, and
/// what moves does not become more and more.
const NAMES: u64 = 32;

/// Files that are written before the device grows, and after that.
const BEFORE: u64 = 16;
const AFTERWARDS: u64 = 16;

fn name(directory: &Path, number: u64) -> PathBuf {
    directory.join((number % NAMES).to_string())
}

/// Looks at those of the written files that still have their names.
fn compare(directory: &Path, files: u64) {
    for number in files.saturating_sub(NAMES)..files {
        let found = std::fs::read(name(directory, number)).unwrap();
        assert!(found == content(number), "file {number} of {files}");
    }
}

/// Writes files, and says when those are there that come before the device grows. Ends with those
/// that come after nobody holds the other end of `grows`. How many they are.
fn write_files(directory: &Path, have_begun: &Sender<()>, grows: &Receiver<()>) -> u64 {
    let mut left = AFTERWARDS;
    let mut files = 0;
    while left > 0 {
        let file = File::create(name(directory, files)).unwrap();
        file.write_all_at(&content(files), 0).unwrap();
        file.sync_all().unwrap();
        files += 1;
        if files == BEFORE {
            have_begun.send(()).unwrap();
        }
        left -= u64::from(grows.try_recv() == Err(TryRecvError::Disconnected));
    }
    files
}

/// Makes a file system, and writes it while the device grows by `grow_by`, which is asked for by a
/// truncate or else over the control socket; then it is checked and compared.
fn grown_while_written(
    sandbox: &Sandbox,
    system: &FileSystem,
    directory: &Directory,
    direct: bool,
    by_truncate: bool,
) {
    const GROW_BY: u64 = 256 * MIB;
    let mounts = sandbox.path("mounts");
    let mounted_at = mounts.join("mnt");
    std::fs::create_dir_all(&mounted_at).unwrap();
    let _shared = SharedMounts::below(&mounts);
    let args = ["@cow", "--fuse", "@m", "--control", "@c"];
    let server = Server::start(sandbox, &args);
    let files;
    {
        let device = Loop::over(&directory.disk(), direct);
        runs(&system.make, device.device());
        let path = device.device().to_str().unwrap();
        let mounted = Mounted::with(&mounted_at, &[path]).unwrap();
        let blocks = || rustix::fs::statvfs(&mounted_at).unwrap().f_blocks;
        let before = blocks();
        files = std::thread::scope(|scope| {
            let (have_begun, begun) = channel();
            let (growing, grows) = channel();
            let at = &mounted_at;
            let written = scope.spawn(move || write_files(at, &have_begun, &grows));
            begun.recv().unwrap();
            let size = std::fs::metadata(directory.disk()).unwrap().len();
            if by_truncate {
                let disk = File::options().write(true).open(directory.disk());
                disk.unwrap().set_len(size + GROW_BY).unwrap();
            } else {
                sandbox.succeeds(&["ctl", "@c", "resize", "+256M"]);
            }
            device.look_at_size();
            runs(&system.grow, &mounted_at);
            drop(growing);
            written.join().unwrap()
        });
        assert!(blocks() > before, "{before}, then {}", blocks());
        mounted.end();
        runs(&system.check, device.device());
        let mounted = Mounted::with(&mounted_at, &[path]).unwrap();
        compare(&mounted_at, files);
        mounted.end();
    }
    server.stop();
    // What is in the COW file is what was written.
    let server = Server::start(sandbox, &args);
    let device = Loop::over(&directory.disk(), direct);
    runs(&system.check, device.device());
    let path = device.device().to_str().unwrap();
    let mounted = Mounted::with(&mounted_at, &[path]).unwrap();
    compare(&mounted_at, files);
    mounted.end();
    drop(device);
    server.stop();
}

/// A backing file of this size, all of it a hole.
fn write_empty_backing(sandbox: &Sandbox, size: u64) {
    let file = File::create(sandbox.path("backing")).unwrap();
    file.set_len(size).unwrap();
    sandbox.touch("backing", 1_050_000_000);
}

#[test]
fn xfs_grows_with_the_device_by_headroom() {
    let programs = ["mkfs.xfs", "xfs_growfs", "xfs_repair", "losetup"].map(peer);
    let [Some(make), Some(grow), Some(check), Some(_)] = programs else {
        return;
    };
    let sandbox = Sandbox::new();
    let Some(directory) = Directory::new(&sandbox, "m") else {
        return;
    };
    write_empty_backing(&sandbox, 320 * MIB);
    sandbox.run(&["image", "create", "@cow", "--backing", "@backing"]);
    let system = FileSystem {
        make: (make, &["-q"]),
        grow: (grow, &[]),
        check: (check, &["-n"]),
    };
    grown_while_written(&sandbox, &system, &directory, true, true);
}

/// There is no room for a longer bitmap: data moves.
#[test]
fn btrfs_grows_with_the_device_by_reflow() {
    let programs = ["mkfs.btrfs", "btrfs", "losetup"].map(peer);
    let [Some(make), Some(btrfs), Some(_)] = programs else {
        return;
    };
    let sandbox = Sandbox::new();
    let Some(directory) = Directory::new(&sandbox, "m") else {
        return;
    };
    write_empty_backing(&sandbox, 256 * MIB);
    sandbox.create_cow("cow", "backing");
    let system = FileSystem {
        make: (make, &["-q"]),
        grow: (btrfs.clone(), &["filesystem", "resize", "max"]),
        check: (btrfs, &["check"]),
    };
    grown_while_written(&sandbox, &system, &directory, false, false);
}
