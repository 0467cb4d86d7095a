//! `--confine-backing`: a COW file that came in somebody's archive opens nothing but what came
//! with it, whatever its header names and whatever links came along.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use driver::cow::{BackingChange, Extension, Version};
use driver::units::Bytes;

use crate::support::cli::{SIZE, Sandbox};
use crate::support::images::{SOME, expected_disk, header};

/// `archive`, unpacked, with a backing file of its own and links to `secret/key`, which is not
/// the author's to read.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    for directory in ["archive", "archive/sub", "secret"] {
        std::fs::create_dir(sandbox.path(directory)).unwrap();
    }
    for backing in ["secret/key", "archive/backing", "archive/sub/backing"] {
        sandbox.write_backing(backing, SIZE);
    }
    for (target, link) in [
        ("../secret/key", "archive/link"),
        ("../secret", "archive/away"),
        ("..", "archive/up"),
        ("backing", "archive/inside"),
        ("../../secret/key", "archive/sub/link"),
    ] {
        symlink(target, sandbox.path(link)).unwrap();
    }
    sandbox.write("trace", crate::support::cli::ftrace(&[("R", 0, 8)]));
    sandbox
}

/// Puts a COW file over `secret/key` by this path in the archive. Its author knows size and time.
fn pack(sandbox: &Sandbox, name: &str, backing: &Path) {
    let over_key = header(Version::V3, &sandbox.path("secret/key"), SIZE);
    let named = over_key.with_backing(backing, over_key.backing_mtime);
    sandbox.write_image_under(name, &named.unwrap(), &SOME);
}

/// Those that open the backing file which the header names.
const OPENING: [&[&str]; 9] = [
    &["image", "convert", "-f", "cow", "@archive/cow", "@new"],
    &[
        "image",
        "convert",
        "-f",
        "cow",
        "@archive/cow",
        "@new",
        "--to",
        "v3",
    ],
    &[
        "image",
        "compare",
        "-f",
        "cow",
        "@archive/cow",
        "@archive/backing",
    ],
    &[
        "image",
        "compare",
        "-F",
        "cow",
        "@archive/backing",
        "@archive/cow",
    ],
    &["image", "merge", "@archive/cow", "@new"],
    &["image", "merge", "@archive/cow", "--in-place"],
    &["image", "resize", "@archive/cow", "2M", "--extend-backing"],
    &[
        "image",
        "rebase",
        "@archive/cow",
        "--backing",
        "@archive/backing",
    ],
    &["replay", "@trace", "--device", "ubda=@archive/cow"],
];

fn all_refuse(sandbox: &Sandbox, path: &str, why: &str) {
    let refused = format!(
        "@archive/cow: byte 32: the backing path {path} {why}, where --confine-backing does not \
         follow it"
    );
    for args in OPENING {
        sandbox.refuses(&[args, &["--confine-backing"]].concat(), &refused);
    }
    // What looks does not look there.
    let info = ["image", "info", "@archive/cow", "--confine-backing"];
    let info = sandbox.json(&[&info[..], &["--format", "cow"]].concat());
    assert_eq!(info["backing_matches"], serde_json::Value::Null);
    let problem = format!("not looked at: its path {why}");
    assert_eq!(info["backing_problem"], problem);
    for repair in [&[][..], &["--repair"]] {
        let check = ["image", "check", "@archive/cow", "--confine-backing"];
        let checked = sandbox.run(&[&check[..], repair].concat());
        assert_eq!(checked.status.code(), Some(2), "refused by check too");
        let shown = sandbox.text(&checked.stdout);
        let finding = format!("{why}: not looked at\n");
        assert!(shown.contains(&finding), "{shown}");
    }
}

#[test]
fn no_link_out_of_the_archive_is_followed() {
    let sandbox = sandbox();
    let inside = sandbox.path("archive/link");
    for path in [
        Path::new("link"),
        Path::new("./link"),
        Path::new("sub/link"),
        Path::new("away/key"),
        Path::new("up/secret/key"),
        Path::new("inside"),
        &inside,
    ] {
        pack(&sandbox, "archive/cow", path);
        let shown = sandbox.text(path.as_os_str().as_encoded_bytes());
        all_refuse(&sandbox, &shown, "goes through a symbolic link");
    }
    for path in ["../secret/key", "sub/../../secret/key", "/etc/passwd"] {
        pack(&sandbox, "archive/cow", Path::new(path));
        all_refuse(&sandbox, path, "leads outside the COW file's directory");
    }
    // It does not, unless a link makes it.
    pack(&sandbox, "archive/cow", Path::new("sub/../backing"));
    all_refuse(&sandbox, "sub/../backing", "has .. in it");
}

/// Archives that root unpacks bring devices too.
#[test]
fn a_device_that_came_along_is_not_opened() {
    let sandbox = sandbox();
    let device = sandbox.path("archive/device");
    let mut made = Command::new("mknod");
    // A disk that there is not: whoever opened it would say so.
    made.arg(device).args(["b", "240", "0"]);
    if !made.stderr(Stdio::null()).status().unwrap().success() {
        eprintln!("skipped: only root makes devices");
        return;
    }
    pack(&sandbox, "archive/cow", Path::new("device"));
    all_refuse(&sandbox, "device", "is a device file's");
}

/// Where a change was interrupted the backing file is opened, to know it by its content; not here.
#[test]
fn recovery_follows_no_link_either() {
    let sandbox = sandbox();
    pack(&sandbox, "archive/cow", Path::new("link"));
    let changing = Extension {
        backing_size: Bytes(SIZE),
        change: Some(BackingChange::default()),
    };
    sandbox.patch("archive/cow", 4128, &changing.encode());
    let refused = "@archive/cow: byte 32: the backing path link goes through a symbolic link, where \
                   --confine-backing does not follow it";
    let recover = [
        "image",
        "recover",
        "@archive/cow",
        "--confine-backing",
        "-f",
        "cow",
    ];
    sandbox.refuses(&recover, refused);
    for args in OPENING {
        sandbox.refuses(&[args, &["--confine-backing"]].concat(), refused);
    }
    let repair = [
        "image",
        "check",
        "@archive/cow",
        "--repair",
        "--confine-backing",
    ];
    let before = sandbox.contents();
    let run = sandbox.run(&repair);
    assert_eq!(run.status.code(), Some(2));
    assert!(
        sandbox
            .text(&run.stdout)
            .contains("goes through a symbolic link: not looked at")
    );
    assert!(sandbox.contents() == before);
}

/// What lies beneath is opened by whatever the header calls it.
#[test]
fn what_came_along_is_used() {
    for (name, path) in [
        ("archive/backing", "backing"),
        ("archive/backing", "./backing"),
        ("archive/sub/backing", "sub/backing"),
        ("archive/backing", ""),
    ] {
        let sandbox = sandbox();
        let absolute = sandbox.path(name);
        let path = match path {
            "" => &absolute,
            relative => Path::new(relative),
        };
        let over = header(Version::V3, &sandbox.path(name), SIZE);
        let over = over.with_backing(path, over.backing_mtime).unwrap();
        sandbox.write_image_under("archive/cow", &over, &SOME);
        let disk = expected_disk(&sandbox.read(name), &SOME);
        let confined = |args: &[&str]| {
            let run = sandbox.run(&[args, &["--confine-backing"]].concat());
            let said = sandbox.text(&run.stderr);
            assert_eq!(run.status.code(), Some(0), "{args:?}: {said}");
        };
        confined(&["image", "check", "@archive/cow"]);
        confined(&["image", "merge", "@archive/cow", "@merged"]);
        assert!(sandbox.read("merged") == disk);
        confined(&["image", "compare", "@archive/cow", "@merged"]);
        confined(&["image", "convert", "@archive/cow", "@new", "--to", "v3"]);
        confined(&["replay", "@trace", "--device", "ubda=@archive/cow"]);
        confined(&["image", "resize", "@archive/cow", "2M", "--dry-run"]);
        confined(&["image", "merge", "@archive/cow", "--in-place"]);
        assert!(sandbox.read(name) == disk);
        confined(&["image", "recover", "@archive/cow"]);
    }
}

/// What stands in the way of a merge is told without opening what other files name.
#[test]
fn the_other_files_in_the_archive_lead_nowhere() {
    let sandbox = sandbox();
    let over = |name: &str, path: &Path| {
        let over = header(Version::V3, &sandbox.path("archive/backing"), SIZE);
        let over = over.with_backing(path, over.backing_mtime).unwrap();
        sandbox.write_image_under(name, &over, &SOME);
    };
    over("archive/cow", Path::new("backing"));
    over("archive/beside", Path::new("backing"));
    over("archive/by-its-path", &sandbox.path("archive/backing"));
    over("archive/by-a-link", Path::new("inside"));
    over("archive/from-outside", Path::new("../archive/backing"));
    over("elsewhere", &sandbox.path("archive/backing"));
    // Names that are to be passed over: neither followed nor waited for.
    symlink("../elsewhere", sandbox.path("archive/linked")).unwrap();
    symlink("/dev/zero", sandbox.path("archive/zero")).unwrap();
    let made = Command::new("mkfifo")
        .arg(sandbox.path("archive/fifo"))
        .status();
    assert!(made.unwrap().success());
    over("archive/over-a-fifo", Path::new("fifo"));
    over("archive/over-a-device", Path::new("/dev/zero"));
    let told = |more: &[&str]| {
        let args = [
            "image",
            "resize",
            "@archive/cow",
            "2M",
            "--extend-backing",
            "--dry-run",
        ];
        let said = sandbox.succeeds(&[&args[..], more].concat());
        let breaks = said
            .lines()
            .filter_map(|line| line.strip_prefix("  breaks @archive/"));
        breaks.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        told(&[]),
        ["beside", "by-a-link", "by-its-path", "from-outside"],
        "looked at, as far as the user's rights go"
    );
    assert_eq!(told(&["--confine-backing"]), ["beside", "by-its-path"]);
}
