//! The control socket of a device that is served, and `ubdlab ctl`.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Stdio;

use driver::units::{Bytes, Sector};
use harness::serve::control::{Answer, Asking, Control, NoAnswer, Request, WishedStrategy};
use harness::serve::{DeviceStatus, Ending, Job, ResizeState};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::cli::{SIZE, Sandbox, ubdlab_that_heeds_signals};
use crate::support::served::{ask, bring_up, half_moved, start};

fn grow(by: i64) -> Request {
    Request::Resize {
        size_bytes: None,
        change_bytes: Some(by),
        strategy: None,
        shrink: false,
        lose_data: false,
        detach: false,
    }
}

fn status(asking: &mut Asking) -> DeviceStatus {
    match ask(asking, &Request::Status {}).unwrap() {
        Answer::Status(status) => *status,
        other => panic!("{other:?}"),
    }
}

/// A raw client: lines out, lines in.
struct Raw(BufReader<UnixStream>);

impl Raw {
    fn connect(path: &Path) -> Raw {
        Raw(BufReader::new(UnixStream::connect(path).unwrap()))
    }

    fn ask(&mut self, line: &str) -> String {
        writeln!(self.0.get_mut(), "{line}").unwrap();
        self.line()
    }

    fn line(&mut self) -> String {
        let mut answer = String::new();
        self.0.read_line(&mut answer).unwrap();
        answer
    }
}

#[test]
fn a_device_is_looked_at_grown_and_stopped() {
    let sandbox = Sandbox::with_device();
    sandbox.make_dirty("cow");
    let (up, ending) = bring_up(&sandbox.path("cow"));
    let path = sandbox.path("ctl");
    let control = Control::listen(&path, up.export.clone()).unwrap();
    let mut asking = Asking::connect(&path).unwrap();

    let before = status(&mut asking);
    assert_eq!((before.size_bytes, before.dirty_bytes), (SIZE, 512));
    assert!(!before.failed_sync && before.resize.is_none() && before.recording.is_none());

    let answer = ask(&mut asking, &grow(1 << 20)).unwrap();
    let Answer::Resized(resized) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(
        (resized.old_size_bytes, resized.new_size_bytes),
        (SIZE, 2 * SIZE)
    );
    let reflow = Request::Resize {
        size_bytes: Some(1 << 30),
        change_bytes: None,
        strategy: Some(WishedStrategy::Reflow),
        shrink: false,
        lose_data: false,
        detach: false,
    };
    let answer = ask(&mut asking, &reflow).unwrap();
    assert!(
        matches!(&answer, Answer::Resized(it) if it.strategy == "reflow"),
        "{answer:?}"
    );
    let refused = ask(&mut asking, &grow(-(1 << 20))).unwrap_err();
    assert!(matches!(&refused, NoAnswer::Refused(_)), "{refused:?}");
    let refused = ask(&mut asking, &grow(-(1 << 40))).unwrap_err();
    assert!(refused.to_string().contains("no such size"), "{refused}");

    let after = status(&mut asking);
    // What is new reads as zeros, by its bits.
    let dirty = (1 << 30) - SIZE + 512;
    assert_eq!((after.size_bytes, after.dirty_bytes), (1 << 30, dirty));
    assert!(matches!(
        ask(&mut asking, &Request::Flush {}),
        Ok(Answer::Flushed(true))
    ));

    // Whoever asks for the end waits until the device is closed.
    asking.ask(&Request::Stop {}).unwrap();
    assert_eq!(ending.recv().unwrap(), Ending::Asked);
    let mut late = Asking::connect(&path).unwrap();
    assert_eq!(status(&mut late).size_bytes, 1 << 30, "it lives still");
    let closed = up.close();
    let refused = ask(&mut late, &Request::Status {}).unwrap_err();
    assert!(matches!(refused, NoAnswer::Refused(_)), "{refused:?}");
    control.end(closed);
    assert!(matches!(asking.next_answer(), Ok(Answer::Stopped(true))));
    assert!(!path.exists());

    // It is closed, and has its size.
    let (up, _ending) = bring_up(&sandbox.path("cow"));
    assert_eq!(up.export.capacity().bytes(), Bytes(1 << 30));
    up.close().unwrap();
}

#[test]
fn whoever_asked_for_the_end_hears_why_it_went_wrong() {
    let sandbox = Sandbox::with_device();
    let (up, _ending) = bring_up(&sandbox.path("cow"));
    for how in [Some("the disk is gone"), None] {
        let control = Control::listen(&sandbox.path("ctl"), up.export.clone()).unwrap();
        let mut asking = Asking::connect(&sandbox.path("ctl")).unwrap();
        asking.ask(&Request::Stop {}).unwrap();
        // Its answer comes at the end, and this one before.
        status(&mut Asking::connect(&sandbox.path("ctl")).unwrap());
        match how {
            Some(error) => control.end(Err(error.into())),
            None => drop(control),
        }
        let refused = asking.next_answer().unwrap_err().to_string();
        match how {
            Some(error) => assert_eq!(refused, error),
            // It may have gone before it was read.
            None => assert!(refused.contains("has ended"), "{refused}"),
        }
    }
    up.close().unwrap();
}

/// A client that is wrong hears so, and the next one is served.
#[test]
fn wrong_requests_are_answered_and_the_rest_goes_on() {
    let sandbox = Sandbox::with_device();
    let (up, _ending) = bring_up(&sandbox.path("cow"));
    let path = sandbox.path("ctl");
    let control = Control::listen(&path, up.export.clone()).unwrap();
    let mut raw = Raw::connect(&path);
    for (line, said) in [
        ("rubbish", "not a request"),
        ("", "not a request"),
        (r#"{"request":"reboot"}"#, "unknown variant `reboot`"),
        (
            r#"{"request":"status","verbose":true}"#,
            "unknown field `verbose`",
        ),
        (
            r#"{"request":"resize"}"#,
            "either size_bytes or change_bytes",
        ),
        (
            r#"{"request":"resize","size_bytes":1,"change_bytes":1}"#,
            "either size_bytes",
        ),
        (r#"{"request":"resize","size_bytes":0}"#, "no such size"),
        (
            r#"{"request":"resize","size_bytes":18446744073709551615}"#,
            "no such size",
        ),
        (
            r#"{"request":"resize","size_bytes":512,"lose_data":true}"#,
            "together with lose_data",
        ),
        (r#"{"request":"record"}"#, "either file or off"),
        (
            r#"{"request":"record","file":"relative"}"#,
            "expected an absolute path",
        ),
        (r#"{"request":"record","off":true}"#, "nothing is recorded"),
    ] {
        let answer = raw.ask(line);
        assert!(
            answer.starts_with(r#"{"error":""#) && answer.contains(said),
            "{line}: {answer}"
        );
    }
    assert!(
        raw.ask(r#"{"request":"status"}"#)
            .starts_with(r#"{"status":{"#)
    );
    // Several at once are answered one after the other.
    assert!(
        raw.ask("x\n{\"request\":\"flush\"}")
            .starts_with(r#"{"error""#)
    );
    assert_eq!(raw.line(), "{\"flushed\":true}\n");

    let mut long = Raw::connect(&path);
    long.0.get_mut().write_all(&[b'x'; 40_000]).unwrap();
    assert!(long.line().contains("longer than 32768 bytes"));
    let mut end = Vec::new();
    // What it had sent and was not read resets the connection.
    let _ = long.0.read_to_end(&mut end);
    assert_eq!(end, b"");

    let mut half = Raw::connect(&path);
    half.0.get_mut().write_all(b"{\"request\"").unwrap();
    drop(half);
    assert!(raw.ask(r#"{"request":"status"}"#).contains("size_bytes"));
    drop(control);
    up.close().unwrap();
}

/// Clients that say nothing keep nobody out.
#[test]
fn one_client_too_many_takes_the_place_of_one_that_is_idle() {
    let sandbox = Sandbox::with_device();
    let (up, _ending) = bring_up(&sandbox.path("cow"));
    let path = sandbox.path("ctl");
    let control = Control::listen(&path, up.export.clone()).unwrap();
    let mut clients: Vec<_> = (0..16).map(|_| Raw::connect(&path)).collect();
    for client in &mut clients {
        client.ask(r#"{"request":"status"}"#);
    }
    status(&mut Asking::connect(&path).unwrap());
    let answers: Vec<_> = clients
        .iter_mut()
        .map(|client| {
            // The one that was cut off has its answer already.
            let _ = writeln!(client.0.get_mut(), r#"{{"request":"status"}}"#);
            client.line()
        })
        .collect();
    let is_cut_off = |answer: &&String| answer.contains("cut off: another client has come");
    assert_eq!(answers.iter().filter(is_cut_off).count(), 1, "{answers:?}");
    let are_served = answers
        .iter()
        .filter(|answer| answer.contains("size_bytes"));
    assert_eq!(are_served.count(), 15, "{answers:?}");
    // Nor do they keep the server.
    drop(control);
    up.close().unwrap();
}

#[test]
fn idle_clients_keep_nobody_from_stopping_the_server() {
    let sandbox = Sandbox::with_device();
    for signal in [None, Some(Signal::TERM)] {
        let server = start(&sandbox, &[]);
        let _idle: Vec<_> = (0..16)
            .map(|_| Raw::connect(&sandbox.path("ctl")))
            .collect();
        match signal {
            Some(signal) => server.send(signal),
            None => drop(sandbox.succeeds(&["ctl", "@ctl", "stop"])),
        }
        let (status, said) = server.wait();
        assert_eq!(status, Some(0), "{said}");
    }
}

/// Where it is, and how fast: what a reflow has moved in what time.
#[test]
fn a_status_says_how_far_a_reflow_is() {
    const OLD_SIZE: u64 = 64 << 20;
    const NEW_SIZE: u64 = 1 << 30;
    const PIECE: u64 = 4 << 20;
    let sandbox = Sandbox::with_hole(OLD_SIZE);
    let (up, _ending) = bring_up(&sandbox.path("cow"));
    let (submitter, completer) = up.export.client::<()>("test".into());
    for at in (0..OLD_SIZE).step_by(PIECE as usize) {
        let job = Job::Write {
            start: Sector(at / 512),
            data: vec![1; PIECE as usize],
            fua: false,
        };
        submitter.submit([(job, (), None)]).unwrap();
        completer.next_batch().unwrap().unwrap();
    }
    drop(submitter);
    let path = sandbox.path("ctl");
    let control = Control::listen(&path, up.export.clone()).unwrap();
    let mut asking = Asking::connect(&path).unwrap();
    let resizing = half_moved(&up.export, Bytes(NEW_SIZE));
    let seen = status(&mut asking).resize.unwrap();
    let ended = resizing.join().unwrap().unwrap();
    assert_eq!(
        (seen.old_size_bytes, seen.new_size_bytes),
        (OLD_SIZE, NEW_SIZE)
    );
    assert_eq!(seen.strategy.as_deref(), Some("reflow"));
    assert_eq!(seen.state, ResizeState::Running, "it was over too soon");
    let frontier = seen.frontier_sector.unwrap();
    assert!(frontier < OLD_SIZE / 512, "{seen:?}");
    assert!(seen.moved_bytes > 0 && seen.elapsed_ns > 0, "{seen:?}");
    // What lies past the frontier has moved, and at most one window more.
    assert!(seen.moved_bytes >= OLD_SIZE - frontier * 512, "{seen:?}");
    assert!(seen.moved_bytes <= ended.moved.0, "{seen:?}");
    drop(control);
    up.close().unwrap();
}

/// A resize goes on when nobody waits for it, and is given up when the server ends.
#[test]
fn a_resize_outlives_its_client() {
    let sandbox = Sandbox::with_device();
    let (up, _ending) = bring_up(&sandbox.path("cow"));
    let path = sandbox.path("ctl");
    let control = Control::listen(&path, up.export.clone()).unwrap();
    let mut gone = Raw::connect(&path);
    writeln!(
        gone.0.get_mut(),
        r#"{{"request":"resize","change_bytes":1048576}}"#
    )
    .unwrap();
    drop(gone);
    while up.export.capacity().bytes() != Bytes(2 * SIZE) {
        std::thread::yield_now();
    }
    drop(control);
    up.close().unwrap();
}

#[test]
fn the_program_is_told_what_to_do() {
    let sandbox = Sandbox::with_device();
    sandbox.make_dirty("cow");
    let server = start(&sandbox, &[]);
    let text = sandbox.succeeds(&["ctl", "@ctl", "status"]);
    let expected = "device     @cow: 1 MiB, 512 bytes dirty\n";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.contains("\nstate      good\n"), "{text}");

    let grown = sandbox.succeeds(&["ctl", "@ctl", "resize", "+1M"]);
    assert!(grown.starts_with("1 MiB to 2 MiB by "), "{grown}");
    let grown = sandbox.report(&["ctl", "@ctl", "resize", "1G", "--strategy", "reflow"]);
    assert_eq!(grown["resized"]["new_size_bytes"], 1 << 30);
    let detached = sandbox.report(&["ctl", "@ctl", "resize", "+1M", "--detach"]);
    assert!(detached["resized"].is_object() || detached["detached"].is_object());
    while sandbox.report(&["ctl", "@ctl", "status"])["resize"]["state"] != "done" {}

    let output = sandbox.run(&["ctl", "@ctl", "resize", "1M"]);
    assert_eq!(output.status.code(), Some(3));
    let said = sandbox.text(&output.stderr);
    assert!(said.contains("shrink"), "{said}");
    let before = sandbox.succeeds(&["ctl", "@ctl", "resize", "1M", "--shrink"]);
    assert!(before.contains("to 1 MiB"), "{before}");

    assert_eq!(
        sandbox.succeeds(&["ctl", "@ctl", "flush"]),
        "everything is durable\n"
    );
    let stopped = sandbox.succeeds(&["ctl", "@ctl", "stop"]);
    assert!(stopped.starts_with("stopped: "), "{stopped}");
    // When it says so the file is closed, and the name of the socket is free.
    assert!(!sandbox.path("ctl").exists());
    sandbox.succeeds(&["image", "resize", "@cow", "+1M"]);
    let (status, said) = server.wait();
    assert_eq!(status, Some(0), "{said}");
    assert!(!sandbox.path("ctl").exists());
}

#[test]
fn what_a_resize_would_be_is_said_and_nothing_is_done() {
    let sandbox = Sandbox::with_device();
    sandbox.make_dirty("cow");
    let server = start(&sandbox, &[]);
    let before = sandbox.read("cow");
    let plan = |args: &[&str]| {
        let planned = sandbox.report(&[&["ctl", "@ctl", "resize"], args, &["--dry-run"]].concat());
        planned["planned"].clone()
    };
    let grown = plan(&["+1M"]);
    assert_eq!(grown["strategy"], "headroom", "{grown}");
    assert_eq!(grown["new_size_bytes"], 2 * SIZE);
    assert_eq!(grown["to_move_bytes"], 0);
    let moved = plan(&["1G", "--strategy", "reflow"]);
    assert_eq!(moved["strategy"], "reflow", "{moved}");
    assert!(moved["to_move_bytes"].as_u64().unwrap() >= 512, "{moved}");
    // What is refused is refused here too, with the words of a resize.
    let refused = ["resize", "-512K", "--dry-run"];
    let output = sandbox.run(&[&["ctl", "@ctl"][..], &refused].concat());
    assert_eq!(output.status.code(), Some(3));
    let said = sandbox.text(&output.stderr);
    assert!(
        said.starts_with("ubdlab: @cow: ") && said.contains("shrink"),
        "{said}"
    );
    let status = sandbox.report(&["ctl", "@ctl", "status"]);
    assert_eq!(
        (&status["size_bytes"], &status["resize"]),
        (&SIZE.into(), &().into())
    );
    let text = sandbox.succeeds(&["ctl", "@ctl", "resize", "+1M", "--dry-run"]);
    server.stop();
    assert!(sandbox.read("cow") == before);
    // As for a file at rest, but for what is about stock UML.
    let at_rest = sandbox.succeeds(&["image", "resize", "@cow", "+1M", "--dry-run"]);
    let (at_rest, _) = at_rest.split_once("stock UML ").unwrap();
    assert_eq!(text, at_rest);
}

/// What `image resize` says of a resize is said of one of a device that is served: in the answer,
/// in the status and by the server.
#[test]
fn what_a_resize_costs_is_said_to_whoever_asked_and_by_the_server() {
    let sandbox = Sandbox::with_device();
    std::fs::remove_file(sandbox.path("cow")).unwrap();
    let create = ["image", "create", "@cow", "--backing", "@backing"];
    sandbox.succeeds(&[&create[..], &["--max-size", "2T"]].concat());
    let server = start(&sandbox, &[]);
    let leaves = "the data starts at 2 GiB, past the 2 GiB that stock Linux can reach: only \
                  ubdlab will be able to use the file";
    let spared = |from: u64| {
        format!(
            "headroom has room for a device of {} TiB, and would move nothing: a reflow puts the \
             start of the data from byte {from} to byte {}, and the next one at least doubles that",
            from >> 29,
            2 * from
        )
    };
    let reflow = ["ctl", "@ctl", "resize", "+1M", "--strategy", "reflow"];
    let done = sandbox.run(&reflow);
    assert_eq!(done.status.code(), Some(0));
    let by = "1 MiB to 2 MiB by reflow, 0 bytes moved\n";
    assert_eq!(sandbox.text(&done.stdout), by);
    let notes = format!("note: {leaves}\nnote: {}\n", spared(1 << 30));
    assert_eq!(sandbox.text(&done.stderr), notes);
    let status = sandbox.succeeds(&["ctl", "@ctl", "status"]);
    assert!(
        status.contains(&format!("\n           {leaves}\n")),
        "{status}"
    );

    // It has left already, and its data goes still further, until it cannot.
    let report = sandbox.report(&reflow);
    assert_eq!(
        report["resized"]["notes"],
        serde_json::json!([spared(2 << 30)])
    );
    let refused = sandbox.run(&reflow);
    assert_eq!(refused.status.code(), Some(3));
    assert_eq!(
        sandbox.text(&refused.stderr),
        "ubdlab: @cow: reflow cannot do this: each one at least doubles the alignment, which is 2147483648 \
         bytes already, and a header holds at most 4294967295; headroom has room for a device of \
         8 TiB, and moves nothing; `ubdlab image convert COW NEW --to v3` makes a copy with its \
         data near the beginning\n"
    );
    let report = sandbox.report(&["ctl", "@ctl", "resize", "+1M"]);
    assert_eq!(report["resized"]["notes"], serde_json::json!([]));
    let said = server.stop();
    assert!(said.contains(&notes), "{said}");
}

#[test]
fn signals_end_the_server_and_its_socket_goes() {
    for signal in [Signal::INT, Signal::TERM] {
        let sandbox = Sandbox::with_device();
        let server = start(&sandbox, &[]);
        server.send(signal);
        let (status, said) = server.wait();
        assert_eq!(status, Some(0), "{said}");
        assert!(!sandbox.path("ctl").exists());
    }
}

/// After `kill -9` the socket is there and nobody listens; the next server takes its name.
#[test]
fn a_socket_that_nobody_listens_on_is_told_and_replaced() {
    let sandbox = Sandbox::with_device();
    sandbox.refuses(
        &["ctl", "@ctl", "status"],
        "@ctl: connecting: no such file or directory",
    );
    sandbox.refuses(
        &["ctl", "@trace", "status"],
        "@trace: connecting: found no socket, expected the control socket of ubdlab serve",
    );
    let server = start(&sandbox, &[]);
    let other = sandbox.run(&["serve", "@trace", "--nbd", "@nbd2", "--control", "@ctl"]);
    assert_eq!(other.status.code(), Some(3));
    server.kill();
    sandbox.refuses(
        &["ctl", "@ctl", "status"],
        "@ctl: connecting: nobody listens on this socket: the server has ended",
    );
    let server = start(&sandbox, &[]);
    sandbox.succeeds(&["ctl", "@ctl", "stop"]);
    assert_eq!(server.wait().0, Some(0));
}

#[test]
fn a_name_that_is_taken_by_a_file_is_left_alone() {
    let sandbox = Sandbox::with_device();
    sandbox.refuses(
        &["serve", "@cow", "--nbd", "@nbd", "--control", "@trace"],
        "@trace: listening: found a name that is taken, and not by a socket: it is left alone",
    );
}

/// Ctrl-C ends the wait for a resize and not the resize, and that is said.
#[test]
fn an_interrupted_wait_says_that_the_resize_goes_on() {
    let sandbox = Sandbox::new();
    let listener = UnixListener::bind(sandbox.path("ctl")).unwrap();
    let child = ubdlab_that_heeds_signals()
        .args(sandbox.args(&["ctl", "@ctl", "resize", "+1G"]))
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // A server that has a long resize under way.
    let (stream, _) = listener.accept().unwrap();
    let mut stream = BufReader::new(stream);
    let mut asked = String::new();
    stream.read_line(&mut asked).unwrap();
    assert_eq!(
        asked,
        "{\"request\":\"resize\",\"change_bytes\":1073741824}\n"
    );
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let expected = "ubdlab: interrupted: the resize goes on in the server, and `ubdlab ctl @ctl \
                    status` tells how far it is\n";
    assert_eq!(sandbox.text(&output.stderr), expected);
}
