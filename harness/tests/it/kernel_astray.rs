//! Kernels that do what none should: they go on for ever, say what means nothing, or do not come up
//! again. A campaign tells of each in its own words, and loses nothing that it had found.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use harness::fuzz::campaign::StopSign;
use harness::fuzz::case::{BackingFile, Case, Image, ImageVersion};
use harness::fuzz::explore::Search;
use harness::fuzz::recorded::{Ending, Recording};
use harness::fuzz::violation::Kind;
use harness::fuzz::world::Mending;
use harness::kernel::CannotFuzz;
use harness::kernel::case::case_of;
use harness::kernel::laboratory::{Laboratory, Programs};
use harness::sim::Assumptions;

use serde_json::Value;

use crate::support::cli::{PROGRAM, Sandbox};
use crate::support::fuse::can_mount;
use crate::support::peers::peer;

/// A kernel that does what its name says.
const FAKE: &str = include_str!("support/fake_kernel.py");

fn can_fake() -> bool {
    let programs = ["python3", "blkdiscard"].map(peer);
    can_mount() && programs.iter().all(Option::is_some)
}

fn fake(sandbox: &Sandbox, act: &str) -> PathBuf {
    let path = sandbox.path(act);
    std::fs::write(&path, FAKE).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    path
}

/// How often it was booted.
fn boots(sandbox: &Sandbox, act: &str) -> usize {
    sandbox.read(&format!("{act}.boots")).len()
}

/// Two words of bitmap, and nothing to do.
fn case() -> Case {
    let mut case = case_of(1, false, Assumptions::default());
    case.image = Image::sound(65, ImageVersion::V3, 4096);
    case.kernel.cow_alone = false;
    let life = &mut case.lives[0];
    life.backing = BackingFile::AsItWas;
    life.actions.clear();
    case
}

/// A life of [`case`] on such a kernel.
fn lived(sandbox: &Sandbox, act: &str, stop: &StopSign) -> Result<Recording, CannotFuzz> {
    let directory = sandbox.path("laboratory");
    std::fs::create_dir(&directory).unwrap();
    let programs = Programs {
        kernel: fake(sandbox, act),
        ubdlab: PROGRAM.into(),
        blkdiscard: peer("blkdiscard").unwrap(),
    };
    std::thread::scope(|scope| {
        let working = scope.spawn(|| {
            let stop = StopSign::clone(stop);
            Laboratory::open(&directory, &programs, stop)?.live(&case(), 65)
        });
        working.join().unwrap()
    })
}

fn never() -> StopSign {
    Arc::new(|| false)
}

#[test]
fn a_kernel_that_asks_its_host_for_ever_does_not_end() {
    if !can_fake() {
        return;
    }
    for act in ["writes-for-ever", "reads-for-ever"] {
        let recording = lived(&Sandbox::new(), act, &never()).unwrap();
        assert!(
            matches!(recording.ending, Ending::Endless(_)),
            "{act}: {:?}",
            recording.ending
        );
        // The beginning is enough to be judged.
        assert!(recording.witnessed.len() <= 1000, "{act}");
        let search = Search::for_anything(1);
        let explored = search.of_recorded(&case(), &[recording], Mending::default());
        let (_, violation) = explored.unwrap().finding.unwrap();
        assert_eq!(violation.kind, Kind::DoesNotEnd, "{act}: {violation}");
    }
}

#[test]
fn a_campaign_is_stopped_while_its_kernel_is_never_quiet() {
    if !can_fake() {
        return;
    }
    for act in ["reads-for-ever", "prints-for-ever"] {
        let sandbox = Sandbox::new();
        let goes_on = sandbox.path(&format!("{act}.goes-on"));
        let stop: StopSign = Arc::new(move || goes_on.exists());
        let stopped = lived(&sandbox, act, &stop);
        assert!(matches!(stopped, Err(CannotFuzz::Stopped)), "{act}");
    }
}

/// The report of a campaign of three cases, what was said of it, and its files.
fn campaign(sandbox: &Sandbox, act: &str, args: &[&str], status: i32) -> (Value, String) {
    let kernel = fake(sandbox, act);
    let fuzz = ["fuzz", "--driver", "kernel", "--no-faults", "--cases", "3"];
    let kernel = [
        "--json",
        "--out",
        "@found",
        "--kernel",
        kernel.to_str().unwrap(),
    ];
    let output = sandbox.run(&[&fuzz[..], &kernel, args].concat());
    let said = sandbox.text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{act}: {said}");
    (serde_json::from_slice(&output.stdout).unwrap(), said)
}

#[test]
fn what_a_guest_says_that_means_nothing_is_a_finding_and_the_next_boot_goes_on() {
    if !can_fake() {
        return;
    }
    for (act, why) in [
        ("is-broken", "it cannot go on: it has no thread left"),
        (
            "submits-what-nobody-asked-for",
            "found that request 7 is submitted, expected what came of opening the device",
        ),
        ("says-what-is-no-json", "a message of the guest: "),
    ] {
        let sandbox = Sandbox::new();
        let (report, said) = campaign(&sandbox, act, &[], 1);
        assert_eq!(said, "", "{act}");
        assert_eq!(report["cases"], 3, "{report}");
        assert_eq!(report["cases_with_findings"], 3, "{report}");
        let findings = report["findings"].as_array().unwrap();
        assert_eq!(findings.len(), 1, "{report}");
        assert_eq!(findings[0]["kind"], "guest-astray", "{report}");
        let what = findings[0]["what"].as_str().unwrap();
        let part = format!("the guest has gone astray: {why}");
        assert!(what.contains(&part), "{what}");
        assert!(boots(&sandbox, act) >= 3, "{report}");

        let (report, said) = campaign(&sandbox, act, &["--against", "linux-6.12"], 1);
        assert_eq!(said, "", "{act}");
        assert_eq!(report["cases"], 3, "{report}");
        let kernel = report["differences"][0]["kernel"].as_str().unwrap();
        let part = format!("has a guest that has gone astray: {why}");
        assert!(kernel.contains(&part), "{kernel}");
    }
}

#[test]
fn what_was_found_before_a_kernel_does_not_come_up_again_is_told() {
    if !can_fake() {
        return;
    }
    let act = "comes-up-once-and-dies";
    for (args, found) in [
        (&["--report", "@page.html"][..], "findings"),
        (&["--against", "linux-6.12"], "differences"),
    ] {
        let sandbox = Sandbox::new();
        let (report, said) = campaign(&sandbox, act, args, 3);
        assert!(said.contains("its guest does not come up"), "{said}");
        assert!(said.contains("no memory is left"), "{said}");
        assert_eq!(report["cases"], 1, "{report}");
        let why = report["ended_by_error"].as_str().unwrap();
        assert!(why.contains("its guest does not come up"), "{why}");
        // It was tried again.
        assert_eq!(report["boots"], 1 + 3, "{report}");
        assert_eq!(boots(&sandbox, act), 1 + 3);
        let file = report[found][0]["file"].as_str().unwrap();
        let again = sandbox.run(&["fuzz", "--repro", file]);
        assert_eq!(again.status.code(), Some(1), "{again:?}");
        if args.contains(&"--report") {
            let page = sandbox.text(&sandbox.read("page.html"));
            assert!(page.contains("the kernel has died"), "{page}");
        }
    }
}
