//! Foreign formats: what is read from hand-assembled records and from lines as the
//! kernel prints them, and what is said about those that are wrong.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use driver::units::{Sector, SectorCount};
use harness::trace::{
    self, Devices, Event, Nanoseconds, ReadOptions, Record, TraceError, TraceOperation,
    TraceSource, detect, open_stream, summarize,
};
use proptest::prelude::*;

use TraceOperation::{Discard, Read, Write, WriteZeroes};

fn source(bytes: &[u8], options: &ReadOptions) -> Result<Box<dyn TraceSource>, TraceError> {
    open_stream(Path::new("t"), Cursor::new(bytes.to_vec()), options)
}

fn records(bytes: &[u8]) -> Vec<Record> {
    records_with(bytes, &ReadOptions::default())
}

fn records_with(bytes: &[u8], options: &ReadOptions) -> Vec<Record> {
    let source = source(bytes, options).unwrap();
    source.collect::<Result<_, _>>().unwrap()
}

/// The message of the first error, from opening or from reading.
fn error(bytes: &[u8]) -> String {
    match source(bytes, &ReadOptions::default()) {
        Ok(source) => source.filter_map(Result::err).next().unwrap().to_string(),
        Err(error) => error.to_string(),
    }
}

fn record(time: u64, operation: TraceOperation, start: u64, count: u64) -> Record {
    Record {
        time: Nanoseconds(time),
        operation,
        preflush: false,
        fua: false,
        start: Sector(start),
        count: SectorCount(count),
    }
}

#[rustfmt::skip]
const VSCSI_V1: [u8; 64] = [
    0xf4, 0, 0, 0x80,  0, 0x10, 0, 0,  1, 0, 0, 0,  0x28, 0,  0x07, 1,
    0x88, 0x13, 0, 0, 0, 0, 0, 0,  0x40, 0x42, 0x0f, 0, 0, 0, 0, 0,
    0xf5, 0, 0, 0x80,  0, 0x02, 0, 0,  1, 0, 0, 0,  0x2a, 0,  0, 1,
    1, 0, 0, 0, 1, 0, 0, 0,  0x41, 0x42, 0x0f, 0, 0, 0, 0, 0,
];

#[rustfmt::skip]
const VSCSI_V2: [u8; 80] = [
    0x8a, 0,  0, 2,  9, 0, 0, 0,  0, 0x02, 0, 0,  1, 0, 0, 0,
    0xff, 0, 0, 0, 0, 0, 0, 0,  0x10, 0, 0, 0, 0, 0, 0, 0,  0x05, 0, 0, 0, 0, 0, 0, 0,
    0x35, 0,  0, 2,  10, 0, 0, 0,  0, 0, 0, 0,  0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0,  0x20, 0, 0, 0, 0, 0, 0, 0,  0x05, 0, 0, 0, 0, 0, 0, 0,
];

#[test]
fn vscsi_of_both_versions() {
    assert_eq!(
        records(&VSCSI_V1),
        [
            record(0, Read, 5000, 8),
            record(1000, Write, (1 << 32) + 1, 1)
        ]
    );
    assert_eq!(
        records(&VSCSI_V2),
        [record(0, Write, 255, 1), Record::flush(Nanoseconds(16_000))]
    );
    let format = |bytes| {
        let source = source(bytes, &ReadOptions::default()).unwrap();
        source.description().format
    };
    assert_eq!(format(&VSCSI_V1), "vscsi version 1");
    assert_eq!(format(&VSCSI_V2), "vscsi version 2");
}

#[test]
fn vscsi_errors_say_where_and_what() {
    assert_eq!(
        error(&VSCSI_V1[..63]),
        "t: offset 32: the trace is cut: found 31 bytes before the end of the file, \
         expected a record of 32 bytes"
    );
    let changed = |at: usize, byte: u8| {
        let mut bytes = VSCSI_V1;
        bytes[at] = byte;
        error(&bytes)
    };
    assert_eq!(
        changed(32 + 15, 3),
        "t: offset 32: found a record with version field 0x0300, expected high byte 1"
    );
    assert_eq!(
        changed(32 + 12, 0x42),
        "t: offset 32: found SCSI command 0x42, expected read (08, 28, 88, a8), \
         write (0a, 2a, 8a, aa) or synchronize cache (35, 91)"
    );
    assert_eq!(
        changed(32 + 4, 1),
        "t: offset 32: found a write of 513 bytes, expected a multiple of 512 bytes"
    );
    assert_eq!(
        changed(32 + 23, 0xff),
        "t: offset 32: found a write at 18374686483966590977+1, expected an end at or below \
         sector 18014398509481984, which is 2^63 bytes"
    );
}

#[test]
fn the_cloudphysics_sample() {
    let shared = std::env::var_os("UBDLAB_SHARED").map(PathBuf::from);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let shared = shared.unwrap_or_else(|| root.join("../shared"));
    let path = shared.join("data/cloudphysics-io.vscsi");
    if !path.exists() {
        println!("skipped: {} is not there", path.display());
        return;
    }
    let mut source = trace::open(&path, &ReadOptions::default()).unwrap();
    assert_eq!(source.description().format, "vscsi version 1");
    let summary = summarize(&mut *source).unwrap();
    assert_eq!(summary.requests, 113_872);
    assert_eq!(summary.writes, 66_898);
    assert_eq!(summary.reads, 46_974);
    assert_eq!(summary.sectors_read * 512, 1_797_412_352);
    assert_eq!(summary.sectors_written * 512, 2_408_565_760);
    assert_eq!(summary.flushes + summary.discards + summary.write_zeroes, 0);
    assert_eq!(summary.max_end_sector, 65_595_583);
    assert_eq!(summary.duration_ns, Nanoseconds(7_200_089_885_000));
}

/// As `trace` prints it, with what else may be in such a file.
const FTRACE: &str = "\
# tracer: nop
#
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
#              | |         |   |||||     |         |
           mount-17690   [001] .....  1286.999735: block_rq_issue: 7,0 RA 4096 () 0 + 8 be,0,4 [mount]
          <idle>-0       [000] ..s..  1286.999800: block_rq_complete: 7,0 RA () 0 + 8 be,0,4 [0]
 kworker/u8:2 [x-99      [001] d..2.  1287.000000: sched_switch: prev_comm=a ==> next_comm=b
 my [000] prog-17691     [001] .....  1287.000001: block_rq_issue: 7,0 FF 0 () 18446744073709551615 + 0 none,0,0 [kworker/1:1H]
           mount-17690   [001] .....  1287.000002: block_rq_issue: 7,0 WS 1024 () 2 + 2 [old kernel]
           mount-17690   [001] .....  1287.000003: block_rq_issue: 7,0 FWFSM 4096 () 8 + 8 be,0,4 [jbd2/loop0-8]
           mount-17690   [001] .....  1287.000004: block_rq_issue: 7,0 DS 1048576 () 64 + 2048 be,0,4 [fstrim]
           mount-17690   [001] .....  1287.000005: block_rq_issue: 7,0 NS 1048576 () 64 + 2048 be,0,4 [blkdiscard]
           smart-17690   [001] .....  1287.000006: block_rq_issue: 7,0 N 512 (12 01 00 00 fe 00 00 00 ) 0 + 0 none,0,0 [smartd]
              dd-17690   [001] .....  1286.999000: block_rq_issue: 7,0 R 512 () 0 + 1 be,0,4 [dd]
";

#[test]
fn ftrace_text_as_the_kernel_prints_it() {
    assert_eq!(
        records(FTRACE.as_bytes()),
        [
            record(0, Read, 0, 8),
            Record::flush(Nanoseconds(266_000)),
            record(267_000, Write, 2, 2),
            Record {
                preflush: true,
                fua: true,
                ..record(268_000, Write, 8, 8)
            },
            record(269_000, Discard, 64, 2048),
            record(270_000, WriteZeroes, 64, 2048),
            record(0, Read, 0, 1),
        ]
    );
    let only = |event| ReadOptions {
        event: Some(event),
        ..ReadOptions::default()
    };
    let complete = records_with(FTRACE.as_bytes(), &only(Event::Complete));
    assert_eq!(complete, [record(0, Read, 0, 8)]);
    assert_eq!(records_with(FTRACE.as_bytes(), &only(Event::Queue)), []);
}

const QUEUED: &str = "\
# ubdlab: device_size_sectors=524288
# ubdlab: description=ext4, and more
 umount-8821 [001] .....  1371.187017: block_bio_queue: 7,0 FWFSM 2 + 2 [umount]
 umount-8821 [001] .....  1371.187018: block_bio_queue: 7,0 FWS 0 + 0 [umount]
";

#[test]
fn queued_bios_are_read_where_nothing_was_issued_and_our_comments_too() {
    let mut source = source(QUEUED.as_bytes(), &ReadOptions::default()).unwrap();
    assert_eq!(source.description().device_size, Some(SectorCount(524_288)));
    assert_eq!(source.description().text, "ext4, and more");
    let summary = summarize(&mut *source).unwrap();
    assert_eq!((summary.writes, summary.flushes), (1, 1));
    assert_eq!((summary.preflush_writes, summary.fua_writes), (1, 1));
}

#[test]
fn a_trace_without_a_single_event_is_an_error_like_one_of_other_events() {
    for text in [
        "# tracer: nop\n",
        "# tracer: nop\n#\n# entries-in-buffer/entries-written: 0/0\n",
    ] {
        assert_eq!(
            error(text.as_bytes()),
            "t: offset 0: found comments and no event: nothing was recorded, expected \
             block_rq_issue, block_bio_queue or block_rq_complete, or the actions Q, D and C of \
             the blk tracer"
        );
    }
}

#[test]
fn ftrace_errors_say_the_line_and_the_offset() {
    let line = " dd-1 [000] ..... 1.000000: block_rq_issue: 7,0 WS 512 () 0 + 1 be,0,4 [dd]\n";
    let after = |second: &str| error(format!("{line}{second}").as_bytes());
    let place = format!("t: line 2, offset {}: ", line.len());
    assert_eq!(
        after("what is this\n"),
        format!(
            "{place}found \"what is this\", expected a line like \
             \"comm-pid [cpu] flags seconds: event: fields\""
        )
    );
    let expected =
        "expected block_rq_issue: \"major,minor RWBS bytes () sector + count prio [comm]\"";
    assert_eq!(
        after(&line[..63]),
        format!(
            "{place}the trace is cut: found \" dd-1 [000] ..... 1.000000: block_rq_issue: \
             7,0 WS 512 () 0 + 1\" and no line feed, {expected}"
        )
    );
    assert!(after(&line.replace("+ 1", "+ -1")).ends_with(expected));
    assert_eq!(
        after(&line.replace("WS", "ZA")),
        format!(
            "{place}found \"ZA\", expected RWBS of an optional F, one of R W D DE F N WZ, \
             an optional F, and A S M U"
        )
    );
    assert_eq!(
        after(&line.replace("7,0", "8,16")),
        format!(
            "{place}found an event of device 8,16, expected only device 7,0: choose one of them \
             with --device 7,0, or --trace-device 7,0 of replay"
        )
    );
    assert_eq!(
        after("CPU:1 [LOST 23 EVENTS]\n"),
        format!("{place}found \"CPU:1 [LOST 23 EVENTS]\", expected a recording without gaps")
    );
    let long = after(&"x".repeat(5000));
    assert!(long.starts_with(&format!("{place}found a line that begins with")));
    assert!(
        long.ends_with("expected at most 4096 bytes in a line"),
        "{long}"
    );
    assert_eq!(
        error(format!("# ubdlab: device_size_sectors=big\n{line}").as_bytes()),
        "t: line 1, offset 0: found \"big\", expected a number of sectors from 1 to 2^54"
    );
}

#[test]
fn one_device_of_several_is_chosen_and_gaps_are_allowed_on_request() {
    let text = "\
 a-1 [000] ..... 1.000000: block_bio_queue: 7,0 WS 0 + 1 [a]
CPU:0 [LOST 5 EVENTS]
 a-1 [000] ..... 1.500000: block_bio_queue: 8,16 WS 7 + 1 [a]
 a-1 [000] ..... 2.000000: block_bio_queue: 7,0 WS 0 + 1 [a]
";
    let options = ReadOptions {
        devices: Devices::Only("8:16".parse().unwrap()),
        allow_lost_events: true,
        ..ReadOptions::default()
    };
    assert_eq!(
        records_with(text.as_bytes(), &options),
        [record(0, Write, 7, 1)]
    );
}

#[test]
fn a_source_ends_after_an_error() {
    let text = " a-1 [000] . 1.0: block_bio_queue: 7,0 WS 0 + 1 [a]\nbad\n a-1 [000] . 1.0: x: y\n";
    let mut source = source(text.as_bytes(), &ReadOptions::default()).unwrap();
    assert!(source.next().unwrap().is_ok());
    assert!(source.next().unwrap().is_err());
    assert!(source.next().is_none());
}

#[test]
fn an_unknown_format_is_one_clear_error() {
    let understood = "expected one of ubdtrace, blktrace (binary, version 7 or 8), blkparse text, \
        ftrace, trace-cmd report or perf script text with block events, the blk \
        tracer's text, biosnoop's table, fio iolog (version 2 or 3), FIU's words, CSV of MSR Cambridge, \
        SYSTOR '17, Alibaba, Tencent, SPC or ubdlab, vscsi (version 1 or 2), \
        dm-log-writes, each of them plain or compressed with gzip or zstd";
    let cannot = "t: the format of this trace cannot be told: found";
    assert_eq!(
        error(b""),
        format!("{cannot} nothing at offset 0, {understood}")
    );
    assert_eq!(
        error(b"fio version 1 iolog\n"),
        format!("{cannot} \"fio version 1 iolog\\n\" at offset 0, {understood}")
    );
    for other in [
        &[0; 100][..],
        &[0xff; 100_000][..],
        b"UBDTRAC",
        &VSCSI_V1[..31],
    ] {
        assert!(error(other).starts_with(cannot), "{other:?}");
        assert_eq!(detect::detect(other), None);
    }
}

#[test]
fn a_missing_file_and_a_directory_are_named() {
    let open = |path: &str| trace::open(Path::new(path), &ReadOptions::default());
    let missing = open("/nowhere/at all").err().unwrap().to_string();
    assert!(
        missing.starts_with("/nowhere/at all: opening: no such file"),
        "{missing}"
    );
    let directory = open("/").err().unwrap().to_string();
    assert_eq!(directory, "/: opening: is a directory");
}

/// Whatever is read keeps the rules of a record, and nothing panics.
fn drain(bytes: &[u8]) {
    if let Ok(source) = source(bytes, &ReadOptions::default()) {
        for record in source.flatten() {
            record.check().unwrap();
        }
    }
}

fn mutate(bytes: &[u8], changes: &[(usize, u8)], length: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, byte) in changes {
        let at = at % bytes.len();
        bytes[at] = *byte;
    }
    bytes.truncate(length);
    bytes
}

fn any_changes() -> impl Strategy<Value = Vec<(usize, u8)>> {
    proptest::collection::vec((any::<usize>(), any::<u8>()), 0..6)
}

proptest! {
    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        drain(&bytes);
    }

    #[test]
    fn mutated_vscsi_never_panics(changes in any_changes(), length in 0..=80_usize) {
        drain(&mutate(&VSCSI_V1, &changes, length));
        drain(&mutate(&VSCSI_V2, &changes, length));
    }

    #[test]
    fn mutated_text_never_panics(changes in any_changes(), length in 0..=FTRACE.len()) {
        drain(&mutate(FTRACE.as_bytes(), &changes, length));
        drain(&mutate(QUEUED.as_bytes(), &changes, length));
    }
}

/// Times that come earlier than the one before are counted, and nothing else happens to a format
/// that is one recorder's order.
#[test]
fn times_out_of_order_are_counted() {
    let text = b"128166372100000000,vol,0,Read,0,4096,1\n\
        128166372000000000,vol,0,Write,4096,4096,1\n\
        128166372300000000,vol,0,Read,8192,4096,1\n\
        128166372200000000,vol,0,Write,4096,4096,1\n";
    let mut source = source(text, &ReadOptions::default()).unwrap();
    let times: Vec<u64> = source
        .by_ref()
        .map(|record| record.unwrap().time.0)
        .collect();
    assert_eq!(times, [0, 0, 20_000_000_000, 10_000_000_000]);
    let notes = source.notes();
    assert_eq!(notes.earlier, 2);
    assert_eq!(notes.earlier_by_at_most, Nanoseconds(10_000_000_000));
}

/// The buffers of two CPUs, one after the other in one stream, are merged as their files are.
#[test]
fn cpus_in_one_stream_are_merged_by_time() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../traces/samples");
    let file = |cpu: u32| samples.join(format!("v7-little.blktrace.{cpu}"));
    let options = ReadOptions {
        devices: Devices::All,
        ..ReadOptions::default()
    };
    let merged = trace::open(&file(0), &options).unwrap();
    let merged: Vec<Record> = merged.map(Result::unwrap).collect();
    for order in [[0, 1], [1, 0]] {
        let stream = order.map(|cpu| std::fs::read(file(cpu)).unwrap()).concat();
        let mut source = source(&stream, &options).unwrap();
        let records: Vec<Record> = source.by_ref().map(Result::unwrap).collect();
        assert_eq!(records, merged, "{order:?}");
        assert_eq!(source.notes().earlier, 0, "{order:?}");
    }
}

#[test]
fn text_without_a_known_event_is_an_error_that_shows_its_first_lines() {
    let line = "  bash-77  [001] .....  1234.100001: sched_switch: prev=1 next=2\n";
    let text = format!("# tracer: nop\n#\n{}", line.repeat(5));
    let line = line.trim();
    let expected = format!(
        "t: offset 0: found events of other kinds only: \"{line}\", \"{line}\", \"{line}\", expected \
         block_rq_issue, block_bio_queue or block_rq_complete, or the actions Q, D and C of the blk tracer"
    );
    assert_eq!(error(text.as_bytes()), expected);
    let skipping = ReadOptions {
        skip_bad: true,
        ..ReadOptions::default()
    };
    let mut source = source(text.as_bytes(), &skipping).unwrap();
    assert_eq!(source.by_ref().count(), 0);
    assert_eq!(source.notes().skipped, 1);
}

#[test]
fn packet_commands_and_completions_of_nothing_are_told_from_requests() {
    let options = |event| ReadOptions {
        event: Some(event),
        ..ReadOptions::default()
    };
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../traces/samples");
    let read = |name: &str, event| {
        let bytes = std::fs::read(samples.join(name)).unwrap();
        let records = records_with(&bytes, &options(event));
        records
            .into_iter()
            .map(|record| (record.operation, record.count.0))
            .collect::<Vec<_>>()
    };
    let flush_and_write = vec![(TraceOperation::Flush, 0), (Write, 17)];
    assert_eq!(read("blkparse-commands.txt", Event::Issue), flush_and_write);
    assert_eq!(
        read("blkparse-commands.txt", Event::Complete),
        flush_and_write
    );
    assert_eq!(
        read("perf-script-period-stacks.txt", Event::Complete),
        [(Write, 8)]
    );
    assert_eq!(read("blk-tracer.txt", Event::Complete), [(Write, 8)]);
}

/// What `blkparse -t` prints: the time since the step before, in round brackets.
#[test]
fn requests_with_the_elapsed_time_of_blkparse_are_requests() {
    let text = "\
        8,0    0        1     0.000000000   100  Q  WS 64 + 8 [fio]\n\
        8,0    0        2     0.000001000   100  I  WS 64 + 8 (    1000) [fio]\n\
        8,0    0        3     0.000003000   100  D  WS 64 + 8 (    2000) [fio]\n\
        8,0    0        4     0.000004000   101  D  FN (    2000) [kworker/0:1H (x)]\n\
        8,0    0        5     0.000103000     0  C  WS 64 + 8 (  100000) [0]\n\
        8,0    0        6     0.000104000     0  C  FN 0 (  100000) [0]\n\
        8,0    0        7     0.000105000     0  C WSM 64 (  100000) [0]\n\
        8,0    0        8     0.000106000   200  D   R 36 (12 00 00 00 24 00 ..) [probe]\n";
    let of = |event| {
        let options = ReadOptions {
            event: Some(event),
            ..ReadOptions::default()
        };
        let mut source = source(text.as_bytes(), &options).unwrap();
        let records: Vec<Record> = source.by_ref().map(Result::unwrap).collect();
        let seen = records
            .iter()
            .map(|record| (record.operation, record.count.0));
        (seen.collect::<Vec<_>>(), source.notes().others)
    };
    // Left out are the insertion, the write's own flush and the packet command.
    assert_eq!(of(Event::Queue), (vec![(Write, 8)], 3));
    let write_and_flush = vec![(Write, 8), (TraceOperation::Flush, 0)];
    assert_eq!(of(Event::Issue), (write_and_flush.clone(), 3));
    assert_eq!(of(Event::Complete), (write_and_flush, 3));
    // The name at the end shows that nothing is cut off.
    let cut = &text[..text.len() - 9];
    assert!(error(cut.as_bytes()).contains("the trace is cut"));
}

/// Kernels since about 4.12 record none of a packet command's own bytes, and of its data only how
/// much there is.
#[test]
fn packet_commands_without_their_bytes_are_no_requests() {
    let blkparse = "\
        8,0    0        1     0.000001000   200  I   R 36 [probe]\n\
        8,0    0        2     0.000002000   200  D   R 36 [probe]\n\
        8,0    0        3     0.000003000   200  D   N 0 [probe]\n\
        8,0    0        4     0.000004000     0  C   R [0]\n\
        8,0    0        5     0.000005000     0  C   N [0]\n\
        8,0    0        6     0.000006000   200  D   R 64 + 8 [probe]\n";
    let tracer = "\
        probe-200   [001] .....  1234.100001:   8,0    D   R 36 [probe]\n\
        probe-200   [001] .....  1234.100002:   8,0    D   N 0 [probe]\n\
        probe-200   [001] .....  1234.100003:   8,0    C   R [0]\n\
        probe-200   [001] .....  1234.100004:   8,0    D   R 64 + 8 [probe]\n";
    let classic = "\
        8,0    1  1234.100001000   200  D   R 36 [probe]\n\
        8,0    1  1234.100002000   200  D   N 0 [probe]\n\
        8,0    1  1234.100003000     0  C   R [0]\n\
        8,0    1  1234.100004000   200  D   R 64 + 8 [probe]\n";
    for (text, others) in [(blkparse, 5), (tracer, 3), (classic, 3)] {
        let mut source = source(text.as_bytes(), &ReadOptions::default()).unwrap();
        let records: Vec<_> = source.by_ref().map(Result::unwrap).collect();
        assert_eq!(records, [record(0, Read, 64, 8)], "{text}");
        assert_eq!(source.notes().others, others, "{text}");
    }
    // What is neither is refused as before.
    for wrong in ["36 x [probe]", "64 + [probe]", "64 + 8", "x [probe]"] {
        let line = format!("8,0    0        7     0.000007000   200  D   R {wrong}\n");
        assert!(error(format!("{blkparse}{line}").as_bytes()).contains("expected a line like"));
    }
}

/// `perf script -F -cpu`, and `-F +srcline` where the source is known and where it is not.
#[test]
fn perf_text_without_a_cpu_and_with_places_in_the_source() {
    let text = "\
fio 1.0: x  4242  4455.092001: sched:sched_switch: prev_comm=a ==> next_comm=b\n\
fio 1.0: x  4242  4455.092003:          1 block:block_rq_issue: 8,0 WS 4096 () 64 + 8 be,0,4 [fio]\n\
\tffffffff814d3f2a blk_mq_start_request+0x1a ([kernel.kallsyms])\n\
\x20 blk-mq.c:1234\n\
\tffffffff814d3f2b blk_mq_start_request+0x1b ([kernel.kallsyms])\n\
\x20 blk_mq_start_request+27\n\
\t    7f1c2d3e4f50 pwrite64+0x20 (/usr/lib/x86_64-linux-gnu/libc.so.6)\n\
\x20 libc.so.6[7f1c2d3e4f50]\n\
\n\
fio  4242  4455.093003: block:block_rq_issue: 8,0 WS 4096 () 72 + 8 be,0,4 [fio]\n";
    let expected = [record(0, Write, 64, 8), record(1_000_000, Write, 72, 8)];
    assert_eq!(records(text.as_bytes()), expected);
    // What only resembles such a place is a line that is wrong.
    for wrong in ["  blk-mq.c:12x", "blk-mq.c:1234", "  a b.c:1234", "  :12"] {
        let message = error(format!("{text}{wrong}\n").as_bytes());
        assert!(
            message.contains("expected a line like"),
            "{wrong}: {message}"
        );
    }
}

#[test]
fn requests_of_no_bytes_are_counted_and_passed_over() {
    let biosnoop = "TIME(s)     COMM           PID    DISK    T SECTOR     BYTES   LAT(ms)\n\
        0.000000    supervise      1950   xvda1   W 13092560   4096       0.74\n\
        0.001000    kworker/0:1    9      xvda1   W 0          0          0.10\n\
        0.002000    kworker/0:1    9              W 0          0          0.10\n\
        0.003000    supervise      1950   xvda1   W 13092568   4096       0.74\n";
    let spc = "0,20941264,8192,W,0.551706\n0,20939840,0,W,0.6\n0,8,512,r,0.7\n";
    let tencent = "1538323200,8,8,1,1063\n1538323202,8,0,1,1063\n1538323203,8,8,0,1063\n";
    let ftrace = " dd-1 [000] ..... 1.000000: block_rq_issue: 7,0 WS 0 () 8 + 0 [dd]\n\
        dd-1 [000] ..... 1.000001: block_rq_issue: 7,0 WS 512 () 8 + 1 [dd]\n\
        dd-1 [000] ..... 1.000002: block_rq_issue: 7,0 FF 0 () 0 + 0 [dd]\n";
    for (text, empty) in [(biosnoop, 2), (spc, 1), (tencent, 1), (ftrace, 1)] {
        let mut source = source(text.as_bytes(), &ReadOptions::default()).unwrap();
        let records: Vec<_> = source.by_ref().map(Result::unwrap).collect();
        assert_eq!((records.len(), source.notes().empty), (2, empty), "{text}");
    }
}

/// What reads and writes, and what is nothing, of a disk that has no name.
#[test]
fn a_disk_without_a_name_is_one_more_disk() {
    let text = b"TIME(s)     COMM           PID    DISK    T SECTOR     BYTES   LAT(ms)\n\
        0.000000    my process     1950           W 16         4096       0.74\n";
    let mut source = source(text, &ReadOptions::default()).unwrap();
    let records: Vec<_> = source.by_ref().map(Result::unwrap).collect();
    assert_eq!(records, [record(0, Write, 16, 8)]);
    let devices: Vec<_> = source
        .notes()
        .devices
        .keys()
        .map(ToString::to_string)
        .collect();
    assert_eq!(devices, ["?"]);
}

/// As with the option `blk_classic`.
#[test]
fn the_blk_tracer_prints_lines_like_blkparse_without_their_number() {
    let text = "# tracer: blk\n#\n\
        # DEV   CPU TIMESTAMP     PID ACT FLG\n\
        #  |     |     |           |   |   |\n  \
          8,0    1  1234.100001000    77  Q   W 223488 + 8 [bash]\n  \
          8,0    1  1234.100002000    77  G   W 223488 + 8 [bash]\n  \
          8,0    1  1234.100003000    77  Q   R 16 + 16 [bash]\n";
    let read = records(text.as_bytes());
    assert_eq!(
        read,
        [record(0, Write, 223_488, 8), record(2000, Read, 16, 16)]
    );
    let lost = format!("{text}CPU:1 [LOST 23 EVENTS]\n");
    assert!(error(lost.as_bytes()).ends_with("expected a recording without gaps"));
}

#[test]
fn the_words_of_fiu_stand_between_any_white_space() {
    let digest = "6b8b4567327b23c6643c986966334873";
    let text = format!(
        "89967404222\t5062\tnfsd\t562600552\t8\tw\t6\t0\t{digest}\n\
         89967405222  5062 my nfsd  16 8 r 6 0  {digest}\n"
    );
    let read = records(text.as_bytes());
    assert_eq!(
        read,
        [record(0, Write, 562_600_552, 8), record(1000, Read, 16, 8)]
    );
}

#[test]
fn a_request_of_fiu_may_have_several_digests() {
    let digests = ["6b8b4567327b23c6643c986966334873"; 2].join(" ");
    let text = format!(
        "89967404222 5062 nfsd 16 8 W 6 0 {digests}\n\
         89967405222 5062 nfsd 24 16 R 6 0 {digests}\n"
    );
    let read = records(text.as_bytes());
    assert_eq!(read, [record(0, Write, 16, 8), record(1000, Read, 24, 16)]);
    let none = "89967404222 5062 nfsd 16 8 W 6 0\n";
    let message = error(format!("{text}{none}").as_bytes());
    assert!(message.contains("major minor digest"), "{message}");
}

/// bcc prints it as a read, because it is no write.
#[test]
fn a_request_to_no_sector_of_biosnoop_is_a_flush() {
    for sector in ["-1", "18446744073709551615"] {
        let text = |bytes: u64| {
            format!(
                "TIME(s)     COMM           PID    DISK    T SECTOR     BYTES   LAT(ms)\n\
                 0.000000    kworker/0:1    9      vda     W 16         4096    0.74\n\
                 0.001000    kworker/0:1    9      vda     R {sector}   {bytes} 0.10\n"
            )
        };
        let read = records(text(0).as_bytes());
        let flush = record(1_000_000, TraceOperation::Flush, 0, 0);
        assert_eq!(read, [record(0, Write, 16, 8), flush]);
        error(text(512).as_bytes());
    }
}
