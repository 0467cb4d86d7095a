//! The kinds of findings of `ubdlab crash`: each that was seen is told, as itself.

use serde_json::Value;

use crate::support::crash::{crash, found, work};

/// What the checks of the findings have said, and how they ended.
fn kinds(report: &Value) -> Vec<(&str, &str)> {
    let findings = report["findings"].as_array().unwrap().iter();
    let kinds = findings.map(|finding| {
        let check = &finding["check"];
        let said = check["said"][0].as_str().unwrap_or_default();
        (said, check["end"].as_str().unwrap())
    });
    kinds.collect()
}

/// With less lost, what is lost of two is one of them, which is another kind.
#[test]
fn a_finding_that_is_shrunk_stays_of_its_kind() {
    let Some(sandbox) = work(&[]) else {
        return;
    };
    let gone = "gone() { test -e work/$1 && ! test -s work/$1; }";
    let check = format!(
        "{gone}; if gone a && gone b; then echo both are gone; exit 3; fi; \
         if gone a || gone b; then echo one is gone; exit 1; fi"
    );
    let script = "echo A >work/a.n; echo B >work/b.n; mv work/a.n work/a; mv work/b.n work/b";
    let done = crash(&sandbox, &check, &["--json"], &["sh", "-c", script]);
    let report = found(&done, 1);
    let mut kinds = kinds(&report);
    kinds.sort_unstable();
    let expected = [
        ("both are gone", "ended with status 3"),
        ("one is gone", "ended with status 1"),
    ];
    assert_eq!(kinds, expected, "{report}");
    for finding in report["findings"].as_array().unwrap() {
        let least = match finding["check"]["end"].as_str().unwrap() {
            "ended with status 3" => 2,
            _ => 1,
        };
        // Shrunk, as far as that goes.
        let writes = finding["unsynced"].as_array().unwrap().iter();
        let writes = writes.filter(|it| {
            let is_write = it["operation"].as_str().unwrap().starts_with("write");
            is_write && it["fate"] == "lost"
        });
        assert_eq!(writes.count(), least, "{report}");
    }
}

/// What is told apart can be seen in what is shown.
#[test]
fn what_a_check_says_of_one_thing_more_often_is_no_other_kind() {
    let Some(sandbox) = work(&[]) else {
        return;
    };
    let script = "for i in 1 2 3 4 5 6 7 8 9; do touch work/$i; sync work; done";
    let check = "for i in 1 2 3 4 5 6 7 8 9; do \
                 test -e work/$i || { echo \"  $i is missing\"; bad=1; }; done; test ! $bad";
    let done = crash(&sandbox, check, &["--json"], &["sh", "-c", script]);
    let report = found(&done, 1);
    assert_eq!(kinds(&report), [("  1 is missing", "ended with status 1")]);
    // All of it is in the report, and its end is shown.
    let said = report["findings"][0]["check"]["said"].as_array().unwrap();
    assert_eq!(said.len(), 9, "{report}");
    let done = crash(&sandbox, check, &[], &["sh", "-c", script]);
    let text = sandbox.text(&done.stdout);
    let shown = "\n    (3 lines before these)\n    |   4 is missing\n";
    assert!(text.contains(shown), "{text}");
}
