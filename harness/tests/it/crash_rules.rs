//! The rules of `ubdlab crash --fault`: docs/crash.md has all that they can say, each of its
//! examples fails what it says, and what could fail nothing is refused or told of.

use std::collections::BTreeSet;

use driver::host::OperationKind;
use harness::mount::{asked_kinds, parse_fault_rule};
use harness::sim::{Fault, FileMatch, Occurrence};
use serde_json::Value;

use crate::support::cli::Sandbox;
use crate::support::crash::{crash, found, work};

const PAGE: &str = include_str!("../../../docs/crash.md");

/// The page from the heading on.
fn section() -> &'static str {
    let (_, section) = PAGE.split_once("### What can fail").unwrap();
    section.split_once("\n## ").unwrap().0
}

/// The rows of the table with this heading, a cell each.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let lines = section()
        .lines()
        .skip_while(|line| !line.starts_with(heading));
    let rows = lines.skip(2).take_while(|line| line.starts_with('|'));
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect();
    rows.map(cells).collect()
}

/// The words of a cell that are code.
fn code(cell: &str) -> BTreeSet<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn examples() -> Vec<&'static str> {
    let lines = section().lines();
    lines
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with('{'))
        .collect()
}

/// Whichever of the examples is given, an operation of this is what it fails.
const ASKS_FOR_ALL: &str = "\
    printf a >>work/app.conf.new; printf b >>work/app.conf.new; mv work/app.conf.new work/app.conf; \
    printf cc >>work/a.wal; sync work/a.wal; sync work; \
    dd if=work/disk bs=4096 skip=1 count=1 of=/dev/null; fallocate -p -o 0 -l 8192 work/disk; \
    fallocate -l 20000 work/disk; sync work/disk; :";

#[test]
fn every_example_of_the_page_fails_something() {
    let Some(sandbox) = work(&[]) else {
        return;
    };
    sandbox.write("work/disk", "d".repeat(12_288));
    for rule in examples() {
        let done = crash(
            &sandbox,
            "true",
            &["--json", "--fault", rule],
            &["sh", "-c", ASKS_FOR_ALL],
        );
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(said.contains("failed as asked for: "), "{rule}: {said}");
        let report = found(&done, 0);
        assert!(report["rules"][0]["failed"].as_u64().unwrap() > 0, "{rule}");
        let told: Value = serde_json::from_str(rule).unwrap();
        assert_eq!(report["rules"][0]["rule"]["fault"], told["fault"]);
    }
}

/// Each part, each form that it has, and each fault.
#[test]
fn the_examples_of_the_page_show_all_that_a_rule_can_say() {
    let rules: Vec<_> = examples()
        .into_iter()
        .map(|rule| parse_fault_rule(rule).unwrap_or_else(|why| panic!("{rule}: {why}")))
        .collect();
    let shown: BTreeSet<_> = rules.iter().map(|rule| rule.fault.name()).collect();
    assert_eq!(shown, Fault::EACH.map(Fault::name).into());
    assert!(rules.iter().any(|rule| rule.file == FileMatch::Any));
    assert!(
        rules
            .iter()
            .any(|rule| matches!(rule.file, FileMatch::Path(_)))
    );
    assert!(
        rules
            .iter()
            .any(|rule| matches!(rule.file, FileMatch::Suffix(_)))
    );
    assert!(
        rules
            .iter()
            .any(|rule| matches!(rule.occurrence, Occurrence::Nth(_)))
    );
    assert!(
        rules
            .iter()
            .any(|rule| matches!(rule.occurrence, Occurrence::From(_)))
    );
    assert!(rules.iter().any(|rule| rule.kind.is_none()));
    assert!(rules.iter().any(|rule| rule.bytes.is_some()));
}

#[test]
fn the_page_lists_the_kinds_and_the_faults_that_there_are() {
    let kinds = table("| kind |");
    let named: BTreeSet<_> = kinds.iter().flat_map(|row| code(row[0])).collect();
    let asked: BTreeSet<_> = asked_kinds().map(OperationKind::name).collect();
    assert_eq!(named, asked);
    assert_eq!(kinds.len(), asked.len());
    let faults = table("| fault |");
    assert_eq!(faults.len(), Fault::EACH.len());
    for row in faults {
        let named = row[0].trim_matches('`').replace('N', "1");
        let fault: Fault = serde_json::from_str(&named).unwrap();
        let fitting = asked_kinds().filter(|kind| fault.fits(*kind));
        let fitting: BTreeSet<_> = fitting.map(OperationKind::name).collect();
        match row[2] {
            "all" => assert_eq!(fitting, asked),
            listed => assert_eq!(code(listed), fitting, "{fault:?}"),
        }
    }
}

/// A rule that could fail nothing is a mistake of whoever wrote it.
#[test]
fn what_could_fail_nothing_is_refused() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("work")).unwrap();
    let asked: Vec<_> = asked_kinds().map(OperationKind::name).collect();
    let kinds = format!("expected one of {} ", asked.join(", "));
    let refuses = |parts: &str, why: &str| {
        let rule = format!(r#"{{"file": "any", "occurrence": {{"nth": 0}}, {parts}}}"#);
        let done = crash(&sandbox, "true", &["--fault", &rule], &["true"]);
        let said = sandbox.text(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{rule}: {said}");
        assert!(said.contains(why), "{rule}: {said}");
    };
    let all = OperationKind::ALL.into_iter().map(OperationKind::name);
    let never_asked: Vec<_> = all.filter(|name| !asked.contains(name)).collect();
    assert!(never_asked.contains(&"lock"), "{never_asked:?}");
    for kind in never_asked.into_iter().chain(["fly"]) {
        refuses(&format!(r#""kind": "{kind}", "fault": "io""#), &kinds);
    }
    for (parts, why) in [
        (
            r#""kind": "read", "fault": "no_space""#,
            "fault: found no_space, which \"read\" cannot suffer, expected one of io, short_read",
        ),
        (
            r#""kind": "rename", "bytes": [0, 1], "fault": "io""#,
            "bytes: found some for \"rename\", which is about no bytes of a file, expected none",
        ),
        (
            r#""bytes": [0, 1], "fault": "io""#,
            "bytes: found some without a kind, expected one of read, write, ",
        ),
        (
            r#""kind": "read", "bytes": [512, 512], "fault": "io""#,
            "bytes: found [512, 512], expected the first one and the one after the last",
        ),
        (r#""kinds": "read", "fault": "io""#, "unknown field `kinds`"),
        (
            r#""fault": "fire""#,
            "unknown variant `fire`, expected one of `io`, ",
        ),
    ] {
        refuses(parts, why);
    }
}

/// It is told by what a rule says, and not by what reads it.
#[test]
fn a_rule_of_another_form_is_refused_with_the_form_that_it_has() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("work")).unwrap();
    let refuses = |rule: &str, why: &str| {
        let done = crash(&sandbox, "true", &["--fault", rule], &["true"]);
        let said = sandbox.text(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{rule}: {said}");
        assert!(said.contains(why), "{rule}: {said}");
    };
    for (parts, why) in [
        (
            r#""fault": "short_write""#,
            "fault: found \"short_write\", expected {\"short_write\": N}, with a number of bytes",
        ),
        (
            r#""fault": {"short_write": -1}"#,
            "fault: found {\"short_write\":-1}, expected {\"short_write\": N}, with a number",
        ),
        (
            r#""fault": {"io": 1}"#,
            "fault: found {\"io\":1}, expected \"io\" alone",
        ),
        (
            r#""fault": 7"#,
            "fault: found 7, expected the name of a fault",
        ),
        (
            r#""fault": "io", "bytes": [1]"#,
            "bytes: found [1], expected [FROM, TO]",
        ),
        (
            r#""fault": "io", "kind": 1"#,
            "kind: found 1, expected the name of one",
        ),
    ] {
        let rule = format!(r#"{{"file": "any", "occurrence": {{"nth": 0}}, {parts}}}"#);
        refuses(&rule, why);
    }
    for (rule, why) in [
        (
            "[]",
            "found [], expected an object with \"file\", \"occurrence\" and \"fault\"",
        ),
        ("{", "found no JSON: EOF"),
        (
            r#"{"file": "f", "occurrence": {"nth": 0}, "fault": "io"}"#,
            "file: found \"f\", expected \"any\", {\"path\": P} or {\"suffix\": S}",
        ),
        (
            r#"{"file": "any", "occurrence": 0, "fault": "io"}"#,
            "occurrence: found 0, expected {\"nth\": N} or {\"from\": N}, counted from 0",
        ),
    ] {
        refuses(rule, why);
    }
}

#[test]
fn a_rule_that_has_failed_nothing_is_told_of() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let rule = |file: &str, kind: &str, n: u64, fault: &str| {
        format!(r#"{{"file":{file},"kind":"{kind}","occurrence":{{"nth":{n}}},"fault":"{fault}"}}"#)
    };
    let path = r#"{"path":"work/f"}"#;
    let rules = [
        rule(path, "write", 0, "io"),
        rule("\"any\"", "write", 2, "io"),
        rule("\"any\"", "write", 0, "io_after"),
        rule("\"any\"", "write", 0, "io"),
    ];
    let mut more = vec!["--json"];
    rules.iter().for_each(|rule| more.extend(["--fault", rule]));
    let script = "! echo >>work/f; echo >>work/f";
    let done = crash(&sandbox, "true", &more, &["sh", "-c", script]);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    let told: Vec<_> = said
        .lines()
        .filter(|line| line.starts_with("rule "))
        .collect();
    let expected = [
        format!(
            "rule 1 ({}) matched nothing; files are named as from DIR",
            rules[0]
        ),
        format!(
            "rule 2 ({}) failed nothing: it matched 2 operations, and fails the one with number 2, \
             counted from 0",
            rules[1]
        ),
        format!(
            "rule 4 ({}) failed nothing: an earlier rule has failed what it was to fail",
            rules[3]
        ),
    ];
    assert_eq!(told, expected, "{said}");
    let report = found(&done, 0);
    let met = |number: usize| {
        let rule = &report["rules"][number];
        (
            rule["matched"].as_u64().unwrap(),
            rule["failed"].as_u64().unwrap(),
        )
    };
    assert_eq!([0, 1, 2, 3].map(met), [(0, 0), (2, 0), (2, 1), (2, 0)]);
    // A program that fails for another reason may have been meant to fail by the rule.
    let more = ["--fault", &rules[0]];
    let done = crash(&sandbox, "true", &more, &["sh", "-c", "echo no; exit 3"]);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    let end = format!(
        "ubdlab: the command ended with status 3; it said: no; rule 1 ({}) matched nothing; files \
         are named as from DIR\n",
        rules[0]
    );
    assert_eq!((said.as_str(), done.status.code()), (end.as_str(), Some(3)));
}

/// Whether a program has noticed what has failed is what its author asks.
#[test]
fn how_the_command_ended_is_told_where_something_was_to_fail() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let rule = r#"{"file": "any", "kind": "write", "occurrence": {"nth": 0}, "fault": "no_space"}"#;
    for (script, told, end) in [
        (
            "cat begun >>work/f || { echo none left; exit 5; }",
            "the command ended with status 5, and said:\n    | none left\n",
            "ended with status 5",
        ),
        (
            "cat begun >>work/f 2>/dev/null; true",
            "the command ended with status 0\n",
            "ended with status 0",
        ),
    ] {
        sandbox.write("begun", "new");
        let script = script.replace("work/f ||", "work/f 2>/dev/null ||");
        let run = |more: &[&str]| crash(&sandbox, "true", more, &["sh", "-c", &script]);
        let done = run(&["--fault", rule, "--report", "page"]);
        let said = sandbox.text(&done.stdout);
        assert!(said.contains(told), "{said}");
        let page = String::from_utf8(sandbox.read("page")).unwrap();
        assert!(page.contains(&format!("The command {end}.")), "{page}");
        let report = found(&run(&["--fault", rule, "--json"]), 0);
        assert_eq!(report["command_end"]["end"], end);
        assert_eq!(
            report["command_end"]["succeeded"],
            end == "ended with status 0"
        );
    }
    // Otherwise it has succeeded, and says what it says to nobody.
    let done = crash(&sandbox, "true", &[], &["echo", "done"]);
    assert!(!sandbox.text(&done.stdout).contains("the command ended"));
}

/// Whatever a rule says, it is none of these that fails.
#[test]
fn the_requests_that_are_no_operations_cannot_fail() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    std::os::unix::fs::symlink("f", sandbox.path("work/l")).unwrap();
    assert!(section().contains("\nFive requests are no operations"));
    let script = "stat -f work && readlink work/l && test -L work/l && exec 3<work/f && flock 3";
    let kinds = asked_kinds().map(|kind| kind.name());
    let rules: Vec<String> = kinds
        .filter(|kind| !matches!(*kind, "open" | "metadata"))
        .map(|kind| {
            format!(
                r#"{{"file": "any", "kind": "{kind}", "occurrence": {{"from": 0}}, "fault": "io"}}"#
            )
        })
        .collect();
    let mut more = vec!["--json"];
    more.extend(rules.iter().flat_map(|rule| ["--fault", rule]));
    let done = crash(&sandbox, "true", &more, &["sh", "-c", script]);
    found(&done, 0);
    let said = sandbox.text(&done.stderr);
    assert_eq!(
        said.matches("matched nothing").count(),
        rules.len(),
        "{said}"
    );
}
