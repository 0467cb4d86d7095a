//! COW files that are none, or damaged, or in use.

use std::process::{Command, Stdio};

use crate::support::cli::{ALIGNMENT, Sandbox};

fn patched(at: usize, bytes: &[u8]) -> Sandbox {
    let sandbox = Sandbox::with_device();
    sandbox.patch("cow", at, bytes);
    sandbox
}

fn cut_to(len: usize) -> Sandbox {
    let sandbox = Sandbox::with_device();
    let cow = sandbox.read("cow");
    sandbox.write("cow", &cow[..len]);
    sandbox
}

#[test]
fn a_short_header() {
    cut_to(0).device_refused("@cow: byte 0: the file ends here, its header needs 8 bytes");
    cut_to(7).device_refused("@cow: byte 7: the file ends here, its header needs 8 bytes");
    cut_to(8).device_refused("@cow: byte 8: the file ends here, its header needs 4128 bytes");
    cut_to(4127).device_refused("@cow: byte 4127: the file ends here, its header needs 4128 bytes");
}

#[test]
fn a_foreign_file() {
    patched(0, b"QFI\xfb").device_refused(
        "@cow: byte 0: found magic 0x514649fb, expected 0x4f4f4f4d: not a COW file",
    );
}

#[test]
fn an_unknown_version() {
    let expected = "expected 1, 2 or 3";
    for version in [0, 4, u32::MAX] {
        patched(4, &version.to_be_bytes()).device_refused(&format!(
            "@cow: byte 4: found version {version}, {expected}"
        ));
    }
}

#[test]
fn an_alignment_that_cannot_be() {
    for alignment in [0_u32, 3] {
        patched(24, &alignment.to_be_bytes()).device_refused(&format!(
            "@cow: byte 24: found alignment {alignment}, expected a positive multiple of 512"
        ));
    }
}

#[test]
fn a_sector_size_that_cannot_be() {
    for size in [0_u32, 511] {
        patched(20, &size.to_be_bytes()).device_refused(&format!(
            "@cow: byte 20: found sector size {size}, expected 512"
        ));
    }
}

#[test]
fn an_unknown_format() {
    patched(28, &1_u32.to_be_bytes())
        .device_refused("@cow: byte 28: found COW format 1, expected 0 (bitmap)");
}

#[test]
fn a_size_of_nothing() {
    patched(12, &511_u64.to_be_bytes()).device_refused(
        "@cow: byte 12: found device size 511 bytes, expected from 512 to 9223372036854775807",
    );
}

#[test]
fn a_size_near_2_to_the_64() {
    // The highest bit says that a reflow is under way; what is left is as bad.
    for size in [u64::MAX, u64::MAX - 511, (1 << 63) - 1] {
        let found = size & !(1 << 63);
        patched(12, &size.to_be_bytes()).device_refused(&format!(
            "@cow: byte 12: a device of {found} bytes aligned to 4096 bytes needs a COW file of more \
             than 9223372036854775807 bytes"
        ));
    }
}

#[test]
fn a_size_that_the_bitmap_has_no_room_for() {
    patched(12, &(1_u64 << 40).to_be_bytes()).device_refused(
        "@cow: byte 1060864: the file ends here, its bitmap goes on up to byte 268443648",
    );
}

#[test]
fn a_reflow_that_no_journal_knows_of() {
    let sandbox = patched(12, &((1_u64 << 63) | (1 << 20)).to_be_bytes());
    sandbox.device_refused(
        "@cow: byte 4608: an interrupted resize is recorded, but neither journal slot holds a valid \
         record",
    );
}

#[test]
fn a_path_that_does_not_end() {
    patched(32, &[b'x'; 4096])
        .device_refused("@cow: byte 32: the path of the backing file has no NUL at its end");
    patched(32, &[0, b'x', 0])
        .device_refused("@cow: byte 32: the path of the backing file is empty");
}

#[test]
fn a_bitmap_cut_short() {
    let bitmap = 2 * ALIGNMENT as usize;
    cut_to(bitmap + 17)
        .device_refused("@cow: byte 8209: the file ends here, its bitmap goes on up to byte 8448");
}

#[test]
fn what_is_no_file_at_all() {
    let sandbox = Sandbox::with_device();
    std::fs::create_dir(sandbox.path("directory")).unwrap();
    sandbox.refuses(
        &["replay", "@trace", "--device", "ubda=@directory"],
        "@directory: found a directory, expected a regular file or a block device",
    );
    sandbox.refuses(
        &["replay", "@trace", "--device", "ubda=/dev/zero"],
        "/dev/zero: found a FIFO, socket or character device, expected a regular file or a block device",
    );
    sandbox.refuses(
        &["replay", "@trace", "--device", "ubda=@missing"],
        "@missing: no such file; name the backing file to have it created",
    );
    sandbox.refuses(
        &["replay", "@trace", "--device", "ubda=@no/cow,@backing"],
        "@no/.cow.ubdlab-new: creating: no such file or directory",
    );
}

#[test]
fn a_file_that_somebody_else_has_open() {
    let sandbox = Sandbox::with_device();
    let held = sandbox.hold("cow");
    sandbox.device_refused("@cow: locked: a running UML or another ubdlab has it open");
    drop(held);
    sandbox.succeeds(&["replay", "@trace", "--device", "ubda=@cow"]);
}

/// As UML locks its files: by fcntl, which belongs to the process.
#[test]
fn a_file_that_another_process_has_locked_by_fcntl() {
    let sandbox = Sandbox::with_device();
    let script = "import fcntl, sys\n\
        f = open(sys.argv[1], 'r+b')\n\
        fcntl.lockf(f, fcntl.LOCK_EX)\n\
        print('locked', flush=True)\n\
        sys.stdin.read()\n";
    let python = Command::new("python3")
        .args(["-c", script])
        .arg(sandbox.path("cow"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut python) = python else {
        eprintln!("skipped: python3 is not installed");
        return;
    };
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(python.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    assert_eq!(line, "locked\n");
    sandbox.device_refused("@cow: locked: a running UML or another ubdlab has it open");
    drop(python.stdin.take());
    python.wait().unwrap();
    sandbox.succeeds(&["replay", "@trace", "--device", "ubda=@cow"]);
}
