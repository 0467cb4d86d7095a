//! Who may open what the program has made: as many as the umask lets, or as might open the file
//! that was there before, and nobody who could not read where the content comes from.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::{Command, Output};

use crate::support::cli::{Sandbox, output, ubdlab};

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
