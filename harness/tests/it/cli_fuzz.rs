//! `ubdlab fuzz`: what it reports, and that a finding can be repeated, on any number of cores
//! and after somebody has edited it.

use crate::support::cli::Sandbox;
use serde_json::{Value, json};

/// A search that finds something soon.
const FINDS: [&str; 7] = [
    "fuzz",
    "--driver=linux-6.12",
    "--defect=flush-noop",
    "--cases=12",
    "--seed=1",
    "--no-faults",
    "--json",
];

fn searched(sandbox: &Sandbox, args: &[&str], status: i32) -> Value {
    let output = sandbox.run(args);
    assert_eq!(output.status.code(), Some(status), "of {args:?}");
    assert_eq!(sandbox.text(&output.stderr), "", "of {args:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The finding of the search above, as a file.
fn with_finding() -> (Sandbox, Value) {
    let sandbox = Sandbox::new();
    let report = searched(&sandbox, &[&FINDS[..], &["--out=@found"]].concat(), 1);
    (sandbox, report)
}

#[test]
fn a_search_that_finds_nothing_reports_what_it_did() {
    let sandbox = Sandbox::new();
    let report = searched(&sandbox, &["fuzz", "--cases=20", "--json"], 0);
    assert_eq!(report["cases"], 20);
    assert_eq!(report["driver"], "ordered");
    assert_eq!(report["findings"], json!([]));
    for field in ["host_operations", "crash_images", "elapsed_ns"] {
        assert!(report[field].as_u64().unwrap() > 0, "{field}");
    }
    let coverage = report["coverage"].as_object().unwrap();
    assert!(coverage["crash_kill"].as_u64().unwrap() > 0);
    assert!(coverage.contains_key("second_opener"));
    let text = sandbox.succeeds(&["fuzz", "--cases=5"]);
    assert!(text.ends_with("found      nothing\n"), "{text}");
}

#[test]
fn a_duration_stops_a_search_too() {
    let sandbox = Sandbox::new();
    let report = searched(&sandbox, &["fuzz", "--duration=1s", "--json"], 0);
    assert!(report["cases"].as_u64().unwrap() > 0);
    assert!(report["elapsed_ns"].as_u64().unwrap() >= 1_000_000_000);
}

#[test]
fn a_finding_is_repeated_from_its_file_byte_for_byte() {
    let (sandbox, report) = with_finding();
    let findings = report["findings"].as_array().unwrap();
    assert!(!findings.is_empty());
    for finding in findings {
        let kind = finding["kind"].as_str().unwrap();
        let defects = finding["defects"].as_array().unwrap();
        let mut name: Vec<&str> = defects.iter().map(|d| d.as_str().unwrap()).collect();
        name.push(kind);
        let name = format!("found/{}.json", name.join("-"));
        let file = format!("@{name}");
        let written: Value = serde_json::from_slice(&sandbox.read(&name)).unwrap();
        assert_eq!(written, finding["case"]);
        let tell = || sandbox.run(&["fuzz", "--repro", &file]);
        let (first, second) = (tell(), tell());
        assert_eq!(first.status.code(), Some(1));
        assert_eq!(first.stdout, second.stdout);
        let text = sandbox.text(&first.stdout);
        assert!(text.contains(&format!("found      {kind}\n")), "{text}");
        assert!(text.contains("host: #0 open /disk/cow = 0"), "{text}");
        let violation = searched(&sandbox, &["fuzz", "--repro", &file, "--json"], 1);
        assert_eq!(violation, written["found"]);
    }
}

#[test]
fn one_job_and_several_find_the_same() {
    let sandbox = Sandbox::new();
    let report = |jobs: &str| {
        let mut report = searched(&sandbox, &[&FINDS[..], &[jobs]].concat(), 1);
        let fields = report.as_object_mut().unwrap();
        for differs in ["elapsed_ns", "jobs", "crash_images_per_second_and_job"] {
            assert!(fields.remove(differs).is_some(), "{differs}");
        }
        report
    };
    let alone = report("--jobs=1");
    assert_eq!(alone, report("--jobs=1"));
    assert_eq!(alone, report("--jobs=3"));
}

#[test]
fn a_case_edited_by_hand_runs() {
    let (sandbox, report) = with_finding();
    let mut case = report["findings"][0]["case"].clone();
    let fields = case.as_object_mut().unwrap();
    fields.remove("found");
    // What newer versions have added may be missing.
    fields.remove("kernel");
    sandbox.write("same", case.to_string());
    searched(&sandbox, &["fuzz", "--repro=@same", "--json"], 1);
    // Without the defect it is all right, and so is a case in which nothing happens.
    case["defects"] = json!([]);
    sandbox.write("repaired", case.to_string());
    let text = sandbox.succeeds(&["fuzz", "--repro=@repaired"]);
    assert!(text.ends_with("nothing is wrong\n"), "{text}");
    case["lives"] = json!([{ "actions": [], "end": "close" }]);
    sandbox.write("empty", case.to_string());
    sandbox.succeeds(&["fuzz", "--repro=@empty"]);
    case["image"]["sectors"] = json!(24);
    case["lives"][0]["actions"] =
        json!(["open-again", "flush", { "read": { "start": 20, "count": 9 } }]);
    sandbox.write("other", case.to_string());
    sandbox.succeeds(&["fuzz", "--repro=@other"]);
}

#[test]
fn a_bad_repro_file_is_refused() {
    let (sandbox, report) = with_finding();
    let case = &report["findings"][0]["case"];
    let refuse = |content: &str, message: &str| {
        sandbox.write("case", content);
        sandbox.refuses(&["fuzz", "--repro=@case"], &format!("@case: {message}"));
    };
    let edited = |path: &str, value: Value| {
        let mut case = case.clone();
        *case.pointer_mut(path).unwrap() = value;
        case.to_string()
    };
    refuse("", "EOF while parsing a value at line 1 column 0");
    refuse("\u{1}garbage", "expected value at line 1 column 1");
    refuse("{}", "found no format, expected \"ubdlab case 1\"");
    refuse(
        &edited("/format", json!("ubdlab case 0")),
        "found format \"ubdlab case 0\", expected \"ubdlab case 1\"",
    );
    refuse(
        &edited("/image/sectors", json!(0)),
        "image.sectors: found 0, expected from 1 to 1048576",
    );
    refuse(
        &edited("/image/alignment", json!(0)),
        "image.alignment: found 0, expected a multiple of 512",
    );
    let resize = |window: u64, alignment: u32| {
        json!([{"resize": {
            "sectors": 64, "strategy": "reflow", "window": window, "alignment": alignment
        }}])
    };
    refuse(
        &edited("/lives/0/actions", resize(1 << 60, 0)),
        "window: found 1152921504606846976, expected from 0 to 1048576",
    );
    refuse(
        &edited("/lives/0/actions", resize(4, 384)),
        "alignment: found 384, expected 0 or a multiple of 512",
    );
    refuse(
        &edited("/lives", json!([])),
        "lives: found none, expected at least one",
    );
    refuse(
        &edited("/defects", json!(["flush"])),
        "found \"flush\", expected the name of a defect of the ubd driver, such as flush-noop",
    );
    let output = sandbox.run(&["fuzz", "--repro=@missing"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(
        sandbox.text(&output.stderr),
        "ubdlab: @missing: opening: No such file or directory (os error 2)\n"
    );
}

#[test]
fn wrong_usage_is_told_apart_from_what_cannot_be_done() {
    let sandbox = Sandbox::new();
    sandbox.refuses(
        &["fuzz", "--driver=linux-6.12", "--defect=flush"],
        "found \"flush\", expected the name of a defect of the ubd driver, such as flush-noop",
    );
    sandbox.refuses(
        &["fuzz", "--defect=flush-noop"],
        "found \"flush-noop\", expected the name of a defect of a resize, such as forward-copy",
    );
    for wrong in [
        &["--cases=5", "--duration=1s"][..],
        &["--repro=@case", "--seed=3"],
        &["--catalogue", "--cases=3"],
        &["--driver=linux-7"],
        &["--duration=5"],
        &["--jobs=0"],
    ] {
        let output = sandbox.run(&[&["fuzz"], wrong].concat());
        assert_eq!(output.status.code(), Some(2), "of {wrong:?}");
        assert_eq!(output.stdout, b"", "of {wrong:?}");
        assert!(
            sandbox.text(&output.stderr).starts_with("error: "),
            "of {wrong:?}"
        );
    }
}
