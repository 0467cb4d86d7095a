//! A disk that fills up, in the middle of a write and of each way to resize. The limit on the
//! size of a file (`ulimit -f`) stands for the full disk where there is no mounting one.

use std::process::Command;

use crate::support::cli::{Contents, SIZE, Sandbox, ftrace, output, ubdlab};
use crate::support::mounted::Mounted;

/// Runs with files limited to `blocks` blocks of 512 bytes.
fn limited(sandbox: &Sandbox, blocks: u64, args: &[&str]) -> std::process::Output {
    let program = ubdlab();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("ulimit -f {blocks} && exec \"$0\" \"$@\"")])
        .arg(program.get_program())
        .args(sandbox.args(args));
    output(&mut shell)
}

/// The device with 16 places written.
fn written() -> Sandbox {
    let sandbox = Sandbox::with_device();
    let requests: Vec<_> = (0..16).map(|n| ("WS", n * 128, 8)).collect();
    sandbox.write("fill", ftrace(&requests));
    sandbox.succeeds(&["replay", "@fill", "--device", "ubda=@cow"]);
    sandbox
}

/// The program failed with this message, and the device is as good as before.
fn failed(sandbox: &Sandbox, output: &std::process::Output, cow: &str, message: &str) {
    let stderr = sandbox.text(&output.stderr);
    let is_note = |line: &&str| line.starts_with("note: ");
    let said: Vec<_> = stderr.lines().skip_while(is_note).collect();
    assert_eq!(said, [format!("ubdlab: {message}")]);
    assert_eq!(sandbox.text(&output.stdout), "");
    assert_eq!(output.status.code(), Some(3));
    // Each sector that was written is compared with what is found there at first, and all
    // others with the backing file.
    sandbox.write("read", ftrace(&[("R", 0, SIZE / 512)]));
    let report = sandbox.report(&["replay", "@read", "--device", &format!("ubda=@{cow}")]);
    assert_eq!(report["mismatches"], 0);
    assert_eq!(report["sectors_verified"], 3 * SIZE / 512);
}

#[test]
fn a_write_past_the_limit_is_an_error() {
    let sandbox = written();
    let bit = |cow: &[u8]| cow[8192 + 2032 / 8];
    sandbox.write("trace", ftrace(&[("WS", 8, 8), ("WS", 2032, 16)]));
    let args = ["replay", "@trace", "--device", "ubda=@cow"];
    let output = limited(&sandbox, 1024, &args);
    let message = "@cow: request 2 (write, sectors 2032+16): I/O error: write of the COW \
                   file at byte 1052672: the file would be larger than the host allows";
    failed(&sandbox, &output, "cow", message);
    assert_eq!(
        bit(&sandbox.read("cow")),
        0,
        "what was not written is not dirty"
    );
    assert_ne!(
        sandbox.read("cow")[8192 + 1],
        0,
        "what was written before is kept"
    );
}

/// A raw disk is no COW file, in no error.
#[test]
fn a_raw_disk_past_the_limit_is_called_a_disk() {
    let sandbox = Sandbox::with_device();
    sandbox.write("trace", ftrace(&[("WS", 8, 8), ("WS", 2032, 16)]));
    let too_large = "the file would be larger than the host allows";
    sandbox.write("read", ftrace(&[("R", 8, 8)]));
    let on_disk = ["--device", "ubdad=@backing"];
    for (args, problem) in [
        (
            &["replay", "@trace"][..],
            "request 2 (write, sectors 2032+16): I/O error: write of the disk at byte 1040384",
        ),
        (
            &["replay", "@read", "--resize-at", "0:2M"],
            "resize to 2097152 bytes before request 0: changing the length of the disk, at byte \
             2097152",
        ),
    ] {
        let output = limited(&sandbox, 1024, &[args, &on_disk].concat());
        let message = format!("ubdlab: @backing: {problem}: {too_large}\n");
        assert_eq!(sandbox.text(&output.stderr), message);
        assert_eq!(output.status.code(), Some(3));
    }
}

#[test]
fn a_resize_past_the_limit_leaves_the_device() {
    for (strategy, size, problem) in [
        (
            "headroom",
            1536 << 10,
            "changing the length of the COW file, at byte 1585152",
        ),
        (
            "rebuild",
            64 << 20,
            "changing the length of the new COW file, at byte 69206016",
        ),
        (
            "reflow",
            64 << 20,
            "changing the length of the COW file, at byte 75497472",
        ),
    ] {
        let sandbox = written();
        let before = sandbox.contents();
        let resize = format!("0:{size}:{strategy}");
        let args = [
            "replay",
            "@fill",
            "--device",
            "ubda=@cow",
            "--resize-at",
            &resize,
        ];
        let output = limited(&sandbox, 2100, &args);
        let message = format!(
            "@cow: resize to {size} bytes before request 0: {problem}: the file would be larger than \
             the host allows"
        );
        let names = |contents: &Contents| contents.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&before), names(&sandbox.contents()), "{strategy}");
        failed(&sandbox, &output, "cow", &message);
    }
}

/// Every command of `ubdlab image` that writes: nothing is lost, and no half of a file is left.
#[test]
fn image_commands_past_the_limit() {
    let too_large = "the file would be larger than the host allows";
    for (args, problem) in [
        (
            &["create", "@new", "--backing", "@backing"][..],
            "@new: creating: ",
        ),
        (&["merge", "@cow", "@new"], "@new: byte 0: creating: "),
        (&["convert", "@cow", "@new"], "@new: byte 0: creating: "),
        (
            &["convert", "@cow", "@new", "--to", "v2"],
            "@new: creating: ",
        ),
        (
            &["resize", "@cow", "2M", "--strategy", "headroom"],
            "@cow: byte 2109440: making the file longer: ",
        ),
        (
            &["resize", "@cow", "2M", "--strategy", "rebuild"],
            "@cow: byte 4194304: making the file longer: ",
        ),
        (
            &["resize", "@cow", "2M", "--strategy", "reflow"],
            "@cow: byte 10485760: making the file longer: ",
        ),
    ] {
        let sandbox = written();
        let before = sandbox.contents();
        // The image is longer than this already; no file may become so.
        let output = limited(&sandbox, 1000, &[&["image"], args].concat());
        assert!(sandbox.contents() == before, "{args:?}");
        failed(&sandbox, &output, "cow", &format!("{problem}{too_large}"));
    }
}

#[test]
fn a_full_disk() {
    let sandbox = Sandbox::with_device();
    std::fs::create_dir(sandbox.path("small")).unwrap();
    let at = sandbox.path("small");
    let Some(_mounted) = Mounted::tmpfs(&at, 400 << 10) else {
        return;
    };
    sandbox.create_cow("small/cow", "backing");
    let write = |from: u64, to: u64| {
        let requests: Vec<_> = (from..to).map(|n| ("WS", n * 8, 8)).collect();
        ftrace(&requests)
    };
    sandbox.write("fill", write(0, 60));
    sandbox.write("more", write(60, 150));
    let fill = ["replay", "@fill", "--device", "ubda=@small/cow"];
    sandbox.succeeds(&fill);

    let resize = |strategy| {
        let at = format!("0:64M:{strategy}");
        sandbox.run(&[
            "replay",
            "@fill",
            "--device",
            "ubda=@small/cow",
            "--resize-at",
            &at,
        ])
    };
    let message = "@small/cow: resize to 67108864 bytes before request 0: rebuild cannot do this: a \
                   copy needs 268 KiB, and only 148 KiB are free beside the COW file";
    failed(&sandbox, &resize("rebuild"), "small/cow", message);

    // One after the other, so that it is certain which of them finds no space.
    let one_by_one = [
        "replay",
        "@more",
        "--device",
        "ubda=@small/cow",
        "--depth=1",
    ];
    let output = sandbox.run(&one_by_one);
    let message = "@small/cow: request 38 (write, sectors 776+8): no space: write of the \
                   COW file at byte 409600: no space left on the host";
    failed(&sandbox, &output, "small/cow", message);

    let message = "@small/cow: resize to 67108864 bytes before request 0: reflow cannot do this: a \
                   window and the new bitmap need 92 KiB, and only 0 bytes are free";
    failed(&sandbox, &resize("reflow"), "small/cow", message);
}

/// Single sectors take a block each on the host: a resize that is said to fit does.
#[test]
fn scattered_sectors_on_a_disk_that_is_nearly_full() {
    let sandbox = Sandbox::with_device();
    std::fs::create_dir(sandbox.path("small")).unwrap();
    let at = sandbox.path("small");
    let Some(_mounted) = Mounted::tmpfs(&at, 800 << 10) else {
        return;
    };
    sandbox.create_cow("small/cow", "backing");
    let requests: Vec<_> = (0..120).map(|n| ("WS", n * 16 + 3, 1)).collect();
    sandbox.write("fill", ftrace(&requests));
    sandbox.succeeds(&["replay", "@fill", "--device", "ubda=@small/cow"]);

    let resize = ["image", "resize", "@small/cow", "32M", "--strategy"];
    let output = sandbox.run(&[&resize[..], &["rebuild"]].concat());
    let message = "@small/cow: rebuild cannot do this: a copy needs 500 KiB, and only 308 KiB are \
                   free beside the COW file";
    failed(&sandbox, &output, "small/cow", message);
    // In smaller windows it fits.
    let planned = sandbox.succeeds(&["image", "resize", "@small/cow", "32M", "--dry-run"]);
    assert!(planned.contains("strategy   reflow\n"), "{planned}");
    sandbox.succeeds(&["image", "resize", "@small/cow", "32M"]);
    sandbox.succeeds(&["image", "check", "@small/cow"]);
    sandbox.write("read", ftrace(&[("R", 0, SIZE / 512)]));
    let report = sandbox.report(&["replay", "@read", "--device", "ubda=@small/cow"]);
    assert_eq!(report["mismatches"], 0);
}

/// A few bytes of a trace do not fill the disk, for others too.
#[test]
fn a_replay_that_does_not_fit_is_refused_before_it_begins() {
    let sandbox = Sandbox::with_device();
    std::fs::create_dir(sandbox.path("small")).unwrap();
    let at = sandbox.path("small");
    let Some(_mounted) = Mounted::tmpfs(&at, 4 << 20) else {
        return;
    };
    sandbox.write("large", ftrace(&[("WS", 0, 8), ("WS", 0, 200 << 21)]));
    let take_more = |free: &str| {
        format!(
            "up to request 2 the device's files come to take more than the {free} that they may \
             where they are"
        )
    };
    let message = |free: &str| {
        format!(
            "@large: {}: --limit takes as many requests as it says, --out with another directory \
             makes the files there, and with --memory there are none",
            take_more(free)
        )
    };
    let out = ["replay", "@large", "--out", "@small/out"];
    sandbox.refuses(&out, &message("4 MiB"));
    let clipped = ["--size", "3M", "--past-end", "clip"];
    // 3 MiB are its backing file's.
    let smaller = [&out[..], &clipped].concat();
    sandbox.refuses(&smaller, &message("1 MiB"));
    // What is given already is no way out.
    let limited = message("4 MiB").replace(
        "--limit takes as many requests as it says",
        "a lower --limit takes fewer requests",
    );
    sandbox.refuses(&[&out[..], &["--limit", "2"]].concat(), &limited);
    let demo = sandbox.run(&["demo", "--out", "@small/demo"]);
    let said = String::from_utf8_lossy(&demo.stderr);
    let way = "they may where they are: --out with another directory makes the files there\n";
    assert!(said.ends_with(way) && !said.contains("--limit"), "{said}");
    // What is written twice takes space once, and what the file has it can be written over.
    sandbox.create_cow("small/cow", "backing");
    let twice: Vec<_> = (0..6).map(|_| ("WS", 0, SIZE / 512)).collect();
    sandbox.write("twice", ftrace(&twice));
    let device = ["replay", "@twice", "--device", "ubda=@small/cow"];
    sandbox.succeeds(&device);
    std::fs::write(at.join("filler"), vec![1; (5 << 20) / 2]).unwrap();
    sandbox.succeeds(&device);
}

/// Header and bitmap of the COW file take space too.
#[test]
fn a_replay_that_fits_to_the_last_block_is_carried_out_and_another_is_refused() {
    for (room, fits) in [(2056, false), (2060, true)] {
        let sandbox = Sandbox::new();
        std::fs::create_dir(sandbox.path("small")).unwrap();
        let at = sandbox.path("small");
        let Some(_mounted) = Mounted::tmpfs(&at, room << 10) else {
            return;
        };
        sandbox.write("all", ftrace(&[("WS", 0, SIZE / 512)]));
        let replay = ["replay", "@all", "--out", "@small/out", "--size", "1M"];
        if fits {
            sandbox.succeeds(&replay);
            continue;
        }
        let message = "@all: up to request 1 the device's files come to take more than the 1032 KiB \
                       that they may where they are: --limit takes as many requests as it says, \
                       --out with another directory makes the files there, and with --memory there \
                       are none";
        sandbox.refuses(&replay, message);
    }
}

/// A look needs nothing written.
#[test]
fn a_plan_on_a_file_system_that_is_only_read() {
    let sandbox = Sandbox::with_device();
    std::fs::create_dir(sandbox.path("fixed")).unwrap();
    let at = sandbox.path("fixed");
    let Some(_mounted) = Mounted::tmpfs(&at, 4 << 20) else {
        return;
    };
    sandbox.create_cow("fixed/cow", "backing");
    let remount = Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(&at)
        .status();
    assert!(remount.unwrap().success());
    let resize = ["image", "resize", "@fixed/cow", "+1M"];
    let planned = sandbox.succeeds(&[&resize[..], &["--dry-run"]].concat());
    assert!(planned.contains("size       1 MiB to 2 MiB\n"), "{planned}");
    sandbox.refuses(&resize, "@fixed/cow: opening: read-only file system");
}
