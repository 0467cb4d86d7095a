//! The page for people who crash their own program (docs/crash.md): what it shows is what they get.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::cli::{PROGRAM, Sandbox, output};
use crate::support::crash::work;

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
