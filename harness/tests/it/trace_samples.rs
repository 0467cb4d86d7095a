//! The samples in `traces/samples`: each format is told by its content, what must come of it
//! stands beside it as `NAME.expected`, and nothing that is done to a sample makes its reader
//! panic, hang or break a rule of the records.
//!
//! `UPDATE_EXPECT=1 cargo test -p harness --test it trace_samples` writes the expectations anew,
//! to be read before they are committed.

use std::fmt::Write;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use crate::read_trace::{all, read_trace};
use expect_test::expect_file;
use harness::trace::write::{CsvWriter, RecordWriter};
use harness::trace::{
    self, Device, Devices, Event, ReadOptions, TraceError, TraceOperation, TraceSource,
};
use proptest::prelude::*;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../traces/samples")
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(directory().join(name)).unwrap()
}

/// The samples, by name.
fn samples() -> Vec<String> {
    let names = std::fs::read_dir(directory()).unwrap().map(|entry| {
        let name = entry.unwrap().file_name();
        name.into_string().unwrap()
    });
    let is_sample = |name: &String| {
        ![".expected", ".py", ".md"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    let mut names: Vec<_> = names.filter(is_sample).collect();
    names.sort();
    names
}

/// Everything that a reader says about a trace, and the CRC-32C of each payload.
fn told(source: &mut dyn TraceSource) -> String {
    let mut text = String::new();
    let mut csv = CsvWriter::create(Path::new("csv"), Vec::new()).unwrap();
    let mut payloads = String::new();
    while let Some(record) = source.next() {
        let record = record.unwrap();
        csv.push(&record).unwrap();
        if let Some(data) = source.payload() {
            assert_eq!(data.len() as u64, record.count.0 * 512);
            let crc = crc32c::crc32c(data);
            writeln!(
                payloads,
                "payload: {} at {}, crc {crc:08x}",
                data.len(),
                record.start
            )
            .unwrap();
        }
    }
    let (description, notes) = (source.description(), source.notes());
    writeln!(text, "format: {}", description.format).unwrap();
    if let Some(compression) = description.compression {
        writeln!(text, "compression: {compression}").unwrap();
    }
    if description.files != 1 {
        writeln!(text, "files: {}", description.files).unwrap();
    }
    writeln!(text, "times: {}", description.units.time).unwrap();
    writeln!(text, "positions: {}", description.units.position).unwrap();
    if let Some(event) = notes.event {
        let [issue, queue, complete] = notes.events;
        writeln!(
            text,
            "event: {} of {issue} issue, {queue} queue, {complete} complete",
            event.word()
        )
        .unwrap();
    }
    for (device, counts) in &notes.devices {
        writeln!(text, "device: {device}, {} requests", counts.requests).unwrap();
    }
    if notes.rounded > 0 {
        writeln!(text, "rounded: {}", notes.rounded).unwrap();
    }
    text + &payloads + std::str::from_utf8(&csv.finish().unwrap()).unwrap()
}

#[test]
fn every_sample_is_read_as_it_must_be() {
    let names = samples();
    assert!(names.len() >= 22, "{names:?}");
    for name in names {
        let mut source = trace::open(&directory().join(&name), &all()).unwrap();
        let now = told(&mut *source);
        let expected = directory().join(format!("{name}.expected"));
        expect_file![expected].assert_eq(&now);
    }
}

#[test]
fn a_name_says_nothing() {
    for name in samples() {
        let bytes = read(&name);
        let format = |bytes: &[u8]| {
            let bytes = Cursor::new(bytes.to_vec());
            let source = trace::open_stream(Path::new("x.gz"), bytes, &all()).unwrap();
            source.description().format
        };
        let by_file = trace::open(&directory().join(&name), &all()).unwrap();
        assert_eq!(format(&bytes), by_file.description().format, "{name}");
    }
}

#[test]
fn each_event_can_be_chosen() {
    let count = |name: &str, event| {
        let options = ReadOptions {
            event: Some(event),
            ..all()
        };
        let source = trace::open(&directory().join(name), &options).unwrap();
        source.map(Result::unwrap).count()
    };
    assert_eq!(count("blkparse.txt", Event::Queue), 4);
    assert_eq!(count("blkparse.txt", Event::Issue), 6);
    assert_eq!(count("blkparse.txt", Event::Complete), 2);
    assert_eq!(count("v7-little.blktrace.0", Event::Queue), 3);
    assert_eq!(count("v7-little.blktrace.0", Event::Complete), 1);
    assert_eq!(count("perf-script.txt", Event::Complete), 1);
}

#[test]
fn one_device_of_several_is_chosen() {
    let open = |name: &str, devices| {
        let options = ReadOptions {
            devices,
            ..ReadOptions::default()
        };
        trace::open(&directory().join(name), &options).unwrap()
    };
    for (name, first, second, chosen, records) in [
        ("blkparse-two-devices.txt", "8,0", "8,16", "8:16", 2),
        ("msr-two-disks.csv", "usr.0", "usr.1", "web.0", 1),
    ] {
        let error = open(name, Devices::TheOnly).find_map(Result::err).unwrap();
        match error {
            TraceError::SeveralDevices {
                first: a,
                second: b,
                ..
            } => assert_eq!(
                (a.to_string(), b.to_string()),
                (first.into(), second.into())
            ),
            error => panic!("{error}"),
        }
        let mut source = open(name, Devices::Only(chosen.parse().unwrap()));
        assert_eq!(source.by_ref().map(Result::unwrap).count(), records);
        assert!(source.notes().devices.len() >= 2, "all are listed");
        assert!(!source.notes().devices.contains_key(&Device::Id(1)));
    }
}

#[test]
fn flushes_with_data_stay_writes_and_discards_stay_discards() {
    for name in [
        "blkparse.txt",
        "v7-little.blktrace.0",
        "log-writes-512.bin",
        "ftrace.txt",
    ] {
        let options = ReadOptions {
            event: Some(Event::Queue).filter(|_| name != "ftrace.txt"),
            ..all()
        };
        let source = trace::open(&directory().join(name), &options).unwrap();
        let records: Vec<_> = source.map(Result::unwrap).collect();
        let is_preflush = |record: &trace::Record| {
            record.preflush && record.operation == TraceOperation::Write && record.count.0 > 0
        };
        assert!(records.iter().any(is_preflush), "{name}: {records:?}");
    }
    for name in [
        "v8-big.blktrace",
        "log-writes-4096.bin",
        "fio-v2.log",
        "fio-v3.log",
    ] {
        let mut source = trace::open(&directory().join(name), &all()).unwrap();
        let is_other = |record: trace::Record| {
            matches!(
                record.operation,
                TraceOperation::Discard | TraceOperation::WriteZeroes
            )
        };
        assert!(source.any(|record| is_other(record.unwrap())), "{name}");
    }
}

fn first_error(name: &str, bytes: &[u8]) -> String {
    let cursor = Cursor::new(bytes.to_vec());
    match trace::open_stream(Path::new(name), cursor, &all()) {
        Ok(mut source) => source.find_map(Result::err).unwrap().to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let with = |name: &str, from: &str, to: &str| {
        let text = String::from_utf8(read(name)).unwrap();
        assert!(text.contains(from), "{name}");
        first_error("t", text.replace(from, to).as_bytes())
    };
    assert_eq!(
        with("msr.csv", "2517696512", "x"),
        "t: line 2, offset 53: found \"x\", expected an offset in bytes"
    );
    assert_eq!(
        with(
            "msr.csv",
            "usr,0,Write,2517700608,512",
            "usr,0,Write,2517700608"
        ),
        "t: line 3, offset 105: found \"128166372026382245,usr,0,Write,2517700608,1963\", \
         expected 7 fields: Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime"
    );
    assert_eq!(
        with(
            "alibaba.csv",
            "8792748033,4095",
            "18446744073709551615,4095"
        ),
        "t: line 3, offset 79: found offset 18446744073709551615 and length 4095, expected an end \
         below 2^64 bytes"
    );
    assert_eq!(
        with(
            "tencent.csv",
            "1,1063\n1538323202,8,8,1,1063\n",
            "1,1063\n1538323202,8,8,1,10"
        ),
        "t: line 3, offset 59: the trace is cut: found \"1538323202,8,8,1,10\" and no line feed, \
         expected a line feed after the last line"
    );
    assert_eq!(
        with("fio-v2.log", "trim 1048576 65536", "trim 1048576"),
        "t: line 10, offset 175: found \"/dev/sda trim 1048576\", expected a line like \"FILE \
         read|write|sync|datasync|trim OFFSET LENGTH\", \"FILE wait MILLISECONDS\" or \"FILE \
         add|open|close\""
    );
    assert_eq!(
        with("blkparse.txt", "D  DS", "D  XS"),
        "t: line 17, offset 1063: found \"XS\", expected RWBS of an optional F, one of R W D DE F N WZ, \
         an optional F, and A S M U"
    );
}

#[test]
fn what_is_wrong_in_binary_traces_is_said_with_its_place() {
    let changed = |name: &str, at: usize, byte: u8| {
        let mut bytes = read(name);
        bytes[at] = byte;
        first_error("t", &bytes)
    };
    assert_eq!(
        changed("v7-big.blktrace", 60, 0),
        "t: offset 60: found a record that begins with \"\\x00at\\x07\", expected blktrace's magic, \
         in the version and byte order of the first record"
    );
    let bytes = read("v8-little.blktrace");
    assert_eq!(
        first_error("t", &bytes[..bytes.len() - 1]),
        "t: offset 524: the trace is cut: found 63 bytes before the end of the file, expected a \
         record of 64 bytes"
    );
    assert_eq!(
        changed("log-writes-512.bin", 8, 2),
        "t: offset 8: found log version 2, expected version 1"
    );
    assert_eq!(
        changed("log-writes-512.bin", 24, 1),
        "t: offset 24: found blocks of 513 bytes, expected a power of two from 512 to 65536"
    );
    assert_eq!(
        changed("log-writes-512.bin", 512 + 15, 1),
        "t: offset 512: found block 0 and 72057594037927938 blocks, expected an end below 2^64 bytes"
    );
    assert_eq!(
        changed("log-writes-512.bin", 512 + 11, 1),
        "t: offset 512: found a write of 8589935616 bytes, expected at most 67108864"
    );
    let bytes = read("msr.csv.gz");
    let error = first_error("t.gz", &bytes[..bytes.len() - 12]);
    assert!(error.starts_with("t.gz: decompressed offset "), "{error}");
}

#[test]
fn bad_lines_and_records_are_skipped_on_request_and_counted() {
    let skipping = ReadOptions {
        skip_bad: true,
        ..all()
    };
    let drain = |bytes: Vec<u8>| {
        let mut source = trace::open_stream(Path::new("t"), Cursor::new(bytes), &skipping).unwrap();
        let records = source.by_ref().map(Result::unwrap).count();
        (
            records,
            source.notes().skipped,
            source.notes().first_skipped.clone(),
        )
    };
    let mut text = read("alibaba.csv");
    text.splice(0..0, b"1,R,0,512,1\nnonsense\n".iter().copied());
    text.extend_from_slice(&[b'x'; 10_000]);
    text.extend_from_slice(b"\n2,W,0,512,7\n2,W,0,51");
    let first = "t: line 2, offset 12: found \"nonsense\", expected 5 fields: \
                 device_id,opcode,offset,length,timestamp";
    assert_eq!(drain(text), (5, 3, Some(first.to_owned())));

    let mut records = read("v7-little.blktrace.0");
    let whole = drain(records.clone()).0;
    records[60] ^= 1;
    assert_eq!(
        (whole, 3),
        (3, drain(records).0),
        "the queued one was not issued"
    );

    let mut vscsi = read("vscsi-1.bin");
    vscsi[32 + 12] = 0x42;
    let (records, skipped, first) = drain(vscsi);
    assert_eq!((records, skipped), (3, 1));
    assert!(
        first
            .unwrap()
            .contains("offset 32: found SCSI command 0x42")
    );

    let mut log = read("log-writes-512.bin");
    log.truncate(log.len() - 700);
    assert_eq!(drain(log).1, 1, "the cut is counted, and nothing hangs");
}

#[derive(Clone, Debug)]
enum Change {
    Set(usize, u8),
    Remove(usize, usize),
    Repeat(usize, usize),
    Truncate(usize),
}

fn any_change() -> impl Strategy<Value = Change> {
    let digits = prop_oneof![
        any::<u8>(),
        Just(b'9'),
        Just(b','),
        Just(b'\n'),
        Just(b' '),
        Just(0xff)
    ];
    prop_oneof![
        4 => (any::<usize>(), digits).prop_map(|(at, byte)| Change::Set(at, byte)),
        1 => (any::<usize>(), 1..20_usize).prop_map(|(at, length)| Change::Remove(at, length)),
        1 => (any::<usize>(), 1..50_usize).prop_map(|(at, length)| Change::Repeat(at, length)),
        1 => any::<usize>().prop_map(Change::Truncate),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    if bytes.is_empty() {
        return;
    }
    let length = bytes.len();
    match *change {
        Change::Set(at, byte) => bytes[at % length] = byte,
        Change::Remove(at, count) => {
            let at = at % length;
            bytes.drain(at..(at + count).min(length));
        }
        Change::Repeat(at, count) => {
            let at = at % length;
            let part = bytes[at..(at + count).min(length)].to_vec();
            bytes.splice(at..at, part);
        }
        Change::Truncate(at) => bytes.truncate(at % length),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// A hundred times each sample, changed in one to six places. The fuzz target `trace` does it
    /// a hundred thousand times.
    #[test]
    fn mutated_samples_never_panic(changes in proptest::collection::vec(any_change(), 1..6)) {
        for bytes in sample_bytes() {
            let mut bytes = bytes.clone();
            for change in &changes {
                apply(&mut bytes, change);
            }
            read_trace(&bytes);
        }
    }
}

fn sample_bytes() -> &'static [Vec<u8>] {
    static BYTES: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
    BYTES.get_or_init(|| samples().iter().map(|name| read(name)).collect())
}
