//! Everything that can be wrong with what `ubdlab image` is given, with the message for it. The
//! image commands share one way to open an image; each is tried on each thing that is none.

use std::fs::{File, FileTimes};
use std::time::{Duration, UNIX_EPOCH};

use driver::cow::{Header, Version};
use driver::units::Bytes;

use crate::support::cli::{ALIGNMENT, SIZE, Sandbox, side_by_side, ways_out};

/// Where bitmap and data of the small image are.
const BITMAP: u64 = 8192;
const DATA: u64 = 12288;

/// The commands that take nothing but a COW file.
const COW_COMMANDS: [&[&str]; 8] = [
    &["info", "@cow"],
    &["map", "@cow"],
    &["resize", "@cow", "2M"],
    &["resize", "@cow", "2M", "--dry-run"],
    &["recover", "@cow"],
    &["merge", "@cow", "@new"],
    &["merge", "@cow", "--in-place"],
    &["rebase", "@cow", "--backing", "@other", "--unsafe"],
];

/// Those that take a raw disk too.
const DISK_COMMANDS: [&[&str]; 4] = [
    &["convert", "@cow", "@new"],
    &[
        "convert",
        "@cow",
        "@new",
        "--to",
        "v3",
        "--backing",
        "@other",
    ],
    &["compare", "@cow", "@backing"],
    &["compare", "@backing", "@cow"],
];

/// The ways to check one.
const CHECKS: [&[&str]; 3] = [
    &["check", "@cow"],
    &["check", "@cow", "--repair"],
    &["check", "@cow", "--json"],
];

/// As [`Sandbox::with_device`], with `other`, as large as the backing file.
pub(super) fn sandbox() -> Sandbox {
    let sandbox = Sandbox::with_device();
    sandbox.write_backing("other", SIZE);
    sandbox
}

pub(super) fn image(args: &[&'static str]) -> Vec<&'static str> {
    [&["image"], args].concat()
}

const NOR_UNFINISHED: &str = ", nor is there @.cow.ubdlab-new, which an interrupted creation would \
                              have left: there is nothing to recover";

/// Every command refuses `@cow` with this message; `check` says so with its own status.
fn all_refuse(sandbox: &Sandbox, message: &str) {
    for args in COW_COMMANDS.iter().chain(&DISK_COMMANDS) {
        // It might have been about a file that has not got its name.
        let more = match args[0] {
            "recover" => NOR_UNFINISHED,
            _ => "",
        };
        sandbox.refuses(&image(args), &format!("{message}{more}"));
    }
    for args in CHECKS {
        cannot_check(sandbox, args, message);
    }
}

fn cannot_check(sandbox: &Sandbox, args: &[&'static str], message: &str) {
    sandbox.fails(&image(args), 1, &format!("ubdlab: {message}\n"));
}

/// Every command but `check`, which finds it as a fault, refuses a COW file with this message.
/// Those that take a raw disk too name the way to say that it is one.
fn all_refuse_the_fault(sandbox: &Sandbox, message: &str) {
    for args in COW_COMMANDS {
        sandbox.refuses(&image(args), message);
    }
    for args in DISK_COMMANDS {
        let second = match args {
            ["compare", "@backing", _] => " (of the second image: --second-format)",
            _ => "",
        };
        let way_out = "It begins like a COW file, and nobody has said that it is one: --format raw \
                       if it is a raw disk, --format cow if it is a COW file that you trust";
        sandbox.refuses(&image(args), &format!("{message}. {way_out}{second}"));
    }
    let before = sandbox.contents();
    let checked = sandbox.run(&["image", "check", "@cow", "--repair"]);
    assert_eq!(checked.status.code(), Some(2));
    assert_eq!(sandbox.text(&checked.stderr), "");
    assert!(sandbox.contents() == before);
}

#[test]
fn no_file_to_be_found() {
    let sandbox = sandbox();
    std::fs::remove_file(sandbox.path("cow")).unwrap();
    all_refuse(&sandbox, "@cow: opening: no such file or directory");
    std::os::unix::fs::symlink("nowhere", sandbox.path("cow")).unwrap();
    all_refuse(&sandbox, "@cow: opening: no such file or directory");
    sandbox.refuses(
        &["image", "info", "@trace/cow"],
        "@trace/cow: opening: not a directory",
    );
}

#[test]
fn files_that_are_no_disk() {
    let sandbox = sandbox();
    std::fs::remove_file(sandbox.path("cow")).unwrap();
    std::fs::create_dir(sandbox.path("cow")).unwrap();
    for args in [&["info", "@cow"], &["map", "@cow"]] {
        sandbox.refuses(
            &image(args),
            "@cow: found a directory, expected a regular file or a block device",
        );
    }
    for args in [
        &["resize", "/dev/null", "2M"][..],
        &["info", "/dev/null"],
        &["merge", "/dev/null", "@new"],
        &["merge", "/dev/null", "--in-place"],
        &["recover", "/dev/null"],
        &["convert", "/dev/null", "@new"],
        &["compare", "/dev/null", "@backing"],
    ] {
        sandbox.refuses(
            &image(args),
            "/dev/null: found a FIFO, socket or character device, expected a regular file or a \
             block device",
        );
    }
}

/// What does not start with the magic number is a raw disk where one is taken.
#[test]
fn a_raw_disk_where_a_cow_file_is_needed() {
    let sandbox = sandbox();
    for (content, message) in [
        (
            &b""[..],
            "@cow: byte 0: the file ends here, its header needs 8 bytes",
        ),
        (
            b"OOO",
            "@cow: byte 3: the file ends here, its header needs 8 bytes",
        ),
        (
            &[7; 8192],
            "@cow: byte 0: found magic 0x07070707, expected 0x4f4f4f4d: not a COW file",
        ),
    ] {
        sandbox.write("cow", content);
        for args in COW_COMMANDS.iter().filter(|args| args[0] != "recover") {
            let way_out = match args[0] {
                "info" | "map" if message.contains("magic") => {
                    ". If it is a raw disk: --format raw"
                }
                _ => "",
            };
            sandbox.refuses(&image(args), &format!("{message}{way_out}"));
        }
        sandbox.refuses(&["image", "recover", "@cow", "--format", "cow"], message);
        // What does not begin like a COW file is a raw disk, and complete.
        assert_eq!(
            sandbox.succeeds(&["image", "recover", "@cow"]),
            "@cow: nothing to recover\n"
        );
        assert_eq!(sandbox.read("cow"), content);
    }
    sandbox.write("cow", [7; 8192]);
    sandbox.succeeds(&["image", "convert", "@cow", "@raw"]);
    assert_eq!(sandbox.read("raw"), [7; 8192]);
}

#[test]
fn headers_cut_short() {
    for version in [Version::V1, Version::V2, Version::V3] {
        let sandbox = sandbox();
        let old = matches!(version, Version::V1 | Version::V2);
        let header = Header {
            version,
            alignment: if old { 512 } else { ALIGNMENT },
            ..Header::v3(&sandbox.path("backing"), 0, Bytes(SIZE), ALIGNMENT).unwrap()
        };
        let bytes = header.encode();
        let len = bytes.len();
        sandbox.write("cow", &bytes[..len - 1]);
        let message = format!(
            "@cow: byte {}: the file ends here, its header needs {len} bytes",
            len - 1
        );
        all_refuse_the_fault(&sandbox, &message);
        sandbox.write("cow", &bytes[..5]);
        let message = "@cow: byte 5: the file ends here, its header needs 8 bytes";
        all_refuse_the_fault(&sandbox, message);
    }
}

#[test]
fn fields_that_cannot_be() {
    let long_path = [b'/'; 4096];
    for (at, bytes, message) in [
        (
            4,
            &4_u32.to_be_bytes()[..],
            "byte 4: found version 4, expected 1, 2 or 3",
        ),
        (
            12,
            &[0; 8],
            "byte 12: found device size 0 bytes, expected from 512 to 9223372036854775807",
        ),
        (
            12,
            &511_u64.to_be_bytes(),
            "byte 12: found device size 511 bytes, expected from 512 to 9223372036854775807",
        ),
        (
            12,
            // 2^63 alone marks a resize in progress, of a device of no bytes.
            &(1_u64 << 63).to_be_bytes(),
            "byte 12: found device size 9223372036854775808 bytes, expected from 512 to \
             9223372036854775807",
        ),
        (
            12,
            &(i64::MAX as u64).to_be_bytes(),
            "byte 12: a device of 9223372036854775807 bytes aligned to 4096 bytes needs a COW file \
             of more than 9223372036854775807 bytes",
        ),
        (
            20,
            &1024_u32.to_be_bytes(),
            "byte 20: found sector size 1024, expected 512",
        ),
        (
            24,
            &0_u32.to_be_bytes(),
            "byte 24: found alignment 0, expected a positive multiple of 512",
        ),
        (
            24,
            &384_u32.to_be_bytes(),
            "byte 24: found alignment 384, expected a positive multiple of 512",
        ),
        (
            28,
            &1_u32.to_be_bytes(),
            "byte 28: found COW format 1, expected 0 (bitmap)",
        ),
        (
            32,
            &long_path,
            "byte 32: the path of the backing file has no NUL at its end",
        ),
        (
            32,
            &[0; 4],
            "byte 32: the path of the backing file is empty",
        ),
    ] {
        let sandbox = sandbox();
        sandbox.patch("cow", at, bytes);
        all_refuse_the_fault(&sandbox, &format!("@cow: {message}"));
    }
}

/// A byte of the bitmap for eight sectors, which must be there.
#[test]
fn files_cut_short() {
    let sandbox = sandbox();
    let header = sandbox.read("cow");
    let set_len = |len| {
        let file = File::options().write(true).open(sandbox.path("cow"));
        file.unwrap().set_len(len).unwrap();
    };
    set_len(BITMAP + 255);
    all_refuse_the_fault(
        &sandbox,
        "@cow: byte 8447: the file ends here, its bitmap goes on up to byte 8448",
    );
    // A device of 64 TiB in a file of a megabyte.
    sandbox.write("cow", &header);
    sandbox.patch("cow", 12, &(1_u64 << 46).to_be_bytes());
    all_refuse_the_fault(
        &sandbox,
        "@cow: byte 1060864: the file ends here, its bitmap goes on up to byte 17179877376",
    );
    sandbox.write("cow", &header);
    // Sector 8 is dirty, and ends where the file does not reach.
    sandbox.patch("cow", BITMAP as usize + 1, &[1]);
    set_len(DATA + 9 * 512 - 1);
    all_refuse_the_fault(
        &sandbox,
        "@cow: byte 16895: the file ends here, its data goes on up to byte 16896",
    );
}

/// Those that need the backing file, where nothing is guessed.
const BACKED_COMMANDS: [&[&str]; 8] = [
    &["resize", "@cow", "2M"],
    &["resize", "@cow", "2M", "--dry-run"],
    &["resize", "@cow", "2M", "--extend-backing"],
    &["merge", "@cow", "@new"],
    &["merge", "@cow", "--in-place"],
    &["rebase", "@cow", "--backing", "@other"],
    &["convert", "--format", "cow", "@cow", "@new"],
    &["compare", "--format", "cow", "@cow", "@other"],
];

fn backed_refuse(sandbox: &Sandbox, message: &str) {
    for args in BACKED_COMMANDS {
        sandbox.refuses(&image(args), message);
    }
}

#[test]
fn backing_files_that_are_missing_or_others() {
    let sandbox = sandbox();
    sandbox.write_header("cow", &sandbox.path("backing"));
    sandbox.patch("cow", 8, &1_000_000_u32.to_be_bytes());
    let file = File::options().write(true).open(sandbox.path("backing"));
    let modified = UNIX_EPOCH + Duration::from_secs(2_000_000);
    let times = FileTimes::new().set_modified(modified);
    file.unwrap().set_times(times).unwrap();
    backed_refuse(
        &sandbox,
        &format!(
            "@backing: modified at 2000000, but the COW file @cow was made for the content of \
             1000000 (seconds since 1970: 1970-01-24 03:33:20 and 1970-01-12 13:46:40 UTC). {}",
            ways_out("@backing", "@cow", 1_000_000)
        ),
    );
    sandbox.write("backing", [0; 1024]);
    backed_refuse(
        &sandbox,
        "@backing: found 1024 bytes, but the COW file @cow was made for 1048576 bytes",
    );
    std::fs::remove_file(sandbox.path("backing")).unwrap();
    let missing = "@backing: opening the backing file: no such file or directory";
    backed_refuse(&sandbox, missing);
    std::fs::create_dir(sandbox.path("backing")).unwrap();
    for args in [&["merge", "@cow", "@new"][..], &["resize", "@cow", "2M"]] {
        sandbox.refuses(
            &image(args),
            "@backing: found a directory, expected a regular file or a block device",
        );
    }
}

#[test]
fn backing_paths_not_to_be_followed() {
    let sandbox = sandbox();
    let outside = ["/etc/passwd", "../backing", "sub/../../backing"];
    for path in outside {
        sandbox.write_header("cow", path.as_ref());
        for args in BACKED_COMMANDS {
            sandbox.refuses(
                &[&image(args)[..], &["--confine-backing"]].concat(),
                &format!(
                    "@cow: byte 32: the backing path {path} leads outside the COW file's directory, \
                     where --confine-backing does not follow it"
                ),
            );
        }
    }
    sandbox.write_header("cow", &sandbox.path("cow"));
    // A lock by the same file's other open would say the same of a hard link.
    backed_refuse(
        &sandbox,
        "@cow: its backing file @cow is the COW file itself",
    );
    sandbox.write_header("cow", "/dev/tty".as_ref());
    sandbox.write_header("cow", "/dev/zero".as_ref());
    backed_refuse(
        &sandbox,
        "/dev/zero: found a FIFO, socket or character device, expected a regular file or a block \
         device",
    );
    let made = std::process::Command::new("mkfifo")
        .arg(sandbox.path("fifo"))
        .status();
    assert!(made.unwrap().success());
    sandbox.write_header("cow", &sandbox.path("fifo"));
    backed_refuse(
        &sandbox,
        "@fifo: found a FIFO, socket or character device, expected a regular file or a block device",
    );
    let evil = "\u{1b}[2J\u{9b}31m\u{202e}";
    sandbox.write_header("cow", &sandbox.path(evil));
    backed_refuse(
        &sandbox,
        r"@\u{1b}[2J\u{9b}31m\u{202e}: opening the backing file: no such file or directory",
    );
}

#[test]
fn images_that_somebody_has_open() {
    let locked = |file| format!("@{file}: locked: a running UML or another ubdlab has it open");
    // Each waits a second for whoever has it, and beside the others in a directory of its own.
    let commands = [&COW_COMMANDS[..], &DISK_COMMANDS, &CHECKS].concat();
    side_by_side(&commands, |args| {
        let sandbox = sandbox();
        let _held = sandbox.hold("cow");
        match args[0] {
            "info" | "map" => drop(sandbox.succeeds(&image(args))),
            "check" => cannot_check(&sandbox, args, &locked("cow")),
            _ => sandbox.refuses(&image(args), &locked("cow")),
        }
    });
    side_by_side(&BACKED_COMMANDS, |args| {
        let sandbox = sandbox();
        let _held = sandbox.hold("backing");
        sandbox.refuses(&image(args), &locked("backing"));
    });
}
