//! Backing files of every sort: how a header names them, what cannot be made longer, and what is
//! no raw disk.

use std::path::Path;
use std::process::Command;

use driver::host::{Access, FileKind, HostFile, HostNames};
use driver::units::{Bytes, FileOffset};
use harness::sim::SimHost;
use userhelper::image::merge::{in_place, open_both};
use userhelper::image::open::Trust;
use userhelper::image::resize::{extend_backing, open_for_resize};

use crate::image_crashes::story::go_on;
use crate::support::cli::{SIZE, Sandbox, output};
use crate::support::images::read;
use crate::support::server::Server;

/// What the header of a COW file names.
fn named(sandbox: &Sandbox, cow: &str) -> String {
    let bytes = read(&sandbox.read(cow)).header.path;
    sandbox.text(&bytes)
}

/// `img/root.img`, reached by way of directories that may be gone later.
fn with_directories() -> Sandbox {
    let sandbox = Sandbox::new();
    for directory in ["img", "s1"] {
        std::fs::create_dir(sandbox.path(directory)).unwrap();
    }
    sandbox.write_backing("img/root.img", SIZE);
    sandbox
}

#[test]
fn a_header_names_no_directory_that_the_path_only_passes_through() {
    let sandbox = with_directories();
    let backing = "@s1/../img/./root.img";
    let expected = "@img/root.img";
    sandbox.succeeds(&["image", "create", "@s1/created", "--backing", backing]);
    assert_eq!(named(&sandbox, "s1/created"), expected);
    let convert = [
        "image",
        "convert",
        "-f",
        "raw",
        "@img/root.img",
        "@s1/converted",
    ];
    sandbox.succeeds(&[&convert[..], &["--backing", backing]].concat());
    assert_eq!(named(&sandbox, "s1/converted"), expected);
    for unsafely in [&[][..], &["--unsafe"]] {
        sandbox.write_header("s1/rebased", &sandbox.path("img/root.img"));
        let rebase = ["image", "rebase", "@s1/rebased", "--backing", backing];
        sandbox.succeeds(&[&rebase[..], unsafely].concat());
        assert_eq!(named(&sandbox, "s1/rebased"), expected, "{unsafely:?}");
    }
    sandbox.write("trace", crate::support::cli::ftrace(&[("R", 0, 8)]));
    let spec = format!("ubda=@s1/replayed,{backing}");
    sandbox.succeeds(&["replay", "@trace", "--device", &spec]);
    assert_eq!(named(&sandbox, "s1/replayed"), expected);
    let spec = format!("ubda=@s1/served,{backing}");
    Server::start(&sandbox, &[&spec, "--nbd", "@socket"]).stop();
    assert_eq!(named(&sandbox, "s1/served"), expected);
    sandbox.succeeds(&["replay", "@trace", "--out", "@s1/../out"]);
    assert_eq!(named(&sandbox, "out/device.cow"), "@out/backing.img");
    std::fs::rename(sandbox.path("s1"), sandbox.path("s2")).unwrap();
    for cow in ["created", "converted", "rebased", "replayed", "served"] {
        sandbox.succeeds(&["image", "check", &format!("@s2/{cow}")]);
    }
}

/// The source's own backing file, which a relative path in its header names.
#[test]
fn a_converted_image_names_the_backing_file_without_a_way_round() {
    let sandbox = with_directories();
    sandbox.write_header("s1/old", &sandbox.path("img/root.img"));
    let relative = Path::new("../img/root.img");
    let mut content = sandbox.read("s1/old");
    content[32..32 + 4096].fill(0);
    let bytes = relative.as_os_str().as_encoded_bytes();
    content[32..32 + bytes.len()].copy_from_slice(bytes);
    sandbox.write("s1/old", content);
    let convert = [
        "image", "convert", "-f", "cow", "@s1/old", "@s1/new", "--to", "v3",
    ];
    sandbox.succeeds(&convert);
    assert_eq!(named(&sandbox, "s1/new"), "@img/root.img");
}

/// Whoever made a link may make it lead elsewhere: it is followed where `..` leaves it, because
/// it does not lead to the directory that the link is in, and nowhere else.
#[test]
fn links_in_a_path_stay_but_for_those_that_dots_leave() {
    let sandbox = with_directories();
    std::fs::create_dir(sandbox.path("img/below")).unwrap();
    std::os::unix::fs::symlink("img/below", sandbox.path("into")).unwrap();
    std::os::unix::fs::symlink("img", sandbox.path("link")).unwrap();
    for (backing, expected) in [
        ("@into/../root.img", "@img/root.img"),
        ("@link/root.img", "@link/root.img"),
        ("@link/below/../root.img", "@link/root.img"),
    ] {
        sandbox.succeeds(&["image", "create", "@cow", "--backing", backing]);
        assert_eq!(named(&sandbox, "cow"), expected, "{backing}");
        std::fs::remove_file(sandbox.path("cow")).unwrap();
    }
}

#[test]
fn a_cow_file_is_no_backing_file_unless_it_is_said_to_be_raw() {
    let sandbox = Sandbox::with_device();
    sandbox.write_backing("other", SIZE);
    sandbox.create_cow("victim", "other");
    let refusal = "@cow: begins like a COW file, and a backing file is a raw disk: its header would \
                   be taken for the disk's first sectors. Merge it into a raw disk first (ubdlab \
                   image merge); --backing-format raw if it is a raw disk all the same";
    let create = ["image", "create", "@new", "--backing", "@cow"];
    let convert = [
        "image",
        "convert",
        "-f",
        "raw",
        "@other",
        "@new",
        "--backing",
        "@cow",
    ];
    let rebase = ["image", "rebase", "@victim", "--backing", "@cow"];
    let unsafely = [
        "image",
        "rebase",
        "@victim",
        "--backing",
        "@cow",
        "--unsafe",
    ];
    for command in [&create[..], &convert, &rebase, &unsafely] {
        sandbox.refuses(command, refusal);
    }
    sandbox.refuses(&["replay", "@trace", "--device", "ubda=@new,@cow"], refusal);
    for command in [&create[..], &rebase, &unsafely] {
        sandbox.succeeds(&[command, &["--backing-format", "raw"]].concat());
    }
    std::fs::remove_file(sandbox.path("new")).unwrap();
    sandbox.succeeds(&[&convert[..], &["--backing-format", "raw"]].concat());
}

/// The lock that it has would refuse it, and say something else.
#[test]
fn a_file_is_not_given_itself_for_a_backing_file() {
    let sandbox = Sandbox::with_device();
    std::fs::hard_link(sandbox.path("cow"), sandbox.path("link")).unwrap();
    for backing in ["cow", "link"] {
        let named = format!("@{backing}");
        let rebase = ["image", "rebase", "@cow", "--backing", &named];
        let why = format!("@cow: its backing file @{backing} is the COW file itself");
        for unsafely in [&[][..], &["--unsafe"]] {
            sandbox.refuses(&[&rebase[..], unsafely].concat(), &why);
        }
    }
}

/// As a loop device or a volume is.
#[test]
fn a_block_device_that_would_have_to_be_longer_is_refused_before_anything_is_changed() {
    const DISK: &str = "d/disk";
    const COW: &str = "d/cow";
    let host = SimHost::default();
    let (cow, disk) = (Path::new(COW), Path::new(DISK));
    let file = host.create_new(disk).unwrap();
    file.set_len(Bytes(SIZE)).unwrap();
    drop(file);
    let wish = userhelper::image::create::Wish {
        size: Some(Bytes(2 * SIZE)),
        max_size: None,
    };
    userhelper::image::create::create(&host, cow, disk, wish).unwrap();
    assert!(host.set_kind(DISK, FileKind::BlockDevice));
    let content = || {
        let file = host.open(cow, Access::ReadOnly).unwrap();
        let mut content = vec![0; file.len().unwrap().0 as usize];
        file.read_exact_at(&mut content, FileOffset(0)).unwrap();
        content
    };
    let before = content();
    let expected = "d/disk: found a block device of 1 MiB, which would have to become one of 2 MiB: \
                    only a regular file can be made longer. Nothing was changed";
    let mut opened = open_for_resize(&host, cow, Trust::Follow, true).unwrap();
    let error = extend_backing(&host, &mut opened, &mut go_on).unwrap_err();
    assert_eq!(error.to_string(), expected);
    drop(opened);
    assert!(content() == before);
    let mut opened = open_both(&host, cow, Trust::Follow).unwrap();
    let error = in_place(&host, &mut opened, &mut go_on).unwrap_err();
    assert_eq!(error.to_string(), expected);
    drop(opened);
    assert!(content() == before);
}

/// The longest file that a process may make stands for the longest that a file system can have.
#[test]
fn a_file_that_cannot_be_as_long_is_refused_before_anything_is_changed() {
    let sandbox = Sandbox::with_device();
    sandbox.write("empty", "");
    // The COW file is as long already.
    sandbox.succeeds(&["image", "resize", "@cow", "80M"]);
    for command in [
        "resize @cow 80M --extend-backing --dry-run",
        "resize @cow 80M --extend-backing",
    ] {
        let before = sandbox.contents();
        let program = env!("CARGO_BIN_EXE_ubdlab");
        let args = sandbox.args(&[command]).join(" ");
        // In units of 512 or of 1024 bytes.
        let script = format!("ulimit -f 65536; exec {program} image {args}");
        let output = output(Command::new("sh").args(["-c", &script]));
        assert_eq!(output.status.code(), Some(3), "{command}");
        assert_eq!(
            sandbox.text(&output.stderr),
            "ubdlab: @backing: byte 83886080: extending the backing file: the file would be \
             larger than the host allows\n"
        );
        assert!(before == sandbox.contents(), "{command}");
    }
}

/// The last second that a header holds is one of February 2106.
#[test]
fn a_time_that_a_header_cannot_hold_is_one_that_stock_uml_refuses() {
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", SIZE);
    let create = ["image", "create", "@cow", "--backing", "@backing"];
    for (time, is_taken) in [(4_294_967_295, true), (4_294_967_296, false)] {
        sandbox.touch("backing", time);
        let verdict = match is_taken {
            true => "takes it".to_owned(),
            false => format!(
                "refuses it: the backing file was modified at {time} (seconds since 1970: \
                 2106-02-07 06:28:16 UTC), and a header holds 0 to 4294967295 only. Give the \
                 backing file such a time with touch, and then: ubdlab image rebase --unsafe"
            ),
        };
        let said = sandbox.succeeds(&create);
        assert!(
            said.ends_with(&format!("\nstock UML {verdict}\n")),
            "{said}"
        );
        let info = sandbox.json(&["image", "info", "@cow", "-f", "cow"]);
        assert_eq!(info["stock_uml"], verdict);
        let resize = [
            "image",
            "resize",
            "@cow",
            "2M",
            "--extend-backing",
            "--dry-run",
        ];
        let said = sandbox.succeeds(&resize);
        assert!(
            said.contains(&format!("\nstock UML  {verdict}\n")),
            "{said}"
        );
        let verdict = format!("stock UML {verdict}\n");
        let convert = ["image", "convert", "-f", "raw", "@backing", "@new"];
        let convert = [&convert[..], &["--backing", "@backing"]].concat();
        let rebase = ["image", "rebase", "@cow", "--backing", "@backing"];
        for args in [
            &convert[..],
            &[&rebase[..], &["--unsafe"]].concat(),
            &rebase,
        ] {
            let said = sandbox.succeeds(args);
            assert_eq!(said.ends_with(&verdict), !is_taken, "{said}");
        }
        let said = sandbox.succeeds(&["image", "check", "@cow"]);
        assert_eq!(said.contains(&verdict), !is_taken, "{said}");
        for name in ["cow", "new"] {
            std::fs::remove_file(sandbox.path(name)).unwrap();
        }
    }
}

#[test]
fn a_disk_of_5_tib_is_laid_out_within_reach_of_stock_uml() {
    let sandbox = Sandbox::new();
    let file = std::fs::File::create(sandbox.path("backing")).unwrap();
    if file.set_len(5 << 40).is_err() {
        eprintln!("skipped: this file system has no files of 5 TiB");
        return;
    }
    sandbox.touch("backing", 1_050_000_000);
    let create = ["image", "create", "@cow", "--backing", "@backing"];
    for more in [&[][..], &["--max-size", "5T"]] {
        let said = sandbox.succeeds(&[&create[..], more].concat());
        assert!(said.ends_with("\nstock UML takes it\n"), "{said}");
        sandbox.succeeds(&["image", "check", "@cow"]);
        std::fs::remove_file(sandbox.path("cow")).unwrap();
    }
    let convert = ["image", "convert", "-f", "raw", "@backing", "@cow"];
    sandbox.succeeds(&[&convert[..], &["--backing", "@backing"]].concat());
    let info = sandbox.json(&["image", "info", "@cow", "-f", "cow"]);
    assert_eq!(info["stock_uml"], "takes it");
}
