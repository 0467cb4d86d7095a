//! The disk of a running UML grows under it: its file system too, and nothing is lost.

use std::path::{Path, PathBuf};
use std::process::Command;

use driver::open::create;
use driver::resize::Strategy;
use driver::units::Bytes;
use userhelper::real_files::RealHost;

use super::Served;
use crate::support::cli::{Sandbox, output};
use crate::support::guest::{Guest, Guests};
use crate::support::peers::peer;
use crate::support::server::Server;
use crate::support::uml::has_mounted;

const MIB: u64 = 1 << 20;

/// The disk as it is at first.
const SIZE: u64 = 64 * MIB;

/// The bitmap of the first size leaves room in its 64 KiB for this one.
const HEADROOM_SIZE: u64 = 96 * MIB;

/// And not for this one.
const REFLOW_SIZE: u64 = 512 * MIB;

const ALIGNMENT: u32 = 64 << 10;

/// An ext4 in the file `backing`.
fn with_ext4() -> Option<Sandbox> {
    let sandbox = Sandbox::new();
    let backing = sandbox.path("backing");
    let file = std::fs::File::create(&backing).unwrap();
    file.set_len(SIZE).unwrap();
    run(Command::new(peer("mkfs.ext4")?).arg("-q").arg(&backing));
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

/// Grows the disk while the guest writes, and then the file system.
fn grow(guest: &mut Guest, served: &Served, size: u64, strategy: Strategy) {
    let name = format!("beside-{}", size / MIB);
    guest.begin(&format!(
        "for n in 1 2 3 4 5 6 7 8; do \
           dd if=/dev/urandom bs=64k count=16 2>/dev/null | tee /mnt/{name}-$n | sha256sum \
             >/{name}-$n; \
           sync; \
         done"
    ));
    let resized = served.grow(Bytes(size), strategy);
    assert_eq!(
        (resized.new_size, resized.strategy),
        (Bytes(size), strategy)
    );
    guest.wait_for_sectors(size / 512);
    guest.run("resize2fs /dev/vda 2>&1");
    guest.run("wait");
}

#[test]
fn the_disk_of_a_running_uml_grows_and_its_file_system_too() {
    let (Some(guests), Some(e2fsck), Some(debugfs)) =
        (Guests::find(), peer("e2fsck"), peer("debugfs"))
    else {
        return;
    };
    let Some(sandbox) = with_ext4() else {
        return;
    };
    let served = Served::new(sandbox, ALIGNMENT);
    let directory = served.sandbox.path("uml-files");
    let mut guest = guests.boot(&directory, &served.socket());
    assert_eq!(guest.sectors(), SIZE / 512);
    guest.run("mount -t ext4 /dev/vda /mnt");
    let mut files = vec![("first".to_owned(), guest.write("first", 24))];

    grow(&mut guest, &served, HEADROOM_SIZE, Strategy::Headroom);
    files.push(("second".into(), guest.write("second", 24)));
    grow(&mut guest, &served, REFLOW_SIZE, Strategy::Reflow);
    // More than the disk had room for at first, and after it had grown once.
    files.push(("third".into(), guest.write("third", 128)));
    for size in [HEADROOM_SIZE, REFLOW_SIZE] {
        for n in 1..=8 {
            let name = format!("beside-{}-{n}", size / MIB);
            let sum = guest.run(&format!("cat /{name}"));
            files.push((name, sum.split_whitespace().next().unwrap().to_owned()));
        }
    }
    // What is read now comes from the disk.
    guest.run("umount /mnt");
    guest.run("mount -t ext4 /dev/vda /mnt");
    for (name, sum) in &files {
        assert_eq!(guest.checksum(name), *sum, "{name}");
    }
    guest.run("umount /mnt");
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
    sum=$(dd if=/dev/urandom bs=64k count=16 2>/dev/null | tee /mnt/$n | sha256sum); \
    sync && echo SYN''CED $n $sum; done";

#[test]
fn what_was_synced_is_there_after_server_and_guest_were_killed_while_the_disk_grew() {
    let (Some(guests), Some(e2fsck), Some(debugfs)) =
        (Guests::find(), peer("e2fsck"), peer("debugfs"))
    else {
        return;
    };
    for more in [0, 1, 3] {
        let Some(sandbox) = with_ext4() else {
            return;
        };
        let (cow, backing) = (sandbox.path("cow"), sandbox.path("backing"));
        drop(create(&RealHost, &cow, &backing, Some(ALIGNMENT)).unwrap());
        let directory = sandbox.path("uml-files");
        let served = ["@cow", "--vhost-user", "@sock", "--control", "@ctl"];
        let server = Server::start(&sandbox, &served);
        let mut guest = guests.boot(&directory, &sandbox.path("sock"));
        guest.run("mount -t ext4 /dev/vda /mnt");
        let first = guest.write("first", 24);
        let mut synced = guest.watch(WRITE_ON, "SYNCED", 2);
        let size = REFLOW_SIZE.to_string();
        let resize = [
            "ctl",
            "@ctl",
            "resize",
            &size,
            "--strategy",
            "reflow",
            "--detach",
        ];
        sandbox.succeeds(&resize);
        synced.extend(guest.watch("", "SYNCED", more));
        server.kill();
        drop(guest);

        let server = Server::start(&sandbox, &served);
        let mut guest = guests.boot(&directory, &sandbox.path("sock"));
        guest.run("mount -t ext4 /dev/vda /mnt");
        assert_eq!(guest.checksum("first"), first);
        for line in &synced {
            let mut words = line.split_whitespace();
            let (name, sum) = (words.next().unwrap(), words.next().unwrap());
            assert_eq!(guest.checksum(name), sum, "{name}");
        }
        // A resize that had begun is finished by whoever opens the device, and then this one is
        // refused or has nothing to do.
        sandbox.run(&["ctl", "@ctl", "resize", &size]);
        guest.wait_for_sectors(REFLOW_SIZE / 512);
        guest.run("resize2fs /dev/vda 2>&1");
        let last = guest.write("last", 100);
        guest.run("umount /mnt");
        guest.power_off();
        server.stop();

        // And stock UML's own driver takes it, when the backing file is as large as it wants it.
        let extend = ["image", "resize", "@cow", &size, "--extend-backing"];
        assert!(sandbox.run(&extend).status.success());
        let ubda = format!("ubda={}", cow.display());
        let console = guests.uml().mount(&directory, &ubda);
        assert!(has_mounted(&console), "{console}");
        let out = checked(&sandbox, &e2fsck, &debugfs);
        has_checksum(&out.join("first"), &first);
        has_checksum(&out.join("last"), &last);
    }
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
    assert_eq!(guest.run("cat /beside"), here);
    assert_eq!(here, "59628702.799");
    guest.power_off();
    served.close();
}
