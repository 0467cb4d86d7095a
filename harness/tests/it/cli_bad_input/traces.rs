//! Traces that cannot be read. Nothing is written before the whole trace has been seen.

use crate::support::cli::{Sandbox, bundled, ftrace, vscsi};

/// Refused by whatever reads a trace, in memory, on files and on a device.
fn refused(content: &[u8], message: &str) {
    let sandbox = Sandbox::with_device();
    sandbox.write("bad", content);
    let message = format!("@bad: {message}");
    sandbox.refuses(&["replay", "@bad", "--memory"], &message);
    sandbox.refuses(&["replay", "@bad", "--out", "@out"], &message);
    sandbox.refuses(
        &[
            "replay",
            "@bad",
            "--out",
            "@out",
            "--size",
            "64M",
            "--past-end",
            "wrap",
        ],
        &message,
    );
    sandbox.refuses(
        &[
            "replay",
            "@bad",
            "--device",
            "ubda=@cow",
            "--past-end",
            "clip",
        ],
        &message,
    );
    sandbox.refuses(
        &[
            "replay",
            "@bad",
            "--device",
            "ubda=@new,@backing",
            "--past-end",
            "clip",
        ],
        &message,
    );
    sandbox.refuses(&["trace", "info", "@bad"], &message);
    sandbox.refuses(&["trace", "convert", "@bad", "@converted"], &message);
    // An older conversion stays.
    sandbox.refuses(&["trace", "convert", "@bad", "@trace"], &message);
}

#[test]
fn a_vscsi_trace_cut_in_a_record() {
    refused(
        &vscsi(10)[..9 * 40 + 13],
        "offset 360: the trace is cut: found 13 bytes before the end of the file, expected a record \
         of 40 bytes",
    );
}

#[test]
fn an_ftrace_line_cut() {
    let whole = ftrace(&[("WS", 0, 8), ("WS", 8, 8)]);
    refused(
        &whole.as_bytes()[..whole.len() - 10],
        "line 2, offset 69: the trace is cut: found \"dd-1 [000] ..... 1.000001: block_rq_issue: \
         8,0 WS 4096 () 8\" and no line feed, expected block_rq_issue: \"major,minor RWBS bytes () \
         sector + count prio [comm]\"",
    );
}

#[test]
fn a_trace_of_our_own_cut() {
    let whole = std::fs::read(bundled("sqlite-wal.ubdtrace")).unwrap();
    refused(
        &whole[..whole.len() - 1],
        "offset 99307: the trace is cut: found 71 bytes, no trailer, before the end of the file, \
         expected whole index entries, then a trailer of 40 bytes",
    );
    refused(
        &whole[..whole.len() / 2],
        "offset 196: the trace is cut: found 49493 bytes before the end of the file, expected 99103 \
         bytes: a frame's payload",
    );
    refused(
        &whole[..20],
        "offset 0: the trace is cut: found 20 bytes before the end of the file, expected 32 bytes: \
         the header",
    );
}

#[test]
fn a_damaged_trace_of_our_own() {
    let mut damaged = std::fs::read(bundled("sqlite-wal.ubdtrace")).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    refused(
        &damaged,
        "offset 184: found checksum 0x57d4ebcc of the payload, expected 0xb34825be, its content's",
    );
}

#[test]
fn a_format_that_cannot_be_told() {
    let understood = "the format of this trace cannot be told: found";
    let expected = "at offset 0, expected one of ubdtrace, blktrace (binary, version 7 or 8), blkparse \
        text, ftrace, trace-cmd report or perf script text with block events, the blk tracer's text, \
        biosnoop's table, fio iolog (version 2 or 3), FIU's words, CSV of MSR Cambridge, SYSTOR '17, \
        Alibaba, Tencent, SPC or ubdlab, vscsi (version 1 or 2), \
        dm-log-writes, each of them plain or compressed with gzip or zstd";
    refused(
        b"GIF89a\x1b[2J",
        &format!("{understood} \"GIF89a\\x1b[2J\" {expected}"),
    );
    refused(b"", &format!("{understood} nothing {expected}"));
}

#[test]
fn no_trace_at_all() {
    let sandbox = Sandbox::with_device();
    for command in [
        vec!["replay", "@missing", "--device", "ubda=@cow"],
        vec!["trace", "info", "@missing"],
        vec!["trace", "convert", "@missing", "@new"],
    ] {
        sandbox.refuses(&command, "@missing: opening: no such file or directory");
    }
    std::fs::create_dir(sandbox.path("directory")).unwrap();
    for command in [
        vec!["replay", "@directory", "--device", "ubda=@cow"],
        vec!["trace", "info", "@directory"],
    ] {
        sandbox.refuses(&command, "@directory: opening: is a directory");
    }
}

#[test]
fn nowhere_to_convert_to() {
    let sandbox = Sandbox::with_device();
    sandbox.refuses(
        &["trace", "convert", "@trace", "@no/where"],
        "@no/where: writing: there is no directory @no",
    );
    std::fs::create_dir(sandbox.path("directory")).unwrap();
    sandbox.refuses(
        &["trace", "convert", "@trace", "@directory"],
        "@directory: writing: found a directory, expected a regular file, a character device, a FIFO \
         or nothing; nothing was changed",
    );
}
