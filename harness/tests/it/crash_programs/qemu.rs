//! `qemu-img` under `ubdlab crash`. What was found of it is in docs/results.md.

use serde_json::Value;

use super::{crash, found, work};
use crate::support::cli::Sandbox;
use crate::support::peers::peer;
use crate::support::share::share;

/// A directory with a backing file, an overlay with some data of its own, and another backing file;
/// beside it `disk`, which has the overlay's content.
fn images() -> Option<(String, Sandbox)> {
    let (qemu_img, qemu_io) = (peer("qemu-img")?, peer("qemu-io")?);
    let (qemu_img, qemu_io) = (qemu_img.to_str().unwrap(), qemu_io.to_str().unwrap());
    let sandbox = work(&[])?;
    let run = |line: &str| {
        let mut shell = std::process::Command::new("/bin/sh");
        let line = line.replace("IMG", qemu_img).replace("IO", qemu_io);
        let done = shell.arg("-c").arg(&line).current_dir(sandbox.path("work"));
        let done = crate::support::cli::output(done);
        assert!(done.status.success(), "{line}: {done:?}");
    };
    run("IMG create -q -f qcow2 base 4M && IO -c 'write -P 3 0 256k' base");
    run("IMG create -q -f qcow2 other 4M && IO -c 'write -P 5 128k 256k' other");
    run("IMG create -q -f qcow2 -b base -F qcow2 top && IO -c 'write -P 7 64k 128k' top");
    run("IMG convert -O raw top ../disk");
    Some((qemu_img.to_owned(), sandbox))
}

/// QEMU opens each image as for a guest, and repairs what it knows to be unfinished. Then none is
/// corrupt, where leaked clusters, which cost space and nothing else, are allowed; and the
/// overlay's content is what it was.
fn check(qemu_img: &str) -> String {
    let qemu_io = qemu_img.replace("qemu-img", "qemu-io");
    format!(
        "for f in base other top; do \
         {qemu_io} -c 'read 0 512' work/$f >/dev/null || {{ echo $f does not open; exit 1; }}; \
         {qemu_img} check -q work/$f >/dev/null 2>&1; \
         case $? in 0|3) ;; *) echo $f is corrupt; exit 1;; esac; done; \
         {qemu_img} compare -q work/top disk || {{ echo top has another content; exit 1; }}"
    )
}

/// The findings, if there are any. The end passes without a crash.
fn findings(operation: &str, arguments: &[&str], model: &str) -> Option<Vec<Value>> {
    let (qemu_img, sandbox) = images()?;
    let command = [&[&qemu_img, operation], arguments].concat();
    let (points, most) = share(("80", "16"), ("16", "4"));
    let more = [
        "--json", "--jobs", "1", "--points", points, "--images", most, "--model", model,
    ];
    let done = crash(&sandbox, &check(&qemu_img), &more, &command);
    let status = done.status.code();
    assert!(matches!(status, Some(0 | 1)), "{done:?}");
    let report = found(&done, status.unwrap());
    assert_eq!(report["without_crash"]["passes"], true, "{report}");
    let checked = report["checked_images"].as_u64().unwrap();
    assert!(checked > 1, "{operation}: {report}");
    Some(report["findings"].as_array().unwrap().clone())
}

#[test]
fn a_commit_and_a_resize_survive() {
    for (operation, arguments) in [
        ("commit", &["-q", "work/top"][..]),
        ("resize", &["-q", "work/top", "8M"]),
    ] {
        let Some(findings) = findings(operation, arguments, "power") else {
            return;
        };
        assert_eq!(findings, [] as [Value; 0], "{operation}");
    }
}

/// Whether it is the version of which docs/results.md tells. Of another one it is said what that
/// is.
fn is_the_version_told_of() -> bool {
    let Some(qemu_img) = peer("qemu-img") else {
        return false;
    };
    let mut asked = std::process::Command::new(qemu_img);
    let said = crate::support::cli::output(asked.arg("--version")).stdout;
    let said = String::from_utf8(said).unwrap();
    let is_it = said.starts_with("qemu-img version 7.2.");
    if !is_it {
        let version = said.lines().next().unwrap_or_default();
        eprintln!("nothing has to be found with {version}");
    }
    is_it
}

/// Version 7.2 names the new backing file in the header before the table says where the copied
/// clusters are. A kill is enough to see that, and nothing else is found. A version that does it in
/// another order has nothing to be found.
#[test]
fn of_a_rebase_its_header_before_its_tables_is_found_and_nothing_else() {
    let arguments = ["-q", "-b", "other", "-F", "qcow2", "work/top"];
    let has_to_be_found = is_the_version_told_of();
    for model in ["power", "kill"] {
        let Some(findings) = findings("rebase", &arguments, model) else {
            return;
        };
        assert!(!findings.is_empty() || !has_to_be_found, "{model}");
        for finding in findings {
            let said = &finding["check"]["said"];
            assert_eq!(said[0], "top has another content", "{model}: {finding}");
        }
    }
}
