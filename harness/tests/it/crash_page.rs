//! The page for people who crash their own program (docs/crash.md): what it shows is what they get.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::cli::{PROGRAM, SIZE, Sandbox, output, ubdlab};
use crate::support::crash::work;
use crate::support::peers::peer;

/// The lines of the examples: what is indented by four. A line of text ends an example.
fn examples() -> Vec<Vec<String>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/crash.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, page) = page.split_once("## One finding").unwrap();
    let mut examples = vec![Vec::new()];
    for line in page.lines() {
        let last = examples.last_mut().unwrap();
        match line.strip_prefix("    ") {
            Some(line) => last.push(line.to_owned()),
            None if line.is_empty() => last.push(String::new()),
            None if last.iter().all(String::is_empty) => last.clear(),
            None => examples.push(Vec::new()),
        }
    }
    examples
}

/// A command of the page, and what it is said to print.
struct Example {
    command: String,
    output: String,
}

/// All commands, in their order.
fn commands() -> Vec<Example> {
    let mut commands: Vec<Example> = Vec::new();
    for example in examples() {
        let from = commands.len();
        for line in example {
            match (line.strip_prefix("$ "), commands.get_mut(from..)) {
                (Some(command), _) => commands.push(Example {
                    command: command.to_owned(),
                    output: String::new(),
                }),
                (None, Some([.., last])) if last.command.ends_with('\\') => {
                    last.command = format!("{}\n{line}", last.command);
                }
                (None, Some([.., last])) => last.output += &(line + "\n"),
                _ => {}
            }
        }
    }
    commands
}

/// Writes the script that a `cat` of the page shows.
fn write_script(sandbox: &Sandbox, name: &str, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    sandbox.write(name, script);
    let mode = PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(sandbox.path(name), mode).unwrap();
}

#[test]
fn every_command_of_the_page_prints_what_the_page_says() {
    let Some(sandbox) = work(&[]) else {
        return;
    };
    std::fs::create_dir(sandbox.path("etc")).unwrap();
    sandbox.write("etc/app.conf", "port=80\n");
    let mut path = vec![PathBuf::from(PROGRAM).parent().unwrap().to_owned()];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    let path = std::env::join_paths(path).unwrap();
    let mut run = 0;
    for Example {
        command,
        output: expected,
    } in commands()
    {
        if let Some(name) = command.strip_prefix("cat ") {
            write_script(&sandbox, name, &expected);
            continue;
        }
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &command]).env("PATH", &path);
        let done = output(shell.current_dir(sandbox.path("")));
        let said = String::from_utf8(done.stdout).unwrap();
        let why = String::from_utf8_lossy(&done.stderr);
        assert_eq!(said.trim_end(), expected.trim_end(), "{command}: {why}");
        run += 1;
        // The page then says what makes it right.
        if command.contains("--repro") {
            let script = String::from_utf8(sandbox.read("save.sh")).unwrap();
            let mended = script.replace("mv ", "sync etc/app.conf.new\nmv ");
            write_script(&sandbox, "save.sh", &mended);
        }
    }
    assert!(run >= 4, "{run} commands");
    assert!(sandbox.path("found.html").exists());
}

#[test]
fn a_page_is_a_file() {
    let Some(sandbox) = work(&[]) else {
        return;
    };
    let args = [
        "crash", "--dir", "work", "--check", "true", "--report", "-", "--", "true",
    ];
    let why = "-: writing: found the name that stands for standard output, expected that of a \
               file: ./- if that is meant, or /dev/stdout";
    sandbox.refuses(&args, why);
    assert!(!sandbox.path("-").exists());
}

/// The commands after "Examples:", a line each.
fn examples_of_help() -> Vec<String> {
    let help = output(ubdlab().args(["crash", "--help"])).stdout;
    let help = String::from_utf8(help).unwrap();
    let (_, examples) = help.split_once("\nExamples:\n").unwrap();
    let (examples, _) = examples.split_once("\n\n").unwrap();
    let examples = examples.replace("\\\n", " ");
    examples
        .lines()
        .map(|line| line.trim().to_owned())
        .collect()
}

/// They show how it is done well: nothing is found.
#[test]
fn the_examples_of_the_help_pass() {
    let Some(sandbox) = work(&[]) else {
        return;
    };
    let path_of = |peers: &[&str]| {
        let mut path = vec![PathBuf::from(PROGRAM)];
        for name in peers {
            path.push(peer(name)?);
        }
        let mut path: Vec<PathBuf> = path.iter().map(|it| it.parent().unwrap().into()).collect();
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
        Some(std::env::join_paths(path).unwrap())
    };
    std::fs::create_dir(sandbox.path("db")).unwrap();
    sandbox.write_backing("work/backing", SIZE);
    sandbox.create_cow("work/a.cow", "work/backing");
    sandbox.make_dirty_at("work/a.cow", &[0, 1, 100, 101, 1000, 2047]);
    let disks = "qemu-img create -q -f qcow2 disk.qcow2 4M && \
                 qemu-io -c 'write -P 3 0 256k' disk.qcow2 && \
                 qemu-img create -q -f qcow2 -b disk.qcow2 -F qcow2 top.qcow2 && \
                 qemu-io -c 'write -P 7 64k 128k' top.qcow2";
    let mut run = 0;
    for example in examples_of_help() {
        let (peers, before) = match example.as_str() {
            with if with.contains("qemu-img") => (&["qemu-img", "qemu-io"][..], disks),
            with if with.contains("sqlite3") => (&["sqlite3"][..], "true"),
            _ => (&[][..], "true"),
        };
        let Some(path) = path_of(peers) else {
            continue;
        };
        for (line, within) in [(before, "work"), (&*example, "")] {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", line]).env("PATH", &path);
            let done = output(shell.current_dir(sandbox.path(within)));
            let said = String::from_utf8_lossy(&done.stdout).into_owned();
            assert_eq!(done.status.code(), Some(0), "{line}: {said}{done:?}");
            assert!(
                line == before || said.contains("\nthe check passes on all of them\n"),
                "{line}: {said}"
            );
        }
        run += 1;
    }
    assert!(run >= 1);
}
