//! What belongs to a file that is replaced by a new one: attributes go along, and other names of it
//! are not left with the old one behind their owner's back.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{IFlags, XattrFlags, getxattr, ioctl_getflags, ioctl_setflags, setxattr};

use crate::support::cli::{SIZE, Sandbox};
use crate::support::mounted::Mounted;
use crate::support::share::share;

const NOTE: &str = "user.note";

/// Notes something on the file; `false` where the file system keeps no notes.
fn note(sandbox: &Sandbox, name: &str) -> bool {
    let set = setxattr(sandbox.path(name), NOTE, b"hello", XattrFlags::empty());
    if set.is_err() {
        eprintln!("skipped: this file system keeps no extended attributes");
    }
    set.is_ok()
}

fn noted(sandbox: &Sandbox, name: &str) -> Vec<u8> {
    let mut value = [0; 16];
    let len = getxattr(sandbox.path(name), NOTE, &mut value).unwrap();
    value[..len].to_vec()
}

#[test]
fn extended_attributes_go_along_with_a_rebuild() {
    let sandbox = Sandbox::with_device();
    if !note(&sandbox, "cow") {
        return;
    }
    let before = std::fs::metadata(sandbox.path("cow")).unwrap().ino();
    sandbox.succeeds(&["image", "resize", "@cow", "2M", "--strategy", "rebuild"]);
    assert_ne!(
        std::fs::metadata(sandbox.path("cow")).unwrap().ino(),
        before
    );
    assert_eq!(noted(&sandbox, "cow"), b"hello");
}

#[test]
fn extended_attributes_go_along_with_an_output_that_is_replaced() {
    let sandbox = Sandbox::with_device();
    sandbox.write("out", "of before");
    if !note(&sandbox, "out") {
        return;
    }
    sandbox.succeeds(&["trace", "convert", "@trace", "@out"]);
    assert_ne!(sandbox.read("out"), b"of before");
    assert_eq!(noted(&sandbox, "out"), b"hello");
}

/// The inode's attributes (`chattr`) of a file or directory.
fn flags(sandbox: &Sandbox, name: &str) -> IFlags {
    ioctl_getflags(File::open(sandbox.path(name)).unwrap()).unwrap_or(IFlags::empty())
}

/// Gives them to it, which may have them already; `false` where that cannot be.
fn give_flags(sandbox: &Sandbox, name: &str, wanted: IFlags) -> bool {
    let file = File::open(sandbox.path(name)).unwrap();
    let given = ioctl_setflags(file, flags(sandbox, name) | wanted).is_ok()
        && flags(sandbox, name).contains(wanted);
    if !given {
        eprintln!("skipped: no file has the attributes {wanted:?} here");
    }
    given
}

/// Makes the file anew with these attributes: C can be given to an empty file only.
fn with_flags(sandbox: &Sandbox, name: &str, wanted: IFlags) -> bool {
    let content = sandbox.read(name);
    std::fs::remove_file(sandbox.path(name)).unwrap();
    sandbox.write(name, "");
    let given = give_flags(sandbox, name, wanted);
    sandbox.write(name, content);
    given
}

/// Those that a file with content takes, and no others of the new file's directory.
#[test]
fn attributes_of_the_inode_go_along_where_a_file_is_replaced() {
    let sandbox = Sandbox::with_device();
    sandbox.write("out", "of before");
    let wanted = IFlags::NODUMP | IFlags::NOATIME;
    if !give_flags(&sandbox, "cow", wanted) || !give_flags(&sandbox, "out", wanted) {
        return;
    }
    sandbox.write("plain", "of before");
    sandbox.succeeds(&["image", "resize", "@cow", "2M", "--strategy", "rebuild"]);
    sandbox.succeeds(&["trace", "convert", "@trace", "@out"]);
    assert!(give_flags(&sandbox, "", IFlags::NODUMP));
    sandbox.succeeds(&["trace", "convert", "@trace", "@plain"]);
    for (name, expected) in [("cow", wanted), ("out", wanted), ("plain", IFlags::empty())] {
        assert_eq!(flags(&sandbox, name) & wanted, expected, "of {name}");
    }
}

/// C (no copy-on-write) holds for files that have got it while they were empty, and extents are
/// shared among such files only.
#[test]
fn a_file_without_copy_on_write_stays_one() {
    let sandbox = Sandbox::with_device();
    std::fs::create_dir(sandbox.path("disk")).unwrap();
    let at = sandbox.path("disk");
    let Some(_mounted) = Mounted::made(&at, &["mkfs.btrfs", "-q"], 128 << 20) else {
        return;
    };
    for (name, content) in [("disk/cow", "cow"), ("disk/out", "trace")] {
        sandbox.write(name, sandbox.read(content));
        assert!(with_flags(&sandbox, name, IFlags::NOCOW));
    }
    sandbox.succeeds(&[
        "image",
        "rebase",
        "--unsafe",
        "--backing",
        "@backing",
        "@disk/cow",
    ]);
    let resize = ["image", "resize", "@disk/cow", "2M"];
    let rebuild = [&resize[..], &["--strategy", "rebuild"]].concat();
    let inode = || std::fs::metadata(sandbox.path("disk/cow")).unwrap().ino();
    let before = inode();
    sandbox.succeeds(&rebuild);
    assert_ne!(inode(), before);
    sandbox.succeeds(&["trace", "convert", "@trace", "@disk/out"]);
    for name in ["disk/cow", "disk/out"] {
        assert!(flags(&sandbox, name).contains(IFlags::NOCOW), "of {name}");
    }
}

/// What is made in an append-only directory keeps its first name, which is not the one meant.
#[test]
fn nothing_temporary_is_made_where_it_could_not_get_its_name() {
    let sandbox = Sandbox::with_device();
    std::fs::create_dir(sandbox.path("log")).unwrap();
    for name in ["cow", "backing"] {
        std::fs::copy(sandbox.path(name), sandbox.path("log").join(name)).unwrap();
    }
    sandbox.succeeds(&[
        "image",
        "rebase",
        "--unsafe",
        "--backing",
        "@log/backing",
        "@log/cow",
    ]);
    let before = sandbox.contents();
    if !give_flags(&sandbox, "log", IFlags::APPEND) {
        return;
    }
    let fixed = "its directory is immutable or append-only (chattr -i -a)";
    let ran = [
        &["image", "resize", "@log/cow", "2M", "--strategy", "rebuild"][..],
        &["image", "create", "@log/new", "--backing", "@log/backing"],
        &["image", "convert", "@log/backing", "@log/raw"],
        &["trace", "generate", "@log/trace"],
    ]
    .map(|args| (args, sandbox.run(args)));
    let log = File::open(sandbox.path("log")).unwrap();
    ioctl_setflags(log, flags(&sandbox, "log") - IFlags::APPEND).unwrap();
    for (args, output) in ran {
        let said = sandbox.text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "of {args:?}: {said}");
        assert!(said.ends_with(&format!("{fixed}\n")), "of {args:?}: {said}");
    }
    assert!(sandbox.contents() == before);
}

#[test]
fn a_file_with_two_names_is_not_replaced_under_one() {
    let sandbox = Sandbox::with_device();
    let link = |from: &str, to: &str| {
        std::fs::hard_link(sandbox.path(from), sandbox.path(to)).unwrap();
    };
    link("cow", "second");
    let why = "only a regular file without a second name (hard link) can be replaced";
    let rebuild = ["image", "resize", "@cow", "20M", "--strategy", "rebuild"];
    sandbox.refuses(&rebuild, &format!("@cow: rebuild cannot do this: {why}"));
    // The planner takes another way, and the file keeps its names.
    let plan = sandbox.succeeds(&["image", "resize", "@cow", "20M", "--dry-run"]);
    assert!(plan.contains("strategy   reflow\n"), "{plan}");
    assert!(plan.contains(&format!("not by rebuild: {why}\n")), "{plan}");
    sandbox.succeeds(&["image", "resize", "@cow", "20M"]);
    assert!(sandbox.read("cow") == sandbox.read("second"));
    sandbox.write("out", "of before");
    link("out", "out2");
    sandbox.refuses(
        &["trace", "convert", "@trace", "@out"],
        "@out: writing: found a file with 2 names (hard links), and a new file would get only \
         this one; nothing was changed",
    );
}

#[test]
fn dirty_holes_are_not_moved_and_take_no_space() {
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", SIZE);
    sandbox.create_cow("cow", "backing");
    // The time goes into the bitmap of what the device is grown by. A plan writes none.
    let (old, new, told) = share(
        ("500G", "3T", "500 GiB to 3 TiB"),
        ("50G", "300G", "50 GiB to 300 GiB"),
    );
    sandbox.succeeds(&["image", "resize", "@cow", old]);
    let dry_run = ["image", "resize", "@cow", "3T", "--dry-run", "--strategy"];
    for strategy in ["rebuild", "reflow"] {
        let plan = sandbox.succeeds(&[&dry_run[..], &[strategy]].concat());
        assert!(plan.contains("\nmoves      0 bytes at most\n"), "{plan}");
    }
    let resize = ["image", "resize", "@cow", new, "--strategy", "rebuild"];
    let said = sandbox.succeeds(&resize);
    let expected = format!("@cow: {told} by rebuild, 0 bytes moved\n");
    assert!(said.starts_with(&expected), "{said}");
}
