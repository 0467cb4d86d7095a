//! The time of a backing file that is changed, by which other COW files know that it was.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use driver::cow::Version;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::cli::{
    SIZE, Sandbox, output, side_by_side, ubdlab, ubdlab_that_heeds_signals, ways_out,
};
use crate::support::images::{SOME, expected_disk};
use crate::support::share::is_thorough;

fn mtime(sandbox: &Sandbox, name: &str) -> i64 {
    std::fs::metadata(sandbox.path(name)).unwrap().mtime()
}

/// Two merges in place as fast as they go, into a backing file that was made a moment ago, of
/// which a third COW file knows the time.
#[test]
fn two_merges_do_not_give_a_time_back() {
    let sandbox = Sandbox::new();
    sandbox.write("zeros", [0; 65536]);
    let mut disk = [0; 65536];
    disk[..4096].fill(b'A');
    sandbox.write("first", disk);
    disk[8192..12288].fill(b'C');
    sandbox.write("second", disk);
    sandbox.write("root", [0; 65536]);
    sandbox.succeeds(&["image", "create", "@victim", "--backing", "@root"]);
    let mut times = vec![mtime(&sandbox, "root")];
    for name in ["first", "second"] {
        let (raw, cow) = (format!("@{name}"), format!("@{name}.cow"));
        sandbox.succeeds(&["image", "convert", &raw, &cow, "--backing", "@root"]);
        let merged = sandbox.run(&["image", "merge", &cow, "--in-place"]);
        assert_eq!(merged.status.code(), Some(0));
        assert!(sandbox.read("root") == sandbox.read(name));
        let time = mtime(&sandbox, "root");
        assert!(
            times.iter().all(|&earlier| earlier < time),
            "{times:?}, then {time}"
        );
        times.push(time);
    }
    let refused = format!(
        "@root: modified at {}, but the COW file @victim was made for the content of {} {}. {}",
        times[2],
        times[0],
        driver::since_1970(&[times[2], times[0]]),
        ways_out("@root", "@victim", times[0] as u64)
    );
    let compare = ["image", "compare", "-f", "cow", "@victim", "@zeros"];
    sandbox.refuses(&compare, &refused);
    let checked = sandbox.run(&["image", "check", "@victim"]);
    assert_eq!(checked.status.code(), Some(2));
    sandbox.succeeds(&["image", "check", "@second.cow"]);
}

/// What is said where a change does not begin at once, and where it cannot wait.
#[test]
fn a_wait_is_announced() {
    let waits = (
        // A wait of a second or less is not told, and a loaded machine takes some of it.
        4,
        "waiting ",
        " s: until then, what is written could give @backing back a time that a COW file has \
         recorded",
    );
    let cannot = (
        100_000,
        "@backing was modified ",
        " s ahead of the clock, which is too long to wait: if this is interrupted, a COW file that \
         has recorded the present second as its time takes it",
    );
    let merge = &["image", "merge", "@cow", "--in-place"][..];
    let extend = &["image", "resize", "@cow", "2M", "--extend-backing"];
    side_by_side(
        &[
            (merge, waits),
            (merge, cannot),
            (extend, waits),
            (extend, cannot),
        ],
        |&(args, (ahead, begins, ends))| {
            let sandbox = Sandbox::new();
            sandbox.write_backing("backing", SIZE);
            sandbox.write("now", "");
            let time = mtime(&sandbox, "now") + ahead;
            sandbox.touch("backing", time as u64);
            sandbox.write_image("cow", Version::V3, "backing", &SOME);
            let run = sandbox.run(args);
            let told = sandbox.text(&run.stderr);
            assert_eq!(run.status.code(), Some(0), "{told}");
            let announced = |line: &str| line.starts_with(begins) && line.ends_with(ends);
            assert!(told.lines().any(announced), "{told}");
            assert!(mtime(&sandbox, "backing") > time);
        },
    );
}

/// Runs the program, and sends it this signal as soon as it says that it waits; how it ends, and
/// what it says before and after that.
fn interrupted(
    sandbox: &Sandbox,
    command: &mut Command,
    signal: Signal,
) -> (ExitStatus, String, String) {
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child: Child = command.spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut before = String::new();
    loop {
        let mut line = String::new();
        let read = said.read_line(&mut line).unwrap();
        assert_ne!(read, 0, "{command:?}: no wait: {before}");
        if line.starts_with("waiting ") {
            break;
        }
        before += &line;
    }
    kill_process(Pid::from_child(&child), signal).unwrap();
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    let text = |said: String| sandbox.text(said.as_bytes());
    (child.wait().unwrap(), text(before), text(rest))
}

/// Ctrl-C ends a wait, and nothing has happened by then but what there was before.
#[test]
fn a_wait_is_interrupted() {
    const AHEAD: i64 = 9;
    for (begun, args, signal, status, says) in [
        (
            false,
            &["image", "merge", "@cow", "--in-place"][..],
            Signal::INT,
            130,
            "@cow: interrupted: nothing is lost; the disk is as before: give the command again",
        ),
        (
            true,
            &["image", "recover", "@cow"],
            Signal::INT,
            130,
            "@cow: interrupted: nothing is lost, and given again, this goes on",
        ),
        (
            true,
            &["image", "check", "@cow", "--repair"],
            Signal::TERM,
            143,
            "@cow: interrupted: nothing is lost, and the check can be begun again",
        ),
    ] {
        let sandbox = Sandbox::new();
        sandbox.write_backing("backing", SIZE);
        sandbox.write("now", "");
        let now = mtime(&sandbox, "now");
        match begun {
            true => {
                sandbox.write_image("cow", Version::V3, "backing", &SOME);
                sandbox.begin_merge("cow");
                sandbox.touch("backing", (now + AHEAD) as u64);
            }
            false => {
                sandbox.touch("backing", (now + AHEAD) as u64);
                sandbox.write_image("cow", Version::V3, "backing", &SOME);
            }
        }
        let before = sandbox.contents();
        let mut command = ubdlab_that_heeds_signals();
        command.args(sandbox.args(args));
        let (ended, _, said) = interrupted(&sandbox, &mut command, signal);
        assert_eq!(ended.code(), Some(status), "{said}");
        assert_eq!(said, format!("ubdlab: {says}\n"));
        assert!(sandbox.contents() == before, "{args:?} changed something");
        assert_eq!(mtime(&sandbox, "backing"), now + AHEAD);
    }
}

/// A user who may write a file without owning it can give it only the present time.
#[test]
fn a_backing_file_that_belongs_to_somebody_else() {
    merge_as_nobody(0);
}

/// Seconds that are too long a wait for the owner of the file.
const TOO_LONG_FOR_OWNER: i64 = 12;

/// A wait that is too long for its owner is not for somebody else, who has no other way: it is
/// begun without a word of what an owner is told, and can be interrupted.
#[test]
fn somebody_else_begins_the_wait_that_an_owner_is_spared() {
    let merge = merge_of_nobody(TOO_LONG_FOR_OWNER, ubdlab_that_heeds_signals());
    let Some((sandbox, mut merge)) = merge else {
        return;
    };
    let (ended, before, after) = interrupted(&sandbox, &mut merge, Signal::INT);
    assert_eq!(ended.code(), Some(130), "{after}");
    assert!(!before.contains("ahead of the clock"), "{before}");
    assert!(after.starts_with("ubdlab: @cow: interrupted: "), "{after}");
    assert_eq!(after.lines().count(), 1, "{after}");
}

/// One sentence tells that wait to its end, and nothing is said that is not so. It takes all of
/// its time, which only a thorough run has.
#[test]
fn somebody_else_waits_once_and_is_told_once() {
    if !is_thorough() {
        return;
    }
    let Some(told) = merge_as_nobody(TOO_LONG_FOR_OWNER) else {
        return;
    };
    let of_time: Vec<_> = (told.lines())
        .filter(|line| line.contains("waiting ") || line.contains("ahead of the clock"))
        .collect();
    assert_eq!(of_time.len(), 1, "{told}");
    assert!(of_time[0].starts_with("waiting "), "{told}");
}

/// Merges into a backing file that this user does not own, and whose time is `ahead` seconds ahead
/// of the clock; what is said. `None` where that cannot be tried.
fn merge_as_nobody(ahead: i64) -> Option<String> {
    let (sandbox, mut command) = merge_of_nobody(ahead, ubdlab())?;
    let expected = expected_disk(&sandbox.read("backing"), &SOME);
    let run = output(&mut command);
    let told = sandbox.text(&run.stderr);
    assert_eq!(run.status.code(), Some(0), "{told}");
    assert!(sandbox.read("backing") == expected);
    sandbox.succeeds(&["image", "check", "@cow"]);
    Some(told)
}

/// The images of such a merge, and its command.
fn merge_of_nobody(ahead: i64, mut command: Command) -> Option<(Sandbox, Command)> {
    const NOBODY: u32 = 65534;
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", SIZE);
    if ahead > 0 {
        sandbox.write("now", "");
        sandbox.touch("backing", (mtime(&sandbox, "now") + ahead) as u64);
    }
    sandbox.write_image("cow", Version::V3, "backing", &SOME);
    std::fs::set_permissions(sandbox.path(""), Permissions::from_mode(0o777)).unwrap();
    for name in ["backing", "cow"] {
        std::fs::set_permissions(sandbox.path(name), Permissions::from_mode(0o666)).unwrap();
    }
    let mut can_run = ubdlab();
    can_run.arg("--version").uid(NOBODY).gid(NOBODY);
    if !can_run.output().is_ok_and(|run| run.status.success()) {
        eprintln!("skipped: only root runs a program as somebody else");
        return None;
    }
    command.args(sandbox.args(&["image", "merge", "@cow", "--in-place"]));
    command.uid(NOBODY).gid(NOBODY);
    Some((sandbox, command))
}

/// A header holds a time modulo 2^32. What is told of a file is the time that it has.
#[test]
fn a_time_past_2106_is_told_as_the_file_has_it() {
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", SIZE);
    sandbox.create_cow("cow", "backing");
    let made_for = mtime(&sandbox, "backing");
    let late = 4_417_977_600;
    sandbox.touch("backing", late);
    if mtime(&sandbox, "backing") != late as i64 {
        eprintln!("skipped: the file system holds no such time");
        return;
    }
    let dates = driver::since_1970(&[late as i64, made_for]);
    assert!(
        dates.starts_with("(seconds since 1970: 2110-01-01 00:00:00 and 20"),
        "{dates}"
    );
    let of_looking = format!("was modified at {late}, expected {made_for} {dates}");
    let of_opening =
        format!("modified at {late}, but the COW file @cow was made for the content of {made_for}");
    for (args, expected) in [
        (&["image", "info", "@cow", "-f", "cow"][..], &of_looking),
        (&["image", "check", "@cow"], &of_looking),
        (&["image", "compare", "@cow", "@backing"], &of_opening),
        (&["image", "merge", "@cow", "@merged"], &of_opening),
    ] {
        let done = sandbox.run(args);
        let said = sandbox.text(&[done.stdout, done.stderr].concat());
        assert!(said.contains(expected), "{args:?}: {said}");
    }
}
