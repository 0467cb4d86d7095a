//! Text that somebody else wrote: names of files, paths in headers, descriptions, names of devices
//! and processes. Whatever it says, nothing of it reaches a terminal or a page that would be obeyed
//! there, and none of it looks like a line of the program's own.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Output, Stdio};

use harness::trace::{Nanoseconds, Record, TraceHeader, TraceWriter};
use rustix::fs::OFlags;

use crate::support::cli::{Sandbox, ftrace, output, ubdlab};

/// Sets the title, clears the screen, turns the direction of text, and ends the line in every way
/// there is, to begin one that looks like ours.
const HOSTILE: &str = "\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}2J\u{202e}\u{61c}\u{2066}\rFAKE: \u{2028}\nFAKE: all is well";

/// How it has to look.
const SHOWN: &str = "\\u{1b}]0;title\\u{7}\\u{1b}[2J\\u{9b}2J\\u{202e}\\u{61c}\\u{2066}\\rFAKE: \\u{2028}\\nFAKE: all is well";

/// Without white space, for formats that split at it.
const WORD: &str = "\u{1b}]0;title\u{7}\u{9b}2J\u{202e}\u{61c}\u{2066}FAKE";

/// The text is harmless: nothing in it is obeyed, and no line of it is another's.
fn check(bytes: &[u8], what: &dyn std::fmt::Debug) -> String {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let obeyed = text.chars().find(|&c| c != '\n' && driver::is_control(c));
    assert_eq!(obeyed, None, "of {what:?}: {text:?}");
    let fake = text.lines().find(|line| line.starts_with("FAKE"));
    assert_eq!(fake, None, "of {what:?}: {text:?}");
    text
}

/// Both outputs of a run that ends with this status are harmless; returns them.
fn harmless(sandbox: &Sandbox, args: &[&str], status: i32) -> (String, String) {
    harmless_output(&sandbox.run(args), &args, status)
}

fn harmless_output(output: &Output, args: &dyn std::fmt::Debug, status: i32) -> (String, String) {
    let stdout = check(&output.stdout, args);
    let stderr = check(&output.stderr, args);
    assert_eq!(output.status.code(), Some(status), "of {args:?}: {stderr}");
    (stdout, stderr)
}

/// A trace of our own that describes itself like this.
fn described(text: &str) -> Vec<u8> {
    let header = TraceHeader {
        device_size: None,
        description: text.to_owned(),
    };
    let mut writer = TraceWriter::create(Path::new("t"), Vec::new(), &header).unwrap();
    writer.push(&Record::flush(Nanoseconds(0))).unwrap();
    writer.finish().unwrap()
}

#[test]
fn a_description_is_one_line_of_what_can_be_seen() {
    let sandbox = Sandbox::new();
    sandbox.write("own", described(HOSTILE));
    let (text, _) = harmless(&sandbox, &["trace", "info", "@own"], 0);
    assert!(text.contains(&format!("source      {SHOWN}\n")), "{text}");
    let json = sandbox.report(&["trace", "info", "@own"]);
    assert_eq!(json["text"], HOSTILE, "JSON has escapes of its own");
    harmless(&sandbox, &["trace", "info", "@own", "--json"], 0);
    harmless(&sandbox, &["trace", "stat", "@own"], 0);
    // Text of the kernel's with our comment on top: one line, so all but the ends of lines.
    let comment = HOSTILE.replace(['\n', '\r'], "");
    let events = ftrace(&[("WS", 0, 8)]);
    sandbox.write("text", format!("# ubdlab: description={comment}\n{events}"));
    let (text, _) = harmless(&sandbox, &["trace", "info", "@text"], 0);
    assert!(text.contains("source      \\u{1b}]0;title"), "{text}");
    // Data stays what it is: a trace is converted with its description.
    sandbox.succeeds(&["trace", "convert", "@own", "@converted"]);
    assert_eq!(
        sandbox.report(&["trace", "info", "@converted"])["text"],
        HOSTILE
    );
}

#[test]
fn a_page_shows_what_a_description_and_a_name_would_hide() {
    let sandbox = Sandbox::new();
    let hostile = format!("<script>{HOSTILE}</script>");
    sandbox.write("own", described(&hostile));
    let name = format!("@<b>{HOSTILE}");
    sandbox.write(&name[1..], described(&hostile));
    let size = ["--memory", "--size", "1M", "--report", "@page.html"];
    for trace in ["@own", &name] {
        harmless(&sandbox, &[&["replay", trace][..], &size].concat(), 0);
        let page = check(&sandbox.read("page.html"), &trace);
        assert!(!page.contains("<script>") && !page.contains("<b>"));
        assert!(page.contains(&format!("&lt;script&gt;{SHOWN}&lt;/script&gt;")));
    }
}

#[test]
fn devices_are_named_and_chosen_by_names_that_do_nothing() {
    let sandbox = Sandbox::new();
    let log = |file: &str| format!("0 {file} write 0 512\n");
    sandbox.write(
        "fio",
        format!("fio version 3 iolog\n{}{}", log(WORD), log("other")),
    );
    let (text, _) = harmless(&sandbox, &["trace", "info", "@fio"], 0);
    assert!(text.contains("  \\u{1b}]0;title\\u{7}"), "{text}");
    for command in [
        &["trace", "stat", "@fio"][..],
        &["trace", "convert", "@fio", "-", "--as", "csv"],
        &["replay", "@fio", "--memory"],
    ] {
        let (_, error) = harmless(&sandbox, command, 3);
        assert!(error.contains("expected only device \\u{1b}]0;"), "{error}");
    }
    let chosen = ["trace", "stat", "@fio", "--device", WORD];
    let (text, _) = harmless(&sandbox, &chosen, 0);
    assert!(text.contains("requests    1 in"), "{text}");
    // A host's name may have anything in it but commas and the ends of lines.
    let host = HOSTILE.replace(['\n', '\r'], "");
    sandbox.write("msr", format!("1,{host},0,Read,0,512,1\n"));
    harmless(&sandbox, &["trace", "info", "@msr"], 0);
    harmless(&sandbox, &["trace", "info", "@msr", "--json"], 0);
}

#[test]
fn what_is_wrong_is_quoted_without_being_obeyed() {
    let sandbox = Sandbox::new();
    let comm = HOSTILE.replace(['\n', '\r'], "");
    let event = ftrace(&[("WS", 0, 8)]).replace("[dd]", &format!("[{comm}"));
    for (name, content) in [
        ("unknown", HOSTILE.to_owned()),
        ("line", format!("1,R,0,512,1\n{comm}\n")),
        ("process", event),
        ("fio", format!("fio version 2 iolog\n{comm}\n")),
        (
            "size",
            format!(
                "# ubdlab: device_size_sectors={comm}\n{}",
                ftrace(&[("R", 0, 8)])
            ),
        ),
        (
            "lost",
            format!("CPU:{comm} [LOST 1 EVENTS]\n{}", ftrace(&[("R", 0, 8)])),
        ),
    ] {
        sandbox.write(name, content);
        let name = format!("@{name}");
        harmless(&sandbox, &["trace", "info", &name], 3);
        harmless(&sandbox, &["trace", "stat", &name], 3);
        harmless(&sandbox, &["trace", "convert", &name, "@out"], 3);
        harmless(&sandbox, &["replay", &name, "--memory"], 3);
    }
    for name in ["line", "process"] {
        let name = format!("@{name}");
        harmless(&sandbox, &["trace", "info", &name, "--skip-bad"], 0);
        let to_stdout = ["trace", "convert", &name, "-", "--as", "csv", "--skip-bad"];
        harmless(&sandbox, &to_stdout, 0);
    }
    sandbox.write(
        "case",
        format!("{{\"format\": {HOSTILE:?}}}").replace("\\u{", "\\u00"),
    );
    sandbox.write(
        "field",
        "{\"format\": \"ubdlab case 1\", \"\u{202e}\u{9b}FAKE\": 1}",
    );
    harmless(&sandbox, &["fuzz", "--repro", "@case"], 3);
    let (_, error) = harmless(&sandbox, &["fuzz", "--repro", "@field"], 3);
    assert!(
        error.contains("unknown field `\\u{202e}\\u{9b}FAKE`"),
        "{error}"
    );
}

#[test]
fn names_of_files_are_no_commands() {
    let sandbox = Sandbox::with_device();
    let name = format!("@{HOSTILE}");
    let missing = format!("@no {HOSTILE}");
    let shown = format!("{SHOWN}: ");
    for command in [
        &["trace", "info", &missing][..],
        &["trace", "stat", &missing],
        &["trace", "convert", &missing, "@out"],
        &["trace", "convert", "@trace", &format!("{missing}/x")],
        &["trace", "generate", &format!("{missing}/x")],
        &["replay", &missing],
        &["replay", "@trace", "--device", &format!("ubda=@{WORD}")],
        &[
            "replay",
            "@trace",
            "--memory",
            "--report",
            &format!("{missing}/x"),
        ],
        &["replay", "@trace", "--out", &format!("@trace/{HOSTILE}")],
        &["fuzz", "--repro", &missing],
        &[
            "fuzz",
            "--cases",
            "1",
            "--out",
            &format!("@trace/{HOSTILE}"),
        ],
        &["bench", "io", "--dir", &missing],
        &["demo", "--out", &format!("@trace/{HOSTILE}")],
        &["image", "info", &missing],
        &["image", "map", &missing],
        &["image", "create", &missing, "--backing", &missing],
        &["image", "resize", &missing, "+1M"],
        &["image", "recover", &missing],
        &["image", "merge", &missing, "@out"],
        &["image", "rebase", &missing, "--backing", "@backing"],
        &["image", "rebase", "@cow", "--backing", &missing],
        &["image", "convert", &missing, "@out"],
        &["image", "compare", &missing, "@cow"],
    ] {
        harmless(&sandbox, command, 3);
    }
    let nothing = ["bench", "replay", &missing, "--only", HOSTILE];
    harmless(&sandbox, &nothing, 2);
    let (_, error) = harmless(&sandbox, &["image", "check", &missing], 1);
    assert!(error.contains(&shown), "{error}");
    let generated = ["trace", "generate", &name, "--requests", "10"];
    let (text, _) = harmless(&sandbox, &generated, 0);
    assert!(text.contains(&shown), "{text}");
    let (text, _) = harmless(&sandbox, &["trace", "convert", "@trace", &name], 0);
    assert!(text.contains(&shown), "{text}");
    harmless(
        &sandbox,
        &["replay", &name, "--out", &format!("{name}.d")],
        0,
    );
}

/// Every image command on a COW file and a backing file that are called something hostile.
#[test]
fn image_commands_say_hostile_names_and_do_not_obey_them() {
    let sandbox = Sandbox::new();
    let (backing, cow) = (format!("b{HOSTILE}"), format!("c{HOSTILE}"));
    sandbox.write_backing(&backing, 1 << 20);
    let at = |name: &str| format!("@{name}");
    let (b, c) = (at(&backing), at(&cow));
    for command in [
        &["create", &c, "--backing", &b][..],
        &["info", &c],
        &["info", &c, "--json"],
        &["map", &c],
        &["map", &c, "--json"],
        &["map", &c, "--draw"],
        &["check", &c],
        &["check", &c, "--json"],
        &["compare", &c, &b],
        &["convert", &c, &format!("@raw{HOSTILE}")],
        &["convert", &c, &format!("@cow{HOSTILE}"), "--to", "v3"],
        &["merge", &c, &format!("@merged{HOSTILE}")],
        &["recover", &c],
        &["resize", &c, "+1M", "--dry-run", "--extend-backing"],
        &["resize", &c, "+1M", "--extend-backing"],
        &["rebase", &c, "--backing", &b, "--unsafe"],
        &["rebase", &c, "--backing", &b],
        &["merge", &c, "--in-place"],
    ] {
        harmless(&sandbox, &[&["image"], command].concat(), 0);
    }
    // Another file over the same backing file is named before that one is changed.
    sandbox.create_cow(&format!("other{HOSTILE}"), &backing);
    harmless(&sandbox, &["image", "resize", &c, "+1M"], 0);
    let in_place = ["image", "merge", &c, "--in-place"];
    let (_, said) = harmless(&sandbox, &in_place, 0);
    assert!(said.contains(&format!("  breaks {}", sandbox.path("other").display())));
}

/// The path in a header is whatever somebody wrote there.
#[test]
fn a_header_names_a_backing_file_that_is_only_shown() {
    let sandbox = Sandbox::with_device();
    sandbox.write_header("bad", Path::new(&format!("/no/such/{HOSTILE}")));
    let shown = format!("/no/such/{SHOWN}");
    for (command, status) in [
        (&["info", "@bad"][..], 0),
        (&["info", "@bad", "--json"], 0),
        (&["map", "@bad"], 0),
        (&["map", "@bad", "--json"], 0),
        (&["check", "@bad"], 2),
        (&["check", "@bad", "--json"], 2),
        (&["compare", "@bad", "@cow"], 3),
        (&["convert", "@bad", "@out"], 3),
        (&["merge", "@bad", "@out"], 3),
        (&["merge", "@bad", "--in-place"], 3),
        (&["resize", "@bad", "+1M"], 3),
        (&["rebase", "@bad", "--backing", "@backing"], 3),
    ] {
        let (text, error) = harmless(&sandbox, &[&["image"], command].concat(), status);
        if !command.contains(&"--json") && !command.contains(&"map") {
            let said = text + &error;
            assert!(said.contains(&shown), "{command:?}: {said}");
        }
    }
    harmless(&sandbox, &["replay", "@trace", "--device", "ubda=@bad"], 3);
}

/// A shell's pattern finds names too, and a wrong argument is quoted in what is said about it.
#[test]
fn wrong_arguments_are_quoted_without_being_obeyed() {
    let sandbox = Sandbox::with_device();
    let option = format!("--{HOSTILE}");
    for command in [
        &[HOSTILE][..],
        &["trace", HOSTILE],
        &["trace", "info", "@trace", HOSTILE],
        &["trace", "info", "@trace", &option],
        &["trace", "info", "@trace", "--from", HOSTILE],
        &["trace", "generate", "@new", "--size", HOSTILE],
        &["trace", "generate", "@new", "--mix", HOSTILE],
        &["trace", "generate", "@new", "--access", HOSTILE],
        &["replay", "@trace", "--device", HOSTILE],
        &[
            "replay",
            "@trace",
            "--resize-at",
            &format!("1:1G:{HOSTILE}"),
        ],
        &["replay", "@trace", "--driver", HOSTILE],
        &["image", "resize", "@cow", HOSTILE],
        &["image", "convert", "@cow", "@out", "--to", HOSTILE],
        &["fuzz", "--duration", HOSTILE],
        &["fuzz", "--defect", HOSTILE],
        &["bench", HOSTILE],
    ] {
        let (_, error) = harmless(&sandbox, command, 2);
        assert!(error.contains("FAKE: all is well"), "{command:?}: {error}");
    }
}

/// Bytes that are no text are shown as what they are: also the C1 control that is one byte.
#[test]
fn names_that_are_no_utf_8_are_shown_as_bytes() {
    let sandbox = Sandbox::with_device();
    let name = OsStr::from_bytes(b"\x9b2J\xff\xed\xa0\x80");
    let path = sandbox.path("").join(name);
    std::fs::copy(sandbox.path("cow"), &path).unwrap();
    let shown = "\\x9b2J\\xff\\xed\\xa0\\x80";
    for args in [&["trace", "info"][..], &["replay"], &["image", "recover"]] {
        let output = output(ubdlab().args(args).arg(&path));
        let status = output.status.code().unwrap();
        let (text, error) = harmless_output(&output, &args, status);
        assert!((text + &error).contains(shown), "{args:?}");
    }
    // A COW file is not replaced.
    std::fs::remove_file(&path).unwrap();
    let output = output(
        ubdlab()
            .args(["trace", "convert"])
            .arg(sandbox.path("trace"))
            .arg(&path),
    );
    let (text, _) = harmless_output(&output, &"convert", 0);
    assert!(text.contains(&format!("{shown}: 2 requests")), "{text}");
    let output = self::output(ubdlab().args(["trace", "stat"]).arg(&path).arg(name));
    harmless_output(&output, &"usage", 2);
}

/// The demo says where its files are.
#[test]
fn the_demo_names_its_directory() {
    let sandbox = Sandbox::new();
    let (text, _) = harmless(&sandbox, &["demo", "--out", &format!("@{HOSTILE}")], 0);
    assert!(
        text.contains(&format!("{SHOWN}; the files stay there")),
        "{text}"
    );
}

/// Runs the program with a terminal as standard output: its status, what it said there, and what
/// on standard error.
fn on_a_terminal(sandbox: &Sandbox, args: &[&str]) -> (Option<i32>, Vec<u8>, Vec<u8>) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    // A test program that leads a session would have it as its own terminal, and get SIGHUP when
    // it goes.
    let theirs = File::options()
        .read(true)
        .write(true)
        .custom_flags(OFlags::NOCTTY.bits() as i32)
        .open(OsStr::from_bytes(name.as_bytes()))
        .unwrap();
    let mut command = ubdlab();
    command
        .args(sandbox.args(args))
        .stdout(theirs)
        .stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    // The command has a handle too, and reading would not end before it is closed.
    drop(command);
    let (mut said, mut ours) = (Vec::new(), File::from(ours));
    // At the end there is an error, because nobody holds the other side any more.
    let _ = ours.read_to_end(&mut said);
    let output = child.wait_with_output().unwrap();
    (output.status.code(), said, output.stderr)
}

#[test]
fn a_terminal_gets_text_and_no_trace_of_ours() {
    let sandbox = Sandbox::new();
    sandbox.write("own", described(HOSTILE));
    let (status, said, error) = on_a_terminal(&sandbox, &["trace", "info", "@own"]);
    assert_eq!((status, error.as_slice()), (Some(0), &b""[..]));
    let text = String::from_utf8(said).unwrap().replace("\r\n", "\n");
    check(text.as_bytes(), &"a terminal");
    assert!(text.contains(&format!("source      {SHOWN}\n")), "{text}");
    let refused = "ubdlab: standard output: found a terminal, and a ubdtrace is no text: name a file, \
                   or use --as csv\n";
    for command in [
        &["trace", "convert", "@own", "-"][..],
        &["trace", "generate", "-", "--requests", "10"],
    ] {
        let (status, said, error) = on_a_terminal(&sandbox, command);
        assert_eq!(
            (status, said.as_slice()),
            (Some(3), &b""[..]),
            "{command:?}"
        );
        assert_eq!(String::from_utf8(error).unwrap(), refused, "{command:?}");
    }
    let as_csv = ["trace", "convert", "@own", "-", "--as", "csv"];
    let (status, said, _) = on_a_terminal(&sandbox, &as_csv);
    assert_eq!(status, Some(0));
    assert!(said.ends_with(b"0,flush,0,0,0,0\r\n"), "{said:?}");
}
