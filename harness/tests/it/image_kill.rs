//! `kill -9` at random moments, some forty times for each way to change an image and two hundred
//! times in a thorough run, on the real file system: nothing is lost, `recover` puts right what is
//! half done, the command begun again completes, and what a private file becomes is private at
//! every moment.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::cli::{Sandbox, output, side_by_side, ubdlab};
use crate::support::share::share;
use driver::blk::{Request, Tag};
use driver::device_spec::DeviceSpec;
use driver::driver::Driver;
use driver::open::{OpenOptions, open};
use driver::ordered::Ordered;
use driver::units::{Sector, SectorCount};
use harness::clock;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use userhelper::real_files::{RealFile, RealHost};

fn kills() -> u32 {
    share(200, 40)
}

const SEED: u64 = 20_031_124;

/// The size of the device, what it has headroom for, and what its data has to move for.
const OLD: u64 = 2 << 20;
const NEAR: u64 = 4 << 20;
const FAR: u64 = 17 << 20;

type Device = Ordered<RealFile>;

fn open_device(sandbox: &Sandbox, read_only: bool) -> Device {
    let spec = DeviceSpec {
        read_only,
        ..format!("ubda={}", sandbox.path("cow").display())
            .parse()
            .unwrap()
    };
    let opened = open(&RealHost, &spec, OpenOptions::default()).unwrap();
    assert!(opened.interrupted.is_none());
    opened.device
}

fn complete(device: &mut Device, request: Request) -> Request {
    let completion = device.serve(request).unwrap();
    assert_eq!(completion.status, driver::blk::Status::Ok);
    completion.request
}

/// What the device shows.
fn content(device: &mut Device) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut at = 0;
    let capacity = device.capacity().0;
    while at < capacity {
        let count = SectorCount((capacity - at).min(2048));
        let read = complete(device, Request::read(Tag(0), Sector(at), count));
        bytes.extend_from_slice(&read.segments[0].data);
        at += count.0;
    }
    bytes
}

/// A device of some MiB, with dirty runs of many lengths; what it shows.
fn make(sandbox: &Sandbox) -> Vec<u8> {
    sandbox.write_backing("backing", OLD);
    sandbox.create_cow("cow", "backing");
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let mut device = open_device(sandbox, false);
    for _ in 0..12 {
        let start = rng.random_range(0..OLD / 512 - 128);
        let count = rng.random_range(1..=128_usize);
        let data: Vec<u8> = (0..count * 512).map(|_| rng.random()).collect();
        complete(&mut device, Request::write(Tag(0), Sector(start), data));
    }
    let shown = content(&mut device);
    device.close().unwrap();
    shown
}

/// Kills a command that mostly waits, because a change of a backing file begins when the second of
/// the last one has passed: several at the same time, each in a directory of its own.
fn killed_while_it_waits(command: &[&str], sizes: &[u64]) {
    const SERIES: u32 = 8;
    let seeds: Vec<u64> = (0..SERIES).map(|series| SEED + u64::from(series)).collect();
    side_by_side(&seeds, |&seed| {
        killed(command, sizes, kills() / SERIES, seed)
    });
}

/// Kills the command at random moments and looks at what is left, each time from the beginning.
fn killed(command: &[&str], sizes: &[u64], kills: u32, seed: u64) {
    let sandbox = Sandbox::new();
    let before = make(&sandbox);
    let backing = sandbox.path("backing");
    let time = std::fs::metadata(&backing).unwrap().modified().unwrap();
    let (cow, old_backing) = (sandbox.read("cow"), sandbox.read("backing"));
    let reset = || {
        sparse_write(&sandbox, "cow", &cow);
        sparse_write(&sandbox, "backing", &old_backing);
        let file = std::fs::File::options().write(true).open(&backing).unwrap();
        file.set_modified(time).unwrap();
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(sandbox.path("cow"), private).unwrap();
    };
    let is_private = |when: &str| {
        // The second one is what a rebuild is writing.
        for name in ["cow", ".cow.ubdlab-new"] {
            if let Ok(metadata) = std::fs::metadata(sandbox.path(name)) {
                assert_eq!(metadata.mode() & 0o7777, 0o600, "{when}: {name}");
            }
        }
    };
    let check = |when: &str| {
        let mut device = open_device(&sandbox, true);
        let shown = content(&mut device);
        assert!(sizes.contains(&(shown.len() as u64)), "{when}");
        assert!(shown[..before.len()] == before[..], "{when}: the content");
        let zeros = vec![0; shown.len() - before.len()];
        assert!(shown[before.len()..] == zeros[..], "{when}: the new part");
    };
    // How long it takes alone says only in which span the kills fall.
    let whole = clock::start();
    assert_eq!(run(&sandbox, command), Some(0));
    let whole = whole.elapsed();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for kill in 0..kills {
        reset();
        let moment = whole.mul_f64(rng.random_range(0.0..1.1));
        kill_after(&sandbox, command, moment);
        let when = format!("{command:?}, kill {kill} after {moment:?}, seed {seed}");
        is_private(&when);
        assert_eq!(
            run(&sandbox, &["recover", "@cow", "--format", "cow"]),
            Some(0),
            "{when}"
        );
        check(&when);
        // What follows is the same whatever happened before: some are enough, the fewer as a
        // change of the backing file waits until the second of its last one has passed.
        if kill % 32 == 0 {
            assert_eq!(run(&sandbox, command), Some(0), "{when}");
            check(&format!("{when}, and once more"));
            is_private(&when);
        }
    }
}

/// Writes a file whose long runs of zeros are holes.
fn sparse_write(sandbox: &Sandbox, name: &str, content: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::create(sandbox.path(name)).unwrap();
    file.set_len(content.len() as u64).unwrap();
    let mut at = 0;
    for chunk in content.chunks(4096) {
        if chunk.iter().any(|&byte| byte != 0) {
            file.write_all_at(chunk, at).unwrap();
        }
        at += chunk.len() as u64;
    }
}

fn arguments(sandbox: &Sandbox, command: &[&str]) -> Vec<String> {
    sandbox.args(&[&["image"], command].concat())
}

fn run(sandbox: &Sandbox, command: &[&str]) -> Option<i32> {
    let output = output(ubdlab().args(arguments(sandbox, command)));
    if !output.status.success() {
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    }
    output.status.code()
}

/// Begins the command and kills it after that time, unless it has ended by then.
#[expect(
    clippy::disallowed_methods,
    reason = "the moment itself is what is tried out, and nothing is expected of it"
)]
fn kill_after(sandbox: &Sandbox, command: &[&str], moment: Duration) {
    let program = ubdlab();
    // With a umask that keeps nothing from readers.
    let mut child = Command::new("sh")
        .args(["-c", "umask 022 && exec \"$0\" \"$@\""])
        .arg(program.get_program())
        .args(arguments(sandbox, command))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(moment);
    // It may have ended.
    let _ = child.kill();
    child.wait().unwrap();
}

#[test]
fn killed_resizes_by_headroom_lose_nothing() {
    killed(
        &["resize", "@cow", "4M", "--strategy", "headroom"],
        &[OLD, NEAR],
        kills(),
        SEED,
    );
}

#[test]
fn killed_resizes_by_rebuild_lose_nothing() {
    killed(
        &["resize", "@cow", "17M", "--strategy", "rebuild"],
        &[OLD, FAR],
        kills(),
        SEED,
    );
}

#[test]
fn killed_resizes_by_reflow_lose_nothing() {
    killed(
        &["resize", "@cow", "17M", "--strategy", "reflow"],
        &[OLD, FAR],
        kills(),
        SEED,
    );
}

#[test]
fn killed_resizes_that_extend_the_backing_file_lose_nothing() {
    killed_while_it_waits(&["resize", "@cow", "17M", "--extend-backing"], &[OLD, FAR]);
}

#[test]
fn killed_merges_in_place_lose_nothing() {
    killed_while_it_waits(&["merge", "@cow", "--in-place"], &[OLD]);
}
