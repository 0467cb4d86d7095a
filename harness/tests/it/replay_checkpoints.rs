//! A replay of many volumes that is interrupted goes on with those that are left, and ends as if it
//! had not been.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::cli_replay_volumes::{FAR, volumes, without_times};
use crate::support::cli::{Sandbox, output, ubdlab, ubdlab_that_heeds_signals};

const REPLAY: [&str; 5] = [
    "replay",
    "@volumes.csv",
    "--each-device",
    "--memory",
    "--json",
];

const CHECKPOINT: &str = "--checkpoint=@checkpoint";

fn parsed(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap()
}

/// The volumes in a document, with their times.
fn volumes_of(document: &Value) -> &[Value] {
    document["volumes"].as_array().unwrap()
}

fn untimed(printed: &[u8]) -> Value {
    without_times(std::str::from_utf8(printed).unwrap())
}

/// What tells a file from the one that has replaced it.
fn inode(file: &Path) -> Option<u64> {
    std::fs::metadata(file).ok().map(|found| found.ino())
}

/// Replays until a volume more is written down, and then ends it by this signal, or lets it go on.
fn sitting(sandbox: &Sandbox, args: &[&str], signal: Option<Signal>) -> Output {
    let file = sandbox.path("checkpoint");
    let before = inode(&file);
    let mut command = ubdlab_that_heeds_signals();
    command.args(sandbox.args(args));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    if let Some(signal) = signal {
        while inode(&file) == before && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        kill_process(Pid::from_child(&child), signal).unwrap();
    }
    child.wait_with_output().unwrap()
}

/// Each sitting is ended when it has written something down: by a signal that asks, or by one that
/// does not.
#[test]
fn a_replay_of_many_sittings_ends_as_one_without_interruption() {
    let sandbox = Sandbox::new();
    let ids: Vec<u64> = (0..160).collect();
    sandbox.write("volumes.csv", volumes(&ids, 8));
    let shard = [&REPLAY[..], &["--shard=1/2"]].concat();
    let whole = untimed(sandbox.succeeds(&shard).as_bytes());
    let args = [&shard[..], &[CHECKPOINT]].concat();
    let signals = [Signal::TERM, Signal::KILL].into_iter().cycle().take(6);
    let mut interrupted = 0;
    let mut kept = Value::Null;
    for signal in signals {
        let ended = sitting(&sandbox, &args, Some(signal));
        match ended.status.code() {
            // The last volume came before the signal.
            Some(0) => break,
            Some(143) | None => interrupted += 1,
            other => panic!("{other:?}: {}", sandbox.text(&ended.stderr)),
        }
        let now = parsed(&sandbox.read("checkpoint"));
        if kept != Value::Null {
            // Those of before are there as they were, their times too.
            let (before, now) = (volumes_of(&kept), volumes_of(&now));
            assert!(before.len() < now.len(), "{} volumes", now.len());
            assert!(before.iter().all(|volume| now.contains(volume)));
        }
        kept = now;
    }
    assert!(interrupted > 1, "it was over after {interrupted}");
    let ended = sitting(&sandbox, &args, None);
    assert_eq!(sandbox.text(&ended.stderr), "");
    assert_eq!(untimed(&ended.stdout), whole);
    let result = parsed(&ended.stdout);
    let in_result = volumes_of(&result);
    assert!(volumes_of(&kept).iter().all(|it| in_result.contains(it)));
    // All are done: the result again, with nothing replayed, whatever the number of threads.
    let again = sitting(&sandbox, &[&args[..], &["--jobs=3"]].concat(), None);
    assert_eq!(volumes_of(&parsed(&again.stdout)), in_result);
}

#[test]
fn another_replay_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.write("volumes.csv", volumes(&[1, 2, 3], 8));
    let args = [&REPLAY[..], &[CHECKPOINT]].concat();
    sandbox.succeeds(&args);
    let kept = sandbox.read("checkpoint");
    let way_out = "nothing was changed: give --checkpoint another name, or remove the file to begin \
                   anew";
    let refuse_with = |status: i32, more: &[&str], why: &str| {
        let output = sandbox.run(&[&args, more].concat());
        let said = sandbox.text(&output.stderr);
        let why = format!("@checkpoint: {why}; {way_out}");
        assert_eq!(output.status.code(), Some(status), "{said}");
        assert!(said.contains(&why), "{said}");
    };
    // The next try would be refused likewise.
    let foreign = |more: &[&str], why: &str| refuse_with(2, more, why);
    let refuse = |more: &[&str], why: &str| refuse_with(3, more, why);
    let other = "the checkpoint of another replay";
    let options = "options: found \"--memory\", expected \"--memory --skip 1\"";
    foreign(&["--skip=1"], &format!("{other}: {options}"));
    foreign(
        &["--shard=1/2"],
        "the checkpoint of another part of the replay: shard: found 1/1, expected 1/2",
    );
    sandbox.write("volumes.csv", volumes(&[1, 2, 3], 9));
    let counts = "trace_requests: found 24, expected 27";
    foreign(&[], &format!("{other}: {counts}"));
    sandbox.write("volumes.csv", volumes(&[1, 2, 4], 8));
    let output = sandbox.run(&args);
    assert_eq!(output.status.code(), Some(2));
    let said = sandbox.text(&output.stderr);
    assert!(said.contains(&format!("{other}: trace_crc32c: ")), "{said}");
    assert_eq!(sandbox.read("checkpoint"), kept);

    sandbox.write("volumes.csv", volumes(&[1, 2, 3], 8));
    let own = "expected those of shard 1/1 that were replayed, by number and each once";
    type Change = (fn(&mut Value), &'static str);
    let changes: [Change; 4] = [
        (|it| it[1]["number"] = 0.into(), "number 0, \"2\""),
        (|it| it[2]["number"] = 3.into(), "number 3, \"3\""),
        (|it| it[0]["volume"] = "7".into(), "number 0, \"7\""),
        (
            |it| {
                it[1] = serde_json::json!({"number": 1, "volume": "2", "outcome": "failed", "error": ""})
            },
            "number 1, \"2\"",
        ),
    ];
    for (change, found) in changes {
        let mut changed = parsed(&kept);
        change(&mut changed["volumes"]);
        sandbox.write("checkpoint", changed.to_string());
        refuse(&[], &format!("volumes: found {found}, {own}"));
    }
    // A trace of the same name and with the checkpoint of a campaign, which is none of a replay.
    sandbox.write("checkpoint", "{\"format\": \"ubdlab fuzz checkpoint 1\"}");
    refuse(
        &[],
        "found format \"ubdlab fuzz checkpoint 1\", expected \"ubdlab replay checkpoint 1\"",
    );
    let twice = [&REPLAY[..], &["--checkpoint=@new", "--report=@./new"]].concat();
    assert_eq!(sandbox.run(&twice).status.code(), Some(2));
    let trace = [&REPLAY[..], &["--checkpoint=@volumes.csv"]].concat();
    let before = sandbox.read("volumes.csv");
    assert_eq!(sandbox.run(&trace).status.code(), Some(2));
    assert_eq!(sandbox.read("volumes.csv"), before);
}

#[test]
fn a_checkpoint_is_for_the_volumes_of_a_trace_and_without_out() {
    let sandbox = Sandbox::new();
    sandbox.write("volumes.csv", volumes(&[1], 8));
    let refuse = |args: &[&str], message: &str| {
        let output = sandbox.run(&[&["replay", "@volumes.csv", CHECKPOINT], args].concat());
        assert_eq!(output.status.code(), Some(2));
        let said = sandbox.text(&output.stderr);
        assert!(said.contains(message), "{said}");
    };
    refuse(
        &["--memory"],
        "required arguments were not provided:\n  --each-device",
    );
    refuse(&["--each-device", "--out=@files"], "cannot be used with");
}

/// What was in its way may have been the machine's.
#[test]
fn what_could_not_be_replayed_is_tried_once_more() {
    let sandbox = Sandbox::new();
    sandbox.write("volumes.csv", volumes(&[1, 2], 8) + FAR);
    let args = [
        "replay",
        "@volumes.csv",
        "--each-device",
        "--json",
        CHECKPOINT,
    ];
    let failed = |printed: &[u8]| {
        let result = parsed(printed);
        let failed = volumes_of(&result)
            .iter()
            .filter(|it| it["outcome"] == "failed");
        let names: Vec<_> = failed
            .map(|it| it["volume"].as_str().unwrap().to_owned())
            .collect();
        names
    };
    let mut without_room = ubdlab();
    without_room.args(sandbox.args(&args));
    let ended = output(without_room.env("TMPDIR", sandbox.path("missing")));
    assert_eq!(ended.status.code(), Some(3));
    assert_eq!(failed(&ended.stdout), ["1", "2", "77"]);
    assert_eq!(
        volumes_of(&parsed(&sandbox.read("checkpoint"))),
        [] as [Value; 0]
    );
    // The third is larger than any device that nobody asked for, here as elsewhere.
    let ended = sandbox.run(&args);
    assert_eq!(ended.status.code(), Some(3));
    assert_eq!(failed(&ended.stdout), ["77"]);
    assert_eq!(
        untimed(&ended.stdout),
        untimed(&sandbox.run(&args[..4]).stdout)
    );
}
