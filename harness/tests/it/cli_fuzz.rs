//! `ubdlab fuzz`: what it reports, and that a finding can be repeated, on any number of cores
//! and after somebody has edited it.

use std::collections::BTreeSet;
use std::process::Stdio;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::fuzz_shards::TIMES;
use crate::support::cli::{Sandbox, ubdlab_that_heeds_signals};

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
    let mut names = BTreeSet::new();
    for finding in findings {
        let kind = finding["kind"].as_str().unwrap();
        let file = sandbox.text(finding["file"].as_str().unwrap().as_bytes());
        let name = file.strip_prefix('@').unwrap().to_owned();
        // By what it is about, and a number for what is about the same.
        assert!(
            name.starts_with(&format!("found/flush-noop-{kind}")),
            "{name}"
        );
        assert!(names.insert(name.clone()), "{name} twice");
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
        for field in ["promise", "phase"] {
            assert!(
                finding["signature"][field].is_string(),
                "{field} of {finding}"
            );
        }
    }
}

#[test]
fn one_job_and_several_find_the_same() {
    let sandbox = Sandbox::new();
    let report = |jobs: &str| {
        let mut report = searched(&sandbox, &[&FINDS[..], &[jobs]].concat(), 1);
        let fields = report.as_object_mut().unwrap();
        for time in TIMES {
            assert!(fields.remove(time).is_some(), "{time}");
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
    case["lives"][0]["end"] = json!("close");
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
    let none = |content: &str, why: &str| {
        refuse(content, &format!("not a finding of ubdlab fuzz: {why}"));
    };
    none("", "EOF while parsing a value at line 1 column 0");
    none("\u{1}garbage", "expected value at line 1 column 1");
    none("{}", "found no format, expected \"ubdlab case 1\"");
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
    // Each is small enough, and all of them together are not.
    let whole = json!([0, 1 << 20]);
    refuse(
        &edited("/image/dirty", json!([whole, whole, whole, whole, whole])),
        "image.dirty: found 5242880 sectors in all, expected at most 4194304",
    );
    let write = json!({"write": {"start": 0, "count": 1 << 20, "fua": false}});
    refuse(
        &edited("/lives/0/actions", json!(vec![write; 5])),
        "lives.actions: found 5242880 sectors in all, expected at most 4194304",
    );
    refuse(
        &edited("/lives", json!([])),
        "lives: found none, expected at least one",
    );
    refuse(
        &edited("/defects", json!(["failed-opening-empties"])),
        "defects: found failed-opening-empties, expected defects that linux-6.12 can have",
    );
    sandbox.write("case", edited("/found/signature/promise", json!("speed")));
    let output = sandbox.run(&["fuzz", "--repro=@case"]);
    assert_eq!(output.status.code(), Some(3));
    let told = sandbox.text(&output.stderr);
    assert!(
        told.starts_with("ubdlab: @case: unknown variant `speed`, expected one of "),
        "{told}"
    );
    sandbox.write("case", edited("/defects", json!(["flush"])));
    let output = sandbox.run(&["fuzz", "--repro=@case"]);
    assert_eq!(output.status.code(), Some(3));
    let told = sandbox.text(&output.stderr);
    let why = "ubdlab: @case: defects: found \"flush\", expected names of defects or doubles, ";
    assert!(told.starts_with(why), "{told}");
    let output = sandbox.run(&["fuzz", "--repro=@missing"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(
        sandbox.text(&output.stderr),
        "ubdlab: @missing: opening: no such file or directory\n"
    );
}

/// A crash that does not come leaves another case, with nothing wrong in it: that would be told as
/// good news.
#[test]
fn a_finding_that_does_not_crash_as_it_says_is_refused() {
    let (sandbox, report) = with_finding();
    let mut case = report["findings"][0]["case"].clone();
    case["lives"][0]["end"] = json!({ "kill": { "position": 1, "change": 1000 } });
    sandbox.write("case", case.to_string());
    let refused = |message: &str| {
        let page = "--report=@page";
        for args in [
            &["fuzz", "--repro=@case"][..],
            &["fuzz", "--repro=@case", page],
        ] {
            sandbox.refuses(args, &format!("@case: {message}"));
        }
    };
    refused(
        "lives[0].end: found a crash before change 1000 of position 1, expected none there, for \
         nothing is changed at that position: the case was edited, or another version of ubdlab \
         has found it",
    );
    let survivors = json!({ "names": { "/nowhere": [true] } });
    case["lives"][0]["end"] =
        json!({ "power-cut": { "position": 0, "change": 0, "survivors": survivors } });
    sandbox.write("case", case.to_string());
    refused(
        "lives[0].end.power-cut.survivors: the directory '/nowhere' has no unsynced changes of \
         names: the case was edited, or another version of ubdlab has found it",
    );
}

/// As it was written before findings had a signature.
#[test]
fn an_old_finding_is_still_read() {
    let (sandbox, report) = with_finding();
    let mut case = report["findings"][0]["case"].clone();
    let found = case["found"].as_object_mut().unwrap();
    let signature = found.remove("signature").unwrap();
    sandbox.write("old", case.to_string());
    let violation = searched(&sandbox, &["fuzz", "--repro=@old", "--json"], 1);
    assert_eq!(violation["signature"], signature);
}

/// The file of the first finding is a FIFO, and whoever writes one waits for its reader: so the
/// campaign is known to be under way, and no clock is needed.
#[test]
fn ctrl_c_ends_a_campaign_with_its_result_so_far() {
    let (sandbox, report) = with_finding();
    let first = &report["findings"][0];
    let file = first["file"].as_str().unwrap();
    std::fs::remove_file(file).unwrap();
    mknodat(CWD, file, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let endless = [
            "fuzz",
            "--driver=linux-6.12",
            "--defect=flush-noop",
            "--no-faults",
        ];
        let endless = [
            &endless[..],
            &["--cases=1000000000", "--out=@found", "--json"],
        ]
        .concat();
        let mut command = ubdlab_that_heeds_signals();
        command.args(sandbox.args(&endless));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let written: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        assert_eq!(written, first["case"]);
        kill_process(Pid::from_child(&child), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(status));
        assert_eq!(sandbox.text(&output.stderr), "");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["ended_by_signal"], status - 128);
        assert_eq!(report["findings"][0]["case"], first["case"]);
        let cases = report["cases"].as_u64().unwrap();
        assert!((1..1_000_000_000).contains(&cases), "{cases}");
    }
}

/// The campaign ends where a finding cannot be kept.
#[test]
fn a_finding_that_cannot_be_written_is_an_error() {
    let (sandbox, report) = with_finding();
    let file = report["findings"][0]["file"].as_str().unwrap();
    std::fs::remove_file(file).unwrap();
    std::fs::create_dir(file).unwrap();
    let output = sandbox.run(&[&FINDS[..], &["--out=@found"]].concat());
    assert_eq!(output.status.code(), Some(3));
    let name = sandbox.text(file.as_bytes());
    assert_eq!(
        sandbox.text(&output.stderr),
        format!(
            "ubdlab: {name}: writing: found a directory, expected a regular file, a character \
             device, a FIFO or nothing; nothing was changed\n"
        )
    );
}

#[test]
fn wrong_usage_is_told_apart_from_what_cannot_be_done() {
    let sandbox = Sandbox::new();
    let of_another = |args: &[&str], begins: &str, has: &str| {
        let output = sandbox.run(args);
        let said = sandbox.text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.starts_with(begins) && said.contains(has), "{said}");
    };
    of_another(
        &["fuzz", "--driver=linux-6.12", "--defect=forward-copy"],
        "ubdlab: --defect forward-copy: no defect of --driver linux-6.12, which can have \
         flush-noop, ",
        ", failed-header-read-is-success, shared-errno",
    );
    of_another(
        &["fuzz", "--defect=flush-noop"],
        "ubdlab: --defect flush-noop: no defect of --driver ordered, which can have forward-copy, ",
        "",
    );
    sandbox.fails(
        &["fuzz", "--defect=spillner-2003"],
        2,
        "ubdlab: --defect spillner-2003: this is a resize, not a defect: --resizer spillner-2003\n",
    );
    sandbox.fails(
        &["fuzz", "--driver=linux-2.6", "--resizer=spillner-2003"],
        2,
        "ubdlab: --resizer: linux-2.6 has no resize\n",
    );
    let output = sandbox.run(&["fuzz", "--defect=nonsense"]);
    let said = sandbox.text(&output.stderr);
    for named in ["flush-noop", "forward-copy", "none"] {
        assert!(said.contains(named), "{said}");
    }
    assert!(!said.contains("spillner"), "{said}");
    for wrong in [
        &["--cases=5", "--duration=1s"][..],
        &["--repro=@case", "--seed=3"],
        &["--catalogue", "--cases=3"],
        &["--output=@page"],
        &["--defect=nonsense"],
        &["--driver=linux-7"],
        &["--duration=5d"],
        &["--cases=0"],
        &["--jobs=0"],
        &["--jobs=1025", "--cases=1"],
        &["--jobs=18446744073709551615", "--cases=1"],
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

/// What was measured by then is printed, and the page that is there stays.
#[test]
fn a_catalogue_that_is_interrupted_keeps_the_page() {
    let sandbox = Sandbox::new();
    sandbox.write("page", "of before");
    let mut command = ubdlab_that_heeds_signals();
    command.args(sandbox.args(&["fuzz", "--catalogue", "--output=@page"]));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    // What is written has another name until it is whole.
    let entries = || std::fs::read_dir(sandbox.path("")).unwrap().count();
    while entries() < 2 {
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let said = sandbox.text(&output.stderr);
    assert!(said.starts_with("interrupted with "), "{said}");
    assert!(
        said.ends_with(" rows measured; @page is as it was\n"),
        "{said}"
    );
    let page = sandbox.text(&output.stdout);
    assert!(
        page.starts_with("# The defects that the fuzzer finds\n"),
        "{page}"
    );
    assert_eq!(sandbox.read("page"), b"of before");
    assert_eq!(entries(), 1);
}

/// Without a file to repeat it from, the report has a command that finds it again.
#[test]
fn a_finding_that_is_not_kept_has_a_command_that_repeats_it() {
    let sandbox = Sandbox::new();
    let text = |args: &[&str]| {
        let output = sandbox.run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        sandbox.text(&output.stdout)
    };
    let found = |text: &str| {
        text.lines()
            .find(|line| line.contains("shrunk to"))
            .map(str::to_owned)
    };
    let first = text(&FINDS[..6]);
    let command = first.lines().find(|line| line.contains("ubdlab fuzz"));
    let command = command.unwrap().trim();
    let options = "ubdlab fuzz --driver linux-6.12 --no-faults --defect flush-noop --seed ";
    assert!(command.starts_with(options), "{command}");
    let args: Vec<&str> = command.split(' ').skip(1).collect();
    assert_eq!(found(&text(&args)), found(&first));
    assert!(first.contains("--out DIR"), "{first}");
}

/// What these options leave out is no blind spot, and really never comes.
#[test]
fn what_cannot_come_is_not_said_to_be_missing() {
    let sandbox = Sandbox::new();
    let args = [
        "fuzz",
        "--driver=linux-6.12",
        "--defect=none",
        "--no-faults",
        "--cases=30",
    ];
    let text = sandbox.succeeds(&args);
    for never in ["fault_", "strategy_", "resize_", "reflow"] {
        assert!(!text.contains(never), "{never}: {text}");
    }
    let report = searched(&sandbox, &[&args[..], &["--json"]].concat(), 0);
    for (name, times) in report["coverage"].as_object().unwrap() {
        let left_out = ["fault_", "strategy_", "resize_"];
        if left_out.iter().any(|of| name.starts_with(of)) {
            assert_eq!(times, 0, "{name}");
        }
    }
}
