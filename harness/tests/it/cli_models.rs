//! `ubdlab replay --driver linux-6.12` and `linux-2.6`: what the real drivers lose is found, the
//! models without defects lose nothing, and what a model cannot do is refused before anything is
//! written.

use driver::cow::Version;
use serde_json::Value;

use crate::image_commands::check::interrupted_reflow;
use crate::support::cli::{Sandbox, ftrace};
use crate::support::images;

const MODELS: [&str; 2] = ["linux-6.12", "linux-2.6"];

/// A sandbox with a trace of short and long reads and writes all over a small device, with flushes
/// and FUA, and without discards.
fn with_mixed_trace() -> Sandbox {
    let sandbox = Sandbox::with_device();
    let generated = sandbox.run(&[
        "trace",
        "generate",
        "@mixed",
        "--requests=1500",
        "--size=1M",
        "--mix=read:50,write:50",
        "--request-size=512:2,4K:2,32K:1",
        "--fua=3",
        "--seed=5",
    ]);
    assert!(generated.status.success(), "{generated:?}");
    sandbox
}

fn other_faults(report: &Value) -> u64 {
    report["other_faults"].as_u64().unwrap()
}

/// Replays and looks at the exit status; the report.
fn replayed(sandbox: &Sandbox, args: &[&str], status: i32) -> Value {
    let args = [&["replay"], args, &["--json"]].concat();
    let output = sandbox.run(&args);
    let said = sandbox.text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "of {args:?}: {said}");
    serde_json::from_str(&sandbox.text(&output.stdout)).unwrap()
}

fn mismatches(report: &Value) -> u64 {
    report["mismatches"].as_u64().unwrap()
}

#[test]
fn a_known_defect_is_seen_with_the_sectors_that_it_mixes_up() {
    let sandbox = with_mixed_trace();
    for defect in [&[][..], &["--defect=last-run-offset"]] {
        let model = &["@mixed", "--driver=linux-6.12", "--memory"];
        let report = replayed(&sandbox, &[model, defect].concat(), 1);
        assert!(mismatches(&report) > 0);
        let example = report["mismatch_examples"][0].as_str().unwrap();
        assert!(example.starts_with("request "), "{example}");
        assert!(example.contains(": sector "), "{example}");
        assert_eq!(report["driver"], "linux-6.12");
        let defects = report["defects"].as_array().unwrap();
        assert!(defects.contains(&"last-run-offset".into()));
        assert_eq!(defects.len(), if defect.is_empty() { 21 } else { 1 });
    }
    let text = sandbox.run(&["replay", "@mixed", "--driver=linux-6.12", "--memory"]);
    let text = sandbox.text(&text.stdout);
    assert!(
        text.contains(
            "served by the model of linux-6.12, with 21 defects:\n             flush-noop, \
             flush-wrong-file, unordered-publish, requeue-loses-bitmap,"
        ),
        "{text}"
    );
    let mut names = text
        .lines()
        .filter(|line| line.starts_with("             "));
    assert!(names.all(|line| line.len() <= 100), "{text}");
    assert!(!text.contains("with a pipe of"), "{text}");
}

/// A few bytes of a trace imply a device of any size, most of which is holes.
#[test]
fn a_large_device_is_not_read_where_its_files_have_holes() {
    let sandbox = Sandbox::new();
    let far = 13 << 20;
    let requests = [("WS", 0, 8), ("WS", far + 1, 1), ("WS", far + 8, 8)];
    sandbox.write("far", ftrace(&requests));
    for (model, place) in MODELS
        .iter()
        .flat_map(|model| [(model, "--memory"), (model, "--io=inline")])
    {
        let args = ["@far", "--driver", model, place, "--size=8G"];
        let report = replayed(&sandbox, &[&args[..], &["--defect=none"]].concat(), 0);
        let sectors = |of: &str| report[of].as_u64().unwrap();
        // At the end, and once more when it was reopened.
        assert_eq!(
            sectors("sectors_in_holes") + sectors("sectors_verified"),
            2 * (16 << 20)
        );
        assert!(sectors("sectors_in_holes") > 31 << 20, "{report}");
        assert!(sectors("sectors_sampled") > 0, "{report}");
        // What was written is read, and all around it.
        if *model == "linux-6.12" {
            let defect = ["--defect=last-run-offset"];
            let report = replayed(&sandbox, &[&args[..], &defect].concat(), 1);
            assert!(mismatches(&report) > 0);
        }
    }
}

#[test]
fn a_defect_that_needs_a_full_pipe_is_seen() {
    let sandbox = with_mixed_trace();
    // Linux 2.6 has one request at a time, and never fills it.
    for place in ["--memory", "--io=inline", "--io=threads"] {
        let model = ["@mixed", "--driver=linux-6.12", place];
        let args = [&model[..], &["--defect=requeue-loses-bitmap"]].concat();
        let report = replayed(&sandbox, &args, 1);
        assert!(mismatches(&report) > 0, "{place}");
        let examples = report["mismatch_examples"].as_array().unwrap();
        let is_lost = |example: &Value| example.as_str().unwrap().starts_with("after reopening: ");
        assert!(examples.iter().all(is_lost), "{examples:?}");
        assert_eq!(report["small_pipe_requests"], 4);
        let args = [&["replay"], &args[..]].concat();
        let text = sandbox.text(&sandbox.run(&args).stdout);
        assert!(text.contains("with a pipe of 4 requests: "), "{text}");
    }
}

/// The real driver keeps the bits of all these writes, with 64 requests in flight: its pipe has
/// room for them.
#[test]
fn a_pipe_as_large_as_the_real_one_loses_no_bitmap() {
    let sandbox = Sandbox::with_device();
    let discards: Vec<_> = (0..512).map(|n| ("D", n * 4, 4)).collect();
    sandbox.write("discards", ftrace(&discards));
    for depth in ["--depth=32", "--depth=64"] {
        let args = ["@discards", "--driver=linux-6.12", "--memory", depth];
        let report = replayed(&sandbox, &[&args[..], &["--size=1M"]].concat(), 0);
        assert_eq!(report["defects"].as_array().unwrap().len(), 21);
        assert_eq!(report["small_pipe_requests"], Value::Null);
        let lossy = ["--size=1M", "--defect=requeue-loses-bitmap"];
        assert!(mismatches(&replayed(&sandbox, &[&args[..], &lossy].concat(), 1)) > 0);
    }
}

/// A kernel's driver is not asked to have what only another one had.
#[test]
fn a_defect_of_the_other_kernel_alone_is_refused_and_its_driver_is_named() {
    let sandbox = Sandbox::with_device();
    for (defect, driver, other) in [
        ("v3-64-bit-layout", "linux-6.12", "linux-2.6"),
        ("flush-wrong-file", "linux-2.6", "linux-6.12"),
    ] {
        let refusal = format!(
            "ubdlab: --defect {defect}: --driver {driver} never had it; --driver {other} has\n"
        );
        let option = format!("--driver={driver}");
        let common = [option.as_str(), "--defect", defect];
        sandbox.fails(&[&["replay", "@trace"], &common[..]].concat(), 2, &refusal);
        sandbox.fails(&[&["fuzz", "--cases=1"], &common[..]].concat(), 2, &refusal);
    }
}

#[test]
fn the_page_says_which_model_it_was_with_which_defects() {
    let sandbox = with_mixed_trace();
    let page = |defect: &str, status| {
        let defect = format!("--defect={defect}");
        let page = "--report=@page.html";
        let args = ["@mixed", "--driver=linux-6.12", "--memory", &defect, page];
        replayed(&sandbox, &args, status);
        String::from_utf8(sandbox.read("page.html")).unwrap()
    };
    let lossy = page("last-run-offset", 1);
    for part in [
        "The model of linux-6.12 loses data",
        "replayed by the model of linux-6.12, with the defect last-run-offset.",
        "show not what is right",
    ] {
        assert!(lossy.contains(part), "{part}");
    }
    assert!(!lossy.contains("that no sector shows"));
    let good = page("none", 0);
    assert!(good.contains("replayed by the model of linux-6.12, with no defect."));
    assert!(good.contains("Nothing was lost"));
}

#[test]
fn without_defects_nothing_is_lost_also_after_closing_and_reopening() {
    let sandbox = with_mixed_trace();
    for driver in MODELS {
        let driver = format!("--driver={driver}");
        for place in [
            &["--memory"][..],
            &["--memory", "--stamps-only"],
            &["--io=inline"],
            &["--io=threads"],
            // What it holds then is what the model before it has left.
            &["--device=ubda=@cow"],
            &["--device=ubda=@cow,@backing"],
        ] {
            let common = &["@mixed", &driver, "--defect=none"];
            let report = replayed(&sandbox, &[common, place].concat(), 0);
            assert_eq!(mismatches(&report), 0, "{driver} {place:?}");
            let read = report["sectors_read"].as_u64().unwrap();
            // Every sector, at the end and after reopening.
            let all = report["sectors_verified"].as_u64().unwrap();
            assert_eq!(all, read + 2 * 2048, "{driver} {place:?}");
            assert!(report["syncs"].as_u64().unwrap() > 0);
            assert_eq!(report["defects"], Value::Array(vec![]));
        }
    }
    // And what they have left is right for the right driver.
    let report = replayed(&sandbox, &["@mixed", "--device=ubda=@cow"], 0);
    assert_eq!(
        (mismatches(&report), &report["driver"]),
        (0, &"ordered".into())
    );
    assert!(
        sandbox
            .succeeds(&["image", "check", "@cow"])
            .contains("no fault")
    );
}

#[test]
fn what_cannot_go_together_is_wrong_usage_and_nothing_is_touched() {
    let sandbox = Sandbox::with_device();
    for (args, what) in [
        (&["--resize-at=1:2M"][..], "--resize-at"),
        (&["--strategy=reflow"], "--strategy"),
        (&["--shrink"], "--shrink"),
        (&["--device=ubda=@cow,@backing,2M"], "the SIZE of --device"),
        (&["--device=ubdar=@cow"], "the flag r of --device"),
        (&["--device=ubdas=@cow"], "the flag s of --device"),
        (&["--device=ubdac=@cow"], "the flag c of --device"),
        (&["--device=ubdad=@backing"], "the flag d of --device"),
        (
            &["--device=ubda=@cow,@backing", "--switch-backing"],
            "--switch-backing",
        ),
        (
            &["--device=ubda=@cow", "--confine-backing"],
            "--confine-backing",
        ),
    ] {
        for driver in MODELS {
            let option = format!("--driver={driver}");
            let args = [&["replay", "@trace", &option], args].concat();
            let message =
                format!("ubdlab: {what}: only --driver ordered can do that, not {driver}\n");
            sandbox.fails(&args, 2, &message);
        }
    }
    sandbox.fails(
        &["replay", "@trace", "--defect=flush-noop"],
        2,
        "ubdlab: --defect flush-noop: --driver ordered has none: --driver linux-6.12 or \
         linux-2.6\n",
    );
    sandbox.fails(
        &[
            "replay",
            "@trace",
            "--driver=linux-2.6",
            "--defect=none",
            "--defect=flush-noop",
        ],
        2,
        "ubdlab: --defect none: found with another defect\n",
    );
    let output = sandbox.run(&["replay", "@trace", "--memory", "--io=threads"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn what_a_model_cannot_do_is_an_error_before_anything_is_written() {
    let sandbox = Sandbox::with_device();
    sandbox.write("discards", ftrace(&[("WS", 0, 8), ("D", 8, 8)]));
    sandbox.refuses(
        &[
            "replay",
            "@discards",
            "--driver=linux-2.6",
            "--device=ubda=@cow",
        ],
        "@discards: request 2, a discard: --driver linux-2.6 knows none, linux-6.12 does; \
         --skip-unsupported leaves them out and counts them",
    );
    // Larger than a model's bitmap in memory.
    for place in [&["--memory"][..], &["--out=@new"]] {
        let args = ["replay", "@trace", "--driver=linux-6.12", "--size=2049G"];
        let output = sandbox.run(&[&args, place].concat());
        let said = sandbox.text(&output.stderr);
        let what =
            "device.cow: found a device of 4297064448 sectors, at most 4294967296 are supported\n";
        assert!(said.ends_with(what), "{said}");
        assert_eq!(output.status.code(), Some(3));
        assert!(!sandbox.path("new").exists());
    }
    interrupted_reflow(&sandbox);
    for driver in MODELS {
        sandbox.refuses(
            &[
                "replay",
                "@trace",
                &format!("--driver={driver}"),
                "--device=ubda=@cow",
            ],
            "@cow: COW file: a resize is under way in it: recover it first",
        );
    }
}

#[test]
fn a_kernel_that_dies_is_a_finding_that_says_of_what() {
    let sandbox = Sandbox::with_device();
    sandbox.write(
        "discards",
        ftrace(&[("WS", 0, 8), ("D", 8, 200), ("R", 0, 8)]),
    );
    // With the COW file alone named, the limits of a device without one apply.
    let report = replayed(
        &sandbox,
        &[
            "@discards",
            "--driver=linux-6.12",
            "--device=ubda=@cow",
            "--report=@page.html",
        ],
        1,
    );
    // It is no sector that is wrong.
    assert_eq!((mismatches(&report), other_faults(&report)), (0, 1));
    let page = String::from_utf8(sandbox.read("page.html")).unwrap();
    for part in [
        "The model of linux-6.12 fails",
        "sectors compared is wrong. 1 fault was found that no sector shows.",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("show not what is right"));
    assert_eq!(
        report["mismatch_examples"][0],
        "at the end: the driver died: a segment of 200 sectors does not fit its mask of 64 bits"
    );
    for args in [
        &["--device=ubda=@cow", "--defect=none"][..],
        &["--device=ubda=@cow,@backing"],
    ] {
        let args = [&["@discards", "--driver=linux-6.12"], args].concat();
        assert_eq!(mismatches(&replayed(&sandbox, &args, 0)), 0);
    }
}

#[test]
fn a_header_that_a_defect_destroys_is_found_when_the_device_is_reopened() {
    let sandbox = Sandbox::new();
    // 64 sectors: one word of bitmap, which V1 has right after its header.
    sandbox.write_backing("backing", 64 * 512);
    sandbox.write("trace", ftrace(&[("WS", 0, 8), ("R", 0, 16)]));
    for (defect, status) in [("one-word-underflow", 1), ("none", 0)] {
        let header = images::header(Version::V1, &sandbox.path("backing"), 64 * 512);
        sandbox.write_image_under("cow", &header, &[60]);
        let defect = format!("--defect={defect}");
        let args = [
            "@trace",
            "--driver=linux-2.6",
            "--device=ubda=@cow",
            &defect,
        ];
        let report = replayed(&sandbox, &args, status);
        if status == 1 {
            let example = report["mismatch_examples"][0].as_str().unwrap();
            let what = "after reopening: the device does not come up: ";
            assert!(example.starts_with(what), "{example}");
        }
    }
}

/// A defect that needs a crash does not show, and that is said.
#[test]
fn why_a_defect_does_not_show_is_said() {
    let sandbox = with_mixed_trace();
    let args = ["replay", "@mixed", "--driver=linux-6.12", "--memory"];
    let said = |defect| sandbox.succeeds(&[&args[..], &[defect]].concat());
    let why = "most defects show only after a crash, with a failing host or on a damaged file, of \
               which a replay has none: ubdlab fuzz --driver linux-6.12 has all of them\n";
    assert!(said("--defect=flush-noop").contains(why));
    assert!(!said("--defect=none").contains(why));
}

/// What a model refuses is no way out of what it says.
#[test]
fn another_backing_file_is_refused_without_an_option_that_a_model_has_not() {
    let sandbox = with_mixed_trace();
    sandbox.write_backing("other", 1 << 20);
    let args = ["replay", "@trace", "--device=ubda=@cow,@other"];
    let refusal = "@cow: its header names the backing file @backing, @other was asked for";
    for driver in MODELS {
        let driver = format!("--driver={driver}");
        let output = sandbox.run(&[&args[..], &[&driver]].concat());
        let said = sandbox.text(&output.stderr);
        assert!(!said.contains("--switch-backing"), "{said}");
    }
    sandbox.refuses(
        &args,
        &format!("{refusal}: --switch-backing writes it into the header"),
    );
}
