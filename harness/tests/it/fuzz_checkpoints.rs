//! A campaign that is interrupted goes on from its checkpoint, and ends as if it had not been.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::fuzz_shards::TIMES;
use crate::support::cli::{Sandbox, ubdlab_that_heeds_signals};
use crate::support::waits::until;

/// A campaign with findings, which takes a while.
const CAMPAIGN: [&str; 6] = [
    "fuzz",
    "--driver=linux-6.12",
    "--cases=24",
    "--shard=1/2",
    "--json",
    "--out=@found",
];

const CHECKPOINT: &str = "--checkpoint=@checkpoint";

/// Its result, without times.
fn result(text: &[u8]) -> Value {
    let mut result: Value = serde_json::from_slice(text).unwrap();
    let fields = result.as_object_mut().unwrap();
    for time in TIMES {
        assert!(fields.remove(time).is_some(), "{time}");
    }
    result
}

/// What tells a file from the one that has replaced it.
fn inode(file: &Path) -> Option<u64> {
    std::fs::metadata(file).ok().map(|found| found.ino())
}

/// How many cases are finished by what the checkpoint says, if there is one.
fn finished(file: &Path) -> u64 {
    let Ok(text) = std::fs::read(file) else {
        return 0;
    };
    let checkpoint: Value = serde_json::from_slice(&text).unwrap();
    let finished = &checkpoint["state"]["finished"];
    let beyond = finished["beyond"].as_array().unwrap().len();
    finished["frontier"].as_u64().unwrap() + beyond as u64
}

/// The findings that were written, by their names. One that a kill has left half written is hidden.
fn found(sandbox: &Sandbox) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(sandbox.path("found")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let names = names.filter(|name| !name.starts_with('.'));
    let read = |name: String| (name.clone(), sandbox.read(&format!("found/{name}")));
    names.map(read).collect()
}

/// Each sitting is ended as soon as it has written a checkpoint: by a signal that asks, or by one
/// that does not.
#[test]
fn a_campaign_of_many_sittings_ends_as_one_without_interruption() {
    let whole = Sandbox::new();
    let output = whole.run(&CAMPAIGN);
    assert_eq!(output.status.code(), Some(1));
    let whole_text = String::from_utf8(output.stdout).unwrap();
    let sandbox = Sandbox::new();
    let file = sandbox.path("checkpoint");
    let mut interrupted = 0;
    let ended = loop {
        let signal = match interrupted % 2 {
            0 => Signal::TERM,
            _ => Signal::KILL,
        };
        let (before, finished_before) = (inode(&file), finished(&file));
        let mut command = ubdlab_that_heeds_signals();
        command.args(sandbox.args(&[&CAMPAIGN[..], &["--jobs=1", CHECKPOINT]].concat()));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        until("it has written a checkpoint, or ended", || {
            inode(&file) != before || child.try_wait().unwrap().is_some()
        });
        // After a few sittings it may run to its end.
        if interrupted < 6 {
            kill_process(Pid::from_child(&child), signal).unwrap();
            // A scheduler tells the script as well, which passes it on.
            kill_process(Pid::from_child(&child), signal).unwrap();
        }
        let output = child.wait_with_output().unwrap();
        match output.status.code() {
            Some(1) => break output,
            // The checkpoint is written first of all: the signal comes before a case is finished.
            Some(143) => {
                assert!(finished(&file) > finished_before, "it comes no further");
                interrupted += 1;
            }
            // Of the one that cannot be heeded there is no status.
            None => interrupted += 1,
            other => panic!("{other:?}: {}", sandbox.text(&output.stderr)),
        }
    };
    assert!(
        interrupted > 1,
        "it was over after {interrupted} interruptions"
    );
    assert_eq!(sandbox.text(&ended.stderr), "");
    let expected = whole_text.replace(
        whole.path("found").to_str().unwrap(),
        sandbox.path("found").to_str().unwrap(),
    );
    assert_eq!(result(&ended.stdout), result(expected.as_bytes()));
    assert_eq!(found(&sandbox), found(&whole));
    // It is finished: the result again, with nothing run.
    let again = sandbox.run(&[&CAMPAIGN[..], &["--jobs=2", CHECKPOINT]].concat());
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(result(&again.stdout), result(&ended.stdout));
}

/// Ctrl-C does not wait.
#[test]
fn a_sitting_that_has_finished_no_case_says_so() {
    let sandbox = Sandbox::new();
    let file = sandbox.path("checkpoint");
    let mut command = ubdlab_that_heeds_signals();
    // All its defects show one after the other, and are traced: the first case takes a while.
    command.args(sandbox.args(&["fuzz", "--driver=linux-6.12", "--seed=8", CHECKPOINT]));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    until("it has written a checkpoint", || {
        assert!(child.try_wait().unwrap().is_none(), "it ended early");
        file.exists()
    });
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let said = sandbox.text(&output.stderr);
    let nothing = "no case was finished before the signal came: the command that goes on begins them \
                   anew\n";
    let expected = match finished(&file) {
        0 => nothing,
        _ => "",
    };
    assert_eq!(said, expected);
}

/// There is no time left for what was cut off, and so it stays as it was.
#[test]
fn a_campaign_whose_time_is_up_prints_its_result_again() {
    let sandbox = Sandbox::new();
    let args = ["fuzz", "--driver=linux-6.12", "--duration=1s", "--json"];
    let args = [&args[..], &["--jobs=2", "--out=@found", CHECKPOINT]].concat();
    let first = sandbox.run(&args);
    assert_eq!(sandbox.text(&first.stderr), "");
    assert_eq!(first.status.code(), Some(1));
    let files = found(&sandbox);
    let findings = result(&first.stdout)["findings"].as_array().unwrap().len();
    assert_eq!(files.len(), findings, "each has a name of its own");
    let again = sandbox.run(&args);
    assert_eq!(result(&again.stdout), result(&first.stdout));
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(found(&sandbox), files);
}

#[test]
fn another_campaign_is_refused() {
    let sandbox = Sandbox::new();
    let args = ["fuzz", "--cases=4", CHECKPOINT];
    sandbox.succeeds(&args);
    let kept = sandbox.read("checkpoint");
    let way_out = "nothing was changed: give --checkpoint another name, or remove the file to begin \
                   anew";
    let said = |why: &str| format!("ubdlab: @checkpoint: {why}; {way_out}\n");
    let refuse = |args: &[&str], why: &str| {
        sandbox.fails(&[&["fuzz", CHECKPOINT], args].concat(), 2, &said(why));
    };
    let damaged = |why: &str| sandbox.fails(&args, 3, &said(why));
    let other = "the checkpoint of another campaign";
    refuse(
        &["--cases=4", "--seed=2"],
        &format!("{other}: seed: found 1, expected 2"),
    );
    refuse(
        &["--cases=5"],
        &format!("{other}: until: found {{\"cases\":4}}, expected {{\"cases\":5}}"),
    );
    refuse(
        &["--cases=4", "--no-faults"],
        &format!("{other}: faults: found true, expected false"),
    );
    refuse(
        &["--cases=4", "--shard=1/2"],
        "the checkpoint of another part of the campaign: shard: found 1/1, expected 1/2",
    );
    assert_eq!(sandbox.read("checkpoint"), kept);
    let mut built: Value = serde_json::from_slice(&kept).unwrap();
    built["cases_crc32c"] = 1.into();
    let own: Value = serde_json::from_slice(&kept).unwrap();
    sandbox.write("checkpoint", built.to_string());
    refuse(
        &["--cases=4"],
        &format!(
            "{other}: cases_crc32c, in which builds of the program differ: found 1, expected {}",
            own["cases_crc32c"]
        ),
    );
    let none = "not a checkpoint of ubdlab fuzz";
    sandbox.write("checkpoint", &kept[..kept.len() / 2]);
    let output = sandbox.run(&args);
    assert_eq!(output.status.code(), Some(3));
    let said = sandbox.text(&output.stderr);
    let begins = format!("ubdlab: @checkpoint: {none}: EOF while parsing ");
    assert!(
        said.starts_with(&begins) && said.contains(way_out),
        "{said}"
    );
    sandbox.write("checkpoint", "{}");
    damaged(&format!(
        "{none}: found no format, expected \"ubdlab fuzz checkpoint 1\""
    ));
    let mut many: Value = serde_json::from_slice(&kept).unwrap();
    many["state"]["finished"]["frontier"] = 5.into();
    sandbox.write("checkpoint", many.to_string());
    damaged("finished: found 5 cases, expected at most 4");
    std::fs::remove_file(sandbox.path("checkpoint")).unwrap();
    std::fs::create_dir(sandbox.path("checkpoint")).unwrap();
    sandbox.refuses(
        &args,
        "@checkpoint: --checkpoint: found no regular file, expected one or nothing",
    );
    sandbox.refuses(
        &["fuzz", "--cases=4", "--checkpoint=@missing/checkpoint"],
        "@missing/checkpoint: writing: there is no directory @missing",
    );
}

/// A file may say anything: what there cannot be is refused, and the largest numbers are added up.
#[test]
fn what_a_checkpoint_says_is_checked() {
    let sandbox = Sandbox::new();
    let subject = ["--driver=linux-6.12", "--defect=flush-noop", "--no-faults"];
    let args = [&["fuzz", "--cases=12", CHECKPOINT], &subject[..]].concat();
    assert_eq!(sandbox.run(&args).status.code(), Some(1));
    let kept: Value = serde_json::from_slice(&sandbox.read("checkpoint")).unwrap();
    let finding = &kept["state"]["findings"][0];
    let (number, seed) = (
        finding["number"].as_u64().unwrap(),
        finding["seed"].as_u64().unwrap(),
    );
    let refuse = |change: &dyn Fn(&mut Value), why: &str| {
        let mut changed = kept.clone();
        change(&mut changed["state"]);
        sandbox.write("checkpoint", changed.to_string());
        let way_out = "nothing was changed: give --checkpoint another name, or remove the file to \
                       begin anew";
        sandbox.refuses(&args, &format!("@checkpoint: {why}; {way_out}"));
    };
    refuse(
        &|state| state["finished"] = json!({ "frontier": 10, "beyond": [500, 501] }),
        "finished.beyond: found 501, expected numbers below 12",
    );
    refuse(
        &|state| state["findings"][0]["case"]["image"]["sectors"] = (1_u64 << 63).into(),
        &format!(
            "findings, seed {seed}: image.sectors: found 9223372036854775808, expected from 1 to \
             1048576"
        ),
    );
    refuse(
        &|state| state["findings"][0]["number"] = 1_000_000.into(),
        &format!("findings, seed {seed}: number: found 1000000, expected one below 12"),
    );
    refuse(
        &|state| state["finished"] = json!({ "frontier": number, "beyond": [] }),
        &format!("findings, seed {seed}: number: found {number}, expected that of a finished case"),
    );
    let mut large = kept.clone();
    large["state"]["finished"]["frontier"] = 11.into();
    large["state"]["findings"] = json!([]);
    for field in ["host_operations", "crash_images", "elapsed_ns", "job_ns"] {
        large["state"][field] = u64::MAX.into();
    }
    large["state"]["coverage"]["crash_kill"] = u64::MAX.into();
    sandbox.write("checkpoint", large.to_string());
    let output = sandbox.run(&[&args[..], &["--json"]].concat());
    assert_eq!(sandbox.text(&output.stderr), "");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["host_operations"], u64::MAX);
    assert_eq!(result["job_ns"], u64::MAX);
}

/// It is all that there is of a campaign under way, and does not grow with it.
#[test]
fn a_checkpoint_does_not_grow_with_the_number_of_cases() {
    let sandbox = Sandbox::new();
    let after = |cases: &str| {
        let name = format!("--checkpoint=@{cases}");
        sandbox.succeeds(&["fuzz", "--cases", cases, "--no-faults", &name]);
        sandbox.read(cases).len()
    };
    let (few, many) = (after("2"), after("100"));
    // The numbers in it have more digits.
    assert!(many < few + 500, "{few} and {many} bytes");
}
