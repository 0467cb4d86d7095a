//! What the pages name is there: each source file with a folder before its name, and the target of
//! each link within the repository.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The folders with sources, below that of the repository.
const SOURCES: [&str; 6] = ["driver", "userhelper", "bare", "harness", "benches", "fuzz"];

/// The folders with pages, and the repository's own.
const PAGES: [&str; 4] = ["", "docs", "fuzz", "traces"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The sources below a folder, from the repository's on. What builds leave is none.
fn sources_below(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            sources_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path.strip_prefix(root()).unwrap().to_owned());
        }
    }
}

fn pages() -> Vec<PathBuf> {
    let files = PAGES.iter().flat_map(|folder| {
        let entries = std::fs::read_dir(root().join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().path())
    });
    let is_page = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "md");
    files.filter(is_page).collect()
}

/// The sources that a text names with a folder. `a/{b,c}.rs` names two.
fn named_sources(text: &str) -> Vec<String> {
    let is_between = |at: char| at.is_whitespace() || "`()|;".contains(at);
    let words = text
        .split(is_between)
        .map(|word| word.trim_end_matches([',', '.', ':']));
    let sources = words.filter(|word| word.contains('/') && word.ends_with(".rs"));
    let expanded = sources.flat_map(|word| match word.split_once('{') {
        Some((before, rest)) => {
            let (names, after) = rest.split_once('}').unwrap();
            let each = names
                .split(',')
                .map(|name| format!("{before}{name}{after}"));
            each.collect()
        }
        None => vec![word.to_owned()],
    });
    expanded.collect()
}

/// The files that a text links to, without the place in them.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1);
    let targets = targets.filter_map(|rest| rest.split(')').next());
    let files = targets.filter(|target| !target.starts_with('#') && !target.contains("://"));
    files.filter_map(|file| file.split('#').next()).collect()
}

#[test]
fn every_file_that_a_page_names_is_there() {
    let mut sources = Vec::new();
    for folder in SOURCES {
        sources_below(&root().join(folder), &mut sources);
    }
    let (mut named, mut linked) = (0, 0);
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        let shown = page.display();
        for name in named_sources(&text) {
            let is_there = sources.iter().any(|source| source.ends_with(&name));
            assert!(is_there, "{shown} names {name}, which is not there");
            named += 1;
        }
        for target in links(&text) {
            let is_there = page.parent().unwrap().join(target).exists();
            assert!(is_there, "{shown} links to {target}, which is not there");
            linked += 1;
        }
    }
    assert!(named > 20 && linked > 10, "{named} names, {linked} links");
}

/// The table of what ends before what names the tests that show it.
#[test]
fn every_test_that_the_table_of_the_engine_names_is_there() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let engine = read("driver/src/engine/mod.rs");
    let tests = [
        "driver/tests/it/in_flight.rs",
        "userhelper/tests/it/relocation_in_flight.rs",
    ]
    .map(read)
    .concat();
    let rows = engine
        .lines()
        .filter_map(|line| line.strip_prefix("//! | "));
    let (mut named, mut count) = (BTreeSet::new(), 0);
    for row in rows.skip_while(|row| !row.ends_with("shown by |")).skip(1) {
        let names: Vec<_> = row.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test shows it: {row}");
        for name in names {
            let is_there = tests.contains(&format!("#[test]\nfn {name}() {{"));
            assert!(is_there, "the engine names {name}, which is no test");
            assert!(named.insert(name), "{name} is named twice");
        }
        count += 1;
    }
    assert!(count > 10, "{count} rows");
}

#[test]
fn what_a_page_names_is_told_from_what_it_says() {
    let text = "in `src/a.rs`, (`b/{c,d}.rs`) and e.rs beside; see [this](f.md#g), [that](#h) and \
                [there](https://i.rs/j).";
    assert_eq!(named_sources(text), ["src/a.rs", "b/c.rs", "b/d.rs"]);
    assert_eq!(links(text), ["f.md"]);
}
