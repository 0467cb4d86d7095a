//! Who may open what the program has made: as many as the umask lets, or as might open the file
//! that was there before, and nobody who could not read where the content comes from.

use std::fs::Permissions;
use std::io::ErrorKind::PermissionDenied;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use crate::support::cli::{SIZE, Sandbox, output, ubdlab};

impl Sandbox {
    /// Runs the program with this umask, in octal; it has to succeed.
    fn with_umask(&self, umask: &str, args: &[&str]) -> Output {
        let program = ubdlab();
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("umask {umask} && exec \"$0\" \"$@\"")])
            .arg(program.get_program())
            .args(self.args(args));
        let output = output(&mut shell);
        let stderr = self.text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "of {args:?}: {stderr}");
        output
    }

    fn mode(&self, name: &str) -> u32 {
        std::fs::metadata(self.path(name)).unwrap().mode() & 0o7777
    }

    fn set_mode(&self, name: &str, mode: u32) {
        std::fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.path(name)).unwrap();
    }
}

/// What writes a result to a file that the user names, `@result`.
const RESULTS: [&[&str]; 4] = [
    &["trace", "convert", "@trace", "@result"],
    &["trace", "generate", "@result", "--requests", "5"],
    &[
        "replay",
        "@trace",
        "--device",
        "ubda=@cow",
        "--report",
        "@result",
    ],
    &["fuzz", "--cases", "2", "--report", "@result"],
];

#[test]
fn a_new_result_has_the_mode_that_the_umask_leaves() {
    for args in RESULTS {
        let sandbox = Sandbox::with_device();
        // What a trace keeps from others is another story.
        sandbox.set_mode("trace", 0o666);
        for (umask, mode) in [
            ("022", 0o644),
            ("027", 0o640),
            ("077", 0o600),
            ("002", 0o664),
        ] {
            sandbox.with_umask(umask, args);
            assert_eq!(sandbox.mode("result"), mode, "{args:?} with {umask}");
            sandbox.remove("result");
        }
    }
}

#[test]
fn a_result_in_another_files_place_has_its_owner_and_mode() {
    for args in RESULTS {
        let sandbox = Sandbox::with_device();
        for (umask, mode) in [("022", 0o600), ("077", 0o664)] {
            sandbox.write("result", "");
            sandbox.set_mode("result", mode);
            // Only root gives files away.
            let given = chown(sandbox.path("result"), Some(12_345), Some(54_321)).is_ok();
            sandbox.with_umask(umask, args);
            assert_eq!(sandbox.mode("result"), mode, "{args:?} with {umask}");
            let metadata = std::fs::metadata(sandbox.path("result")).unwrap();
            assert!(metadata.len() > 0, "{args:?}");
            assert!(!given || (metadata.uid(), metadata.gid()) == (12_345, 54_321));
            sandbox.remove("result");
        }
    }
}

#[test]
fn a_new_image_is_as_private_as_what_it_is_made_of() {
    for (args, copies) in [
        (&["create", "@new", "--backing", "@backing"][..], false),
        (&["merge", "@cow", "@new"], true),
        (&["convert", "@cow", "@new"], true),
        (&["convert", "@cow", "@new", "--to", "v2"], true),
        (&["convert", "@cow", "@new", "--to", "v3"], true),
    ] {
        let args = [&["image"], args].concat();
        let sandbox = Sandbox::with_device();
        for (cow, backing, private) in [
            (0o644, 0o644, false),
            (0o600, 0o644, copies),
            (0o644, 0o600, copies),
        ] {
            sandbox.set_mode("cow", cow);
            sandbox.set_mode("backing", backing);
            for (umask, mode) in [("022", 0o644), ("027", 0o640), ("077", 0o600)] {
                sandbox.with_umask(umask, &args);
                let expected = if private { 0o600 } else { mode };
                assert_eq!(sandbox.mode("new"), expected, "{args:?} with {umask}");
                sandbox.remove("new");
            }
        }
    }
}

/// A trace says what somebody did, and with its payload what was written.
#[test]
fn a_converted_trace_is_as_private_as_the_trace() {
    let sandbox = Sandbox::with_device();
    let convert = ["trace", "convert", "@trace", "@result"];
    for (trace, umask, mode) in [
        (0o600, "022", 0o600),
        (0o640, "022", 0o640),
        (0o644, "022", 0o644),
        (0o644, "077", 0o600),
    ] {
        sandbox.set_mode("trace", trace);
        let output = sandbox.with_umask(umask, &convert);
        assert_eq!(sandbox.mode("result"), mode, "of {trace:o}");
        assert_eq!(sandbox.text(&output.stderr), "");
        sandbox.remove("result");
    }
    // From standard input too.
    sandbox.set_mode("trace", 0o600);
    let input = std::fs::File::open(sandbox.path("trace")).unwrap();
    let mut command = ubdlab();
    command.args(sandbox.args(&["trace", "convert", "-", "@result"]));
    assert!(output(command.stdin(input)).status.success());
    assert_eq!(sandbox.mode("result"), 0o600);
    // A file that was there keeps its mode, and its user is told.
    for (result, told) in [(0o644, true), (0o600, false)] {
        sandbox.set_mode("result", result);
        let output = sandbox.with_umask("022", &convert);
        assert_eq!(sandbox.mode("result"), result);
        let expected = if told {
            shown("result", "trace")
        } else {
            String::new()
        };
        assert_eq!(sandbox.text(&output.stderr), expected);
    }
}

/// What is said where a private file's content comes into one that more users may read.
fn shown(target: &str, source: &str) -> String {
    format!(
        "@{target}: more users may read it than @{source}, whose content comes into it: chmod keeps \
         them off\n"
    )
}

#[test]
fn it_is_said_where_private_content_comes_into_a_file_that_others_may_read() {
    for (cow, backing, merged, rebased) in [
        (0o644, 0o644, false, false),
        (0o600, 0o600, false, false),
        (0o600, 0o644, true, false),
        (0o644, 0o600, false, true),
    ] {
        let sandbox = Sandbox::with_device();
        sandbox.make_dirty("cow");
        // Into the COW file comes what the old backing file has.
        sandbox.write("other", vec![7; SIZE as usize]);
        sandbox.set_mode("cow", cow);
        sandbox.set_mode("backing", backing);
        let said = |args: &[&str]| {
            let output = sandbox.with_umask("022", &[&["image"], args].concat());
            // Of others over a backing file that is changed, other lines tell.
            let text = sandbox.text(&output.stderr);
            let lines = text.lines().filter(|line| line.contains("may read"));
            lines.map(|line| format!("{line}\n")).collect::<String>()
        };
        let expected = |told, target, source| match told {
            true => shown(target, source),
            false => String::new(),
        };
        let said_first = said(&["merge", "@cow", "--in-place"]);
        assert_eq!(said_first, expected(merged, "backing", "cow"));
        let said_then = said(&["rebase", "@cow", "--backing", "@other"]);
        assert_eq!(said_then, expected(rebased, "cow", "backing"));
        assert_eq!(
            (sandbox.mode("cow"), sandbox.mode("backing")),
            (cow, backing)
        );
    }
}

/// What a creation has left when it was killed may have its mode already, and not the right to
/// write.
#[test]
fn what_was_left_with_a_mode_that_forbids_writing_is_removed() {
    for args in [
        &["image", "recover", "@cow"][..],
        &["image", "create", "@new", "--backing", "@backing"],
    ] {
        let sandbox = Sandbox::with_device();
        let left = match args[1] {
            "recover" => ".cow.ubdlab-new",
            _ => ".new.ubdlab-new",
        };
        sandbox.write(left, "left over");
        sandbox.set_mode(left, 0o444);
        let Some(mut command) = as_owner(&sandbox, &["", "cow", "backing", left]) else {
            return;
        };
        command.args(sandbox.args(args));
        let output = output(&mut command);
        assert_eq!(sandbox.text(&output.stderr), "", "of {args:?}");
        assert!(!sandbox.path(left).exists(), "of {args:?}");
    }
}

/// In a directory that others may write to, the temporary name may be a second one of any file of
/// the user's: that does not get another mode.
#[test]
fn a_second_name_of_another_file_is_not_given_another_mode() {
    for args in [
        &["image", "recover", "@cow"][..],
        &["image", "create", "@new", "--backing", "@backing"],
    ] {
        let sandbox = Sandbox::with_device();
        sandbox.write("precious", "read only");
        sandbox.set_mode("precious", 0o444);
        for left in [".cow.ubdlab-new", ".new.ubdlab-new"] {
            std::fs::hard_link(sandbox.path("precious"), sandbox.path(left)).unwrap();
        }
        let Some(mut command) = as_owner(&sandbox, &["", "cow", "backing", "precious"]) else {
            return;
        };
        command.args(sandbox.args(args));
        let output = output(&mut command);
        let told = sandbox.text(&output.stderr);
        assert!(told.contains("permission denied"), "{told}");
        assert_eq!(sandbox.mode("precious"), 0o444, "of {args:?}");
        assert_eq!(sandbox.read("precious"), b"read only");
    }
}

/// Nobody but root gives a file to somebody else. Whoever may replace a file all the same is told
/// what it has lost.
#[test]
fn a_file_that_changes_hands_is_told_of() {
    let lacks = "the new file could not be given all that the one that it replaces had: it lacks \
                 the owner 0, the group 0";
    for args in [
        &["trace", "convert", "@trace", "@out"][..],
        &["image", "resize", "@out", "2M", "--strategy", "rebuild"],
        &[
            "replay",
            "@trace",
            "--device",
            "ubda=@out",
            "--resize-at",
            "0:2M:rebuild",
        ],
    ] {
        let sandbox = Sandbox::with_device();
        match args[0] {
            // What replaces a file by its name does not replace a disk.
            "trace" => sandbox.write("out", "a trace of before"),
            _ => sandbox.write("out", sandbox.read("cow")),
        }
        sandbox.set_mode("out", 0o666);
        if chown(sandbox.path("out"), Some(0), Some(0)).is_err() {
            eprintln!("skipped: a file can be given to root by root only");
            return;
        }
        let Some(mut command) = as_owner(&sandbox, &["", "backing"]) else {
            return;
        };
        command.args(sandbox.args(args));
        let output = output(&mut command);
        let told = sandbox.text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "of {args:?}: {told}");
        assert_eq!(told, format!("@out: {lacks}\n"), "of {args:?}");
    }
}

/// The program, run by the owner of these files, whom their modes hold back: root, who may write to
/// any file, gives them to somebody else. `None` if that one may not run it.
fn as_owner(sandbox: &Sandbox, names: &[&str]) -> Option<std::process::Command> {
    let mut command = ubdlab();
    let gave = |name: &&str| chown(sandbox.path(name), Some(NOBODY), Some(NOBODY)).is_ok();
    if names.iter().all(gave) {
        let found = ubdlab().uid(NOBODY).gid(NOBODY).arg("--version").output();
        if found.is_err_and(|error| error.kind() == PermissionDenied) {
            eprintln!("skipped: the program lies where only root may go");
            return None;
        }
        command.uid(NOBODY).gid(NOBODY);
    }
    Some(command)
}

const NOBODY: u32 = 65_534;

/// The files of a replay on a device of its own hold nothing of anybody's.
#[test]
fn a_device_made_for_a_replay_has_the_usual_mode() {
    let sandbox = Sandbox::with_device();
    let args = ["replay", "@trace", "--size", "1M", "--out", "@made"];
    sandbox.with_umask("022", &args);
    for name in ["made/device.cow", "made/backing.img"] {
        assert_eq!(sandbox.mode(name), 0o644, "{name}");
    }
}
