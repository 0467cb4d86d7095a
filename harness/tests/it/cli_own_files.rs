//! What a command reads is not written over, nor what is somebody's disk; and the place of a result
//! is looked at before the work.

use std::os::unix::fs::symlink;
use std::process::Stdio;

use crate::support::cli::{Sandbox, ftrace, output, ubdlab};
use crate::support::mounted::Mounted;

const READS: &str = "which the command reads, expected another one or nothing; nothing was changed";

fn reads(name: &str) -> String {
    format!(
        "{name}: writing: found a file that the command reads, expected another one or nothing; \
         nothing was changed"
    )
}

/// What is said of an option's file that is another one of the command's files already.
fn not_again(option: &str, file: &str, what: &str) -> String {
    format!("ubdlab: {option}: found {file}, {what}, expected another one\n")
}

#[test]
fn a_trace_is_not_converted_onto_itself_by_any_name() {
    let sandbox = Sandbox::with_device();
    symlink(sandbox.path("trace"), sandbox.path("link")).unwrap();
    let before = sandbox.contents();
    sandbox.refuses(&["trace", "convert", "@trace", "@trace"], &reads("@trace"));
    let other = |target| format!("{target}: writing: found the file @trace, {READS}");
    sandbox.refuses(&["trace", "convert", "@trace", "@link"], &other("@link"));
    let reversed = format!("@trace: writing: found the file @link, {READS}");
    sandbox.refuses(&["trace", "convert", "@link", "@trace"], &reversed);
    let mut from_stdin = ubdlab();
    let trace = std::fs::File::open(sandbox.path("trace")).unwrap();
    from_stdin.args(sandbox.args(&["trace", "convert", "-", "@trace"]));
    let done = output(from_stdin.stdin(Stdio::from(trace)));
    let said = sandbox.text(&done.stderr);
    let expected = format!("ubdlab: @trace: writing: found the file /dev/stdin, {READS}\n");
    assert_eq!((done.status.code(), said), (Some(3), expected));
    // A descriptor that leads to it takes nothing either.
    let mut appended = ubdlab();
    let trace = std::fs::File::options()
        .append(true)
        .open(sandbox.path("trace"));
    appended.args(sandbox.args(&["trace", "convert", "@trace", "/dev/stdout"]));
    let done = appended
        .stdout(Stdio::from(trace.unwrap()))
        .output()
        .unwrap();
    let expected = format!("ubdlab: /dev/stdout: writing: found the file @trace, {READS}\n");
    let said = sandbox.text(&done.stderr);
    assert_eq!((done.status.code(), said), (Some(3), expected));
    assert!(sandbox.contents() == before);
    // Another file is replaced as before.
    sandbox.write("other", "old");
    sandbox.succeeds(&["trace", "convert", "@trace", "@other"]);
    assert_ne!(sandbox.read("other"), b"old");
}

/// The files of the other CPUs are read with the one that is named.
#[test]
fn a_recording_is_not_converted_onto_the_file_of_another_cpu() {
    let sandbox = Sandbox::new();
    for cpu in ["0", "1"] {
        sandbox.write(&format!("sda.blktrace.{cpu}"), blktrace_of_one_request());
    }
    let before = sandbox.contents();
    let args = ["trace", "convert", "@sda.blktrace.0", "@sda.blktrace.1"];
    sandbox.refuses(&args, &reads("@sda.blktrace.1"));
    assert!(sandbox.contents() == before);
}

/// One issued write of eight sectors, little endian.
fn blktrace_of_one_request() -> Vec<u8> {
    let mut bytes = 0x6561_7407_u32.to_le_bytes().to_vec();
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend(8_u64.to_le_bytes());
    bytes.extend(4096_u32.to_le_bytes());
    // Issued, a write.
    bytes.extend((0x0002_0000_u32 | 7).to_le_bytes());
    bytes.extend([0_u32, 8 << 20, 0].map(u32::to_le_bytes).concat());
    bytes.extend([0; 4]);
    bytes
}

#[test]
fn a_page_is_written_over_nothing_that_its_command_reads() {
    let sandbox = Sandbox::with_device();
    symlink(sandbox.path("trace"), sandbox.path("link")).unwrap();
    for (page, reads) in [
        ("@trace", "what the command reads for TRACE"),
        ("@link", "what the command reads for TRACE"),
        ("@cow", "what the command reads for --device"),
        // It is known from the header.
        ("@backing", "what the command reads for --device"),
    ] {
        let args = ["replay", "@trace", "--device=ubda=@cow", "--report", page];
        sandbox.fails(&args, 2, &not_again("--report", page, reads));
    }
    // What a replay has made and leaves.
    let made = ["replay", "@trace", "--memory", "--size=1M"];
    sandbox.succeeds(&[&made[..], &["--report=@page"]].concat());
    let out = ["replay", "@trace", "--size=1M", "--out=@new"];
    let a_file = "a name that a file of the device in --out may get";
    for (more, page) in [
        (&[][..], "@new/backing.img"),
        (&["--each-device"], "@new/00001-8,0/device.cow"),
    ] {
        let args = [&out[..], more, &["--report", page]].concat();
        sandbox.fails(&args, 2, &not_again("--report", page, a_file));
    }
    let demo = ["demo", "--out=@new", "--report=@new/device.cow"];
    sandbox.fails(&demo, 2, &not_again("--report", "@new/device.cow", a_file));
    // A page in a directory that the replay makes.
    sandbox.succeeds(&[&out[..], &["--report=@new/page.html"]].concat());
    assert!(sandbox.path("new/page.html").exists());
}

/// Neither of them need be there yet.
#[test]
fn a_campaign_has_no_file_for_two_results() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("directory")).unwrap();
    symlink(sandbox.path("directory/x"), sandbox.path("link")).unwrap();
    symlink(sandbox.path("directory"), sandbox.path("other")).unwrap();
    for (checkpoint, page) in [
        ("@directory/x", "@directory/x"),
        ("@directory/x", "@link"),
        ("@link", "@other/x"),
    ] {
        let args = [
            "fuzz",
            "--cases=1",
            "--checkpoint",
            checkpoint,
            "--report",
            page,
        ];
        let message = not_again("--report", page, "the file of --checkpoint");
        sandbox.fails(&args, 2, &message);
    }
    sandbox.write("directory/x", "");
    let args = [
        "fuzz",
        "--cases=1",
        "--checkpoint=@link",
        "--report=@directory/x",
    ];
    let message = not_again("--report", "@directory/x", "the file of --checkpoint");
    sandbox.fails(&args, 2, &message);
    // What is printed into a file is not replaced either.
    let page = std::fs::File::create(sandbox.path("page")).unwrap();
    let mut printing = ubdlab();
    printing.args(sandbox.args(&["fuzz", "--cases=1", "--report=@page"]));
    let done = printing.stdout(Stdio::from(page)).output().unwrap();
    let message = not_again("--report", "@page", "the file of standard output");
    assert_eq!(sandbox.text(&done.stderr), message);
    assert_eq!(done.status.code(), Some(2));
    assert_eq!(sandbox.read("page"), b"");
}

/// A campaign of a few findings.
const FINDS: [&str; 4] = ["fuzz", "--driver=linux-6.12", "--seed=1", "--cases=1"];

/// The file of one of them.
const FINDING: &str = "last-run-offset-misplaced.json";

/// Nobody knows yet what is going to be found.
#[test]
fn no_file_of_a_campaign_has_a_name_that_a_finding_may_get() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("there")).unwrap();
    symlink(sandbox.path("there"), sandbox.path("link")).unwrap();
    let found = "a name that a finding in --out may get";
    for option in ["--checkpoint", "--report", "--result"] {
        for (out, file) in [
            ("@there", format!("@there/{FINDING}")),
            ("@there", format!("@link/{FINDING}")),
            ("@new", format!("@new/{FINDING}")),
            (".", FINDING.to_owned()),
            ("there", "there/shard-1-of-2-seed-1-zeros-2.json".to_owned()),
        ] {
            let args = [&FINDS[..], &["--out", out, option, &file]].concat();
            sandbox.fails(&args, 2, &not_again(option, &file, found));
        }
    }
    // Another name in that directory is as good as any.
    let others = [
        "--checkpoint=found/c",
        "--report=found/p",
        "--result=found/r",
    ];
    let done = sandbox.run(&[&FINDS[..], &["--out=found"], &others[..]].concat());
    assert_eq!(
        (sandbox.text(&done.stderr).as_str(), done.status.code()),
        ("", Some(1))
    );
    for name in ["c", "p", "r", FINDING] {
        assert!(sandbox.path("found").join(name).exists(), "{name}");
    }
}

#[test]
fn a_merge_replaces_no_result_with_a_finding_or_its_page() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("results")).unwrap();
    let file = format!("@results/{FINDING}");
    let done = sandbox.run(&[&FINDS[..], &["--result", &file]].concat());
    assert_eq!(done.status.code(), Some(1));
    let reads = "what the command reads for RESULT";
    let kept = format!(
        "ubdlab: {file}: writing: found {reads}, expected another file or nothing; it was not \
         changed\n"
    );
    for results in [&file, "@results"] {
        let merge = ["fuzz", "merge", results];
        sandbox.fails(&[&merge[..], &["--out=@results"]].concat(), 2, &kept);
        let page = [&merge[..], &["--report", &file]].concat();
        sandbox.fails(&page, 2, &not_again("--report", &file, reads));
        let page = format!("@new/{FINDING}");
        let both = [&merge[..], &["--out=@new", "--report", &page]].concat();
        let found = "a name that a finding in --out may get";
        sandbox.fails(&both, 2, &not_again("--report", &page, found));
    }
    // Findings of an earlier merge are replaced.
    for _ in 0..2 {
        let done = sandbox.run(&["fuzz", "merge", "@results", "--out=@found"]);
        assert_eq!(
            done.status.code(),
            Some(1),
            "{}",
            sandbox.text(&done.stderr)
        );
    }
}

/// The name of the finding leads to it, which cannot be known before it is found.
#[test]
fn a_finding_replaces_no_other_file_of_its_campaign() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("found")).unwrap();
    for (option, name) in [("--checkpoint", "checkpoint"), ("--result", "result")] {
        let finding = sandbox.path("found").join(FINDING);
        symlink(sandbox.path(name), &finding).unwrap();
        let file = format!("@{name}");
        let done = sandbox.run(&[&FINDS[..], &["--out=@found", option, &file]].concat());
        let message = format!(
            "ubdlab: @found/{FINDING}: writing: found {file}, the file of {option}, expected \
             another file or nothing; it was not changed\n"
        );
        assert_eq!(sandbox.text(&done.stderr), message);
        assert_eq!(done.status.code(), Some(3));
        assert!(
            sandbox
                .text(&done.stdout)
                .contains("last-run-offset (seed 1")
        );
        std::fs::remove_file(finding).unwrap();
    }
    let checkpoint = String::from_utf8(sandbox.read("checkpoint")).unwrap();
    assert!(
        checkpoint.starts_with(r#"{"format":"ubdlab fuzz checkpoint 1""#),
        "{checkpoint}"
    );
    assert!(!sandbox.path("result").exists());
}

#[test]
fn a_finding_is_not_replaced_by_its_page() {
    let sandbox = Sandbox::new();
    let found = sandbox.run(&[&FINDS[..], &["--out=@found"]].concat());
    assert_eq!(found.status.code(), Some(1));
    let file = &format!("@found/{FINDING}");
    for command in ["fuzz", "crash"] {
        let args = [command, "--repro", file, "--report", file];
        let message = not_again("--report", file, "what the command reads for --repro");
        sandbox.fails(&args, 2, &message);
    }
}

#[test]
fn a_disk_is_not_replaced_by_a_result() {
    let sandbox = Sandbox::with_device();
    sandbox.write("qcow", [&b"QFI\xfb"[..], &[0; 600]].concat());
    let before = sandbox.contents();
    for (name, like) in [("@cow", "a COW file"), ("@qcow", "a qcow2 image")] {
        let message = format!(
            "{name}: writing: found a file that begins like {like}, and what replaces it would \
             destroy a disk; nothing was changed. If it is not needed, remove it first"
        );
        for args in [
            &["trace", "convert", "@trace", name][..],
            &["trace", "generate", name, "--requests=1"],
            &[
                "replay",
                "@trace",
                "--memory",
                "--size=1M",
                "--report",
                name,
            ],
            &["fuzz", "--cases=1", "--report", name],
        ] {
            sandbox.refuses(args, &message);
        }
    }
    assert!(sandbox.contents() == before);
}

/// A device that has been changed for a page that cannot be written has been changed for nothing.
#[test]
fn the_place_of_a_page_is_looked_at_before_the_work() {
    let sandbox = Sandbox::with_device();
    let message = "@none/page.html: writing: there is no directory @none";
    for args in [
        &["replay", "@trace", "--device=ubda=@cow"][..],
        &["fuzz", "--cases=1000000"],
    ] {
        let before = sandbox.contents();
        let args = [args, &["--report=@none/page.html"]].concat();
        sandbox.refuses(&args, message);
        assert!(sandbox.contents() == before, "{args:?}");
    }
}

#[test]
fn what_was_found_is_told_where_it_cannot_be_kept() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("small")).unwrap();
    let at = sandbox.path("small");
    let Some(_mounted) = Mounted::tmpfs(&at, 4096) else {
        return;
    };
    std::fs::create_dir(sandbox.path("small/found")).unwrap();
    std::fs::write(sandbox.path("small/full"), [1; 4096]).ok();
    let args = ["fuzz", "--driver=linux-6.12", "--seed=1", "--cases=1"];
    let found = sandbox.run(&[&args[..], &["--out=@small/found"]].concat());
    let (said, told) = (sandbox.text(&found.stderr), sandbox.text(&found.stdout));
    assert_eq!(found.status.code(), Some(3), "{said}");
    assert!(said.to_lowercase().contains("no space left"), "{said}");
    assert!(
        told.contains("last-run-offset (seed 1, shrunk to "),
        "{told}"
    );
    // It is not said to be in a file that is not there.
    assert!(
        told.contains("ubdlab fuzz --driver linux-6.12 --defect last-run-offset"),
        "{told}"
    );
    assert!(!told.contains("ubdlab fuzz --repro"), "{told}");
}

#[test]
fn a_merge_into_a_backing_file_without_the_space_is_refused_before_anything_is_written() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("small")).unwrap();
    let at = sandbox.path("small");
    let Some(_mounted) = Mounted::tmpfs(&at, 512 << 10) else {
        return;
    };
    // A backing file that is a hole.
    sandbox.write("small/backing", []);
    std::fs::File::options()
        .write(true)
        .open(sandbox.path("small/backing"))
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    sandbox.touch("small/backing", 1_050_000_000);
    sandbox.create_cow("cow", "small/backing");
    sandbox.write("fill", ftrace(&[("WS", 0, 1024), ("WS", 1024, 256)]));
    sandbox.succeeds(&["replay", "@fill", "--device=ubda=@cow"]);
    let before = sandbox.contents();
    let done = sandbox.run(&["image", "merge", "@cow", "--in-place"]);
    let said = sandbox.text(&done.stderr);
    assert_eq!(done.status.code(), Some(3), "{said}");
    let what = "@small/backing: what is merged goes into holes of this file and may take ";
    assert!(said.contains(what), "{said}");
    // It is not said first what the merge breaks.
    assert!(!said.contains("merging into"), "{said}");
    assert!(sandbox.contents() == before);
    // Where there is room for it, it is merged.
    std::fs::remove_file(sandbox.path("cow")).unwrap();
    sandbox.create_cow("cow", "small/backing");
    sandbox.write("fill", ftrace(&[("WS", 0, 256)]));
    sandbox.succeeds(&["replay", "@fill", "--device=ubda=@cow"]);
    let done = sandbox.run(&["image", "merge", "@cow", "--in-place"]);
    assert_eq!(
        done.status.code(),
        Some(0),
        "{}",
        sandbox.text(&done.stderr)
    );
}

/// Where the host's file system cannot zero a range, the way out is another one, or none.
#[test]
fn a_model_on_a_file_system_that_cannot_zero_says_where_else_its_files_may_be() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("small")).unwrap();
    let at = sandbox.path("small");
    let Some(_mounted) = Mounted::tmpfs(&at, 16 << 20) else {
        return;
    };
    let generate = ["trace", "generate", "@zeros", "--requests=9", "--size=1M"];
    sandbox.succeeds(&[&generate[..], &["--mix=write-zeroes"]].concat());
    let mut command = ubdlab();
    command.args(sandbox.args(&["replay", "@zeros", "--driver=linux-6.12", "--io=inline"]));
    let done = output(command.env("TMPDIR", &at));
    let said = sandbox.text(&done.stderr);
    let ways = ": --out makes the files somewhere else, and with --memory there are none\n";
    assert!(said.ends_with(ways), "{said}");
    assert_eq!(done.status.code(), Some(3));
}
