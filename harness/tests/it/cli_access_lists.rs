//! Access control lists: a directory's default list gives nobody what a private file keeps from
//! him, and a list that keeps somebody off is heeded. Where the tests run as root, the kernel says
//! who may read.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::support::cli::{SIZE, Sandbox};

const ALICE: u32 = 12_345;

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

/// A list with these rights of the owner, Alice, the group, the mask and others.
fn list([owner, alice, group, mask, others]: [u16; 5]) -> Vec<u8> {
    let no_id = u32::MAX;
    let entries = [
        (1_u16, owner, no_id),
        (2, alice, ALICE),
        (4, group, no_id),
        (0x10, mask, no_id),
        (0x20, others, no_id),
    ];
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(rights.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

impl Sandbox {
    /// Whether the file system has such lists; said if not.
    fn set_list(&self, name: &str, attribute: &str, list: &[u8]) -> bool {
        match rustix::fs::setxattr(self.path(name), attribute, list, XattrFlags::empty()) {
            Ok(()) => true,
            Err(Errno::OPNOTSUPP) => {
                eprintln!("skipped: this file system has no access control lists");
                false
            }
            Err(errno) => panic!("{errno}"),
        }
    }

    fn list_of(&self, name: &str) -> Option<Vec<u8>> {
        let mut value = vec![0; 1024];
        match rustix::fs::getxattr(self.path(name), ACCESS, &mut value[..]) {
            Ok(len) => Some(value[..len].to_vec()),
            Err(Errno::NODATA) => None,
            Err(errno) => panic!("{errno}"),
        }
    }

    fn mode_of(&self, name: &str) -> u32 {
        std::fs::metadata(self.path(name)).unwrap().mode() & 0o7777
    }

    fn chmod(&self, name: &str, mode: u32) {
        std::fs::set_permissions(self.path(name), PermissionsExt::from_mode(mode)).unwrap();
    }

    /// Whether Alice may read the file: `None` where nobody can be her but herself.
    fn alice_reads(&self, name: &str) -> Option<bool> {
        self.chmod("", 0o755);
        let cat = |path: &Path| {
            let mut command = Command::new("cat");
            command.uid(ALICE).gid(ALICE).arg(path);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            command.status().ok().map(|status| status.success())
        };
        // Also where the directory lies where she may not go.
        cat(Path::new("/dev/null"))?;
        cat(&self.path(name))
    }

    /// The COW file as one of version 2, which a merge in place rebuilds.
    fn make_v2(&self) {
        let convert = ["image", "convert", "@cow", "@v2", "--to", "v2"];
        self.succeeds(&convert);
        std::fs::rename(self.path("v2"), self.path("cow")).unwrap();
        self.make_dirty("cow");
    }
}

/// What rebuilds a COW file.
const REBUILDS: [(&[&str], bool); 2] = [
    (
        &["image", "resize", "@cow", "2M", "--strategy", "rebuild"],
        false,
    ),
    (&["image", "merge", "@cow", "--in-place"], true),
];

#[test]
fn a_rebuilt_file_has_no_list_from_its_directory() {
    for (args, from_v2) in REBUILDS {
        let sandbox = Sandbox::with_device();
        if from_v2 {
            sandbox.make_v2();
        }
        for name in ["cow", "backing"] {
            sandbox.chmod(name, 0o640);
        }
        if !sandbox.set_list("", DEFAULT, &list([7, 7, 7, 7, 0])) {
            return;
        }
        let old = std::fs::metadata(sandbox.path("cow")).unwrap().ino();
        let output = sandbox.run(args);
        assert!(output.status.success(), "of {args:?}");
        let new = std::fs::metadata(sandbox.path("cow")).unwrap().ino();
        assert_ne!(new, old, "it was rebuilt by {args:?}");
        assert_eq!(sandbox.list_of("cow"), None, "of {args:?}");
        assert_eq!(sandbox.mode_of("cow"), 0o640, "of {args:?}");
        assert_ne!(sandbox.alice_reads("cow"), Some(true), "of {args:?}");
    }
}

#[test]
fn a_rebuilt_file_has_the_old_ones_list() {
    for (args, from_v2) in REBUILDS {
        for own in [list([6, 0, 4, 4, 4]), list([6, 4, 0, 4, 0])] {
            let sandbox = Sandbox::with_device();
            if from_v2 {
                sandbox.make_v2();
            }
            let directory = list([7, 7, 7, 7, 7]);
            if !sandbox.set_list("cow", ACCESS, &own) || !sandbox.set_list("", DEFAULT, &directory)
            {
                return;
            }
            let (mode, reads) = (sandbox.mode_of("cow"), sandbox.alice_reads("cow"));
            assert!(sandbox.run(args).status.success(), "of {args:?}");
            assert_eq!(sandbox.list_of("cow").as_ref(), Some(&own), "of {args:?}");
            assert_eq!(sandbox.mode_of("cow"), mode, "of {args:?}");
            assert_eq!(sandbox.alice_reads("cow"), reads, "of {args:?}");
        }
    }
}

/// What makes a new file, `@new`, out of another.
const COPIES: [(&[&str], &str); 5] = [
    (&["image", "merge", "@cow", "@new"], "cow"),
    (&["image", "convert", "@cow", "@new"], "backing"),
    (&["image", "convert", "@cow", "@new", "--to", "v2"], "cow"),
    (
        &["image", "convert", "@cow", "@new", "--to", "v3"],
        "backing",
    ),
    (&["trace", "convert", "@trace", "@new"], "trace"),
];

#[test]
fn a_copy_of_a_private_file_has_no_list_from_its_directory() {
    for (args, source) in COPIES {
        let sandbox = Sandbox::with_device();
        if !sandbox.set_list("", DEFAULT, &list([7, 7, 7, 7, 5])) {
            return;
        }
        // What anybody may read, those of the list may, too: it is a new file like any other.
        assert!(sandbox.run(args).status.success(), "of {args:?}");
        let usual = list([6, 7, 7, 4, 4]);
        assert_eq!(sandbox.list_of("new"), Some(usual), "of {args:?}");
        assert_ne!(sandbox.alice_reads("new"), Some(false), "of {args:?}");
        for mode in [0o600, 0o640] {
            std::fs::remove_file(sandbox.path("new")).unwrap();
            sandbox.chmod(source, mode);
            assert!(sandbox.run(args).status.success(), "of {args:?}");
            assert_eq!(sandbox.list_of("new"), None, "of {args:?}, {mode:o}");
            assert_eq!(sandbox.mode_of("new"), mode, "of {args:?}");
            assert_ne!(sandbox.alice_reads("new"), Some(true), "of {args:?}");
        }
    }
}

#[test]
fn a_copy_is_kept_from_whom_a_list_keeps_its_source_from() {
    for (args, source) in COPIES {
        let sandbox = Sandbox::with_device();
        if !sandbox.set_list(source, ACCESS, &list([6, 0, 4, 4, 4])) {
            return;
        }
        assert_eq!(sandbox.mode_of(source), 0o644, "as if all could read it");
        assert!(sandbox.run(args).status.success(), "of {args:?}");
        assert_eq!(sandbox.mode_of("new"), 0o600, "of {args:?}");
        assert_ne!(sandbox.alice_reads("new"), Some(true), "of {args:?}");
    }
}

#[test]
fn it_is_said_where_a_list_gives_or_takes_what_the_modes_do_not() {
    let keeps_off = list([6, 0, 4, 4, 4]);
    let lets_in = list([6, 4, 4, 4, 0]);
    for (target, of, list, mode) in [
        // The list of the file that more may read, and that of the one that fewer may.
        ("result", "result", &lets_in, 0o640),
        ("result", "trace", &keeps_off, 0o644),
        ("backing", "backing", &lets_in, 0o640),
        ("backing", "cow", &keeps_off, 0o644),
        ("cow", "cow", &lets_in, 0o640),
        ("cow", "backing", &keeps_off, 0o644),
    ] {
        let sandbox = Sandbox::with_device();
        sandbox.make_dirty("cow");
        sandbox.write("result", "");
        sandbox.write("other", vec![7; SIZE as usize]);
        let (source, args): (_, &[&str]) = match target {
            "result" => ("trace", &["trace", "convert", "@trace", "@result"]),
            "backing" => ("cow", &["image", "merge", "@cow", "--in-place"]),
            _ => (
                "backing",
                &["image", "rebase", "@cow", "--backing", "@other"],
            ),
        };
        for name in [target, source] {
            sandbox.chmod(name, mode);
        }
        if !sandbox.set_list(of, ACCESS, list) {
            return;
        }
        let output = sandbox.run(args);
        let said = sandbox.text(&output.stderr);
        assert!(output.status.success(), "of {args:?}: {said}");
        let expected = format!("@{target}: more users may read it than @{source}, whose content");
        assert!(said.contains(&expected), "of {args:?}: {said}");
    }
}
