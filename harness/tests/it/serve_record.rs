//! What clients of a device ask for, recorded as a trace: the same requests come out of it.

use std::path::Path;
use std::process::Command;

use driver::blk::Status;
use driver::units::{Sector, SectorCount, SectorRange};
use harness::serve::control::{Answer, Asking, Control, Request};
use harness::serve::record::{Recorder, RecordingStatus};
use harness::serve::{Export, Job};
use harness::trace::{CompactReader, ReadOptions, Record, Served, TraceOperation, TraceSource};
use rustix::process::Signal;

use crate::support::cli::{SIZE, Sandbox, output};
use crate::support::fuse::Directory;
use crate::support::peers::{has_engine, peer};
use crate::support::served::{ask, bring_up, start};
use crate::support::server::Server;

fn range(start: u64, count: u64) -> SectorRange {
    SectorRange::new(Sector(start), SectorCount(count))
}

fn write(start: u64, count: usize, fua: bool) -> Job {
    Job::Write {
        start: Sector(start),
        data: vec![start as u8; count * 512],
        fua,
    }
}

/// Asks one after the other as a client of its own; how each ended.
fn serve(export: &Export, jobs: Vec<Job>) -> Vec<Status> {
    let (submitter, completer) = export.client::<()>("a test".into());
    let one = |job| {
        submitter.submit([(job, (), None)]).unwrap();
        completer.next_batch().unwrap().unwrap()[0].status
    };
    jobs.into_iter().map(one).collect()
}

/// The records of a trace, and the words for its end if it has none.
fn read(path: &Path) -> (Vec<(Record, Served)>, Option<String>) {
    let mut reader = CompactReader::open(path).unwrap();
    let mut records = Vec::new();
    while let Some(record) = reader.next() {
        match record {
            Ok(record) => records.push((record, reader.served().unwrap())),
            Err(error) => return (records, Some(error.to_string())),
        }
    }
    (records, None)
}

fn shape(record: &Record) -> (TraceOperation, u64, u64, bool) {
    let Record {
        operation,
        start,
        count,
        fua,
        ..
    } = record;
    (*operation, start.0, count.0, *fua)
}

fn begin(path: &Path, export: &Export) {
    let recorder = Recorder::begin(path, export).unwrap();
    assert!(export.record_to(Some(recorder)).is_none());
}

fn finish(export: &Export) -> RecordingStatus {
    export.record_to(None).unwrap().finish().unwrap()
}

#[test]
fn what_was_asked_for_is_in_the_recording_and_is_replayed() {
    let sandbox = Sandbox::with_device();
    let (up, _ending) = bring_up(&sandbox.path("cow"));
    let path = sandbox.path("recording");
    serve(&up.export, vec![write(0, 8, false)]);
    begin(&path, &up.export);
    let asked = vec![
        write(8, 8, false),
        Job::Read(range(0, 16)),
        write(100, 3, true),
        Job::Flush,
        Job::Discard {
            range: range(8, 8),
            fua: false,
        },
        Job::WriteZeroes {
            range: range(200, 40),
            fua: true,
        },
    ];
    let statuses = serve(&up.export, asked);
    assert!(statuses[..4].iter().all(|status| *status == Status::Ok));
    // Longer than the driver takes at once.
    serve(&up.export, vec![write(0, 2048, false)]);
    let status = finish(&up.export);
    serve(&up.export, vec![write(0, 8, false)]);
    up.close().unwrap();

    let (records, cut) = read(&path);
    assert_eq!(cut, None);
    let shapes: Vec<_> = records.iter().map(|(record, _)| shape(record)).collect();
    let expected = [
        (TraceOperation::Write, 8, 8, false),
        (TraceOperation::Read, 0, 16, false),
        (TraceOperation::Write, 100, 3, true),
        (TraceOperation::Flush, 0, 0, false),
        (TraceOperation::Discard, 8, 8, false),
        (TraceOperation::WriteZeroes, 200, 40, false),
        (TraceOperation::Flush, 0, 0, false),
        (TraceOperation::Write, 0, 2048, false),
    ];
    assert_eq!(shapes, expected);
    assert_eq!((status.recorded, status.lost, status.error), (8, 0, None));
    let clients: Vec<_> = records.iter().map(|(_, served)| served.client).collect();
    assert_eq!(clients, [2, 2, 2, 2, 2, 2, 2, 3]);
    let recorded = records[..6].iter().map(|(_, served)| served.status);
    assert_eq!(recorded.collect::<Vec<_>>(), statuses);
    assert!(records.windows(2).all(|two| two[0].0.time <= two[1].0.time));

    let info = sandbox.report(&["trace", "info", "@recording"]);
    assert_eq!(info["device_size_sectors"], SIZE / 512);
    assert_eq!(info["clients"]["2"], 7);
    assert_eq!(info["clients"]["3"], 1);
    let text = sandbox.succeeds(&["trace", "stat", "@recording"]);
    assert!(
        text.contains("\nclients     2: 7 requests; 3: 1 request\n"),
        "{text}"
    );
    let report = sandbox.report(&["replay", "@recording", "--memory"]);
    assert_eq!(report["mismatches"], 0, "{report}");
}

/// A client hears of a failure, the recording has it, and a replay asks for it all the same.
#[test]
fn requests_that_fail_are_recorded_as_failed() {
    let sandbox = Sandbox::with_device();
    let (up, _ending) = bring_up(&sandbox.path("cow"));
    let path = sandbox.path("recording");
    begin(&path, &up.export);
    // Endpoints refuse what lies past the end; the driver does too.
    let statuses = serve(
        &up.export,
        vec![Job::Read(range(SIZE / 512, 8)), write(0, 8, false)],
    );
    assert_eq!(statuses, [Status::IoError, Status::Ok]);
    finish(&up.export);
    up.close().unwrap();
    let (records, _) = read(&path);
    let recorded: Vec<_> = records.iter().map(|(_, served)| served.status).collect();
    assert_eq!(recorded, statuses);

    let info = sandbox.report(&["trace", "info", "@recording"]);
    assert_eq!(info["failed_requests"]["io-error"], 1);
    // A trace has one size, and all of it fits.
    assert_eq!(info["device_size_sectors"], SIZE / 512 + 8);
    let said = sandbox.succeeds(&["trace", "convert", "@recording", "@csv", "--as", "csv"]);
    assert!(
        said.contains("\nfailed      in the recording: 1 io-error\n"),
        "{said}"
    );
    let csv = String::from_utf8(sandbox.read("csv")).unwrap();
    let lines: Vec<_> = csv.lines().collect();
    assert!(lines[0].ends_with(",sectors,client,status"), "{csv}");
    assert!(lines[1].ends_with(",2048,8,1,io-error"), "{csv}");
    assert!(lines[2].ends_with(",0,8,1,ok"), "{csv}");
    assert_eq!(sandbox.report(&["trace", "info", "@csv"])["requests"], 2);

    // A part of it is of version 2 too.
    sandbox.succeeds(&["trace", "convert", "@recording", "@part", "--limit", "1"]);
    let (part, _) = read(&sandbox.path("part"));
    // Its times count from its own first request.
    assert_eq!((part.len(), part[0].1), (1, records[0].1));
    assert_eq!(shape(&part[0].0), shape(&records[0].0));
    let said = sandbox.succeeds(&["trace", "convert", "@recording", "@fio", "--as", "fio"]);
    assert!(said.contains("not said    which client"), "{said}");

    let report = sandbox.report(&["replay", "@recording", "--memory"]);
    assert_eq!(report["requests_failed_in_trace"], 1);
    assert_eq!(report["mismatches"], 0);
}

/// Requests of several clients at once, each in its own order.
#[test]
fn many_clients_are_recorded_side_by_side() {
    const EACH: u64 = 200;
    let sandbox = Sandbox::with_device();
    let (up, _ending) = bring_up(&sandbox.path("cow"));
    let path = sandbox.path("recording");
    begin(&path, &up.export);
    std::thread::scope(|scope| {
        for client in 0..4 {
            let export = &up.export;
            scope.spawn(move || {
                let jobs = (0..EACH).map(|n| write(client * 512 + n, 1, false));
                serve(export, jobs.collect())
            });
        }
    });
    assert_eq!(finish(&up.export).recorded, 4 * EACH);
    up.close().unwrap();
    let (records, cut) = read(&path);
    assert_eq!((records.len() as u64, cut), (4 * EACH, None));
    for client in 1..=4 {
        let own = records.iter().filter(|(_, served)| served.client == client);
        let starts: Vec<_> = own.map(|(record, _)| record.start.0 % 512).collect();
        assert_eq!(starts, (0..EACH).collect::<Vec<_>>());
    }
}

#[test]
fn recordings_are_begun_and_ended_by_the_control_socket() {
    let sandbox = Sandbox::with_device();
    let (up, _ending) = bring_up(&sandbox.path("cow"));
    let ctl = sandbox.path("ctl");
    let control = Control::listen(&ctl, up.export.clone()).unwrap();
    let mut asking = Asking::connect(&ctl).unwrap();
    let into = |name: &str| Request::Record {
        file: Some(sandbox.path(name).to_str().unwrap().into()),
        off: false,
    };
    let off = Request::Record {
        file: None,
        off: true,
    };
    assert!(matches!(
        ask(&mut asking, &into("one")),
        Ok(Answer::Recording(_))
    ));
    serve(&up.export, vec![write(0, 8, false)]);
    // An existing file is left alone, and the recording goes on.
    let refused = ask(&mut asking, &into("trace")).unwrap_err().to_string();
    assert!(refused.contains("found a name that is taken"), "{refused}");
    serve(&up.export, vec![write(8, 8, false)]);
    // One takes the place of the other.
    assert!(matches!(
        ask(&mut asking, &into("two")),
        Ok(Answer::Recording(_))
    ));
    assert_eq!(read(&sandbox.path("one")).0.len(), 2);
    assert_eq!(read(&sandbox.path("one")).1, None);
    serve(&up.export, vec![Job::Flush]);
    let recorded = match ask(&mut asking, &off) {
        Ok(Answer::Recorded(recorded)) => recorded,
        other => panic!("{other:?}"),
    };
    assert_eq!((recorded.recorded, recorded.lost), (1, 0));
    let (records, cut) = read(&sandbox.path("two"));
    assert_eq!((records.len(), cut), (1, None));
    assert_eq!(shape(&records[0].0), (TraceOperation::Flush, 0, 0, false));
    assert!(ask(&mut asking, &off).is_err());
    drop(control);
    up.close().unwrap();
}

#[test]
fn the_program_records_from_its_start_until_it_ends() {
    let sandbox = Sandbox::with_device();
    let server = start(&sandbox, &["--record", "@recording"]);
    for _ in 0..3 {
        sandbox.succeeds(&["ctl", "@ctl", "flush"]);
    }
    let status = sandbox.report(&["ctl", "@ctl", "status"]);
    assert_eq!(status["recording"]["recorded"], 3, "{status}");
    server.send(Signal::TERM);
    let (status, said) = server.wait();
    assert_eq!(status, Some(0), "{said}");
    assert!(said.ends_with("recording: 3 requests\n"), "{said}");
    let (records, cut) = read(&sandbox.path("recording"));
    assert_eq!((records.len(), cut), (3, None));

    // The next server does not write over it.
    let args = ["serve", "@cow", "--nbd", "@nbd", "--record", "@recording"];
    sandbox.refuses(
        &args,
        "@recording: recording: found a name that is taken, expected a new one: what is there is \
         not written over",
    );

    let server = start(&sandbox, &[]);
    let said = sandbox.succeeds(&["ctl", "@ctl", "record", "@later"]);
    assert_eq!(said, "recording into @later\n");
    sandbox.succeeds(&["ctl", "@ctl", "flush"]);
    let said = sandbox.succeeds(&["ctl", "@ctl", "record", "off"]);
    assert_eq!(said, "@later: 1 request\n");
    sandbox.succeeds(&["ctl", "@ctl", "stop"]);
    assert_eq!(server.wait().0, Some(0));
}

#[test]
fn what_is_done_with_a_mounted_device_is_recorded() {
    use std::os::unix::fs::FileExt;

    let sandbox = Sandbox::with_device();
    let Some(_mount) = Directory::new(&sandbox, "m") else {
        return;
    };
    let args = ["@cow", "--fuse", "@m", "--record", "@recording"];
    let server = Server::start(&sandbox, &args);
    let disk = std::fs::File::options()
        .read(true)
        .write(true)
        .open(sandbox.path("m/disk"))
        .unwrap();
    disk.write_all_at(&[7; 4096], 8192).unwrap();
    disk.sync_all().unwrap();
    disk.read_exact_at(&mut [0; 512], 1024).unwrap();
    drop(disk);
    server.stop();
    let (records, cut) = read(&sandbox.path("recording"));
    assert_eq!(cut, None);
    let shapes: Vec<_> = records.iter().map(|(record, _)| shape(record)).collect();
    let is_there = |wanted| assert!(shapes.contains(&wanted), "{wanted:?} in {shapes:?}");
    is_there((TraceOperation::Write, 16, 8, false));
    is_there((TraceOperation::Flush, 0, 0, false));
    let reads = |&&(operation, start, count, _): &&(_, u64, u64, bool)| {
        operation == TraceOperation::Read && start <= 2 && start + count > 2
    };
    assert_eq!(shapes.iter().filter(reads).count(), 1, "{shapes:?}");
}

/// It begins before anybody can ask for something. Where nobody ever could, an empty recording
/// would be in the way of the next attempt.
#[test]
fn a_recording_begins_before_the_server_listens_and_goes_with_one_that_cannot() {
    let sandbox = Sandbox::with_device();
    let serve = |recording| {
        let serve = ["serve", "@cow", "--nbd", "@nbd", "--control", "@trace"];
        let args = [&serve[..], &["--record", recording]].concat();
        let output = sandbox.run(&args);
        assert_eq!(output.status.code(), Some(3));
        sandbox.text(&output.stderr)
    };
    let said = serve("@trace");
    assert!(said.contains("@trace: recording: found a name"), "{said}");
    let said = serve("@recording");
    assert!(said.contains("@trace: listening: found a name"), "{said}");
    assert!(!sandbox.path("recording").exists());
}

/// What was asked for some seconds before `kill -9` can be read.
#[test]
fn a_killed_server_leaves_a_trace_that_is_cut() {
    let sandbox = Sandbox::with_device();
    let server = start(&sandbox, &["--record", "@recording"]);
    for _ in 0..3 {
        sandbox.succeeds(&["ctl", "@ctl", "flush"]);
    }
    let path = sandbox.path("recording");
    while read(&path).0.len() < 3 {
        std::thread::yield_now();
    }
    server.kill();
    let (records, cut) = read(&path);
    assert_eq!(records.len(), 3);
    assert!(cut.unwrap().contains("the trace is cut"));
}

/// fio writes its own log of what it asks for: the recording has that and nothing else, and a
/// replay asks for as much.
#[test]
fn what_fio_asks_for_is_what_its_own_log_says() {
    let Some(fio) = peer("fio").filter(|fio| has_engine(fio, "nbd")) else {
        return;
    };
    let sandbox = Sandbox::with_device();
    let server = start(&sandbox, &["--record", "@recording"]);
    let uri = format!(
        "--uri=nbd+unix:///?socket={}",
        sandbox.path("nbd").display()
    );
    let ran = output(
        Command::new(&fio)
            .args(["--name=x", "--ioengine=nbd", "--rw=randrw", "--bs=4k"])
            .args(["--iodepth=8", "--size=1M", "--loops=4", "--fsync=16"])
            .args([uri.as_str(), "--write_iolog=log"])
            .current_dir(sandbox.path("")),
    );
    assert!(ran.status.success(), "{ran:?}");
    sandbox.succeeds(&["ctl", "@ctl", "stop"]);
    assert_eq!(server.wait().0, Some(0));
    let requests = |name: &str| {
        let source = harness::trace::open(&sandbox.path(name), &ReadOptions::default());
        let records = source.unwrap().map(|record| shape(&record.unwrap()));
        let mut shapes: Vec<_> = records.collect();
        shapes.sort_unstable();
        shapes
    };
    let (recorded, logged) = (requests("recording"), requests("log"));
    assert!(
        recorded == logged,
        "{recorded:?} where fio logged {logged:?}"
    );
    // What they come to, by their kind: requests, and sectors.
    let sum = |wanted| {
        let of_kind = recorded.iter().filter(|shape| shape.0 == wanted);
        let sectors = of_kind.clone().map(|shape| shape.2).sum::<u64>();
        (of_kind.count() as u64, sectors)
    };
    let [reads, writes, flushes] = [
        TraceOperation::Read,
        TraceOperation::Write,
        TraceOperation::Flush,
    ]
    .map(sum);
    assert_eq!(reads.0 + writes.0, 1024);
    assert!(reads.0 > 0 && writes.0 > 0 && flushes.0 > 0);
    let report = sandbox.report(&["replay", "@recording", "--memory"]);
    assert_eq!(report["requests"], recorded.len());
    assert_eq!(report["sectors_read"], reads.1);
    assert_eq!(report["sectors_written"], writes.1);
    assert_eq!(report["flushes"], flushes.0);
    assert_eq!(report["mismatches"], 0);
}
