//! Resizes and requests that the device cannot have.

use crate::support::cli::{SIZE, Sandbox, ftrace};

fn resize_refused(sandbox: &Sandbox, more: &[&str], message: &str) {
    let mut args = vec!["replay", "@trace", "--device", "ubda=@cow"];
    args.extend(more);
    sandbox.refuses(&args, message);
}

#[test]
fn sizes_that_are_none() {
    let sandbox = Sandbox::with_device();
    for (size, found) in [
        (
            "0",
            "at byte 0: found \"0\", expected the size of a device, which is not zero",
        ),
        (
            "0M",
            "at byte 0: found \"0M\", expected the size of a device, which is not zero",
        ),
        (
            "1000",
            "at byte 0: found \"1000\", expected a multiple of 512 bytes: the nearest sizes of \
             whole sectors are 512 and 1024",
        ),
        (
            "9223372036854775808",
            "at byte 0: found \"9223372036854775808\", expected at most 9223372036854775807 bytes",
        ),
        (
            "16777216T",
            "at byte 0: found \"16777216T\", expected at most 9223372036854775807 bytes",
        ),
        (
            "99999999999999999999999",
            "at byte 0: found \"99999999999999999999999\", expected at most 9223372036854775807 bytes",
        ),
        ("", "at byte 0: found the end, expected a size such as 400M"),
        ("-1", "at byte 0: found '-', expected a size such as 400M"),
        (
            "12Q",
            "at byte 2: found 'Q', expected one of the suffixes K, M, G, T, P, E or nothing",
        ),
        (
            "12MB",
            "at byte 0: found \"12MB\", which is 12000000 bytes to some and 12582912 to others, expected \
             12M (powers of 1024) or a number of bytes",
        ),
    ] {
        let usage = |option: &str, value: &str, found: &str| {
            format!(
                "error: invalid value '{value}' for '{option}': {found}\n\nFor more information, try \
                 '--help'.\n"
            )
        };
        let at = format!("0:{size}");
        sandbox.fails(
            &[
                "replay",
                "@trace",
                "--device",
                "ubda=@cow",
                "--resize-at",
                &at,
            ],
            2,
            &usage("--resize-at <REQUEST:SIZE[:STRATEGY]>", &at, found),
        );
        // clap has its own words for a value that is missing.
        if !size.is_empty() {
            sandbox.fails(
                &["replay", "@trace", "--memory", &format!("--size={size}")],
                2,
                &usage("--size <SIZE>", size, found),
            );
        }
    }
}

#[test]
fn less_than_now() {
    let sandbox = Sandbox::with_device();
    let shrink = "524288 bytes are less than the device's 1048576 bytes: a resize makes it smaller \
                  only with --shrink";
    resize_refused(
        &sandbox,
        &["--resize-at", "0:512K"],
        &format!("@cow: resize to 524288 bytes before request 0: {shrink}"),
    );
    resize_refused(
        &sandbox,
        &["--resize-at", "1:2M", "--resize-at", "2:512K"],
        "@cow: resize to 524288 bytes before request 2: 524288 bytes are less than the device's \
         2097152 bytes: a resize makes it smaller only with --shrink",
    );
    sandbox.refuses(
        &["replay", "@trace", "--device", "ubda=@cow,@backing,512K"],
        &format!("@cow: {shrink}"),
    );
    sandbox.refuses(
        &["replay", "@trace", "--device", "ubda=@new,@backing,512K"],
        &format!("@new: {shrink}"),
    );
}

#[test]
fn less_than_the_data_there_is() {
    let sandbox = Sandbox::with_device();
    // Sector 1999 is the last but 48.
    sandbox.write("fill", ftrace(&[("WS", 1992, 8)]));
    sandbox.succeeds(&["replay", "@fill", "--device", "ubda=@cow"]);
    let lost = "524288 bytes (512 KiB) of data lie past the new end, the first at sector 1024 (4096 of them \
                in the COW file, 520192 in the backing file): they would be lost (--lose-data says \
                that this is meant)";
    resize_refused(
        &sandbox,
        &["--resize-at", "0:512K", "--shrink"],
        &format!("@cow: resize to 524288 bytes before request 0: {lost}"),
    );
    sandbox.refuses(
        &[
            "replay",
            "@trace",
            "--device",
            "ubda=@cow,@backing,512K",
            "--shrink",
        ],
        &format!("@cow: {lost}"),
    );
    sandbox.succeeds(&[
        "replay",
        "@trace",
        "--device",
        "ubda=@cow",
        "--resize-at",
        "0:512K",
        "--shrink",
        "--lose-data",
    ]);
}

#[test]
fn more_than_a_file_can_be() {
    let sandbox = Sandbox::with_device();
    let biggest = "9223372036854775296";
    for request in ["0", "1", "7"] {
        resize_refused(
            &sandbox,
            &["--resize-at", &format!("{request}:{biggest}")],
            &format!(
                "@cow: resize to {biggest} bytes before request {request}: a device of {biggest} \
                 bytes fits into no COW file"
            ),
        );
    }
    sandbox.refuses(
        &[
            "replay",
            "@trace",
            "--device",
            &format!("ubda=@cow,@backing,{biggest}"),
        ],
        &format!("@cow: a device of {biggest} bytes fits into no COW file"),
    );
}

#[test]
fn a_strategy_that_cannot_do_it() {
    let sandbox = Sandbox::with_device();
    resize_refused(
        &sandbox,
        &["--resize-at", "0:1G:headroom"],
        "@cow: resize to 1073741824 bytes before request 0: headroom cannot do this: the bitmap has \
         room for a device of 16 MiB, not more",
    );
}

#[test]
fn a_request_past_the_end() {
    let sandbox = Sandbox::with_device();
    let end = SIZE / 512;
    sandbox.write("trace", ftrace(&[("WS", 0, 8), ("WS", end - 4, 8)]));
    resize_refused(
        &sandbox,
        &[],
        "@trace: request 2, a write of 8 sectors at sector 2044: it ends at sector 2052, the device \
         at sector 2048; --past-end wrap, clip or scale allows it",
    );
    sandbox.refuses(
        &["replay", "@trace", "--memory", "--size", "512K"],
        "@trace: request 2, a write of 8 sectors at sector 2044: it ends at sector 2052, the device \
         at sector 1024; --past-end wrap, clip or scale allows it",
    );
    sandbox.refuses(
        &["replay", "@trace", "--device", "ubda=@new,@backing"],
        "@trace: request 2, a write of 8 sectors at sector 2044: it ends at sector 2052, the device \
         at sector 2048; --past-end wrap, clip or scale allows it",
    );
    // With a resize before it, it is inside: the replay waits for that.
    sandbox.succeeds(&[
        "replay",
        "@trace",
        "--device",
        "ubda=@cow",
        "--resize-at",
        "1:2M:rebuild",
    ]);
}
