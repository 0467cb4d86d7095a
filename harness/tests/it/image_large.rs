//! Every image command on a disk of 1 TiB with a few MiB in it, in 64 MiB of memory.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::cli::{Sandbox, output};
use driver::cow::{Geometry, Version};
use driver::units::{Bytes, Sector};

const TIB: u64 = 1 << 40;

/// `ubdlab image` with these arguments, in a process whose data may have 64 MiB: heap and
/// anonymous mappings, which is all that grows with what it works on. What is mapped from files,
/// the program itself, does not count.
fn succeeds(sandbox: &Sandbox, arguments: &[&str]) -> String {
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -d 65536 && exec \"$0\" image \"$@\""])
        .arg(env!("CARGO_BIN_EXE_ubdlab"))
        .args(sandbox.args(arguments))
        .stdin(Stdio::null());
    let output = output(&mut command);
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    sandbox.text(&output.stdout)
}

/// Sparse files of 1 TiB; `None`, and said so, where the file system has none.
fn disk(sandbox: &Sandbox) -> Option<PathBuf> {
    let path = sandbox.path("backing");
    let file = std::fs::File::create(&path).unwrap();
    if let Err(error) = file.set_len(TIB) {
        eprintln!("skipped: no file of 1 TiB here: {error}");
        return None;
    }
    file.write_all_at(&[0x11; 1 << 20], TIB / 3).unwrap();
    Some(path)
}

/// 400 dirty runs of 4 KiB all over the device.
fn dirty(sandbox: &Sandbox) {
    let cow = std::fs::File::options()
        .write(true)
        .open(sandbox.path("cow"))
        .unwrap();
    let alignment = Geometry::roomy_alignment(Bytes(TIB));
    let geometry = Geometry::new(Version::V3, Bytes(TIB), alignment).unwrap();
    let sectors = TIB / 512;
    for n in 0..400 {
        let sector = n * 5_368_709_137 % sectors / 8 * 8;
        let bits = geometry.bitmap_offset + Bytes(sector / 8);
        cow.write_all_at(&[0xff], bits.0).unwrap();
        let at = geometry.place_of(Sector(sector));
        cow.write_all_at(&[0x22; 4096], at.0).unwrap();
    }
}

#[test]
fn every_command_takes_a_disk_of_a_tebibyte_in_its_stride() {
    let sandbox = Sandbox::new();
    if disk(&sandbox).is_none() {
        return;
    }
    let run = |arguments: &[&str]| succeeds(&sandbox, arguments);
    run(&["create", "@cow", "--backing", "@backing"]);
    dirty(&sandbox);
    let info: serde_json::Value = serde_json::from_str(&run(&["info", "@cow", "--json"])).unwrap();
    assert_eq!(info["dirty_sectors"], 3200);
    assert_eq!(info["backing_matches"], true);
    let map = run(&["map", "@cow"]);
    assert_eq!(map.matches(" dirty ").count(), 400);
    assert_eq!(run(&["check", "@cow"]), "@cow: no fault\n");
    run(&["merge", "@cow", "@merged"]);
    let same = "the disks hold the same\n";
    assert_eq!(run(&["compare", "@cow", "@merged"]), same);
    run(&["convert", "@cow", "@converted", "--to", "v3"]);
    assert_eq!(run(&["compare", "@cow", "@converted"]), same);
    run(&["resize", "@converted", "+1G", "--dry-run"]);
    run(&["resize", "@converted", "+1G", "--strategy", "headroom"]);
    run(&["resize", "@converted", "+1G", "--strategy", "reflow"]);
    let zeros_after = "the disks hold the same up to the shorter one's end, and zeros after it\n";
    assert!(run(&["compare", "@converted", "@merged"]).ends_with(zeros_after));
    assert_eq!(
        run(&["recover", "@converted"]),
        "@converted: nothing to recover\n"
    );
    run(&["rebase", "@cow", "--backing", "@merged"]);
    assert_eq!(run(&["check", "@cow", "--repair"]), "@cow: no fault\n");
    run(&["resize", "@cow", "+1G", "--strategy", "rebuild"]);
    run(&["merge", "@cow", "--in-place"]);
    assert!(run(&["compare", "@cow", "@converted"]).ends_with(zeros_after));
}
