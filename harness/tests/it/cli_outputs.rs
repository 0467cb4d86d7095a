//! Where output goes that is not a regular file, and what is said where it cannot go.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::process::Stdio;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::support::cli::{Sandbox, ftrace, ubdlab};

const GENERATE: [&str; 4] = ["trace", "generate", "--requests", "5"];

fn generated(sandbox: &Sandbox, target: &str) -> String {
    sandbox.succeeds(&[&GENERATE[..], &[target]].concat())
}

/// A node like `/dev/null`; `None` where only root may make one and we are not.
fn null_device(sandbox: &Sandbox, minor: u32) -> Option<std::path::PathBuf> {
    let path = sandbox.path("node");
    let made = mknodat(
        CWD,
        &path,
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        makedev(1, minor),
    );
    if made.is_err() {
        eprintln!("skipped: only root makes device nodes");
        return None;
    }
    Some(path)
}

#[test]
fn a_character_device_is_written_into_and_stays() {
    let sandbox = Sandbox::new();
    let Some(node) = null_device(&sandbox, 3) else {
        return;
    };
    for target in ["@node", "@link"] {
        if target == "@link" {
            symlink("node", sandbox.path("link")).unwrap();
        }
        assert!(generated(&sandbox, target).ends_with(": 5 requests\n"));
        let kind = std::fs::symlink_metadata(&node).unwrap().file_type();
        assert!(kind.is_char_device());
    }
    assert!(sandbox.path("link").is_symlink());
}

/// `ubdlab ... | head`: whoever reads has what he wanted, by whatever name he reads it.
#[test]
fn a_reader_that_leaves_is_no_failure() {
    let sandbox = Sandbox::new();
    sandbox.write("trace", ftrace(&[("WS", 0, 8); 20_000]));
    let fifo = sandbox.path("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let generate = ["trace", "generate", "--requests", "200000", "--as", "csv"];
    let convert = ["trace", "convert", "@trace", "--as", "csv"];
    for (args, target) in [
        (&generate[..], "-"),
        (&generate, "/dev/stdout"),
        (&generate, "@fifo"),
        (&convert, "-"),
        (&convert, "/dev/stdout"),
        (&convert, "@fifo"),
    ] {
        let mut command = ubdlab();
        command
            .args(sandbox.args(args))
            .args(sandbox.args(&[target]));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut start = [0; 8];
        match target {
            "@fifo" => File::open(&fifo).unwrap().read_exact(&mut start).unwrap(),
            _ => stdout.read_exact(&mut start).unwrap(),
        }
        drop(stdout);
        let done = child.wait_with_output().unwrap();
        let said = sandbox.text(&done.stderr);
        assert_eq!(
            (done.status.code(), &*said),
            (Some(0), ""),
            "{args:?} {target}"
        );
    }
    // A page too.
    let reader = std::thread::spawn({
        let fifo = fifo.clone();
        move || File::open(fifo).unwrap().read_exact(&mut [0; 8]).unwrap()
    });
    let replay = ["replay", "@trace", "--memory", "--size", "1M", "--report"];
    sandbox.succeeds(&[&replay[..], &["@fifo"]].concat());
    reader.join().unwrap();
}

#[test]
fn a_fifo_is_written_into() {
    let sandbox = Sandbox::new();
    let path = sandbox.path("fifo");
    mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let reader = std::thread::spawn({
        let path = path.clone();
        move || std::fs::read(path).unwrap()
    });
    let csv = [&GENERATE[..], &["--as", "csv", "@fifo"]].concat();
    assert!(sandbox.succeeds(&csv).ends_with(": 5 requests\n"));
    let read = String::from_utf8(reader.join().unwrap()).unwrap();
    assert_eq!(read.lines().count(), 6);
    let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
    assert!(kind.is_fifo());
}

#[test]
fn a_symbolic_link_stays_and_what_it_names_is_replaced() {
    let sandbox = Sandbox::new();
    sandbox.write("real", "old");
    std::fs::create_dir(sandbox.path("below")).unwrap();
    symlink("real", sandbox.path("link")).unwrap();
    symlink("below/new", sandbox.path("dangling")).unwrap();
    for (link, named) in [("link", "real"), ("dangling", "below/new")] {
        generated(&sandbox, &format!("@{link}"));
        assert!(sandbox.path(link).is_symlink());
        assert!(sandbox.read(named).starts_with(b"UBDTRACE"));
    }
    symlink("loop", sandbox.path("loop")).unwrap();
    sandbox.refuses(
        &[&GENERATE[..], &["@loop"]].concat(),
        "@loop: writing: too many symbolic links",
    );
}

#[test]
fn anything_else_is_refused() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("directory")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(sandbox.path("socket")).unwrap();
    for (name, kind) in [("directory", "a directory"), ("socket", "a socket")] {
        let target = format!("@{name}");
        let expected = format!(
            "{target}: writing: found {kind}, expected a regular file, a character device, a FIFO \
             or nothing; nothing was changed"
        );
        sandbox.refuses(&[&GENERATE[..], &[&target]].concat(), &expected);
    }
}

fn onto_full_disk(sandbox: &Sandbox, args: &[&str]) -> (i32, String) {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let done = ubdlab()
        .args(sandbox.args(args))
        .current_dir(sandbox.path("."))
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let text = sandbox.text(&done.stderr);
    (done.status.code().unwrap(), text)
}

/// Each command's report, and help too.
#[test]
fn output_that_cannot_be_written_is_a_failure() {
    if !std::path::Path::new("/dev/full").exists() {
        eprintln!("skipped: there is no /dev/full");
        return;
    }
    let sandbox = Sandbox::with_device();
    let lost = "ubdlab: standard output: the report could not be written: no space left on \
                device\n";
    for args in [
        &["image", "map", "@cow", "--format", "cow"][..],
        &["image", "map", "@cow", "--json", "--format", "cow"],
        &["image", "info", "@cow", "--format", "cow"],
        &["image", "info", "@cow", "--json", "--format", "cow"],
        &["image", "compare", "@backing", "@backing"],
        &["image", "resize", "@cow", "2M", "--dry-run"],
        &["trace", "info", "@trace"],
        &["trace", "stat", "@trace"],
        &["replay", "@trace", "--memory", "--size", "1M"],
        &["completions", "bash"],
        &["--help"],
        &["image", "--help"],
        &["--version"],
    ] {
        assert_eq!(
            onto_full_disk(&sandbox, args),
            (3, lost.to_owned()),
            "{args:?}"
        );
    }
    let checked = onto_full_disk(&sandbox, &["image", "check", "@cow"]);
    assert_eq!(checked, (1, lost.to_owned()));
}

#[test]
fn a_reader_that_went_away_is_no_failure() {
    let sandbox = Sandbox::with_device();
    let generate = [&GENERATE[..], &["-"]].concat();
    let convert = ["trace", "convert", "@trace", "-"];
    let mut commands = vec![vec!["image", "info", "@cow", "--format", "cow"]];
    for format in ["ubdtrace", "fio", "blkparse", "csv"] {
        commands.push([&generate[..], &["--as", format]].concat());
        commands.push([&convert[..], &["--as", format]].concat());
    }
    for args in commands {
        let mut command = ubdlab();
        command.args(sandbox.args(&args)).stderr(Stdio::piped());
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let done = command.stdout(writer).output().unwrap();
        let found = (done.status.code(), sandbox.text(&done.stderr));
        assert_eq!(found, (Some(0), String::new()), "{args:?}");
    }
}

/// A shell runs `args` with a redirection: status and standard error.
fn redirected(sandbox: &Sandbox, args: &[&str], redirection: &str) -> (Option<i32>, String) {
    let mut shell = std::process::Command::new("sh");
    let script = format!("exec \"$@\" {redirection}");
    shell
        .args(["-c", &script, "sh"])
        .arg(ubdlab().get_program());
    let done = shell.args(sandbox.args(args)).output().unwrap();
    (done.status.code(), sandbox.text(&done.stderr))
}

#[test]
fn output_that_is_closed_is_a_failure_and_one_thrown_away_is_none() {
    let sandbox = Sandbox::with_device();
    let report = "ubdlab: standard output: the report could not be written: it is closed\n";
    let data = "ubdlab: standard output: it is closed\n";
    let convert = ["trace", "convert", "@trace", "-", "--as", "csv"];
    for (args, said) in [
        (&["image", "info", "@cow", "--format", "cow"][..], report),
        (&["image", "map", "@cow", "--format", "cow"], report),
        (
            &["image", "map", "@cow", "--format", "cow", "--json"],
            report,
        ),
        (&["trace", "info", "@trace"], report),
        (&["completions", "bash"], report),
        (&["--help"], report),
        (&["--version"], report),
        (&convert, data),
        (&[&GENERATE[..], &["-"]].concat(), data),
    ] {
        let closed = redirected(&sandbox, args, ">&-");
        assert_eq!(closed, (Some(3), said.to_owned()), "{args:?}");
        // The second one is what a parent does that opens it once for reading and writing.
        for thrown_away in [">/dev/null", "1<>/dev/null"] {
            let done = redirected(&sandbox, args, thrown_away);
            assert_eq!(done, (Some(0), String::new()), "{args:?} {thrown_away}");
        }
    }
    // What prints nothing has nothing to lose.
    let silent = redirected(&sandbox, &["man", "@."], ">&-");
    assert_eq!(silent, (Some(0), String::new()));
}

/// What a script of a shell came to, in which `$1` is the program and the directory is the test's.
fn script(sandbox: &Sandbox, script: &str) -> (Option<i32>, String) {
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(ubdlab().get_program());
    let shell = shell.current_dir(sandbox.path(".")).stdin(Stdio::null());
    let done = shell.output().unwrap();
    (done.status.code(), sandbox.text(&done.stderr))
}

/// A redirection's file is its shell's: it is not replaced, and its position is kept.
#[test]
fn a_descriptor_is_written_into_where_it_stands() {
    let sandbox = Sandbox::with_device();
    symlink("/proc/self/fd/1", sandbox.path("link")).unwrap();
    symlink("link", sandbox.path("longer")).unwrap();
    let csv = sandbox.run(&["trace", "convert", "@trace", "-", "--as", "csv"]);
    let csv = String::from_utf8(csv.stdout).unwrap();
    for (target, redirection) in [
        ("-", ">>out"),
        ("/dev/stdout", ">>out"),
        ("/dev/fd/1", ">>out"),
        ("/proc/self/fd/1", ">>out"),
        ("/proc/thread-self/fd/1", ">>out"),
        ("longer", ">>out"),
        ("/dev/stderr", "2>>out"),
        ("/dev/fd/3", "3>>out"),
    ] {
        let convert = format!("\"$1\" trace convert trace {target} --as csv");
        sandbox.write("out", "keep\n");
        let appended = script(&sandbox, &format!("exec {convert} {redirection}"));
        assert_eq!(appended, (Some(0), String::new()), "{target}");
        let found = String::from_utf8(sandbox.read("out")).unwrap();
        assert_eq!(found, format!("keep\n{csv}"), "{target}");
        // Whoever shares the descriptor goes on after what was written.
        let descriptor = redirection.trim_end_matches(">>out");
        let shared = format!(
            "{{ echo before >&{0}; {convert}; echo after >&{0}; }} {0}>out",
            if descriptor.is_empty() {
                "1"
            } else {
                descriptor
            }
        );
        let done = script(&sandbox, &shared);
        assert_eq!(done, (Some(0), String::new()), "{target}");
        let found = String::from_utf8(sandbox.read("out")).unwrap();
        assert_eq!(found, format!("before\n{csv}after\n"), "{target}");
    }
    let generate = "exec \"$1\" trace generate /dev/stdout --as csv --requests 5 >>out";
    assert_eq!(script(&sandbox, generate), (Some(0), String::new()));
    assert_eq!(
        sandbox
            .read("out")
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count(),
        11
    );
}

#[test]
fn a_page_and_the_report_go_to_the_same_descriptor() {
    let sandbox = Sandbox::with_device();
    let replay = "exec \"$1\" replay trace --memory --size 1M --report /dev/stdout >out";
    assert_eq!(script(&sandbox, replay), (Some(0), String::new()));
    let out = String::from_utf8(sandbox.read("out")).unwrap();
    assert!(out.starts_with("<!DOCTYPE html>"), "{out}");
    assert!(
        out.contains("</html>\n") && out.contains("\nverified "),
        "{out}"
    );
}

#[test]
fn a_descriptor_that_takes_nothing_is_refused() {
    let sandbox = Sandbox::with_device();
    sandbox.write("out", "keep\n");
    let mut others = File::options()
        .append(true)
        .open(sandbox.path("out"))
        .unwrap();
    let others_name = format!("/proc/{}/fd/{}", std::process::id(), others.as_raw_fd());
    for (target, redirection, why) in [
        (
            "/dev/fd/7",
            "7>&-",
            "found no descriptor 7 that the program was started with",
        ),
        (
            "/dev/stdin",
            "",
            "found a descriptor that is open for reading only",
        ),
        (
            "/dev/fd/7",
            "7<out",
            "found a descriptor that is open for reading only",
        ),
        ("/dev/stdout", ">&-", "it is closed"),
        (
            &others_name,
            "",
            "found a file that another process has open, expected one of this process, a pipe, a \
             FIFO or a character device",
        ),
    ] {
        let replay = "exec \"$1\" replay trace --memory --size 1M --report";
        let done = script(&sandbox, &format!("{replay} {target} {redirection}"));
        let said = format!("ubdlab: {target}: writing: {why}\n");
        assert_eq!(done, (Some(3), said), "{target} {redirection}");
        assert_eq!(sandbox.read("out"), b"keep\n");
    }
    // It is the same file still.
    others.write_all(b"more\n").unwrap();
    assert_eq!(sandbox.read("out"), b"keep\nmore\n");
}
