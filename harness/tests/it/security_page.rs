//! docs/security.md names a test for each thing that it promises: every name there is the name of a
//! test or of a module of tests.

use std::collections::BTreeSet;
use std::path::Path;

/// The names of modules and functions in the files below `directory`.
fn names_below(directory: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        names.extend(
            path.file_stem()
                .and_then(|it| it.to_str())
                .map(str::to_owned),
        );
        if path.is_dir() {
            names_below(&path, names);
        } else if path.extension().is_some_and(|it| it == "rs") {
            let source = std::fs::read_to_string(&path).unwrap();
            let functions = source.lines().filter_map(|line| {
                let (name, _) = line.trim_start().strip_prefix("fn ")?.split_once('(')?;
                Some(name.to_owned())
            });
            names.extend(functions);
        }
    }
}

/// What stands between backquotes in the parentheses of a paragraph, if that is the name of a test.
fn named_tests(page: &str) -> Vec<&str> {
    let is_name = |text: &&str| {
        let parts = text.rsplit(": ").next().unwrap_or_default().split("::");
        let word = |part: &str| {
            !part.is_empty() && part.bytes().all(|it| it.is_ascii_lowercase() || it == b'_')
        };
        parts.clone().all(word) && (text.contains('_') || text.contains(": "))
    };
    let quoted = page.split('`').skip(1).step_by(2);
    quoted.filter(is_name).collect()
}

#[test]
fn every_test_that_the_page_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut names = BTreeSet::new();
    for directory in [
        "harness/tests/it",
        "driver/tests/it",
        "userhelper/tests/it",
        "userhelper/src",
    ] {
        names_below(&root.join(directory), &mut names);
    }
    let page = std::fs::read_to_string(root.join("docs/security.md")).unwrap();
    let tests = named_tests(&page);
    assert!(tests.len() > 20, "the page names its tests: {tests:?}");
    for test in tests {
        let path = test.rsplit(": ").next().unwrap_or_default();
        for part in path.split("::") {
            // Modules whose names begin so are meant too.
            let known = names.iter().any(|name| name.starts_with(part));
            assert!(
                known,
                "docs/security.md names {test}, and there is no {part}"
            );
        }
    }
}
