//! The program where all goes well: replay, trace and demo, and what they report.

use crate::image_commands::recover::with_half_changed_header;
use crate::support::cli;
use crate::support::peers;
use std::collections::BTreeSet;
use std::process::Stdio;

use crate::support::cli::{Sandbox, bundled, ftrace, ubdlab, vscsi};
use serde_json::Value;

const REQUESTS: u64 = 29_818;

fn ext4() -> String {
    bundled("ext4-unpack.ubdtrace").display().to_string()
}

fn number(report: &Value, field: &str) -> u64 {
    let value = report.get(field).and_then(Value::as_u64);
    value.unwrap_or_else(|| panic!("no number {field} in {report}"))
}

/// Everything that a report has to have, with values that can be.
fn check_report(report: &Value, requests: u64, final_bytes: u64) {
    assert_eq!(number(report, "requests"), requests);
    assert_eq!(number(report, "mismatches"), 0);
    assert_eq!(report["mismatch_examples"], Value::Array(vec![]));
    let read = number(report, "sectors_read");
    assert_eq!(
        number(report, "sectors_verified"),
        read + 2 * final_bytes / 512
    );
    for field in ["sectors_written", "flushes", "syncs", "elapsed_ns"] {
        assert!(number(report, field) > 0, "{field}");
    }
    for field in ["requests_per_second", "bytes_per_second"] {
        assert!(report[field].as_f64().unwrap() > 0.0, "{field}");
    }
    for kind in ["read", "write", "flush", "during_resize"] {
        let latency = &report["latency"][kind];
        let percentiles = ["p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns"];
        let values: Vec<_> = percentiles.map(|name| number(latency, name)).into();
        assert!(values.is_sorted(), "{kind}: {values:?}");
        assert_eq!(number(latency, "count") > 0, values[0] > 0, "{kind}");
    }
    for resize in report["resizes"].as_array().unwrap() {
        assert!(number(resize, "elapsed_ns") > 0);
        assert!(resize["strategy"].is_string());
        number(resize, "moved_bytes");
    }
}

#[test]
fn a_replay_on_files_with_two_resizes() {
    let sandbox = Sandbox::new();
    let report = sandbox.report(&[
        "replay",
        &ext4(),
        "--size=201M",
        "--past-end=wrap",
        "--resize-at=10000:256M:rebuild",
        "--resize-at=20000:320M:reflow",
        "--out=@out",
    ]);
    check_report(&report, REQUESTS, 320 << 20);
    assert_eq!(report["backing_unchanged"], true);
    // What becomes of the files is for people.
    assert_eq!(report["device"], "device.cow over backing.img in @out");
    let resizes = report["resizes"].as_array().unwrap();
    let seen: Vec<_> = resizes
        .iter()
        .map(|resize| {
            let fields = ["at_request", "old_bytes", "new_bytes"];
            let strategy = resize["strategy"].as_str().unwrap();
            (strategy, fields.map(|field| number(resize, field)))
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("rebuild", [10_000, 201 << 20, 256 << 20]),
            ("reflow", [20_000, 256 << 20, 320 << 20])
        ]
    );
    let files: BTreeSet<_> = sandbox.contents().into_keys().collect();
    let expected = ["out", "out/backing.img", "out/device.cow"];
    assert_eq!(files, expected.map(|name| sandbox.path(name)).into());
    // What was made is a device like any other.
    let again = sandbox.report(&[
        "replay",
        &ext4(),
        "--device=ubda=@out/device.cow",
        "--past-end=clip",
        "--limit=4000",
    ]);
    check_report(&again, 4000, 320 << 20);
}

/// Headroom, rebuild and reflow under requests whose operations are carried out by each executor.
#[test]
fn a_replay_comes_to_the_same_whoever_carries_its_operations_out() {
    let mut taken = Vec::new();
    for io in ["inline", "threads", "uring", "auto"] {
        let sandbox = Sandbox::new();
        let io = format!("--io={io}");
        let arguments = [
            "replay",
            &ext4(),
            "--size=100M",
            "--past-end=wrap",
            "--limit=4000",
            "--resize-at=500:110M:headroom",
            "--resize-at=1000:128M:rebuild",
            "--resize-at=2000:180M:reflow",
            &io,
            "--json",
        ];
        let output = sandbox.run(&arguments);
        if io == "--io=uring" && output.status.code() == Some(3) {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(text.contains("io_uring is not to be had here"), "{text}");
            assert!(
                text.contains("--io threads and --io inline work everywhere"),
                "{text}"
            );
            eprintln!("skipped: {text}");
            continue;
        }
        assert_eq!(output.status.code(), Some(0), "{io}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        check_report(&report, 4000, 180 << 20);
        assert_eq!(report["backing_unchanged"], true);
        taken.push(report["io"].as_str().unwrap().to_owned());
    }
    let auto = taken.pop().unwrap();
    assert_eq!(taken[..2], ["inline", "threads"]);
    let best = taken.last().unwrap();
    assert_eq!(
        &auto, best,
        "the last of the list, as far as the kernel has it"
    );
}

#[test]
fn a_replay_in_memory() {
    let sandbox = Sandbox::new();
    let report = sandbox.report(&[
        "replay",
        &ext4(),
        "--memory",
        "--size=200M",
        "--past-end=wrap",
        "--resize-at=15000:256M",
    ]);
    check_report(&report, REQUESTS, 256 << 20);
    assert_eq!(sandbox.contents().len(), 0);
}

/// A replay with one stamp a sector: the driver, the map and the resizes are those of any replay.
#[test]
fn a_replay_with_stamps_only() {
    let sandbox = Sandbox::new();
    let arguments = [
        "replay",
        &ext4(),
        "--memory",
        "--size=200M",
        "--past-end=wrap",
        "--resize-at=8000:208M:headroom",
        "--resize-at=15000:256M:rebuild",
        "--resize-at=22000:320M:reflow",
    ];
    let whole = sandbox.report(&arguments);
    let stamps = sandbox.report(&[&arguments[..], &["--stamps-only"]].concat());
    check_report(&stamps, REQUESTS, 320 << 20);
    assert_eq!(whole["stamps_only"], false);
    assert_eq!(stamps["stamps_only"], true);
    assert_eq!(stamps["backing_unchanged"], true);
    // What the driver did is what it does with payload.
    for field in ["sectors_read", "sectors_written", "flushes", "discards"] {
        assert_eq!(stamps[field], whole[field], "{field}");
    }
    assert_eq!(sandbox.contents().len(), 0);
}

/// The report for people, of the same.
#[test]
fn the_report_in_words() {
    let sandbox = Sandbox::with_device();
    let text = sandbox.succeeds(&["replay", "@trace", "--memory", "--size=1M"]);
    for part in [
        "trace      @trace\ndevice     in memory\n",
        "replayed   2 requests in ",
        "           4 KiB read, 4 KiB written, 0 flushes, 0 FUA, 0 discards\n",
        "verified   4,104 sectors against the model in ",
        ": 0 mismatches\n           the backing file is unchanged, byte for byte\n",
    ] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

#[test]
fn a_given_device_is_created_and_used_again() {
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", 1 << 20);
    let backing = sandbox.read("backing");
    sandbox.write(
        "first",
        ftrace(&[("WS", 0, 64), ("R", 0, 512), ("WS", 2000, 48)]),
    );
    sandbox.write(
        "second",
        ftrace(&[("R", 0, 2048), ("WS", 32, 64), ("R", 0, 2048)]),
    );
    let run = |trace, device| sandbox.report(&["replay", trace, "--device", device]);

    let report = run("@first", "ubda=@cow,@backing");
    assert_eq!(
        (
            number(&report, "mismatches"),
            number(&report, "sectors_verified")
        ),
        (0, 512 + 4096)
    );
    assert_eq!(report["backing_unchanged"], Value::Null);
    // It holds data now, and finds its backing file by itself.
    let report = run("@second", "ubdb=@cow");
    assert_eq!(
        (
            number(&report, "mismatches"),
            number(&report, "sectors_verified")
        ),
        (0, 4096 + 4096)
    );
    // With a size: resized before the replay, and only once.
    for _ in 0..2 {
        let report = run("@second", "ubda=@cow,@backing,64M");
        assert_eq!(number(&report, "mismatches"), 0);
        assert_eq!(number(&report, "sectors_verified"), 4096 + 2 * (64 << 11));
    }
    assert!(sandbox.read("backing") == backing);
    // A new device with a size of its own, which the trace makes use of.
    sandbox.write("large", ftrace(&[("WS", 100_000, 64), ("R", 100_000, 64)]));
    let report = run("@large", "ubda=@new,@backing,64M");
    assert_eq!(number(&report, "mismatches"), 0);
}

/// The second request comes three seconds after the first.
const SLOW: &str = "\
time_ns,operation,preflush,fua,start_sector,sectors
0,write,0,0,0,8
3000000000,read,0,0,0,8
";

/// A file that stays the same one lacks nothing, whatever its owner changes about it.
#[test]
fn a_mode_that_is_changed_on_the_way_is_no_loss() {
    let sandbox = Sandbox::with_device();
    sandbox.write("slow", SLOW);
    let args = ["replay", "@slow", "--device=ubda=@cow", "--pace=recorded"];
    let mut command = ubdlab();
    command.args(sandbox.args(&args));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let before = sandbox.read("cow");
    let mut child = command.spawn().unwrap();
    while sandbox.read("cow") == before && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(sandbox.path("cow"), mode).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(sandbox.text(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_device_that_uml_mkcow_has_made() {
    let Some(mkcow) = peers::peer("uml_mkcow") else {
        return;
    };
    let sandbox = Sandbox::with_device();
    let made = std::process::Command::new(mkcow)
        .args([sandbox.path("stock"), sandbox.path("backing")])
        .status();
    assert!(made.unwrap().success());
    let report = sandbox.report(&["replay", "@trace", "--device=ubda=@stock,@backing,64M"]);
    assert_eq!(number(&report, "mismatches"), 0);
    assert_eq!(number(&report, "sectors_verified"), 8 + 2 * (64 << 11));
}

#[test]
fn a_device_switched_to_another_backing_file() {
    let sandbox = Sandbox::with_device();
    sandbox.write("other", vec![7; 1 << 20]);
    let args = [
        "replay",
        "@trace",
        "--device",
        "ubda=@cow,@other",
        "--switch-backing",
    ];
    sandbox.succeeds(&args);
    // Afterwards it is what the header names.
    sandbox.succeeds(&["replay", "@trace", "--device", "ubda=@cow,@other"]);
}

#[test]
fn a_device_is_switched_to_no_image_unless_it_is_said_to_be_raw() {
    let sandbox = Sandbox::with_device();
    let mut image = vec![7; 1 << 20];
    image[..4].copy_from_slice(b"OOOM");
    sandbox.write("other", image);
    let refusal = "@other: begins like a COW file, and a backing file is a raw disk: its header \
                   would be taken for the disk's first sectors. Merge it into a raw disk first \
                   (ubdlab image merge); --backing-format raw if it is a raw disk all the same";
    let switched = [
        "replay",
        "@trace",
        "--device",
        "ubda=@cow,@other",
        "--switch-backing",
    ];
    let created = ["replay", "@trace", "--device", "ubda=@new,@other"];
    for args in [&switched[..], &created] {
        sandbox.refuses(args, refusal);
        let told = [args, &["--backing-format", "raw"]].concat();
        let done = sandbox.run(&told);
        assert_eq!(
            done.status.code(),
            Some(0),
            "{}",
            sandbox.text(&done.stderr)
        );
        // The header names it: it was said once.
        let done = sandbox.run(args);
        assert_eq!(
            done.status.code(),
            Some(0),
            "{}",
            sandbox.text(&done.stderr)
        );
    }
}

/// A switch that was interrupted half-way is finished on opening, and the report says so.
#[test]
fn a_half_changed_header_that_a_replay_finishes_is_reported() {
    let args = |more: &[&'static str]| {
        let device = ["replay", "@trace", "--device", "ubda=@v2,@other"];
        [&device[..], &["--switch-backing"], more].concat()
    };
    let sandbox = with_half_changed_header();
    sandbox.write("trace", "1,W,4096,4096,1\n");
    let report = sandbox.report(&args(&[]));
    assert_eq!(report["finished_switch"], true);
    // Nothing is left to finish.
    let report = sandbox.report(&args(&[]));
    assert_eq!(report["finished_switch"], false);
    let line = "finished   a header that was half changed to another backing file, on opening\n";
    let text = sandbox.succeeds(&args(&[]));
    assert!(!text.contains("finished"), "{text}");
    let sandbox = with_half_changed_header();
    sandbox.write("trace", "1,W,4096,4096,1\n");
    let text = sandbox.succeeds(&args(&["--report", "@page.html"]));
    assert!(text.contains(line), "{text}");
    let page = String::from_utf8(sandbox.read("page.html")).unwrap();
    assert!(page.contains("opening the device finished that"));
}

#[test]
fn trace_info_counts() {
    let sandbox = Sandbox::new();
    let info = sandbox.report(&["trace", "info", &ext4()]);
    assert_eq!(info["format"], "ubdtrace");
    assert_eq!(number(&info, "requests"), REQUESTS);
    let kinds = ["reads", "writes", "flushes", "discards", "write_zeroes"];
    let sum: u64 = kinds.iter().map(|kind| number(&info, kind)).sum();
    assert_eq!(sum, REQUESTS);
    for field in [
        "device_size_sectors",
        "sectors_read",
        "sectors_written",
        "max_end_sector",
    ] {
        assert!(number(&info, field) > 0, "{field}");
    }
    let text = sandbox.succeeds(&["trace", "info", &ext4()]);
    assert!(text.contains("requests    29,818\n"), "{text}");
}

/// What does not change with the format.
fn counts(mut info: Value) -> Value {
    let fields = info.as_object_mut().unwrap();
    // What only the format says.
    for field in [
        "format",
        "text",
        "time_unit",
        "position_unit",
        "event",
        "devices",
    ] {
        fields.remove(field);
    }
    info
}

#[test]
fn a_conversion_keeps_every_count() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "ftrace",
        ftrace(&[
            ("WFS", 0, 8),
            ("FWS", 8, 8),
            ("DS", 64, 64),
            ("R", 0, 16),
            ("WS", 128, 8),
        ]),
    );
    sandbox.write("vscsi", vscsi(100));
    for source in ["ftrace", "vscsi"] {
        let source = format!("@{source}");
        // Replaced, whatever it was.
        sandbox.write("target", "something else");
        let said = sandbox.succeeds(&["trace", "convert", &source, "@target"]);
        assert!(said.starts_with("@target: "), "{said}");
        let before = counts(sandbox.report(&["trace", "info", &source]));
        let after = counts(sandbox.report(&["trace", "info", "@target"]));
        assert_eq!(before, after);
        // Once more, from and to our own format: not a byte changes.
        sandbox.succeeds(&["trace", "convert", "@target", "@again"]);
        assert!(sandbox.read("target") == sandbox.read("again"));
    }
    // From another format to our own.
    sandbox.succeeds(&["trace", "convert", "@vscsi", "@own"]);
    let info = sandbox.report(&["trace", "info", "@own"]);
    assert_eq!(
        (info["format"].as_str(), number(&info, "requests")),
        (Some("ubdtrace"), 100)
    );
    // (That a source that fails leaves the target as it was, cli_bad_input shows.)
}

#[test]
fn the_demo_writes_only_where_it_should() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("temporary")).unwrap();
    let mut command = cli::ubdlab();
    command
        .args(sandbox.args(&["demo", "--json", "--out", "@out", "--io", "threads"]))
        .env("TMPDIR", sandbox.path("temporary"))
        .current_dir(sandbox.path("."));
    let output = cli::output(&mut command);
    assert_eq!((output.stderr, output.status.code()), (vec![], Some(0)));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    check_report(&report, REQUESTS, 320 << 20);
    assert_eq!(report["io"], "threads");
    let resizes = report["resizes"].as_array().unwrap();
    let strategies: Vec<_> = resizes.iter().map(|resize| &resize["strategy"]).collect();
    assert_eq!(strategies, ["headroom", "rebuild", "reflow"]);
    let files: BTreeSet<_> = sandbox.contents().into_keys().collect();
    let expected = ["out", "out/backing.img", "out/device.cow", "temporary"];
    assert_eq!(files, expected.map(|name| sandbox.path(name)).into());
}

/// What is measured depends on the machine; that it is, and of what, does not.
#[test]
fn a_given_trace_is_measured() {
    let sandbox = Sandbox::new();
    sandbox.write("mine.vscsi", vscsi(100));
    let args = ["bench", "replay", "@mine.vscsi", "--only", "mine", "--json"];
    let output = sandbox.run(&args);
    assert_eq!(output.status.code(), Some(0));
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = rows.as_array().unwrap();
    let names: Vec<_> = rows
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "replay/mine.vscsi/payload",
            "replay/mine.vscsi/requests",
            "replay/mine.vscsi/payload, comparisons of the whole device included",
            "replay/mine.vscsi/stamps only",
        ]
    );
    for row in rows {
        assert!(row["value"].as_f64().unwrap() > 0.0, "{row}");
    }
    assert_eq!(rows[0]["target"], 2.0);
    let args = ["bench", "replay", "@none", "--only", "none"];
    let message = "@none: opening: no such file or directory";
    sandbox.refuses(&args, message);
}

/// In a file of version 2 whose size is no multiple of 4 KiB, the last sectors have no bit.
#[test]
fn a_write_to_sectors_without_a_bit_says_why_it_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", (1 << 20) + 3 * 512);
    sandbox.succeeds(&[
        "image",
        "convert",
        "@backing",
        "@cow",
        "--to",
        "v2",
        "--backing",
        "@backing",
    ]);
    sandbox.write("trace", ftrace(&[("WS", 2050, 1)]));
    sandbox.device_refused(&refused("@cow: request 1 (write, sectors 2050+1)"));
}

/// What is told of a change that the device does not take.
fn refused(request: &str) -> String {
    format!(
        "{request}: I/O error: the device takes no writes there: it is read-only (flag r), or these \
         sectors have no bit in a bitmap of version 1 or 2, which ubdlab image check tells and a \
         resize ends"
    )
}

#[test]
fn a_change_of_a_read_only_device_says_why_it_is_refused() {
    let sandbox = Sandbox::with_device();
    for (flags, what) in [("WS", "write"), ("DS", "discard")] {
        sandbox.write("trace", ftrace(&[("R", 0, 8), (flags, 8, 8)]));
        let replay = ["replay", "@trace", "--device", "ubdar=@cow"];
        let request = format!("@cow: request 2 ({what}, sectors 8+8)");
        sandbox.refuses(&replay, &refused(&request));
    }
}

#[test]
fn a_live_resize_that_takes_the_file_from_stock_uml_says_so() {
    let sandbox = Sandbox::with_device();
    for strategy in ["reflow", "rebuild"] {
        let cow = format!("@{strategy}");
        let create = ["image", "create", &cow, "--backing", "@backing"];
        sandbox.succeeds(&[&create[..], &["--max-size", "2T"]].concat());
        let device = format!("ubda={cow}");
        let at = format!("1:2M:{strategy}");
        let replay = [
            "replay",
            "@trace",
            "--device",
            &device,
            "--resize-at",
            &at,
            "--report",
            "@page",
        ];
        let said = sandbox.succeeds(&replay);
        let page = String::from_utf8(sandbox.read("page")).unwrap();
        let by = format!("by {strategy}: 1 MiB to 2 MiB");
        assert!(said.contains(&by), "{said}");
        // It only moves the data up.
        let leaves = strategy == "reflow";
        let line = "its data starts at byte 2147483648 now, past the 2 GiB that stock UML can \
                    reach: only ubdlab can use the file";
        assert_eq!(said.contains(line), leaves, "{said}");
        assert_eq!(page.contains(line), leaves, "{page}");
    }
}
