//! `ubdlab replay --driver kernel`: a trace on the driver of a running kernel.

use driver::cow::Version;
use serde_json::Value;

use crate::support::cli::{Sandbox, ftrace};
use crate::support::peers::peer;

/// Whether there is all that it takes, which is no root and no mount; a word if not.
fn can_boot() -> bool {
    ["linux.uml", "blkdiscard"]
        .map(peer)
        .iter()
        .all(Option::is_some)
}

fn replayed(sandbox: &Sandbox, args: &[&str], status: i32) -> Value {
    let args = [&["replay"], args, &["--driver", "kernel", "--json"]].concat();
    let output = sandbox.run(&args);
    let said = sandbox.text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "of {args:?}: {said}");
    serde_json::from_str(&sandbox.text(&output.stdout)).unwrap()
}

/// Requests of whole pages, many of which are for the same one, with all that the driver knows.
/// Where a page had sectors of both files, a read of several would go wrong.
#[test]
fn a_running_kernel_keeps_what_a_trace_writes_and_every_sector_is_compared() {
    if !can_boot() {
        return;
    }
    let sandbox = Sandbox::new();
    let generated = sandbox.run(&[
        "trace",
        "generate",
        "@mixed",
        "--requests=300",
        "--size=1M",
        "--mix=read:40,write:50,discard:5",
        "--request-size=4K",
        "--fua=5",
        "--seed=7",
    ]);
    assert!(generated.status.success(), "{generated:?}");
    let report = replayed(&sandbox, &["@mixed", "--size=1M"], 0);
    let number = |of: &str| report[of].as_u64().unwrap();
    assert_eq!(report["driver"], "kernel");
    assert_eq!(number("requests"), 300);
    // At the end, and once more when the kernel has been booted again.
    assert!(number("sectors_verified") >= 2 * 2048, "{report}");
    assert_eq!(number("mismatches") + number("other_faults"), 0, "{report}");
    assert_eq!(report["backing_unchanged"], true);
    assert_eq!(report["syncs"], Value::Null, "nobody has counted them");
}

/// The first segment of the read has sectors of both files.
#[test]
fn what_a_running_kernel_reads_from_the_wrong_place_is_seen() {
    if !can_boot() {
        return;
    }
    let sandbox = Sandbox::new();
    let requests = [("WS", 4, 4), ("R", 0, 64)];
    sandbox.write("misled", ftrace(&requests));
    let args = ["@misled", "--size=1M", "--depth=1", "--out=@kept"];
    let report = replayed(&sandbox, &args, 1);
    let example = report["mismatch_examples"][0].as_str().unwrap();
    assert!(example.starts_with("request 2 reading"), "{example}");

    // The files are those of any COW device: `ordered` reads them rightly.
    let spec = format!("ubda={}", sandbox.path("kept/device.cow").display());
    let reads = [("R", 0, 64)];
    sandbox.write("reads", ftrace(&reads));
    let right = sandbox.run(&["replay", "@reads", "--device", &spec]);
    assert_eq!(right.status.code(), Some(0), "{right:?}");
}

#[test]
fn what_a_running_kernel_cannot_do_is_one_clear_error() {
    let sandbox = Sandbox::new();
    sandbox.write("one", ftrace(&[("WS", 0, 1)]));
    for (args, message) in [
        (
            &["--driver", "kernel", "--memory"][..],
            "--memory: not with --driver kernel",
        ),
        (
            &["--driver", "kernel", "--defect", "flush-noop"],
            "--defect: not with --driver kernel",
        ),
        (
            &["--driver", "kernel", "--resize-at", "0:2M"],
            "--resize-at: not with --driver kernel",
        ),
        (
            &["--kernel", "linux.uml"],
            "--kernel: found with a driver that needs none, expected --driver kernel",
        ),
    ] {
        let refused = sandbox.run(&[&["replay", "@one", "--size=1M"], args].concat());
        assert_eq!(refused.status.code(), Some(2), "{args:?}");
        let said = sandbox.text(&refused.stderr);
        assert!(said.contains(message), "{said}");
    }
    if !can_boot() {
        return;
    }
    for (args, message) in [
        (
            &["--size=32K"][..],
            "found a device of 64 sectors whose bitmap is one word, expected a larger one",
        ),
        (
            &["--size=1M", "--kernel", "/bin/true"],
            "/bin/true: its guest does not come up",
        ),
        // User-Mode Linux would take the part before the colon, or the comma, for the file.
        (
            &["--size=1M", "--kernel", "/bin/true", "--out=@a:b"],
            "a:b/device.cow: found ':' in the path, where User-Mode Linux ends it",
        ),
        (
            &["--size=1M", "--kernel", "/bin/true", "--out=@a,b"],
            "a,b/device.cow: found ',' in the path",
        ),
    ] {
        let refused = sandbox.run(&[&["replay", "@one", "--driver", "kernel"], args].concat());
        assert_eq!(refused.status.code(), Some(3), "{args:?}");
        let said = sandbox.text(&refused.stderr);
        assert!(said.contains(message), "{said}");
    }
}

/// V1 and V2 have a byte too few for 71 sectors: eight.
#[test]
fn a_bitmap_of_one_word_is_refused_whatever_its_sectors() {
    if peer("blkdiscard").is_none() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.write("one", ftrace(&[("WS", 0, 1)]));
    for (sectors, version, message) in [
        (
            71,
            Version::V1,
            "found a device of 71 sectors whose bitmap is one word",
        ),
        (
            71,
            Version::V2,
            "found a device of 71 sectors whose bitmap is one word",
        ),
        (72, Version::V2, "/bin/true: its guest does not come up"),
        (71, Version::V3, "/bin/true: its guest does not come up"),
    ] {
        sandbox.write_backing("backing", sectors * 512);
        sandbox.write_image("cow", version, "backing", &[]);
        let device = sandbox.args(&["ubda=@cow,@backing"]).remove(0);
        let args = [
            "replay",
            "@one",
            "--driver",
            "kernel",
            "--kernel",
            "/bin/true",
        ];
        let refused = sandbox.run(&[&args[..], &["--device", &device]].concat());
        assert_eq!(refused.status.code(), Some(3), "{sectors} of {version:?}");
        let said = sandbox.text(&refused.stderr);
        assert!(said.contains(message), "{sectors} of {version:?}: {said}");
    }
}
