//! Backing files that are not what the COW file was made for, or nothing to be trusted with.

use std::fs::{File, FileTimes};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use crate::support::cli::{SIZE, Sandbox, ways_out};

#[test]
fn a_missing_one() {
    let sandbox = Sandbox::with_device();
    std::fs::remove_file(sandbox.path("backing")).unwrap();
    sandbox.device_refused("@backing: opening the backing file: no such file or directory");
}

#[test]
fn one_modified_since() {
    let sandbox = Sandbox::with_device();
    sandbox.write_header("cow", &sandbox.path("backing"));
    sandbox.patch("cow", 8, &1_000_000_u32.to_be_bytes());
    let file = File::options()
        .write(true)
        .open(sandbox.path("backing"))
        .unwrap();
    let modified = UNIX_EPOCH + Duration::from_secs(2_000_000);
    file.set_times(FileTimes::new().set_modified(modified))
        .unwrap();
    sandbox.device_refused(&format!(
        "@backing: modified at 2000000, but the COW file @cow was made for the content of \
             1000000 (seconds since 1970: 1970-01-24 03:33:20 and 1970-01-12 13:46:40 UTC). {}",
        ways_out("@backing", "@cow", 1_000_000)
    ));
}

#[test]
fn one_of_another_size() {
    let sandbox = Sandbox::with_device();
    sandbox.write_backing("backing", SIZE + 512);
    sandbox.device_refused(
        "@backing: found 1049088 bytes, but the COW file @cow was made for 1048576 bytes",
    );
    sandbox.write("backing", "");
    sandbox.device_refused(
        "@backing: found 0 bytes, but the COW file @cow was made for 1048576 bytes",
    );
}

#[test]
fn a_directory() {
    let sandbox = Sandbox::with_device();
    std::fs::create_dir(sandbox.path("directory")).unwrap();
    sandbox.write_header("cow", &sandbox.path("directory"));
    sandbox
        .device_refused("@directory: found a directory, expected a regular file or a block device");
}

#[test]
fn the_cow_file_itself() {
    let sandbox = Sandbox::with_device();
    sandbox.write_header("cow", &sandbox.path("cow"));
    sandbox.device_refused("@cow: its backing file @cow is the COW file itself");
    std::os::unix::fs::symlink(sandbox.path("cow"), sandbox.path("link")).unwrap();
    sandbox.write_header("cow", &sandbox.path("link"));
    sandbox.device_refused("@cow: its backing file @link is the COW file itself");
    std::fs::hard_link(sandbox.path("cow"), sandbox.path("hard")).unwrap();
    sandbox.write_header("cow", &sandbox.path("hard"));
    sandbox.device_refused("@cow: its backing file @hard is the COW file itself");
}

#[test]
fn a_fifo_is_not_waited_for() {
    let sandbox = Sandbox::with_device();
    let made = std::process::Command::new("mkfifo")
        .arg(sandbox.path("fifo"))
        .status();
    assert!(made.unwrap().success());
    sandbox.write_header("cow", &sandbox.path("fifo"));
    let found =
        "found a FIFO, socket or character device, expected a regular file or a block device";
    sandbox.device_refused(&format!("@fifo: {found}"));
    sandbox.refuses(
        &["replay", "@trace", "--device", "ubda=@fifo"],
        &format!("@fifo: {found}"),
    );
    sandbox.refuses(
        &["replay", "@trace", "--device", "ubda=@new,@fifo"],
        &format!("@fifo: {found}"),
    );
    sandbox.refuses(
        &["replay", "@fifo", "--memory"],
        "@fifo: found a FIFO, socket or device, expected a regular file: a replay reads its trace \
         more than once",
    );
}

#[test]
fn a_character_device() {
    let sandbox = Sandbox::with_device();
    sandbox.write_header("cow", Path::new("/dev/zero"));
    sandbox.device_refused(
        "/dev/zero: found a FIFO, socket or character device, expected a regular file or a block \
         device",
    );
}

#[test]
fn escape_sequences_never_reach_the_terminal() {
    let sandbox = Sandbox::with_device();
    let evil = "\u{1b}]0;title\u{7}\u{1b}[2J\r\n\u{202e}";
    sandbox.write_header("cow", &sandbox.path(evil));
    let escaped = r"\u{1b}]0;title\u{7}\u{1b}[2J\r\n\u{202e}";
    sandbox.device_refused(&format!(
        "@{escaped}: opening the backing file: no such file or directory"
    ));
    sandbox.refuses(
        &["replay", "@trace", "--device", "ubda=@cow,@backing"],
        &format!(
            "@cow: its header names the backing file @{escaped}, @backing was asked for: \
             --switch-backing writes it into the header"
        ),
    );
    sandbox.refuses(
        &["trace", "info", &format!("@{evil}")],
        &format!("@{escaped}: opening: no such file or directory"),
    );
}

#[test]
fn a_path_that_leads_outside() {
    let sandbox = Sandbox::with_device();
    let args = [
        "replay",
        "@trace",
        "--device",
        "ubda=@cow",
        "--confine-backing",
    ];
    for outside in ["/etc/passwd", "../../etc/passwd", "sub/../../backing"] {
        sandbox.write_header("cow", Path::new(outside));
        sandbox.refuses(
            &args,
            &format!(
                "@cow: byte 32: the backing path {outside} leads outside the COW file's directory, \
                 where --confine-backing does not follow it"
            ),
        );
    }
    sandbox.write_header("cow", &sandbox.path("backing"));
    sandbox.succeeds(&args);
}

#[test]
fn nothing_to_create_a_device_from() {
    let sandbox = Sandbox::with_device();
    let args = ["replay", "@trace", "--device", "ubda=@new,@other"];
    sandbox.refuses(
        &args,
        "@other: opening the backing file: no such file or directory",
    );
    sandbox.write("other", [0; 511]);
    sandbox.refuses(
        &args,
        "@other: found 511 bytes, a backing file needs at least a sector of 512 bytes",
    );
}

#[test]
fn a_switch_that_nobody_asked_for() {
    let sandbox = Sandbox::with_device();
    std::fs::copy(sandbox.path("backing"), sandbox.path("other")).unwrap();
    sandbox.refuses(
        &["replay", "@trace", "--device", "ubda=@cow,@other"],
        "@cow: its header names the backing file @backing, @other was asked for: \
         --switch-backing writes it into the header",
    );
}
