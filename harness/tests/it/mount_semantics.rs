//! What a mounted simulated directory is to a program, beside what random operations show.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::process::Command;

use driver::host::OperationKind;
use driver::units::FileOffset;
use harness::mount::{Limits, MountedTree, TreeMount};
use harness::sim::Assumptions;
use harness::sim::tree::{
    Attributes, EntryName, Moment, NewNode, ROOT, Recorded, Tree, TreeChange,
};
use nix::fcntl::OFlag;
use rustix::fs::{
    CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags, SeekFrom, XattrFlags, fallocate,
    mknodat, open, renameat_with, seek, setxattr,
};
use rustix::io::{Errno, ReadWriteFlags, pwritev2};

use crate::support::cli::{Sandbox, TOO_LONG, output};
use crate::support::fuse::Directory;
use crate::support::peers::peer;
use crate::support::tree_mount::MountedDirectory;
use crate::support::waits::elsewhere;

fn mounted(sandbox: &Sandbox) -> Option<MountedDirectory> {
    MountedDirectory::new(sandbox, "m", Limits::default())
}

fn kinds(log: &[Recorded]) -> Vec<OperationKind> {
    log.iter().map(|recorded| recorded.kind).collect()
}

#[test]
fn a_file_without_a_name_lives_as_long_as_it_is_open() {
    let sandbox = Sandbox::new();
    let Some(mounted) = mounted(&sandbox) else {
        return;
    };
    let mut file = File::create_new(mounted.join("f")).unwrap();
    file.write_all(b"one").unwrap();
    std::fs::remove_file(mounted.join("f")).unwrap();
    File::open(mounted.path()).unwrap().sync_all().unwrap();
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    file.write_all(b"two").unwrap();
    file.sync_all().unwrap();
    assert_eq!(file.metadata().unwrap().len(), 6);
    File::create_new(mounted.join("f")).unwrap();
}

/// Each waits for its own answer: one that is asked later may have it first.
#[test]
fn two_requests_are_outstanding_at_once() {
    let sandbox = Sandbox::new();
    let Some(directory) = Directory::new(&sandbox, "m") else {
        return;
    };
    let mount = TreeMount::on(directory.path()).unwrap();
    let mut tree = MountedTree::new(Tree::new(Assumptions::default()), Limits::default());
    let looks = ["a", "b"].map(|name| {
        let path = directory.path().join(name);
        elsewhere(move || std::fs::metadata(path).unwrap_err().kind())
    });
    let next = || mount.next(TOO_LONG).expect("nothing more is asked");
    let (first, second) = (next(), next());
    let have_ended = || looks.each_ref().map(|look| look.try_recv().ok());
    assert_eq!(have_ended(), [None, None]);
    second(&mut tree);
    // All that the same one asks after that is answered, too, and the first one is not.
    let not_found = Some(std::io::ErrorKind::NotFound);
    let other = loop {
        match have_ended() {
            [None, None] => mount.serve_waiting(&mut tree),
            [one, None] if one == not_found => break &looks[1],
            [None, one] if one == not_found => break &looks[0],
            ended => panic!("{ended:?}"),
        }
    };
    first(&mut tree);
    let ended = loop {
        match other.try_recv() {
            Ok(ended) => break ended,
            Err(_) => mount.serve_waiting(&mut tree),
        }
    };
    assert_eq!(Some(ended), not_found);
}

#[test]
fn modes_owners_times_and_links_are_kept() {
    let sandbox = Sandbox::new();
    let Some(mounted) = mounted(&sandbox) else {
        return;
    };
    std::fs::create_dir(mounted.join("d")).unwrap();
    let path = mounted.join("d/f");
    std::fs::write(&path, "content").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(&path, Some(12), Some(34)).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_050_000_000, 5);
    File::open(&path).unwrap().set_modified(time).unwrap();
    let found = std::fs::metadata(&path).unwrap();
    assert_eq!(
        (found.uid(), found.gid(), found.mode()),
        (12, 34, 0o100_640)
    );
    assert_eq!(found.modified().unwrap(), time);
    symlink("d/f", mounted.join("l")).unwrap();
    assert_eq!(std::fs::read(mounted.join("l")).unwrap(), b"content");
    std::fs::hard_link(&path, mounted.join("h")).unwrap();
    assert_eq!(std::fs::metadata(mounted.join("h")).unwrap().nlink(), 2);
    let error = std::fs::remove_dir(mounted.join("d")).unwrap_err();
    assert_eq!(Errno::from_io_error(&error), Some(Errno::NOTEMPTY));
    let error = std::fs::rename(mounted.join("d"), mounted.join("d/within")).unwrap_err();
    assert_eq!(Errno::from_io_error(&error), Some(Errno::INVAL));
    std::fs::rename(&path, mounted.join("h2")).unwrap();
    std::fs::remove_dir(mounted.join("d")).unwrap();
    let names = std::fs::read_dir(mounted.path()).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["h", "h2", "l"]);
}

/// More than fit into one answer to the kernel, removed while they are listed.
#[test]
fn a_large_directory_is_listed_whole_while_it_is_emptied() {
    let sandbox = Sandbox::new();
    let Some(mounted) = mounted(&sandbox) else {
        return;
    };
    for number in 0..1000 {
        File::create_new(mounted.join(&format!("a-rather-long-name-{number}"))).unwrap();
    }
    let mut listed = 0;
    for entry in std::fs::read_dir(mounted.path()).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
        listed += 1;
    }
    assert_eq!(listed, 1000);
    assert_eq!(std::fs::read_dir(mounted.path()).unwrap().count(), 0);
}

#[test]
fn what_is_written_with_o_dsync_is_followed_by_a_sync() {
    let sandbox = Sandbox::new();
    let Some(mounted) = mounted(&sandbox) else {
        return;
    };
    let mut options = OpenOptions::new();
    options.write(true).create(true);
    for flags in [OFlag::empty(), OFlag::O_DSYNC, OFlag::O_SYNC] {
        let options = options.custom_flags(flags.bits());
        let file = options.open(mounted.join("f")).unwrap();
        file.write_all_at(b"x", 7).unwrap();
    }
    // Each write may ask for it by itself.
    let file = options.custom_flags(0).open(mounted.join("f")).unwrap();
    for flags in [ReadWriteFlags::DSYNC, ReadWriteFlags::SYNC] {
        let data = std::io::IoSlice::new(b"y");
        assert_eq!(pwritev2(&file, &[data], 9, flags), Ok(1));
    }
    file.write_all_at(b"z", 11).unwrap();
    use OperationKind::{CreateNew, SyncData, Write};
    let by_opening = [CreateNew, Write, Write, SyncData, Write, SyncData];
    let by_write = [Write, SyncData, Write, SyncData, Write];
    let expected = [&by_opening[..], &by_write].concat();
    assert_eq!(kinds(&mounted.end()), expected);
}

#[test]
fn what_the_program_writes_is_in_the_log_with_its_bytes_and_its_syncs() {
    let sandbox = Sandbox::new();
    let Some(mounted) = mounted(&sandbox) else {
        return;
    };
    let mut file = File::create_new(mounted.join("new")).unwrap();
    file.write_all(b"bytes").unwrap();
    file.sync_data().unwrap();
    std::fs::rename(mounted.join("new"), mounted.join("old")).unwrap();
    File::open(mounted.path()).unwrap().sync_all().unwrap();
    let log = mounted.end();
    use OperationKind::{CreateNew, Rename, SyncData, SyncDirectory, Write};
    let expected = [CreateNew, Write, SyncData, Rename, SyncDirectory];
    assert_eq!(kinds(&log), expected);
    assert!(matches!(&log[1].change, TreeChange::Write { data, .. } if **data == *b"bytes"));
}

#[test]
fn limits_end_in_no_space_and_not_in_memory() {
    let sandbox = Sandbox::new();
    let limits = Limits {
        nodes: 4,
        bytes: 1 << 20,
        changes: 1000,
        logged: (3 << 20) + 100,
    };
    let Some(mounted) = MountedDirectory::new(&sandbox, "m", limits) else {
        return;
    };
    let no_space = |error: std::io::Error| Errno::from_io_error(&error) == Some(Errno::NOSPC);
    let file = File::create_new(mounted.join("f")).unwrap();
    file.write_all_at(&vec![1; 1 << 20], 0).unwrap();
    assert!(no_space(file.write_all_at(&[1], 1 << 20).unwrap_err()));
    // What is there can be written again, until the log is full.
    file.write_all_at(&vec![2; 1 << 20], 0).unwrap();
    file.set_len(0).unwrap();
    file.write_all_at(&vec![3; 1 << 20], 0).unwrap();
    file.set_len(0).unwrap();
    assert!(no_space(file.write_all_at(&[4; 4096], 0).unwrap_err()));
    File::create_new(mounted.join("g")).unwrap();
    File::create_new(mounted.join("h")).unwrap();
    assert!(no_space(File::create_new(mounted.join("i")).unwrap_err()));
}

/// Each is kept in the log, whatever becomes of it.
#[test]
fn links_and_names_end_in_no_space_and_not_in_memory() {
    let limits = |logged| Limits {
        logged,
        ..Limits::default()
    };
    let until_no_space = |mut attempt: Box<dyn FnMut() -> std::io::Result<()>>| {
        for done in 0..1000 {
            if let Err(error) = attempt() {
                assert_eq!(Errno::from_io_error(&error), Some(Errno::NOSPC));
                return done;
            }
        }
        1000
    };
    let sandbox = Sandbox::new();
    let Some(links) = MountedDirectory::new(&sandbox, "links", limits(100_000)) else {
        return;
    };
    let (target, link) = ("t".repeat(3998), links.join("l"));
    // 3999 bytes to make it, and one to remove it.
    let made = until_no_space(Box::new(move || {
        symlink(&target, &link).and_then(|()| std::fs::remove_file(&link))
    }));
    assert_eq!(made, 25);
    let Some(names) = MountedDirectory::new(&sandbox, "names", limits(10_000)) else {
        return;
    };
    let [mut from, mut to] = ["a", "b"].map(|name| names.join(&name.repeat(250)));
    File::create_new(&from).unwrap();
    let renamed = until_no_space(Box::new(move || {
        std::fs::rename(&from, &to)?;
        std::mem::swap(&mut from, &mut to);
        Ok(())
    }));
    assert_eq!(renamed, (10_000 - 250) / 500);
}

/// As on ext4: the space is no data, nobody else gets it, and it is given back with the file's end.
#[test]
fn space_that_is_allocated_ahead_counts_and_is_there_when_it_is_needed() {
    const HALF: u64 = 512 << 10;
    let sandbox = Sandbox::new();
    let limits = Limits {
        bytes: 2 * HALF,
        ..Limits::default()
    };
    let Some(mounted) = MountedDirectory::new(&sandbox, "m", limits) else {
        return;
    };
    let create = |name| {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create_new(true);
        options.open(mounted.join(name)).unwrap()
    };
    let (ahead, other) = (create("ahead"), create("other"));
    let (all, keeps_size) = (FallocateFlags::empty(), FallocateFlags::KEEP_SIZE);
    fallocate(&ahead, keeps_size, 0, HALF).unwrap();
    assert_eq!(ahead.metadata().unwrap().len(), 0);
    fallocate(&ahead, all, 0, HALF).unwrap();
    let found = ahead.metadata().unwrap();
    assert_eq!((found.len(), found.blocks() * 512), (HALF, HALF));
    assert_eq!(seek(&ahead, SeekFrom::Data(0)), Err(Errno::NXIO));
    other.write_all_at(&vec![1; HALF as usize], 0).unwrap();
    let no_space = other.write_all_at(&[1], HALF).unwrap_err();
    assert_eq!(Errno::from_io_error(&no_space), Some(Errno::NOSPC));
    let more = fallocate(&ahead, all, 4096, HALF);
    assert_eq!(more, Err(Errno::NOSPC));
    assert_eq!(ahead.metadata().unwrap().len(), HALF);
    ahead.write_all_at(&vec![2; HALF as usize], 0).unwrap();
    ahead.set_len(0).unwrap();
    other.write_all_at(&[1], HALF).unwrap();
}

#[test]
fn zeroing_a_range_leaves_zeros_and_the_length_that_was_asked_for() {
    let sandbox = Sandbox::new();
    let Some(mounted) = mounted(&sandbox) else {
        return;
    };
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create_new(true);
    let file = options.open(mounted.join("f")).unwrap();
    let mut expected = vec![7; 9000];
    file.write_all_at(&expected, 0).unwrap();
    let (zeroes, keeps_size) = (FallocateFlags::ZERO_RANGE, FallocateFlags::KEEP_SIZE);
    for (flags, at, len, becomes) in [
        (zeroes | keeps_size, 4000, 2000, 9000),
        (zeroes, 8000, 4000, 12_000),
        (zeroes | keeps_size, 11_000, 9000, 12_000),
        (zeroes, 0, 10, 12_000),
    ] {
        fallocate(&file, flags, at, len).unwrap();
        expected.resize(becomes, 0);
        let end = becomes.min((at + len) as usize);
        expected[at as usize..end].fill(0);
        let found = std::fs::read(mounted.join("f")).unwrap();
        assert!(
            found == expected,
            "{flags:?} {at}+{len}: {} bytes",
            found.len()
        );
    }
}

/// The rows of the page's table of what is refused, in order.
fn refused_by_the_page() -> Vec<(&'static str, &'static str)> {
    let page = include_str!("../../../docs/crash.md");
    let (_, table) = page.split_once("\n| what | error |\n|---|---|\n").unwrap();
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    let row = |line: &'static str| line.trim_matches('|').rsplit_once('|').unwrap();
    rows.map(row)
        .map(|(what, error)| (what.trim(), error.trim()))
        .collect()
}

#[test]
fn what_the_page_says_is_refused_is_refused_like_that() {
    let sandbox = Sandbox::new();
    let Some(mounted) = mounted(&sandbox) else {
        return;
    };
    let file = File::create_new(mounted.join("f")).unwrap();
    file.set_len(16_384).unwrap();
    let node = |kind| mknodat(CWD, mounted.join("n"), kind, Mode::RUSR, 0);
    let attribute =
        |name, value: &[u8]| setxattr(mounted.join("f"), name, value, XattrFlags::empty());
    // What mode 0644 is as an access list, of version 2: tags, permissions, and of whom.
    let entry = |tag: u16, permissions: u16| [tag, permissions, u16::MAX, u16::MAX];
    let entries = [entry(1, 6), entry(4, 4), entry(0x20, 4)];
    let entries = entries.as_flattened().iter();
    let list = [2_u16, 0].iter().chain(entries);
    let list: Vec<u8> = list.flat_map(|word| word.to_le_bytes()).collect();
    let whiteout = || {
        let (from, to) = (mounted.join("f"), mounted.join("g"));
        renameat_with(CWD, from, CWD, to, RenameFlags::WHITEOUT)
    };
    let nameless = || {
        let flags = OFlags::TMPFILE | OFlags::RDWR;
        open(mounted.path(), flags, Mode::RUSR).map(drop)
    };
    let moves = |flags| fallocate(&file, flags, 4096, 4096);
    let attempts = [
        (
            "FIFOs, sockets and device nodes",
            vec![
                node(FileType::Fifo),
                node(FileType::Socket),
                node(FileType::CharacterDevice),
            ],
        ),
        (
            "a name that leaves a whiteout (`RENAME_WHITEOUT`)",
            vec![whiteout()],
        ),
        (
            "extended attributes and access lists",
            vec![
                attribute("user.a", b"1"),
                attribute("system.posix_acl_access", &list),
            ],
        ),
        ("files without a name (`O_TMPFILE`)", vec![nameless()]),
        (
            "`fallocate` that moves data (`FALLOC_FL_COLLAPSE_RANGE`, `FALLOC_FL_INSERT_RANGE`)",
            vec![
                moves(FallocateFlags::COLLAPSE_RANGE),
                moves(FallocateFlags::INSERT_RANGE),
            ],
        ),
    ];
    let told = |error: &Errno| match *error {
        Errno::OPNOTSUPP => "EOPNOTSUPP".to_owned(),
        Errno::INVAL => "EINVAL".to_owned(),
        other => other.to_string(),
    };
    let page = refused_by_the_page();
    assert_eq!(page.len(), attempts.len());
    for ((what, error), (attempted, found)) in page.into_iter().zip(attempts) {
        assert_eq!(what, attempted);
        for found in found {
            let found = found.as_ref().map_err(told).err();
            assert_eq!(found.as_deref(), Some(error), "{what}");
        }
    }
}

/// A directory with one file in it, which has the first number that there is.
fn with_one_file(name: &str, content: &[u8]) -> Tree {
    let mut tree = Tree::new(Assumptions::default());
    let file = tree.next_number();
    let create = TreeChange::Create {
        name: EntryName {
            directory: ROOT,
            name: name.into(),
        },
        node: file,
        what: NewNode::File,
        attributes: Attributes {
            mode: Some(0o644),
            ..Attributes::default()
        },
    };
    let write = TreeChange::Write {
        file,
        at: FileOffset(0),
        data: content.into(),
    };
    for (index, change) in [create, write].iter().enumerate() {
        let done = tree.carry_out(index as u64, Moment::default(), change);
        done.unwrap();
    }
    tree
}

/// Nothing is kept of names, attributes or content, although numbers are the same.
#[test]
fn another_directory_is_seen_at_once() {
    let sandbox = Sandbox::new();
    let Some(mounted) = mounted(&sandbox) else {
        return;
    };
    let names = || {
        let entries = std::fs::read_dir(mounted.path()).unwrap();
        let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names
    };
    let mut numbers = Vec::new();
    let mut open = None;
    for (name, content) in [
        ("f", &b"first"[..]),
        ("f", b"longer than the first"),
        ("f", b""),
        ("g", b"under another name"),
    ] {
        mounted.with(move |tree| tree.show(with_one_file(name, content)));
        assert_eq!(names(), [name]);
        assert_eq!(std::fs::read(mounted.join(name)).unwrap(), content);
        let found = std::fs::metadata(mounted.join(name)).unwrap();
        assert_eq!(found.len(), content.len() as u64);
        numbers.push(found.ino());
        // Of the one before nothing can be read any more.
        if let Some(before) = open.replace(File::open(mounted.join(name)).unwrap()) {
            before.read_at(&mut [0; 1], 0).unwrap_err();
        }
    }
    assert!(!mounted.join("f").exists());
    numbers.dedup();
    assert_eq!(numbers.len(), 1, "{numbers:?}");
}

/// A program of another language, because a mapping is nothing that is safe here.
const MAPS: &str = r#"
import fcntl, mmap, os, subprocess, sys
f = os.open("f", os.O_RDWR | os.O_CREAT)
os.write(f, b"a" * 8192)
private = mmap.mmap(f, 8192, flags=mmap.MAP_PRIVATE)
assert private[4096:4100] == b"aaaa"
private[0:4] = b"mine"
assert os.pread(f, 4, 0) == b"aaaa"
# What is changed after a mapping was read is in the next one.
os.pwrite(f, b"late", 4096)
later = mmap.mmap(f, 8192, flags=mmap.MAP_PRIVATE)
assert later[4096:4100] == b"late"
assert later[0:4] == b"aaaa"
try:
    shared = mmap.mmap(f, 8192, flags=mmap.MAP_SHARED)
except OSError as error:
    print("refused", error)
else:
    shared[4096:4100] = b"ours"
    shared.flush()
    assert os.pread(f, 4, 4096) == b"ours"
# A lock of another process, POSIX and OFD (37 is F_OFD_SETLK).
fcntl.lockf(f, fcntl.LOCK_EX, 10)
other = """
import fcntl, os, struct, sys
f = os.open("f", os.O_RDWR)
def locked(attempt):
    try:
        attempt()
        return False
    except OSError:
        return True
assert locked(lambda: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10))
ofd = struct.pack("hhqqi", fcntl.F_WRLCK, 0, 0, 10, 0)
assert locked(lambda: fcntl.fcntl(f, 37, ofd))
assert not locked(lambda: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 10))
"""
subprocess.run([sys.executable, "-c", other], check=True)
os.close(f)
"#;

#[test]
fn mappings_and_locks_work_as_on_any_file_system() {
    let Some(python) = peer("python3") else {
        return;
    };
    let sandbox = Sandbox::new();
    let Some(mounted) = mounted(&sandbox) else {
        return;
    };
    let mut command = Command::new(python);
    command.arg("-c").arg(MAPS).current_dir(mounted.path());
    let done = output(&mut command);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
}
