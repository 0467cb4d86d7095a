//! What is written in the formats of other tools: it comes back as it was, as far as the format
//! can say it, and fio replays it.

use crate::support::peers;
use harness::clock;
use std::io::Cursor;
use std::path::Path;
use std::process::Command;

use crate::support::cli::{Sandbox, bundled};
use driver::units::{Sector, SectorCount};
use harness::trace::write::{BlkparseWriter, CsvWriter, FioWriter, Losses, RecordWriter};
use harness::trace::{
    Converted, Nanoseconds, ReadOptions, Record, TraceError, TraceOperation, convert, open_stream,
};
use proptest::prelude::*;

fn any_record() -> impl Strategy<Value = Record> {
    let sectors = (0..1_u64 << 50, 1..1_u64 << 20);
    let parts = (
        0..1_u64 << 60,
        0..5_u8,
        any::<bool>(),
        any::<bool>(),
        sectors,
    );
    parts.prop_map(|(time, operation, preflush, fua, (start, count))| {
        let operation = match operation {
            0 => TraceOperation::Read,
            1 => TraceOperation::Write,
            2 => TraceOperation::Discard,
            3 => TraceOperation::WriteZeroes,
            _ => return Record::flush(Nanoseconds(time)),
        };
        let is_write = operation == TraceOperation::Write;
        Record {
            time: Nanoseconds(time),
            operation,
            preflush: preflush && is_write,
            fua: fua && is_write,
            start: Sector(start),
            count: SectorCount(count),
        }
    })
}

/// In order of time, from 0 on, as a reader gives them.
fn any_records() -> impl Strategy<Value = Vec<Record>> {
    proptest::collection::vec(any_record(), 0..40).prop_map(|mut records| {
        records.sort_by_key(|record| record.time);
        let first = records.first().map_or(0, |record| record.time.0);
        for record in &mut records {
            record.time.0 -= first;
        }
        records
    })
}

fn text<W: RecordWriter<Out = Vec<u8>>>(mut writer: W, records: &[Record]) -> (Vec<u8>, Losses) {
    for record in records {
        writer.push(record).unwrap();
    }
    let losses = writer.losses();
    (writer.finish().unwrap(), losses)
}

fn back(bytes: &[u8]) -> Vec<Record> {
    let bytes = Cursor::new(bytes.to_vec());
    let source = open_stream(Path::new("t"), bytes, &ReadOptions::default()).unwrap();
    source.map(Result::unwrap).collect()
}

/// What fio can say of `record`.
fn in_fio(record: &Record) -> Vec<Record> {
    let time = Nanoseconds(record.time.0 / 1000 * 1000);
    let flush = Record::flush(time);
    let mut itself = Record {
        time,
        preflush: false,
        fua: false,
        ..*record
    };
    if itself.operation == TraceOperation::WriteZeroes {
        itself.operation = TraceOperation::Write;
    }
    let before = record.preflush.then_some(flush);
    let behind = record.fua.then_some(flush);
    before.into_iter().chain([itself]).chain(behind).collect()
}

proptest! {
    #[test]
    fn csv_keeps_everything(records in any_records()) {
        let name = Path::new("out");
        let (bytes, losses) = text(CsvWriter::create(name, Vec::new()).unwrap(), &records);
        prop_assert_eq!(back(&bytes), records);
        prop_assert_eq!(losses, Losses::default());
    }

    #[test]
    fn blkparse_text_keeps_everything(records in any_records()) {
        let (bytes, losses) = text(BlkparseWriter::create(Path::new("out"), Vec::new()), &records);
        prop_assume!(!records.is_empty());
        prop_assert_eq!(back(&bytes), records);
        prop_assert_eq!(losses, Losses::default());
    }

    #[test]
    fn fio_keeps_every_write_and_every_flush(records in any_records()) {
        let writer = FioWriter::create(Path::new("out"), Vec::new(), "/dev/ubda").unwrap();
        let (bytes, losses) = text(writer, &records);
        let mut expected: Vec<_> = records.iter().flat_map(in_fio).collect();
        // Our readers count from the first record, fio's times from the start.
        let first = expected.first().map_or(0, |record| record.time.0);
        for record in &mut expected {
            record.time.0 -= first;
        }
        prop_assert_eq!(back(&bytes), expected);
        let count = |is: fn(&Record) -> bool| records.iter().filter(|record| is(record)).count() as u64;
        prop_assert_eq!(losses.preflushes, count(|record| record.preflush));
        prop_assert_eq!(losses.fua, count(|record| record.fua));
        let zeroes = count(|record| record.operation == TraceOperation::WriteZeroes);
        prop_assert_eq!(losses.write_zeroes, zeroes);
    }
}

#[test]
fn a_name_that_fio_cannot_read_is_refused() {
    for name in ["", "a b", "tab\there", "vertical\u{b}tab"] {
        let error = FioWriter::create(Path::new("out"), Vec::new(), name).unwrap_err();
        assert!(matches!(error, TraceError::Refused { .. }), "{error}");
    }
}

#[test]
fn a_record_that_breaks_the_rules_is_refused_with_its_number() {
    let bad = Record {
        count: SectorCount(8),
        ..Record::flush(Nanoseconds(0))
    };
    let mut fio = FioWriter::create(Path::new("out"), Vec::new(), "x").unwrap();
    fio.push(&Record::flush(Nanoseconds(0))).unwrap();
    assert_eq!(
        fio.push(&bad).unwrap_err().to_string(),
        "out: record 1 cannot be written: found a flush at 0+8, expected a flush without sectors"
    );
    assert!(
        CsvWriter::create(Path::new("out"), Vec::new())
            .unwrap()
            .push(&bad)
            .is_err()
    );
    assert!(
        BlkparseWriter::create(Path::new("out"), Vec::new())
            .push(&bad)
            .is_err()
    );
}

#[test]
fn a_bundled_trace_survives_each_format() {
    let open = || harness::trace::open(&bundled("xfs-copy.ubdtrace"), &ReadOptions::default());
    let original: Vec<_> = open().unwrap().map(Result::unwrap).collect();
    let csv = CsvWriter::create(Path::new("csv"), Vec::new()).unwrap();
    let Converted { out, summary, .. } = convert(&mut *open().unwrap(), csv).unwrap();
    assert_eq!(summary.requests, original.len() as u64);
    assert_eq!(back(&out), original);
    let blkparse = BlkparseWriter::create(Path::new("blkparse"), Vec::new());
    let out = convert(&mut *open().unwrap(), blkparse).unwrap().out;
    assert_eq!(back(&out), original);
}

/// fio takes the iolog, and does as many reads, writes and syncs as it says.
#[test]
fn fio_replays_what_is_written_for_it() {
    let Some(fio) = peers::peer("fio") else {
        return;
    };
    let sandbox = Sandbox::new();
    let trace = bundled("direct-random.ubdtrace").display().to_string();
    let said = sandbox.succeeds(&[
        "trace",
        "convert",
        &trace,
        "@log",
        "--as",
        "fio",
        "--fio-file",
        "@disk",
        "--limit",
        "500",
    ]);
    assert!(said.starts_with("@log: 500 requests in "), "{said}");
    let log = String::from_utf8(sandbox.read("log")).unwrap();
    let lines = |action: &str| log.lines().filter(|line| line.contains(action)).count() as u64;
    let bytes = |action: &str| -> u64 {
        let lines = log.lines().filter(|line| line.contains(action));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    };
    std::fs::File::create(sandbox.path("disk"))
        .unwrap()
        .set_len(256 << 20)
        .unwrap();
    let output = Command::new(fio)
        .args(sandbox.args(&["--name=replay", "--read_iolog=@log", "--ioengine=psync"]))
        .args([
            "--replay_no_stall=1",
            "--size=256M",
            "--output-format=json",
            "--thread",
        ])
        .current_dir(sandbox.path("."))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let report: serde_json::Value = serde_json::from_str(&text[text.find('{').unwrap()..]).unwrap();
    let job = &report["jobs"][0];
    assert_eq!(job["error"], 0);
    for (name, action) in [("read", " read "), ("write", " write ")] {
        assert!(lines(action) > 50, "{action}");
        assert_eq!(job[name]["total_ios"], lines(action), "{name}");
        assert_eq!(job[name]["io_bytes"], bytes(action), "{name}");
    }
    // fio does each datasync too, but counts those nowhere.
    assert!(lines(" datasync ") > 0);
    assert_eq!(job["sync"]["total_ios"], lines(" sync "));
    // It trims block devices only; on this file it passes over them.
    assert!(lines(" trim ") > 0);
}

/// Runs fio on an iolog at its recorded pace; when each request was completed, in milliseconds.
fn played_by_fio(fio: &Path, sandbox: &Sandbox) -> Vec<u64> {
    let output = Command::new(fio)
        .args(["--name=replay", "--read_iolog=log", "--ioengine=psync"])
        .args(["--replay_no_stall=0", "--size=1M", "--write_lat_log=played"])
        .current_dir(sandbox.path("."))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let log = String::from_utf8(sandbox.read("played_lat.1.log")).unwrap();
    let time = |line: &str| line.split(',').next().unwrap().trim().parse().unwrap();
    log.lines().map(time).collect()
}

/// What is waited for in version 2 counts from fio's start, and is milliseconds: of a hundred waits
/// for the same moment only the first one waits. Added up, each request would come 400 ms after the
/// one before, however slow the machine is.
#[test]
fn fio_waits_until_a_moment() {
    let Some(fio) = peers::peer("fio") else {
        return;
    };
    let sandbox = Sandbox::new();
    sandbox.write("disk", vec![0; 1 << 20]);
    let waits = "disk wait 400 0\ndisk read 0 4096\n".repeat(100);
    sandbox.write(
        "log",
        format!("fio version 2 iolog\ndisk add\ndisk open\n{waits}disk close\n"),
    );
    let started = clock::start();
    let played = played_by_fio(&fio, &sandbox);
    let elapsed_ms = started.elapsed_ns() / 1_000_000;
    assert_eq!(played.len(), 100);
    // The times in fio's log count from a later moment than its waits do.
    assert!(elapsed_ms >= 395, "{elapsed_ms} ms");
    let gaps = played
        .windows(2)
        .map(|pair| pair[1].saturating_sub(pair[0]));
    assert!(gaps.min() < Some(395), "{played:?}");
    let read = back(&sandbox.read("log"));
    assert!(read.iter().all(|record| record.time == Nanoseconds(0)));
}

/// The first gap of what is written for fio is waited for.
#[test]
fn fio_waits_for_the_first_gap() {
    let Some(fio) = peers::peer("fio") else {
        return;
    };
    let sandbox = Sandbox::new();
    sandbox.write("disk", vec![0; 1 << 20]);
    sandbox.write(
        "csv",
        "time_ns,operation,preflush,fua,start_sector,sectors\n0,read,0,0,0,8\n2000000000,read,0,0,8,8\n",
    );
    let convert = [
        "trace",
        "convert",
        "@csv",
        "@log",
        "--as",
        "fio",
        "--fio-file",
        "disk",
    ];
    sandbox.succeeds(&convert);
    let started = clock::start();
    let played = played_by_fio(&fio, &sandbox);
    let elapsed_ms = started.elapsed_ns() / 1_000_000;
    assert_eq!(played.len(), 2);
    assert!(elapsed_ms >= 1995, "{elapsed_ms} ms");
}
