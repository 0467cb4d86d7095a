//! `ubdlab bench` as its users meet it: what it prints, and what it says to wrong input. How
//! fast anything is, no test looks at.

use crate::support::cli::{Sandbox, output, side_by_side, ubdlab, ubdlab_that_heeds_signals};
use driver::units::Bytes;
use harness::bench::replay::Generated;
use serde_json::Value;

/// A trace of a few requests.
const SMALL: &str = "../traces/samples/msr.csv";

/// One quick row or two of each command.
const QUICK: [&[&str]; 6] = [
    &["lookup", "--only", "scan 64 MiB/empty"],
    &["io", "--only", "read of 1 runs, system calls"],
    &["replay", "--only", "msr.csv/stamps only", SMALL],
    &["resize", "--only", "headroom/1 GiB", "--dirty", "4M"],
    &["serve", "--only", "idle NBD connections"],
    &["fuzz", "--only", "core/linux-2.6"],
];

/// In their alphabetical order.
const FIELDS: [&str; 8] = [
    "baseline",
    "baseline_value",
    "met",
    "name",
    "ratio",
    "target",
    "unit",
    "value",
];

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    // Of the last case there is nothing left, whatever it made on the way.
    let sandbox = Sandbox::new();
    let mut command = ubdlab();
    command.arg("bench").args(arguments);
    let output = output(command.env("TMPDIR", sandbox.path("")));
    assert!(sandbox.contents().is_empty(), "{arguments:?} left files");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn every_command_prints_rows_with_the_same_fields() {
    side_by_side(&QUICK, |arguments| {
        let (status, stdout, stderr) = run(&[arguments, &["--json"][..]].concat());
        assert_eq!(status, Some(0), "{arguments:?}: {stderr}");
        let rows: Vec<Value> = serde_json::from_str(&stdout).unwrap();
        assert!(!rows.is_empty(), "{arguments:?}");
        for row in rows {
            let row = row.as_object().unwrap();
            assert!(row.keys().eq(FIELDS), "{row:?}");
            let name = row["name"].as_str().unwrap();
            assert!(name.contains(arguments[2]), "{name}");
            assert!(row["value"].as_f64().unwrap().is_finite(), "{row:?}");
            // A ratio and a verdict are there exactly where there is what they come from.
            assert_eq!(row["ratio"].is_number(), row["baseline_value"].is_number());
            assert_eq!(row["met"].is_boolean(), row["target"].is_number());
        }
    });
}

#[test]
fn a_replay_on_files_says_who_carried_its_operations_out() {
    let row = "msr.csv/requests, on files";
    let arguments = ["replay", SMALL, "--only", row, "--io", "threads", "--json"];
    let (status, stdout, stderr) = run(&arguments);
    assert_eq!(status, Some(0), "{stderr}");
    let rows: Vec<Value> = serde_json::from_str(&stdout).unwrap();
    assert_eq!((rows.len(), &rows[0]["io"]), (1, &"threads".into()));
    assert!(rows[0]["value"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_live_reflow_is_measured_with_whom_it_was_asked_for() {
    let row = "live reflow/1 GiB/one piece";
    let arguments = ["resize", "--only", row, "--dirty", "4M"];
    let (status, stdout, stderr) = run(&[&arguments[..], &["--io", "threads", "--json"]].concat());
    assert_eq!(status, Some(0), "{stderr}");
    let rows: Vec<Value> = serde_json::from_str(&stdout).unwrap();
    assert!(!rows.is_empty());
    for row in rows {
        assert_eq!(row["io"], "threads", "{row:?}");
        assert!(
            row["name"].as_str().unwrap().contains(", threads: "),
            "{row:?}"
        );
    }
}

#[test]
fn a_table_has_a_line_for_each_row() {
    let (status, stdout, stderr) = run(QUICK[0]);
    assert_eq!(status, Some(0), "{stderr}");
    let lines: Vec<_> = stdout.lines().collect();
    assert!(lines[0].starts_with("what "), "{stdout}");
    assert!(lines[1].starts_with("lookup/scan 64 MiB/empty"), "{stdout}");
    assert_eq!(lines.len(), 2, "{stdout}");
}

#[test]
fn a_text_that_no_row_has_is_an_error() {
    for command in ["lookup", "io", "replay", "resize", "serve", "fuzz"] {
        let (status, stdout, stderr) = run(&[command, "--only", "no such row"]);
        assert_eq!((status, &stdout[..]), (Some(2), ""), "{command}");
        let expected =
            format!("ubdlab: no row's name contains 'no such row'; there are '{command}/");
        assert!(stderr.starts_with(&expected), "{command}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{command}: {stderr}");
    }
}

/// What `--only` takes can be looked up, at once and without a file.
#[test]
fn the_names_of_the_rows_are_listed() {
    let (status, stdout, stderr) = run(&["lookup", "--list", "--only", "run/half at random"]);
    assert_eq!((status, &stderr[..]), (Some(0), ""));
    let names: Vec<_> = stdout.lines().collect();
    assert!(
        names.contains(&"lookup/run/half at random/1 GiB"),
        "{stdout}"
    );
    let are_asked_for = |name: &&str| name.contains("run/half at random");
    assert!(names.iter().all(are_asked_for), "{stdout}");
    let (status, stdout, _) = run(&["resize", "--list"]);
    assert_eq!(status, Some(0));
    assert!(stdout.lines().count() > 30, "{stdout}");
}

#[test]
fn the_rows_measured_are_printed_when_it_is_interrupted() {
    use std::io::{BufRead, BufReader, Read};
    use std::process::Stdio;

    let sandbox = Sandbox::new();
    for (command, only, more) in [
        ("lookup", "scan", &[][..]),
        ("resize", "headroom", &["--dirty", "4M"]),
    ] {
        let mut child = ubdlab_that_heeds_signals()
            .args(["bench", command, "--only", only, "--json"])
            .args(more)
            .env("TMPDIR", sandbox.path(""))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let name = line.strip_prefix("measured ").unwrap().trim();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let mut printed = String::new();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_to_string(&mut printed).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{command}");
        let rows: Vec<Value> = serde_json::from_str(&printed).unwrap();
        assert_eq!(rows[0]["name"], name, "{command}");
        assert!(sandbox.contents().is_empty(), "{command} left files");
    }
}

#[test]
fn a_generated_trace_is_replayed_and_its_memory_is_known() {
    let generated = Generated::measure(2000, Bytes(1 << 20)).unwrap();
    assert_eq!(generated.requests, 2000);
    assert!(generated.elapsed_ns > 0);
    // Of the tests that run in this process, whichever they are.
    assert!(generated.peak_bytes.is_some_and(|bytes| bytes > 1 << 20));
}
