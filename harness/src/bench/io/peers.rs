//! Other programs that put a copy-on-write layer over a file, as far as they are installed:
//! qcow2 in qemu-img's own process, and nbdkit's cow filter, which qemu-img asks through a
//! socket. `qemu-img bench` is the client of all of them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use driver::ordered::LiveDevice;

use super::device::{Device, SIZE, SetUpError, sector_of, served};
use super::threaded::threaded_pass;
use super::{Only, wanted};
use crate::bench::{Row, Unit, median};
use crate::clock;
use driver::blk::{Request, Tag};
use driver::units::{Sector, SectorCount};

/// Requests of one run.
const REQUESTS: u64 = 20_000;

/// From one request to the next: all over the file, and the same places for all.
const STEP: u64 = 4099 * 4096;

/// Runs of each, of which the median counts.
const RUNS: usize = 3;

/// How many times qcow2's rate ours is to be.
const TIMES_QCOW2: f64 = 8.0;

const DEPTHS: [usize; 2] = [1, 32];

/// What is measured beside the driver.
struct Peer {
    name: &'static str,
    /// What has to be installed.
    programs: &'static [&'static str],
    target: Option<f64>,
    /// The command for a run with these arguments of `qemu-img bench`, on files that are in
    /// the directory it runs in.
    command: fn(&[String]) -> Command,
}

const PEERS: [Peer; 3] = [
    Peer {
        name: "qemu-img bench, raw",
        programs: &["qemu-img"],
        target: None,
        command: |bench| qemu_img_bench("raw", "raw.img", bench),
    },
    Peer {
        name: "qemu-img bench, qcow2 over a backing file",
        programs: &["qemu-img"],
        target: Some(TIMES_QCOW2),
        command: |bench| qemu_img_bench("qcow2", "peer.qcow2", bench),
    },
    Peer {
        name: "nbdkit file + cow filter, qemu-img bench",
        programs: &["qemu-img", "nbdkit"],
        target: None,
        command: |bench| {
            let mut nbdkit = Command::new("nbdkit");
            // The filter's layer is gone with the process, so it is filled in the same one.
            let quoted: Vec<_> = bench.iter().map(|word| format!("'{word}'")).collect();
            let bench = quoted.join(" ");
            let script = format!(
                "qemu-img bench -f raw -w -c {FILL} -d 32 -s 1048576 \"$uri\" >&2 && \
                 qemu-img bench -f raw {bench} \"$uri\""
            );
            nbdkit.args([
                "-U",
                "-",
                "--filter=cow",
                "file",
                "peer.img",
                "--run",
                &script,
            ]);
            nbdkit
        },
    },
];

/// Writes of 1 MiB that fill the device.
const FILL: u64 = SIZE.0 >> 20;

fn qemu_img_bench(format: &str, file: &str, bench: &[String]) -> Command {
    let mut command = Command::new("qemu-img");
    command.args(["bench", "-f", format]).args(bench).arg(file);
    command
}

/// Measures the rows.
pub(super) fn measure(
    directory: &Path,
    only: Only<'_>,
    each: &mut impl FnMut(Vec<Row>),
) -> Result<(), SetUpError> {
    let name = |write: bool, depth: usize| {
        let what = if write { "overwrite" } else { "read" };
        format!("io/4 KiB {what}, depth {depth}")
    };
    let cases = [false, true].map(|write| DEPTHS.map(|depth| (write, depth)));
    let cases = cases.as_flattened().iter().copied();
    let cases: Vec<_> = cases
        .filter(|&(write, depth)| wanted(only, &name(write, depth)))
        .collect();
    if cases.is_empty() {
        return Ok(());
    }
    let mut device = Device::full(directory)?;
    let prepared = prepare(directory);
    for (write, depth) in cases {
        let times: Result<Vec<_>, _> = (0..RUNS)
            .map(|_| ours(&mut device, directory, write, depth))
            .collect();
        let rate = |time: f64| REQUESTS as f64 / time;
        let seconds: Vec<_> = times?.iter().map(Duration::as_secs_f64).collect();
        let ours = Row::new(name(write, depth), rate(median(&seconds)), Unit::PerSecond);
        let rows = PEERS.iter().map(|peer| {
            let bench = bench_arguments(write, depth);
            let runs = (0..RUNS).map(|_| peer.run(directory, &bench));
            let seconds: Option<Vec<_>> = match prepared {
                true => runs.collect(),
                false => None,
            };
            let Some(seconds) = seconds else {
                let mut row = ours.clone();
                let programs = peer.programs.join(" and ");
                row.baseline = Some(format!("{}: skipped, needs {programs}", peer.name));
                return row;
            };
            let row = ours.clone().against(peer.name, rate(median(&seconds)));
            match peer.target {
                Some(target) => row.target(target),
                None => row,
            }
        });
        each(rows.collect());
    }
    Ok(())
}

fn bench_arguments(write: bool, depth: usize) -> Vec<String> {
    let (depth, count, step) = (depth.to_string(), REQUESTS.to_string(), STEP.to_string());
    let mut words = vec!["-c", &count, "-d", &depth, "-s", "4096", "-S", &step];
    if write {
        words.push("-w");
    }
    words.into_iter().map(String::from).collect()
}

/// A raw file and a qcow2 file over a backing file, both written all over, as the device is.
/// Whether that could be done. The device's own backing file will not do, for qemu takes the
/// device's lock on it for another writer.
fn prepare(directory: &Path) -> bool {
    let copy = |name| std::fs::copy(directory.join("backing.img"), directory.join(name));
    let copied = copy("raw.img").is_ok() && copy("peer.img").is_ok();
    let created = Command::new("qemu-img")
        .args([
            "create",
            "-q",
            "-f",
            "qcow2",
            "-b",
            "peer.img",
            "-F",
            "raw",
            "peer.qcow2",
        ])
        .current_dir(directory)
        .status();
    let fill = ["-w", "-c", &FILL.to_string(), "-s", "1048576"].map(String::from);
    let filled = qemu_img_bench("qcow2", "peer.qcow2", &fill)
        .current_dir(directory)
        .output();
    copied && created.is_ok_and(|it| it.success()) && filled.is_ok_and(|it| it.status.success())
}

impl Peer {
    /// The seconds that a run took by its own account.
    fn run(&self, directory: &Path, bench: &[String]) -> Option<f64> {
        let output = (self.command)(bench).current_dir(directory).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let (_, rest) = text.split_once("Run completed in ")?;
        rest.split_whitespace().next()?.parse().ok()
    }
}

/// The time of a run on our device: stepped in place, and from depth 2 on its I/O thread.
fn ours(
    device: &mut Device,
    directory: &Path,
    write: bool,
    depth: usize,
) -> Result<Duration, SetUpError> {
    let positions: Vec<_> = (0..REQUESTS).map(|index| index * STEP % SIZE.0).collect();
    let mut request = match write {
        true => Request::write(Tag(0), Sector(0), vec![0; 4096]),
        false => Request::read(Tag(0), Sector(0), SectorCount(8)),
    };
    if depth > 1 {
        let elsewhere = directory.join("peer-device");
        std::fs::create_dir_all(&elsewhere)
            .map_err(|error| super::device::file_error(&elsewhere, error))?;
        let there = Device::full(&elsewhere)?;
        let died = |error: String| SetUpError::Thread(error);
        let mut live = LiveDevice::start(there.ordered).map_err(|error| died(error.to_string()))?;
        let time = threaded_pass(&mut live, &positions, depth, &request)?;
        live.stop().map_err(|error| died(error.to_string()))?;
        return Ok(time);
    }
    let started = clock::start();
    for &at in &positions {
        request.start = sector_of(at);
        request = served(&mut device.ordered, request).map_err(SetUpError::Request)?;
    }
    Ok(started.elapsed())
}
