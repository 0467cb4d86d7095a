//! The running kernel in the laboratory: it loses what it is known to lose, and its findings are
//! told again without it.

use std::collections::BTreeSet;
use std::slice::from_ref;
use std::sync::Arc;

use driver::host::OperationKind;
use driver::linux::Defect;
use harness::fuzz::case::{BackingFile, Case, DriverName, End, Image, ImageVersion, Stimulus};
use harness::fuzz::explore::Search;
use harness::fuzz::generate::{Subject, generate};
use harness::fuzz::paths::COW;
use harness::fuzz::recorded::{Ending, GuestWord, HostRecord, Recording, Witnessed};
use harness::fuzz::world::Mending;
use harness::kernel::case::case_of;
use harness::kernel::finding::Finding;
use harness::kernel::laboratory::{Laboratory, Programs};
use harness::kernel::naming::{Explained, explain};
use harness::sim::{Assumptions, Fault, FaultRule};

use crate::support::cli::{PROGRAM, Sandbox, output, ubdlab};
use crate::support::fuse::can_mount;
use crate::support::mounted::Mounted;
use crate::support::peers::peer;

/// Whether there is all that it takes; a word if not.
fn can_fuzz() -> bool {
    let programs = ["linux.uml", "blkdiscard"].map(peer);
    can_mount() && programs.iter().all(Option::is_some)
}

const KNOWN: [&str; 3] = ["flush-noop", "unordered-publish", "last-run-offset"];

#[test]
fn a_campaign_finds_what_the_running_kernel_is_known_to_lose() {
    if !can_fuzz() {
        return;
    }
    let sandbox = Sandbox::new();
    let kernel = ["fuzz", "--driver", "kernel", "--no-faults", "--cases", "12"];
    let found = sandbox.run(&[&kernel[..], &["--json", "--out", "@found"]].concat());
    let said = String::from_utf8_lossy(&found.stderr).into_owned();
    assert_eq!(found.status.code(), Some(1), "{said}");
    let report: serde_json::Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!(report["cases"], 12, "{report}");
    let findings = report["findings"].as_array().unwrap();
    let defects = findings
        .iter()
        .flat_map(|it| it["defects"].as_array().unwrap());
    let named: BTreeSet<_> = defects.filter_map(serde_json::Value::as_str).collect();
    for known in KNOWN {
        assert!(named.contains(known), "{known} is not among {named:?}");
    }
    // Making them small made none larger. How small each becomes is up to the kernel's scheduling,
    // which does not show everything whenever it is tried.
    let requests = findings.iter().map(|it| it["requests"].as_u64().unwrap());
    let generated = findings.iter().map(|it| {
        let seed = it["seed"].as_u64().unwrap();
        case_of(seed, false, Assumptions::default()).requests() as u64
    });
    let (requests, generated) = (requests.sum::<u64>(), generated.sum::<u64>());
    assert!(requests <= generated, "{requests} of {generated}");

    // Their stories need neither root nor a kernel.
    for finding in findings {
        let file = finding["file"].as_str().unwrap();
        let mut again = ubdlab();
        again
            .args(["fuzz", "--json", "--repro", file])
            .env("PATH", "");
        let again = output(&mut again);
        assert_eq!(again.status.code(), Some(1), "{file}");
        let violation: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
        assert_eq!(violation["kind"], finding["kind"], "{file}");
        assert_eq!(violation["sector"], finding["sector"], "{file}");
    }
}

/// A campaign's findings show as the kernel's scheduling has it. Here nothing is left to that: the
/// write is done when the flush comes.
#[test]
fn a_flush_that_syncs_nothing_shows_each_time_that_it_is_tried_again() {
    if !can_fuzz() {
        return;
    }
    let mut case = case(128, 8);
    let write = Stimulus::Write {
        start: 8,
        count: 2,
        fua: false,
    };
    case.lives[0].actions = vec![write, Stimulus::Drain, Stimulus::Flush, Stimulus::Drain];
    let recording = in_laboratory(|laboratory| laboratory.live(&case, 8).unwrap());
    let recordings = vec![recording];
    let mending = Mending {
        flushes: false,
        ..MENDED
    };
    let explored = Search::for_anything(1).of_recorded(&case, &recordings, mending);
    let (mut case, violation) = explored.unwrap().finding.expect("the write is lost");
    case.found = Some(violation.clone());
    let finding = Finding {
        seed: 1,
        case: *case,
        recordings,
        mending,
        explained: Explained::Mended(vec![Defect::FlushNoop]),
        violation,
    };
    let sandbox = Sandbox::new();
    let file = serde_json::to_string(&finding.file()).unwrap();
    sandbox.write("finding.json", file);
    let live = ["fuzz", "--json", "--repro", "@finding.json", "--live", "3"];
    let live = sandbox.run(&live);
    assert_eq!(live.status.code(), Some(1), "{live:?}");
    let tried: serde_json::Value = serde_json::from_slice(&live.stdout).unwrap();
    assert_eq!(tried["tries"], 3, "{tried}");
    assert_eq!(tried["shown"], 3, "{tried}");
}

/// Works in a laboratory, which gives its thread a view of the file system of its own.
fn in_laboratory<T: Send>(work: impl FnOnce(&mut Laboratory) -> T + Send) -> T {
    let sandbox = Sandbox::new();
    let directory = sandbox.path("laboratory");
    std::fs::create_dir(&directory).unwrap();
    let programs = Programs {
        kernel: peer("linux.uml").unwrap(),
        ubdlab: PROGRAM.into(),
        blkdiscard: peer("blkdiscard").unwrap(),
    };
    std::thread::scope(|scope| {
        let working = scope.spawn(|| {
            let stop = Arc::new(|| false);
            let mut laboratory = Laboratory::open(&directory, &programs, stop).unwrap();
            work(&mut laboratory)
        });
        working.join().unwrap()
    })
}

/// A sound image of this size, and a life of writes to all of its pages of which each has a sector
/// that is dirty and one that is not.
fn case(sectors: u64, dirty: u64) -> Case {
    let mut case = generate(1, &Subject::healthy(DriverName::Linux612));
    case.image = Image::sound(sectors, ImageVersion::V3, 4096);
    case.image.dirty = vec![(dirty, 3)];
    case.retries = false;
    case.kernel.cow_alone = false;
    let life = &mut case.lives[0];
    life.backing = BackingFile::AsItWas;
    life.actions = (0..sectors / 8)
        .map(|page| Stimulus::Write {
            start: page * 8 + dirty % 8,
            count: 2,
            fua: false,
        })
        .chain([Stimulus::Drain, Stimulus::Flush])
        .collect();
    case
}

/// All that a recording can be mended of.
const MENDED: Mending = Mending {
    flushes: true,
    order: true,
    offsets: true,
    memory: true,
};

/// What is not yet known to be wrong with the kernel: what it reads, and what a crash leaves if its
/// flushes and their order were right.
fn is_right(case: &Case, recordings: &[Recording]) -> Result<(), String> {
    let explored = Search::for_anything(1).of_recorded(case, recordings, MENDED);
    let explored = explored.map_err(|error| error.to_string())?;
    explored
        .finding
        .map_or(Ok(()), |(_, violation)| Err(violation.to_string()))
}

fn host_records(recording: &Recording) -> impl Iterator<Item = &HostRecord> {
    recording.witnessed.iter().filter_map(|it| match it {
        Witnessed::Host(record) => Some(record),
        Witnessed::Guest(_) => None,
    })
}

#[test]
fn a_life_in_a_boot_sees_nothing_of_the_one_before_and_hears_nothing_from_it() {
    if !can_fuzz() {
        return;
    }
    // In the same place one has another's data, or a shorter file.
    let cases = [case(128, 8), case(128, 41), case(1000, 900), case(65, 0)];
    let lives: Vec<&Case> = cases.iter().chain(&cases).collect();
    let (recordings, boots) = in_laboratory(|laboratory| {
        let live = |case: &&Case| laboratory.live(case, 8).unwrap();
        let recordings: Vec<Recording> = lives.iter().map(live).collect();
        (recordings, laboratory.boots)
    });
    assert_eq!(boots, 1, "each life had a boot");
    for (number, (case, recording)) in lives.iter().zip(&recordings).enumerate() {
        assert_eq!(recording.ending, Ending::Whole, "life {number}");
        assert_eq!(is_right(case, from_ref(recording)), Ok(()), "life {number}");
        // It begins with the header, and the first word is that of its own opening.
        let first = host_records(recording).next().unwrap();
        assert_eq!(
            (first.kind.as_str(), first.at),
            ("read", 0),
            "life {number}"
        );
        let word = recording.witnessed.iter().find_map(|it| match it {
            Witnessed::Guest(word) => Some(word),
            Witnessed::Host(_) => None,
        });
        let sectors = case.image.sectors;
        assert_eq!(word, Some(&GuestWord::Opened { sectors }), "life {number}");
    }
    // One that is taken for another's is noticed.
    let mixed_up = is_right(lives[0], from_ref(&recordings[1]));
    assert!(mixed_up.is_err(), "the test would see nothing");
}

#[test]
fn a_killed_kernel_leaves_what_its_next_boot_and_the_judge_find() {
    if !can_fuzz() {
        return;
    }
    const KILLED_BEFORE: usize = 5;
    let mut case = case(128, 8);
    let mut second = case.lives[0].clone();
    second.actions.truncate(3);
    case.lives.push(second);
    case.lives[0].end = End::Kill {
        position: 0,
        change: KILLED_BEFORE,
        pages: 0,
    };
    let (recordings, boots) = in_laboratory(|laboratory| {
        let recordings = laboratory.live_all(&case, 8).unwrap();
        (recordings, laboratory.boots)
    });
    assert_eq!(boots, 2);
    let endings: Vec<_> = recordings.iter().map(|it| &it.ending).collect();
    assert_eq!(endings, [&Ending::Killed, &Ending::Whole]);
    let changes = host_records(&recordings[0]).filter(|record| record.data.is_some());
    assert_eq!(changes.count(), KILLED_BEFORE);
    assert_eq!(is_right(&case, &recordings), Ok(()));
    // What the second one has found is not what the image was like at first.
    let only_second = Case {
        lives: vec![case.lives[1].clone()],
        ..case.clone()
    };
    assert!(is_right(&only_second, &recordings[1..]).is_err());
}

/// Defects that take a failing host, each in a small case: what fails, and what the guest does.
fn brought_out_by_a_fault() -> Vec<(Defect, Case)> {
    let write = |fua| Stimulus::Write {
        start: 8,
        count: 2,
        fua,
    };
    let discard = Stimulus::Discard { start: 8, count: 8 };
    let cases = [
        // The host writes none of the data.
        (
            Defect::ZeroWriteIsSuccess,
            (OperationKind::Write, 0, Fault::ShortWrite(0)),
            vec![write(false)],
        ),
        // The words of the bitmap come after the data. The second write finds their bits set.
        (
            Defect::BitmapWriteNeverRetried,
            (OperationKind::Write, 1, Fault::Io),
            vec![write(false), Stimulus::Drain, write(true)],
        ),
        // What the sectors show after the discard is allowed: it may have been done in part. The
        // write finds their bits set too.
        (
            Defect::FailedDiscardLeavesBits,
            (OperationKind::PunchHole, 0, Fault::Io),
            vec![discard, Stimulus::Drain, write(true)],
        ),
    ];
    let cases = cases
        .into_iter()
        .map(|(defect, (kind, nth, fault), actions)| {
            let mut case = case(128, 8);
            case.image.dirty.clear();
            case.lives[0].faults = vec![FaultRule::nth(COW, kind, nth, fault)];
            case.lives[0].actions = actions;
            (defect, case)
        });
    cases.collect()
}

#[test]
fn what_a_failing_host_brings_out_in_the_running_kernel_is_seen_and_named() {
    if !can_fuzz() {
        return;
    }
    let cases = brought_out_by_a_fault();
    let recordings = in_laboratory(|laboratory| {
        let live = |(_, case): &(Defect, Case)| laboratory.live(case, 8).unwrap();
        cases.iter().map(live).collect::<Vec<_>>()
    });
    for ((defect, case), recording) in cases.iter().zip(&recordings) {
        assert_eq!(recording.ending, Ending::Whole, "{defect}");
        let explored = Search::for_anything(1).of_recorded(case, from_ref(recording), MENDED);
        let (found, violation) = explored
            .unwrap()
            .finding
            .unwrap_or_else(|| panic!("{defect} does not show"));
        let explained = explain(&found, from_ref(recording), &violation, MENDED, 1);
        let defects = explained.unwrap().defects();
        assert_eq!(defects, [*defect], "{violation}");
    }
}

#[test]
fn a_kernel_that_is_none_is_one_clear_error() {
    if !can_fuzz() {
        return;
    }
    let sandbox = Sandbox::new();
    let args = ["fuzz", "--driver", "kernel", "--cases", "1", "--kernel"];
    let none = sandbox.run(&[&args[..], &["/bin/true"]].concat());
    assert_eq!(none.status.code(), Some(3));
    let said = String::from_utf8_lossy(&none.stderr).into_owned();
    assert!(
        said.contains("/bin/true: its guest does not come up"),
        "{said}"
    );
    // One that is no program at all is told before anything is started.
    sandbox.write("text", "not a program");
    for (kernel, why) in [
        ("@none", "no such file or directory"),
        ("@", "found no regular file, expected a program"),
        ("@text", "permission denied"),
    ] {
        let message = format!("{kernel}: {why}");
        sandbox.refuses(&[&args[..], &[kernel]].concat(), &message);
    }
}

#[test]
fn a_kernel_may_be_named_from_here_on() {
    if !can_fuzz() {
        return;
    }
    let sandbox = Sandbox::new();
    let directory = sandbox.path("");
    std::os::unix::fs::symlink(peer("linux.uml").unwrap(), sandbox.path("kernel")).unwrap();
    let mut command = ubdlab();
    command.current_dir(directory).args([
        "fuzz",
        "--driver",
        "kernel",
        "--cases",
        "1",
        "--no-faults",
        "--kernel",
        "./kernel",
    ]);
    let ran = output(&mut command);
    assert!(matches!(ran.status.code(), Some(0 | 1)), "{ran:?}");
}

#[test]
fn a_directory_that_the_kernel_cannot_be_told_of_is_refused_before_it_is_booted() {
    if peer("blkdiscard").is_none() {
        return;
    }
    let sandbox = Sandbox::new();
    for (name, found) in [("t,2", "','"), ("t:2", "':'"), ("t 2", "' '")] {
        let temporary = sandbox.path(name);
        std::fs::create_dir(&temporary).unwrap();
        let mut fuzz = ubdlab();
        fuzz.args(["fuzz", "--driver", "kernel", "--kernel", "/bin/true"])
            .env("TMPDIR", &temporary);
        let refused = output(&mut fuzz);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(3), "{said}");
        let part = format!("found {found} in the path, where User-Mode Linux ends it; it takes");
        assert!(said.contains(&part), "{said}");
        assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0);
    }
}

#[test]
fn a_kernel_whose_memory_does_not_fit_is_not_booted() {
    const ROOM: u64 = 500 << 20;
    if peer("blkdiscard").is_none() || !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let at = sandbox.path("small");
    std::fs::create_dir(&at).unwrap();
    let Some(_mounted) = Mounted::tmpfs(&at, ROOM) else {
        return;
    };
    let mut fuzz = ubdlab();
    fuzz.args(["fuzz", "--driver", "kernel", "--kernel", "/bin/true"])
        .env("TMPDIR", &at);
    let refused = output(&mut fuzz);
    let said = sandbox.text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{said}");
    let way = "free, expected 512 MiB for the kernel's memory; TMPDIR has temporary files\n";
    assert!(said.ends_with(way), "{said}");
}

#[test]
fn what_is_asked_of_the_kernel_fits_it() {
    let sandbox = Sandbox::new();
    for (args, message) in [
        (
            &["--driver", "kernel", "--defect", "flush-noop"][..],
            "--defect: not with --driver kernel",
        ),
        (
            &["--kernel", "linux.uml"][..],
            "--kernel: found with a driver that needs none, expected --driver kernel",
        ),
        (
            &["--repro", "finding.json", "--kernel", "linux.uml"],
            "--kernel: found with --repro, which needs none, expected --live too",
        ),
    ] {
        let refused = sandbox.run(&[&["fuzz"], args].concat());
        assert_eq!(refused.status.code(), Some(2), "{args:?}");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains(message), "{said}");
    }
}
