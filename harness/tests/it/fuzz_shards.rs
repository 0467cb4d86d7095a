//! A campaign cut into shards: whatever the number of shards, their results add up to that of the
//! campaign in one piece, byte for byte but for the times.

use driver::linux::Defects;
use harness::fuzz::campaign::merge::check;
use harness::fuzz::campaign::record::FindingRecord;
use harness::fuzz::campaign::result::CampaignResult;
use harness::fuzz::campaign::{Campaign, run};
use harness::fuzz::case::DriverName;
use harness::fuzz::defect::CaseDefect;
use harness::fuzz::generate::Subject;
use harness::shard::Shard;
use harness::shard::merge::merge;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use crate::support::cli::Sandbox;
use crate::support::share::share;

/// What depends on the machine.
pub(crate) const TIMES: [&str; 4] = [
    "elapsed_ns",
    "job_ns",
    "crash_images_per_second_and_job",
    "jobs",
];

fn without_times(mut result: Value) -> Value {
    for time in TIMES {
        result[time] = json!(0);
    }
    result
}

fn result_of(campaign: &Campaign) -> CampaignResult {
    let outcome = run(campaign, &|_| {}).unwrap();
    let findings = outcome.findings.iter().cloned().map(FindingRecord::of);
    let findings = findings.collect();
    CampaignResult::of(campaign, &outcome, findings)
}

fn subjects() -> [(Subject, u64); 3] {
    let faults = |driver| Subject {
        faults: true,
        ..Subject::healthy(driver)
    };
    let kernel = Defects::LINUX_6_12.iter().map(CaseDefect::Kernel);
    [
        (faults(DriverName::Ordered), share(100, 20)),
        (
            Subject {
                defects: kernel.collect(),
                ..faults(DriverName::Linux612)
            },
            share(60, 30),
        ),
        (
            Subject {
                lying_syncs: true,
                ..faults(DriverName::Ordered)
            },
            share(40, 20),
        ),
    ]
}

#[test]
fn shards_add_up_to_the_campaign_in_one_piece() {
    for (subject, cases) in subjects() {
        let whole = Campaign::of_cases(subject, 1, cases, 2);
        let in_one_piece = serde_json::to_value(result_of(&whole)).unwrap();
        for of in [1, 2, 3, 5] {
            let shards = (1..=of).map(|number| {
                let campaign = Campaign {
                    shard: Shard::new(number, of).unwrap(),
                    jobs: 1 + number as usize % 2,
                    ..whole.clone()
                };
                let result = result_of(&campaign);
                assert_eq!(check(&result), Ok(()));
                (format!("{number}.json").into(), result)
            });
            let merged = merge(shards.collect::<Vec<_>>()).unwrap();
            let merged = without_times(serde_json::to_value(&merged).unwrap());
            let expected = without_times(in_one_piece.clone());
            assert_eq!(merged.to_string(), expected.to_string(), "{of} shards");
        }
    }
}

/// What a case shows, and what of that is switched off for the rest of it, is a matter of the case
/// alone: a campaign that begins at it shows the same.
#[test]
fn what_a_case_shows_does_not_depend_on_those_before_it() {
    let [_, (subject, _), _] = subjects();
    let shown = |first: u64, cases| {
        let campaign = Campaign::of_cases(subject.clone(), first, cases, 2);
        let findings = run(&campaign, &|_| {}).unwrap().findings.into_iter();
        let keys = findings.map(|it| (it.seed, (it.key(), it.switched_off)));
        keys.collect::<Vec<_>>()
    };
    let in_campaign = shown(1, 8);
    // A case after others that is the earliest of something, and shows more than one thing.
    let mut seeds = in_campaign.iter().map(|it| it.0).filter(|seed| *seed > 1);
    let seed = seeds.find(|seed| shown(*seed, 1).len() > 1).unwrap();
    let alone: Vec<_> = shown(seed, 1).into_iter().map(|it| it.1).collect();
    for (_, after_others) in in_campaign.into_iter().filter(|it| it.0 == seed) {
        assert!(alone.contains(&after_others), "{after_others:?}");
    }
    let mut off = Vec::new();
    for ((_, traced_to), switched_off) in &alone {
        assert_eq!(
            *switched_off, off,
            "what was shown before is off, and nothing else"
        );
        off.extend(traced_to);
        off.sort_by_key(|defect| subject.defects.iter().position(|it| it == defect));
    }
}

/// A search that finds a few things.
const FINDS: [&str; 8] = [
    "fuzz",
    "--driver=linux-6.12",
    "--defect=flush-noop",
    "--defect=unordered-publish",
    "--defect=last-run-offset",
    "--cases=16",
    "--no-faults",
    "--json",
];

fn printed(sandbox: &Sandbox, args: &[&str], name: &str) -> String {
    let output = sandbox.run(args);
    assert_eq!(sandbox.text(&output.stderr), "", "of {args:?}");
    assert_eq!(output.status.code(), Some(1), "of {args:?}");
    sandbox.write(name, &output.stdout);
    String::from_utf8(output.stdout).unwrap()
}

/// The lines of a result, without those of times.
fn lines(text: &str) -> Vec<&str> {
    let is_time = |line: &&str| {
        TIMES
            .iter()
            .any(|time| line.starts_with(&format!("  \"{time}\"")))
    };
    let lines: Vec<&str> = text.lines().filter(|line| !is_time(line)).collect();
    assert_eq!(text.lines().count(), lines.len() + TIMES.len());
    lines
}

#[test]
fn what_the_program_prints_for_shards_is_merged() {
    let sandbox = Sandbox::new();
    let whole = printed(&sandbox, &[&FINDS[..], &["--out=@found"]].concat(), "whole");
    std::fs::create_dir(sandbox.path("results")).unwrap();
    for shard in 1..=3 {
        let option = format!("--shard={shard}/3");
        // Shards may share a directory of findings, also with their results.
        let file = format!("--result=@results/{shard}.json");
        let args = [&FINDS[..], &[&option, "--out=@results", &file]].concat();
        let text = printed(&sandbox, &args, "printed");
        let written = sandbox.read(&format!("results/{shard}.json"));
        assert_eq!(String::from_utf8(written).unwrap(), text);
    }
    let merged = [
        &["fuzz", "merge"][..],
        &["@results", "--json"],
        &["--out=@merged"],
    ]
    .concat();
    let merged = printed(&sandbox, &merged, "merged.json");
    // The findings are those, elsewhere.
    let elsewhere = merged.replace("/merged/", "/found/");
    assert_eq!(lines(&elsewhere), lines(&whole));
    for finding in std::fs::read_dir(sandbox.path("found")).unwrap() {
        let name = finding.unwrap().file_name().into_string().unwrap();
        assert_eq!(
            sandbox.read(&format!("merged/{name}")),
            sandbox.read(&format!("found/{name}"))
        );
    }
    // As text, with a page, and of what was merged already.
    let report = "--report=@page";
    let output = sandbox.run(&["fuzz", "merge", "@merged.json", report]);
    assert_eq!(output.status.code(), Some(1));
    let text = sandbox.text(&output.stdout);
    assert!(
        text.starts_with("fuzzed     linux-6.12 with 16 cases from seed 1 in "),
        "{text}"
    );
    assert!(!text.contains("shard"), "{text}");
    let page = String::from_utf8(sandbox.read("page")).unwrap();
    assert!(page.contains("This driver loses data"));
}

#[test]
fn what_is_no_file_in_a_directory_of_results_is_passed_over() {
    let sandbox = Sandbox::new();
    std::fs::create_dir_all(sandbox.path("results/directory.json")).unwrap();
    let fifo = sandbox.path("results/fifo.json");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let result = sandbox.succeeds(&["fuzz", "--cases=1", "--json"]);
    sandbox.write("results/result.json", result);
    let text = sandbox.succeeds(&["fuzz", "merge", "@results"]);
    assert!(
        text.starts_with("fuzzed     ordered with 1 case "),
        "{text}"
    );
}

#[test]
fn results_that_are_not_all_of_one_campaign_are_refused() {
    let sandbox = Sandbox::new();
    for (name, args) in [
        ("1", &["--shard=1/3"][..]),
        ("2", &["--shard=2/3"]),
        ("3", &["--shard=3/3"]),
        ("other-cut", &["--shard=3/4"]),
        ("other-seed", &["--shard=3/3", "--seed=2"]),
        (
            "other-driver",
            &["--shard=3/3", "--driver=linux-6.12", "--defect=none"],
        ),
    ] {
        let args = [&["fuzz", "--cases=3", "--json"], args].concat();
        sandbox.write(name, sandbox.succeeds(&args));
    }
    let refuse = |third: &[&str], message: &str| {
        sandbox.refuses(&[&["fuzz", "merge", "@1", "@2"], third].concat(), message);
    };
    refuse(&[], "found 2 of 3 shards, expected all: shard 3 is missing");
    refuse(&["@2"], "@2: found shard 2/3, which is in @2 too");
    let other = "a result of another campaign than @1";
    refuse(
        &["@other-seed"],
        &format!("@other-seed: {other}: seed: found 2, expected 1"),
    );
    refuse(
        &["@other-driver"],
        &format!("@other-driver: {other}: driver: found linux-6.12, expected ordered"),
    );
    refuse(
        &["@other-cut"],
        "@other-cut: a result of another campaign than @1: found one in 4 shards, expected 3",
    );
    let mut ended: Value = serde_json::from_slice(&sandbox.read("3")).unwrap();
    ended["cases"] = json!(0);
    ended["ended_by_signal"] = json!(15);
    sandbox.write("ended", ended.to_string());
    refuse(
        &["@ended"],
        "@ended: found 0 cases of 1, ended by signal 15: the same command with its --checkpoint goes \
         on from there",
    );
    sandbox.write("empty", "");
    let none = "not a result of ubdlab fuzz --json";
    refuse(
        &["@empty"],
        &format!("@empty: {none}: EOF while parsing a value at line 1 column 0"),
    );
    sandbox.write("later", r#"{"format":"ubdlab fuzz result 2"}"#);
    refuse(
        &["@later"],
        "@later: found format \"ubdlab fuzz result 2\", expected \"ubdlab fuzz result 1\"",
    );
    sandbox.write("nothing", "{}");
    refuse(
        &["@nothing"],
        &format!("@nothing: {none}: found no format, expected \"ubdlab fuzz result 1\""),
    );
    let text = sandbox.succeeds(&["fuzz", "merge", "@1", "@3", "@2"]);
    assert!(
        text.starts_with("fuzzed     ordered with 3 cases from seed 1 in "),
        "{text}"
    );
}

#[test]
fn a_shard_says_which_it_is() {
    let sandbox = Sandbox::new();
    let text = sandbox.succeeds(&["fuzz", "--cases=5", "--shard=2/3"]);
    assert!(
        text.starts_with("fuzzed     ordered with 2 cases from seed 1 in "),
        "{text}"
    );
    assert!(
        text.contains("\nshard      2/3 of the campaign\n"),
        "{text}"
    );
    // More shards than cases: some have nothing to do.
    let text = sandbox.succeeds(&["fuzz", "--cases=2", "--shard=3/3"]);
    assert!(
        text.starts_with("fuzzed     ordered with 0 cases "),
        "{text}"
    );
    for wrong in ["0/3", "4/3", "3", "a/b"] {
        let output = sandbox.run(&["fuzz", "--shard", wrong]);
        assert_eq!(output.status.code(), Some(2));
        let said = sandbox.text(&output.stderr);
        assert!(said.contains("expected K/N with K from 1 to N"), "{said}");
    }
    for option in ["--shard=1/2", "--checkpoint=@checkpoint"] {
        let name = option.split('=').next().unwrap();
        let said = format!("ubdlab: {name}: not with --driver kernel\n");
        sandbox.fails(&["fuzz", "--driver=kernel", option], 2, &said);
    }
}
