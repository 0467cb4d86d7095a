//! Ctrl-C, `kill` and a terminal that is closed, in the middle of commands that make temporary
//! files: the files are gone, and the exit status says so.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::cli::{Sandbox, ftrace, ubdlab_that_heeds_signals};

const SIGNALS: [Signal; 3] = [Signal::INT, Signal::TERM, Signal::HUP];

/// Names in a directory, in order.
fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Waits until `happened`, as long as the child runs.
fn wait_for(child: &mut Child, happened: impl Fn() -> bool) {
    while !happened() {
        assert_eq!(child.try_wait().unwrap(), None, "it ended early");
        std::thread::yield_now();
    }
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// The process ends by the signal, and says what it has removed.
fn ends_by(child: Child, signal: Signal) {
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(128 + signal.as_raw()));
    let how = match signal {
        Signal::INT => "interrupted",
        _ => "ended by a signal",
    };
    let told = format!("ubdlab: {how}; what was temporary is removed\n");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), told);
}

/// Starts the program with its temporary files in `t` of the sandbox.
fn start(sandbox: &Sandbox, args: &[&str]) -> Child {
    command(sandbox, args).spawn().unwrap()
}

fn command(sandbox: &Sandbox, args: &[&str]) -> Command {
    let mut command = ubdlab_that_heeds_signals();
    command
        .args(sandbox.args(args))
        .current_dir(sandbox.path(""))
        .env("TMPDIR", sandbox.path("t"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::with_device();
    std::fs::create_dir(sandbox.path("t")).unwrap();
    sandbox
}

/// A trace that takes two minutes to be replayed at its own pace: it is ended long before.
fn slow_trace() -> String {
    let trace = ftrace(&[("WS", 0, 8), ("WS", 8, 8)]);
    trace.replace(" 1.000001:", " 121.000001:")
}

#[test]
fn the_device_of_a_replay_goes_at_every_signal() {
    for signal in SIGNALS {
        let sandbox = sandbox();
        sandbox.write("slow", slow_trace());
        let args = ["replay", "@slow", "--pace", "recorded"];
        let mut child = start(&sandbox, &args);
        let temporary = sandbox.path("t");
        let device_is_there = || {
            names(&temporary)
                .first()
                .is_some_and(|name| temporary.join(name).join("device.cow").exists())
        };
        wait_for(&mut child, device_is_there);
        send(&child, signal);
        ends_by(child, signal);
        assert_eq!(names(&temporary), Vec::<String>::new(), "{signal:?}");
    }
}

/// The last words would wait for ever.
#[test]
fn a_process_whose_messages_nobody_reads_ends_all_the_same() {
    let (_reader, mut writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while writer.write(&[b'x'; 512]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    let sandbox = sandbox();
    sandbox.write("slow", slow_trace());
    let args = ["replay", "@slow", "--pace", "recorded"];
    let mut child = command(&sandbox, &args).stderr(writer).spawn().unwrap();
    let temporary = sandbox.path("t");
    wait_for(&mut child, || !names(&temporary).is_empty());
    send(&child, Signal::INT);
    let ended = child.wait().unwrap();
    assert_eq!(ended.code(), Some(128 + Signal::INT.as_raw()));
    assert_eq!(names(&temporary), Vec::<String>::new());
}

#[test]
fn a_trace_kept_from_standard_input_goes_at_every_signal() {
    for signal in SIGNALS {
        let sandbox = sandbox();
        let mut child = start(&sandbox, &["replay", "-", "--memory"]);
        let mut input = child.stdin.take().unwrap();
        input.write_all(slow_trace().as_bytes()).unwrap();
        wait_for(&mut child, || !names(&sandbox.path("t")).is_empty());
        send(&child, signal);
        ends_by(child, signal);
        assert_eq!(names(&sandbox.path("t")), Vec::<String>::new());
        drop(input);
    }
}

#[test]
fn an_output_that_is_not_whole_goes_at_every_signal() {
    for signal in SIGNALS {
        let sandbox = sandbox();
        sandbox.write("t/out", "of before");
        let args = ["trace", "convert", "-", "@t/out"];
        let mut child = start(&sandbox, &args);
        let mut input = child.stdin.take().unwrap();
        // The format is told by the first of it.
        input.write_all(slow_trace().as_bytes()).unwrap();
        input
            .write_all(slow_trace().repeat(4096).as_bytes())
            .unwrap();
        wait_for(&mut child, || names(&sandbox.path("t")).len() == 2);
        send(&child, signal);
        ends_by(child, signal);
        assert_eq!(names(&sandbox.path("t")), ["out"], "{signal:?}");
        assert_eq!(sandbox.read("t/out"), b"of before");
        drop(input);
    }
}

/// A tool that watches for signals stops by itself, and says so. It may be done before.
#[test]
fn a_new_image_goes_at_every_signal_or_is_whole() {
    for signal in SIGNALS {
        let sandbox = sandbox();
        let size = 64 << 20;
        sandbox.write_backing("large", size);
        let mut child = start(
            &sandbox,
            &["image", "convert", "-f", "raw", "@large", "@t/out"],
        );
        wait_for(&mut child, || !names(&sandbox.path("t")).is_empty());
        send(&child, signal);
        let output = child.wait_with_output().unwrap();
        match output.status.code() {
            Some(0) => assert_eq!(names(&sandbox.path("t")), ["out"]),
            _ => {
                assert_eq!(output.status.code(), Some(128 + signal.as_raw()));
                assert_eq!(names(&sandbox.path("t")), Vec::<String>::new());
                assert!(!output.stderr.is_empty(), "it says that it was interrupted");
            }
        }
    }
}

/// As under nohup, and as a shell without job control has it for a command in the background.
#[test]
fn a_signal_that_was_ignored_before_stays_ignored() {
    stays_ignored("HUP", Signal::HUP);
    stays_ignored("INT", Signal::INT);
}

fn stays_ignored(name: &str, signal: Signal) {
    let sandbox = sandbox();
    sandbox.write("slow", slow_trace());
    let program = env!("CARGO_BIN_EXE_ubdlab");
    let script = format!("trap '' {name}; exec {program} replay slow --pace recorded");
    let mut child = Command::new("sh")
        .args(["-c", &script])
        .current_dir(sandbox.path(""))
        .env("TMPDIR", sandbox.path("t"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(&mut child, || !names(&sandbox.path("t")).is_empty());
    send(&child, signal);
    // Signals are taken in the order of their numbers, HUP and INT before TERM: had it not been
    // ignored, it would be what the process ended by.
    send(&child, Signal::TERM);
    ends_by(child, Signal::TERM);
    assert_eq!(names(&sandbox.path("t")), Vec::<String>::new());
}
