//! Wrong usage: status 2, and the way to the right one.

use std::os::unix::fs::PermissionsExt;

use crate::support::cli::Sandbox;

fn misused(args: &[&str], message: &str) {
    Sandbox::with_device().fails(
        args,
        2,
        &format!("error: {message}\n\nFor more information, try '--help'.\n"),
    );
}

#[test]
fn options_that_contradict_each_other() {
    let replay = ["replay", "@trace"];
    for (options, usage, message) in [
        (
            vec!["--device", "ubda=@cow", "--memory"],
            "--device <SPEC>",
            "the argument '--device <SPEC>' cannot be used with '--memory'",
        ),
        (
            vec!["--device", "ubda=@cow", "--size", "1M"],
            "--device <SPEC>",
            "the argument '--device <SPEC>' cannot be used with '--size <SIZE>'",
        ),
        (
            vec!["--device", "ubda=@cow", "--out", "@out"],
            "--device <SPEC>",
            "the argument '--device <SPEC>' cannot be used with '--out <DIR>'",
        ),
        (
            vec!["--memory", "--out", "@out"],
            "--memory",
            "the argument '--memory' cannot be used with '--out <DIR>'",
        ),
    ] {
        let args = [&replay[..], &options].concat();
        misused(
            &args,
            &format!("{message}\n\nUsage: ubdlab replay {usage} <TRACE>"),
        );
    }
}

#[test]
fn options_that_need_another() {
    for (option, needed) in [
        ("--lose-data", "--shrink"),
        ("--switch-backing", "--device <SPEC>"),
        ("--confine-backing", "--device <SPEC>"),
        ("--stamps-only", "--memory"),
    ] {
        misused(
            &["replay", "@trace", option],
            &format!(
                "the following required arguments were not provided:\n  {needed}\n\nUsage: ubdlab replay {needed} {option} <TRACE>"
            ),
        );
    }
}

/// Without `--io` nothing is replayed on files, and a directory for them would be for nothing.
#[test]
fn a_directory_for_a_benchmark_of_replays_needs_files() {
    misused(
        &["bench", "replay", "--dir", "@"],
        "the following required arguments were not provided:\n  \
         --io <auto|inline|threads|uring>\n\nUsage: ubdlab bench replay --io \
         <auto|inline|threads|uring> --dir <DIR> [TRACE]...",
    );
}

#[test]
fn values_that_are_none() {
    misused(
        &["replay", "@trace", "--driver", "fast"],
        "invalid value 'fast' for '--driver <DRIVER>'\n  [possible values: ordered, linux-6.12, linux-2.6, kernel]",
    );
    for depth in ["0", "65"] {
        misused(
            &["replay", "@trace", "--depth", depth],
            &format!("invalid value '{depth}' for '--depth <DEPTH>': {depth} is not in 1..=64"),
        );
    }
    for (at, message) in [
        ("7", "expected REQUEST:SIZE or REQUEST:SIZE:STRATEGY"),
        (
            "1:2M:auto:x",
            "expected REQUEST:SIZE or REQUEST:SIZE:STRATEGY",
        ),
        ("x:2M", "found \"x\", expected the number of a request"),
        (
            "1:2M:fast",
            "found \"fast\", expected auto, headroom, rebuild or reflow",
        ),
    ] {
        misused(
            &["replay", "@trace", "--memory", "--resize-at", at],
            &format!("invalid value '{at}' for '--resize-at <REQUEST:SIZE[:STRATEGY]>': {message}"),
        );
    }
}

#[test]
fn device_specifications_that_are_none() {
    for (spec, message) in [
        ("sda=x", "at byte 0: found \"sda\", expected ubd"),
        (
            "ubdz=x",
            "at byte 3: found 'z', expected a number from 0 to 15 or a letter from a to p",
        ),
        (
            "ubdaq=x",
            "at byte 4: found 'q', expected one of the flags r, s, c, d or =",
        ),
        (
            "ubda=",
            "at byte 5: found the end, expected the path of the COW file or disk",
        ),
        (
            "ubda=x,y,1000",
            "at byte 9: found \"1000\", expected a multiple of 512 bytes: the nearest sizes of \
             whole sectors are 512 and 1024",
        ),
        (
            "ubda=x,y,0",
            "at byte 9: found \"0\", expected the size of a device, which is not zero",
        ),
    ] {
        misused(
            &["replay", "@trace", "--device", spec],
            &format!("invalid value '{spec}' for '--device <SPEC>': device {spec:?}: {message}"),
        );
    }
}

#[test]
fn a_directory_that_holds_a_device_already() {
    let sandbox = Sandbox::with_device();
    std::fs::create_dir(sandbox.path("out")).unwrap();
    sandbox.write("out/backing.img", "precious");
    for command in [
        vec!["replay", "@trace", "--out", "@out"],
        vec!["demo", "--json", "--out", "@out"],
    ] {
        sandbox.refuses(
            &command,
            "@out/backing.img: creating: the file exists already",
        );
    }
    std::fs::rename(
        sandbox.path("out/backing.img"),
        sandbox.path("out/device.cow"),
    )
    .unwrap();
    for command in [
        vec!["replay", "@trace", "--out", "@out"],
        vec!["demo", "--json", "--out", "@out"],
    ] {
        sandbox.refuses(
            &command,
            "@out/device.cow: creating: the file exists already",
        );
    }
    sandbox.refuses(
        &["replay", "@trace", "--out", "@trace"],
        "@trace: creating: file exists",
    );
    sandbox.refuses(
        &["replay", "@trace", "--out", "@trace/out"],
        "@trace/out: creating: not a directory",
    );
}

/// Nothing is measured for an hour first.
#[test]
fn a_file_whose_name_is_a_directory_s() {
    let sandbox = Sandbox::with_device();
    let message = "@new/: writing: found a name that ends with a slash, expected that of a file";
    for args in [
        &["fuzz", "--catalogue", "--output", "@new/"][..],
        &["trace", "convert", "@trace", "@new/"],
        &["replay", "@trace", "--memory", "--report", "@new/"],
    ] {
        sandbox.refuses(args, message);
    }
}

#[test]
fn a_directory_that_cannot_be_written() {
    let sandbox = Sandbox::with_device();
    let directory = sandbox.path("locked");
    std::fs::create_dir(&directory).unwrap();
    std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o555)).unwrap();
    if std::fs::write(directory.join("probe"), "").is_ok() {
        std::fs::remove_file(directory.join("probe")).unwrap();
        eprintln!("skipped: root may write everywhere");
        return;
    }
    sandbox.refuses(
        &["replay", "@trace", "--out", "@locked"],
        "@locked/backing.img: creating: permission denied",
    );
    sandbox.refuses(
        &["trace", "convert", "@trace", "@locked/new"],
        "@locked/new: writing: permission denied",
    );
}

#[test]
fn amounts_that_cannot_be_measured_with() {
    for (amount, problem) in [
        ("4095K", "found 4095 KiB, expected 4M to 64G"),
        ("65G", "found 65 GiB, expected 4M to 64G"),
    ] {
        misused(
            &["bench", "resize", "--dirty", amount],
            &format!("invalid value '{amount}' for '--dirty <SIZE>': {problem}"),
        );
    }
}

#[test]
fn a_directory_for_a_benchmark_that_is_not_there() {
    Sandbox::with_device().fails(
        &["bench", "resize", "--dir", "@none", "--only", "nothing"],
        3,
        "ubdlab: @none: creating a directory: no such file or directory\n",
    );
}

#[test]
fn a_benchmark_of_nothing_leaves_nothing_behind() {
    // What it leaves in the directory, `fails` would see.
    Sandbox::with_device().fails(
        &["bench", "resize", "--dir", "@", "--only", "no such row"],
        2,
        "ubdlab: no row's name contains 'no such row'; there are 'resize/growth/headroom against device \
         size', 'resize/growth/headroom against dirty bytes', 'resize/growth/rebuild against device \
         size', 'resize/growth/rebuild against dirty bytes', 'resize/growth/reflow against device \
         size', 'resize/growth/reflow against dirty bytes' and 30 more, which --list prints\n",
    );
}
