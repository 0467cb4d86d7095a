//! What only a real host has: other processes' locks, FIFOs, modes, shared extents.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use driver::host::{Access, FileKind, HostError, HostFile, HostNames, LockKind, Replace};
use driver::units::{Bytes, FileOffset, FileRange};
use userhelper::image_host::ImageHost;
use userhelper::real_files::{RealHost, free_space};

/// Takes a POSIX lock over the whole file as UML does, says whether it got it, and
/// keeps it until its input ends.
const POSIX_LOCKER: &str = "
import fcntl, sys
file = open(sys.argv[1], 'r+b')
kind = fcntl.LOCK_EX if sys.argv[2] == 'exclusive' else fcntl.LOCK_SH
try:
    fcntl.lockf(file, kind | fcntl.LOCK_NB)
    print('locked', flush=True)
    sys.stdin.read()
except OSError:
    print('refused', flush=True)
";

/// Runs `meanwhile` while another process has, or was refused, the lock.
fn with_posix_lock(path: &Path, kind: &str, meanwhile: impl FnOnce(&str)) {
    let mut locker = Command::new("python3")
        .args(["-c", POSIX_LOCKER])
        .arg(path)
        .arg(kind)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answer = String::new();
    let mut answers = BufReader::new(locker.stdout.take().unwrap());
    answers.read_line(&mut answer).unwrap();
    meanwhile(answer.trim());
    drop(locker.stdin.take());
    assert!(locker.wait().unwrap().success());
}

#[test]
fn a_lock_and_the_posix_lock_of_another_process_exclude_each_other() {
    if Command::new("python3").arg("-V").output().is_err() {
        eprintln!("skipped: no python3 to take the POSIX lock");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cow");
    fs::write(&path, b"content").unwrap();
    let open = || RealHost.open(&path, Access::ReadWrite).unwrap();
    let cases = [
        (LockKind::Shared, "shared", true),
        (LockKind::Shared, "exclusive", false),
        (LockKind::Exclusive, "shared", false),
        (LockKind::Exclusive, "exclusive", false),
    ];
    for (ours, theirs, compatible) in cases {
        let file = open();
        RealHost.lock(&file, ours).unwrap();
        // Closing another descriptor of the file would drop a POSIX lock.
        drop(open());
        let expected = if compatible { "locked" } else { "refused" };
        with_posix_lock(&path, theirs, |answer| {
            assert_eq!(answer, expected, "{theirs} after our {ours:?}");
        });
        drop(file);

        with_posix_lock(&path, theirs, |answer| {
            assert_eq!(answer, "locked");
            let expected = match compatible {
                true => Ok(()),
                false => Err(HostError::Locked),
            };
            assert_eq!(
                RealHost.lock(&open(), ours),
                expected,
                "{ours:?} after {theirs}"
            );
        });
        RealHost.lock(&open(), ours).unwrap();
    }
}

#[test]
fn a_fifo_does_not_block_and_is_no_disk() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let fifo = RealHost.open(&path, access).unwrap();
        assert_eq!(RealHost.metadata(&fifo).unwrap().kind, FileKind::Other);
        assert!(fifo.read_at(&mut [0], FileOffset(0)).is_err());
    }
}

#[test]
fn a_directory_is_recognised() {
    let directory = tempfile::tempdir().unwrap();
    let opened = RealHost.open(directory.path(), Access::ReadOnly).unwrap();
    let metadata = RealHost.metadata(&opened).unwrap();
    assert_eq!(metadata.kind, FileKind::Directory);
}

#[test]
fn owner_and_mode_are_copied_and_the_time_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("from"), directory.path().join("to"));
    let source = RealHost.create_new(&from).unwrap();
    let target = RealHost.create_new(&to).unwrap();
    fs::set_permissions(&from, fs::Permissions::from_mode(0o640)).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_060_000_000);
    fs::File::options()
        .write(true)
        .open(&from)
        .unwrap()
        .set_modified(time)
        .unwrap();
    let made = fs::metadata(&to).unwrap();
    RealHost.copy_attributes(&source, &target).unwrap();
    let copied = fs::metadata(&to).unwrap();
    assert_eq!(copied.mode() & 0o7777, 0o640);
    assert_eq!(
        (copied.mtime(), copied.mtime_nsec()),
        (made.mtime(), made.mtime_nsec())
    );
}

#[test]
fn a_clone_has_the_content_or_is_not_supported() {
    let directory = tempfile::tempdir().unwrap();
    let source = RealHost.create_new(&directory.path().join("a")).unwrap();
    let target = RealHost.create_new(&directory.path().join("b")).unwrap();
    let data: Vec<u8> = (0..256 * 1024_u32).map(|at| (at % 251) as u8).collect();
    source.write_all_at(&data, FileOffset(0)).unwrap();
    let part = FileRange::new(FileOffset(65536), Bytes(131_072));
    match target.clone_range(&source, part, FileOffset(0)) {
        Ok(()) => {
            let mut copy = vec![0; 131_072];
            target.read_exact_at(&mut copy, FileOffset(0)).unwrap();
            assert!(copy == data[65536..65536 + 131_072]);
            // Clones nothing; to the system call 0 would mean all the rest.
            let nothing = FileRange::new(FileOffset(0), Bytes(0));
            target
                .clone_range(&source, nothing, FileOffset(1 << 20))
                .unwrap();
            assert_eq!(target.len(), Ok(Bytes(131_072)));
            let askew = FileRange::new(FileOffset(1), Bytes(4096));
            let refused = target.clone_range(&source, askew, FileOffset(0));
            assert_eq!(refused, Err(HostError::Unsupported));
        }
        Err(error) => {
            assert_eq!(error, HostError::Unsupported);
            eprintln!("skipped: this file system shares no extents");
        }
    }
}

#[test]
fn free_space_is_that_of_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("not/there");
    assert_eq!(free_space(&missing), Err(HostError::NotFound));
    let beside = RealHost.free_space_beside(&directory.path().join("new"));
    assert!(
        beside
            .unwrap()
            .is_some_and(|space| space.free > Bytes(0) && space.block.0.is_power_of_two())
    );
    assert!(RealHost.free_space_beside(Path::new("new")).is_ok());
}

#[test]
fn a_name_without_a_directory_lies_where_we_are() {
    RealHost.sync_directory_of(Path::new("cow")).unwrap();
    RealHost.sync_directory_of(Path::new("/")).unwrap();
    assert_eq!(
        RealHost.sync_directory_of(Path::new("no/such/directory/cow")),
        Err(HostError::NotFound)
    );
}

#[test]
fn a_symbolic_link_is_followed_and_a_rename_replaces_the_link() {
    let directory = tempfile::tempdir().unwrap();
    let (file, link) = (directory.path().join("file"), directory.path().join("link"));
    fs::File::create(&file)
        .unwrap()
        .write_all(b"content")
        .unwrap();
    std::os::unix::fs::symlink("file", &link).unwrap();
    let through = RealHost.open(&link, Access::ReadOnly).unwrap();
    assert_eq!(through.len(), Ok(Bytes(7)));
    let direct = RealHost.open(&file, Access::ReadOnly).unwrap();
    assert_eq!(
        RealHost.metadata(&through).unwrap().identity,
        RealHost.metadata(&direct).unwrap().identity
    );
    let new = directory.path().join("new");
    fs::write(&new, b"new").unwrap();
    assert_eq!(
        RealHost.rename(&new, &link, Replace::Nothing),
        Err(HostError::AlreadyExists)
    );
    RealHost.rename(&new, &link, Replace::Existing).unwrap();
    assert_eq!(fs::read(&link).unwrap(), b"new");
    assert_eq!(fs::read(&file).unwrap(), b"content");
}

/// Between fork and exec another thread's child has every file of ours open, by the same
/// description: the lock goes with the file all the same.
#[test]
fn a_dropped_file_is_unlocked_at_once_while_processes_are_started() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let lock = || {
        let file = RealHost.open(file.path(), Access::ReadWrite).unwrap();
        RealHost.lock(&file, LockKind::Exclusive)
    };
    std::thread::scope(|scope| {
        let starting = scope.spawn(|| {
            for _ in 0..100 {
                std::process::Command::new("true").status().unwrap();
            }
        });
        while !starting.is_finished() {
            assert_eq!(lock(), Ok(()));
        }
    });
}
