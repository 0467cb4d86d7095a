//! Small traces that claim much. Each is given to the real program in a process that may have
//! little memory and little time of the processor: what a record claims costs neither, and what
//! would cost too much is refused before anything is written, with the option that allows it.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use driver::units::{Sector, SectorCount};
use harness::trace::record::MAX_END_SECTOR;
use harness::trace::{
    CompactReader, Nanoseconds, Record, TraceHeader, TraceOperation, TraceWriter,
};

use crate::support::cli::{Sandbox, bundled, output};

/// The longest record that there can be.
const ALL: u64 = MAX_END_SECTOR.0;

/// Records of a whole frame of our own format, which may be a hundred bytes long.
const FRAME: u64 = 65_536;

/// Changes of a whole device in a replay, which each do what they say on its files.
const CHANGES: u64 = 2_048;

/// Runs with 512 MiB of addresses and 30 seconds of the processor's time.
fn limited(sandbox: &Sandbox, args: &[&str]) -> Output {
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "ulimit -v 524288 && ulimit -t 30 && exec \"$0\" \"$@\"",
        ])
        .arg(env!("CARGO_BIN_EXE_ubdlab"))
        .args(sandbox.args(args))
        .env("TMPDIR", sandbox.temporary())
        .stdin(Stdio::null());
    output(&mut command)
}

fn succeeds(sandbox: &Sandbox, args: &[&str]) -> String {
    let output = limited(sandbox, args);
    let stderr = sandbox.text(&output.stderr);
    assert_eq!(
        (stderr.as_str(), output.status.code()),
        ("", Some(0)),
        "of {args:?}"
    );
    sandbox.text(&output.stdout)
}

/// Fails with this message, and leaves everything as it was.
fn refuses(sandbox: &Sandbox, args: &[&str], message: &str) {
    let before = sandbox.contents();
    let output = limited(sandbox, args);
    let stderr = sandbox.text(&output.stderr);
    assert_eq!(stderr, format!("ubdlab: {message}\n"), "of {args:?}");
    assert_eq!(output.status.code(), Some(3), "of {args:?}");
    assert!(
        before == sandbox.contents(),
        "{args:?} has changed something"
    );
}

fn json(sandbox: &Sandbox, args: &[&str]) -> serde_json::Value {
    serde_json::from_str(&succeeds(sandbox, &[args, &["--json"]].concat())).unwrap()
}

/// A trace of ours.
fn own(device_size: Option<u64>, records: impl IntoIterator<Item = Record>) -> Vec<u8> {
    let header = TraceHeader {
        device_size: device_size.map(SectorCount),
        description: "bad".to_owned(),
    };
    let mut writer = TraceWriter::create(Path::new("t"), Vec::new(), &header).unwrap();
    for record in records {
        writer.push(&record).unwrap();
    }
    writer.finish().unwrap()
}

fn record(operation: TraceOperation, start: u64, count: u64) -> Record {
    Record {
        time: Nanoseconds(0),
        operation,
        preflush: false,
        fua: false,
        start: Sector(start),
        count: SectorCount(count),
    }
}

const IMPLIED: &str = "and a device of more than 256 GiB is only made if --size says so; on a smaller one \
    --past-end wrap, clip or scale says what becomes of the requests";

#[test]
fn no_device_is_made_of_a_size_that_only_a_trace_claims() {
    let sandbox = Sandbox::new();
    let header = own(Some(ALL), []);
    assert_eq!(header.len(), 83);
    sandbox.write("header", header);
    sandbox.write("far.csv", "1,R,281474976710144,512,1\n");
    for (trace, what) in [
        ("@header", "the recorded device has 8388608 TiB"),
        ("@far.csv", "the last request ends at 256 TiB"),
    ] {
        for options in [
            &[][..],
            &["--out", "@out"],
            &["--memory"],
            &["--memory", "--stamps-only"],
            &["--past-end", "wrap"],
            &["--past-end", "scale"],
        ] {
            let message = format!("{trace}: {what}, {IMPLIED}");
            refuses(&sandbox, &[&["replay", trace], options].concat(), &message);
        }
    }
    // What the message says.
    for past_end in ["wrap", "clip", "scale"] {
        let options = ["--memory", "--size", "1M", "--past-end", past_end];
        let args = [&["replay", "@far.csv"][..], &options].concat();
        assert_eq!(json(&sandbox, &args)["mismatches"], 0);
    }
    let message = "@far.csv: request 1, a read of 1 sector at sector 549755813887: it ends at sector \
                   549755813888, the device at sector 2048; --past-end wrap, clip or scale allows it";
    refuses(
        &sandbox,
        &["replay", "@far.csv", "--memory", "--size", "1M"],
        message,
    );
    // As large as the trace says, and larger, the size comes to its own limits.
    let message =
        "@out/backing.img: writing the backing file: the file would be larger than the host allows";
    let size = ["--size", "8000000T", "--past-end", "clip", "--out", "@out"];
    refuses(
        &sandbox,
        &[&["replay", "@header"][..], &size].concat(),
        message,
    );
}

/// A device whose model, map and files would take gigabytes if memory followed its size.
#[test]
fn the_memory_of_a_replay_follows_what_is_touched() {
    let sandbox = Sandbox::new();
    sandbox.write("far.csv", "1,W,219902325555200,512,1\n1,R,0,512,2\n");
    let message = "/memory/device.cow: resize to 109951162777600 bytes before request 0: headroom cannot \
                   do this: the shorter bitmap would move the data";
    for options in [&["--memory"][..], &["--memory", "--stamps-only"]] {
        let resize = ["--resize-at", "0:100T:headroom", "--shrink", "--lose-data"];
        let size = ["--size", "201T", "--past-end", "clip"];
        let args = [&["replay", "@far.csv"], options, &size, &resize].concat();
        // Everything is there when this fails: files, map and model.
        refuses(&sandbox, &args, message);
    }
}

#[test]
fn statistics_take_the_same_time_for_a_record_of_any_length() {
    let sandbox = Sandbox::new();
    let operations = [
        TraceOperation::Read,
        TraceOperation::Write,
        TraceOperation::Discard,
        TraceOperation::WriteZeroes,
    ];
    let mixed = (0..FRAME).map(|n| {
        let start = n * 977 % (1 << 20) * 8;
        record(operations[n as usize % 4], start, ALL - (1 << 23) - n)
    });
    let same = |operation| (0..FRAME).map(move |_| record(operation, 0, ALL));
    sandbox.write("mixed", own(None, mixed));
    sandbox.write("writes", own(None, same(TraceOperation::Write)));
    sandbox.write("discards", own(None, same(TraceOperation::Discard)));
    assert!(sandbox.read("writes").len() < 300, "so little says so much");
    let statistics = json(&sandbox, &["trace", "stat", "@writes"]);
    assert_eq!(statistics["working_set"]["written_bytes"], ALL * 512);
    assert_eq!(statistics["working_set"]["block_bytes"], 4096);
    let statistics = json(&sandbox, &["trace", "stat", "@mixed"]);
    assert_eq!(statistics["requests"], FRAME);
    let statistics = json(&sandbox, &["trace", "stat", "@discards"]);
    assert_eq!(statistics["working_set"]["touched_bytes"], 0);
    for trace in ["@mixed", "@writes", "@discards"] {
        assert_eq!(json(&sandbox, &["trace", "info", trace])["requests"], FRAME);
        let formats: &[&str] = match trace {
            "@mixed" => &["ubdtrace", "csv", "fio", "blkparse"],
            _ => &["ubdtrace"],
        };
        for format in formats {
            let said = succeeds(
                &sandbox,
                &["trace", "convert", trace, "@out", "--as", format],
            );
            assert!(said.starts_with("@out: 65,536 requests in "), "{said}");
        }
    }
    // Requests that share no page of the statistics.
    let apart = (0..FRAME).map(|n| record(TraceOperation::Read, n * (ALL / FRAME), 8));
    sandbox.write("apart", own(None, apart.chain(same(TraceOperation::Write))));
    let statistics = json(&sandbox, &["trace", "stat", "@apart"]);
    assert_eq!(statistics["working_set"]["written_bytes"], ALL * 512);
}

#[test]
fn a_replay_takes_the_same_time_for_zeros_and_discards_of_any_length() {
    let sandbox = Sandbox::new();
    let changes = [TraceOperation::Discard, TraceOperation::WriteZeroes];
    let long = (0..CHANGES).map(|n| record(changes[n as usize % 2], 0, ALL));
    let write = record(TraceOperation::Write, 8, 8);
    let read = record(TraceOperation::Read, 0, 16);
    sandbox.write("long", own(None, long.chain([write, read])));
    for past_end in ["wrap", "clip", "scale"] {
        for options in [&["--memory"][..], &["--memory", "--stamps-only"], &[]] {
            let size = ["--size", "64M", "--past-end", past_end];
            let report = json(
                &sandbox,
                &[&["replay", "@long"], &size[..], options].concat(),
            );
            assert_eq!(report["requests"], CHANGES + 2);
            assert_eq!(report["mismatches"], 0);
        }
    }
}

/// One line of a trace implies a device of 256 GiB, and some hundred bytes touch all of it.
#[test]
fn the_time_of_a_replay_follows_what_is_touched() {
    let sandbox = Sandbox::new();
    let size = 256 << 21;
    sandbox.write("end.csv", format!("1,W,{},4096,1\n", (size - 8) * 512));
    let zeros = [
        record(TraceOperation::Discard, 0, size),
        // On files these take their space.
        record(TraceOperation::WriteZeroes, size / 4, 64 << 11),
        record(TraceOperation::Read, size / 2, 256),
    ];
    sandbox.write("zeros", own(None, zeros));
    // No more than a few pages of the model, and hole after hole between them.
    let apart = (0..1 << 11).map(|n| record(TraceOperation::Write, n * (size >> 11), 1));
    sandbox.write("apart", own(Some(size), apart));
    for (trace, read, most) in [
        ("@end.csv", 0, 1 << 20),
        ("@zeros", 256, 1 << 20),
        ("@apart", 0, 2 << 20),
    ] {
        for options in [&["--memory"][..], &["--memory", "--stamps-only"], &[]] {
            let report = json(&sandbox, &[&["replay", trace], options].concat());
            assert_eq!(report["mismatches"], 0, "{trace} {options:?}");
            let field = |name: &str| report[name].as_u64().unwrap();
            let verified = field("sectors_verified");
            assert_eq!(verified + field("sectors_in_holes"), read + 2 * size);
            assert!(verified <= most, "{verified} of {trace} {options:?}");
            let sampled = field("sectors_sampled");
            assert!((1 << 17..=1 << 18).contains(&sampled), "{sampled}");
        }
    }
    // Growing to such a size costs no more.
    sandbox.write("small.csv", "1,W,0,4096,1\n");
    let grown = ["--size", "1M", "--resize-at", "0:256G"];
    let report = json(&sandbox, &[&["replay", "@small.csv"][..], &grown].concat());
    assert_eq!(report["mismatches"], 0);
}

#[test]
fn a_replay_that_may_need_more_memory_than_allowed_is_refused_before_it_begins() {
    let sandbox = Sandbox::new();
    let reads = [0, 1, 2].map(|n| record(TraceOperation::Read, n << 22, 1 << 22));
    sandbox.write("reads", own(None, reads));
    let scattered = (0..FRAME).map(|n| record(TraceOperation::Write, n * 4096, 8));
    sandbox.write("writes", own(None, scattered));
    let says = |request: u64, limit: &str| {
        format!(
            "up to request {request} the replay may need more than {limit} of memory: --memory-limit allows \
             more; a device in files takes less, and a smaller one (--size, with --past-end wrap, clip or scale)"
        )
    };
    refuses(
        &sandbox,
        &["replay", "@reads", "--memory"],
        &format!("@reads: {}", says(2, "4 GiB")),
    );
    // 128 KiB in flight, 16 MiB of stamps all over the backing file, 64 KiB of stamps around each
    // write, 34.5 KiB a request, and twice the host's part of these where a rebuild has two files.
    let limited = ["replay", "@writes", "--memory", "--memory-limit", "64M"];
    refuses(
        &sandbox,
        &limited,
        &format!("@writes: {}", says(499, "64 MiB")),
    );
    let resized = [&limited[..], &["--resize-at", "5:200G"]].concat();
    refuses(
        &sandbox,
        &resized,
        &format!("@writes: {}", says(376, "64 MiB")),
    );
    // On files the model alone.
    let on_files = [
        "replay",
        "@writes",
        "--out",
        "@out",
        "--memory-limit",
        "64M",
    ];
    refuses(
        &sandbox,
        &on_files,
        &format!("@writes: {}", says(26_164, "64 MiB")),
    );
    let stamps = [
        "replay",
        "@writes",
        "--memory",
        "--stamps-only",
        "--memory-limit",
        "64M",
    ];
    refuses(
        &sandbox,
        &stamps,
        &format!("@writes: {}", says(500, "64 MiB")),
    );
    // The payload in flight counts: 32 pieces of 4 MiB.
    let long = record(TraceOperation::Write, 0, 400 << 11);
    sandbox.write("long", own(None, [long]));
    let tight = ["replay", "@long", "--memory", "--size", "20G"];
    refuses(
        &sandbox,
        &[&tight[..], &["--memory-limit", "500M"]].concat(),
        &format!("@long: {}", says(1, "500 MiB")),
    );
    let smaller = [&limited[..], &["--size", "8M", "--past-end", "wrap"]].concat();
    assert_eq!(json(&sandbox, &smaller)["mismatches"], 0);
}

#[test]
fn what_a_trace_moves_and_how_long_it_lasts_are_bounded_unless_somebody_says() {
    let sandbox = Sandbox::new();
    let gigabytes = (0..FRAME).map(|_| record(TraceOperation::Write, 0, 1 << 21));
    sandbox.write("writes", own(None, gigabytes));
    let message = "@writes: up to request 16385 the trace reads and writes more than 16 TiB: --limit takes as \
                   many requests as it says, however much they move";
    refuses(&sandbox, &["replay", "@writes"], message);
    // What does not fit the device is not moved.
    let smaller = [
        "replay",
        "@writes",
        "--memory",
        "--size",
        "1M",
        "--past-end",
        "clip",
    ];
    let limit = ["--limit", "3"];
    let report = json(&sandbox, &[&smaller[..], &limit].concat());
    assert_eq!(report["sectors_written"], 3 * 2048);
    let late = Record {
        time: Nanoseconds(1 << 63),
        ..record(TraceOperation::Write, 0, 8)
    };
    sandbox.write(
        "late",
        own(None, [record(TraceOperation::Write, 0, 8), late]),
    );
    let message = "@late: request 2 comes 9223372036.854775808 s after the first, more than 30 days at \
                   this speed: --speed makes it less, and --to or --limit end before it";
    for pace in ["recorded", "think-time"] {
        let args = ["replay", "@late", "--memory", "--pace", pace];
        refuses(&sandbox, &args, message);
        let sooner = [&args[..], &["--to", "1s"]].concat();
        assert_eq!(json(&sandbox, &sooner)["requests"], 1);
    }
    assert_eq!(
        json(&sandbox, &["replay", "@late", "--memory"])["requests"],
        2
    );
}

/// On files zeros take their space: one record of a few bytes could fill the host's disk.
#[test]
fn what_a_trace_writes_zeros_to_in_files_is_bounded_unless_somebody_says() {
    let sandbox = Sandbox::new();
    let size = 256 << 21;
    let message = |trace: &str, request: u64| {
        format!(
            "{trace}: up to request {request} the trace writes zeros to more than 32 GiB of the \
             device, which takes as much space in its files: --limit takes as many requests as it \
             says, and with --memory zeros take none"
        )
    };
    sandbox.write(
        "all",
        own(None, [record(TraceOperation::WriteZeroes, 0, size)]),
    );
    refuses(
        &sandbox,
        &["replay", "@all", "--out", "@out"],
        &message("@all", 1),
    );
    let report = json(&sandbox, &["replay", "@all", "--memory"]);
    assert_eq!(report["mismatches"], 0);
    // Side by side they add up, over each other they do not.
    let gigabyte = 1 << 21;
    let apart = [(0, 1), (1, 32)].map(|(start, count)| {
        record(
            TraceOperation::WriteZeroes,
            start * gigabyte,
            count * gigabyte,
        )
    });
    sandbox.write("apart", own(Some(size), apart));
    refuses(
        &sandbox,
        &["replay", "@apart", "--out", "@out"],
        &message("@apart", 2),
    );
    let again = (0..40).map(|_| record(TraceOperation::WriteZeroes, 0, 2048));
    sandbox.write("again", own(Some(size), again));
    let clipped = ["--size", "1M", "--past-end", "clip"];
    for args in [
        &["replay", "@again"][..],
        &[&["replay", "@all"][..], &clipped].concat(),
    ] {
        assert_eq!(json(&sandbox, args)["mismatches"], 0, "{args:?}");
    }
    let said = ["--limit", "1", "--past-end", "wrap", "--size", "1M"];
    let report = json(&sandbox, &[&["replay", "@apart"][..], &said].concat());
    assert_eq!(report["mismatches"], 0);
}

/// What is beside a trace was not asked for: only regular files are opened.
#[test]
fn nothing_is_waited_for_beside_a_trace() {
    let sandbox = Sandbox::new();
    let sample = |name: &str| std::fs::read(bundled("samples").join(name)).unwrap();
    let [first, second] = [0, 1].map(|n| sample(&format!("v7-little.blktrace.{n}")));
    sandbox.write("t.blktrace.0", &first);
    sandbox.write("t.blktrace.1", &second);
    let alone = json(&sandbox, &["trace", "info", "@t.blktrace.0"]);
    let fifo = |name: &str| {
        let made = Command::new("mkfifo").arg(sandbox.path(name)).status();
        assert!(made.unwrap().success());
    };
    fifo("t.blktrace.2");
    std::fs::create_dir(sandbox.path("t.blktrace.3")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(sandbox.path("t.blktrace.4"));
    // A link is the author's choice of a file, whatever it leads to.
    sandbox.write("secret", b"root:*:20228:0:99999:7:::\n");
    for (cpu, to) in [(5, "/dev/zero"), (6, "secret"), (7, "nowhere")] {
        let link = sandbox.path(&format!("t.blktrace.{cpu}"));
        std::os::unix::fs::symlink(to, link).unwrap();
    }
    let mut beside = json(&sandbox, &["trace", "info", "@t.blktrace.0"]);
    assert_eq!(beside["files_left_out"], 6);
    beside["files_left_out"] = 0.into();
    assert_eq!(beside, alone);
    let text = succeeds(&sandbox, &["trace", "info", "@t.blktrace.1"]);
    let said = "format      blktrace version 7, little endian, 2 files, and 6 beside left out: no regular files, or read in another form\n";
    assert!(text.starts_with(said), "{text}");
    succeeds(&sandbox, &["trace", "stat", "@t.blktrace.0"]);
    succeeds(&sandbox, &["trace", "convert", "@t.blktrace.0", "@out"]);
    let small = ["--memory", "--past-end", "wrap", "--size", "1M"];
    succeeds(
        &sandbox,
        &[&["replay", "@t.blktrace.0"][..], &small].concat(),
    );
    drop(socket);
    // One that is named is read, once, to its end.
    fifo("named.blktrace.0");
    let path = sandbox.path("named.blktrace.0");
    let writer = std::thread::spawn(move || {
        let mut pipe = File::options().write(true).open(path).unwrap();
        pipe.write_all(&first).unwrap();
    });
    let named = json(&sandbox, &["trace", "info", "@named.blktrace.0"]);
    writer.join().unwrap();
    assert_eq!(
        (&named["files"], &named["files_left_out"]),
        (&1.into(), &0.into())
    );
}

/// What a trace of fio begins with.
const HEAD: &[u8] = b"fio version 2 iolog\n";

/// A MiB of lines of nothing but spaces: fewer lines than if they were empty take less time.
fn empty_lines() -> Vec<u8> {
    let mut line = vec![b' '; 2048];
    line[2047] = b'\n';
    line.repeat(1 << 9)
}

/// A GiB of lines without a request, in some hundred kilobytes.
#[test]
fn a_compressed_trace_gives_no_more_than_in_proportion() {
    let sandbox = Sandbox::new();
    // Frames one after the other: the compressor sees a thousandth of it.
    let mut zstd = zstd::encode_all(HEAD, 1).unwrap();
    zstd.extend(
        zstd::encode_all(&empty_lines()[..], 3)
            .unwrap()
            .repeat(1 << 10),
    );
    assert!(zstd.len() < 200_000, "{}", zstd.len());
    sandbox.write("lines.zst", zstd);
    for command in [
        &["trace", "info", "@lines.zst"][..],
        &["trace", "convert", "@lines.zst", "@out"],
        &["replay", "@lines.zst", "--memory"],
    ] {
        let output = limited(&sandbox, command);
        let error = sandbox.text(&output.stderr);
        let begins = "ubdlab: @lines.zst: decompressed offset ";
        assert!(error.starts_with(begins), "{error}");
        let ends = " compressed ones before, which is no trace; decompress it first if it is one\n";
        assert!(
            error.contains(": found more than 2048 bytes for each of the "),
            "{error}"
        );
        assert!(error.ends_with(ends), "{error}");
        assert_eq!(output.status.code(), Some(3));
    }
    // The densest gzip stays below that, and takes the time of what it is made of.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(HEAD).unwrap();
    for _ in 0..8 {
        gzip.write_all(&empty_lines()).unwrap();
    }
    sandbox.write("lines.gz", gzip.finish().unwrap());
    let output = limited(&sandbox, &["trace", "info", "@lines.gz", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["requests"], &report["compression"]),
        (&0.into(), &"gzip".into())
    );
}

/// The largest window that zstd takes by itself is 128 MiB: a hundred files of a few bytes would
/// take 12 GiB together.
#[test]
fn windows_of_files_side_by_side_come_out_of_one_gibibyte() {
    let sandbox = Sandbox::new();
    let record = std::fs::read(bundled("samples").join("v7-little.blktrace.0")).unwrap();
    // A frame with a window of 128 MiB and one raw block, which is the last.
    let length = u32::try_from(record.len()).unwrap() << 3 | 1;
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, (27 - 10) << 3];
    frame.extend(&length.to_le_bytes()[..3]);
    frame.extend(&record);
    sandbox.write("t.blktrace.0.zst", &frame);
    assert_eq!(
        json(&sandbox, &["trace", "info", "@t.blktrace.0.zst"])["files"],
        1
    );
    for n in 1..100 {
        sandbox.write(&format!("t.blktrace.{n}.zst"), &frame);
    }
    refuses(
        &sandbox,
        &["trace", "info", "@t.blktrace.0.zst"],
        "@t.blktrace.1.zst: decompressed offset 0: Frame requires too much memory for decoding",
    );
}

/// A length that says nothing is not believed.
#[test]
fn a_case_is_read_no_further_than_a_case_can_be_long() {
    let sandbox = Sandbox::new();
    refuses(
        &sandbox,
        &["fuzz", "--repro", "/dev/zero"],
        "/dev/zero: found more than 16777216 bytes, expected a case, which has at most as many",
    );
}

/// A file may be longer than it has bytes: its index is taken in as far as it can be right.
#[test]
fn an_index_of_holes_takes_no_memory() {
    use std::os::unix::fs::FileExt;
    let sandbox = Sandbox::new();
    // 16 GiB of index, as the trailer tells it: more than the frames before it could fill.
    let frames = 1_u64 << 29;
    let header = &own(None, [])[..35];
    let mut trailer = Vec::new();
    trailer.extend(35_u64.to_le_bytes());
    trailer.extend(frames.to_le_bytes());
    trailer.extend(1_u64.to_le_bytes());
    trailer.extend(0_u32.to_le_bytes());
    trailer.extend([0; 4]);
    let crc = crc32c::crc32c(&trailer);
    trailer.extend(crc.to_le_bytes());
    trailer.extend(b"UBDE");
    let file = File::create(sandbox.path("holes")).unwrap();
    file.write_all_at(header, 0).unwrap();
    file.write_all_at(b"UBDI", 35).unwrap();
    if let Err(error) = file.write_all_at(&trailer, 35 + 8 + 32 * frames) {
        eprintln!("skipped: no file of 16 GiB here: {error}");
        return;
    }
    let mut reader = CompactReader::open(&sandbox.path("holes")).unwrap();
    let error = reader.records().unwrap_err().to_string();
    let expected = "offset 43: found an entry for offset 0, record 0, expected entries in order, inside the file";
    assert!(error.ends_with(expected), "{error}");
}
