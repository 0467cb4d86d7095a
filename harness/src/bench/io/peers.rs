//! Other programs that put a copy-on-write layer over a file, as far as they are installed: qcow2
//! in qemu-img's own process, and nbdkit's cow filter, which qemu-img asks through a socket.
//! `qemu-img bench` is the client of all of them. Bare system calls, one after the other, are in
//! the table too: nothing that makes one of them for each request can be faster.
//!
//! All of them take turns on files that are written all over and in the page cache, the same
//! positions in the same order. qemu-img syncs when it closes, outside its own account of the
//! time, and so do we: every run begins with clean pages, and all of them make them dirty.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use driver::blk::{Request, Tag};
use driver::ordered::Ordered;
use driver::units::{Sector, SectorCount};
use userhelper::real_files::RealFile;

use super::device::{COW, Device, FILL, SIZE, SetUpError, file_error};
use super::in_place::{Kind, bare_pass, pass};
use super::threaded::threaded_pass;
use crate::bench::{Only, Row, Unit, median};
use crate::clock;
use crate::device::{Live, Running};

/// Requests of one run.
const REQUESTS: u64 = 20_000;

/// From one request to the next: all over the file, and the same places for all.
const STEP: u64 = 4099 * 4096;

/// Runs of each, in turns. The first one only warms up; of the others the median counts.
const RUNS: usize = 6;

/// How many times qcow2's rate ours is to be, in the fastest of the modes that qemu-img has for
/// files in the page cache. A multiple of what qemu-img does by default says more of its default
/// than of either program.
const TIMES_QCOW2: f64 = 1.0;

const DEPTHS: [usize; 2] = [1, 32];

/// What is measured beside the driver.
struct Peer {
    name: &'static str,
    /// What has to be installed.
    programs: &'static [&'static str],
    is_qcow2: bool,
    /// The command for a run with these arguments of `qemu-img bench`, on files that are in
    /// the directory it runs in.
    command: fn(&[String]) -> Command,
}

const PEERS: [Peer; 4] = [
    Peer {
        name: "qemu-img bench, raw",
        programs: &["qemu-img"],
        is_qcow2: false,
        command: |bench| qemu_img_bench("raw", "raw.img", bench),
    },
    Peer {
        name: "qemu-img bench -i threads, qcow2 over a backing file",
        programs: &["qemu-img"],
        is_qcow2: true,
        command: |bench| qcow2_by("threads", bench),
    },
    Peer {
        name: "qemu-img bench -i io_uring, qcow2 over a backing file",
        programs: &["qemu-img with an io_uring that it may use"],
        is_qcow2: true,
        command: |bench| qcow2_by("io_uring", bench),
    },
    Peer {
        name: "nbdkit file + cow filter, qemu-img bench",
        programs: &["qemu-img", "nbdkit"],
        is_qcow2: false,
        command: |bench| {
            let mut nbdkit = Command::new("nbdkit");
            // The filter's layer is gone with the process, so it is filled in the same one. It
            // writes whole blocks of its own to begin with, which are larger.
            let quoted: Vec<_> = bench.iter().map(|word| format!("'{word}'")).collect();
            let bench = quoted.join(" ");
            let script = format!(
                "qemu-img bench -f raw -w -c {FILTER_FILL} -d 32 -s 1048576 \"$uri\" >&2 && \
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
const FILTER_FILL: u64 = SIZE.0 >> 20;

pub(super) fn qemu_img_bench(format: &str, file: &str, bench: &[String]) -> Command {
    let mut command = Command::new("qemu-img");
    command.args(["bench", "-f", format]).args(bench).arg(file);
    command
}

fn qcow2_by(mode: &str, bench: &[String]) -> Command {
    let mode = ["-i", mode].map(String::from);
    qemu_img_bench("qcow2", "peer.qcow2", &[&mode, bench].concat())
}

/// Measures the rows.
pub(super) fn measure(
    directory: &Path,
    only: &Only,
    each: &mut impl FnMut(Vec<Row>),
) -> Result<(), SetUpError> {
    let name = |write: bool, depth: usize| {
        let what = if write { "overwrite" } else { "read" };
        format!("io/4 KiB {what}, depth {depth}")
    };
    let cases = [false, true].map(|write| DEPTHS.map(|depth| (write, depth)));
    let cases = cases.as_flattened().iter().copied();
    let cases: Vec<_> = cases
        .filter(|&(write, depth)| only.wanted(&name(write, depth)))
        .collect();
    if cases.is_empty() {
        return Ok(());
    }
    let Device {
        ordered,
        bare,
        data,
    } = Device::full(directory)?;
    let positions: Vec<_> = (0..REQUESTS).map(|index| index * STEP % SIZE.0).collect();
    let mut ours = Ours {
        ordered: Some(ordered),
        bare,
        data: data.0,
        positions,
        cow: directory.join(COW),
    };
    let prepared = prepare(directory);
    for (write, depth) in cases {
        let bench = bench_arguments(write, depth);
        let (mut driver, mut bare) = (Vec::new(), Vec::new());
        let mut peers = PEERS.map(|_| prepared.then(Vec::new));
        for run in 0..RUNS {
            driver.push(ours.driver(write, depth)?.as_secs_f64());
            for (index, (peer, times)) in PEERS.iter().zip(&mut peers).enumerate() {
                let time = times.as_ref().and_then(|_| peer.run(directory, &bench));
                match (times.as_mut(), time) {
                    (Some(times), Some(time)) => times.push(time),
                    _ => *times = None,
                }
                // Not next to the driver: whoever comes second finds the file's pages in the
                // processor's caches.
                if index == 0 {
                    bare.push(ours.bare(write)?.as_secs_f64());
                }
            }
            if run == 0 {
                let of_peers = peers.iter_mut().flatten();
                of_peers
                    .chain([&mut driver, &mut bare])
                    .for_each(Vec::clear);
            }
        }
        let name = name(write, depth);
        let times = Times {
            driver,
            bare,
            peers,
        };
        each(times.rows(&name, write));
    }
    Ok(())
}

/// How long each of the runs took, in seconds; of a peer that is not there, none.
struct Times {
    driver: Vec<f64>,
    bare: Vec<f64>,
    peers: [Option<Vec<f64>>; PEERS.len()],
}

impl Times {
    fn rows(&self, name: &str, write: bool) -> Vec<Row> {
        let rate = |seconds: &[f64]| REQUESTS as f64 / median(seconds);
        let row = Row::new(name, rate(&self.driver), Unit::PerSecond);
        let bare_name = match write {
            true => "pwrite, one after the other",
            false => "pread, one after the other",
        };
        let bare_rate = rate(&self.bare);
        let mut rows = vec![row.clone().against(bare_name, bare_rate)];
        for (peer, times) in PEERS.iter().zip(&self.peers) {
            let Some(times) = times else {
                let mut row = row.clone();
                let programs = peer.programs.join(" and ");
                row.baseline = Some(format!("{}: skipped, needs {programs}", peer.name));
                rows.push(row);
                continue;
            };
            rows.push(row.clone().against(peer.name, rate(times)));
        }
        let of_qcow2 = PEERS.iter().zip(&self.peers);
        let of_qcow2 = of_qcow2.filter(|(peer, _)| peer.is_qcow2);
        let rates = of_qcow2.filter_map(|(peer, times)| Some((peer.name, rate(times.as_ref()?))));
        if let Some((best, best_rate)) = rates.max_by(|one, other| one.1.total_cmp(&other.1)) {
            let best = format!("fastest mode of qcow2: {best}");
            rows.push(row.against(&best, best_rate).target(TIMES_QCOW2));
            let ceiling = Row::new(format!("{name}: {bare_name}"), bare_rate, Unit::PerSecond);
            rows.push(ceiling.against(best, best_rate));
        }
        rows
    }
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
    let created = create_qcow2(directory, "peer.qcow2", "peer.img");
    let filled = [("raw", "raw.img"), ("qcow2", "peer.qcow2")].map(|(format, file)| {
        let (count, len) = ((SIZE.0 / FILL).to_string(), FILL.to_string());
        let fill = ["-w", "-d", "32", "-c", &count, "-s", &len].map(String::from);
        let mut bench = qemu_img_bench(format, file, &fill);
        bench.current_dir(directory).output()
    });
    let [raw, qcow2] = filled.map(|output| output.is_ok_and(|it| it.status.success()));
    copied && created && raw && qcow2
}

/// Makes a qcow2 file with this name over a raw backing file beside it. Whether that could be done.
pub(super) fn create_qcow2(directory: &Path, name: &str, backing: &str) -> bool {
    let created = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-b", backing, "-F", "raw"])
        .arg(name)
        .current_dir(directory)
        .status();
    created.is_ok_and(|status| status.success())
}

impl Peer {
    /// The seconds that a run took by its own account.
    fn run(&self, directory: &Path, bench: &[String]) -> Option<f64> {
        seconds_of((self.command)(bench).current_dir(directory))
    }
}

/// The seconds that a run of `qemu-img bench` took by its own account.
pub(super) fn seconds_of(bench: &mut Command) -> Option<f64> {
    let output = bench.output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (_, rest) = text.split_once("Run completed in ")?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Our device, and its COW file for bare system calls.
struct Ours {
    /// Absent only while it is on its I/O thread, and after that has died.
    ordered: Option<Ordered<RealFile>>,
    bare: File,
    data: u64,
    positions: Vec<u64>,
    cow: PathBuf,
}

impl Ours {
    /// The time of a run of the driver: stepped in place, and from depth 2 on its I/O thread.
    fn driver(&mut self, write: bool, depth: usize) -> Result<Duration, SetUpError> {
        let request = match write {
            true => Request::write(Tag(0), Sector(0), vec![0; 4096]),
            false => Request::read(Tag(0), Sector(0), SectorCount(8)),
        };
        let died = |error: String| SetUpError::Thread(error);
        let Some(mut ordered) = self.ordered.take() else {
            return Err(died("it has died before".into()));
        };
        let time = if depth == 1 {
            let started = clock::start();
            pass(&mut ordered, request, &self.positions).map_err(SetUpError::Request)?;
            started.elapsed()
        } else {
            let mut live = Live::start(ordered).map_err(|error| died(error.to_string()))?;
            let time = threaded_pass(&mut live, &self.positions, depth, &request)?;
            ordered = live.stop().map_err(|error| died(error.to_string()))?.driver;
            time
        };
        self.ordered = Some(ordered);
        self.sync()?;
        Ok(time)
    }

    /// The time of bare system calls at the same positions.
    fn bare(&self, write: bool) -> Result<Duration, SetUpError> {
        let kind = match write {
            true => Kind::Write,
            false => Kind::Read,
        };
        let buffer = &mut [0; 4096];
        let time = bare_pass(&self.bare, kind, &self.positions, self.data, buffer);
        self.sync()?;
        Ok(time)
    }

    fn sync(&self) -> Result<(), SetUpError> {
        let synced = self.bare.sync_data();
        synced.map_err(|error| file_error(&self.cow, error))
    }
}
