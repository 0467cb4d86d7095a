//! The program on traces of all formats: from files and from standard input, a part of them, at
//! their own pace, with their own data, generated and counted.

use std::process::Stdio;

use crate::support::cli::{Sandbox, bundled, ftrace, output, ubdlab};
use serde_json::Value;

fn sample(name: &str) -> String {
    bundled("samples").join(name).display().to_string()
}

/// Runs with this on standard input, which has to succeed; what it prints.
fn with_input(args: &[&str], input: &str) -> String {
    let mut command = ubdlab();
    command
        .args(args)
        .stdin(Stdio::from(std::fs::File::open(input).unwrap()));
    let output = output(&mut command);
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "of {args:?}");
    assert_eq!(output.status.code(), Some(0));
    String::from_utf8(output.stdout).unwrap()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn every_sample_is_replayed_and_verified() {
    let sandbox = Sandbox::new();
    for (name, requests) in [
        ("blkparse.txt", 6),
        ("ftrace.txt", 5),
        ("trace-cmd.txt", 2),
        ("perf-script.txt", 2),
        ("fio-v2.log", 5),
        ("fio-v3.log", 5),
        ("msr.csv", 3),
        ("msr.csv.gz", 3),
        ("msr.csv.zst", 3),
        ("systor.csv", 2),
        ("alibaba.csv", 3),
        ("tencent.csv", 3),
        ("own.csv", 5),
        ("v7-little.blktrace.1", 5),
        ("v8-big.blktrace", 4),
        ("vscsi-1.bin", 4),
        ("vscsi-2.bin", 4),
        ("log-writes-512.bin", 5),
        ("log-writes-4096.bin", 5),
    ] {
        for past_end in ["wrap", "clip", "scale"] {
            let report = sandbox.report(&[
                "replay",
                &sample(name),
                "--memory",
                "--size",
                "4M",
                "--past-end",
                past_end,
            ]);
            assert_eq!(report["requests"], requests, "{name}");
            assert_eq!(report["mismatches"], 0, "{name}, {past_end}");
        }
    }
}

#[test]
fn the_data_of_dm_log_writes_is_what_is_on_the_device() {
    let sandbox = Sandbox::new();
    let report = sandbox.report(&["replay", &sample("log-writes-4096.bin"), "--out", "@out"]);
    assert_eq!(report["mismatches"], 0);
    assert_eq!(report["sectors_written"], 32);
    assert_eq!(report["sectors_written_with_data"], 32);
    // After the COW file's bitmap comes the device's content, here from the log alone.
    let cow = sandbox.read("out/device.cow");
    let begins = |text: &[u8]| {
        cow.chunks_exact(512)
            .filter(|sector| sector.starts_with(text))
            .count()
    };
    assert_eq!(
        begins(b"first writefirst write"),
        1,
        "its other blocks begin elsewhere in the text"
    );
    // The text of 14 bytes begins anew with the eighth sector too.
    assert_eq!(begins(b"a commit blocka commit block"), 2);
    assert_eq!(begins(b"written againwritten again"), 1);
}

#[test]
fn a_trace_comes_from_standard_input() {
    let sandbox = Sandbox::new();
    let trace = bundled("xfs-copy.ubdtrace").display().to_string();
    let by_name = sandbox.succeeds(&["trace", "info", &trace]);
    assert_eq!(with_input(&["trace", "info", "-"], &trace), by_name);
    let report = json(&with_input(&["replay", "-", "--memory", "--json"], &trace));
    assert_eq!(
        (&report["requests"], &report["mismatches"]),
        (&7961.into(), &0.into())
    );
    let csv = with_input(
        &["trace", "convert", "-", "-", "--as", "csv", "--limit", "2"],
        &trace,
    );
    assert_eq!(csv.lines().count(), 3, "{csv}");
}

#[test]
fn a_part_is_taken_by_number_and_by_time() {
    let sandbox = Sandbox::new();
    let requests = |args: &[&str]| {
        let own = sample("own.csv");
        let args = [&["trace", "info", &own], args].concat();
        sandbox.report(&args)["requests"].as_u64().unwrap()
    };
    assert_eq!(requests(&[]), 5);
    assert_eq!(requests(&["--skip", "1"]), 4);
    assert_eq!(requests(&["--skip", "1", "--limit", "2"]), 2);
    assert_eq!(requests(&["--from", "125us"]), 4);
    assert_eq!(requests(&["--from", "125us", "--to", "0.127ms"]), 2);
    assert_eq!(
        requests(&["--from", "125us", "--skip", "1", "--limit", "9"]),
        3
    );
    let own = sample("own.csv");
    let csv = sandbox.run(&["trace", "convert", &own, "-", "--as", "csv", "--skip", "1"]);
    let text = String::from_utf8(csv.stdout).unwrap();
    assert!(
        text.lines().nth(1).unwrap().starts_with("0,flush"),
        "{text}"
    );
    let report = sandbox.report(&["replay", &own, "--memory", "--skip", "1", "--limit", "2"]);
    assert_eq!(report["requests"], 2);
}

#[test]
fn bad_lines_are_counted_where_they_are_left_out() {
    let sandbox = Sandbox::new();
    sandbox.write("bad", "1,R,0,512,1\nnonsense\n1,W,0,700,2\n");
    sandbox.refuses(
        &["trace", "info", "@bad"],
        "@bad: line 2, offset 12: found \"nonsense\", expected 5 fields: \
         device_id,opcode,offset,length,timestamp",
    );
    let text = sandbox.succeeds(&["trace", "info", "@bad", "--skip-bad"]);
    assert!(
        text.ends_with(
            "skipped     1 bad line or record; the first: @bad: line 2, offset 12: found \
             \"nonsense\", expected 5 fields: device_id,opcode,offset,length,timestamp\n\
             rounded     1 request outward to whole sectors\n"
        ),
        "{text}"
    );
    let report = sandbox.report(&["replay", "@bad", "--memory", "--skip-bad"]);
    assert_eq!(report["requests"], 2);
    assert_eq!(
        (&report["records_skipped"], &report["requests_rounded"]),
        (&1.into(), &1.into())
    );
}

/// Requests that are not in the order of time, as MSR's collection has them, on two lines of which
/// something else is to be said.
const LATE: &str = "128166372100000000,vol,0,Read,0,4096,1\n\
    128166372000000000,vol,0,Write,4096,4096,1\n\
    128166372300000000,vol,0,Read,8192,4096,1\n\
    nonsense\n\
    128166372200000000,vol,0,Write,4096,4096,1\n";

/// A trace of our own format keeps the order of the one that it was made from.
#[test]
fn times_that_step_back_are_counted_in_our_own_format_too() {
    let sandbox = Sandbox::new();
    sandbox.write("late", LATE);
    let convert = ["trace", "convert", "@late", "@late.ubd", "--skip-bad"];
    sandbox.succeeds(&convert);
    // What comes before the first request has its time from the conversion on.
    let info = sandbox.report(&["trace", "info", "@late.ubd"]);
    assert_eq!(info["earlier_requests"], 1);
    assert_eq!(info["earlier_by_at_most_ns"], 10_000_000_000_u64);
    let line =
        "earlier     1 request with a time before that of the one before, by at most 10.00 s\n";
    for args in [
        &["trace", "info", "@late.ubd"][..],
        &["trace", "stat", "@late.ubd"],
        &["trace", "convert", "@late.ubd", "@again.ubd"],
    ] {
        let said = sandbox.succeeds(args);
        assert!(said.ends_with(line), "{args:?}: {said}");
    }
    let report = sandbox.report(&["replay", "@late.ubd", "--memory"]);
    assert_eq!(report["requests_earlier"], 1);
}

#[test]
fn what_is_noticed_is_in_every_report() {
    let sandbox = Sandbox::new();
    sandbox.write("late", LATE);
    let stat = sandbox.report(&["trace", "stat", "@late", "--skip-bad"]);
    assert_eq!(stat["requests"], 4);
    assert_eq!(stat["earlier_requests"], 2);
    assert_eq!(stat["earlier_by_at_most_ns"], 10_000_000_000_u64);
    assert_eq!(stat["skipped_records"], 1);
    let first = stat["first_skipped"].as_str().unwrap();
    assert!(first.contains("found \"nonsense\""), "{first}");
    let replay = ["replay", "@late", "--memory", "--skip-bad"];
    let report = sandbox.report(&replay);
    assert_eq!(report["requests_earlier"], 2);
    assert_eq!(report["requests_earlier_by_at_most_ns"], 10_000_000_000_u64);
    let said = sandbox.succeeds(&[&replay[..], &["--report", "@page.html"]].concat());
    let page = String::from_utf8(sandbox.read("page.html")).unwrap();
    for line in [
        "1 bad line or record of the trace left out",
        "2 requests with a time before that of the one before, by at most 10.00 s, in the order of \
         the trace",
    ] {
        assert!(said.contains(&format!("           {line}\n")), "{said}");
        assert!(page.contains(&format!("<p>{line}.</p>")), "{page}");
    }
}

#[test]
fn one_of_several_devices_is_replayed() {
    let sandbox = Sandbox::new();
    let trace = sample("blkparse-two-devices.txt");
    let listed = sandbox.report(&["trace", "info", &trace]);
    let names: Vec<_> = listed["devices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| &d["device"])
        .collect();
    assert_eq!(names, ["8,0", "8,16"]);
    let output = sandbox.run(&["replay", &trace, "--memory"]);
    assert_eq!(output.status.code(), Some(3));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("found an event of device 8,16, expected only device 8,0"),
        "{error}"
    );
    let report = sandbox.report(&["replay", &trace, "--memory", "--trace-device", "8:16"]);
    assert_eq!(report["requests"], 2);
}

#[test]
fn the_trace_s_own_pace_is_kept_and_lateness_told() {
    let sandbox = Sandbox::new();
    let own = sample("own.csv");
    for (pace, name) in [("recorded", "recorded"), ("think-time", "think-times")] {
        // 128 us, a thousand times slower.
        let report = sandbox.report(&[
            "replay", &own, "--memory", "--pace", pace, "--speed", "0.001",
        ]);
        assert_eq!(report["pace"]["pace"], name);
        assert_eq!(report["pace"]["lateness"]["count"], 5);
        assert!(report["elapsed_ns"].as_u64().unwrap() >= 128_000_000);
        assert_eq!(report["mismatches"], 0);
    }
    let report = sandbox.report(&["replay", &own, "--memory"]);
    assert!(report["pace"].is_null());
}

#[test]
fn a_generated_trace_is_the_same_each_time_and_can_be_replayed() {
    let sandbox = Sandbox::new();
    let generate = |target: &str, seed: &str| {
        sandbox.succeeds(&[
            "trace",
            "generate",
            target,
            "--requests",
            "20000",
            "--size",
            "64M",
            "--seed",
            seed,
            "--mix",
            "read:40,write:50,discard:5,write-zeroes:5",
            "--request-size",
            "4K:3,64K",
            "--access",
            "zipf:0.99",
            "--preflush",
            "50",
            "--fua",
            "10",
        ])
    };
    let said = generate("@a", "7");
    assert!(said.starts_with("@a: 20,000 requests in "), "{said}");
    generate("@b", "7");
    generate("@c", "8");
    assert!(sandbox.read("a") == sandbox.read("b"));
    assert!(sandbox.read("a") != sandbox.read("c"));
    let report = sandbox.report(&["replay", "@a", "--memory", "--resize-at", "10000:96M"]);
    assert_eq!(
        (&report["requests"], &report["mismatches"]),
        (&20_000.into(), &0.into())
    );
    sandbox.refuses(
        &["trace", "generate", "@d", "--request-size", "2G"],
        "generating: request size: found 2147483648, expected a multiple of 512 bytes that fits the device",
    );
}

#[test]
fn statistics_as_text_and_as_json() {
    let sandbox = Sandbox::new();
    let trace = bundled("sqlite-wal.ubdtrace").display().to_string();
    let text = sandbox.succeeds(&["trace", "stat", &trace]);
    for part in [
        "requests    32,080 in",
        "write sizes",
        "working set",
        "overwritten",
        "hot regions",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    let statistics = sandbox.report(&["trace", "stat", &trace]);
    assert_eq!(statistics["requests"], 32_080);
    assert_eq!(statistics["flushes"], 3069);
    assert_eq!(statistics["working_set"]["block_bytes"], 4096);
    let share = statistics["overwrite_share"].as_f64().unwrap();
    assert!(
        (0.3..1.0).contains(&share),
        "a WAL is written over and over: {share}"
    );
}

/// Text of a format that is known, in which there is no request, or none of those asked for.
#[test]
fn a_trace_without_a_request_says_what_was_seen() {
    let sandbox = Sandbox::new();
    sandbox.write("trace", ftrace(&[("WS", 0, 8), ("R", 8, 8)]));
    let steps = "  8,0    3        1     0.000000000   697  G   W 223490 + 8 [kjournald]\n\
                   8,0    3        2     0.000001829   697  I   W 223490 + 8 [kjournald]\n";
    sandbox.write("steps", steps);
    sandbox.write("moments.csv", "1,W,0,4096,1\n");
    let info = sandbox.succeeds(&["trace", "info", "@moments.csv", "--event", "queue"]);
    let told = "\nevent       queue makes no difference: this trace does not say which event a \
                line is\n";
    assert!(info.contains(told), "{info}");
    let seen = "@steps: no request was taken; seen were: 2 lines or records without a request\n";
    for command in ["info", "stat"] {
        let done = sandbox.run(&["trace", command, "@steps"]);
        let found = (done.status.code(), sandbox.text(&done.stderr));
        assert_eq!(found, (Some(0), seen.to_owned()), "{command}");
    }
    for args in [
        &["trace", "convert", "@steps", "@out"][..],
        &["replay", "@steps", "--memory", "--size", "1M"],
    ] {
        let done = sandbox.run(args);
        let found = (done.status.code(), sandbox.text(&done.stderr));
        assert_eq!(found, (Some(0), seen.to_owned()), "{args:?}");
    }
    std::fs::remove_file(sandbox.path("out")).unwrap();
    // What has requests, none of which was asked for, is an error.
    let by_event = "@trace: no request was taken (of the queue events); seen were: 2 issue events";
    let by_time = "@trace: none of 2 requests was taken: --from, --to and --skip leave them out, \
                   and the last is at 1.00 us";
    let by_device = "@trace: no request of device 8,16: the trace has 8,0";
    for (option, value, message) in [
        ("--event", "queue", by_event),
        ("--from", "10s", by_time),
        ("--skip", "2", by_time),
        ("--device", "8,16", by_device),
    ] {
        for command in [
            &["trace", "info", "@trace"][..],
            &["trace", "stat", "@trace"],
            &["trace", "convert", "@trace", "@out"],
            &["replay", "@trace", "--out", "@new"],
        ] {
            let option = match (command[0], option) {
                ("replay", "--device") => "--trace-device",
                _ => option,
            };
            sandbox.refuses(&[command, &[option, value]].concat(), message);
        }
    }
    sandbox.succeeds(&["trace", "info", "@trace", "--limit", "0"]);
    sandbox.refuses(
        &["replay", "@steps", "--memory"],
        "@steps: the trace does not tell the size of its device: give --size",
    );
}

#[test]
fn a_device_of_a_trace_that_tells_none_apart_is_an_error() {
    let sandbox = Sandbox::new();
    sandbox.succeeds(&["trace", "generate", "@own", "--requests=10", "--size=1M"]);
    for (args, option) in [
        (&["trace", "info", "@own"][..], "--device"),
        (&["trace", "convert", "@own", "@out"], "--device"),
        (&["replay", "@own", "--memory"], "--trace-device"),
    ] {
        sandbox.refuses(
            &[args, &[option, "8,16"]].concat(),
            "@own: found a trace that does not tell devices apart, expected one with device 8,16: \
             leave --device out, or --trace-device of replay",
        );
    }
}

#[test]
fn a_trace_of_comments_alone_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.write("comments", "# tracer: nop\n#\n");
    for args in [
        &["trace", "info", "@comments"][..],
        &["trace", "stat", "@comments"],
        &["trace", "convert", "@comments", "@out"],
        &["replay", "@comments", "--memory", "--size", "1M"],
    ] {
        let done = sandbox.run(args);
        let said = sandbox.text(&done.stderr);
        assert_eq!(done.status.code(), Some(3), "{args:?}: {said}");
        let found = "@comments: offset 0: found comments and no event: nothing was recorded";
        assert!(said.contains(found), "{args:?}: {said}");
    }
}

#[test]
fn fio_replays_on_a_file_of_any_name() {
    use std::os::unix::ffi::OsStrExt;
    let sandbox = Sandbox::new();
    sandbox.write("trace", ftrace(&[("WS", 0, 8)]));
    let mut command = ubdlab();
    command.args(sandbox.args(&[
        "trace",
        "convert",
        "@trace",
        "@log",
        "--as",
        "fio",
        "--fio-file",
    ]));
    let done = output(command.arg(std::ffi::OsStr::from_bytes(b"d\xff")));
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let lines = sandbox.read("log");
    let lines: Vec<_> = lines.split(|&byte| byte == b'\n').collect();
    assert_eq!(lines[1], b"0 d\xff add");
    assert_eq!(lines[3], b"1 d\xff write 0 4096");
}
