//! docs/security.md names a test for each thing that it promises: every name there is the name of a
//! test, or of a module with tests.

use std::path::Path;

/// The tests of a file.
struct Module {
    /// The crate.
    of: &'static str,
    /// The module's path in its crate or test program.
    path: Vec<String>,
    tests: Vec<String>,
}

/// The folders that the page names tests of, and the crate of each.
const FOLDERS: [(&str, &str); 4] = [
    ("harness", "harness/tests/it"),
    ("driver", "driver/tests/it"),
    ("userhelper", "userhelper/tests/it"),
    ("userhelper", "userhelper/src"),
];

fn modules_below(of: &'static str, directory: &Path, path: &[String], found: &mut Vec<Module>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let file = entry.unwrap().path();
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut path = path.to_vec();
        if !["mod", "main", "lib"].contains(&&*name) {
            path.push(name);
        }
        if file.is_dir() {
            modules_below(of, &file, &path, found);
        } else if file.extension().is_some_and(|it| it == "rs") {
            let tests = tests_in(&std::fs::read_to_string(&file).unwrap());
            found.push(Module { of, path, tests });
        }
    }
}

/// The names of the functions that are marked as tests.
fn tests_in(source: &str) -> Vec<String> {
    let marked = source.split("#[test]").skip(1);
    let name = |after: &str| {
        let (_, after) = after.split_once("fn ")?;
        Some(after.split_once('(')?.0.to_owned())
    };
    marked.filter_map(name).collect()
}

impl Module {
    /// Whether `names` is the path of one of its tests, or the end of that.
    fn has_test(&self, names: &[&str]) -> bool {
        let Some((test, module)) = names.split_last() else {
            return false;
        };
        self.path_ends(module) && self.tests.iter().any(|it| it == test)
    }

    fn path_ends(&self, names: &[&str]) -> bool {
        let skipped = self.path.len().checked_sub(names.len());
        skipped.is_some_and(|skipped| self.path[skipped..] == *names)
    }

    /// Whether `names` is the path of this module or of one that it is in, and there are tests. Of
    /// a single name the beginning will do: it stands for all that begin so.
    fn is_in(&self, names: &[&str]) -> bool {
        let same = |windows: &[String]| match names {
            [name] => windows[0].starts_with(name),
            names => windows == names,
        };
        !self.tests.is_empty() && self.path.windows(names.len()).any(same)
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
    let mut modules = Vec::new();
    for (of, directory) in FOLDERS {
        modules_below(of, &root.join(directory), &[], &mut modules);
    }
    let page = std::fs::read_to_string(root.join("docs/security.md")).unwrap();
    let tests = named_tests(&page);
    assert!(tests.len() > 20, "the page names its tests: {tests:?}");
    for test in tests {
        let is_known = is_known(&modules, test);
        assert!(is_known, "docs/security.md names {test}, which is no test");
    }
}

fn is_known(modules: &[Module], test: &str) -> bool {
    let (of, path) = test.split_once(": ").unwrap_or(("harness", test));
    let names: Vec<&str> = path.split("::").collect();
    let mut modules = modules.iter().filter(|module| module.of == of);
    modules.any(|module| module.has_test(&names) || module.is_in(&names))
}

#[test]
fn what_only_looks_like_a_test_s_name_is_found_out() {
    let source = "#[test]\nfn it_holds() {}\nfn helper() {}\n";
    let module = |path: &[&str], source| Module {
        of: "harness",
        path: path.iter().map(|name| (*name).to_owned()).collect(),
        tests: tests_in(source),
    };
    let modules = [
        module(&["image", "check"], source),
        module(&["support"], "fn it_helps() {}"),
    ];
    for name in [
        "image::check::it_holds",
        "check::it_holds",
        "it_holds",
        "image::check",
        "image",
        "ima",
        "harness: image::check",
    ] {
        assert!(is_known(&modules, name), "{name}");
    }
    for name in [
        "image::check::it_ho",
        "image::check::helper",
        "support::it_helps",
        "support",
        "image::it_holds",
        "image::che",
        "helper",
        "driver: it_holds",
    ] {
        assert!(!is_known(&modules, name), "{name}");
    }
}
