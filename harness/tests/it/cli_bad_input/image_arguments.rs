//! Arguments of `ubdlab image` that cannot be: sizes, outputs, directories, usage.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;

use super::image::{image, sandbox};
use crate::support::images::read;

/// As clap prints an argument that is none.
fn no_value(value: &str, option: &str, found: &str) -> String {
    format!(
        "error: invalid value '{value}' for '{option}': {found}\n\nFor more information, try \
         '--help'.\n"
    )
}

#[test]
fn sizes_that_are_none() {
    let sandbox = sandbox();
    let not_zero = "expected the size of a device, which is not zero";
    let at_most = "expected at most 9223372036854775807 bytes";
    for (size, found) in [
        ("0", format!("at byte 0: found \"0\", {not_zero}")),
        (
            "511",
            "at byte 0: found \"511\", expected a multiple of 512 bytes: the nearest size of \
             whole sectors is 512"
                .into(),
        ),
        (
            "12Q",
            "at byte 2: found 'Q', expected one of the suffixes K, M, G, T, P, E or nothing".into(),
        ),
        (
            "9223372036854775808",
            format!("at byte 0: found \"9223372036854775808\", {at_most}"),
        ),
        (
            "16777216T",
            format!("at byte 0: found \"16777216T\", {at_most}"),
        ),
        (
            "x",
            "at byte 0: found 'x', expected a size such as 400M".into(),
        ),
    ] {
        sandbox.fails(
            &["image", "resize", "@cow", size],
            2,
            &no_value(size, "<[+|-]SIZE>", &found),
        );
        for option in ["--size", "--max-size"] {
            let value = format!("{option}={size}");
            let args = ["image", "create", "@new", "--backing", "@backing", &value];
            sandbox.fails(
                &args,
                2,
                &no_value(size, &format!("{option} <SIZE>"), &found),
            );
        }
    }
    for (size, found) in [
        ("+0", format!("at byte 0: found \"0\", {not_zero}")),
        ("-0", format!("at byte 0: found \"0\", {not_zero}")),
        (
            "+511",
            "at byte 0: found \"511\", expected a multiple of 512 bytes: the nearest size of \
             whole sectors is 512"
                .into(),
        ),
        (
            "+",
            "at byte 0: found the end, expected a size such as 400M".into(),
        ),
        (
            "--5",
            "at byte 0: found '-', expected a size such as 400M".into(),
        ),
    ] {
        let message = no_value(size, "<[+|-]SIZE>", &found);
        sandbox.fails(&["image", "resize", "@cow", size], 2, &message);
    }
}

#[test]
fn sizes_that_no_device_can_have() {
    let sandbox = sandbox();
    let resize = |size: &str, message: &str| {
        sandbox.refuses(&["image", "resize", "@cow", size, "--shrink"], message);
    };
    resize(
        "+9223372036854774784",
        "@cow: a device of 9223372036855823360 bytes fits into no COW file",
    );
    resize(
        "9223372036854775296",
        "@cow: a device of 9223372036854775296 bytes fits into no COW file",
    );
    resize("-1M", "@cow: the device has no such size: 1 MiB -1 MiB");
    resize("-2M", "@cow: the device has no such size: 1 MiB -2 MiB");
    sandbox.refuses(
        &["image", "resize", "@cow", "512K"],
        "@cow: 524288 bytes are less than the device's 1048576 bytes: a resize makes it smaller \
         only with --shrink",
    );
    sandbox.refuses(
        &["image", "resize", "@cow", "1G", "--strategy", "headroom"],
        "@cow: headroom cannot do this: the bitmap has room for a device of 16 MiB, not more",
    );
    sandbox.refuses(
        &[
            "image",
            "resize",
            "@cow",
            "512K",
            "--shrink",
            "--lose-data",
            "--strategy",
            "reflow",
        ],
        "@cow: reflow cannot do this: it moves data up only, and a shrink moves it down",
    );
    sandbox.refuses(
        &[
            "image",
            "resize",
            "@cow",
            "512K",
            "--shrink",
            "--lose-data",
            "--extend-backing",
        ],
        "@backing: found 1 MiB, which is more than the device's 512 KiB: --extend-backing makes no \
         backing file smaller",
    );
}

#[test]
fn new_images_that_cannot_be() {
    let sandbox = sandbox();
    let create = |more: &[&str], message: &str| {
        let args = ["image", "create", "@new", "--backing", "@backing"];
        sandbox.refuses(&[&args[..], more].concat(), message);
    };
    create(
        &["--size", "512K"],
        "@new: found 524288 bytes, expected 1048576 bytes: a new device is as large as its backing \
         file or larger",
    );
    create(
        &["--max-size", "512K"],
        "@new: found a largest size of 512 KiB, but the device has 1 MiB",
    );
    create(
        &["--max-size", "8T"],
        "@new: found a largest size of 8 TiB: a device of 1 MiB can be given room for 4194288 MiB at \
         most, or stock Linux could not reach its data. A resize past that moves the data. The most \
         is asked for with --max-size 4194288M",
    );
    for (backing, message) in [
        (
            "@none",
            "@none: opening the backing file: no such file or directory",
        ),
        (
            "/dev/zero",
            "/dev/zero: found a FIFO, socket or character device, expected a regular file or a \
             block device",
        ),
        (
            "@new",
            "@new: opening the backing file: no such file or directory",
        ),
    ] {
        sandbox.refuses(&["image", "create", "@new", "--backing", backing], message);
    }
    sandbox.refuses(
        &["image", "create", "@no/new", "--backing", "@backing"],
        "@no/.new.ubdlab-new: creating: no such file or directory",
    );
    sandbox.refuses(
        &["image", "create", "@cow", "--backing", "@backing"],
        "@cow: creating: the file exists already",
    );
    let long = "d".repeat(220);
    let mut path = long.clone();
    for _ in 0..20 {
        path = format!("{path}/../{long}");
    }
    std::fs::create_dir(sandbox.path(&long)).unwrap();
    std::fs::hard_link(sandbox.path("backing"), sandbox.path(&long).join("b")).unwrap();
    let backing = format!("@{path}/b");
    // Longer than the header's field, and than any path may be: what it comes to is short.
    sandbox.succeeds(&["image", "create", "@new", "--backing", &backing]);
    let named = read(&sandbox.read("new")).header.path;
    assert_eq!(sandbox.text(&named), format!("@{long}/b"));
}

#[test]
fn outputs_that_exist() {
    let sandbox = sandbox();
    let exists = "@other: exists already: nothing is written over";
    sandbox.refuses(&["image", "merge", "@cow", "@other"], exists);
    for to in ["raw", "v2", "v3"] {
        let args = ["image", "convert", "@cow", "@other", "--to", to];
        sandbox.refuses(&args, exists);
    }
    let onto = "@backing: is the backing file @backing by another name: nothing is written over";
    sandbox.refuses(&["image", "merge", "@cow", "@backing"], onto);
    std::os::unix::fs::symlink("nowhere", sandbox.path("dangling")).unwrap();
    sandbox.refuses(
        &["image", "merge", "@cow", "@dangling"],
        "@dangling: creating: the file exists already",
    );
    sandbox.refuses(
        &["image", "merge", "@cow", "@no/new"],
        "@no/.new.ubdlab-new: creating: no such file or directory",
    );
}

/// Root writes anywhere, so that nobody but others can be tested.
#[test]
fn a_directory_that_cannot_be_written() {
    let sandbox = sandbox();
    std::fs::create_dir(sandbox.path("closed")).unwrap();
    let mode = std::fs::Permissions::from_mode(0o555);
    std::fs::set_permissions(sandbox.path("closed"), mode).unwrap();
    if File::create(sandbox.path("closed/probe")).is_ok() {
        std::fs::remove_file(sandbox.path("closed/probe")).unwrap();
        eprintln!("skipped: root writes anywhere");
        return;
    }
    let denied = "@closed/.new.ubdlab-new: creating: permission denied";
    sandbox.refuses(&["image", "merge", "@cow", "@closed/new"], denied);
    sandbox.refuses(&["image", "convert", "@cow", "@closed/new"], denied);
    let args = ["image", "create", "@closed/new", "--backing", "@backing"];
    sandbox.refuses(&args, denied);
}

#[test]
fn usage() {
    let sandbox = sandbox();
    for (args, problem) in [
        (
            &["merge", "@cow"][..],
            "the following required arguments were not provided:\n  <OUTPUT>\n\nUsage: ubdlab image \
             merge [OPTIONS] <COW> <OUTPUT>\n       ubdlab image merge [OPTIONS] <COW> --in-place",
        ),
        (
            &["merge", "@cow", "@new", "--in-place"],
            "the argument '[OUTPUT]' cannot be used with '--in-place'\n\nUsage: ubdlab image merge \
             [OPTIONS] <COW> <OUTPUT>\n       ubdlab image merge [OPTIONS] <COW> --in-place",
        ),
        (
            &["resize", "@cow", "2M", "--lose-data"],
            "the following required arguments were not provided:\n  --shrink\n\nUsage: ubdlab image \
             resize --shrink --lose-data <COW> <[+|-]SIZE>",
        ),
        (
            &["create", "@new"],
            "the following required arguments were not provided:\n  --backing <FILE>\n\nUsage: \
             ubdlab image create --backing <FILE> <COW>",
        ),
    ] {
        let message = format!("error: {problem}\n\nFor more information, try '--help'.\n");
        sandbox.fails(&image(args), 2, &message);
    }
}
