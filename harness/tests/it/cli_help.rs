//! The help of the program and of each command, as files: `UPDATE_EXPECT=1 cargo test -p harness
//! --test it cli_help` renews them.

use std::path::Path;

use expect_test::expect_file;

use crate::support::cli::{Sandbox, output, ubdlab};
use crate::support::peers;

const COMMANDS: &[&[&str]] = &[
    &[],
    &["bench"],
    &["bench", "fuzz"],
    &["bench", "io"],
    &["bench", "lookup"],
    &["bench", "replay"],
    &["bench", "resize"],
    &["completions"],
    &["demo"],
    &["fuzz"],
    &["image"],
    &["image", "create"],
    &["image", "info"],
    &["image", "map"],
    &["image", "check"],
    &["image", "resize"],
    &["image", "recover"],
    &["image", "merge"],
    &["image", "rebase"],
    &["image", "convert"],
    &["image", "compare"],
    &["man"],
    &["replay"],
    &["trace"],
    &["trace", "info"],
    &["trace", "convert"],
    &["trace", "generate"],
    &["trace", "stat"],
];

fn help(command: &[&str], option: &str) -> String {
    let output = output(ubdlab().args(command).arg(option));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stderr, b"");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn help_is_as_it_was() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    for &command in COMMANDS {
        for (option, kind) in [("-h", "short"), ("--help", "full")] {
            let name = [&["ubdlab"], command, &[kind]].concat().join("-") + ".txt";
            expect_file![directory.join(name)].assert_eq(&help(command, option));
        }
    }
}

/// Each command below is in the list above.
#[test]
fn no_command_is_forgotten() {
    for &command in COMMANDS {
        let text = help(command, "-h");
        let Some((_, list)) = text.split_once("Commands:\n") else {
            continue;
        };
        let names = |line: &&str| !line.starts_with("   ");
        for line in list
            .lines()
            .take_while(|line| !line.is_empty())
            .filter(names)
        {
            let name = line.split_whitespace().next().unwrap();
            let path = [command, &[name]].concat();
            assert!(name == "help" || COMMANDS.contains(&&path[..]), "{path:?}");
        }
    }
}

#[test]
fn full_help_has_examples_and_fits() {
    for &command in COMMANDS {
        let (short, full) = (help(command, "-h"), help(command, "--help"));
        assert!(full.contains("Examples:\n  ubdlab "), "of {command:?}");
        assert!(full.len() > short.len());
        assert!(full.lines().all(|line| line.chars().count() <= 100));
    }
}

#[test]
fn without_a_command_the_help_is_an_error() {
    let output = output(&mut ubdlab());
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(output.stdout, b"");
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("Usage: ubdlab <COMMAND>")
    );
}

/// The scripts name every command, and bash takes its own.
#[test]
fn each_shell_gets_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = output(ubdlab().args(["completions", shell]));
        assert_eq!(
            (output.status.code(), &output.stderr[..]),
            (Some(0), &b""[..])
        );
        let script = String::from_utf8(output.stdout).unwrap();
        for command in ["resize", "generate", "dry-run"] {
            assert!(script.contains(command), "{shell} lacks {command}");
        }
        if ["bash", "zsh", "fish"].contains(&shell) {
            assert!(
                script.contains("flush-noop"),
                "{shell} lacks the names of defects"
            );
        }
    }
    let sandbox = Sandbox::new();
    sandbox.write("script", sandbox.succeeds(&["completions", "bash"]));
    let Some(bash) = peers::optional_peer("bash") else {
        return;
    };
    let checked = output(
        std::process::Command::new(bash)
            .args(["-c", ". ./script && complete -p ubdlab"])
            .current_dir(sandbox.path(".")),
    );
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn each_command_has_a_manual_page() {
    let sandbox = Sandbox::new();
    // It is made, with those above it.
    sandbox.succeeds(&["man", "@share/man1"]);
    for command in COMMANDS {
        let name = [&["ubdlab"], *command].concat().join("-") + ".1";
        let page = String::from_utf8(sandbox.read(&format!("share/man1/{name}"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{name}");
        let (_, examples) = page.split_once("\n.SH EXAMPLES\n").expect(&name);
        assert!(examples.contains("Examples:"), "{name}");
        let title = page.lines().find(|line| line.starts_with(".TH ")).unwrap();
        let source = format!("\"ubdlab {}\"", env!("CARGO_PKG_VERSION"));
        assert!(title.contains(&source), "{title}");
    }
    let pages = std::fs::read_dir(sandbox.path("share/man1")).unwrap();
    assert_eq!(pages.count(), COMMANDS.len());
    sandbox.write("file", "");
    sandbox.refuses(
        &["man", "@file"],
        "@file: creating: File exists (os error 17)",
    );
}
