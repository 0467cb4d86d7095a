//! The help of the program and of each command, as files: `UPDATE_EXPECT=1 cargo test -p harness
//! --test it cli_help` renews them.

use std::path::Path;

use expect_test::expect_file;

use crate::support::cli::{Sandbox, output, ubdlab};
use crate::support::peers;

const COMMANDS: &[&[&str]] = &[
    &[],
    &["amx-preload"],
    &["bench"],
    &["bench", "fuzz"],
    &["bench", "io"],
    &["bench", "lookup"],
    &["bench", "replay"],
    &["bench", "resize"],
    &["bench", "serve"],
    &["completions"],
    &["crash"],
    &["ctl"],
    &["ctl", "flush"],
    &["ctl", "record"],
    &["ctl", "resize"],
    &["ctl", "status"],
    &["ctl", "stop"],
    &["demo"],
    &["fuzz"],
    &["fuzz", "merge"],
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
    &["replay", "merge"],
    &["serve"],
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
        let (_, examples) = full.split_once("Examples:\n").unwrap();
        assert!(examples.contains("  ubdlab "), "of {command:?}");
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

/// What the help says goes into the initramfs, as somebody copies it: with its indentation.
#[test]
fn the_recipe_for_an_initramfs_survives_copying() {
    let help = help(&["serve"], "--help");
    let (_, recipe) = help.split_once("this makes one:\n").unwrap();
    let recipe = recipe.lines().take_while(|line| !line.is_empty());
    // The busybox and the module are not everywhere.
    let needs_others = |line: &&str| line.contains("  cp ") || line.contains("busybox cpio");
    let script: String = recipe
        .filter(|line| !needs_others(line))
        .map(|line| format!("{line}\n"))
        .collect();
    let sandbox = Sandbox::new();
    let mut shell = std::process::Command::new("sh");
    let done = output(
        shell
            .args(["-e", "-c", &script])
            .current_dir(sandbox.path(".")),
    );
    assert!(done.status.success(), "{script}: {done:?}");
    let init = String::from_utf8(sandbox.read("i/init")).unwrap();
    let lines: Vec<_> = init.lines().collect();
    assert_eq!(lines.first(), Some(&"#!/bin/busybox sh"), "{init}");
    let last = "exec /bin/busybox switch_root /root /sbin/init";
    assert_eq!((lines.last(), lines.len()), (Some(&last), 5), "{init}");
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
    // What is proposed for a word that has not begun, and for one that begins like an option.
    let proposed = |word: &str, before: &str| {
        let script = format!(
            ". ./script; COMP_WORDS=({before} '{word}'); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _ubdlab ubdlab '{word}' ''; echo \"${{COMPREPLY[@]}}\""
        );
        let mut command = std::process::Command::new("bash");
        let done = output(command.args(["-c", &script]).current_dir(sandbox.path(".")));
        String::from_utf8(done.stdout).unwrap()
    };
    let empty = proposed("", "ubdlab");
    let is_option = |word: &str| word.starts_with('-');
    assert!(empty.contains("image"), "{empty}");
    assert!(!empty.split_whitespace().any(is_option), "{empty}");
    assert_eq!(proposed("", "ubdlab man"), "\n");
    let options = proposed("--", "ubdlab man");
    assert!(options.contains("--help"), "{options}");
}

/// The examples, given to a shell by somebody who has none of the directories; then each shell that
/// there is finds what was made.
#[test]
fn completions_are_installed_as_the_examples_say() {
    let sandbox = Sandbox::new();
    let help = sandbox.succeeds(&["completions", "--help"]);
    let examples = help.split_once("Examples:\n").unwrap().1;
    let examples = examples.lines().take_while(|line| line.starts_with("  "));
    let script: String = examples.map(|line| format!("{}\n", line.trim())).collect();
    assert!(script.contains("mkdir -p ~/.zfunc\n"), "{script}");
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_ubdlab"));
    let old_path = std::env::var("PATH").unwrap();
    let path = format!("{}:{old_path}", program.parent().unwrap().display());
    let run = |shell: &str, args: &[&str]| {
        let mut command = std::process::Command::new(shell);
        command.args(args).env("PATH", &path);
        command.env("HOME", sandbox.path("home"));
        for variable in ["XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZDOTDIR"] {
            command.env_remove(variable);
        }
        let done = output(command.current_dir(sandbox.path(".")));
        assert!(done.status.success(), "{shell} {args:?}: {done:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    std::fs::create_dir(sandbox.path("home")).unwrap();
    run("sh", &["-e", "-c", &script]);
    let loader = "/usr/share/bash-completion/bash_completion";
    if peers::optional_peer("bash").is_some() && std::path::Path::new(loader).exists() {
        let load = format!(". {loader}; _completion_loader ubdlab; complete -p ubdlab");
        assert!(run("bash", &["--norc", "-c", &load]).contains("-F _ubdlab"));
    }
    if peers::optional_peer("zsh").is_some() {
        let line = help.lines().find(|line| line.contains("fpath=(")).unwrap();
        let line = &line[line.find("fpath=(").unwrap()..];
        let load = format!("{line}; print $_comps[ubdlab]");
        assert_eq!(run("zsh", &["-f", "-c", &load]), "_ubdlab\n");
    }
    if peers::optional_peer("fish").is_some() {
        let found = run("fish", &["-c", "complete -C 'ubdlab ima'"]);
        assert!(found.starts_with("image\t"), "{found}");
    }
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
    sandbox.refuses(&["man", "@file"], "@file: creating: file exists");
}
