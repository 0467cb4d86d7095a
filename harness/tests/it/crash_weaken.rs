//! `ubdlab crash` with less that is assumed of the disk, and with other seeds: what survives all
//! crashes only because of an assumption is found without it.

use crate::support::crash::{crash, found, work};

/// A command on `work/f`, which is durable and has this number of bytes `a`, and on other files.
struct Relies {
    on: &'static str,
    len: usize,
    script: &'static str,
    check: &'static str,
    more: &'static [&'static str],
}

/// Bytes `b` over all of it, at once.
const OVERWRITES: &str = "head -c $(stat -c %s work/f) /dev/zero | tr '\\0' b | \
                          dd of=work/f bs=4096 iflag=fullblock conv=notrunc";

const NOT_MIXED: &str = "case $(cat work/f) in *a*b*|*b*a*) cat work/f; exit 5;; esac";

const FAILS_A_SYNC: &str = r#"{"file": {"path": "f"}, "kind": "sync_data",
                              "occurrence": {"nth": 0}, "fault": "failed_sync"}"#;

const EACH: [Relies; 8] = [
    Relies {
        on: "atomic-sector",
        len: 512,
        script: OVERWRITES,
        check: NOT_MIXED,
        more: &[],
    },
    Relies {
        on: "ordered-names",
        len: 1,
        script: "touch work/a; touch work/b",
        check: "test ! -e work/b || test -e work/a",
        more: &[],
    },
    Relies {
        on: "atomic-set-len",
        len: 100,
        script: "truncate -s 0 work/f",
        // What was cut off is not to come back.
        check: "test -s work/f || { truncate -s 100 work/f; ! grep -q a work/f; }",
        more: &[],
    },
    Relies {
        on: "length-follows-data",
        len: 0,
        script: "printf new >>work/f",
        check: "test ! -s work/f || grep -q new work/f",
        more: &[],
    },
    Relies {
        on: "sync-persists",
        len: 1,
        script: "printf new >work/g; sync work/g; sync work; touch work/done; sync work",
        check: "test ! -e work/done || test -s work/g",
        more: &[],
    },
    Relies {
        on: "failed-sync-keeps-content",
        len: 1,
        script: "printf new >>work/f; sync work/f; grep -q new work/f || touch work/gone",
        check: "test ! -e work/gone",
        more: &["--fault", FAILS_A_SYNC],
    },
    Relies {
        on: "whole-pages-at-kill",
        len: 4096,
        script: OVERWRITES,
        check: NOT_MIXED,
        more: &["--model", "kill"],
    },
    Relies {
        on: "whole-sectors-at-kill",
        len: 512,
        script: OVERWRITES,
        check: NOT_MIXED,
        more: &["--model", "kill"],
    },
];

#[test]
fn what_relies_on_an_assumption_is_found_without_it() {
    for Relies {
        on,
        len,
        script,
        check,
        more,
    } in EACH
    {
        let Some(sandbox) = work(&[("f", &"a".repeat(len))]) else {
            return;
        };
        let command = ["sh", "-c", script];
        let more = [&["--json"], more].concat();
        found(&crash(&sandbox, check, &more, &command), 0);
        let more = [&more[..], &["--weaken", on]].concat();
        // What a failed sync has taken is missed before any crash.
        let status = if on == "failed-sync-keeps-content" {
            3
        } else {
            1
        };
        found(&crash(&sandbox, check, &more, &command), status);
    }
}

/// Whatever the unit, bytes are told. The file of a finding has what it takes to cut the same write
/// there again.
#[test]
fn what_a_kill_has_cut_short_is_told_in_bytes_and_cut_again() {
    let Some(sandbox) = work(&[("f", &"a".repeat(4096))]) else {
        return;
    };
    let more = ["--model", "kill", "--weaken", "whole-pages-at-kill"];
    let more = [&more[..], &["--out", "found", "--report", "page"]].concat();
    let done = crash(&sandbox, NOT_MIXED, &more, &["sh", "-c", OVERWRITES]);
    let said = sandbox.text(&done.stdout);
    assert_eq!(done.status.code(), Some(1), "{said}");
    let part = "in the middle of: write f 0+4096, of which 512 of 4096 bytes were done";
    assert!(said.contains(part), "{said}");
    let page = String::from_utf8(sandbox.read("page")).unwrap();
    assert!(page.contains(part), "{page}");
    let again = ["crash", "--repro", "found/finding-1.json", "--json"];
    let again = found(&sandbox.run(&again), 1);
    let left = again["said"][0].as_str().unwrap();
    assert_eq!(left, format!("{}{}", "b".repeat(512), "a".repeat(3584)));
}

#[test]
fn what_is_torn_is_told_in_bytes() {
    let Some(sandbox) = work(&[("f", &"a".repeat(4096))]) else {
        return;
    };
    // It is torn in two, and says how.
    let check = "case $(cat work/f) in *a*b*|*b*a*) exit 5;; esac";
    let more = ["--json", "--weaken", "atomic-sector"];
    let done = crash(&sandbox, check, &more, &["sh", "-c", OVERWRITES]);
    let report = found(&done, 1);
    let fate = &report["findings"][0]["unsynced"][0]["fate"];
    // Shrunk, all but one unit of eight bytes has survived.
    assert_eq!(fate, "torn: 4088 of 4096 bytes survived", "{report}");
}

#[test]
fn another_seed_gives_other_images_and_the_same_seed_the_same() {
    let Some(sandbox) = work(&[]) else {
        return;
    };
    let script = "for i in $(seq 40); do printf x >work/f$i; done";
    let images = |seed: &str| {
        // All that was checked, in order.
        let check = "{ ls -s work; echo; } >>\"$PWD\"/seen";
        let more = [
            "--json", "--jobs", "1", "--points", "2", "--images", "30", "--seed", seed,
        ];
        found(&crash(&sandbox, check, &more, &["sh", "-c", script]), 0);
        let seen = sandbox.read("seen");
        std::fs::remove_file(sandbox.path("seen")).unwrap();
        seen
    };
    let one = images("1");
    assert_eq!(one, images("1"));
    assert_ne!(one, images("2"));
}

#[test]
fn what_makes_no_difference_to_a_directory_cannot_be_weakened() {
    let Some(sandbox) = work(&[]) else {
        return;
    };
    for name in ["errors-are-final", "restart-after-failed-sync"] {
        let done = crash(&sandbox, "true", &["--weaken", name], &["true"]);
        assert_eq!(done.status.code(), Some(2), "{done:?}");
    }
}
