//! The disk of a running UML grows under it: its file system too, and nothing is lost.

use std::process::Command;

use driver::resize::Strategy;
use driver::units::Bytes;

use super::Served;
use super::guest::{Guest, Guests};
use crate::support::cli::{Sandbox, output};
use crate::support::peers::peer;

const MIB: u64 = 1 << 20;

/// The disk as it is at first.
const SIZE: u64 = 64 * MIB;

/// The bitmap of the first size leaves room in its 64 KiB for this one.
const HEADROOM_SIZE: u64 = 96 * MIB;

/// And not for this one.
const REFLOW_SIZE: u64 = 512 * MIB;

const ALIGNMENT: u32 = 64 << 10;

/// An ext4 in the backing file, and an empty COW file over it.
fn served(sandbox: Sandbox) -> Option<Served> {
    let backing = sandbox.path("backing");
    let file = std::fs::File::create(&backing).unwrap();
    file.set_len(SIZE).unwrap();
    run(Command::new(peer("mkfs.ext4")?).arg("-q").arg(&backing));
    Some(Served::new(sandbox, ALIGNMENT))
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
    let Some(served) = served(Sandbox::new()) else {
        return;
    };
    let directory = served.sandbox.path("uml-files");
    std::fs::create_dir(&directory).unwrap();
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
    assert!(sandbox.run(&["image", "check", "@cow"]).status.success());
    assert!(
        sandbox
            .run(&["image", "merge", "@cow", "@merged"])
            .status
            .success()
    );
    let merged = sandbox.path("merged");
    assert_eq!(merged.metadata().unwrap().len(), REFLOW_SIZE);
    run(Command::new(e2fsck).arg("-fn").arg(&merged));
    let out = sandbox.path("out");
    std::fs::create_dir(&out).unwrap();
    let dump = format!("rdump / {}", out.display());
    run(Command::new(debugfs).args(["-R", &dump]).arg(&merged));
    for (name, sum) in &files {
        let said = run(Command::new("sha256sum").arg(out.join(name)));
        assert!(said.starts_with(sum.as_str()), "{name}: {said}");
    }
}
