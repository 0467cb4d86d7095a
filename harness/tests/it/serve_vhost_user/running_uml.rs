//! The disk of a running UML grows under it: its file system too, and nothing is lost.

use std::path::{Path, PathBuf};
use std::process::Command;

use driver::open::create;
use driver::resize::Strategy;
use driver::units::Bytes;
use harness::serve::control::{Answer, Asking, Request, WishedStrategy};
use harness::serve::{ResizeState, ResizeStatus};
use userhelper::real_files::RealHost;

use super::Served;
use crate::support::cli::{Sandbox, output};
use crate::support::guest::{Guest, Guests};
use crate::support::peers::peer;
use crate::support::served::ask;
use crate::support::server::Server;

const MIB: u64 = 1 << 20;

/// The disk as it is at first.
const SIZE: u64 = 64 * MIB;

/// The bitmap of the first size leaves room in its 64 KiB for this one.
const HEADROOM_SIZE: u64 = 96 * MIB;

/// And not for this one.
const REFLOW_SIZE: u64 = 512 * MIB;

const ALIGNMENT: u32 = 64 << 10;

/// A root file system, ext4, in the file `backing`.
fn with_root(guests: &Guests) -> Option<Sandbox> {
    let sandbox = Sandbox::new();
    let (backing, root) = (sandbox.path("backing"), sandbox.path("root"));
    std::fs::create_dir(&root).unwrap();
    guests.make_root(&root);
    let file = std::fs::File::create(&backing).unwrap();
    file.set_len(SIZE).unwrap();
    let mut mkfs = Command::new(peer("mkfs.ext4")?);
    run(mkfs.args(["-q", "-d"]).arg(&root).arg(&backing));
    std::fs::create_dir(sandbox.path("uml-files")).unwrap();
    Some(sandbox)
}

/// What is on the device after its file system was checked: the files of its root directory.
fn checked(sandbox: &Sandbox, e2fsck: &Path, debugfs: &Path) -> PathBuf {
    for args in [
        &["image", "check", "@cow"][..],
        &["image", "merge", "@cow", "@merged"],
    ] {
        let output = sandbox.run(args);
        let said = sandbox.text(&[output.stdout, output.stderr].concat());
        assert!(output.status.success(), "{args:?}: {said}");
    }
    let merged = sandbox.path("merged");
    run(Command::new(e2fsck).arg("-fn").arg(&merged));
    let out = sandbox.path("out");
    std::fs::create_dir(&out).unwrap();
    let dump = format!("rdump / {}", out.display());
    run(Command::new(debugfs).args(["-R", &dump]).arg(&merged));
    out
}

fn has_checksum(file: &Path, sum: &str) {
    let said = run(Command::new("sha256sum").arg(file));
    assert!(said.starts_with(sum), "{said}");
}

fn run(command: &mut Command) -> String {
    let output = output(command);
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{command:?}: {said}");
    said.into_owned()
}

/// Waits until one more file is on the disk that is written beside.
const ONE_MORE: &str = ": >/tmp/synced; while [ ! -s /tmp/synced ]; do :; done";

/// Grows the disk while the guest writes, and then the file system. What was written and synced
/// meanwhile: files, and their checksums.
fn grow(
    guest: &mut Guest,
    served: &Served,
    size: u64,
    strategy: Strategy,
) -> Vec<(String, String)> {
    let name = format!("beside-{}", size / MIB);
    guest.begin(&format!(
        "n=0; while [ ! -e /tmp/enough-{size} ]; do n=$((n % 8 + 1)); \
           dd if=/dev/urandom bs=64k count=16 2>/dev/null | tee /{name}-$n | sha256sum \
             >/tmp/{name}-$n; \
           sync && echo $n >>/tmp/synced; \
         done"
    ));
    guest.run(ONE_MORE);
    let resized = served.grow(Bytes(size), strategy);
    assert_eq!(
        (resized.new_size, resized.strategy),
        (Bytes(size), strategy)
    );
    assert_eq!(resized.moved > Bytes(0), strategy == Strategy::Reflow);
    guest.wait_for_sectors(size / 512);
    guest.run("resize2fs /dev/vda 2>&1");
    guest.run(ONE_MORE);
    guest.run(&format!(": >/tmp/enough-{size}; wait"));
    let sums = guest.run(&format!(
        "cd /tmp; for file in {name}-*; do echo $file $(cat $file); done; cd /"
    ));
    sums.lines().map(file_and_sum).collect()
}

/// The first two words of a line.
fn file_and_sum(line: &str) -> (String, String) {
    let mut words = line.split_whitespace().map(str::to_owned);
    (words.next().unwrap(), words.next().unwrap())
}

#[test]
fn the_disk_of_a_running_uml_grows_and_its_root_file_system_too() {
    let (Some(guests), Some(e2fsck), Some(debugfs)) =
        (Guests::find(), peer("e2fsck"), peer("debugfs"))
    else {
        return;
    };
    let Some(sandbox) = with_root(&guests) else {
        return;
    };
    let served = Served::new(sandbox, ALIGNMENT);
    let directory = served.sandbox.path("uml-files");
    let mut guest = guests.boot_from(&directory, &served.socket());
    assert_eq!(guest.sectors(), SIZE / 512);
    let mut files = vec![("first".to_owned(), guest.write("first", 24))];

    files.extend(grow(&mut guest, &served, HEADROOM_SIZE, Strategy::Headroom));
    files.push(("second".into(), guest.write("second", 24)));
    files.extend(grow(&mut guest, &served, REFLOW_SIZE, Strategy::Reflow));
    // More than the disk had room for at first, and after it had grown once.
    files.push(("third".into(), guest.write("third", 128)));
    // What is read now comes from the disk.
    guest.run("echo 3 >/proc/sys/vm/drop_caches");
    for (name, sum) in &files {
        assert_eq!(guest.checksum(name), *sum, "{name}");
    }
    guest.run("mount -o remount,ro /");
    guest.power_off();
    assert_eq!(served.told(), [""; 0]);

    let sandbox = served.close();
    let out = checked(&sandbox, &e2fsck, &debugfs);
    assert_eq!(
        sandbox.path("merged").metadata().unwrap().len(),
        REFLOW_SIZE
    );
    for (name, sum) in &files {
        has_checksum(&out.join(name), sum);
    }
}

/// Writes files without end, and says of each that it was synced.
const WRITE_ON: &str = "n=0; while :; do n=$((n+1)); \
    sum=$(dd if=/dev/urandom bs=64k count=16 2>/dev/null | tee /$n | sha256sum); \
    sync && echo SYN''CED $n $sum; done";

/// When a server and its guest are killed.
#[derive(Clone, Copy, Debug)]
enum Killed {
    /// While a reflow moves data.
    InReflow,
    /// When this many more files are written since a resize was asked for.
    Later(Strategy, usize),
}

/// How often it is tried to kill them while a reflow moves data, which may be over too soon.
const MOST_ATTEMPTS: usize = 10;

#[test]
fn what_was_synced_is_there_after_server_and_guest_were_killed_while_the_disk_grew() {
    let (Some(guests), Some(e2fsck), Some(debugfs)) =
        (Guests::find(), peer("e2fsck"), peer("debugfs"))
    else {
        return;
    };
    for killed in [
        Killed::Later(Strategy::Headroom, 1),
        Killed::Later(Strategy::Reflow, 0),
        Killed::Later(Strategy::Reflow, 3),
    ] {
        let Some(sandbox) = with_root(&guests) else {
            return;
        };
        is_whole_after(killed, &sandbox, &guests, (&e2fsck, &debugfs));
    }
    let is_in_reflow = (0..MOST_ATTEMPTS).any(|_| {
        let sandbox = with_root(&guests).unwrap();
        is_whole_after(Killed::InReflow, &sandbox, &guests, (&e2fsck, &debugfs))
    });
    assert!(is_in_reflow, "each reflow was over too soon");
}

/// Waits until a resize moves data, or is over.
fn wait_for_the_move(sandbox: &Sandbox) {
    let mut asking = Asking::connect(&sandbox.path("ctl")).unwrap();
    loop {
        let status = match ask(&mut asking, &Request::Status {}) {
            Ok(Answer::Status(status)) => *status,
            other => panic!("{other:?}"),
        };
        let resize = status.resize;
        let is_moving = |resize: &ResizeStatus| {
            let frontier = resize.frontier_sector;
            resize.state != ResizeState::Running
                || frontier.is_some_and(|frontier| frontier < SIZE / 512)
        };
        if resize.as_ref().is_some_and(is_moving) {
            return;
        }
    }
}

/// Kills server and guest, starts both again, and looks whether all is there. Whether a reflow was
/// in the middle.
fn is_whole_after(
    killed: Killed,
    sandbox: &Sandbox,
    guests: &Guests,
    (e2fsck, debugfs): (&Path, &Path),
) -> bool {
    let (strategy, size, room) = match killed {
        Killed::Later(Strategy::Headroom, _) => ("headroom", HEADROOM_SIZE, 32),
        _ => ("reflow", REFLOW_SIZE, 100),
    };
    let (cow, backing) = (sandbox.path("cow"), sandbox.path("backing"));
    drop(create(&RealHost, &cow, &backing, Some(ALIGNMENT)).unwrap());
    let directory = sandbox.path("uml-files");
    let served = ["@cow", "--vhost-user", "@sock", "--control", "@ctl"];
    let server = Server::start(sandbox, &served);
    let mut guest = guests.boot_from(&directory, &sandbox.path("sock"));
    let first = guest.write("first", 24);
    let mut synced = guest.watch(WRITE_ON, "SYNCED", 2);
    let wanted = size.to_string();
    let resize = ["ctl", "@ctl", "resize", &wanted, "--strategy", strategy];
    match killed {
        Killed::InReflow => {
            let mut asking = Asking::connect(&sandbox.path("ctl")).unwrap();
            let reflow = Request::Resize {
                size_bytes: Some(size),
                change_bytes: None,
                strategy: Some(WishedStrategy::Reflow),
                shrink: false,
                lose_data: false,
                detach: true,
            };
            asking.ask(&reflow).unwrap();
            wait_for_the_move(sandbox);
        }
        Killed::Later(_, more) => {
            sandbox.succeeds(&[&resize[..], &["--detach"]].concat());
            synced.extend(guest.watch("", "SYNCED", more));
        }
    }
    server.kill();
    drop(guest);
    let info = sandbox.report(&["image", "info", "@cow"]);
    let is_in_reflow = info["resize_in_progress"].as_bool().unwrap();

    let server = Server::start(sandbox, &served);
    let mut guest = guests.boot_from(&directory, &sandbox.path("sock"));
    let said = guest.run("dmesg");
    assert!(said.contains("EXT4-fs (vda): recovery complete"), "{said}");
    assert_eq!(guest.checksum("first"), first);
    for line in &synced {
        let (name, sum) = file_and_sum(line);
        assert_eq!(guest.checksum(&name), sum, "{name}");
    }
    // Whoever opens the device finishes a reflow in the middle. Otherwise the device has its old
    // size or the new one.
    let has = &sandbox.report(&["ctl", "@ctl", "status"])["size_bytes"];
    if !is_in_reflow && *has != size {
        sandbox.succeeds(&resize);
    }
    guest.wait_for_sectors(size / 512);
    guest.run("resize2fs /dev/vda 2>&1");
    let last = guest.write("last", room);
    guest.run("mount -o remount,ro /");
    guest.power_off();
    let said = server.stop();
    let finished = "resized from 64 MiB to 512 MiB by reflow";
    assert!(!is_in_reflow || said.contains(finished), "{said}");

    // And stock UML's own driver takes it, when the backing file is as large as it wants it.
    let extend = ["image", "resize", "@cow", &wanted, "--extend-backing"];
    assert!(sandbox.run(&extend).status.success());
    let ubda = format!("ubda={}", cow.display());
    let console = guests.uml().boot_from(&directory, &ubda);
    for shown in [
        format!("UP FROM {} SECTORS", size / 512),
        format!("{first}  /first"),
        format!("{last}  /last"),
    ] {
        assert!(console.contains(&shown), "{shown}: {console}");
    }
    let out = checked(sandbox, e2fsck, debugfs);
    has_checksum(&out.join("first"), &first);
    has_checksum(&out.join("last"), &last);
    is_in_reflow
}

/// Whatever the processor, so that it is known to do no harm where it is not needed.
#[test]
fn user_space_runs_with_the_library_for_amx() {
    let Some(guests) = Guests::find_with(true) else {
        return;
    };
    let sandbox = Sandbox::new();
    sandbox.write("backing", vec![0; 1 << 20]);
    std::fs::create_dir(sandbox.path("uml-files")).unwrap();
    let served = Served::new(sandbox, ALIGNMENT);
    let directory = served.sandbox.path("uml-files");
    let mut guest = guests.boot(&directory, &served.socket());
    // Two processes with floating point take turns, so that registers are saved and set.
    let sum = "perl -e '$x = 0; $x += sqrt($_) for 1 .. 200000; printf \"%.3f\\n\", $x'";
    guest.begin(sum);
    let here = guest.run(sum);
    guest.run("wait");
    assert_eq!(guest.run("cat /tmp/beside"), here);
    assert_eq!(here, "59628702.799");
    guest.power_off();
    served.close();
}
