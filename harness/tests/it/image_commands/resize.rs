//! `resize` by every strategy: the disk keeps what it holds, grows by zeros, and the file keeps
//! what else there is about it.

use std::fs::{File, FileTimes};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::time::{Duration, UNIX_EPOCH};

use driver::cow::Version;
use driver::units::Sector;
use harness::plain_format;
use userhelper::real_files::RealHost;

use crate::support::cli::{PROGRAM, SIZE, Sandbox, ftrace, output, side_by_side};
use crate::support::images::{SOME, VERSIONS, name_of, read};

const STRATEGIES: [&str; 3] = ["headroom", "rebuild", "reflow"];

/// Which strategies a version can be resized by.
fn possible(version: Version) -> &'static [&'static str] {
    match version {
        Version::V3 => &STRATEGIES,
        _ => &["rebuild"],
    }
}

/// The disk with as many zeros after it as it needs to be this large.
fn grown(mut disk: Vec<u8>, size: u64) -> Vec<u8> {
    disk.resize(size as usize, 0);
    disk
}

#[test]
fn a_grow_by_every_strategy_of_every_version() {
    for version in VERSIONS {
        for strategy in possible(version) {
            let sandbox = Sandbox::with_images();
            let name = name_of(version);
            let expected = grown(sandbox.disk(name, "backing"), 4 << 20);
            let others = sandbox.contents();
            let cow = format!("@{name}");
            let moved = if *strategy == "headroom" {
                "0 bytes"
            } else {
                "4.50 KiB"
            };
            assert_eq!(
                sandbox.succeeds_with_notes(&[
                    "image",
                    "resize",
                    &cow,
                    "4M",
                    "--strategy",
                    strategy
                ]),
                format!(
                    "{cow}: 1 MiB to 4 MiB by {strategy}, {moved} moved\n\
                     stock UML refuses it: it has 4 MiB, its backing file 1 MiB\n"
                )
            );
            assert!(
                sandbox.disk(name, "backing") == expected,
                "{version} {strategy}"
            );
            let cow_file = sandbox.read(name);
            let reader = read(&cow_file);
            let header = &reader.header;
            assert_eq!(
                (header.version, header.size),
                (plain_format::Version::V3, 4 << 20)
            );
            assert_eq!(reader.file_len(), reader.layout.end);
            sandbox.succeeds(&["image", "check", &cow]);
            let after = sandbox.contents();
            for (path, content) in &others {
                assert!(*path == sandbox.path(name) || after[path] == *content);
            }
            assert_eq!(others.len(), after.len(), "no other file");
        }
    }
}

#[test]
fn sizes_are_absolute_or_relative() {
    let sandbox = Sandbox::with_images();
    for (size, expected) in [
        ("+1M", 2 << 20),
        ("+512", (2 << 20) + 512),
        ("-512", 2 << 20),
        ("3M", 3 << 20),
        ("-1M", 2 << 20),
    ] {
        sandbox.succeeds(&["image", "resize", "@v3", size, "--shrink"]);
        let info = sandbox.json(&["image", "info", "@v3"]);
        assert_eq!(info["size_bytes"], expected, "{size}");
    }
    let said = sandbox.succeeds(&["image", "resize", "@v3", "2M"]);
    let stock = "stock UML refuses it: it has 2 MiB, its backing file 1 MiB\n";
    assert_eq!(said, format!("@v3: has 2 MiB already\n{stock}"));
}

#[test]
fn a_shrink_keeps_what_is_before_the_new_end() {
    for version in VERSIONS {
        let sandbox = Sandbox::with_images();
        let name = name_of(version);
        let expected = sandbox.disk(name, "backing");
        let cow = format!("@{name}");
        sandbox.refuses(
            &["image", "resize", &cow, "-512K"],
            &format!(
                "{cow}: 524288 bytes are less than the device's 1048576 bytes: a resize makes it \
                 smaller only with --shrink"
            ),
        );
        sandbox.refuses(
            &["image", "resize", &cow, "-512K", "--shrink"],
            &format!(
                "{cow}: 524288 bytes (512 KiB) of data lie past the new end, the first at sector 1024 (1536 of \
                 them in the COW file, 522752 in the backing file): they would be lost \
                 (--lose-data says that this is meant)"
            ),
        );
        sandbox.succeeds(&["image", "resize", &cow, "-512K", "--shrink", "--lose-data"]);
        assert!(sandbox.disk(name, "backing") == expected[..512 << 10]);
        sandbox.succeeds(&["image", "check", &cow]);
        // What comes back is zeros, not what was there.
        sandbox.succeeds(&["image", "resize", &cow, "1M"]);
        let expected = grown(expected[..512 << 10].to_vec(), SIZE);
        assert!(sandbox.disk(name, "backing") == expected, "{version}");
        sandbox.succeeds(&["image", "check", &cow]);
    }
}

/// The device would not show it again when it grows: new sectors are zeros.
#[test]
fn a_shrink_does_not_lose_what_only_the_backing_file_has() {
    for version in VERSIONS {
        let sandbox = Sandbox::new();
        sandbox.write_backing("backing", SIZE);
        let name = name_of(version);
        sandbox.write_image(name, version, "backing", &[]);
        let cow = format!("@{name}");
        let loss = "524288 bytes (512 KiB) of data lie past the new end, the first at sector 1024 (0 of them \
                    in the COW file, 524288 in the backing file)";
        let refused =
            format!("{cow}: {loss}: they would be lost (--lose-data says that this is meant)");
        let args = ["image", "resize", &cow, "512K", "--shrink"];
        sandbox.refuses(&args, &refused);
        sandbox.refuses(&[&args[..], &["--dry-run"]].concat(), &refused);
        sandbox.write("trace", ftrace(&[("R", 0, 8)]));
        let device = format!("ubda=@{name}");
        let live = ["replay", "@trace", "--device", &device, "--resize-at"];
        sandbox.refuses(
            &[&live[..], &["1:512K", "--shrink"]].concat(),
            &format!(
                "{cow}: resize to 524288 bytes before request 1: {}",
                &refused[cow.len() + 2..]
            ),
        );
        // It is still there.
        let backing = sandbox.read("backing");
        assert!(sandbox.disk(name, "backing") == backing);
        let losing = [&args[..], &["--lose-data"]].concat();
        let said = sandbox.succeeds(&[&losing[..], &["--dry-run"]].concat());
        assert!(said.ends_with(&format!("loss       {loss}\n")), "{said}");
        sandbox.succeeds(&losing);
        assert!(sandbox.disk(name, "backing") == backing[..512 << 10]);
    }
}

/// Zeros are what a grow brings, whether they are stored or a hole, and in whichever file.
#[test]
fn a_shrink_by_zeros_loses_nothing() {
    let sandbox = Sandbox::new();
    let mut backing = vec![1; SIZE as usize];
    // Zeros that are stored, and past them a hole.
    backing[512 << 10..].fill(0);
    sandbox.write("backing", &backing[..768 << 10]);
    let file = File::options()
        .write(true)
        .open(sandbox.path("backing"))
        .unwrap();
    file.set_len(SIZE).unwrap();
    sandbox.write_image("cow", Version::V3, "backing", &[]);
    sandbox.write("trace", ftrace(&[("WZS", 1100, 8), ("DS", 1200, 8)]));
    sandbox.succeeds(&["replay", "@trace", "--device", "ubda=@cow"]);
    let args = ["image", "resize", "@cow", "512K", "--shrink"];
    let losing = [&args[..], &["--lose-data", "--dry-run"]].concat();
    let said = sandbox.succeeds(&losing);
    let nothing = "loss       none: no data lies past the new end\n";
    assert!(said.ends_with(nothing), "{said}");
    sandbox.succeeds(&args);
    sandbox.succeeds(&["image", "resize", "@cow", "1M"]);
    assert!(sandbox.disk("cow", "backing") == backing);
}

#[test]
fn a_dry_run_says_what_it_would_do_and_does_nothing() {
    let sandbox = Sandbox::with_images();
    let unchanged = |args: &[&str]| {
        let before = sandbox.contents();
        let said = sandbox.succeeds(&[&["image", "resize"], args, &["--dry-run"]].concat());
        assert!(sandbox.contents() == before, "{args:?}");
        said
    };
    let refuses = |size, backing| {
        format!(
            "stock UML  refuses it: it has {size}, its backing file {backing}\n\
             \x20          --extend-backing makes the backing file as large\n"
        )
    };
    assert_eq!(
        unchanged(&["@v3", "+15M"]),
        format!(
            "size       1 MiB to 16 MiB\n\
             strategy   headroom\n\
             moves      0 bytes at most\n\
             space      0 bytes needed meanwhile\n\
             layout     alignment 4096, data at byte 12288; grows to 16 MiB after that without its \
             data moving\n{}",
            refuses("16 MiB", "1 MiB")
        )
    );
    assert_eq!(
        unchanged(&["@v3", "17M"]),
        format!(
            "size       1 MiB to 17 MiB\n\
             strategy   rebuild\n\
             \x20          not by headroom: the bitmap has room for a device of 16 MiB, not more\n\
             moves      4.50 KiB at most\n\
             space      40 KiB needed meanwhile\n\
             layout     alignment 1048576, data at byte 2097152; grows to 4 GiB after that without \
             its data moving\n{}",
            refuses("17 MiB", "1 MiB")
        )
    );
    let said = unchanged(&["@v3", "17M", "--strategy", "reflow"]);
    assert!(
        said.contains("strategy   reflow\n           asked for\n"),
        "{said}"
    );
    let said = unchanged(&["@v2", "2M"]);
    let why = "strategy   rebuild\n           not by headroom: a V2 header is rebuilt as V3\n";
    assert!(said.contains(why), "{said}");
    let said = unchanged(&["@v3", "2M", "--extend-backing"]);
    let stock = "stock UML  takes it\n\
                 would extend @backing: every other COW file over it will be refused, by stock UML and \
                 by ubdlab\n  breaks @v1\n  breaks @v2\n  breaks @wide\n";
    assert!(said.ends_with(stock), "{said}");
}

#[test]
fn the_backing_file_is_extended_when_asked() {
    for version in VERSIONS {
        for strategy in possible(version) {
            let sandbox = Sandbox::with_images();
            let name = name_of(version);
            let cow = format!("@{name}");
            let expected = grown(sandbox.disk(name, "backing"), 4 << 20);
            let backing = grown(sandbox.read("backing"), 4 << 20);
            let args = ["image", "resize", &cow, "4M", "--strategy", strategy];
            let run = sandbox.run(&[&args[..], &["--extend-backing"]].concat());
            assert_eq!(run.status.code(), Some(0));
            let mut warning =
                "extending @backing: every other COW file over it will be refused, by \
                               stock UML and by ubdlab\n"
                    .to_owned();
            // In the order of their names.
            let siblings = [Version::V1, Version::V2, Version::V3, Version::V3Wide];
            for other in siblings.into_iter().filter(|other| *other != version) {
                warning += &format!("  breaks @{}\n", name_of(other));
            }
            let stderr = sandbox.text(&run.stderr);
            let is_warning = |line: &&str| !line.starts_with("note: ");
            let found: String = stderr.split_inclusive('\n').filter(is_warning).collect();
            assert_eq!(found, warning);
            let stdout = sandbox.text(&run.stdout);
            assert!(
                stdout.ends_with("@backing: 4 MiB\nstock UML takes it\n"),
                "{stdout}"
            );
            assert!(sandbox.read("backing") == backing);
            assert!(
                sandbox.disk(name, "backing") == expected,
                "{version} {strategy}"
            );
            let info = sandbox.json(&["image", "info", &cow]);
            assert_eq!(info["backing_matches"], true);
            assert_eq!(info["stock_uml"], "takes it");
            // As stock UML compares them.
            let metadata = std::fs::metadata(sandbox.path("backing")).unwrap();
            let cow_file = sandbox.read(name);
            let reader = read(&cow_file);
            assert_eq!(i64::from(reader.header.time), metadata.mtime());
            assert_eq!(reader.header.size, metadata.len());
            sandbox.succeeds(&["image", "check", &cow]);
        }
    }
}

#[test]
fn a_rebuild_keeps_owner_and_mode_and_has_a_time_of_its_own() {
    let sandbox = Sandbox::with_images();
    let path = sandbox.path("v2");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    // Only root gives files away.
    let given = chown(&path, Some(12345), Some(54321)).is_ok();
    let times =
        FileTimes::new().set_modified(UNIX_EPOCH + Duration::new(1_060_000_000, 123_456_789));
    let file = File::options().write(true).open(&path).unwrap();
    file.set_times(times).unwrap();
    drop(file);
    let before = std::fs::metadata(&path).unwrap();
    sandbox.succeeds(&["image", "resize", "@v2", "4M", "--strategy", "rebuild"]);
    let after = std::fs::metadata(&path).unwrap();
    assert_ne!(before.ino(), after.ino(), "it is another file");
    assert_eq!(before.mode(), after.mode());
    assert_eq!((before.uid(), before.gid()), (after.uid(), after.gid()));
    assert!(!given || after.uid() == 12345);
    // It has other bytes, and a backup that goes by the time has to see it.
    assert!(after.mtime() >= before.ctime(), "{}", after.mtime());
}

/// What is replaced is the file, not the link to it.
#[test]
fn a_link_stays_a_link() {
    for strategy in STRATEGIES {
        let sandbox = Sandbox::new();
        std::fs::create_dir(sandbox.path("images")).unwrap();
        std::fs::create_dir(sandbox.path("links")).unwrap();
        sandbox.write_backing("backing", SIZE);
        sandbox.write_image("images/cow", Version::V3, "backing", &SOME);
        symlink("../images/cow", sandbox.path("links/cow")).unwrap();
        symlink("cow", sandbox.path("links/again")).unwrap();
        let expected = grown(sandbox.disk("images/cow", "backing"), 4 << 20);
        let args = ["image", "resize", "@links/again", "4M", "--strategy"];
        let said = sandbox.succeeds_with_notes(&[&args[..], &[strategy]].concat());
        assert!(said.starts_with("@images/cow: 1 MiB to 4 MiB by"), "{said}");
        for link in ["links/cow", "links/again"] {
            let kind = std::fs::symlink_metadata(sandbox.path(link)).unwrap();
            assert!(kind.is_symlink());
        }
        assert!(sandbox.disk("images/cow", "backing") == expected);
        let names: Vec<_> = sandbox.contents().into_keys().collect();
        assert_eq!(names.len(), 6, "{names:?}");
    }
}

#[test]
fn nothing_moves_while_somebody_has_the_image_open() {
    side_by_side(&STRATEGIES, |strategy| {
        let sandbox = Sandbox::with_images();
        let held = sandbox.hold("v3");
        let args = ["image", "resize", "@v3", "4M", "--strategy", strategy];
        let locked = "@v3: locked: a running UML or another ubdlab has it open";
        sandbox.refuses(&args, locked);
        drop(held);
        sandbox.succeeds_with_notes(&args);
    });
}

/// A device that is grown, filled and grown again, whichever way: its room is used up first.
#[test]
fn one_grow_after_the_other() {
    let sandbox = Sandbox::with_images();
    let mut expected = sandbox.disk("v3", "backing");
    let mut used = Vec::new();
    for size in [2_u64, 16, 17, 64] {
        let said = sandbox.succeeds(&["image", "resize", "@v3", &format!("{size}M")]);
        let by = said.split(" by ").nth(1).unwrap();
        used.push(by.split(',').next().unwrap().to_owned());
        expected = grown(expected, size << 20);
        assert!(sandbox.disk("v3", "backing") == expected, "{size} MiB");
    }
    // Whenever data moves, room is made.
    assert_eq!(used, ["headroom", "headroom", "rebuild", "headroom"]);
    sandbox.succeeds(&["image", "check", "@v3"]);
}

/// `chattr`'s attributes, where the file system has them.
#[test]
fn a_rebuilt_file_keeps_the_attributes_of_its_inode() {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    let sandbox = Sandbox::with_device();
    let open = || std::fs::File::open(sandbox.path("cow")).unwrap();
    let wanted = IFlags::NOATIME | IFlags::NODUMP;
    let given = ioctl_getflags(open()).and_then(|has| ioctl_setflags(open(), has | wanted));
    if given.is_err() {
        eprintln!("skipped: this file system has no such attributes");
        return;
    }
    sandbox.succeeds(&["image", "resize", "@cow", "2M", "--strategy", "rebuild"]);
    assert!(ioctl_getflags(open()).unwrap().contains(wanted));
}

/// The plan in docs/images.md is what the program prints of such an image.
#[test]
fn the_documented_plan() {
    use driver::blk::{Request, Tag};
    use driver::driver::Driver;
    const COMMAND: &str = "ubdlab image resize root.cow +2G --extend-backing --dry-run";
    let page = include_str!("../../../../docs/images.md");
    let (_, rest) = page.split_once(&format!("    $ {COMMAND}\n")).unwrap();
    let lines = rest.lines().map_while(|line| line.strip_prefix("    "));
    let documented: Vec<&str> = lines.collect();
    let sandbox = Sandbox::new();
    let backing = std::fs::File::create(sandbox.path("root.img")).unwrap();
    backing.set_len(1 << 30).unwrap();
    sandbox.create_cow("root.cow", "root.img");
    let spec = format!("ubda={}", sandbox.path("root.cow").display());
    let spec = spec.parse().unwrap();
    let opened = driver::open::open(&RealHost, &spec, Default::default()).unwrap();
    let mut device = opened.device;
    for mib in 0..37 {
        let write = Request::write(Tag(0), Sector(mib * 4096), vec![1; 1 << 20]);
        device.serve(write).unwrap();
    }
    device.close().unwrap();
    let args: Vec<&str> = COMMAND.split(' ').skip(1).collect();
    let output = sandbox.run(&args);
    assert_eq!(output.status.code(), Some(0));
    let said = sandbox.text(&output.stdout).replace('@', "/disks/");
    assert_eq!(said.lines().collect::<Vec<_>>(), documented);
}

/// A file with a second name is not rebuilt, and a reflow only moves its data up.
#[test]
fn what_takes_the_file_from_stock_uml_is_said_before_it_is_done() {
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", SIZE);
    let create = ["image", "create", "@cow", "--backing", "@backing"];
    sandbox.succeeds(&[&create[..], &["--max-size", "2T"]].concat());
    let consequence = "the data starts at 2 GiB, past the 2 GiB that stock Linux can reach: only \
                       ubdlab will be able to use the file";
    // A small device's bitmap is soon written, and its data moves as far.
    let reflow = ["image", "resize", "@cow", "2M", "--strategy", "reflow"];
    let plan = sandbox.succeeds(&[&reflow[..], &["--dry-run"]].concat());
    let reasons = format!("           asked for\n           {consequence}\n");
    assert!(plan.contains(&reasons), "{plan}");
    std::fs::hard_link(sandbox.path("cow"), sandbox.path("other")).unwrap();
    let plan = sandbox.succeeds(&["image", "resize", "@cow", "4T", "--dry-run"]);
    let reasons = format!(
        "strategy   reflow\n           \
         not by headroom: the bitmap has room for a device of 2 TiB, not more\n           \
         not by rebuild: only a regular file without a second name (hard link) can be replaced\n           \
         {consequence}\n"
    );
    assert!(plan.contains(&reasons), "{plan}");
    let notes = |args: &[&str]| {
        let done = sandbox.run(args);
        assert_eq!(done.status.code(), Some(0), "{args:?}");
        sandbox.text(&done.stderr)
    };
    let spared = "headroom has room for a device of 2 TiB, and would move nothing: a reflow puts \
                  the start of the data from byte 1073741824 to byte 2147483648, and the next one \
                  at least doubles that";
    let said = format!("note: {consequence}\nnote: {spared}\n");
    assert_eq!(notes(&reflow), said);
    // It has left already.
    assert_eq!(notes(&["image", "resize", "@cow", "3M"]), "");
}

/// What a guest has zeroed takes space, and ext4 and XFS call it a hole until somebody reads it.
/// The places that the data has left are freed all the same.
#[test]
fn a_reflow_frees_what_the_file_system_calls_a_hole_and_keeps() {
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", 4 << 20);
    sandbox.create_cow("cow", "backing");
    // The last MiB: no data will have its place there.
    let zeroed: Vec<u64> = (6 << 10..8 << 10).collect();
    sandbox.make_dirty_at("cow", &zeroed);
    let file = File::options()
        .write(true)
        .open(sandbox.path("cow"))
        .unwrap();
    let end = file.metadata().unwrap().len();
    let zeroing = rustix::fs::FallocateFlags::ZERO_RANGE;
    match rustix::fs::fallocate(&file, zeroing, end - (1 << 20), 1 << 20) {
        Err(rustix::io::Errno::OPNOTSUPP) => {
            eprintln!("skipped: this file system zeroes no ranges");
            return;
        }
        done => done.unwrap(),
    }
    file.sync_all().unwrap();
    let taken = || file.metadata().unwrap().blocks() * 512;
    let before = taken();
    sandbox.succeeds_with_notes(&["image", "resize", "@cow", "8M", "--strategy", "reflow"]);
    assert!(
        taken() + (1 << 20) - (64 << 10) <= before,
        "{before}, then {}",
        taken()
    );
}

/// A limit of the process is as good as one of the file system.
#[test]
fn a_file_that_cannot_be_as_long_is_said_by_a_dry_run() {
    let sandbox = Sandbox::with_device();
    for strategy in ["rebuild", "reflow"] {
        for more in [&["--dry-run"][..], &[]] {
            let before = sandbox.contents();
            let script = "ulimit -f 131072; exec \"$0\" image resize \"$@\"";
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", script, PROGRAM]).args(more);
            shell
                .arg(sandbox.path("cow"))
                .args(["1G", "--strategy", strategy]);
            let done = output(&mut shell);
            let said = sandbox.text(&done.stderr);
            let why = "making the file longer: the file would be larger than the host allows";
            assert!(said.contains(why), "{strategy} {more:?}: {said}");
            assert_eq!(done.status.code(), Some(3));
            assert_eq!(sandbox.contents(), before);
        }
    }
}
