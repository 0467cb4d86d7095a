//! What was found on the running kernel and is kept under `docs/findings/`: each finding is judged
//! again, without the kernel, and named again. Its story is what is printed there.
//! `UPDATE_EXPECT=1` writes the stories anew.

use std::path::{Path, PathBuf};

use driver::linux::Defect;
use expect_test::expect_file;
use harness::fuzz::catalogue::looked_for;
use harness::fuzz::running_kernel::{InColumn, OnKernel, on_kernel};
use harness::kernel::finding::FindingFile;
use harness::kernel::naming::explain;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

#[test]
fn what_the_running_kernel_was_seen_to_do_is_found_again_in_its_recording() {
    let findings = docs().join("findings");
    for &defect in Defect::ALL {
        let file = findings.join(format!("{defect}.json"));
        let is_seen = on_kernel(defect) == OnKernel::Seen;
        assert_eq!(file.exists(), is_seen, "{}", file.display());
        if !is_seen {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let finding: FindingFile = serde_json::from_str(&text).unwrap();
        assert_eq!(finding.check(), Ok(()), "{defect}");
        assert_eq!(finding.defects, [defect.name()]);
        let told = finding.tell().unwrap();
        let violation = told.violation.as_ref();
        let found = finding.case.found.as_ref();
        let cause = |it: &harness::fuzz::violation::Violation| it.cause();
        assert_eq!(violation.map(cause), found.map(cause), "{defect}");
        let violation = violation.unwrap_or_else(|| panic!("{defect} does not show any more"));
        let (case, recordings) = (&finding.case, &finding.recordings);
        let explained = explain(case, recordings, violation, finding.mending(), 1);
        let named = explained.unwrap().defects();
        assert_eq!(named, [defect], "{violation}");
        expect_file![findings.join(format!("{defect}.txt"))].assert_eq(&told.to_string());
    }
}

#[test]
fn the_catalogue_says_what_was_seen() {
    let page = std::fs::read_to_string(docs().join("defects.md")).unwrap();
    for defect in looked_for() {
        let row = page
            .lines()
            .find(|line| line.contains(&format!("| {defect} |")));
        let row = row.unwrap_or_else(|| panic!("{defect} has no row"));
        let expected = format!("| {} |", InColumn(defect));
        assert!(row.contains(&expected), "{row}: expected {expected}");
    }
    let (_, without_rows) = page.split_once("## What cannot show").unwrap();
    let looked_for: Vec<Defect> = looked_for().collect();
    let others = Defect::ALL.iter().filter(|it| !looked_for.contains(it));
    for defect in others {
        let entry = format!("- {}, {defect}: ", defect.number());
        assert!(without_rows.contains(&entry), "{defect} is not explained");
    }
}
